"""Result of a backtest: every forecast beside the actual value, and scores of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from titans_seq.forecasting.plots import plot_backtest
from titans_seq.forecasting.scores.metrics import pinball_losses, relative_errors
from titans_seq.forecasting.tables.arrays import FloatArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OURS = "titans-seq"
NAIVE = "seasonal naive"

SCORED_LEVELS = tuple(round(level, 2) for level in np.arange(1, 20) / 20)
"""Levels over which the pinball loss is averaged: 0.05 to 0.95."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Backtest:
    """Forecasts from several origins, with scores beside those of seasonal naive.

    Every table has a row for ``titans-seq`` and one for ``seasonal naive``; the columns are

    ``mse``, ``mae``
        In units of the target, squared or not.
    ``smape``
        0 to 200 (M4's definition).
    ``mase``
        Absolute error over that of seasonal naive on the rows before the first origin.
    ``crps``
        Twice the pinball loss averaged over the levels 0.05 to 0.95, which approximates the
        continuous ranked probability score; in units of the target.
    ``wql``
        The same, weighted: summed, and over the sum of the absolute target.
    ``coverage-80`` and so on
        Share of the values within the interval.
    """

    forecasts: pd.DataFrame
    """One row a series, origin and step: id, ``cutoff`` (time of the last row before the
    horizon), time, ``step`` (from 1), ``y`` (the actual value), ``y_pred``, the bounds of the
    levels, and ``naive``."""

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
        """Draw forecasts over the actual values, one panel a series.

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
        return plot_backtest(
            self.forecasts, path, id_col=self.id_col, time_col=self.time_col, series=series
        )

    def _scores(self, by: list[str]) -> pd.DataFrame:
        """Return mean errors by model and by the columns in ``by``."""
        groups = self.errors.groupby([*by, "model"], sort=False, observed=True)
        keys = (self.id_col, "cutoff", "step", "model")
        means = groups[[name for name in self.errors if name not in keys]].mean()
        means["wql"] = means["crps"] / means["size"].where(means["size"] > 0)
        order = ["mse", "mae", "smape", "mase", "crps", "wql"]
        return means[[*order, *(f"coverage-{level:g}" for level in self.levels)]]


def value_errors(
    actual: FloatArray, point: FloatArray, quantiles: FloatArray, scale: FloatArray
) -> dict[str, FloatArray]:
    """Return what each value contributes to each score, (n,) each.

    Parameters
    ----------
    actual, point
        Known targets, and the expected values; (n,).
    quantiles
        At :data:`SCORED_LEVELS` first; (n, levels).
    scale
        Unit of MASE, (n,).
    """
    error = actual - point
    losses = pinball_losses(actual, quantiles[:, : len(SCORED_LEVELS)], SCORED_LEVELS)
    return {
        "mse": error**2,
        "mae": np.abs(error),
        "smape": 200 * relative_errors(actual, point),
        "mase": np.abs(error) / scale,
        "crps": 2 * losses.mean(axis=1),
        "size": np.abs(actual),
    }
