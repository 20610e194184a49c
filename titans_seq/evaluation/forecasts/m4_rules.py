"""Scoring rules of the M4 competition, and the simple methods it compares with.

Errors and Naive 2 are those of the competition's code (Makridakis, Spiliotis and Assimakopoulos,
International Journal of Forecasting 36, 2020): sMAPE in percent, MASE in units of the seasonal
naive error within the sample, OWA the mean of both relative to those of Naive 2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.signal import lfilter

from titans_seq.evaluation.scores.report import Metrics
from titans_seq.forecasting.scores.metrics import mase, smape
from titans_seq.forecasting.scores.seasons import SeasonalNaive
from titans_seq.forecasting.tables.arrays import FloatArray

REFERENCE = "Naive 2"
"""Method that OWA is relative to."""

_SIGNIFICANCE = 1.645
"""Normal quantile of the 90% test of seasonality."""

_FEWEST_SEASONS = 3
"""Seasons below which a series is not tested for seasonality."""


def score_m4(
    histories: Sequence[FloatArray], actual: FloatArray, forecast: FloatArray, season: int
) -> Metrics:
    """Return ``smape`` and ``mase``, means over series.

    Parameters
    ----------
    histories
        Past of each series.
    actual, forecast
        (series, horizon).
    season
        Values of a season; 1 for none.
    """
    series = list(zip(histories, actual, forecast, strict=True))
    return {
        "smape": float(np.mean([smape(true, point) for _, true, point in series])),
        "mase": float(np.mean([mase(true, point, past, season) for past, true, point in series])),
        "series": len(series),
    }


def with_owa(scores: Metrics, reference: Metrics) -> Metrics:
    """Return scores with ``owa``: the mean of both, each relative to the reference."""
    owa = (scores["smape"] / reference["smape"] + scores["mase"] / reference["mase"]) / 2
    return {**scores, "owa": owa}


def score_m4_controls(
    histories: Sequence[FloatArray], actual: FloatArray, season: int
) -> dict[str, Metrics]:
    """Return the scores of simple methods, by name."""
    horizon = actual.shape[1]
    methods: dict[str, Callable[[FloatArray], FloatArray]] = {
        REFERENCE: lambda past: naive2(past, horizon, season),
        "last value": lambda past: _repeat_season(past, horizon, 1),
        "seasonal naive": lambda past: _repeat_season(past, horizon, season),
        "Theta": lambda past: theta(past, horizon, season),
    }
    scores = {
        name: score_m4(histories, actual, np.stack([method(past) for past in histories]), season)
        for name, method in methods.items()
    }
    return {name: with_owa(metrics, scores[REFERENCE]) for name, metrics in scores.items()}


def _repeat_season(past: FloatArray, horizon: int, season: int) -> FloatArray:
    """Return the seasonal naive forecast."""
    forecast: FloatArray = SeasonalNaive(season).point(past, np.array([len(past)]), horizon)[0]
    return forecast


def naive2(past: FloatArray, horizon: int, season: int) -> FloatArray:
    """Return the last value after seasonal adjustment, with the season put back."""
    level, future_factors = deseasonalised(past, horizon, season)
    return np.asarray(level[-1] * future_factors)


def theta(past: FloatArray, horizon: int, season: int) -> FloatArray:
    """Return the Theta forecast: the mean of the trend line and of the smoothed theta line of 2.

    Assimakopoulos and Nikolopoulos, International Journal of Forecasting 16 (2000); seasonal
    adjustment is that of Naive 2.
    """
    level, future_factors = deseasonalised(past, horizon, season)
    times = np.arange(1, len(level) + 1, dtype=np.float64)
    slope, start = np.polyfit(times, level, 1)
    # The theta line of 2 has twice the distance of the values to their trend.
    theta_line = 2 * level - (start + slope * times)
    ahead = len(level) + np.arange(1, horizon + 1)
    return np.asarray((start + slope * ahead + smoothed_level(theta_line)) / 2 * future_factors)


def smoothed_level(values: FloatArray) -> float:
    """Return the last level of simple exponential smoothing, its rate fitted by least squares."""

    def levels(rate: float) -> FloatArray:
        # level[t] = rate * values[t] + (1 - rate) * level[t - 1], from the first value on
        filtered: FloatArray = lfilter([rate], [1, rate - 1], values, zi=[(1 - rate) * values[0]])[
            0
        ]
        return filtered

    def squared_error(rate: float) -> float:
        return float(np.sum((values[1:] - levels(rate)[:-1]) ** 2))

    rate = minimize_scalar(squared_error, bounds=(1e-4, 1 - 1e-4), method="bounded").x
    return float(levels(rate)[-1])


def deseasonalised(past: FloatArray, horizon: int, season: int) -> tuple[FloatArray, FloatArray]:
    """Return the seasonally adjusted series, and the seasonal factors of the future values."""
    if not is_seasonal(past, season):
        return past, np.ones(horizon)
    factors = seasonal_factors(past, season)
    return past / factors, np.resize(factors[-season:], horizon)


def is_seasonal(past: FloatArray, season: int) -> bool:
    """Return whether the autocorrelation at a season is significant at 90%."""
    if season == 1 or len(past) < _FEWEST_SEASONS * season:
        return False
    centred = past - past.mean()
    variance = centred @ centred
    if not variance:
        return False
    lags = range(1, season + 1)
    correlations = np.array([centred[lag:] @ centred[:-lag] for lag in lags]) / variance
    # Bartlett's formula for the standard error, given the correlations at shorter lags.
    error = np.sqrt(1 + 2 * np.sum(correlations[:-1] ** 2))
    limit = _SIGNIFICANCE / np.sqrt(len(past)) * error
    return bool(abs(correlations[-1]) > limit)


def seasonal_factors(past: FloatArray, season: int) -> FloatArray:
    """Return the factor of each value by classical decomposition: ratios to a moving mean."""
    weights = np.ones(season + 1 - season % 2)
    if season % 2 == 0:
        weights[[0, -1]] = 0.5  # a centred window of an even season has half weights at its ends
    # A moving mean over a whole season removes it; it is undefined half a season at both ends.
    trend = np.convolve(past, weights / season, mode="valid")
    edge = len(weights) // 2
    ratios = np.full(len(past), np.nan)
    ratios[edge : edge + len(trend)] = past[edge : edge + len(trend)] / trend
    means = np.array([np.nanmean(ratios[phase::season]) for phase in range(season)])
    return np.resize(means / means.mean(), len(past))
