"""What a backtest found: every forecast beside what came, and how good they were."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from titans_seq.forecasting.tables.arrays import FloatArray
from titans_seq.forecasting.tables.frames import ColumnRoles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OURS = "titans-seq"
NAIVE = "seasonal naive"

SCORED_LEVELS = tuple(round(level, 2) for level in np.arange(1, 20) / 20)
"""Levels over which the pinball loss is averaged: 0.05 to 0.95."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Backtest:
    """Forecasts from several origins, scored beside seasonal naive.

    Every table has a row for ``titans-seq`` and one for ``seasonal naive``; the columns are

    ``mse``, ``mae``
        In units of the target, squared or not.
    ``smape``
        0 to 200 (M4's definition).
    ``mase``
        Absolute error over that of seasonal naive on the rows before the first origin.
    ``crps``
        Twice the pinball loss averaged over the levels 0.05 to 0.95, which is the continuous
        ranked probability score as far as these levels show it; in units of the target.
    ``wql``
        The same, weighted: summed, and over the sum of the absolute target.
    ``coverage-80`` and so on
        Share of the values within the interval.
    """

    forecasts: pd.DataFrame
    """One row a series, origin and step: id, ``cutoff`` (time of the last row that was seen),
    time, ``step`` (from 1), ``y`` (what came), ``y_pred``, the bounds of the levels, and
    ``naive``."""

    season: int
    """Rows of the season that the naive forecast repeats."""

    levels: tuple[float, ...]
    """Intervals in percent."""

    seen_windows: int
    """Windows with rows that the forecaster was trained on: their errors are too low."""

    errors: pd.DataFrame
    """Errors of each model, a row a series, origin, step and model."""

    id_col: str
    time_col: str

    @property
    def windows(self) -> int:
        """Number of windows."""
        return len(self.forecasts[[self.id_col, "cutoff"]].drop_duplicates())

    def summary(self) -> pd.DataFrame:
        """Return the scores over everything, one row a model."""
        return self._scores([])

    def by_series(self) -> pd.DataFrame:
        """Return the scores of each series."""
        return self._scores([self.id_col])

    def by_horizon(self) -> pd.DataFrame:
        """Return the scores of each step ahead."""
        return self._scores(["step"])

    def by_cutoff(self) -> pd.DataFrame:
        """Return the scores of each origin."""
        return self._scores(["cutoff"])

    def plot(
        self, path: str | os.PathLike[str] | None = None, *, series: Sequence[object] | None = None
    ) -> Figure:
        """Draw forecasts over what came, one panel a series.

        Parameters
        ----------
        path
            File to write, ``.png``, ``.svg`` or ``.pdf``; None writes nothing.
        series
            Ids to draw; None takes the first six.

        Raises
        ------
        DataError
            If there is no such series.
        MissingExtraError
            If matplotlib is not installed.
        """
        from titans_seq.forecasting.plots import plot_backtest

        return plot_backtest(self, path, series=series)

    def _scores(self, by: list[str]) -> pd.DataFrame:
        """Return mean errors by model and whatever else is asked for."""
        groups = self.errors.groupby([*by, "model"], sort=False, observed=True)
        columns = [name for name in self.errors if name not in (self.id_col, "cutoff", "step")]
        sums = groups[[name for name in columns if name != "model"]].mean()
        sums["wql"] = sums["crps"] / sums["size"].where(sums["size"] > 0)
        order = ["mse", "mae", "smape", "mase", "crps", "wql"]
        return sums[[*order, *(f"coverage-{level:g}" for level in self.levels)]]


def collect(
    index: pd.DataFrame,
    values: dict[str, FloatArray],
    quantiles: dict[str, FloatArray],
    scale: FloatArray,
    *,
    bounds: dict[float, tuple[int, int]],
    columns: ColumnRoles,
    season: int,
    seen_windows: int,
) -> Backtest:
    """Return a backtest out of arrays, one entry a window and step where the target is known.

    Parameters
    ----------
    index
        Id, ``cutoff``, time and ``step``, in the order of the tables.
    values
        ``y``, and the expected values by model; (n,) each.
    quantiles
        By model, (n, levels): :data:`SCORED_LEVELS`, and behind them the bounds' own.
    scale
        Unit of MASE, (n,).
    bounds
        Places of the lower and the upper bound among the quantiles, by level in percent.
    columns
        Roles of the columns.
    season, seen_windows
        See :class:`Backtest`.
    """
    came = values["y"]
    forecasts = index.assign(y=came, y_pred=values[OURS])
    for level, (low, high) in bounds.items():
        forecasts[f"y_pred-lo-{level:g}"] = quantiles[OURS][:, low]
        forecasts[f"y_pred-hi-{level:g}"] = quantiles[OURS][:, high]
    forecasts["naive"] = values[NAIVE]
    keys = [columns.id, "cutoff", "step"]
    parts = []
    for model in (OURS, NAIVE):
        error = _errors(came, values[model], quantiles[model], scale)
        for level, (low, high) in bounds.items():
            inside = (quantiles[model][:, low] <= came) & (came <= quantiles[model][:, high])
            error[f"coverage-{level:g}"] = inside.astype(float)
        parts.append(index[keys].assign(model=model, **error))
    return Backtest(
        forecasts=forecasts,
        season=season,
        levels=tuple(bounds),
        seen_windows=seen_windows,
        errors=pd.concat(parts, ignore_index=True),
        id_col=columns.id,
        time_col=str(index.columns[2]),
    )


def _errors(
    came: FloatArray, point: FloatArray, quantiles: FloatArray, scale: FloatArray
) -> dict[str, FloatArray]:
    """Return what each value adds to each score."""
    error = came - point
    size = np.abs(came) + np.abs(point)
    share = np.divide(np.abs(error), size, out=np.zeros_like(size), where=size > 0)
    levels = np.asarray(SCORED_LEVELS)
    away = came[:, None] - quantiles[:, : len(levels)]
    return {
        "mse": error**2,
        "mae": np.abs(error),
        "smape": 200 * share,
        "mase": np.abs(error) / scale,
        "crps": 2 * np.maximum(levels * away, (levels - 1) * away).mean(axis=1),
        "size": np.abs(came),
    }
