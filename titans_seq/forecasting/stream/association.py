"""Delayed association: recall what followed the last time that the past looked like this.

At row t the memory writes the pair (look-back as it was H rows ago, the H rows that followed):
both have been observed, so nothing leaks. It is read with the present look-back. Keys are random
Fourier features of the look-back at several lengths, fixed at construction, whose products
approximate a Gaussian kernel (Rahimi and Recht, NIPS 2007); the memory is linear in them and
follows the exact delta rule (:mod:`titans_seq.ops.general.exact`).

A recalled value deserves more or less confidence in different contexts, so the memory also learns,
at the same keys, how well its recalls have agreed with the observations, and shrinks them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from titans_seq.forecasting.stream.rows import StreamRows
from titans_seq.ops.call import MemoryCall
from titans_seq.ops.general.exact import memory_exact
from titans_seq.ops.rules.rule import Rates, UpdateRule
from titans_seq.ops.state import Carry

FEATURES = 1024
"""Random features of each length."""

BANDWIDTH = 3.0
"""Scale of the random frequencies, for look-backs of unit length: a larger one narrows the
kernel."""

WRITE_STEP = 0.5
"""Share of the error at a key that one write corrects."""

GROUPS = 4
"""Groups of consecutive horizon steps that share one estimate of agreement."""

QUIET = 0.1
"""Added to a look-back's variance, so that noise in a quiet one does not look like a pattern."""

MAX_VALUE = 5.0
"""Bound on stored values, in standard deviations of the look-back."""

MIN_SEEN = 0.25
"""Share of a look-back that must have been observed for what followed to count."""

_RULE = UpdateRule(gradient_point="token", forget_to="zero", gradient_bound=None)


class Pairs(NamedTuple):
    """Queries, keys and values of consecutive rows."""

    queries: Float[Tensor, "series rows context"]
    """Present look-backs, missing values at their mean."""

    keys: Float[Tensor, "series rows context"]
    """Look-backs as they were ``horizon`` rows before."""

    values: Float[Tensor, "series rows horizon"]
    """The rows that followed, less the look-back's mean, over its standard deviation."""

    write: Bool[Tensor, "series rows"]
    """False where a pair is not completely observed."""


class DelayedAssociation(nn.Module):
    """Random-feature memory from look-backs to the rows that followed.

    Parameters
    ----------
    context, horizon
        Rows of a look-back, and rows that follow.
    seed
        Seed of the random features.
    """

    def __init__(self, context: int, horizon: int, seed: int) -> None:
        super().__init__()
        self.horizon = horizon
        lengths = (max(4, horizon // 2), horizon, 2 * horizon)
        self.lengths = tuple(sorted({min(length, context) for length in lengths}))
        self.groups = min(GROUPS, horizon)
        # One output a step, then two statistics a group: <value, recall> and <recall, recall>.
        self.outputs = horizon + 2 * self.groups
        generator = torch.Generator().manual_seed(seed)
        for number, length in enumerate(self.lengths):
            directions = torch.randn(length, FEATURES, generator=generator) * BANDWIDTH
            phases = torch.rand(FEATURES, generator=generator) * (2 * torch.pi)
            self.register_buffer(f"directions{number}", directions)
            self.register_buffer(f"phases{number}", phases)
        self.group_sizes = torch.tensor(
            [len(group) for group in torch.arange(horizon).tensor_split(self.groups)]
        )

    @property
    def width(self) -> int:
        """Number of features of a key."""
        return FEATURES * len(self.lengths)

    def features(
        self, look_back: Float[Tensor, "*batch context"]
    ) -> Float[Tensor, "*batch features"]:
        """Return the key of each look-back, of about unit norm."""
        features = []
        for number, length in enumerate(self.lengths):
            recent = look_back[..., -length:]
            recent = recent - recent.mean(-1, keepdim=True)
            norm = (recent.square().mean(-1, keepdim=True) + QUIET).sqrt() * length**0.5
            directions, phases = (
                getattr(self, f"{name}{number}") for name in ("directions", "phases")
            )
            features.append(torch.cos(recent / norm @ directions + phases))
        # cos^2 is 1/2 on average, so the factor gives unit norm.
        key: Tensor = torch.cat(features, dim=-1) * (2 / self.width) ** 0.5
        return key

    def initial_state(self, series: int) -> tuple[Tensor, Tensor]:
        """Return empty weights, and zeros for the recalls of the last ``horizon`` rows."""
        weights = torch.zeros(series, self.width, self.outputs)
        return weights, torch.zeros(series, self.horizon, self.outputs)

    def forward(
        self, weights: Tensor, recent: Tensor, pairs: Pairs
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Write and read row after row.

        Parameters
        ----------
        weights, recent
            From :meth:`initial_state` or an earlier call.
        pairs
            The next rows.

        Returns
        -------
        reads
            Recalled values and their agreement statistics, (series, rows, outputs).
        weights, recent
            State after the rows.
        """
        reads = []
        # Blocks of `horizon` rows: the pair written at a row is scored against the recall made
        # `horizon` rows before, which is then always from an earlier block.
        for block in zip(*(field.split(self.horizon, dim=1) for field in pairs), strict=True):
            queries, keys, values, write = block
            rows = values.shape[1]
            values = values.clamp(-MAX_VALUE, MAX_VALUE)
            targets = torch.cat([values, self._agreement(values, recent[:, :rows])], dim=-1)
            step = write.to(targets.dtype)[:, None]
            # No decay (log 1 = 0) and no momentum (log 0): the plain delta rule.
            rates = Rates(
                torch.zeros_like(step), torch.full_like(step, -torch.inf), WRITE_STEP * step, step
            )
            carry = weights.unsqueeze(0)
            call = MemoryCall(
                self.features(queries)[:, None],
                self.features(keys)[:, None],
                targets[:, None],
                rates,
                (torch.zeros_like(weights[:1]),),
                Carry((carry,), (torch.zeros_like(carry),), (), (), ()),
                _RULE,
                chunk_size=self.horizon,
            )
            read, _, after = memory_exact(call)
            assert after is not None
            weights = after.weights[0].squeeze(0)
            reads.append(read.squeeze(1))
            recent = torch.cat([recent, reads[-1]], dim=1)[:, rows:]
        return torch.cat(reads, dim=1), weights, recent

    def shrunk(self, reads: Float[Tensor, "*batch outputs"]) -> Float[Tensor, "*batch horizon"]:
        """Return the recalled values, scaled by how well such recalls have agreed."""
        values, product, square = reads.split([self.horizon, self.groups, self.groups], dim=-1)
        # Least-squares factor of the recall, <value, recall> / <recall, recall>, within [0, 1].
        factor = (product / (square.clamp(min=0) + QUIET)).clamp(0, 1)
        shrunk: Tensor = values * factor.repeat_interleave(self.group_sizes, dim=-1)
        return shrunk

    def _agreement(self, values: Tensor, reads: Tensor) -> Tensor:
        """Return, a group of steps, the mean product with the recall, and its mean square."""
        recall = reads[..., : self.horizon]

        def group_means(x: Tensor) -> Tensor:
            groups = x.split(self.group_sizes.tolist(), dim=-1)
            return torch.stack([group.mean(-1) for group in groups], dim=-1)

        return torch.cat([group_means(values * recall), group_means(recall.square())], dim=-1)


def association_pairs(
    rows: StreamRows, count: int, horizon: int
) -> tuple[Pairs, Bool[Tensor, "series rows"], Float[Tensor, "series rows 1"]]:
    """Return the pairs to write and the queries to read after each of the last ``count`` rows.

    Parameters
    ----------
    rows
        The ``context + horizon`` rows of a state, then ``count`` new ones.
    count
        Number of new rows.
    horizon
        Rows that follow a look-back.

    Returns
    -------
    pairs
        Queries, keys and values.
    known
        Where enough of the look-back was observed, and some of what followed.
    scale
        Standard deviations of the keys' look-backs.
    """
    context = rows.value.shape[1] - count - horizon
    # After new row r, the look-back of `horizon` rows ago starts at r + 1, the present one
    # `horizon` rows later.
    keys, observed_count, scale = look_backs(rows, context, slice(1, 1 + count))
    queries, _, _ = look_backs(rows, context, slice(1 + horizon, 1 + horizon + count))
    seen, target = rows.horizons(count, horizon)
    known = rows.real[:, -count:] & seen.any(-1) & (observed_count >= max(1, MIN_SEEN * context))
    departure = torch.where(seen, target - keys.mean(-1, keepdim=True), 0.0)
    return Pairs(queries, keys, departure / scale, known & seen.all(-1)), known, scale


def look_backs(
    rows: StreamRows, context: int, first_rows: slice
) -> tuple[
    Float[Tensor, "series windows context"],
    Int[Tensor, "series windows"],
    Float[Tensor, "series windows 1"],
]:
    """Return look-backs with missing values at their mean, their observed rows, and deviation.

    Parameters
    ----------
    rows
        Rows of several series.
    context
        Rows of a look-back.
    first_rows
        First row of each look-back.
    """
    value = rows.value.unfold(1, context, 1)[:, first_rows]
    seen = rows.seen.unfold(1, context, 1)[:, first_rows]
    observed_count = seen.sum(-1)
    mean = (value * seen).sum(-1, keepdim=True) / observed_count[..., None].clamp(min=1)
    filled = torch.where(seen, value, mean)
    scale = (filled.var(-1, unbiased=False, keepdim=True) + QUIET).sqrt()
    return filled, observed_count, scale
