"""The fixed part of a stream: a trained forecaster that reads rows for many streams.

With adaptation the experts' forecasts after a row wait in the state until the ``horizon`` rows
that follow have been read. The adapted bias does not influence the memories, so rows are read
many at once first, and the updates of the bias are computed from snapshots afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from titans_seq.forecasting.network.network import ForecastNetwork
from titans_seq.forecasting.stream.adaptation import ADAPT_EVERY, AdaptationState
from titans_seq.forecasting.stream.mixture import Snapshot
from titans_seq.forecasting.stream.model import Reading, StreamModel
from titans_seq.forecasting.stream.network_expert import network_forecasts
from titans_seq.forecasting.stream.rows import StreamRows
from titans_seq.forecasting.stream.state import StreamState, hash_tensors
from titans_seq.forecasting.tables.arrays import BoolArray, IntArray
from titans_seq.forecasting.tables.frames import ColumnRoles
from titans_seq.forecasting.tables.panel import Preprocess


class AdaptedReading(NamedTuple):
    """Result of reading rows, and the bias of the gate at the requested snapshots."""

    reading: Reading
    bias: Float[Tensor, "snapshots experts"] | None
    """In the order of the snapshots; None without adaptation."""


@dataclass(frozen=True, slots=True)
class FrozenForecaster:
    """A trained forecaster as its streams use it: nothing in it changes."""

    network: ForecastNetwork
    model: StreamModel
    preprocess: Preprocess
    columns: ColumnRoles
    quantiles: tuple[float, ...] = ()
    """Quantiles to return unless others are requested."""

    adapt: bool = False
    """Whether new states adapt the gate."""

    def initial_state(
        self, static: Tensor, static_codes: Tensor, template: StreamRows
    ) -> StreamState:
        """Return the state of series before any row; see :meth:`StreamModel.initial_state`."""
        state = self.model.initial_state(static, static_codes, template)
        if not self.adapt:
            return state
        series, horizon = len(static), self.model.config.horizon
        adapted = AdaptationState.initial(series, self.model.mixture.experts, horizon)
        return replace(state, adapted=adapted)

    def read(
        self,
        state: StreamState,
        new: StreamRows,
        *,
        snapshot_rows: Sequence[int] = (),
        following: Int[Tensor, "series horizon tables"] | None = None,
        measure_surprise: bool = True,
    ) -> AdaptedReading:
        """Learn rows as :meth:`StreamModel.read` does, and adapt the gate if the state does.

        Parameters
        ----------
        state, new, snapshot_rows, measure_surprise
            As in :meth:`StreamModel.read`.
        following
            Slots of the ``horizon`` rows after the last one; needed for adaptation, too.
        """
        schedule = None
        all_snapshot_rows = list(snapshot_rows)
        if state.adapted is not None:
            schedule = _Schedule.of(state, new, self.model.config.horizon)
            all_snapshot_rows = sorted({*snapshot_rows, *_any_series(schedule.store)})
        reading = self.model.read(
            self.network,
            state,
            new,
            snapshot_rows=all_snapshot_rows,
            following=following,
            measure_surprise=measure_surprise,
        )
        if schedule is None:
            return AdaptedReading(reading, None)
        snapshots = _Snapshots(reading.snapshot, all_snapshot_rows, len(state.count))
        adapted, biases = self._adapt(state, new, schedule, snapshots, snapshot_rows)
        reading = reading._replace(
            state=replace(reading.state, adapted=adapted),
            snapshot=snapshots.after(snapshot_rows) if len(snapshot_rows) else None,
        )
        return AdaptedReading(reading, torch.cat(biases) if biases else None)

    def fingerprint(self) -> str:
        """Return a hash of all weights, by which a saved stream identifies its forecaster."""
        return hash_tensors(self.network.state_dict(), self.model.state_dict())[:16]

    @torch.no_grad()
    def _adapt(
        self,
        state: StreamState,
        new: StreamRows,
        schedule: _Schedule,
        snapshots: _Snapshots,
        snapshot_rows: Sequence[int],
    ) -> tuple[AdaptationState, list[Tensor]]:
        """Go through the rows in order; return the new state, and the bias after some rows."""
        model, horizon = self.model, self.model.config.horizon
        assert state.adapted is not None
        adapted, biases = state.adapted.copy(), []
        store_rows, score_rows = _any_series(schedule.store), _any_series(schedule.score)
        if store_rows:
            snapshot = snapshots.after(store_rows)
            # Zeros stand for the network, whose forecast is computed when it can be scored.
            no_network = torch.zeros(len(snapshot.age), horizon)
            forecasts, logs = (
                tensor.unflatten(0, (len(store_rows), -1)).numpy()
                for tensor in (
                    model.mixture.forecasts(snapshot, no_network),
                    model.mixture.weights(snapshot).clamp(min=1e-12).log(),
                )
            )
        if score_rows:
            # The network reads no slots, and counted ones are not in `new`.
            rows = _without_slots(state.rows).concat(_without_slots(new))
            window = torch.arange(state.rows.value.shape[1])
            index = torch.tensor(score_rows)[:, None] + 1 + window
            network = network_forecasts(self.network, state, rows, index).numpy()
            seen, target = (
                field[:, score_rows] for field in rows.horizons(new.value.shape[1], horizon)
            )
            observed = torch.where(seen, target, torch.nan).numpy()
        for row in sorted({*store_rows, *score_rows, *snapshot_rows}):
            counts = schedule.counts[:, row]
            if row in score_rows:
                at = score_rows.index(row)
                adapted.learn(network[:, at], observed[:, at], counts, schedule.score[:, row])
            if row in store_rows:
                at = store_rows.index(row)
                adapted.enqueue(forecasts[at], logs[at], counts, schedule.store[:, row])
            if row in snapshot_rows:
                biases.append(torch.from_numpy(adapted.trust.copy()))
        return adapted, biases


class _Schedule(NamedTuple):
    """Rows after which forecasts are stored and scored, (series, rows)."""

    counts: IntArray
    """Rows read after each."""

    store: BoolArray
    """Where the experts' forecasts are stored."""

    score: BoolArray
    """Where those of ``horizon`` rows before are scored."""

    @classmethod
    def of(cls, state: StreamState, new: StreamRows, horizon: int) -> _Schedule:
        """Return the schedule by the number of rows read, so that it does not depend on splits."""
        real = new.real.numpy()
        counts: IntArray = state.count[:, None] + real.cumsum(1)
        store = real & ((counts + horizon) % ADAPT_EVERY == 0)
        return cls(counts, store, real & (counts % ADAPT_EVERY == 0))


class _Snapshots:
    """Snapshots after the rows ``taken_after``, each of every series."""

    def __init__(self, snapshot: Snapshot | None, taken_after: Sequence[int], series: int) -> None:
        self.snapshot, self.series = snapshot, series
        self.position = {row: position for position, row in enumerate(taken_after)}

    def after(self, rows: Sequence[int]) -> Snapshot:
        """Return the snapshots after some of these rows."""
        assert self.snapshot is not None
        first = torch.tensor([self.position[row] for row in rows])[:, None] * self.series
        return self.snapshot.select((first + torch.arange(self.series)).flatten())


def _any_series(due: BoolArray) -> list[int]:
    """Return the rows at which some series is due."""
    rows: list[int] = np.flatnonzero(due.any(0)).tolist()
    return rows


def _without_slots(rows: StreamRows) -> StreamRows:
    return rows._replace(slots=rows.slots[..., :0])
