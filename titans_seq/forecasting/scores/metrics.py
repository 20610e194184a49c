"""Metrics of point forecasts, quantiles and intervals.

Every metric leaves out missing targets (NaN in ``actual``). Arrays are (windows, horizon), or of
any one shape; quantiles carry the level as their last axis.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from titans_seq.exceptions import DataError
from titans_seq.forecasting.tables.arrays import FloatArray


def mse(actual: ArrayLike, forecast: ArrayLike) -> float:
    """Return the mean squared error, in squared units of the target."""
    target, point = _known(actual, forecast)
    return float(np.mean((target - point) ** 2))


def mae(actual: ArrayLike, forecast: ArrayLike) -> float:
    """Return the mean absolute error, in units of the target."""
    target, point = _known(actual, forecast)
    return float(np.mean(np.abs(target - point)))


def smape(actual: ArrayLike, forecast: ArrayLike) -> float:
    """Return the symmetric mean absolute percentage error, 0 to 200 (M4's definition).

    A step where both are zero counts as no error.
    """
    return float(200 * np.mean(relative_errors(*_known(actual, forecast))))


def mase(actual: ArrayLike, forecast: ArrayLike, history: ArrayLike, season: int = 1) -> float:
    """Return the mean absolute error in units of the seasonal naive forecast's on the history.

    Parameters
    ----------
    actual, forecast
        Of one series, any shape.
    history
        (time,) training rows of the same series.
    season
        Rows of a season; 1 compares with the last value.

    Raises
    ------
    DataError
        If the history does not vary, or is not longer than a season.
    """
    past = np.asarray(history, dtype=np.float64)
    changes = np.abs(past[season:] - past[:-season]) if len(past) > season else np.array([])
    scale = np.nanmean(changes) if np.isfinite(changes).any() else 0.0
    if not scale > 0:
        raise DataError(f"mase: the history must be longer than season={season}, and vary")
    return mae(actual, forecast) / float(scale)


def pinball(actual: ArrayLike, quantiles: ArrayLike, levels: Sequence[float]) -> float:
    """Return the pinball loss, averaged over the levels, in units of the target."""
    return float(pinball_losses(*_known_levels(actual, quantiles, levels), levels).mean())


def weighted_quantile_loss(
    actual: ArrayLike, quantiles: ArrayLike, levels: Sequence[float]
) -> float:
    """Return twice the pinball loss over the mean absolute target: no unit (GluonTS's WQL).

    Raises
    ------
    DataError
        If the target is zero throughout.
    """
    target, _ = _known_levels(actual, quantiles, levels)
    size = float(np.abs(target).mean())
    if not size > 0:
        raise DataError("weighted_quantile_loss: the target is zero throughout")
    return 2 * pinball(actual, quantiles, levels) / size


def coverage(actual: ArrayLike, low: ArrayLike, high: ArrayLike) -> float:
    """Return the share of the target that lies between two quantiles, their ends included."""
    target, below = _known(actual, low)
    _, above = _known(actual, high)
    return float(np.mean((target >= below) & (target <= above)))


def relative_errors(target: FloatArray, point: FloatArray) -> FloatArray:
    """Return each absolute error over the sum of both sizes, 0 to 1; 0 where both are zero."""
    size = np.abs(target) + np.abs(point)
    errors = np.zeros_like(size)
    np.divide(np.abs(target - point), size, out=errors, where=size > 0)
    return errors


def pinball_losses(
    target: FloatArray, quantiles: FloatArray, levels: Sequence[float]
) -> FloatArray:
    """Return the pinball loss of each target at each level, (n, levels)."""
    error = target[:, None] - quantiles
    level = np.asarray(levels)
    losses: FloatArray = np.maximum(level * error, (level - 1) * error)
    return losses


def _known(actual: ArrayLike, forecast: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return target and forecast where the target is known.

    Raises
    ------
    DataError
        If the shapes differ, or nothing is known.
    """
    target = np.asarray(actual, dtype=np.float64)
    point = np.asarray(forecast, dtype=np.float64)
    if target.shape != point.shape:
        raise DataError(f"actual has the shape {target.shape}, the forecast {point.shape}")
    known = ~np.isnan(target)
    if not known.any():
        raise DataError("nothing to score: every value of the target is missing")
    return target[known], point[known]


def _known_levels(
    actual: ArrayLike, quantiles: ArrayLike, levels: Sequence[float]
) -> tuple[FloatArray, FloatArray]:
    """Return the target where it is known, (n,), and its quantiles, (n, levels)."""
    target = np.asarray(actual, dtype=np.float64)
    values = np.asarray(quantiles, dtype=np.float64)
    expected = (*target.shape, len(levels))
    if values.shape != expected:
        raise DataError(f"quantiles have the shape {values.shape}, expected {expected}")
    known = ~np.isnan(target)
    _known(actual, np.zeros_like(target))
    return target[known], values[known]
