"""Made-up series of many kinds, drawn without end from a seed.

A kind is a small function that adds, multiplies and transforms the blocks of
:mod:`titans_seq.forecasting.pretraining.components`. Nothing is read from a file: a model that is
trained on these series alone has seen no benchmark.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from titans_seq.exceptions import ConfigError
from titans_seq.forecasting.pretraining import components as parts
from titans_seq.forecasting.pretraining.components import log_uniform, pick
from titans_seq.forecasting.tables.arrays import FloatArray

SeriesKind = Callable[[np.random.Generator, int, int], FloatArray]
"""``kind(rng, series, steps)``: values, (series, steps)."""


def _trend(rng: np.random.Generator, count: int, steps: int) -> FloatArray:
    """Return a slow movement of one sort a series, sized 0 to several seasons' amplitudes."""
    sorts = np.stack(
        [
            np.zeros((count, steps)),
            parts.piecewise_trend(rng, count, steps),
            parts.growth(rng, count, steps),
            parts.level_walk(rng, count, steps),
            parts.smooth_walk(rng, count, steps),
            parts.level_jumps(rng, count, steps),
        ]
    )
    chosen = sorts[rng.integers(len(sorts), size=count), np.arange(count)]
    sized: FloatArray = chosen * log_uniform(rng, count, 0.2, 6.0)
    return sized


def _seasons(rng: np.random.Generator, count: int, steps: int) -> FloatArray:
    """Return one season or two, whose amplitude may drift; a quarter of the series have none."""
    short, long = parts.drawn_periods(rng, count)
    first = parts.seasonal_shape(rng, count, steps, short)
    second = parts.seasonal_shape(rng, count, steps, long)
    share = np.where(long > short, rng.uniform(size=(count, 1)), 0.0)
    both = (1 - share) * first + share * second
    present = rng.uniform(size=(count, 1)) < 0.75
    seasons: FloatArray = present * both * parts.drifting_amplitude(rng, count, steps)
    return seasons


def additive(rng: np.random.Generator, count: int, steps: int) -> FloatArray:
    """Return trend + seasons + noise, the textbook's series."""
    level = log_uniform(rng, count, 0.02, 1.5)
    values = _trend(rng, count, steps) + _seasons(rng, count, steps)
    return (
        values + level * parts.noise(rng, count, steps) + level * parts.outliers(rng, count, steps)
    )


def multiplicative(rng: np.random.Generator, count: int, steps: int) -> FloatArray:
    """Return positive series whose seasons and noise grow with their level."""
    base = additive(rng, count, steps)
    spread = np.abs(base - base.mean(axis=1, keepdims=True)).max(axis=1, keepdims=True)
    values: FloatArray = np.exp(base / np.maximum(spread, 1e-9) * log_uniform(rng, count, 0.1, 1.5))
    return values


def counts(rng: np.random.Generator, count: int, steps: int) -> FloatArray:
    """Return whole numbers: Poisson, or with a variance above the mean (negative binomial)."""
    rate = multiplicative(rng, count, steps)
    mean = rate / rate.mean(axis=1, keepdims=True) * log_uniform(rng, count, 0.3, 300.0)
    over = pick(rng, count, [0.0, 0.0, 0.1, 0.5])
    shape = 1 / np.maximum(over, 1e-3)
    mixed = np.where(over > 0, mean * rng.gamma(shape, 1 / shape, (count, steps)), mean)
    return np.asarray(rng.poisson(np.clip(mixed, 0, 1e6)), dtype=np.float64)


def intermittent(rng: np.random.Generator, count: int, steps: int) -> FloatArray:
    """Return demand that is mostly 0: a value comes by chance, more likely in season."""
    season = _seasons(rng, count, steps)
    odds = np.log(log_uniform(rng, count, 0.03, 1.0)) + season
    arrives = rng.uniform(size=(count, steps)) < 1 / (1 + np.exp(-odds))
    sizes = 1 + rng.poisson(np.broadcast_to(log_uniform(rng, count, 0.2, 30.0), (count, steps)))
    return (arrives * sizes).astype(np.float64)


def gaussian(rng: np.random.Generator, count: int, steps: int) -> FloatArray:
    """Return sums of a smooth Gaussian process and noise."""
    level = log_uniform(rng, count, 0.01, 1.0)
    return parts.gaussian_process(rng, count, steps) + level * parts.noise(rng, count, steps)


def walking_season(rng: np.random.Generator, count: int, steps: int) -> FloatArray:
    """Return seasons whose slots walk by themselves, in noise: a long past shows their levels."""
    period = int(rng.choice([7, 12, 24, 24, 48, 96]))
    level = log_uniform(rng, count, 0.1, 1.5)
    values = parts.walking_slots(rng, count, steps, period)
    return values + level * parts.noise(rng, count, steps)


def events(rng: np.random.Generator, count: int, steps: int) -> FloatArray:
    """Return events that come back after a long time: what they look like must be remembered."""
    level = log_uniform(rng, count, 0.02, 0.5)
    values = parts.recurring_events(rng, count, steps) + level * parts.noise(rng, count, steps)
    slow = rng.uniform(size=(count, 1)) < 0.3
    return values + slow * _trend(rng, count, steps)


def regimes(rng: np.random.Generator, count: int, steps: int) -> FloatArray:
    """Return series that change between two ways of moving, and back."""
    return parts.alternating(rng, additive(rng, count, steps), additive(rng, count, steps))


def bounded(rng: np.random.Generator, count: int, steps: int) -> FloatArray:
    """Return series that stop at a floor or a ceiling: night hours without sun, full stores."""
    base = parts.standardised(additive(rng, count, steps))
    floor, ceiling = pick(rng, count, [-0.5, 0.0, -9.0]), pick(rng, count, [0.7, 9.0, 9.0])
    return np.clip(base, floor, ceiling)


SERIES_KINDS: Mapping[str, tuple[SeriesKind, float]] = {
    "additive": (additive, 0.30),
    "multiplicative": (multiplicative, 0.20),
    "counts": (counts, 0.07),
    "intermittent": (intermittent, 0.04),
    "gaussian": (gaussian, 0.08),
    "walking_season": (walking_season, 0.09),
    "events": (events, 0.10),
    "regimes": (regimes, 0.07),
    "bounded": (bounded, 0.05),
}
"""Kinds of series, and the share of each."""


class MadeSeries(NamedTuple):
    """A batch of made-up series."""

    values: npt.NDArray[np.float32]
    """(series, time); 0 where nothing was observed."""

    observed: npt.NDArray[np.bool_]
    """(series, time); False before a series begins and where a value is missing."""

    kinds: tuple[str, ...]
    """Kind of each series."""


class SeriesGenerator:
    """Draws batches of made-up series.

    Parameters
    ----------
    steps
        Steps of a series, at least 16.
    seed
        The same seed gives the same batches, in the same order.
    kinds
        Names of the kinds to draw, with their shares as in :data:`SERIES_KINDS`; all if left out.
    short
        Share of the series that begin late, up to three quarters into the batch.
    gaps
        Share of the series with missing stretches or single missing values.

    Raises
    ------
    ConfigError
        If a kind is unknown, or a number is out of its range.
    """

    def __init__(
        self,
        steps: int,
        *,
        seed: int = 0,
        kinds: tuple[str, ...] | None = None,
        short: float = 0.3,
        gaps: float = 0.15,
    ) -> None:
        unknown = set(kinds or ()) - set(SERIES_KINDS)
        if unknown:
            raise ConfigError(
                f"unknown kinds {sorted(unknown)}; there are {', '.join(SERIES_KINDS)}"
            )
        if steps < 16:
            raise ConfigError(f"steps must be at least 16, got {steps}")
        for name, share in (("short", short), ("gaps", gaps)):
            if not 0 <= share <= 1:
                raise ConfigError(f"{name} must be between 0 and 1, got {share}")
        self.steps = steps
        self.kinds = tuple(SERIES_KINDS) if kinds is None else kinds
        self.short, self.gaps = short, gaps
        self.rng = np.random.default_rng(seed)

    def draw(self, count: int) -> MadeSeries:
        """Return the next batch of ``count`` series."""
        shares = np.array([SERIES_KINDS[name][1] for name in self.kinds])
        drawn = self.rng.choice(len(self.kinds), size=count, p=shares / shares.sum())
        values = np.zeros((count, self.steps))
        for number, name in enumerate(self.kinds):
            rows = np.flatnonzero(drawn == number)
            if len(rows):
                values[rows] = SERIES_KINDS[name][0](self.rng, len(rows), self.steps)
        values = np.nan_to_num(self._shown(values), posinf=1e9, neginf=-1e9)
        observed = self._observed(count)
        kept = np.where(observed, values, 0.0).astype(np.float32)
        return MadeSeries(kept, observed, tuple(self.kinds[number] for number in drawn))

    def _shown(self, values: FloatArray) -> FloatArray:
        """Return some series upside down or back to front, and some rounded, as data are kept."""
        count = len(values)
        mirrored = self.rng.uniform(size=(count, 1)) < 0.1
        values = np.where(mirrored, -values, values)
        spread = np.maximum(values.std(axis=1, keepdims=True), 1e-9)
        grain = spread * pick(self.rng, count, [0, 0, 0, 0, 0.02, 0.2])
        rounded = np.round(values / np.maximum(grain, 1e-12)) * grain
        return np.where(grain > 0, rounded, values)

    def _observed(self, count: int) -> npt.NDArray[np.bool_]:
        """Return which values are there."""
        time = np.arange(self.steps)[None]
        late = self.rng.uniform(size=(count, 1)) < self.short
        begin = np.where(late, self.rng.integers(0, 3 * self.steps // 4, (count, 1)), 0)
        observed = time >= begin
        gappy = self.rng.uniform(size=(count, 1)) < self.gaps
        single = self.rng.uniform(size=observed.shape) < pick(self.rng, count, [0.0, 0.02, 0.2])
        first = self.rng.integers(0, self.steps, (count, 1))
        length = self.rng.integers(1, self.steps // 8 + 1, (count, 1))
        stretch = (time >= first) & (time < first + length)
        return observed & ~(gappy & (single | stretch))
