"""Seasons, and the seasonal naive forecast that others are compared with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from titans_seq.forecasting.predicting.distribution import normal_scores
from titans_seq.forecasting.tables.arrays import FloatArray, IntArray
from titans_seq.forecasting.tables.grid import DAY, TimeGrid

CALENDAR_SEASONS = {"M": 12, "Q": 4, "Y": 1, "W": 52, "B": 5}
"""Rows of a season by the first letter of the frequency, where steps vary in length or are
weeks."""

ROUNDING = 1e-10
"""Smaller changes between seasons, relative to the largest value, are rounding errors."""

MOST_SEASONS_BACK = 8
"""How many seasons to look back for a value that is not missing."""


def season_of(grid: TimeGrid) -> int:
    """Return the rows of a usual season: a day of shorter steps, a week of days, else a year.

    Whole-number times have none, which is 1.
    """
    if isinstance(grid.freq, int):
        return 1
    offset = pd.tseries.frequencies.to_offset(grid.freq)
    fixed = grid.fixed
    if fixed is not None and fixed < DAY:
        return DAY // fixed if DAY % fixed == 0 else 1
    if fixed is not None and not isinstance(offset, pd.offsets.Week):
        return 7 if fixed == DAY else 1
    return CALENDAR_SEASONS.get(offset.name[0], 1) if offset.n == 1 else 1


@dataclass(frozen=True, slots=True)
class SeasonalNaive:
    """Repeat the last season of one series.

    Its quantiles are normal; their deviation grows with the root of the seasons ahead
    (Hyndman and Athanasopoulos, Forecasting: Principles and Practice, 3rd edition, 5.5).
    """

    season: int
    """Rows of a season; 1 repeats the last value."""

    scale: float = np.nan
    """Mean absolute difference between seasons in the history: the unit of MASE."""

    deviation: float = np.nan
    """Root of the mean squared difference."""

    @classmethod
    def learn(cls, history: FloatArray, season: int) -> SeasonalNaive:
        """Measure the history of one series; NaN where a value is missing."""
        if len(history) <= season:
            season = 1
        change = history[season:] - history[:-season]
        change = change[np.isfinite(change)]
        if not len(change):
            return cls(season)
        scale, square = float(np.abs(change).mean()), float((change**2).mean())
        rounding = ROUNDING * float(np.nanmax(np.abs(history)))
        return cls(season, scale if scale > rounding else np.nan, square**0.5)

    def point(self, values: FloatArray, cutoffs: IntArray, horizon: int) -> FloatArray:
        """Return the forecast of each window, (windows, horizon).

        A missing value is taken from up to eight seasons before, else it is the last known one.

        Parameters
        ----------
        values
            The whole series, (rows,); of each window only rows before its cutoff are used.
        cutoffs
            Row of each window where its horizon begins.
        horizon
            Rows ahead.
        """
        rows = cutoffs[:, None] - self.season + np.arange(horizon) % self.season
        forecast = np.full(rows.shape, np.nan)
        for seasons in range(MOST_SEASONS_BACK):
            earlier = rows - seasons * self.season
            candidates = np.where(earlier >= 0, values[np.maximum(earlier, 0)], np.nan)
            forecast = np.where(np.isnan(forecast), candidates, forecast)
            if not np.isnan(forecast).any():
                return forecast
        last = pd.Series(values).ffill().to_numpy()[cutoffs - 1]
        return np.where(np.isnan(forecast), last[:, None], forecast)

    def quantiles(self, point: FloatArray, levels: tuple[float, ...]) -> FloatArray:
        """Return the quantiles around a point forecast, (windows, horizon, levels)."""
        seasons_ahead = 1 + np.arange(point.shape[1]) // self.season
        deviation = np.nan_to_num(self.deviation) * np.sqrt(seasons_ahead)
        quantiles: FloatArray = point[..., None] + deviation[:, None] * normal_scores(levels)
        return quantiles
