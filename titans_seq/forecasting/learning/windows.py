"""Windows of a panel, cut many at a time without a Python loop over windows.

A window is a series and a cutoff, the row of its first step ahead. Rows before the series
began are masked like missing ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from titans_seq.forecasting.network.network import Windows
from titans_seq.forecasting.tables.panel import Panel
from titans_seq.forecasting.tables.table import Table


class WindowIndex(NamedTuple):
    """Series and cutoffs of windows."""

    series: Int[Tensor, "windows"]
    """Number of the series in the panel."""

    cutoffs: Int[Tensor, "windows"]
    """Row of the panel where the horizon begins."""

    def take(self, chosen: Tensor | slice) -> WindowIndex:
        """Return some of the windows."""
        return WindowIndex(self.series[chosen], self.cutoffs[chosen])


class WindowBatch(NamedTuple):
    """Windows and their targets."""

    windows: Windows
    target: Float[Tensor, "batch horizon"]
    """0 where it is missing."""

    target_seen: Bool[Tensor, "batch horizon"]
    """False where the target is missing."""


def index_windows(
    panel: Panel | Table,
    begins: Sequence[int],
    ends: Sequence[int],
    *,
    horizon: int,
    stride: int = 1,
) -> WindowIndex:
    """Return the windows whose horizon lies in rows ``begins`` to ``ends`` of each series.

    Parameters
    ----------
    panel
        Series.
    begins, ends
        Rows of each series, counted from its first; no window has a cutoff before row 1.
    horizon
        Rows of a horizon.
    stride
        Rows from one cutoff to the next.
    """
    series, cutoffs = [], []
    for code, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        first = max(1, int(begin))
        own = torch.arange(first, max(first, int(end) - horizon + 1), stride)
        cutoffs.append(own + int(panel.starts[code]))
        series.append(torch.full_like(own, code))
    return WindowIndex(torch.cat(series), torch.cat(cutoffs))


def drop_empty(
    panel: Panel, index: WindowIndex, *, context_length: int, horizon: int
) -> WindowIndex:
    """Leave out windows whose look-back, or whose horizon, has no value."""
    counts = torch.cat([torch.zeros(1, dtype=torch.long), panel.seen.long().cumsum(0)])
    begin = torch.maximum(index.cutoffs - context_length, panel.starts[index.series])
    behind = counts[index.cutoffs] - counts[begin]
    ahead = counts[index.cutoffs + horizon] - counts[index.cutoffs]
    return index.take((behind > 0) & (ahead > 0))


def first_cutoff(rows: int, *, context_length: int, horizon: int) -> int:
    """Return the first cutoff of a training window in a series of this length.

    A long series begins where its look-backs are whole; a short one earlier, so that it
    gives windows at all.
    """
    return max(1, min(context_length, (rows - horizon) // 2))


def gather(panel: Panel, index: WindowIndex, *, context_length: int, horizon: int) -> WindowBatch:
    """Cut windows out of a panel.

    The known covariates must reach over the horizon; for rows after the end of a series
    :func:`titans_seq.forecasting.tables.ahead.extend` adds them.
    """
    begins = panel.starts[index.series][:, None]
    rows = index.cutoffs[:, None] + torch.arange(-context_length, horizon)
    inside = rows >= begins  # batch, context + horizon; False before the series began
    rows = torch.maximum(rows, begins)
    all_inside = bool(inside[:, 0].all())

    def cut(values: Tensor, first: int = 0, end: int | None = None) -> Tensor:
        """Return the windows' rows of some values, zero where the series had not begun."""
        chosen = rows[:, first:end]
        # index_select over flat rows: several times as fast as values[chosen]
        window = values.index_select(0, chosen.flatten()).view(*chosen.shape, *values.shape[1:])
        if all_inside:
            return window
        mask = inside[:, first:end]
        return window * mask.view(*mask.shape, *[1] * (values.dim() - 1))

    windows = Windows(
        history=cut(panel.target, 0, context_length),
        seen=cut(panel.seen, 0, context_length),
        past=cut(panel.past, 0, context_length),
        past_codes=cut(panel.past_codes, 0, context_length),
        future=cut(panel.future),
        future_codes=cut(panel.future_codes),
        static=panel.static[index.series],
        static_codes=panel.static_codes[index.series],
    )
    return WindowBatch(windows, cut(panel.target, context_length), cut(panel.seen, context_length))


class WindowBatches:
    """Batches of windows of one epoch, shuffled anew in every iteration.

    Parameters
    ----------
    panel, index
        Series to cut windows from, and the windows.
    context_length, horizon
        Rows behind and ahead of the cutoff.
    batch_size
        Windows of a batch.
    per_epoch
        Windows of an epoch, at most: overlapping windows are much alike, so of very many each
        epoch draws some.
    seed
        Of the shuffling; None keeps the order, and draws evenly spread windows.
    """

    def __init__(
        self,
        panel: Panel,
        index: WindowIndex,
        *,
        context_length: int,
        horizon: int,
        batch_size: int,
        per_epoch: int,
        seed: int | None = None,
    ) -> None:
        self.panel = panel
        self.index = index
        self.lengths = {"context_length": context_length, "horizon": horizon}
        self.batch_size = batch_size
        self.count = min(len(index.cutoffs), per_epoch)
        self.generator = None if seed is None else np.random.default_rng(seed)

    def __len__(self) -> int:
        return -(-self.count // self.batch_size)

    def __iter__(self) -> Iterator[WindowBatch]:
        drawn = self.drawn()
        for chosen in torch.arange(self.count).split(self.batch_size):
            yield gather(self.panel, drawn.take(chosen), **self.lengths)

    def drawn(self) -> WindowIndex:
        """Return the windows of an epoch in their order; shuffled ones are drawn anew."""
        total = len(self.index.cutoffs)
        if self.generator is None:
            order = np.linspace(0, total - 1, self.count).astype(np.int64)
        else:
            order = self.generator.permutation(total)[: self.count]
        return self.index.take(torch.from_numpy(order))
