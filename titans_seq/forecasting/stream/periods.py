"""Cycles that no calendar tells: found in the training rows, counted from a stream's first row."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

LONGEST = 2_048
"""Rows of a cycle, at most: each has a slot in the phase memory."""

ROUNDS = 6
"""A cycle must go round this many times in the training rows."""

CANDIDATES = 12
"""Peaks of an autocorrelation that are looked at, the most prominent first."""

CYCLES_BACK = 3
"""Earlier cycles whose mean must agree with a cycle."""

LEAST_AGREEMENT = 0.25
"""Correlation with the earlier cycles from which on a cycle is one, if many were seen."""

NEARLY = 0.8
"""Share of the best agreement at which a shorter cycle is preferred."""

HALFWAY = 0.5
"""Share of a cycle's agreement at which one within it counts too."""

LEAST_GAIN = 0.05
"""By how much a cycle of cycles must agree better than the short one."""

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def find_periods(
    values: Float[Tensor, "series rows"], seen: Bool[Tensor, "series rows"]
) -> tuple[int, ...]:
    """Return the rows of the cycle that the series share, and of a cycle of such cycles if any.

    Peaks of the autocorrelation, of the rows and of their changes, are only candidates: trends
    and slow walks have such peaks by chance. A cycle is one if rows, less the mean of the cycle
    around them, agree with the same place of the cycles before.
    """
    rows, known = values.double().numpy(), seen.numpy()
    most = min(LONGEST, int(np.median(known.sum(1))) // ROUNDS)
    if most < 2:
        return ()
    both = known[:, 1:] & known[:, :-1]
    lags = {*_peaks(rows, known, most), *_peaks(np.diff(rows) * both, both, most)}
    agreement = {lag: _agreement(rows, known, lag) for lag in sorted(lags)}
    sure = {lag: found for lag, found in agreement.items() if found >= _least(rows, lag)}
    if not sure:
        return ()
    best = max(sure.values())
    near = next(lag for lag, found in sure.items() if found >= NEARLY * best)
    room = near // 16  # a trend moves the peak of a smooth series
    around = {
        lag: _agreement(rows, known, lag)
        for lag in range(max(2, near - room), min(most, near + room) + 1)
    }
    first = max(around, key=around.__getitem__)
    longer = {
        lag: _agreement(rows, known, lag) - around[first]
        for lag in {first * round(lag / first) for lag in sure}
        if first < lag <= most
    }
    gain = max(longer.values(), default=0.0)
    if gain >= LEAST_GAIN:
        return first, min(lag for lag, found in longer.items() if found >= NEARLY * gain)
    within = [
        lag
        for lag, found in sure.items()
        if lag < first and first % lag == 0 and found >= HALFWAY * around[first]
    ]
    return (max(within, key=sure.__getitem__), first) if within else (first,)


def counted_slots(
    counts: Int[Tensor, "series"], rows: int, periods: tuple[int, ...]
) -> Int[Tensor, "series rows tables"]:
    """Return the slots of the ``rows`` rows that follow the first ``counts`` of each stream."""
    places = counts[:, None, None] + torch.arange(rows)[:, None]
    return places % torch.tensor(periods, dtype=torch.int64)


def _peaks(values: Floats, seen: Flags, most: int) -> list[int]:
    """Return the lags, up to ``most``, at which the autocorrelation has its foremost peaks."""
    centred = _less(values, seen, values.shape[1])
    width = values.shape[1] + most + 2
    power = np.abs(np.fft.rfft(centred, n=width)) ** 2
    agree = np.fft.irfft(power, n=width)[:, : most + 2]
    agree = (agree / np.maximum(agree[:, :1], 1e-12)).sum(0)
    prominence = agree - np.minimum.accumulate(agree)
    lags = np.arange(2, most + 1)
    found = lags[(agree[lags] >= agree[lags - 1]) & (agree[lags] >= agree[lags + 1])]
    return [int(lag) for lag in found[np.argsort(-prominence[found])][:CANDIDATES]]


def _least(values: Floats, period: int) -> float:
    """Return the agreement from which on a cycle is one: more where few were seen."""
    cycles = values.shape[1] / period
    return LEAST_AGREEMENT + float(1 / np.sqrt(cycles - CYCLES_BACK))


def _agreement(values: Floats, seen: Flags, period: int) -> float:
    """Return the correlation of rows with the same place of the cycles before."""
    around = _less(values, seen, period)
    begin = CYCLES_BACK * period
    now = around[:, begin:]
    before = sum(
        around[:, begin - back * period : around.shape[1] - back * period]
        for back in range(1, 1 + CYCLES_BACK)
    )
    size = np.sqrt((now**2).sum() * np.square(before).sum())
    return float((now * before).sum() / max(size, 1e-12))


def _less(values: Floats, seen: Flags, width: int) -> Floats:
    """Return rows less the mean of the ``width`` rows around them; 0 where missing."""
    half, count = width // 2, values.shape[1]
    first = np.clip(np.arange(count) - half, 0, max(0, count - width))
    last = np.minimum(first + width, count)

    def total(x: Floats) -> Floats:
        sums = np.pad(np.cumsum(x, axis=1), ((0, 0), (1, 0)))
        return np.asarray(sums[:, last] - sums[:, first])

    mean = total(values * seen) / np.maximum(total(seen.astype(np.float64)), 1)
    return np.asarray((values - mean) * seen)
