"""A distribution for every step, out of a few quantiles; everything here is on arrays.

Between two levels the value is linear in the *normal score* (the quantile of the standard normal
distribution at that level), and beyond the outermost ones it goes on at the same slope: of
normal quantiles this makes the normal distribution again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.special import ndtri

from titans_seq.exceptions import ConfigError
from titans_seq.forecasting.tables.arrays import FloatArray, IntArray

SMALLEST_SLOPE = 1e-9
"""Deviation of a step whose quantiles are all the same, in deviations of the series."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """Value of each step at some normal scores, rising."""

    knots: FloatArray
    """Normal scores, (knots,); at least two."""

    values: FloatArray
    """(windows, horizon, knots)."""

    @classmethod
    def of(cls, point: FloatArray, quantiles: FloatArray, levels: Sequence[float]) -> Distribution:
        """Return the distribution behind quantiles, (windows, horizon, levels).

        One level, or none, says nothing of the spread: it is then taken for 1, the deviation
        of a series on its own scale, and only a calibration makes it right.
        """
        if len(levels) > 1:
            return cls(normal_scores(levels), quantiles)
        middle = quantiles[..., 0] if levels else point
        score = float(normal_scores(levels)[0]) if levels else 0.0
        return cls(np.array([score, score + 1.0]), np.stack([middle, middle + 1.0], axis=-1))

    def at(self, scores: FloatArray) -> FloatArray:
        """Return the values at normal scores, (horizon, n) or (windows, horizon, n)."""
        wanted = np.broadcast_to(scores, (*self.values.shape[:2], scores.shape[-1]))
        return self._line(np.searchsorted(self.knots[1:-1], wanted), wanted)

    def scores(self, actual: FloatArray) -> FloatArray:
        """Return the normal score of each value, (windows, horizon); NaN stays NaN."""
        segment = (actual[..., None] > self.values[..., 1:-1]).sum(axis=-1)[..., None]
        low, slope = self._segment(segment)
        found: FloatArray = (self.knots[segment] + (actual[..., None] - low) / slope)[..., 0]
        return found

    def _line(self, segment: IntArray, scores: FloatArray) -> FloatArray:
        low, slope = self._segment(segment)
        found: FloatArray = low + (scores - self.knots[segment]) * slope
        return found

    def _segment(self, segment: IntArray) -> tuple[FloatArray, FloatArray]:
        """Return value at the beginning of a segment, and its slope."""
        low = np.take_along_axis(self.values, segment, axis=-1)
        high = np.take_along_axis(self.values, segment + 1, axis=-1)
        slope = (high - low) / np.diff(self.knots)[segment]
        return low, np.maximum(slope, SMALLEST_SLOPE)


@dataclass(frozen=True, slots=True)
class QuantileRequest:
    """What to tell of each step beside the expected value."""

    quantiles: tuple[float, ...] = ()
    """Rising, each between 0 and 1."""

    levels: tuple[float, ...] = ()
    """Intervals in percent, such as 80."""

    @classmethod
    def of(
        cls,
        quantiles: Sequence[float] | None,
        levels: Sequence[float] | None,
        default: Sequence[float],
    ) -> QuantileRequest:
        """Check what was asked for; without any wish it is the ``default`` quantiles.

        Raises
        ------
        ConfigError
            If a quantile does not lie between 0 and 1, or a level between 0 and 100.
        """
        if quantiles is None and levels is None:
            return cls(tuple(default))
        found = cls(_rising("quantiles", quantiles or ()), _rising("levels", levels or ()))
        if any(not 0 < one < 1 for one in found.quantiles):
            raise ConfigError(f"quantiles={quantiles}: give numbers between 0 and 1, like 0.9")
        if any(not 0 < one < 100 for one in found.levels):
            raise ConfigError(f"levels={levels}: give percents between 0 and 100, like 80")
        return found

    def columns(self) -> dict[str, float]:
        """Return the quantile that stands in each column of a forecast, by the column's name."""
        names = {f"y_pred-q{one:g}": one for one in self.quantiles}
        for level in self.levels:
            names[f"y_pred-lo-{level:g}"] = round(0.5 - level / 200, 12)
            names[f"y_pred-hi-{level:g}"] = round(0.5 + level / 200, 12)
        return names

    def all(self) -> tuple[float, ...]:
        """Return every quantile that some column needs, rising."""
        return tuple(sorted(set(self.columns().values())))


def normal_scores(levels: Sequence[float] | FloatArray) -> FloatArray:
    """Return the quantiles of the standard normal distribution."""
    scores: FloatArray = np.asarray(ndtri(np.asarray(levels, dtype=np.float64)))
    return scores


def _rising(name: str, given: Any) -> tuple[float, ...]:
    """Return numbers as a rising tuple."""
    try:
        numbers = tuple(sorted(float(one) for one in np.atleast_1d(given)))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name}={given!r}: give numbers") from error
    if any(low == high for low, high in pairwise(numbers)):
        raise ConfigError(f"{name}={given!r}: one of them stands there twice")
    return numbers
