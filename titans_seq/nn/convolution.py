"""Depthwise causal convolution with a carried tail."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from titans_seq.ops.features import Features, mix_features


class CausalConvolution(nn.Module):
    """Make queries, keys and values of their projection (arXiv 2501.00663, section 4.4).

    Each channel is mixed with its own last few values; then SiLU, and unit length for queries
    and keys. Starts as a near copy of its input: the newest tap is 1, the others are small.
    """

    def __init__(self, dim: int, kernel: int = 4) -> None:
        super().__init__()
        self.kernel = kernel
        self.weight = nn.Parameter(torch.randn(kernel, dim) * 0.1)
        with torch.no_grad():
            self.weight[-1] += 1.0

    def forward(
        self,
        x: Float[Tensor, "batch time dim"],
        tail: Float[Tensor, "batch past dim"] | None,
        heads: int,
    ) -> Features:
        """Return what the memory takes.

        Parameters
        ----------
        x
            Queries, keys and values of all heads, side by side.
        tail
            What :meth:`tail` gave after the call before; zeros if left out.
        """
        return mix_features(x, tail, self.weight, heads)

    def tail(
        self,
        x: Float[Tensor, "batch time dim"],
        tail: Float[Tensor, "batch past dim"] | None,
        lengths: Int[Tensor, "batch"] | None = None,
    ) -> Float[Tensor, "batch past dim"]:
        """Return the last ``kernel - 1`` inputs, which the next call needs.

        Parameters
        ----------
        tail
            Those of the call before; zeros if left out.
        lengths
            Real values a row, if not all are.
        """
        past = self.kernel - 1
        if lengths is None and x.shape[1] >= past:
            return x[:, x.shape[1] - past :].clone()
        if tail is None:
            tail = x.new_zeros(x.shape[0], past, x.shape[2])
        padded = torch.cat([tail.to(x.dtype), x], dim=1)
        return last_rows(padded, past, lengths)


def last_rows(
    padded: Float[Tensor, "batch past_and_time dim"],
    count: int,
    lengths: Int[Tensor, "batch"] | None,
) -> Float[Tensor, "batch count dim"]:
    """Return each row's last ``count`` real values; the first ``count`` columns are the past.

    They are a copy: a view would keep all of ``padded`` alive in the state.
    """
    if lengths is None:
        return padded[:, padded.shape[1] - count :].clone()
    # a row's last real value is at column count + length - 1 of `padded`
    index = lengths.unsqueeze(1) + torch.arange(count)
    index = index.to(padded.device).unsqueeze(-1).expand(-1, -1, padded.shape[-1])
    return padded.gather(1, index)
