"""Phase memory: Kalman-filtered levels of each phase of a cycle, learnt row by row.

The keys are one-hot (the hour of the day, the hour of the week), so the exact delta rule of a
linear memory (arXiv 2501.00663, equation 14 without momentum) is a running mean of each slot. Its
step is the gain of a Kalman filter for a random-walk level: near 1 for a slot met for the first
time, then falling to what the head's ``drift`` sustains. Several heads with different drifts run
side by side; the mixture weighs them (:mod:`titans_seq.forecasting.stream.mixture`).

Some heads also detect jumps: beside their levels they learn a rival set that started empty, and
keep the log-odds of the two hypotheses (a CUSUM test on the likelihood of each row). Once the
rival explains the rows better it replaces the levels; in between, reads average both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import NamedTuple, Self

import numpy as np

from titans_seq.forecasting.tables.arrays import BoolArray, Float32Array, IntArray

DRIFTS = (0.25, 0.03, 0.003, 0.0003)
"""Drift of each plain head: variance of a level's random walk between two visits, over the noise
variance of a row."""

JUMP_DRIFTS = (0.03, 0.003)
"""Drift of each head that detects jumps."""

ODDS_FLOOR = -5.0
"""Log-odds of a new rival: a jump is expected once in ``exp(5)``, about 150 rows."""

ODDS_CEILING = 4.0
"""Log-odds at which the rival replaces the levels."""

MAX_ROW_EVIDENCE = 3.0
"""Bound on the change of the log-odds by one row."""

OUTLIER_DEVIATIONS = 5.0
"""Standard deviations from the rival's prediction beyond which a row is an outlier and no
evidence."""

NOISE_RATE = 1 / 500
"""Forgetting rate of the noise estimate."""

MAX_LEVEL_STEP = 5.0
"""Bound on the innovation that moves a level, in standard deviations."""


@dataclass(slots=True)
class PhaseState:
    """Levels, their uncertainty and the noise of every head and series.

    Shapes
    ------
    ``level``, ``spread``, ``rival_level``, ``rival_spread``: (series, heads, slots);
    ``odds``, ``noise``, ``visits``: (series, heads)
    """

    level: Float32Array
    spread: Float32Array
    """Error variance of a level over the noise variance; infinite where never visited."""

    rival_level: Float32Array
    rival_spread: Float32Array
    odds: Float32Array
    """Log-odds of the rival levels."""

    noise: Float32Array
    """Variance of a row around its level."""

    visits: Float32Array
    """Rows that the noise was estimated from."""

    def arrays(self) -> dict[str, Float32Array]:
        """Return every array by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Float32Array]) -> Self:
        """Rebuild a state from the result of :meth:`arrays`."""
        return cls(**{field.name: arrays[field.name] for field in fields(cls)})


class PhaseMemory:
    """Kalman-filter heads over one or more tables of slots; without tables there are no heads.

    Parameters
    ----------
    slots
        Slots of each table, coarse before fine: an unvisited slot of a later table reads the
        level of the first table.
    """

    def __init__(self, slots: tuple[int, ...]) -> None:
        drifts = np.array([*DRIFTS, *JUMP_DRIFTS], np.float32)
        kinds = len(drifts)
        self.slots = slots
        self.heads = kinds * len(slots)
        self.width = max(slots, default=1)
        # Per head: its table, the head of the first table with the same drift, and its drift.
        self.table = np.repeat(np.arange(len(slots)), kinds)
        self.coarse_head = np.tile(np.arange(kinds), len(slots))
        self.drift = np.tile(drifts, len(slots))
        self.jumps = np.tile(np.arange(kinds) >= len(DRIFTS), len(slots))

    def initial_state(self, series: int) -> PhaseState:
        """Return the state before any row."""
        table = (series, self.heads, self.width)

        def full(shape: tuple[int, ...], value: float) -> Float32Array:
            return np.full(shape, value, np.float32)

        return PhaseState(
            level=full(table, 0),
            spread=full(table, np.inf),
            rival_level=full(table, 0),
            rival_spread=full(table, np.inf),
            odds=full(table[:2], ODDS_FLOOR),
            noise=full(table[:2], 0.25),
            visits=full(table[:2], 0),
        )

    def read(self, state: PhaseState, slots: IntArray) -> Float32Array:
        """Return the level that each head predicts for rows at ``slots``.

        Shapes
        ------
        slots    (series, rows, tables)
        returns  (series, heads, rows)
        """
        index = self._index(state, slots)
        level, spread = state.level[index], state.spread[index]
        visited = np.isfinite(spread)
        levels = np.where(visited, level, 0)
        # Average both hypotheses: the rival's probability is the sigmoid of the log-odds.
        rival_share = 1 / (1 + np.exp(-state.odds[..., None]))
        rival = np.isfinite(state.rival_spread[index]) & self.jumps[None, :, None]
        levels = np.where(rival, levels + rival_share * (state.rival_level[index] - levels), levels)
        if len(self.slots) > 1:
            levels = np.where(visited | rival, levels, levels[:, self.coarse_head])
        return levels.astype(np.float32)

    def learn(
        self, state: PhaseState, slots: IntArray, values: Float32Array, write: BoolArray
    ) -> Float32Array:
        """Update ``state`` with one row of each series, in place.

        Parameters
        ----------
        slots
            (series, tables)
        values
            (series,)
        write
            (series,) False leaves a series unchanged.

        Returns
        -------
        Squared prediction error of every head before the update, (series, heads).
        """
        index = tuple(axis[..., 0] for axis in self._index(state, slots[:, None]))
        predicted = self.read(state, slots[:, None])[..., 0]
        error = values[:, None] - predicted
        noise = state.noise
        # Prior variance of an unvisited level: series have variance 1, in units of the noise.
        prior_spread = np.clip(1 / noise, 4, 100).astype(np.float32)
        write_heads = write[:, None]

        update = self._kalman_update(
            state.level, state.spread, index, values, prior_spread, noise, predicted
        )
        if self.jumps.any():
            prior = np.zeros_like(predicted)
            rival = self._kalman_update(
                state.rival_level, state.rival_spread, index, values, prior_spread, noise, prior
            )
            write_rival = write_heads & self.jumps
            self._add_evidence(state, update, rival, write_rival, prior_spread)
            _store(state.rival_level, state.rival_spread, index, rival, write_rival)
        _store(state.level, state.spread, index, update, write_heads)
        self._accept_rivals(state, write_heads)

        # Only settled slots inform the noise: the error of a new one is mostly its level's.
        settled = write_heads & (update.gain < 0.6)
        state.visits += settled
        rate = settled * np.maximum(NOISE_RATE, 1 / (1 + state.visits))
        # error^2 (1 - gain) has the noise variance as its mean; outliers are bounded.
        size = np.minimum(update.error**2 * (1 - update.gain), 9 * noise)
        state.noise += (rate * (size - noise)).astype(np.float32)
        np.clip(state.noise, 1e-6, 1e6, out=state.noise)
        return (error**2 * write_heads).astype(np.float32)

    def _index(self, state: PhaseState, slots: IntArray) -> tuple[IntArray, IntArray, IntArray]:
        """Return the index (series, head, slot) of rows in the tables, (series, heads, rows)."""
        series = np.arange(len(state.level))[:, None, None]
        return series, np.arange(self.heads)[None, :, None], slots.transpose(0, 2, 1)[:, self.table]

    def _kalman_update(
        self,
        level: Float32Array,
        spread: Float32Array,
        index: tuple[IntArray, ...],
        values: Float32Array,
        prior_spread: Float32Array,
        noise: Float32Array,
        prior: Float32Array,
    ) -> _KalmanUpdate:
        """Return the filtered levels of the visited slots; ``prior`` where never visited."""
        old_spread = spread[index]
        visited = np.isfinite(old_spread)
        before = np.where(visited, level[index], prior)
        # Predict: the random walk adds the drift. Correct: gain = P / (P + R), with R = 1 in
        # units of the noise, so the new spread P (1 - gain) equals the gain.
        predicted_spread = np.where(visited, old_spread, prior_spread) + self.drift
        gain = predicted_spread / (predicted_spread + 1)
        error = values[:, None] - before
        bound = MAX_LEVEL_STEP * np.sqrt((predicted_spread + 1) * noise)
        after = before + gain * np.clip(error, -bound, bound)
        return _KalmanUpdate(after, gain, gain, error, (predicted_spread + 1) * noise)

    def _add_evidence(
        self,
        state: PhaseState,
        update: _KalmanUpdate,
        rival: _KalmanUpdate,
        write: BoolArray,
        prior_spread: Float32Array,
    ) -> None:
        """Add a row's log-likelihood ratio to the odds; at the floor the rival starts anew."""
        evidence = update.negative_log_likelihood() - rival.negative_log_likelihood()
        plausible = OUTLIER_DEVIATIONS * np.sqrt((prior_spread + 1) * state.noise)
        evidence = np.where(np.abs(rival.error) > plausible, 0, evidence)
        state.odds += write * np.clip(evidence, -MAX_ROW_EVIDENCE, MAX_ROW_EVIDENCE)
        restart = write & (state.odds <= ODDS_FLOOR)
        state.odds[restart] = ODDS_FLOOR
        state.rival_spread[restart] = np.inf

    def _accept_rivals(self, state: PhaseState, write: BoolArray) -> None:
        """Replace the levels of heads whose rival has won."""
        won = write & self.jumps & (state.odds > ODDS_CEILING)
        if won.any():
            state.level[won] = state.rival_level[won]
            state.spread[won] = state.rival_spread[won]
            state.rival_spread[won] = np.inf
            state.odds[won] = ODDS_FLOOR


class _KalmanUpdate(NamedTuple):
    """One row's update of the visited slot of every head, (series, heads)."""

    level: Float32Array
    spread: Float32Array
    gain: Float32Array
    error: Float32Array
    """Innovation: the row less its prediction."""

    variance: Float32Array
    """Predicted variance of the row."""

    def negative_log_likelihood(self) -> Float32Array:
        """Return the negative log-likelihood of the row, up to a constant."""
        density: Float32Array = 0.5 * (self.error**2 / self.variance + np.log(self.variance))
        return density


def _store(
    level: Float32Array,
    spread: Float32Array,
    index: tuple[IntArray, ...],
    update: _KalmanUpdate,
    write: BoolArray,
) -> None:
    """Write updated slots into the tables where ``write``."""
    level[index] = np.where(write, update.level, level[index])
    spread[index] = np.where(write, update.spread, spread[index])
