"""Scores of quantile forecasts, pooled as the boards pool them.

With ``y`` the value, ``q`` the quantile forecast of level ``tau``, and ``rho`` the pinball loss
``max(tau (y - q), (tau - 1) (y - q))``:

* **MASE**: mean absolute error of the median, divided by the in-sample mean absolute error of the
  seasonal naive forecast of that history; mean over windows.
* **SQL**: scaled quantile loss, ``2 rho`` divided by the same; mean over levels and windows.
* **WQL** (GIFT-Eval prints it as CRPS): ``2 rho`` summed over all values of the task, divided by
  the sum of ``|y|``; mean over levels.

Windows whose in-sample error is 0 are left out of MASE and SQL, missing values out of all.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from titans_seq.evaluation.boards.windows import BoardWindow
from titans_seq.exceptions import DataError
from titans_seq.forecasting.tables.arrays import FloatArray

BOARD_LEVELS = tuple(level / 10 for level in range(1, 10))
"""Levels of the quantiles that every board scores."""

_MEDIAN = BOARD_LEVELS.index(0.5)


def seasonal_error(history: FloatArray, season: int) -> float:
    """Return the in-sample mean absolute error of the seasonal naive forecast; NaN if none."""
    errors = np.abs(history[season:] - history[:-season])
    errors = errors[~np.isnan(errors)]
    return float(errors.mean()) if len(errors) else np.nan


def score_quantiles(
    windows: Sequence[BoardWindow], quantiles: FloatArray, season: int
) -> dict[str, float]:
    """Score the quantile forecasts of a task.

    Parameters
    ----------
    windows
        Windows of the task.
    quantiles
        Forecasts at :data:`BOARD_LEVELS`, (windows, horizon, levels).
    season
        Lag of the in-sample errors.

    Returns
    -------
    dict
        ``mase``, ``wql`` and ``sql``.

    Raises
    ------
    DataError
        If the forecasts have another shape, or one is not finite; the window is named.
    """
    actual = np.stack([window.actual for window in windows])
    if quantiles.shape != (*actual.shape, len(BOARD_LEVELS)):
        raise DataError(
            f"forecasts must have shape {(*actual.shape, len(BOARD_LEVELS))} (windows, horizon, "
            f"levels), got {quantiles.shape}"
        )
    finite = np.isfinite(quantiles).all(axis=(1, 2))
    if not finite.all():
        window = windows[int(np.argmin(finite))]
        raise DataError(f"series {window.series}, window {window.number}: a forecast is not finite")
    levels = np.array(BOARD_LEVELS)
    scales = np.array([seasonal_error(window.history, season) for window in windows])
    scales[scales == 0] = np.nan
    errors = actual[..., None] - quantiles  # (windows, horizon, levels)
    pinball = np.maximum(levels * errors, (levels - 1) * errors)
    absolute = np.abs(errors[..., _MEDIAN])
    total = np.nansum(np.abs(actual))
    return {
        "mase": float(np.nanmean(_window_means(absolute) / scales)),
        "wql": float((2 * np.nansum(pinball, axis=(0, 1)) / total).mean()) if total else np.nan,
        "sql": float(np.nanmean(_window_means(2 * pinball.mean(axis=2)) / scales)),
    }


def _window_means(values: FloatArray) -> FloatArray:
    """Return the mean of each row over the values that are there; NaN if none is."""
    known = ~np.isnan(values)
    count = known.sum(axis=1)
    sums = np.where(known, values, 0.0).sum(axis=1)
    means: FloatArray = np.where(count > 0, sums / np.maximum(count, 1), np.nan)
    return means
