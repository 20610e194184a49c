"""What the experts see at many moments of long streams, and what came then: the training set.

Moments come from one pass over the training rows, read as a stream would read them, and from
streams that have just begun, so that a young memory is trusted no further than it deserves.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from titans_seq.forecasting.network.network import ForecastNetwork
from titans_seq.forecasting.stream.mixture import Snapshot
from titans_seq.forecasting.stream.model import TAIL, StreamModel
from titans_seq.forecasting.stream.state import Rows, StreamState
from titans_seq.forecasting.stream.windows import window_forecasts
from titans_seq.forecasting.tables.panel import Panel

MOMENTS = 6_000
"""Moments of the carried stream that are trained on, at most."""

YOUNG = {1: 96, 4: 32}
"""Streams that begin anew, by their age in look-backs."""

PIECE = 2_048
"""Rows, over all series, that are read at once."""

WARM_UP = 512
"""Rows before the tail over which the surprise finds its size."""


class Moments(NamedTuple):
    """What the experts saw, and what came."""

    look: Snapshot
    base: Float[Tensor, "moments horizon"]
    target: Float[Tensor, "moments horizon"]
    came: Bool[Tensor, "moments horizon"]

    def take(self, chosen: Tensor) -> Moments:
        """Return some of the moments."""
        look = Snapshot(*(one[chosen] for one in self.look))
        return Moments(look, *(one[chosen] for one in self[1:]))

    def then(self, more: Moments) -> Moments:
        """Return these moments and more."""
        look = (torch.cat(pair) for pair in zip(self.look, more.look, strict=True))
        rest = (torch.cat(pair) for pair in zip(self[1:], more[1:], strict=True))
        return Moments(Snapshot(*look), *rest)


class Carried(NamedTuple):
    """Moments of the carried stream, and where they are."""

    moments: Moments
    series: Tensor
    row: Tensor


class Late(NamedTuple):
    """The state shortly before the tail, and where that is."""

    state: StreamState
    row: int


def choose_rows(panel: Panel, most_rows: int) -> tuple[Tensor, list[int], list[int]]:
    """Return the series to read, evenly among all, and which rows of each."""
    lengths = panel.starts.diff()
    count = int(min(len(lengths), 16, max(1, most_rows // max(1, int(lengths.max())))))
    count = max(count, min(len(lengths), 4))
    chosen = torch.linspace(0, len(lengths) - 1, count).round().long().unique()
    ends = panel.starts[chosen + 1]
    begins = torch.maximum(panel.starts[chosen], ends - max(1, most_rows // len(chosen)))
    return chosen, begins.tolist(), ends.tolist()


def training_moments(rows: Rows, horizon: int) -> npt.NDArray[np.int64]:
    """Return the rows after which to look, evenly over all."""
    series, count = rows.value.shape
    stride = max(1, series * count // MOMENTS)
    last = max(1, count - horizon)
    return np.arange(min(horizon, last - 1), last, stride)


def carried_moments(
    model: StreamModel,
    network: ForecastNetwork,
    state: StreamState,
    rows: Rows,
    wanted: npt.NDArray[np.int64],
) -> tuple[Carried, Late]:
    """Read all rows piece by piece, with moments after the ``wanted`` ones on the way."""
    series, count = rows.value.shape
    horizon = model.config.horizon
    piece = max(1, PIECE // series)
    parts, places = [], []
    late = Late(state, 0)
    for begin in range(0, count, piece):
        end = min(count, begin + piece)
        own = wanted[(wanted >= begin) & (wanted < end)]
        reading = model.read(
            network,
            state,
            rows.span(begin, end),
            moments=(own - begin).tolist(),
            following=_slots_after(rows, end, horizon),
            expect=False,
        )
        state = reading.state
        if end <= count - TAIL - WARM_UP:
            late = Late(state, end)
        if reading.snapshot is not None:
            parts.append(reading.snapshot)
            places.append(torch.from_numpy(own).repeat_interleave(series))
    look = Snapshot(*(torch.cat(one) for one in zip(*parts, strict=True)))
    row = torch.cat(places)
    which = torch.arange(series).repeat(len(row) // series)
    return Carried(_complete(model, network, state, rows, look, which, row), which, row), late


def young_moments(
    model: StreamModel,
    network: ForecastNetwork,
    static: tuple[Tensor, Tensor],
    rows: Rows,
    trained: Tensor,
    source: torch.Generator,
) -> Moments:
    """Return moments of streams that began one look-back, or four, before."""
    context, horizon = model.config.context, model.config.horizon
    joined = Moments(*_none(model))
    for look_backs, streams in YOUNG.items():
        age = look_backs * context
        fitting = torch.nonzero(trained >= age + horizon).flatten()
        if len(fitting):
            series = fitting[torch.randint(len(fitting), (streams,), generator=source)]
            room = trained[series] - age - horizon + 1
            begin = (torch.rand(streams, generator=source) * room).long()
            joined = joined.then(later_moments(model, network, static, rows, series, begin, age))
    return joined


def later_moments(
    model: StreamModel,
    network: ForecastNetwork,
    static: tuple[Tensor, Tensor],
    rows: Rows,
    series: Int[Tensor, "streams"],
    begin: Int[Tensor, "streams"],
    age: int,
) -> Moments:
    """Return the moments of memories that began at ``begin`` and have read ``age`` rows."""
    horizon = model.config.horizon
    own = rows.series(series).take(begin[:, None] + torch.arange(age + horizon))
    state = model.first(static[0][series], static[1][series], own)
    reading = model.read(
        network,
        state,
        own.span(0, age),
        moments=[age - 1],
        following=own.slots[:, age:],
        expect=False,
    )
    assert reading.snapshot is not None
    every = torch.arange(len(series))
    row = torch.full_like(every, age - 1)
    return _complete(model, network, state, own, reading.snapshot, every, row)


def _none(model: StreamModel) -> tuple[Snapshot, Tensor, Tensor, Tensor]:
    """Return no moments at all."""
    config, experts = model.config, model.mixture.experts
    look = Snapshot(
        torch.zeros(0, config.context),
        torch.zeros(0, config.context, dtype=torch.bool),
        torch.zeros(0, model.phases.heads, config.context + config.horizon),
        torch.zeros(0, config.horizon),
        torch.zeros(0, experts, 2),
        torch.zeros(0, experts),
        torch.zeros(0),
    )
    empty = torch.zeros(0, config.horizon)
    return look, empty, empty, empty.bool()


@torch.no_grad()
def _complete(
    model: StreamModel,
    network: ForecastNetwork,
    state: StreamState,
    rows: Rows,
    look: Snapshot,
    series: Tensor,
    row: Tensor,
) -> Moments:
    """Add the network's forecasts and what came to the moments after each ``row``."""
    context, horizon = model.config.context, model.config.horizon
    blank = Rows(
        *(torch.zeros_like(one[:, :1]).expand(-1, context, *one.shape[2:]) for one in rows)
    )
    padded = blank.then(rows)
    bases, targets, came = [], [], []
    for part in torch.arange(len(row)).split(1_024):
        places = row[part, None] + 1 + torch.arange(context + horizon)
        window = padded.series(series[part]).take(places)
        static = (state.static[series[part]], state.static_codes[series[part]])
        bases.append(window_forecasts(network, window, *static))
        targets.append(window.value[:, context:])
        came.append(window.seen[:, context:])
    return Moments(look, torch.cat(bases), torch.cat(targets), torch.cat(came))


def _slots_after(rows: Rows, end: int, horizon: int) -> Tensor:
    """Return the slots of the rows from ``end`` on; beyond the last row they do not matter."""
    slots = rows.slots[:, end : end + horizon]
    return torch.nn.functional.pad(slots, (0, 0, 0, horizon - slots.shape[1]))
