"""Regression metrics with 95% bootstrap intervals: R², correlations, RMSE and MAE."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import stats

from titans_seq.evaluation.scores.intervals import percentile_interval
from titans_seq.evaluation.scores.report import Metrics
from titans_seq.exceptions import DataError

_SAMPLES = 400
"""Bootstrap samples."""

_FEWEST_ROWS = 3


def score_values(actual: npt.ArrayLike, predicted: npt.ArrayLike) -> Metrics:
    """Score predicted values against true ones.

    Returns
    -------
    Metrics
        ``r2`` (coefficient of determination), ``pearson``, ``spearman``, ``rmse`` and ``mae``
        (in units of the values), each with its 95% interval, ``..._low`` and ``..._high``; and
        ``records``. Rows without a prediction (NaN) are skipped.

    Raises
    ------
    DataError
        If lengths differ, or fewer than three rows have a prediction.
    """
    truth = np.asarray(actual, dtype=np.float64)
    forecast = np.asarray(predicted, dtype=np.float64)
    if truth.shape != forecast.shape or truth.ndim != 1:
        raise DataError(
            f"actual values of shape {truth.shape} do not match predictions of shape "
            f"{forecast.shape}; both must have one dimension and the same length"
        )
    truth, forecast = truth[np.isfinite(forecast)], forecast[np.isfinite(forecast)]
    if len(truth) < _FEWEST_ROWS:
        raise DataError(
            f"at least {_FEWEST_ROWS} rows with a prediction are required, got {len(truth)}"
        )
    # The same samples for all metrics, so that their intervals are comparable.
    generator = np.random.default_rng(0)
    samples = [generator.integers(0, len(truth), len(truth)) for _ in range(_SAMPLES)]
    scores: Metrics = {}
    for name, metric in _METRICS.items():
        scores[name] = metric(truth, forecast)
        resampled = [metric(truth[rows], forecast[rows]) for rows in samples]
        low, high = percentile_interval(np.array(resampled))
        scores |= {f"{name}_low": low, f"{name}_high": high}
    return scores | {"records": len(truth)}


_Values = npt.NDArray[np.float64]


def _r2(truth: _Values, forecast: _Values) -> float:
    variation = float(((truth - truth.mean()) ** 2).sum())
    return 1 - float(((truth - forecast) ** 2).sum()) / variation if variation else float("nan")


def _pearson(truth: _Values, forecast: _Values) -> float:
    if not truth.std() or not forecast.std():
        return float("nan")
    return float(np.corrcoef(truth, forecast)[0, 1])


def _spearman(truth: _Values, forecast: _Values) -> float:
    return _pearson(stats.rankdata(truth), stats.rankdata(forecast))


_METRICS: dict[str, Callable[[_Values, _Values], float]] = {
    "r2": _r2,
    "pearson": _pearson,
    "spearman": _spearman,
    "rmse": lambda truth, forecast: float(((truth - forecast) ** 2).mean() ** 0.5),
    "mae": lambda truth, forecast: float(np.abs(truth - forecast).mean()),
}
