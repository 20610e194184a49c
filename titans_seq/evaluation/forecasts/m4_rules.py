"""How the M4 competition scores forecasts, and the simple methods it scores them against.

Errors and Naive 2 are those of the competition's own code (Makridakis, Spiliotis and
Assimakopoulos, International Journal of Forecasting 36, 2020): sMAPE in percent, MASE in units
of the seasonal naive error within the sample, OWA the mean of both over those of Naive 2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.signal import lfilter

from titans_seq.evaluation.scores.report import Metrics

Values = npt.NDArray[np.float64]

REFERENCE = "Naive 2"
"""Method that OWA is relative to."""

SURE = 1.645
"""Deviations of an autocorrelation beyond which a season is believed: 90%."""

FEWEST_SEASONS = 3
"""Seasons below which no season is looked for."""


def smape(actual: Values, forecast: Values) -> float:
    """Return the symmetric mean absolute percentage error of one series, 0 to 200."""
    return float(200 * np.mean(np.abs(actual - forecast) / (np.abs(actual) + np.abs(forecast))))


def mase(history: Values, actual: Values, forecast: Values, season: int) -> float:
    """Return the mean absolute error of one series over that of seasonal naive in its past."""
    scale = np.mean(np.abs(history[season:] - history[:-season]))
    return float(np.mean(np.abs(actual - forecast)) / scale)


def score_m4(histories: Sequence[Values], actual: Values, forecast: Values, season: int) -> Metrics:
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
    triples = list(zip(histories, actual, forecast, strict=True))
    return {
        "smape": float(np.mean([smape(came, told) for _, came, told in triples])),
        "mase": float(np.mean([mase(past, came, told, season) for past, came, told in triples])),
        "series": len(triples),
    }


def with_owa(scores: Metrics, reference: Metrics) -> Metrics:
    """Return scores with ``owa``: their mean, each over that of Naive 2."""
    owa = (scores["smape"] / reference["smape"] + scores["mase"] / reference["mase"]) / 2
    return {**scores, "owa": owa}


def score_m4_controls(
    histories: Sequence[Values], actual: Values, season: int
) -> dict[str, Metrics]:
    """Return the scores of simple methods, by their names."""
    horizon = actual.shape[1]
    methods: dict[str, Callable[[Values], Values]] = {
        REFERENCE: lambda past: naive2(past, horizon, season),
        "last value": lambda past: np.repeat(past[-1], horizon),
        "seasonal naive": lambda past: seasonal_naive(past, horizon, season),
        "Theta": lambda past: theta(past, horizon, season),
    }
    found = {
        name: score_m4(histories, actual, np.stack([tell(one) for one in histories]), season)
        for name, tell in methods.items()
    }
    return {name: with_owa(scores, found[REFERENCE]) for name, scores in found.items()}


def seasonal_naive(past: Values, horizon: int, season: int) -> Values:
    """Return the last season again and again."""
    return np.asarray(np.resize(past[-season:], horizon))


def naive2(past: Values, horizon: int, season: int) -> Values:
    """Return the last value without its season, the season put back where there is one."""
    level, ahead = without_season(past, horizon, season)
    return np.asarray(level[-1] * ahead)


def theta(past: Values, horizon: int, season: int) -> Values:
    """Return the mean of the trend line and of smoothed twice-bent values (Theta 0 and 2).

    Assimakopoulos and Nikolopoulos, International Journal of Forecasting 16 (2000); the season
    is taken off and put back as in Naive 2.
    """
    level, factors = without_season(past, horizon, season)
    times = np.arange(1, len(level) + 1, dtype=np.float64)
    slope, start = np.polyfit(times, level, 1)
    bent = 2 * level - (start + slope * times)
    ahead = len(level) + np.arange(1, horizon + 1)
    return np.asarray((start + slope * ahead + smoothed(bent)) / 2 * factors)


def smoothed(values: Values) -> float:
    """Return the level that simple exponential smoothing ends at, its rate by least squares."""

    def levels(rate: float) -> Values:
        # level[t] = rate * values[t] + (1 - rate) * level[t - 1], from the first value on
        kept: Values = lfilter([rate], [1, rate - 1], values, zi=[(1 - rate) * values[0]])[0]
        return kept

    def errors(rate: float) -> float:
        return float(np.sum((values[1:] - levels(rate)[:-1]) ** 2))

    rate = minimize_scalar(errors, bounds=(1e-4, 1 - 1e-4), method="bounded").x
    return float(levels(rate)[-1])


def without_season(past: Values, horizon: int, season: int) -> tuple[Values, Values]:
    """Return a series without its season, and the season's factors of the values to come."""
    if not is_seasonal(past, season):
        return past, np.ones(horizon)
    factors = seasonal_factors(past, season)
    return past / factors, np.resize(factors[-season:], horizon)


def is_seasonal(past: Values, season: int) -> bool:
    """Tell whether the autocorrelation at a season is beyond chance, by 90%."""
    if season == 1 or len(past) < FEWEST_SEASONS * season:
        return False
    centred = past - past.mean()
    whole = centred @ centred
    if not whole:
        return False
    known = np.array([centred[lag:] @ centred[:-lag] for lag in range(1, season + 1)]) / whole
    limit = SURE / np.sqrt(len(past)) * np.sqrt(1 + 2 * np.sum(known[:-1] ** 2))
    return bool(abs(known[-1]) > limit)


def seasonal_factors(past: Values, season: int) -> Values:
    """Return the factor of each value by classical decomposition: ratios to a moving mean."""
    weights = np.ones(season + 1 - season % 2)
    if season % 2 == 0:
        weights[[0, -1]] = 0.5
    trend = np.convolve(past, weights / season, mode="valid")
    edge = len(weights) // 2
    ratios = np.full(len(past), np.nan)
    ratios[edge : edge + len(trend)] = past[edge : edge + len(trend)] / trend
    figure = np.array([np.nanmean(ratios[place::season]) for place in range(season)])
    return np.resize(figure / figure.mean(), len(past))
