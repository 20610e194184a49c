"""StreamModel: a window's network surrounded by memories that learn while they read.

:class:`StreamModel` holds what training has fixed; :class:`StreamState` what a stream has learnt
since. Reading rows changes the state alone; forecasting changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from titans_seq.forecasting.network.network import ForecastNetwork
from titans_seq.forecasting.predicting.conformal import CALIBRATION_PREFIX, Calibration
from titans_seq.forecasting.predicting.distribution import normal_scores
from titans_seq.forecasting.stream.adaptation import biased_weights
from titans_seq.forecasting.stream.association import (
    DelayedAssociation,
    association_pairs,
    look_backs,
)
from titans_seq.forecasting.stream.mixture import Mixture, Snapshot
from titans_seq.forecasting.stream.network_expert import (
    network_errors,
    network_forecasts,
    observed_mean,
)
from titans_seq.forecasting.stream.periods import counted_slots
from titans_seq.forecasting.stream.phases import PhaseMemory
from titans_seq.forecasting.stream.reader import RowReader
from titans_seq.forecasting.stream.rows import StreamRows
from titans_seq.forecasting.stream.state import RunningErrors, StreamState

STREAM_PREFIX = "memories."
"""Prefix of the names of its tensors in a model folder."""

TAIL_ROWS = 2_048
"""Surprises of the last training rows that are kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamConfig:
    """Sizes of a :class:`StreamModel`."""

    context: int
    horizon: int
    slots: tuple[int, ...] = ()
    """Slots of each table of the phase memory."""

    levels: tuple[float, ...] = ()
    """Quantiles to forecast."""

    seed: int = 0
    """Seed of the association's random features."""

    counted: bool = False
    """Whether slots are counted from a stream's first row instead of read off a calendar."""


class Reading(NamedTuple):
    """Result of reading rows."""

    state: StreamState
    surprise: Float[Tensor, "series rows"]
    """Deviation of each row from its forecast, over the usual one; NaN where missing."""

    snapshot: Snapshot | None
    """Requested snapshots: row after row, each of every series."""


class StreamModel(nn.Module):
    """The memories around a window's network.

    Parameters
    ----------
    config
        Sizes.
    """

    def __init__(self, config: StreamConfig) -> None:
        super().__init__()
        self.config = config
        self.calibration: Calibration | None = None
        self.phases = PhaseMemory(config.slots)
        self.association = DelayedAssociation(config.context, config.horizon, config.seed)
        self.mixture = Mixture(config.context, config.horizon, self.phases.heads)
        self.away: Tensor
        self.tail: Tensor
        # `away`: quantiles of the error over the spread; normal until training replaces them.
        # `tail`: sorted surprises of the last training rows. `periods`: of counted slots.
        away = torch.from_numpy(normal_scores(config.levels)).float()
        self.register_buffer("away", away.repeat(config.horizon, 1))
        self.register_buffer("tail", torch.full((TAIL_ROWS,), torch.nan))
        counted = config.slots if config.counted else ()
        self.register_buffer("periods", torch.tensor(counted, dtype=torch.int64))

    def to_tensors(self) -> dict[str, Tensor]:
        """Return all trained tensors, by their names in a model folder."""
        tensors = dict(self.state_dict())
        if self.calibration is not None:
            tensors |= self.calibration.to_tensors()
        return {f"{STREAM_PREFIX}{name}": tensor for name, tensor in tensors.items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], config: StreamConfig) -> Self | None:
        """Rebuild a model from the tensors of a model folder; None if it has no memories.

        Raises
        ------
        RuntimeError
            If a tensor is missing, unknown or of another size.
        BundleError
            If the calibration is incomplete.
        """
        tensors = {
            name.removeprefix(STREAM_PREFIX): tensor
            for name, tensor in tensors.items()
            if name.startswith(STREAM_PREFIX)
        }
        if not tensors:
            return None
        # The first folders had no `periods`: their slots come from the calendar.
        periods = tensors.setdefault("periods", torch.zeros(0, dtype=torch.int64))
        if len(periods):
            config = replace(config, slots=tuple(periods.tolist()), counted=True)
        model = cls(config)
        model.calibration = Calibration.from_tensors(tensors, config.horizon)
        weights = {
            name: tensor
            for name, tensor in tensors.items()
            if not name.startswith(CALIBRATION_PREFIX)
        }
        model.load_state_dict(weights)
        return model.eval()

    def initial_state(
        self, static: Tensor, static_codes: Tensor, template: StreamRows
    ) -> StreamState:
        """Return the state of series before any row.

        Parameters
        ----------
        static, static_codes
            Covariates of the series, (series, ...).
        template
            Rows with the columns to come; their number does not matter.
        """
        series, kept = len(static), self.config.context + self.config.horizon
        rows = StreamRows(
            *(torch.zeros(series, kept, *field.shape[2:], dtype=field.dtype) for field in template)
        )
        rows = rows._replace(slots=rows.slots.new_zeros(series, kept, len(self.config.slots)))
        weights, reads = self.association.initial_state(series)
        finest = self.config.slots[-1] if self.config.slots else 0
        return StreamState(
            rows=rows,
            static=static,
            static_codes=static_codes,
            phases=self.phases.initial_state(series),
            weights=weights,
            reads=reads,
            errors=RunningErrors.initial(series, self.mixture.experts),
            step_errors=RunningErrors.initial(series, 1 + self.phases.heads),
            residual=RunningErrors.initial(series, 1 + finest),
            count=np.zeros(series, np.int64),
        )

    @torch.no_grad()
    def read(
        self,
        network: ForecastNetwork,
        state: StreamState,
        new: StreamRows,
        *,
        snapshot_rows: Sequence[int] = (),
        following: Int[Tensor, "series horizon tables"] | None = None,
        measure_surprise: bool = True,
    ) -> Reading:
        """Learn rows, in the memories only.

        Parameters
        ----------
        network
            The window's network, in evaluation mode.
        state
            State before the rows; it is not changed.
        new
            The next rows of every series; those that are not real leave a series unchanged.
        snapshot_rows
            New rows after which to take a snapshot, counted from 0, rising.
        following
            Slots of the ``horizon`` rows after the last one; needed for late snapshots.
        measure_surprise
            False leaves the surprise out, which saves a third of the time.
        """
        state = state.copy()
        count, horizon = new.value.shape[1], self.config.horizon
        if self.config.counted:
            slots = self._next_slots(state, count + horizon)
            new, following = new._replace(slots=slots[:, :count]), slots[:, count:]
        rows = state.rows.concat(new)
        kept = state.rows.value.shape[1]

        # The association and the network read all rows at once; their errors go into the row loop.
        pairs, known, scale = association_pairs(rows, count, horizon)
        reads, weights, _ = self.association(state.weights, state.reads, pairs)
        all_reads = torch.cat([state.reads, reads], dim=1)
        seen, _ = rows.horizons(count, horizon)
        # all_reads[:, :count] were made `horizon` rows before each new row.
        recall_error = (self.association.shrunk(all_reads[:, :count]) - pairs.values) * scale
        association_error = observed_mean(recall_error.square(), seen)
        network_error, due = network_errors(network, state, rows, count)
        errors = torch.stack([network_error, association_error], dim=-1)
        error_known = torch.stack([due & known, known], dim=-1)
        reader = RowReader(self.phases, self.mixture, state, rows, following)
        surprise = reader.read(
            errors.numpy(), error_known.numpy(), snapshot_rows, measure_surprise=measure_surprise
        )

        # Series may have read fewer real rows than others: keep the last rows of each.
        read_rows = new.real.sum(1)
        state.rows = rows.gather(read_rows[:, None] + torch.arange(kept))
        state.weights = weights
        series = torch.arange(len(read_rows))[:, None]
        state.reads = all_reads[series, read_rows[:, None] + torch.arange(horizon)]
        snapshot = None
        if len(snapshot_rows):
            snapshot = reader.collect(self._recalled(reads, rows, snapshot_rows))
        return Reading(state, surprise, snapshot)

    @torch.no_grad()
    def forecast(
        self, network: ForecastNetwork, state: StreamState, ahead: StreamRows
    ) -> tuple[Float[Tensor, "series horizon"], Float[Tensor, "series horizon levels"]]:
        """Forecast the next rows, on the scale of the series; nothing is written.

        Parameters
        ----------
        ahead
            The next ``horizon`` rows, as far as they are known.
        """
        if self.config.counted:
            ahead = ahead._replace(slots=self._next_slots(state, self.config.horizon))
        rows = state.rows.concat(ahead)
        context = self.config.context
        index = torch.arange(rows.value.shape[1])[None, -context - self.config.horizon :]
        network_forecast = network_forecasts(network, state, rows, index)[:, 0]
        reader = RowReader(self.phases, self.mixture, state, state.rows, ahead.slots)
        _, _, scale = look_backs(state.rows, context, slice(-1, None))
        recalled = self.association.shrunk(state.reads[:, -1]) * scale[:, 0]
        reader.take_snapshot(-1)
        bias = None if state.adapted is None else torch.from_numpy(state.adapted.trust)
        return self.mixed(reader.collect(recalled[None]), network_forecast, bias)

    def mixed(
        self, snapshot: Snapshot, network: Tensor, bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return point forecast and quantiles of every snapshot.

        Parameters
        ----------
        snapshot
            Inputs of the experts.
        network
            Forecasts of the window's network.
        bias
            Adapted bias of the gate, (snapshots, experts).
        """
        weights = self.mixture.weights(snapshot)
        weights = weights if bias is None else biased_weights(weights, bias)
        point = (weights * self.mixture.forecasts(snapshot, network)).sum(1)
        spread = self.mixture.spread(snapshot, weights)[:, None, None]
        return point, point[..., None] + spread * self.away

    def p_value(self, surprise: Tensor) -> Tensor:
        """Return the share of the last training rows that were at least as surprising."""
        tail = self.tail[self.tail.isfinite()]
        above = len(tail) - torch.searchsorted(tail, surprise.nan_to_num(), right=False)
        share = (1 + above) / (1 + len(tail))
        return torch.where(surprise.isnan(), torch.nan, share.to(surprise.dtype))

    def _next_slots(self, state: StreamState, rows: int) -> Tensor:
        """Return the counted slots of the next rows of every series."""
        return counted_slots(torch.from_numpy(state.count), rows, self.config.slots)

    def _recalled(
        self, reads: Tensor, rows: StreamRows, snapshot_rows: Sequence[int]
    ) -> Float[Tensor, "snapshots series horizon"]:
        """Return the association's departures from the look-back's mean after some new rows."""
        chosen = torch.as_tensor(snapshot_rows)
        begin = 1 + self.config.horizon
        _, _, scale = look_backs(rows, self.config.context, slice(begin, None))
        recalled = self.association.shrunk(reads[:, chosen]) * scale[:, chosen]
        return recalled.transpose(0, 1)
