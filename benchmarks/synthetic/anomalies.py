"""Series with injected point and contextual anomalies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

DAY, WEEK = 24, 168

NOISE = 0.3
"""Standard deviation of the noise; that of the daily plus weekly pattern is about 1.4."""

POINT_SIZE = (5.0, 10.0)
"""Range of the size of a point anomaly, in standard deviations of the noise."""

MIN_CONTEXTUAL_SIZE = 6.0
"""Smallest distance of a contextual anomaly from the regular value, in the same unit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AnomalousSeries:
    """A series in which some rows are anomalies."""

    values: npt.NDArray[np.float64]
    point: npt.NDArray[np.bool_]
    """Rows with a value off by several standard deviations of the noise."""

    contextual: npt.NDArray[np.bool_]
    """Rows with the value of another hour: usual by itself, wrong at this time."""

    def frame(self) -> pd.DataFrame:
        """Return the series as a frame with one row an hour."""
        times = pd.date_range("2001-01-01", periods=len(self.values), freq="h")
        return pd.DataFrame({"ds": times, "y": self.values})


def anomalous_series(rows: int, test_begin: int, seed: int, share: float = 0.02) -> AnomalousSeries:
    """Draw a series with a daily and a weekly pattern, autocorrelated noise, and anomalies.

    Parameters
    ----------
    rows
        Length of the series.
    test_begin
        First row that may be an anomaly.
    seed
        Seed of everything random.
    share
        Share of the rows from ``test_begin`` on that each kind of anomaly takes.
    """
    generator = np.random.default_rng(seed)
    # A smooth day: three periods are smoothed so that the middle one has no border.
    day = np.convolve(np.tile(generator.standard_normal(DAY), 3), np.ones(4) / 2, "same")[
        DAY : 2 * DAY
    ]
    week = np.repeat(generator.standard_normal(7), DAY)
    hours = np.arange(rows)
    pattern = day[hours % DAY] + week[hours % WEEK]
    noise = np.zeros(rows)
    for row in range(1, rows):  # AR(1) with coefficient 0.5 and standard deviation NOISE
        noise[row] = 0.5 * noise[row - 1] + np.sqrt(0.75) * NOISE * generator.standard_normal()
    values = pattern + noise
    count = int(share * (rows - test_begin))
    anomalies = test_begin + generator.permutation(rows - test_begin)[: 2 * count]
    point, contextual = np.zeros(rows, bool), np.zeros(rows, bool)
    point[anomalies[:count]] = True
    size = generator.uniform(*POINT_SIZE, count) * generator.choice([-1, 1], count)
    values[anomalies[:count]] += NOISE * size
    for row in anomalies[count:]:
        week_pattern = pattern[:WEEK]
        distant = np.flatnonzero(np.abs(week_pattern - pattern[row]) >= MIN_CONTEXTUAL_SIZE * NOISE)
        if len(distant):
            values[row] = week_pattern[generator.choice(distant)] + noise[row]
            contextual[row] = True
    return AnomalousSeries(values=values, point=point, contextual=contextual)
