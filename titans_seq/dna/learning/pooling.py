"""Pool the tokens of a sequence into one vector, or directly into logits.

All use the mask, so padding and other sequences of the batch have no effect. Each keeps what the
others lose: the number of motifs, the strongest motif, the position of a motif from either end.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F


def masked_mean(
    tokens: Float[Tensor, "batch time dim"], mask: Bool[Tensor, "batch time"]
) -> Float[Tensor, "batch dim"]:
    """Return the mean of each feature over the tokens that are not padding."""
    share = mask / mask.sum(dim=1, keepdim=True)
    return torch.einsum("btd,bt->bd", tokens, share.to(tokens.dtype))


def masked_max(
    tokens: Float[Tensor, "batch time dim"], mask: Bool[Tensor, "batch time"]
) -> Float[Tensor, "batch dim"]:
    """Return the largest value of each feature over the tokens that are not padding."""
    return tokens.masked_fill(~mask[..., None], -torch.inf).amax(dim=1)


def positions_from_ends(
    mask: Bool[Tensor, "batch time"], reach: int
) -> tuple[Int[Tensor, " time"], Int[Tensor, "batch time"]]:
    """Return each token's position from the start and from the end, both at most ``reach``."""
    steps = torch.arange(mask.shape[1], device=mask.device)
    from_end = mask.sum(dim=1, keepdim=True) - 1 - steps
    return steps.clamp(max=reach), from_end.clamp(min=0, max=reach)


class AttentionPool(nn.Module):
    """Attention pooling whose heads select by feature, by position, or by both.

    A head's score of a token is the sum of three terms: one of the token, one of its position
    from the start, one of its position from the end. Positions at ``reach`` and beyond share
    one term.
    """

    def __init__(self, dim: int, heads: int, reach: int) -> None:
        super().__init__()
        self.heads = heads
        self.reach = reach
        self.score = nn.Linear(dim, heads)
        self.value = nn.Linear(dim, dim)
        self.start = nn.Parameter(torch.zeros(reach + 1, heads))
        self.end = nn.Parameter(torch.zeros(reach + 1, heads))

    def forward(
        self, tokens: Float[Tensor, "batch time dim"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch dim"]:
        """Return the weighted means of all heads, concatenated."""
        start, end = positions_from_ends(mask, self.reach)
        scores = self.score(tokens) + self.start[start] + self.end[end]
        scores = scores.masked_fill(~mask[..., None], -torch.inf).softmax(dim=1)
        values = self.value(tokens).unflatten(-1, (self.heads, -1))  # (batch, time, heads, d)
        return torch.einsum("bth,bthd->bhd", scores, values).flatten(1)


class PositionPool(nn.Module):
    """Learned kernels over the position: ``sum_t kernel[position t] * value(token t)``.

    Kernels are signed and reach from both ends; beyond ``reach`` they are zero. This is a
    low-rank linear layer over the flattened tokens, for any length.
    """

    def __init__(self, dim: int, kernels: int, reach: int) -> None:
        super().__init__()
        self.kernels = kernels
        self.reach = reach
        self.value = nn.Linear(dim, dim)
        self.start = nn.Parameter(0.02 * torch.randn(reach, kernels))
        self.end = nn.Parameter(0.02 * torch.randn(reach, kernels))

    def forward(
        self, tokens: Float[Tensor, "batch time dim"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch dim"]:
        """Return the sums of all kernels, concatenated."""
        start, end = positions_from_ends(mask, self.reach)
        # The zero row that F.pad appends is the kernel at ``reach`` and beyond.
        kernels = F.pad(self.start, (0, 0, 0, 1))[start] + F.pad(self.end, (0, 0, 0, 1))[end]
        kernels = kernels * mask[..., None]
        values = self.value(tokens).unflatten(-1, (self.kernels, -1))
        return torch.einsum("btk,btkd->bkd", kernels, values).flatten(1)


class PhasePool(nn.Module):
    """Features with a period of three bases, as in coding sequence, in any reading frame.

    Features are averaged over the first, second and third bases of codons; the three averages,
    rotated to each reading frame, pass one layer, and the maximum over frames is returned. So
    codon usage is learned once, not once per frame.
    """

    period = 3

    def __init__(self, features: int, dim: int) -> None:
        super().__init__()
        self.value = nn.Linear(features, dim // 2)
        self.frame = nn.Linear(self.period * (dim // 2), dim)

    def forward(
        self, features: Float[Tensor, "batch time features"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch dim"]:
        """Return the features of the strongest frame."""
        missing = -features.shape[1] % self.period
        values = F.pad(self.value(features) * mask[..., None], (0, 0, 0, missing))
        counts = F.pad(mask, (0, missing)).unflatten(1, (-1, self.period)).sum(dim=1)
        # (batch, 3, dim // 2): the mean over first, second and third bases
        means = values.unflatten(1, (-1, self.period)).sum(dim=1) / counts.clamp(min=1)[..., None]
        frames = torch.stack([means.roll(-start, dims=1).flatten(1) for start in range(3)], dim=1)
        return F.gelu(self.frame(frames)).amax(dim=1)  # frames: (batch, 3, 3 * (dim // 2))


class PositionLogits(nn.Module):
    """Logistic regression on the base at each position, counted from both ends."""

    def __init__(self, classes: int, reach: int, dropout: float) -> None:
        super().__init__()
        self.reach = reach
        self.start = nn.Parameter(torch.zeros(reach, 4, classes))
        self.end = nn.Parameter(torch.zeros(reach, 4, classes))
        self.bias = nn.Parameter(torch.zeros(classes))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, bases: Float[Tensor, "batch time 4"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch classes"]:
        """Return the logits; ``bases`` is the share of each base."""
        bases = self.dropout(bases)
        time = min(bases.shape[1], self.reach)
        # The same positions counted from the end; negative ones lie before the sequence.
        from_end = mask.sum(dim=1, keepdim=True) - 1 - torch.arange(time, device=mask.device)
        ends = bases.gather(1, from_end.clamp(min=0)[..., None].expand(-1, -1, 4))
        ends = ends * (from_end >= 0)[..., None]
        start_logits = torch.einsum("btl,tlc->bc", bases[:, :time], self.start[:time])
        return start_logits + torch.einsum("btl,tlc->bc", ends, self.end[:time]) + self.bias
