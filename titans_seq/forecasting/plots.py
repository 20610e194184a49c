"""Plots of forecasts with their intervals, beside the history and the actual values."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from titans_seq.exceptions import DataError, MissingExtraError
from titans_seq.files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_PANELS = 6
"""Series in one figure, unless they are named."""

_SHADES = (0.15, 0.3, 0.45)
"""Opacity of the intervals, from the widest in."""


def plot_forecast(
    history: pd.DataFrame,
    forecast: pd.DataFrame,
    path: str | os.PathLike[str] | None = None,
    *,
    actual: pd.DataFrame | None = None,
    id_col: str = "unique_id",
    time_col: str = "ds",
    target_col: str = "y",
    series: Sequence[object] | None = None,
    rows: int | None = None,
    title: str = "",
) -> Figure:
    """Draw the history of each series, its forecast and the intervals, one panel a series.

    Parameters
    ----------
    history
        Long frame of the rows before the forecast.
    forecast
        What ``TitansForecaster.predict`` returned.
    path
        File to write, ``.png``, ``.svg`` or ``.pdf``; None writes nothing.
    actual
        Long frame of the actual values, drawn beside the forecast.
    id_col, time_col, target_col
        Columns of the frames; a history without the id column is one series.
    series
        Ids to draw; None takes the first six.
    rows
        Rows of the history to show; None shows four times the horizon.
    title
        Heading of the figure.

    Raises
    ------
    DataError
        If a column is missing, the forecast is empty, or there is no such series.
    MissingExtraError
        If matplotlib is not installed.
    """
    for name, frame, columns in (
        ("history", history, (time_col, target_col)),
        ("forecast", forecast, (id_col, time_col, "y_pred")),
    ):
        for column in columns:
            if column not in frame.columns:
                raise DataError(f"plot_forecast: the {name} has no column {column!r}")
    if forecast.empty:
        raise DataError("plot_forecast: the forecast has no rows")
    names = _select_series(forecast[id_col], series)
    figure, panels = _panels(names)
    for axes, name in zip(panels, names, strict=True):
        ahead = forecast[forecast[id_col] == name]
        times = _times(ahead[time_col])
        past = _rows_of_series(history, name, id_col, time_col).tail(rows or 4 * len(ahead))
        axes.plot(_times(past[time_col]), past[target_col], color="0.2", lw=1.2, label="history")
        _draw_forecast(axes, times, ahead)
        if actual is not None:
            own = _rows_of_series(actual, name, id_col, time_col)
            own = own[_times(own[time_col]).isin(times)]
            axes.plot(_times(own[time_col]), own[target_col], color="0.2", ls="--", label="actual")
        axes.set_ylabel(target_col)
    _finish(figure, panels[0], title, path)
    return figure


def plot_backtest(
    forecasts: pd.DataFrame,
    path: str | os.PathLike[str] | None = None,
    *,
    id_col: str,
    time_col: str,
    series: Sequence[object] | None = None,
) -> Figure:
    """Draw the forecasts of a backtest over the actual values, one panel a series.

    Parameters
    ----------
    forecasts
        The frame ``forecasts`` of a :class:`titans_seq.forecasting.scores.backtest.Backtest`.
    path
        File to write, ``.png``, ``.svg`` or ``.pdf``; None writes nothing.
    id_col, time_col
        Columns of the frame.
    series
        Ids to draw; None takes the first six.

    Raises
    ------
    DataError
        If there is no such series.
    MissingExtraError
        If matplotlib is not installed.
    """
    names = _select_series(forecasts[id_col], series)
    figure, panels = _panels(names)
    for axes, name in zip(panels, names, strict=True):
        own = forecasts[forecasts[id_col] == name]
        actual = own.drop_duplicates(time_col).sort_values(time_col)
        axes.plot(_times(actual[time_col]), actual["y"], color="0.2", lw=1.2, label="actual")
        for number, (_, window) in enumerate(own.groupby("cutoff", sort=True)):
            times = _times(window[time_col])
            _draw_forecast(axes, times, window, labelled=number == 0)
            axes.axvline(times.iloc[0], color="0.7", lw=0.6, zorder=0)
    _finish(figure, panels[0], "", path)
    return figure


def _panels(names: Sequence[object]) -> tuple[Figure, Sequence[Axes]]:
    """Return a figure with one titled panel a series, one below the other.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", extra="forecasting") from error
    figure = Figure(figsize=(9, 0.8 + 2.4 * len(names)), layout="constrained")
    panels = list(figure.subplots(len(names), squeeze=False)[:, 0])
    for axes, name in zip(panels, names, strict=True):
        axes.set_title(str(name), loc="left", fontsize="medium")
        axes.margins(x=0.01)
        axes.tick_params(labelsize="small")
    return figure, panels


def _finish(figure: Figure, first: Axes, title: str, path: str | os.PathLike[str] | None) -> None:
    """Add legend and title, and write the figure to ``path`` unless it is None."""
    first.legend(loc="upper left", fontsize="small", ncols=4)
    figure.suptitle(title)
    if path is not None:
        with write_whole(Path(path)) as temporary:
            figure.savefig(temporary, dpi=130)


def _draw_forecast(
    axes: Axes, times: pd.Series, ahead: pd.DataFrame, *, labelled: bool = True
) -> None:
    """Draw a forecast over its intervals, the widest first."""
    for (low, high, percent), shade in zip(intervals(ahead), _SHADES, strict=False):
        axes.fill_between(
            times,
            np.asarray(ahead[low], dtype=float),
            np.asarray(ahead[high], dtype=float),
            color="tab:blue",
            alpha=shade,
            lw=0,
            label=f"{percent:.3g}% interval" if labelled else None,
        )
    label = "forecast" if labelled else None
    axes.plot(times, ahead["y_pred"], color="tab:blue", lw=1.6, label=label)


def intervals(forecast: pd.DataFrame) -> list[tuple[str, str, float]]:
    """Return the columns of each interval's bounds and its level in percent, widest first."""
    columns = [str(name) for name in forecast]
    bounds = [
        (name, f"y_pred-hi-{level}", float(level))
        for name in columns
        if name.startswith("y_pred-lo-") and (level := name.removeprefix("y_pred-lo-"))
    ]
    quantiles = sorted(
        (float(name.removeprefix("y_pred-q")), name)
        for name in columns
        if name.startswith("y_pred-q")
    )
    # Quantiles are paired from the outside in: the lowest with the highest, and so on.
    bounds += [
        (low, high, 100 * (top - bottom))
        for (bottom, low), (top, high) in zip(quantiles, quantiles[::-1], strict=True)
        if bottom < top
    ]
    return sorted(bounds, key=lambda interval: -interval[2])


def _select_series(column: pd.Series, series: Sequence[object] | None) -> list[Any]:
    """Return the ids to draw; text also selects an id that prints as this text.

    Raises
    ------
    DataError
        If there is no such series.
    """
    known = {str(name): name for name in column.unique()}
    if series is None:
        return list(known.values())[:_MOST_PANELS]
    for name in series:
        if str(name) not in known:
            available = ", ".join(list(known)[:10])
            raise DataError(f"plot: there is no series {name!r}; there are {available}")
    return [known[str(name)] for name in series]


def _rows_of_series(frame: pd.DataFrame, series: Any, id_col: str, time_col: str) -> pd.DataFrame:
    """Return the rows of one series in time order; all rows if there is no id column."""
    own = frame[frame[id_col] == series] if id_col in frame.columns else frame
    return own.iloc[np.argsort(_times(own[time_col]).to_numpy(), kind="stable")]


def _times(column: pd.Series) -> pd.Series:
    """Return times as numbers or time stamps, not text, so that they can be compared."""
    return column if pd.api.types.is_numeric_dtype(column) else pd.to_datetime(column)
