"""Training set of the mixture: snapshots from long streams, and the rows that followed.

Snapshots come from one pass over the training rows, read as a stream would read them, and from
streams that have just begun, so that the gate learns how little a young memory is worth.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from titans_seq.forecasting.network.network import ForecastNetwork
from titans_seq.forecasting.stream.mixture import Snapshot
from titans_seq.forecasting.stream.model import TAIL_ROWS, StreamModel
from titans_seq.forecasting.stream.network_expert import NETWORK_BATCH, window_forecasts
from titans_seq.forecasting.stream.rows import ROWS_AT_ONCE, StreamRows
from titans_seq.forecasting.stream.state import StreamState
from titans_seq.forecasting.tables.arrays import IntArray
from titans_seq.forecasting.tables.panel import Panel

MAX_SNAPSHOTS = 6_000
"""Snapshots of the long streams that are trained on, at most."""

YOUNG_STREAMS = {1: 96, 4: 32}
"""Number of young streams by their age in look-backs."""

MAX_SERIES = 16
"""Series that are read, at most; fewer if they are long, but 4 if there are as many."""

WARM_UP = 512
"""Rows before the tail in which the running errors of the surprise settle."""


class Examples(NamedTuple):
    """Snapshots with the network's forecasts and the observed horizons."""

    snapshot: Snapshot
    network: Float[Tensor, "snapshots horizon"]
    target: Float[Tensor, "snapshots horizon"]
    seen: Bool[Tensor, "snapshots horizon"]

    def select(self, index: Tensor) -> Examples:
        """Return some of the examples."""
        return Examples(self.snapshot.select(index), *(field[index] for field in self[1:]))

    def concat(self, other: Examples) -> Examples:
        """Return these examples followed by others."""
        snapshot = Snapshot(*map(torch.cat, zip(self.snapshot, other.snapshot, strict=True)))
        return Examples(snapshot, *map(torch.cat, zip(self[1:], other[1:], strict=True)))


class StreamExamples(NamedTuple):
    """Examples of the long streams, and where they are."""

    examples: Examples
    series: Int[Tensor, "snapshots"]
    row: Int[Tensor, "snapshots"]
    """Last row read before each snapshot."""


class LateState(NamedTuple):
    """State shortly before the last rows, and the number of rows it has read."""

    state: StreamState
    row: int


def choose_rows(panel: Panel, max_rows: int) -> tuple[Tensor, list[int], list[int]]:
    """Return the series to read, evenly among all, and the first and last row of each."""
    lengths = panel.starts.diff()
    affordable = max(1, max_rows // max(1, int(lengths.max())))
    count = max(min(len(lengths), MAX_SERIES, affordable), min(len(lengths), 4))
    chosen = torch.linspace(0, len(lengths) - 1, count).round().long().unique()
    ends = panel.starts[chosen + 1]
    begins = torch.maximum(panel.starts[chosen], ends - max(1, max_rows // len(chosen)))
    return chosen, begins.tolist(), ends.tolist()


def training_rows(rows: StreamRows, horizon: int) -> IntArray:
    """Return the rows after which to take a snapshot, evenly spaced."""
    series, count = rows.value.shape
    stride = max(1, series * count // MAX_SNAPSHOTS)
    last = max(1, count - horizon)
    return np.arange(min(horizon, last - 1), last, stride)


def long_stream_examples(
    model: StreamModel,
    network: ForecastNetwork,
    state: StreamState,
    rows: StreamRows,
    snapshot_rows: IntArray,
) -> tuple[StreamExamples, LateState]:
    """Read all rows piece by piece, with snapshots after ``snapshot_rows``."""
    series, count = rows.value.shape
    horizon = model.config.horizon
    step = max(1, ROWS_AT_ONCE // series)
    snapshots, last_rows = [], []
    late = LateState(state, 0)
    for begin in range(0, count, step):
        end = min(count, begin + step)
        piece_rows = snapshot_rows[(snapshot_rows >= begin) & (snapshot_rows < end)]
        reading = model.read(
            network,
            state,
            rows.span(begin, end),
            snapshot_rows=(piece_rows - begin).tolist(),
            following=_slots_after(rows, end, horizon),
            measure_surprise=False,
        )
        state = reading.state
        if end <= count - TAIL_ROWS - WARM_UP:
            late = LateState(state, end)
        if reading.snapshot is not None:
            snapshots.append(reading.snapshot)
            last_rows.append(torch.from_numpy(piece_rows).repeat_interleave(series))
    snapshot = Snapshot(*map(torch.cat, zip(*snapshots, strict=True)))
    row = torch.cat(last_rows)
    code = torch.arange(series).repeat(len(row) // series)
    examples = _examples(model, network, state, rows, snapshot, code, row)
    return StreamExamples(examples, code, row), late


def young_stream_examples(
    model: StreamModel,
    network: ForecastNetwork,
    static: tuple[Tensor, Tensor],
    rows: StreamRows,
    trained: Tensor,
    generator: torch.Generator,
) -> list[Examples]:
    """Return examples of streams that began one look-back, or four, before.

    Parameters
    ----------
    trained
        Number of training rows of each series, in which the streams lie.
    """
    horizon = model.config.horizon
    examples = []
    for look_backs, streams in YOUNG_STREAMS.items():
        age = look_backs * model.config.context
        long_enough = torch.nonzero(trained >= age + horizon).flatten()
        if not len(long_enough):
            continue
        series = long_enough[torch.randint(len(long_enough), (streams,), generator=generator)]
        positions = trained[series] - age - horizon + 1
        begin = (torch.rand(streams, generator=generator) * positions).long()
        young = rows.series(series).gather(begin[:, None] + torch.arange(age + horizon))
        state = model.initial_state(static[0][series], static[1][series], young)
        reading = model.read(
            network,
            state,
            young.span(0, age),
            snapshot_rows=[age - 1],
            following=young.slots[:, age:],
            measure_surprise=False,
        )
        assert reading.snapshot is not None
        code = torch.arange(len(series))
        last_row = torch.full_like(code, age - 1)
        examples.append(_examples(model, network, state, young, reading.snapshot, code, last_row))
    return examples


@torch.no_grad()
def _examples(
    model: StreamModel,
    network: ForecastNetwork,
    state: StreamState,
    rows: StreamRows,
    snapshot: Snapshot,
    series: Tensor,
    row: Tensor,
) -> Examples:
    """Add the network's forecasts and the observed horizon to the snapshots after each ``row``."""
    context, horizon = model.config.context, model.config.horizon
    # Blank rows in front, so that early look-backs are complete.
    blank = StreamRows(
        *(torch.zeros_like(field[:, :1]).expand(-1, context, *field.shape[2:]) for field in rows)
    )
    padded = blank.concat(rows)
    forecasts, targets, seen = [], [], []
    for batch in torch.arange(len(row)).split(NETWORK_BATCH):
        index = row[batch, None] + 1 + torch.arange(context + horizon)
        window = padded.series(series[batch]).gather(index)
        static = (state.static[series[batch]], state.static_codes[series[batch]])
        forecasts.append(window_forecasts(network, window, *static))
        targets.append(window.value[:, context:])
        seen.append(window.seen[:, context:])
    return Examples(snapshot, torch.cat(forecasts), torch.cat(targets), torch.cat(seen))


def _slots_after(rows: StreamRows, end: int, horizon: int) -> Tensor:
    """Return the slots of the ``horizon`` rows from ``end`` on; 0 after the last row."""
    slots = rows.slots[:, end : end + horizon]
    return torch.nn.functional.pad(slots, (0, 0, 0, horizon - slots.shape[1]))
