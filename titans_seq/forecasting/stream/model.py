"""A forecaster that learns while it reads: the window's network, memories, and their mixture.

:class:`StreamModel` holds what training settled; :class:`StreamState` what a stream has learnt
since. Reading rows changes the state alone, forecasting changes nothing.
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
from titans_seq.forecasting.stream.association import DelayedAssociation
from titans_seq.forecasting.stream.mixture import Mixture, Snapshot
from titans_seq.forecasting.stream.periods import counted_slots
from titans_seq.forecasting.stream.phases import PhaseMemory
from titans_seq.forecasting.stream.reader import Reader
from titans_seq.forecasting.stream.state import Errors, Rows, StreamState
from titans_seq.forecasting.stream.trust import trusting
from titans_seq.forecasting.stream.windows import (
    followed,
    known_pairs,
    look_backs,
    mean_where,
    network_errors,
    network_forecasts,
)

PREFIX = "memories."
"""What the names of its tensors begin with in a model folder."""

TAIL = 2_048
"""Surprises of the training tail that are kept."""


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
    """Of the association's features."""

    counted: bool = False
    """Whether rows are placed by counting from a stream's first, not by their calendar."""


class Reading(NamedTuple):
    """What reading rows gave, besides the state afterwards."""

    state: StreamState
    surprise: Float[Tensor, "series rows"]
    """Deviation of each row from what was expected of it, over what is usual; NaN where the
    target is missing."""

    snapshot: Snapshot | None
    """The moments that were asked for: of one after another, every series."""


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
        # Until errors have been seen, they are taken for normal.
        away = torch.from_numpy(normal_scores(config.levels)).float()
        self.register_buffer("away", away.repeat(config.horizon, 1))
        self.register_buffer("tail", torch.full((TAIL,), torch.nan))
        counted = config.slots if config.counted else ()
        self.register_buffer("periods", torch.tensor(counted, dtype=torch.int64))

    def to_tensors(self) -> dict[str, Tensor]:
        """Return all that was settled, by the names it has in a model folder."""
        settled = dict(self.state_dict())
        if self.calibration is not None:
            settled |= self.calibration.to_tensors()
        return {f"{PREFIX}{name}": one for name, one in settled.items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], config: StreamConfig) -> Self | None:
        """Return the model that :meth:`to_tensors` took apart; None if there is none.

        Raises
        ------
        RuntimeError
            If a part is missing, unknown or of another size.
        BundleError
            If the calibration is not whole.
        """
        own = {
            name.removeprefix(PREFIX): one
            for name, one in tensors.items()
            if name.startswith(PREFIX)
        }
        if not own:
            return None
        periods = own.setdefault("periods", torch.zeros(0, dtype=torch.int64))
        if len(periods):
            config = replace(config, slots=tuple(periods.tolist()), counted=True)
        model = cls(config)
        model.calibration = Calibration.from_tensors(own, config.horizon)
        weights = {
            name: one for name, one in own.items() if not name.startswith(CALIBRATION_PREFIX)
        }
        model.load_state_dict(weights)
        return model.eval()

    def first(self, static: Tensor, static_codes: Tensor, like: Rows) -> StreamState:
        """Return the state of series that have no row yet.

        Parameters
        ----------
        static, static_codes
            Covariates of the series, (series, ...).
        like
            Rows with the columns to come; their number does not matter.
        """
        series, kept = len(static), self.config.context + self.config.horizon
        rows = Rows(*(torch.zeros(series, kept, *one.shape[2:], dtype=one.dtype) for one in like))
        rows = rows._replace(slots=rows.slots.new_zeros(series, kept, len(self.config.slots)))
        weights, reads = self.association.first(series)

        def errors(width: int) -> Errors:
            return Errors(
                np.ones((series, width, 2), np.float32), np.zeros((series, width), np.float32)
            )

        return StreamState(
            rows=rows,
            static=static,
            static_codes=static_codes,
            phases=self.phases.first(series),
            weights=weights,
            reads=reads,
            errors=errors(self.mixture.experts),
            step_errors=errors(1 + self.phases.heads),
            residual=errors(1 + (self.config.slots[-1] if self.config.slots else 0)),
            count=np.zeros(series, np.int64),
        )

    @torch.no_grad()
    def read(
        self,
        network: ForecastNetwork,
        state: StreamState,
        rows: Rows,
        *,
        moments: Sequence[int] = (),
        following: Int[Tensor, "series horizon tables"] | None = None,
        expect: bool = True,
    ) -> Reading:
        """Learn rows, in the memories only.

        Parameters
        ----------
        network
            The window's network, in evaluation mode.
        state
            Before the rows; it stays as it is.
        rows
            The next rows of every series; those that are not real leave a series unchanged.
        moments
            Rows after which to take a snapshot, counted from 0, rising.
        following
            Slots of the ``horizon`` rows after the last one; needed for late ``moments``.
        expect
            False leaves the surprise out, which costs a third of the time.
        """
        state = state.copy()
        count, horizon = rows.value.shape[1], self.config.horizon
        if self.config.counted:
            slots = self._counted(state, count + horizon)
            rows, following = rows._replace(slots=slots[:, :count]), slots[:, count:]
        whole = state.rows.then(rows)
        pairs, known, scale = known_pairs(whole, count, horizon)
        reads, weights, _ = self.association(state.weights, state.reads, pairs)
        all_reads = torch.cat([state.reads, reads], dim=1)
        believed = self.association.believed(all_reads[:, :count])
        came, _ = followed(whole, count, horizon)
        own_error = mean_where(((believed - pairs.values) * scale).square(), came)
        error, due = network_errors(network, state, whole, count)
        errors = torch.stack([error, own_error], dim=-1)
        there = torch.stack([due & known, known], dim=-1)
        reader = Reader(self.phases, self.mixture, self.config, state, whole, following)
        surprise = reader.read(errors.numpy(), there.numpy(), moments, expect=expect)

        done = rows.real.sum(1)
        kept = whole.value.shape[1] - count
        state.rows = whole.take(done[:, None] + torch.arange(kept))
        state.weights = weights
        series = torch.arange(len(done))[:, None]
        state.reads = all_reads[series, done[:, None] + torch.arange(horizon)]
        snapshot = None
        if len(moments):
            snapshot = reader.snapshot(self._remembered(reads, whole, moments))
        return Reading(state, surprise, snapshot)

    @torch.no_grad()
    def forecast(
        self, network: ForecastNetwork, state: StreamState, ahead: Rows
    ) -> tuple[Float[Tensor, "series horizon"], Float[Tensor, "series horizon levels"]]:
        """Forecast the rows that follow, on the scale of the series; nothing is written.

        Parameters
        ----------
        ahead
            The next ``horizon`` rows: what is known of them.
        """
        if self.config.counted:
            ahead = ahead._replace(slots=self._counted(state, self.config.horizon))
        whole = state.rows.then(ahead)
        context = self.config.context
        places = torch.arange(whole.value.shape[1])[None, -context - self.config.horizon :]
        base = network_forecasts(network, state, whole, places)[:, 0]
        reader = Reader(self.phases, self.mixture, self.config, state, state.rows, ahead.slots)
        _, _, scale = look_backs(state.rows, context, slice(-1, None))
        remembered = self.association.believed(state.reads[:, -1]) * scale[:, 0]
        reader.take(-1)
        trust = None if state.adapted is None else torch.from_numpy(state.adapted.trust)
        return self.mixed(reader.snapshot(remembered[None]), base, trust)

    def mixed(
        self, look: Snapshot, base: Tensor, trust: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return point forecast and quantiles of every moment; ``trust`` was adapted."""
        weights = self.mixture.weights(look)
        weights = weights if trust is None else trusting(weights, trust)
        point = (weights * self.mixture.forecasts(look, base)).sum(1)
        spread = self.mixture.spread(look, weights)[:, None, None]
        return point, point[..., None] + spread * self.away

    def p_value(self, surprise: Tensor) -> Tensor:
        """Return the share of the training tail that was at least as surprising."""
        tail = self.tail[self.tail.isfinite()]
        above = len(tail) - torch.searchsorted(tail, surprise.nan_to_num(), right=False)
        chance = (1 + above) / (1 + len(tail))
        return torch.where(surprise.isnan(), torch.nan, chance.to(surprise.dtype))

    def forget_surprise(self, state: StreamState) -> StreamState:
        """Return the state with nothing known of how large errors one row ahead are."""
        fresh = self.first(state.static, state.static_codes, state.rows)
        return replace(state, step_errors=fresh.step_errors, residual=fresh.residual)

    def _counted(self, state: StreamState, rows: int) -> Tensor:
        """Return the slots of the next rows of every series."""
        return counted_slots(torch.from_numpy(state.count), rows, self.config.slots)

    def _remembered(
        self, reads: Tensor, whole: Rows, moments: Sequence[int]
    ) -> Float[Tensor, "moments series horizon"]:
        """Return what the association adds to the look-back's mean at some moments."""
        chosen = torch.as_tensor(moments)
        begin = 1 + self.config.horizon
        _, _, scale = look_backs(whole, self.config.context, slice(begin, None))
        believed = self.association.believed(reads[:, chosen]) * scale[:, chosen]
        return believed.transpose(0, 1)
