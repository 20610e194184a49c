"""Reading with adaptation: rows go through the memories, and lessons are drawn on the way.

What the experts say after a row is kept until the ``horizon`` rows that follow have come. The
bias in turn changes nothing in the memories, so that rows may be read many at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from titans_seq.forecasting.network.network import ForecastNetwork
from titans_seq.forecasting.stream.mixture import Snapshot
from titans_seq.forecasting.stream.model import Reading, StreamModel
from titans_seq.forecasting.stream.state import Rows, StreamState
from titans_seq.forecasting.stream.trust import EVERY, Adapted, Flags, Ints
from titans_seq.forecasting.stream.windows import followed, network_forecasts


class AdaptedReading(NamedTuple):
    """What reading rows gave, and how far the experts were trusted at the moments asked for."""

    reading: Reading
    trust: Tensor | None
    """(moments * series, experts), as the snapshot is laid out; None without adaptation."""


def with_adaptation(model: StreamModel, state: StreamState) -> StreamState:
    """Return a state that is to adapt, from nothing."""
    series, horizon = len(state.count), model.config.horizon
    return replace(state, adapted=Adapted.first(series, model.mixture.experts, horizon))


def read_rows(
    model: StreamModel,
    network: ForecastNetwork,
    state: StreamState,
    rows: Rows,
    *,
    moments: Sequence[int] = (),
    following: Int[Tensor, "series horizon tables"] | None = None,
    expect: bool = True,
) -> AdaptedReading:
    """Learn rows as :meth:`StreamModel.read` does, and adapt if the state is to.

    Parameters
    ----------
    model, network, state, rows, moments, expect
        As there.
    following
        Slots of the ``horizon`` rows after the last one; needed for adaptation, too.
    """
    if state.adapted is None:
        reading = model.read(
            network, state, rows, moments=moments, following=following, expect=expect
        )
        return AdaptedReading(reading, None)
    due = _Due.of(state, rows, model.config.horizon)
    wanted = sorted({*moments, *due.rows(due.speak)})
    reading = model.read(network, state, rows, moments=wanted, following=following, expect=expect)
    looks = _Looks(reading.snapshot, wanted, len(state.count))
    adapted, trusts = _taught(model, network, (state, rows), due, looks, moments)
    reading = reading._replace(
        state=replace(reading.state, adapted=adapted),
        snapshot=looks.at(moments) if len(moments) else None,
    )
    return AdaptedReading(reading, torch.cat(trusts) if trusts else None)


class _Due(NamedTuple):
    """Which series have something due at which row, (series, rows)."""

    counts: Ints
    """Rows read after each."""

    speak: Flags
    """Where the experts say what will be judged."""

    judge: Flags
    """Where what they said ``horizon`` rows before is."""

    @classmethod
    def of(cls, state: StreamState, rows: Rows, horizon: int) -> _Due:
        """Return what is due; it depends on how many rows were read, so not on their split."""
        real = rows.real.numpy()
        counts: Ints = state.count[:, None] + real.cumsum(1)
        return cls(counts, real & ((counts + horizon) % EVERY == 0), real & (counts % EVERY == 0))

    def rows(self, chosen: Flags) -> list[int]:
        """Return the rows at which something is due for some series."""
        found: list[int] = np.flatnonzero(chosen.any(0)).tolist()
        return found


class _Looks:
    """What was seen after the rows ``wanted``, of every series each."""

    def __init__(self, snapshot: Snapshot | None, wanted: Sequence[int], series: int) -> None:
        self.snapshot, self.series = snapshot, series
        self.places = {row: place for place, row in enumerate(wanted)}

    def at(self, rows: Sequence[int]) -> Snapshot:
        """Return what was seen after some of them."""
        assert self.snapshot is not None
        places = torch.tensor([self.places[row] for row in rows])[:, None] * self.series
        chosen = (places + torch.arange(self.series)).flatten()
        return Snapshot(*(one[chosen] for one in self.snapshot))


@torch.no_grad()
def _taught(
    model: StreamModel,
    network: ForecastNetwork,
    read: tuple[StreamState, Rows],
    due: _Due,
    looks: _Looks,
    moments: Sequence[int],
) -> tuple[Adapted, list[Tensor]]:
    """Go through the rows; return what is known after them, and the trust at the moments."""
    (state, rows), horizon = read, model.config.horizon
    assert state.adapted is not None
    adapted, trusts = state.adapted.copy(), []
    speak, judge = due.rows(due.speak), due.rows(due.judge)
    if speak:  # the network's part is told once it can be judged
        look = looks.at(speak)
        said = model.mixture.forecasts(look, torch.zeros(len(look.age), horizon))
        logs = model.mixture.weights(look).clamp(min=1e-12).log()
        spoken = [one.unflatten(0, (len(speak), -1)).numpy() for one in (said, logs)]
    if judge:
        # Slots are the phase memory's business: it may count them itself.
        whole, new = (one._replace(slots=one.slots[..., :0]) for one in (state.rows, rows))
        whole = whole.then(new)
        places = torch.tensor(judge)[:, None] + 1 + torch.arange(state.rows.value.shape[1])
        base = network_forecasts(network, state, whole, places).numpy()
        seen, target = (one[:, judge] for one in followed(whole, rows.value.shape[1], horizon))
        came = torch.where(seen, target, torch.nan).numpy()
    for row in sorted({*speak, *judge, *moments}):
        if row in judge:
            place = judge.index(row)
            adapted.learn(base[:, place], came[:, place], due.counts[:, row], due.judge[:, row])
        if row in speak:
            said_now, logs_now = (one[speak.index(row)] for one in spoken)
            adapted.wait(said_now, logs_now, due.counts[:, row], due.speak[:, row])
        if row in moments:
            trusts.append(torch.from_numpy(adapted.trust.copy()))
    return adapted, trusts
