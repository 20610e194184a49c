"""Rolling-origin forecasts with memory: each window is forecast from all rows before its cutoff.

Each series is read once, with the memory carried on from its first row; a value is read after it
was forecast. With ``reset`` the same windows are forecast from memories that began one look-back
before, so that the difference is what the longer memory is worth.
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
from titans_seq.forecasting.stream.frozen import FrozenForecaster
from titans_seq.forecasting.stream.mixture import Snapshot
from titans_seq.forecasting.stream.rows import (
    MAX_DEVIATION,
    ROWS_AT_ONCE,
    StreamRows,
    calendar_slots,
    rows_of_panel,
)
from titans_seq.forecasting.tables.panel import Panel

STREAMS_AT_ONCE = 64
"""Streams that are read side by side: the state of one takes half a megabyte."""


class _Streams(NamedTuple):
    """Streams to read, and the one that forecasts each window."""

    series: Int[Tensor, "streams"]
    """Code of the series that each reads."""

    first: Int[Tensor, "streams"]
    """Row of the panel that each begins with."""

    owner: Int[Tensor, "windows"]
    """Stream of each window."""


class _Cutoffs(NamedTuple):
    """Some windows, and the snapshots before their cutoffs."""

    windows: Int[Tensor, "chosen"]
    snapshot: Snapshot
    bias: Float[Tensor, "chosen experts"] | None


@dataclass(frozen=True, slots=True)
class MemorySource:
    """Forecasts of windows from the network and the memories around it."""

    frozen: FrozenForecaster

    @property
    def context(self) -> int:
        """Return the rows that a series should have before it is forecast."""
        return self.frozen.model.config.context

    @property
    def horizon(self) -> int:
        """Return the number of rows to forecast."""
        return self.frozen.model.config.horizon

    @property
    def levels(self) -> tuple[float, ...]:
        """Return the levels of its own quantiles, which the calibration corrects."""
        return self.frozen.model.config.levels

    @property
    def calibration(self) -> Calibration | None:
        """Return the calibration of the quantiles."""
        return self.frozen.model.calibration

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
        bounded = replace(panel, target=panel.target.clamp(-MAX_DEVIATION, MAX_DEVIATION))
        raw = forecast_index(self.frozen.network, bounded, index)
        ahead = index.cutoffs[:, None] + torch.arange(self.horizon)
        actual = torch.where(panel.seen[ahead], panel.target[ahead], torch.nan)
        network = torch.from_numpy(raw.point).float()
        point, quantiles = network.clone(), torch.empty(*network.shape, len(self.levels))
        if reset:
            begins = torch.maximum(index.cutoffs - self.context, panel.starts[index.series])
            streams = _Streams(index.series, begins, torch.arange(len(begins)))
        else:
            series, owner = index.series.unique(return_inverse=True)
            streams = _Streams(series, panel.starts[series], owner)
        for chosen, snapshot, bias in self._read_all(panel, index, streams):
            point[chosen], quantiles[chosen] = self.frozen.model.mixed(
                snapshot, network[chosen], bias
            )
        return RawForecasts(*(tensor.double().numpy() for tensor in (point, quantiles, actual)))

    def _read_all(self, panel: Panel, index: WindowIndex, streams: _Streams) -> Iterator[_Cutoffs]:
        """Read every stream up to its last cutoff; yield the snapshots before the cutoffs."""
        rows_before = index.cutoffs - streams.first[streams.owner]
        length = torch.zeros_like(streams.first).scatter_reduce(
            0, streams.owner, rows_before, "amax"
        )
        # Streams of similar length are read together.
        for group in length.argsort(stable=True).split(STREAMS_AT_ONCE):
            if not len(group):
                continue
            position = torch.full_like(length, -1).scatter(0, group, torch.arange(len(group)))
            windows = torch.nonzero(position[streams.owner] >= 0).flatten()
            owner = position[streams.owner[windows]]
            subset = _Streams(streams.series[group], streams.first[group], owner)
            longest = int(length[group].max())
            for cutoffs in self._read_group(panel, subset, rows_before[windows], longest):
                yield cutoffs._replace(windows=windows[cutoffs.windows])

    def _read_group(
        self, panel: Panel, streams: _Streams, rows_before: Tensor, width: int
    ) -> Iterator[_Cutoffs]:
        """Read ``width`` rows of every stream; yield the snapshots before the cutoffs.

        Parameters
        ----------
        panel, streams
            Streams to read.
        rows_before
            Rows that the stream of each window has read before its cutoff.
        width
            Rows to read.
        """
        state = None
        for begin, rows, following in self._pieces(panel, streams, width):
            if state is None:
                static = panel.static[streams.series], panel.static_codes[streams.series]
                state = self.frozen.initial_state(*static, rows)
            end = begin + rows.value.shape[1]
            windows = torch.nonzero((rows_before > begin) & (rows_before <= end)).flatten()
            last_rows, position = (rows_before[windows] - 1 - begin).unique(return_inverse=True)
            reading, bias = self.frozen.read(
                state,
                rows,
                snapshot_rows=last_rows.tolist(),
                following=following,
                measure_surprise=False,
            )
            state = reading.state
            if reading.snapshot is not None:
                # Snapshots come row after row, each of every stream.
                at = position * len(streams.series) + streams.owner[windows]
                snapshot = reading.snapshot.select(at)
                yield _Cutoffs(windows, snapshot, None if bias is None else bias[at])

    def _pieces(
        self, panel: Panel, streams: _Streams, width: int
    ) -> Iterator[tuple[int, StreamRows, Tensor]]:
        """Yield rows of all streams piece by piece: first row, rows, and slots after them."""
        slots = calendar_slots(self.frozen.preprocess, panel.future_codes)
        ends = panel.starts[streams.series + 1]
        step = max(1, ROWS_AT_ONCE // len(streams.series))
        for begin in range(0, width, step):
            end = min(begin + step, width)
            first, last = (
                torch.minimum(streams.first + row, ends).tolist() for row in (begin, end)
            )
            after = streams.first[:, None] + end + torch.arange(self.horizon)
            following = slots[torch.minimum(after, ends[:, None] - 1)]
            yield begin, rows_of_panel(panel, self.frozen.preprocess, first, last), following
