"""Anomalies injected into a known series, and how well a score finds them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

DAY, WEEK = 24, 168

NOISE = 0.3
"""Deviation of the noise; that of the daily and weekly shape together is about 1.4."""

POINT_SIZE = (5.0, 10.0)
"""Deviations of the noise by which a point anomaly stands out."""

LEAST_CONTEXT = 6.0
"""Deviations of the noise between a contextual anomaly and what belongs there, at least."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class AnomalousSeries:
    """A series in which some rows are anomalies."""

    values: Floats
    point: npt.NDArray[np.bool_]
    """Rows with a value off by several deviations of the noise."""

    contextual: npt.NDArray[np.bool_]
    """Rows with a value that belongs to another hour: usual by itself, wrong where it is."""

    def frame(self) -> pd.DataFrame:
        """Return the series as a frame with one row an hour."""
        times = pd.date_range("2001-01-01", periods=len(self.values), freq="h")
        return pd.DataFrame({"ds": times, "y": self.values})


def anomalous_series(rows: int, test_begin: int, seed: int, share: float = 0.02) -> AnomalousSeries:
    """Draw a series with a daily and a weekly shape, noise that lasts, and anomalies.

    Parameters
    ----------
    rows
        Of the series.
    test_begin
        First row that may be an anomaly.
    seed
        Of everything.
    share
        Of the rows from there on, of either kind of anomaly.
    """
    source = np.random.default_rng(seed)
    day = np.convolve(np.tile(source.standard_normal(DAY), 3), np.ones(4) / 2, "same")[
        DAY : 2 * DAY
    ]
    week = np.repeat(source.standard_normal(7), DAY)
    hours = np.arange(rows)
    clean = day[hours % DAY] + week[hours % WEEK]
    noise = np.zeros(rows)
    for row in range(1, rows):
        noise[row] = 0.5 * noise[row - 1] + np.sqrt(0.75) * NOISE * source.standard_normal()
    values = clean + noise
    count = int(share * (rows - test_begin))
    chosen = test_begin + source.permutation(rows - test_begin)[: 2 * count]
    point, contextual = np.zeros(rows, bool), np.zeros(rows, bool)
    point[chosen[:count]] = True
    size = source.uniform(*POINT_SIZE, count) * source.choice([-1, 1], count)
    values[chosen[:count]] += NOISE * size
    for row in chosen[count:]:
        others = clean[:WEEK]
        far = np.flatnonzero(np.abs(others - clean[row]) >= LEAST_CONTEXT * NOISE)
        if len(far):
            values[row] = others[source.choice(far)] + noise[row]
            contextual[row] = True
    return AnomalousSeries(values=values, point=point, contextual=contextual)


def auroc(scores: Floats, positive: npt.NDArray[np.bool_]) -> float:
    """Return the chance that a positive scores above a negative; ties count half."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(positive, scores))
