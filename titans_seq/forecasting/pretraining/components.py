"""Building blocks of made-up series, each drawn for many series at once.

A function takes a numpy generator, how many series and how many steps, and returns
(series, time); unless it says otherwise, values are of the order of 1. Random settings, such as
slopes or periods, are drawn for each series by itself.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

from titans_seq.forecasting.tables.arrays import FloatArray

CALENDAR_PERIODS: tuple[tuple[int, ...], ...] = (
    (4,), (5,), (7,), (12,), (12,), (13,), (24,), (24, 168), (48, 336), (52,), (60,), (96, 672),
    (144, 1008), (288,), (7, 365), (5, 260),
)  # fmt: skip
"""Seasons that data have: quarters, weekdays, months, hours, half hours, weeks, quarters of an
hour, ten and five minutes, days; two where a longer season goes with a shorter one."""

_HARMONICS = 8
_LONGEST_TEMPLATE = 1024


def pick(rng: np.random.Generator, count: int, choices: npt.ArrayLike) -> FloatArray:
    """Return one of ``choices`` for each series, (series, 1)."""
    return rng.choice(np.asarray(choices, dtype=np.float64), size=(count, 1))


def log_uniform(rng: np.random.Generator, count: int, low: float, high: float) -> FloatArray:
    """Return positive numbers whose logarithm is uniform, (series, 1)."""
    return np.exp(rng.uniform(np.log(low), np.log(high), size=(count, 1)))


def standardised(values: FloatArray) -> FloatArray:
    """Return each series around 0 with a standard deviation of 1; constant ones become 0."""
    centred = values - values.mean(axis=1, keepdims=True)
    deviation = centred.std(axis=1, keepdims=True)
    scaled: FloatArray = centred / np.where(deviation > 1e-9, deviation, 1.0)
    return scaled


def piecewise_trend(rng: np.random.Generator, count: int, steps: int, knees: int = 3) -> FloatArray:
    """Return straight lines that change their slope at up to ``knees`` random steps."""
    time = np.arange(steps)[None] / steps
    trend = rng.normal(size=(count, 1)) * time
    for _ in range(knees):
        knee = rng.uniform(size=(count, 1))
        change = rng.normal(size=(count, 1)) * (rng.uniform(size=(count, 1)) < 0.3)
        trend = trend + change * np.maximum(0.0, time - knee)
    return trend


def growth(rng: np.random.Generator, count: int, steps: int) -> FloatArray:
    """Return curves that saturate: logistic and exponential approaches to a level of 1 or -1."""
    time = np.arange(steps)[None] / steps
    middle, pace = rng.uniform(-0.2, 1.0, (count, 1)), log_uniform(rng, count, 3.0, 40.0)
    curve = 1 / (1 + np.exp(-np.clip(pace * (time - middle), -50, 50)))
    return rng.choice([-1.0, 1.0], size=(count, 1)) * curve


def level_walk(rng: np.random.Generator, count: int, steps: int) -> FloatArray:
    """Return random walks that end about 1 away from 0."""
    walk: FloatArray = np.cumsum(rng.normal(size=(count, steps)), axis=1) / np.sqrt(steps)
    return walk


def smooth_walk(rng: np.random.Generator, count: int, steps: int) -> FloatArray:
    """Return walks whose slope is a slowly forgetting random walk: trends that turn."""
    forgetting = 1 - log_uniform(rng, count, 0.01, 0.2)
    slope = autoregression(rng.normal(size=(count, steps)), forgetting)
    return standardised(np.cumsum(slope, axis=1))


def level_jumps(rng: np.random.Generator, count: int, steps: int) -> FloatArray:
    """Return levels that stay until they jump, at random steps and by heavy-tailed sizes."""
    rate = log_uniform(rng, count, 0.3 / steps, 8 / steps)
    jumps = rng.standard_t(3, size=(count, steps)) * (rng.uniform(size=(count, steps)) < rate)
    levels: FloatArray = np.cumsum(jumps, axis=1)
    return levels


def autoregression(innovations: FloatArray, coefficient: FloatArray) -> FloatArray:
    """Return ``x[t] = coefficient x[t - 1] + innovation[t]``, for a coefficient a series."""
    filtered = [
        lfilter([1.0], [1.0, -float(own)], row)
        for own, row in zip(coefficient[:, 0], innovations, strict=True)
    ]
    return np.stack(filtered)


def noise(rng: np.random.Generator, count: int, steps: int) -> FloatArray:
    """Return noise of unit variance, white or autoregressive, normal or heavy-tailed.

    A fifth of the series have a variance that wanders.
    """
    heavy = rng.uniform(size=(count, 1)) < 0.2
    innovations = np.where(
        heavy, rng.standard_t(3, size=(count, steps)) / np.sqrt(3), rng.normal(size=(count, steps))
    )
    wandering = rng.uniform(size=(count, 1)) < 0.2
    log_deviation = autoregression(0.3 * rng.normal(size=(count, steps)), pick(rng, count, [0.97]))
    innovations = np.where(wandering, innovations * np.exp(log_deviation), innovations)
    coefficient = pick(rng, count, [0, 0, 0, 0.3, 0.6, 0.9, -0.4])
    return standardised(autoregression(innovations, coefficient))


def seasonal_shape(
    rng: np.random.Generator, count: int, steps: int, period: FloatArray
) -> FloatArray:
    """Return a shape that repeats with ``period`` (series, 1), which need not be whole.

    Two thirds are sums of harmonics, smooth to spiky; the rest are rough: a random value for each
    slot of the season, as calendars and timetables make them.
    """
    phase = np.arange(steps)[None] / period + rng.uniform(size=(count, 1))
    smooth = np.zeros((count, steps))
    decay = rng.uniform(0.3, 2.0, (count, 1))
    for harmonic in range(1, _HARMONICS + 1):
        size = rng.normal(size=(count, 1)) / harmonic**decay * (2 * harmonic <= period)
        angle = rng.uniform(0, 2 * np.pi, (count, 1))
        smooth += size * np.sin(2 * np.pi * harmonic * phase + angle)
    slots = np.clip(np.round(period), 2, _LONGEST_TEMPLATE).astype(np.int64)
    templates = rng.normal(size=(count, int(slots.max())))
    rough = np.take_along_axis(templates, np.arange(steps)[None] % slots, axis=1)
    return standardised(np.where(rng.uniform(size=(count, 1)) < 2 / 3, smooth, rough))


def drawn_periods(rng: np.random.Generator, count: int) -> tuple[FloatArray, FloatArray]:
    """Return a shorter and a longer season for each series, (series, 1) each.

    They are equal where there is one. A tenth of the series have a season of any length instead of
    a calendar's.
    """
    pairs = [CALENDAR_PERIODS[index] for index in rng.integers(len(CALENDAR_PERIODS), size=count)]
    short = np.array([[pair[0]] for pair in pairs], dtype=np.float64)
    long = np.array([[pair[-1]] for pair in pairs], dtype=np.float64)
    odd = rng.uniform(size=(count, 1)) < 0.1
    short = np.where(odd, log_uniform(rng, count, 3.0, 200.0), short)
    return short, np.where(odd, short, long)


def drifting_amplitude(rng: np.random.Generator, count: int, steps: int) -> FloatArray:
    """Return positive factors that stay near 1, or wander, half of them hardly."""
    size = pick(rng, count, [0.0, 0.0, 0.3, 1.0])
    return np.exp(np.clip(size * level_walk(rng, count, steps), -2, 2))


def walking_slots(rng: np.random.Generator, count: int, steps: int, period: int) -> FloatArray:
    """Return seasons whose every slot has a level of its own, which walks from season to season.

    The best forecast of a slot is a Kalman filter of all its past values.
    """
    seasons = -(-steps // period)
    pace = log_uniform(rng, count, 0.02, 0.6)[:, :, None]
    moves = rng.normal(size=(count, seasons, period)) * pace
    moves[:, 0] = rng.normal(size=(count, period)) * rng.uniform(0.5, 2.0, (count, 1))
    walked: FloatArray = np.cumsum(moves, axis=1).reshape(count, -1)[:, :steps]
    return walked


def recurring_events(
    rng: np.random.Generator, count: int, steps: int, kinds: int = 6
) -> FloatArray:
    """Return events of a few kinds that come back after others, at irregular steps.

    Each series has templates of its own, 8 to 64 steps long; its own past is all that says how an
    event goes on once it has begun.
    """
    events = np.zeros((count, steps))
    for row in events:
        length, quiet = int(rng.integers(8, 65)), int(rng.integers(1, 33))
        templates = rng.normal(size=(kinds, length))
        if rng.uniform() < 0.5:  # smooth events as well as rough ones
            templates = np.cumsum(templates, axis=1) / np.sqrt(length / 2)
        order: list[int] = []
        begin = int(rng.integers(0, quiet + 1))
        while begin < steps:
            rested = [kind for kind in range(kinds) if kind not in order[-kinds // 2 :]]
            order.append(rested[rng.integers(len(rested))])
            part = row[begin : begin + length]
            part += templates[order[-1], : len(part)]
            begin += length + int(rng.integers(0, quiet + 1))
    return events


def gaussian_process(
    rng: np.random.Generator, count: int, steps: int, features: int = 24
) -> FloatArray:
    """Return draws from Gaussian processes, by random Fourier features (Rahimi and Recht, 2007).

    The spectral density is normal (a squared-exponential kernel), Student's t with 3 degrees of
    freedom (Matern 3/2), or normal around a frequency (a quasi-periodic kernel).
    """
    length = log_uniform(rng, count, 0.01, 0.5)[:, :, None] * steps
    frequency = rng.normal(size=(count, 1, features))
    matern = rng.uniform(size=(count, 1, 1)) < 1 / 3
    frequency = np.where(matern, rng.standard_t(3, size=frequency.shape), frequency) / length
    around = rng.uniform(size=(count, 1, 1)) < 1 / 3
    frequency += np.where(around, 2 * np.pi / log_uniform(rng, count, 4, 200)[:, :, None], 0.0)
    angle = rng.uniform(0, 2 * np.pi, (count, 1, features))
    time = np.arange(steps)[None, :, None]
    waves: FloatArray = np.cos(frequency * time + angle).mean(axis=2) * np.sqrt(2 * features)
    return waves


def alternating(rng: np.random.Generator, first: FloatArray, second: FloatArray) -> FloatArray:
    """Return series that follow ``first`` or ``second``, changing at random steps: regimes."""
    count, steps = first.shape
    rate = log_uniform(rng, count, 1 / steps, 6 / steps)
    changes = np.cumsum(rng.uniform(size=(count, steps)) < rate, axis=1)
    return np.where((changes + rng.integers(0, 2, (count, 1))) % 2 == 0, first, second)


def outliers(rng: np.random.Generator, count: int, steps: int) -> FloatArray:
    """Return rare single values, far from 0; most series have none."""
    rate = pick(rng, count, [0, 0, 0, 0.002, 0.01])
    hit = rng.uniform(size=(count, steps)) < rate
    return np.where(hit, 5 * rng.standard_t(2, size=(count, steps)).clip(-20, 20), 0.0)
