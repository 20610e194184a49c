"""A delayed association: what followed the last time the past looked like this.

At row t the memory writes the pair (context as it stood H rows ago, the H rows that followed):
both are known, so nothing leaks. It is read with the present context. Keys are wide random
features of the look-back at several lengths, fixed from the start, whose products approximate a
Gaussian kernel (Rahimi and Recht, NIPS 2007); the memory is linear in them and follows the exact
delta rule (:mod:`titans_seq.ops.general.exact`).

A read-out is a guess of different worth in different contexts, so the memory also learns, at the
same keys, how well its read-outs have agreed with what came, and shrinks them accordingly.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from titans_seq.ops.general.exact import memory_exact
from titans_seq.ops.rules.rule import Rates, UpdateRule
from titans_seq.ops.state import Carry

WIDTH = 1024
"""Random features of each length."""

BANDWIDTH = 3.0
"""Of the kernel, for contexts of unit length."""

STEP = 0.5
"""Share of the error at a key that one row corrects."""

GROUPS = 4
"""Parts of the horizon whose agreement is learnt apart."""

QUIET = 0.1
"""Added to a look-back's variance, so that noise in a quiet one does not look like a pattern."""

LARGEST_VALUE = 5.0
"""Bound on what is stored, in deviations of the look-back: an outlier is worth no more."""

RULE = UpdateRule(gradient_point="token", forget_to="zero", gradient_bound=None)


class Pairs(NamedTuple):
    """What one row after another writes, and what it asks."""

    queries: Float[Tensor, "series rows context"]
    """Present look-backs, missing values at their mean."""

    keys: Float[Tensor, "series rows context"]
    """Look-backs as they stood ``horizon`` rows before."""

    values: Float[Tensor, "series rows horizon"]
    """What then followed, less the look-back's mean, over its deviation."""

    write: Bool[Tensor, "series rows"]
    """False where a pair is not known."""


class DelayedAssociation(nn.Module):
    """The memory's features, and how it is read and written.

    Parameters
    ----------
    context, horizon
        Rows of a look-back, and rows that follow.
    seed
        Of the features.
    """

    def __init__(self, context: int, horizon: int, seed: int) -> None:
        super().__init__()
        self.horizon = horizon
        wanted = (max(4, horizon // 2), horizon, 2 * horizon)
        self.lengths = tuple(sorted({min(length, context) for length in wanted}))
        self.groups = min(GROUPS, horizon)
        self.outputs = horizon + 2 * self.groups
        source = torch.Generator().manual_seed(seed)
        for number, length in enumerate(self.lengths):
            directions = torch.randn(length, WIDTH, generator=source) * BANDWIDTH
            phases = torch.rand(WIDTH, generator=source) * (2 * torch.pi)
            self.register_buffer(f"directions{number}", directions)
            self.register_buffer(f"phases{number}", phases)
        sizes = [len(part) for part in torch.arange(horizon).tensor_split(self.groups)]
        self.sizes = torch.tensor(sizes)

    @property
    def width(self) -> int:
        """Features of a key."""
        return WIDTH * len(self.lengths)

    def features(
        self, look_back: Float[Tensor, "*batch context"]
    ) -> Float[Tensor, "*batch features"]:
        """Return the key of each look-back, of about unit length."""
        parts = []
        for number, length in enumerate(self.lengths):
            own = look_back[..., -length:]
            own = own - own.mean(-1, keepdim=True)
            size = (own.square().mean(-1, keepdim=True) + QUIET).sqrt() * length**0.5
            directions, phases = (
                getattr(self, f"{name}{number}") for name in ("directions", "phases")
            )
            parts.append(torch.cos(own / size @ directions + phases))
        key: Tensor = torch.cat(parts, dim=-1) * (2 / self.width) ** 0.5
        return key

    def first(self, series: int) -> tuple[Tensor, Tensor]:
        """Return empty weights, and the read-outs of the last ``horizon`` rows."""
        weights = torch.zeros(series, self.width, self.outputs)
        return weights, torch.zeros(series, self.horizon, self.outputs)

    def forward(
        self, weights: Tensor, recent: Tensor, pairs: Pairs
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Write and read row after row.

        Parameters
        ----------
        weights, recent
            What :meth:`first` or an earlier call returned.
        pairs
            Rows to go on with.

        Returns
        -------
        reads
            (series, rows, outputs): the values expected, and how well such reads agree.
        weights, recent
            Afterwards.
        """
        reads = []
        for part in zip(*(one.split(self.horizon, dim=1) for one in pairs), strict=True):
            own = Pairs(*part)
            rows = own.values.shape[1]
            values = own.values.clamp(-LARGEST_VALUE, LARGEST_VALUE)
            whole = torch.cat([values, self._agreement(values, recent[:, :rows])], dim=-1)
            write = own.write.to(whole.dtype)[:, None]
            rates = Rates(
                torch.zeros_like(write), torch.full_like(write, -torch.inf), STEP * write, write
            )
            carry = weights.unsqueeze(0)
            read, _, left = memory_exact(
                self.features(own.queries)[:, None],
                self.features(own.keys)[:, None],
                whole[:, None],
                rates,
                (torch.zeros_like(weights[:1]),),
                Carry((carry,), (torch.zeros_like(carry),), (), (), ()),
                RULE,
                block_size=self.horizon,
            )
            weights = left.weights[0].squeeze(0)
            reads.append(read.squeeze(1))
            recent = torch.cat([recent, reads[-1]], dim=1)[:, rows:]
        return torch.cat(reads, dim=1), weights, recent

    def believed(self, reads: Float[Tensor, "*batch outputs"]) -> Float[Tensor, "*batch horizon"]:
        """Return the values read, shrunk by how well such reads have agreed."""
        values, product, square = reads.split([self.horizon, self.groups, self.groups], dim=-1)
        worth = (product / (square.clamp(min=0) + QUIET)).clamp(0, 1)
        believed: Tensor = values * worth.repeat_interleave(self.sizes, dim=-1)
        return believed

    def _agreement(self, values: Tensor, reads: Tensor) -> Tensor:
        """Return, for each part of the horizon, mean product with the read, and its square."""
        read = reads[..., : self.horizon]

        def part_means(x: Tensor) -> Tensor:
            parts = x.split(self.sizes.tolist(), dim=-1)
            return torch.stack([part.mean(-1) for part in parts], dim=-1)

        return torch.cat([part_means(values * read), part_means(read.square())], dim=-1)
