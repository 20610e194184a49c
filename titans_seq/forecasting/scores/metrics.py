"""How good forecasts are. Every function leaves out what is not known (NaN in ``actual``).

Arrays are (windows, horizon) unless a function says otherwise; quantiles carry the level as
their last axis.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from titans_seq.exceptions import DataError
from titans_seq.forecasting.tables.arrays import FloatArray

Values = npt.ArrayLike


def mse(actual: Values, forecast: Values) -> float:
    """Return the mean squared error, in squared units of the target."""
    error = _errors(actual, forecast)
    return float(np.mean(error**2))


def mae(actual: Values, forecast: Values) -> float:
    """Return the mean absolute error, in units of the target."""
    return float(np.mean(np.abs(_errors(actual, forecast))))


def smape(actual: Values, forecast: Values) -> float:
    """Return the symmetric mean absolute percentage error, 0 to 200 (M4's definition).

    A step where both are zero counts as no error.
    """
    came, expected = _known(actual, forecast)
    size = np.abs(came) + np.abs(expected)
    share = np.divide(np.abs(came - expected), size, out=np.zeros_like(size), where=size > 0)
    return float(200 * np.mean(share))


def mase(actual: Values, forecast: Values, history: Values, season: int = 1) -> float:
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
    steps = np.abs(past[season:] - past[:-season]) if len(past) > season else np.array([])
    scale = np.nanmean(steps) if np.isfinite(steps).any() else 0.0
    if not scale > 0:
        raise DataError(f"mase: the history must be longer than season={season}, and vary")
    return mae(actual, forecast) / float(scale)


def pinball(actual: Values, quantiles: Values, levels: Sequence[float]) -> float:
    """Return the pinball loss, averaged over the levels, in units of the target."""
    came, expected = _known_levels(actual, quantiles, levels)
    error = came[:, None] - expected
    level = np.asarray(levels)
    return float(np.maximum(level * error, (level - 1) * error).mean())


def weighted_quantile_loss(actual: Values, quantiles: Values, levels: Sequence[float]) -> float:
    """Return twice the pinball loss over the mean absolute target: no unit (GluonTS's WQL).

    Raises
    ------
    DataError
        If the target is zero throughout.
    """
    came, _ = _known_levels(actual, quantiles, levels)
    size = float(np.abs(came).mean())
    if not size > 0:
        raise DataError("weighted_quantile_loss: the target is zero throughout")
    return 2 * pinball(actual, quantiles, levels) / size


def coverage(actual: Values, low: Values, high: Values) -> float:
    """Return the share of the target that lies between two quantiles, their ends included."""
    came, below = _known(actual, low)
    _, above = _known(actual, high)
    return float(np.mean((came >= below) & (came <= above)))


def _known(actual: Values, forecast: Values) -> tuple[FloatArray, ...]:
    """Return target and forecast where the target is known.

    Raises
    ------
    DataError
        If the shapes differ, or nothing is known.
    """
    came = np.asarray(actual, dtype=np.float64)
    expected = np.asarray(forecast, dtype=np.float64)
    if came.shape != expected.shape:
        raise DataError(f"actual has the shape {came.shape}, the forecast {expected.shape}")
    known = ~np.isnan(came)
    if not known.any():
        raise DataError("nothing to score: no value of the target is known")
    return came[known], expected[known]


def _errors(actual: Values, forecast: Values) -> FloatArray:
    came, expected = _known(actual, forecast)
    return came - expected


def _known_levels(
    actual: Values, quantiles: Values, levels: Sequence[float]
) -> tuple[FloatArray, FloatArray]:
    """Return the target where it is known, (n,), and its quantiles, (n, levels)."""
    came = np.asarray(actual, dtype=np.float64)
    expected = np.asarray(quantiles, dtype=np.float64)
    if expected.shape != (*came.shape, len(levels)):
        raise DataError(
            f"quantiles have the shape {expected.shape}, not {(*came.shape, len(levels))}"
        )
    known = ~np.isnan(came)
    if not known.any():
        raise DataError("nothing to score: no value of the target is known")
    return came[known], expected[known]
