"""What a series does at each place of its cycles: one level a slot, learnt row by row.

The keys are one-hot (the hour of the day, the hour of the week), so the exact delta rule of a
linear memory (arXiv 2501.00663, equation 14 without momentum) is a running mean of each slot. Its
step is the gain of a Kalman filter for a level that random-walks: near 1 for a slot just met,
then falling to what the head's ``drift`` sustains. Several heads of different drift stand side by
side; which to trust is the mixture's business (:mod:`titans_seq.forecasting.stream.mixture`).

Some heads also follow jumps: beside their levels they learn a rival set that began empty, and
keep the log-odds of the two (a CUSUM test against what a row is worth under each). Once the rival
explains the rows better it takes the other's place; in between, reads mix both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

DRIFTS = (0.25, 0.03, 0.003, 0.0003)
"""Variance of a level's walk between two visits, over that of the noise, of the plain heads."""

JUMP_DRIFTS = (0.03, 0.003)
"""The same for the heads that follow jumps."""

FLOOR = -5.0
"""Log-odds at which a rival begins: a jump is expected once in ``exp(5)`` rows."""

CEILING = 4.0
"""Log-odds at which the rival takes over."""

ROW_EVIDENCE = 3.0
"""Log-odds that one row can add or take, at most."""

IMPLAUSIBLE = 5.0
"""Deviations from what a rival expects beyond which a row is an outlier, not evidence."""

NOISE_RATE = 1 / 500
"""How fast the estimate of the noise forgets."""

LARGEST_STEP = 5.0
"""Deviations by which one row can move a level, at most."""


@dataclass(slots=True)
class PhaseState:
    """What the heads know of each series.

    Shapes
    ------
    ``level``, ``spread``, ``rival_level``, ``rival_spread``: (series, heads, slots);
    ``odds``, ``noise``, ``visits``: (series, heads)
    """

    level: Floats
    spread: Floats
    """Variance of a level's error over that of the noise; infinite where never met."""

    rival_level: Floats
    rival_spread: Floats
    odds: Floats
    """Log-odds of the rival levels."""

    noise: Floats
    """Variance of a row around its level."""

    visits: Floats
    """Rows that the noise was estimated from."""

    def copy(self) -> Self:
        """Return a state of its own."""
        return type(self)(**{name: held.copy() for name, held in self.arrays().items()})

    def arrays(self) -> dict[str, Floats]:
        """Return every array by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Floats]) -> Self:
        """Return the state that :meth:`arrays` took apart."""
        return cls(**{field.name: arrays[field.name] for field in fields(cls)})


class PhaseMemory:
    """Heads over the tables of slots; no table means no head.

    Parameters
    ----------
    slots
        Slots of each table, coarse before fine: an unmet slot of a later table reads what the
        first one knows.
    """

    def __init__(self, slots: tuple[int, ...]) -> None:
        drifts = np.array([*DRIFTS, *JUMP_DRIFTS], np.float32)
        kinds = len(drifts)
        self.slots = slots
        self.heads = kinds * len(slots)
        self.width = max(slots, default=1)
        self.table = np.repeat(np.arange(len(slots)), kinds)
        self.coarse = np.tile(np.arange(kinds), len(slots))
        self.drift = np.tile(drifts, len(slots))
        self.jumps = np.tile(np.arange(kinds) >= len(DRIFTS), len(slots))

    def first(self, series: int) -> PhaseState:
        """Return the state that has met no row."""
        table = (series, self.heads, self.width)

        def full(shape: tuple[int, ...], value: float) -> Floats:
            return np.full(shape, value, np.float32)

        return PhaseState(
            level=full(table, 0),
            spread=full(table, np.inf),
            rival_level=full(table, 0),
            rival_spread=full(table, np.inf),
            odds=full(table[:2], FLOOR),
            noise=full(table[:2], 0.25),
            visits=full(table[:2], 0),
        )

    def read(self, state: PhaseState, slots: Ints) -> Floats:
        """Return what each head expects of rows at ``slots``.

        Shapes
        ------
        slots    (series, rows, tables)
        returns  (series, heads, rows)
        """
        places = self._places(state, slots)
        level, spread = state.level[places], state.spread[places]
        met = np.isfinite(spread)
        mixed = np.where(met, level, 0)
        share = 1 / (1 + np.exp(-state.odds[..., None]))
        rival = np.isfinite(state.rival_spread[places]) & self.jumps[None, :, None]
        mixed = np.where(rival, mixed + share * (state.rival_level[places] - mixed), mixed)
        if len(self.slots) > 1:
            mixed = np.where(met | rival, mixed, mixed[:, self.coarse])
        return mixed.astype(np.float32)

    def learn(
        self, state: PhaseState, slots: Ints, values: Floats, write: npt.NDArray[np.bool_]
    ) -> Floats:
        """Write one row of each series into ``state``, in place.

        Parameters
        ----------
        slots
            (series, tables)
        values
            (series,)
        write
            (series,) False leaves a series as it is.

        Returns
        -------
        Squared error of every head before the row was written, (series, heads).
        """
        places = tuple(place[..., 0] for place in self._places(state, slots[:, None]))
        expected = self.read(state, slots[:, None])[..., 0]
        error = values[:, None] - expected
        noise = state.noise
        unmet = np.clip(1 / noise, 4, 100).astype(np.float32)
        chosen = write[:, None]

        own = self._correct(state.level, state.spread, places, values, unmet, noise, expected)
        if self.jumps.any():
            prior = np.zeros_like(expected)
            rival = self._correct(
                state.rival_level, state.rival_spread, places, values, unmet, noise, prior
            )
            self._weigh(state, own, rival, chosen & self.jumps, unmet)
            _put(state.rival_level, state.rival_spread, places, rival, chosen & self.jumps)
        _put(state.level, state.spread, places, own, chosen)
        self._exchange(state, chosen)

        settled = chosen & (own.gain < 0.6)
        state.visits += settled
        rate = settled * np.maximum(NOISE_RATE, 1 / (1 + state.visits))
        size = np.minimum(own.error**2 * (1 - own.gain), 9 * noise)
        state.noise += (rate * (size - noise)).astype(np.float32)
        np.clip(state.noise, 1e-6, 1e6, out=state.noise)
        return (error**2 * chosen).astype(np.float32)

    def _places(self, state: PhaseState, slots: Ints) -> tuple[Ints, Ints, Ints]:
        """Return the index of every slot in the tables."""
        series = np.arange(len(state.level))[:, None, None]
        return series, np.arange(self.heads)[None, :, None], slots.transpose(0, 2, 1)[:, self.table]

    def _correct(
        self,
        level: Floats,
        spread: Floats,
        places: tuple[Ints, ...],
        values: Floats,
        unmet: Floats,
        noise: Floats,
        prior: Floats,
    ) -> _Correction:
        """Return what one row makes of its slot."""
        old = spread[places]
        met = np.isfinite(old)
        before = np.where(met, level[places], prior)
        wide = np.where(met, old, unmet) + self.drift
        gain = wide / (wide + 1)
        error = values[:, None] - before
        bound = LARGEST_STEP * np.sqrt((wide + 1) * noise)
        after = before + gain * np.clip(error, -bound, bound)
        return _Correction(after, gain, gain, error, (wide + 1) * noise)

    def _weigh(
        self,
        state: PhaseState,
        own: _Correction,
        rival: _Correction,
        chosen: npt.NDArray[np.bool_],
        unmet: Floats,
    ) -> None:
        """Add a row's evidence to the odds; a rival that has none left begins anew."""
        evidence = own.surprise() - rival.surprise()
        expected = IMPLAUSIBLE * np.sqrt((unmet + 1) * state.noise)
        evidence = np.where(np.abs(rival.error) > expected, 0, evidence)
        state.odds += chosen * np.clip(evidence, -ROW_EVIDENCE, ROW_EVIDENCE)
        again = chosen & (state.odds <= FLOOR)
        state.odds[again] = FLOOR
        state.rival_spread[again] = np.inf

    def _exchange(self, state: PhaseState, chosen: npt.NDArray[np.bool_]) -> None:
        """Put a rival that has won in the other's place."""
        won = chosen & self.jumps & (state.odds > CEILING)
        if won.any():
            state.level[won] = state.rival_level[won]
            state.spread[won] = state.rival_spread[won]
            state.rival_spread[won] = np.inf
            state.odds[won] = FLOOR


@dataclass(frozen=True, slots=True)
class _Correction:
    """What one row makes of a slot of every head, (series, heads)."""

    level: Floats
    spread: Floats
    gain: Floats
    error: Floats
    variance: Floats
    """Of the row, as it was expected."""

    def surprise(self) -> Floats:
        """Return the negative log-likelihood of the row, but for a constant."""
        density: Floats = 0.5 * (self.error**2 / self.variance + np.log(self.variance))
        return density


def _put(
    level: Floats,
    spread: Floats,
    places: tuple[Ints, ...],
    new: _Correction,
    chosen: npt.NDArray[np.bool_],
) -> None:
    """Write corrected slots where ``chosen``."""
    level[places] = np.where(chosen, new.level, level[places])
    spread[places] = np.where(chosen, new.spread, spread[places])
