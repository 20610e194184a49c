"""Distributions of every step, interpolated from a few quantiles.

Between two levels the value is linear in the *normal score* (the quantile of the standard normal
distribution at that level), and beyond the outermost ones it continues at the same slope: from
normal quantiles this gives the normal distribution again.
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
"""Smallest deviation of a step, in deviations of the series, where quantiles coincide."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """Values of each step at rising normal scores, linear between them."""

    knots: FloatArray
    """Normal scores, (knots,); at least two."""

    values: FloatArray
    """(windows, horizon, knots)."""

    @classmethod
    def of(cls, point: FloatArray, quantiles: FloatArray, levels: Sequence[float]) -> Distribution:
        """Return the distribution with the given quantiles, (windows, horizon, levels).

        With one level or none the spread is unknown: it is assumed to be 1, the deviation of a
        series on its own scale, and only a calibration corrects it.
        """
        if len(levels) > 1:
            return cls(normal_scores(levels), quantiles)
        middle = quantiles[..., 0] if levels else point
        score = float(normal_scores(levels)[0]) if levels else 0.0
        return cls(np.array([score, score + 1.0]), np.stack([middle, middle + 1.0], axis=-1))

    def at(self, scores: FloatArray) -> FloatArray:
        """Return the values at normal scores, (horizon, n) or (windows, horizon, n)."""
        scores = np.broadcast_to(scores, (*self.values.shape[:2], scores.shape[-1]))
        segment = np.searchsorted(self.knots[1:-1], scores)
        low, slope = self._segment(segment)
        values: FloatArray = low + (scores - self.knots[segment]) * slope
        return values

    def scores(self, actual: FloatArray) -> FloatArray:
        """Return the normal score of each value, (windows, horizon); NaN stays NaN."""
        segment = (actual[..., None] > self.values[..., 1:-1]).sum(axis=-1)[..., None]
        low, slope = self._segment(segment)
        scores: FloatArray = (self.knots[segment] + (actual[..., None] - low) / slope)[..., 0]
        return scores

    def _segment(self, segment: IntArray) -> tuple[FloatArray, FloatArray]:
        """Return the value at the lower knot of a segment, and the slope."""
        low = np.take_along_axis(self.values, segment, axis=-1)
        high = np.take_along_axis(self.values, segment + 1, axis=-1)
        slope = (high - low) / np.diff(self.knots)[segment]
        return low, np.maximum(slope, SMALLEST_SLOPE)


@dataclass(frozen=True, slots=True)
class QuantileRequest:
    """Quantiles and intervals to return beside the expected value."""

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
        """Check what a user asks for; None for both is the ``default`` quantiles.

        Raises
        ------
        ConfigError
            If a quantile does not lie between 0 and 1, or a level between 0 and 100.
        """
        if quantiles is None and levels is None:
            return cls(tuple(default))
        request = cls(_rising("quantiles", quantiles or ()), _rising("levels", levels or ()))
        if any(not 0 < quantile < 1 for quantile in request.quantiles):
            raise ConfigError(f"quantiles must lie between 0 and 1, like 0.9, got {quantiles}")
        if any(not 0 < level < 100 for level in request.levels):
            raise ConfigError(f"levels must be percents between 0 and 100, like 80, got {levels}")
        return request

    def columns(self) -> dict[str, float]:
        """Return the level of the quantile in each column of a forecast, by name."""
        names = {f"y_pred-q{quantile:g}": quantile for quantile in self.quantiles}
        for level in self.levels:
            names[f"y_pred-lo-{level:g}"] = round(0.5 - level / 200, 12)
            names[f"y_pred-hi-{level:g}"] = round(0.5 + level / 200, 12)
        return names

    def all(self) -> tuple[float, ...]:
        """Return the level of every quantile that a column needs, rising."""
        return tuple(sorted(set(self.columns().values())))


def normal_scores(levels: Sequence[float] | FloatArray) -> FloatArray:
    """Return the quantiles of the standard normal distribution."""
    scores: FloatArray = np.asarray(ndtri(np.asarray(levels, dtype=np.float64)))
    return scores


def _rising(name: str, given: Any) -> tuple[float, ...]:
    """Return numbers as a rising tuple."""
    try:
        numbers = tuple(sorted(float(number) for number in np.atleast_1d(given)))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name} must be numbers, got {given!r}") from error
    if any(low == high for low, high in pairwise(numbers)):
        raise ConfigError(f"{name} must differ from each other, got {given!r}")
    return numbers
