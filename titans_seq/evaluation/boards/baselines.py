"""Simple forecasts of a board's tasks: the seasonal naive one, and those of statsforecast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from titans_seq.evaluation.boards.records import BoardTask, NaiveIntervals
from titans_seq.evaluation.boards.scoring import BOARD_LEVELS
from titans_seq.evaluation.boards.windows import BoardWindow
from titans_seq.exceptions import MissingExtraError
from titans_seq.forecasting.tables.arrays import FloatArray

QuantileForecaster = Callable[[BoardTask, Sequence[BoardWindow]], FloatArray]
"""``forecast(task, windows)``: quantiles at ``BOARD_LEVELS``, (windows, horizon, levels)."""

STATISTICAL_MODELS = ("AutoETS", "AutoTheta", "AutoARIMA")
"""Models of statsforecast that :func:`statistical_forecaster` takes."""


def seasonal_naive_forecaster(intervals: NaiveIntervals) -> QuantileForecaster:
    """Return the seasonal naive forecast with a board's intervals."""

    def forecast(task: BoardTask, windows: Sequence[BoardWindow]) -> FloatArray:
        return np.stack(
            [
                seasonal_naive_quantiles(window.history, task.horizon, task.season, intervals)
                for window in windows
            ]
        )

    return forecast


def seasonal_naive_quantiles(
    history: FloatArray, horizon: int, season: int, intervals: NaiveIntervals
) -> FloatArray:
    """Return the quantiles of one seasonal naive forecast, (horizon, levels).

    Missing values are replaced by the last known one, as the boards do before they fit statistical
    models. The point repeats the last season, or the last value of a history shorter than that.
    """
    known = fill_forward(history)
    last_season = known[-season:] if len(known) >= season else known[-1:]
    point = np.resize(last_season, horizon)
    if intervals.kind == "none":
        return np.repeat(point[:, None], len(BOARD_LEVELS), axis=1)
    recent = known if intervals.rows is None else known[-intervals.rows :]
    errors = recent[season:] - recent[:-season]
    spread = np.sqrt(np.mean(errors**2)) if len(errors) else 0.0
    # The variance of a seasonal random walk grows by one step's with every season ahead.
    growth = np.sqrt(np.arange(horizon) // season + 1)
    quantiles: FloatArray = point[:, None] + spread * growth[:, None] * norm.ppf(BOARD_LEVELS)
    return quantiles


def fill_forward(history: FloatArray) -> FloatArray:
    """Return a history without gaps: each takes the value before it, those at the start the first.

    A history without any value becomes zeros.
    """
    known = np.flatnonzero(~np.isnan(history))
    if not len(known):
        return np.zeros_like(history)
    before = np.searchsorted(known, np.arange(len(history)), side="right") - 1
    filled: FloatArray = history[known[np.maximum(before, 0)]]
    return filled


def statistical_forecaster(model: str, workers: int = 1) -> QuantileForecaster:
    """Return a model of statsforecast, fitted to the history of each window by itself.

    Parameters
    ----------
    model
        One of :data:`STATISTICAL_MODELS`.
    workers
        Processes that share the series.

    Raises
    ------
    MissingExtraError
        If statsforecast is not installed.
    """
    try:
        from statsforecast import StatsForecast, models
    except ImportError as error:
        raise MissingExtraError("statsforecast", extra="boards") from error

    def forecast(task: BoardTask, windows: Sequence[BoardWindow]) -> FloatArray:
        fitted = StatsForecast(
            models=[getattr(models, model)(season_length=task.season)],
            freq=1, n_jobs=workers, fallback_model=models.SeasonalNaive(task.season),
        )  # fmt: skip
        widths = sorted({round(100 * abs(1 - 2 * level)) for level in BOARD_LEVELS} - {0})
        table = fitted.forecast(df=_long_frame(windows), h=task.horizon, level=widths)
        columns = [_column(model, level) for level in BOARD_LEVELS]
        values: FloatArray = table[columns].to_numpy(np.float64)
        return values.reshape(len(windows), task.horizon, len(BOARD_LEVELS))

    return forecast


def _column(model: str, level: float) -> str:
    """Return the column in which statsforecast puts a quantile."""
    if level == 0.5:
        return model
    return f"{model}-{'lo' if level < 0.5 else 'hi'}-{round(100 * abs(1 - 2 * level))}"


def _long_frame(windows: Sequence[BoardWindow]) -> Any:
    """Return the histories in long form, numbered in the order of the windows."""
    parts = []
    for number, window in enumerate(windows):
        values = fill_forward(window.history)
        parts.append(pd.DataFrame({"unique_id": number, "ds": np.arange(len(values)), "y": values}))
    return pd.concat(parts, ignore_index=True)
