"""Forecasts of windows from memories that read on: a value is read once it has come.

A series is gone through once, with the memory carried from its first row on. With ``reset`` the
same windows are forecast from memories that began anew one look-back before, so that the
difference is the memory's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from titans_seq.forecasting.learning.forecasts import RawForecasts, forecast_index
from titans_seq.forecasting.learning.windows import WindowIndex
from titans_seq.forecasting.predicting.conformal import Calibration
from titans_seq.forecasting.stream.adapting import read_rows
from titans_seq.forecasting.stream.mixture import Snapshot
from titans_seq.forecasting.stream.parts import StreamParts
from titans_seq.forecasting.stream.rows import LARGEST, side_by_side, table_slots
from titans_seq.forecasting.stream.state import Rows
from titans_seq.forecasting.tables.panel import Panel

TOGETHER = 64
"""Memories that read side by side, at most: the state of one takes half a megabyte."""

PIECE = 2_048
"""Rows, over all of these, that are read at once."""


class Streams(NamedTuple):
    """Memories to begin, and which windows each is to forecast."""

    series: Int[Tensor, "streams"]
    """Code of the series that each reads."""

    first: Int[Tensor, "streams"]
    """Row of the panel that each begins with."""

    owner: Int[Tensor, "windows"]
    """Which of them forecasts each window."""


class Look(NamedTuple):
    """What was seen before some windows."""

    windows: Int[Tensor, "chosen"]
    snapshot: Snapshot
    trust: Float[Tensor, "chosen experts"] | None


@dataclass(frozen=True, slots=True)
class MemorySource:
    """Forecasts from all that came before: the window's network, and the memories around it."""

    parts: StreamParts

    @property
    def context(self) -> int:
        """Return the rows that a series should have before it is forecast."""
        return self.parts.model.config.context

    @property
    def horizon(self) -> int:
        """Return the rows that are forecast."""
        return self.parts.model.config.horizon

    @property
    def levels(self) -> tuple[float, ...]:
        """Return the levels of its own quantiles, which a calibration then corrects."""
        return self.parts.model.config.levels

    @property
    def calibration(self) -> Calibration | None:
        """Return what corrects them."""
        return self.parts.model.calibration

    @torch.no_grad()
    def forecast(self, panel: Panel, index: WindowIndex, *, reset: bool = False) -> RawForecasts:
        """Forecast windows, each from all rows of its series before its cutoff.

        Parameters
        ----------
        panel, index
            Windows.
        reset
            Begin with an empty memory one look-back before each window instead.
        """
        bounded = replace(panel, target=panel.target.clamp(-LARGEST, LARGEST))
        raw = forecast_index(self.parts.network, bounded, index)
        ahead = index.cutoffs[:, None] + torch.arange(self.horizon)
        actual = torch.where(panel.seen[ahead], panel.target[ahead], torch.nan)
        base = torch.from_numpy(raw.point).float()
        point, quantiles = base.clone(), torch.empty(*base.shape, len(self.levels))
        if reset:
            begins = torch.maximum(index.cutoffs - self.context, panel.starts[index.series])
            streams = Streams(index.series, begins, torch.arange(len(begins)))
        else:
            series, owner = index.series.unique(return_inverse=True)
            streams = Streams(series, panel.starts[series], owner)
        for chosen, look, trust in self._looks(panel, index, streams):
            point[chosen], quantiles[chosen] = self.parts.model.mixed(look, base[chosen], trust)
        return RawForecasts(*(one.double().numpy() for one in (point, quantiles, actual)))

    def _looks(self, panel: Panel, index: WindowIndex, streams: Streams) -> Iterator[Look]:
        """Read every stream up to its last cutoff; give windows, and what was seen before each."""
        count = index.cutoffs - streams.first[streams.owner]
        reach = torch.zeros_like(streams.first).scatter_reduce(0, streams.owner, count, "amax")
        for group in reach.argsort(stable=True).split(TOGETHER):  # those of like length together
            if not len(group):
                continue
            place = torch.full_like(reach, -1).scatter(0, group, torch.arange(len(group)))
            own = torch.nonzero(place[streams.owner] >= 0).flatten()
            some = Streams(streams.series[group], streams.first[group], place[streams.owner[own]])
            for look in self._read(panel, some, count[own], int(reach[group].max())):
                yield look._replace(windows=own[look.windows])

    def _read(self, panel: Panel, streams: Streams, count: Tensor, width: int) -> Iterator[Look]:
        """Read ``width`` rows of every stream; give windows, and what was seen before each.

        Parameters
        ----------
        panel, streams
            What to read.
        count
            Rows that the stream of each window has read before it.
        width
            Rows to read.
        """
        parts, state = self.parts, None
        for begin, rows, following in self._pieces(panel, streams, width):
            if state is None:
                own = panel.static[streams.series], panel.static_codes[streams.series]
                state = parts.first(*own, rows)
            due = torch.nonzero((count > begin) & (count <= begin + rows.value.shape[1])).flatten()
            moments, moment = (count[due] - 1 - begin).unique(return_inverse=True)
            reading, trust = read_rows(
                parts.model,
                parts.network,
                state,
                rows,
                moments=moments.tolist(),
                following=following,
                expect=False,
            )
            state = reading.state
            if reading.snapshot is not None:
                there = moment * len(streams.series) + streams.owner[due]
                look = Snapshot(*(one[there] for one in reading.snapshot))
                yield Look(due, look, None if trust is None else trust[there])

    def _pieces(
        self, panel: Panel, streams: Streams, width: int
    ) -> Iterator[tuple[int, Rows, Tensor]]:
        """Give rows of all streams piece by piece: where they begin, and the slots after them."""
        learnt = self.parts.preprocess
        slots = table_slots(learnt, panel.future_codes)
        ends = panel.starts[streams.series + 1]
        step = max(1, PIECE // len(streams.series))
        for begin in range(0, width, step):
            end = min(begin + step, width)
            borders = (torch.minimum(streams.first + one, ends).tolist() for one in (begin, end))
            after = streams.first[:, None] + end + torch.arange(self.horizon)
            following = slots[torch.minimum(after, ends[:, None] - 1)]
            yield begin, side_by_side(panel, learnt, *borders), following
