"""Period detection for series without a calendar, and slots counted from a stream's first row."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from titans_seq.forecasting.tables.arrays import BoolArray, FloatArray

MAX_PERIOD = 2_048
"""Longest period in rows: each has a slot in the phase memory."""

MIN_CYCLES = 6
"""Cycles of a period that the training rows must hold."""

CANDIDATES = 12
"""Peaks of an autocorrelation that are examined, the most prominent first."""

CYCLES_BACK = 3
"""Earlier cycles whose mean a cycle is correlated with."""

MIN_AGREEMENT = 0.25
"""Correlation with the earlier cycles that a period needs, in the limit of many cycles."""

NEAR_BEST = 0.8
"""Share of the best agreement at which a shorter period is preferred."""

MIN_DIVISOR_SHARE = 0.5
"""Share of a period's agreement that a divisor of it needs, to be a table of its own."""

MIN_GAIN = 0.05
"""Gain in agreement that a multiple of the period needs (as a week over a day)."""


def find_periods(
    values: Float[Tensor, "series rows"], seen: Bool[Tensor, "series rows"]
) -> tuple[int, ...]:
    """Return the period that the series share, in rows, and a multiple or divisor of it if any.

    Peaks of the autocorrelation, of the rows and of their differences, are only candidates: trends
    and slow walks have such peaks by chance. A candidate is a period if rows, less the moving mean
    of one period, correlate with the same phase of the cycles before.
    """
    rows, known = values.double().numpy(), seen.numpy()
    longest = min(MAX_PERIOD, int(np.median(known.sum(1))) // MIN_CYCLES)
    if longest < 2:
        return ()
    both = known[:, 1:] & known[:, :-1]
    lags = {
        *_autocorrelation_peaks(rows, known, longest),
        *_autocorrelation_peaks(np.diff(rows) * both, both, longest),
    }
    agreement = {lag: _agreement(rows, known, lag) for lag in sorted(lags)}
    periods = {lag: r for lag, r in agreement.items() if r >= _min_agreement(rows, lag)}
    if not periods:
        return ()
    best = max(periods.values())
    shortest = next(lag for lag, r in periods.items() if r >= NEAR_BEST * best)
    # A trend shifts the autocorrelation peak of a smooth series: search the neighbourhood.
    margin = shortest // 16
    refined = {
        lag: _agreement(rows, known, lag)
        for lag in range(max(2, shortest - margin), min(longest, shortest + margin) + 1)
    }
    period = max(refined, key=refined.__getitem__)
    gains = {
        lag: _agreement(rows, known, lag) - refined[period]
        for lag in {period * round(lag / period) for lag in periods}
        if period < lag <= longest
    }
    gain = max(gains.values(), default=0.0)
    if gain >= MIN_GAIN:
        return period, min(lag for lag, value in gains.items() if value >= NEAR_BEST * gain)
    divisors = [
        lag
        for lag, r in periods.items()
        if lag < period and period % lag == 0 and r >= MIN_DIVISOR_SHARE * refined[period]
    ]
    return (max(divisors, key=periods.__getitem__), period) if divisors else (period,)


def counted_slots(
    counts: Int[Tensor, "series"], rows: int, periods: tuple[int, ...]
) -> Int[Tensor, "series rows tables"]:
    """Return the slots of the next ``rows`` rows of streams that have read ``counts`` rows."""
    positions = counts[:, None, None] + torch.arange(rows)[:, None]
    return positions % torch.tensor(periods, dtype=torch.int64)


def _autocorrelation_peaks(values: FloatArray, seen: BoolArray, longest: int) -> list[int]:
    """Return the lags of the most prominent peaks of the autocorrelation, summed over series."""
    centred = _detrended(values, seen, values.shape[1])
    width = values.shape[1] + longest + 2  # zero padding: no wrap-around up to the longest lag
    power = np.abs(np.fft.rfft(centred, n=width)) ** 2
    correlation = np.fft.irfft(power, n=width)[:, : longest + 2]
    correlation = (correlation / np.maximum(correlation[:, :1], 1e-12)).sum(0)
    prominence = correlation - np.minimum.accumulate(correlation)
    lags = np.arange(2, longest + 1)
    rising = correlation[lags] >= correlation[lags - 1]
    peaks = lags[rising & (correlation[lags] >= correlation[lags + 1])]
    return [int(lag) for lag in peaks[np.argsort(-prominence[peaks])][:CANDIDATES]]


def _min_agreement(values: FloatArray, period: int) -> float:
    """Return the correlation that a period needs: more where few cycles were seen."""
    cycles = values.shape[1] / period
    return MIN_AGREEMENT + float(1 / np.sqrt(cycles - CYCLES_BACK))


def _agreement(values: FloatArray, seen: BoolArray, period: int) -> float:
    """Return the correlation of rows with the same phase of the cycles before."""
    detrended = _detrended(values, seen, period)
    begin = CYCLES_BACK * period
    now = detrended[:, begin:]
    before = sum(
        detrended[:, begin - back * period : detrended.shape[1] - back * period]
        for back in range(1, 1 + CYCLES_BACK)
    )
    size = np.sqrt((now**2).sum() * np.square(before).sum())
    return float((now * before).sum() / max(size, 1e-12))


def _detrended(values: FloatArray, seen: BoolArray, width: int) -> FloatArray:
    """Return rows less the moving mean of the ``width`` rows around them; 0 where missing."""
    half, count = width // 2, values.shape[1]
    first = np.clip(np.arange(count) - half, 0, max(0, count - width))
    last = np.minimum(first + width, count)

    def window_sum(x: FloatArray) -> FloatArray:
        sums = np.pad(np.cumsum(x, axis=1), ((0, 0), (1, 0)))
        return np.asarray(sums[:, last] - sums[:, first])

    mean = window_sum(values * seen) / np.maximum(window_sum(seen.astype(np.float64)), 1)
    return np.asarray((values - mean) * seen)
