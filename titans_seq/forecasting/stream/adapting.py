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

from titans_seq.forecasting.network import ForecastNetwork
from titans_seq.forecasting.stream.mixture import Snapshot
from titans_seq.forecasting.stream.model import Reading, StreamModel
from titans_seq.forecasting.stream.state import Rows, StreamState
from titans_seq.forecasting.stream.trust import EVERY, Adapted
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
    real = rows.real.numpy()
    count = state.count[:, None] + real.cumsum(1)
    speak = real & ((count + model.config.horizon) % EVERY == 0)
    judge = real & (count % EVERY == 0)
    wanted = sorted({*moments, *np.flatnonzero(speak.any(0)).tolist()})
    reading = model.read(network, state, rows, moments=wanted, following=following, expect=expect)
    series = len(count)
    adapted = state.adapted.copy()
    lessons = _Lessons(model, network, state, rows)
    trusts: list[Tensor] = []
    for row in sorted({*wanted, *np.flatnonzero(judge.any(0)).tolist()}):
        if judge[:, row].any():
            adapted.learn(*lessons.known(row), count[:, row], judge[:, row])
        if speak[:, row].any():
            assert reading.snapshot is not None
            place = wanted.index(row) * series
            look = Snapshot(*(one[place : place + series] for one in reading.snapshot))
            adapted.wait(*lessons.said(look), count[:, row], speak[:, row])
        if row in moments:
            trusts.append(torch.from_numpy(adapted.trust.copy()))
    after = replace(reading.state, adapted=adapted)
    if not trusts:
        return AdaptedReading(reading._replace(state=after, snapshot=None), None)
    assert reading.snapshot is not None
    places = torch.tensor([wanted.index(one) for one in moments])[:, None] * series
    chosen = (places + torch.arange(series)).flatten()
    snapshot = Snapshot(*(one[chosen] for one in reading.snapshot))
    return AdaptedReading(reading._replace(state=after, snapshot=snapshot), torch.cat(trusts))


class _Lessons:
    """What the experts say, and what the network said and what came of it."""

    def __init__(
        self, model: StreamModel, network: ForecastNetwork, state: StreamState, rows: Rows
    ) -> None:
        self.model, self.network, self.state = model, network, state
        self.whole = state.rows.then(rows)
        self.kept = state.rows.value.shape[1]
        self.came, self.target = followed(self.whole, rows.value.shape[1], model.config.horizon)

    @torch.no_grad()
    def said(self, look: Snapshot) -> tuple[np.ndarray, np.ndarray]:
        """Return forecasts and log-weights of all experts; the network's is told later."""
        mixture = self.model.mixture
        nothing = torch.zeros(len(look.age), self.model.config.horizon)
        weights = mixture.weights(look).clamp(min=1e-12).log()
        return mixture.forecasts(look, nothing).numpy(), weights.numpy()

    @torch.no_grad()
    def known(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the network's forecasts of ``horizon`` rows before ``row``, and what came."""
        places = (1 + row + torch.arange(self.kept))[None]
        base = network_forecasts(self.network, self.state, self.whole, places)[:, 0]
        came = torch.where(self.came[:, row], self.target[:, row], torch.nan)
        return base.numpy(), came.numpy()
