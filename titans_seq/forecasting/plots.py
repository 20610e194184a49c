"""Pictures of forecasts: what was, what is expected, how sure that is, and what came."""

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

    from titans_seq.forecasting.scores.backtest import Backtest

MOST_PANELS = 6
"""Series in one picture."""

SHADES = (0.15, 0.3, 0.45)
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
        Long frame of what was seen.
    forecast
        What ``TitansForecaster.predict`` returned.
    path
        File to write, ``.png``, ``.svg`` or ``.pdf``; None writes nothing.
    actual
        Long frame of what came, to be drawn beside the forecast.
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
    names = _chosen(forecast[id_col], series)
    figure, panels = _panels(len(names))
    for axes, name in zip(panels, names, strict=True):
        ahead = forecast[forecast[id_col] == name]
        past = _one(history, name, id_col, time_col).tail(rows or 4 * len(ahead))
        _draw(axes, past, ahead, time_col, target_col)
        if actual is not None:
            came = _one(actual, name, id_col, time_col)
            came = came[_times(came[time_col]).isin(_times(ahead[time_col]))]
            axes.plot(_times(came[time_col]), came[target_col], color="0.2", ls="--", label="came")
        axes.set_title(str(name), loc="left", fontsize="medium")
        axes.set_ylabel(target_col)
    _finish(figure, panels[0], title, path)
    return figure


def plot_backtest(
    backtest: Backtest,
    path: str | os.PathLike[str] | None = None,
    *,
    series: Sequence[object] | None = None,
) -> Figure:
    """Draw the forecasts of a backtest over what came, one panel a series.

    Parameters
    ----------
    backtest
        What ``TitansForecaster.backtest`` returned.
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
    whole, id_col, time_col = backtest.forecasts, backtest.id_col, backtest.time_col
    names = _chosen(whole[id_col], series)
    figure, panels = _panels(len(names))
    for axes, name in zip(panels, names, strict=True):
        own = whole[whole[id_col] == name]
        came = own.drop_duplicates(time_col).sort_values(time_col)
        axes.plot(_times(came[time_col]), came["y"], color="0.2", lw=1.2, label="came")
        for turn, (_, one) in enumerate(own.groupby("cutoff", sort=True)):
            times = _times(one[time_col])
            _shade(axes, times, one, labelled=turn == 0)
            axes.plot(
                times,
                one["y_pred"],
                color="tab:blue",
                lw=1.6,
                label="expected" if turn == 0 else None,
            )
            axes.axvline(times.iloc[0], color="0.7", lw=0.6, zorder=0)
        axes.set_title(str(name), loc="left", fontsize="medium")
        axes.margins(x=0.01)
        axes.tick_params(labelsize="small")
    _finish(figure, panels[0], "", path)
    return figure


def _panels(count: int) -> tuple[Figure, Sequence[Axes]]:
    """Return a figure with panels one below the other.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", extra="forecasting") from error
    figure = Figure(figsize=(9, 0.8 + 2.4 * count), layout="constrained")
    return figure, list(figure.subplots(count, squeeze=False)[:, 0])


def _finish(figure: Figure, first: Axes, title: str, path: str | os.PathLike[str] | None) -> None:
    """Add legend and title, and write the figure if asked to."""
    first.legend(loc="upper left", fontsize="small", ncols=4)
    figure.suptitle(title)
    if path is not None:
        with write_whole(Path(path)) as temporary:
            figure.savefig(temporary, dpi=130)


def _draw(
    axes: Axes, past: pd.DataFrame, ahead: pd.DataFrame, time_col: str, target_col: str
) -> None:
    """Draw one series."""
    times = _times(ahead[time_col])
    axes.plot(_times(past[time_col]), past[target_col], color="0.2", lw=1.2, label="history")
    _shade(axes, times, ahead)
    axes.plot(times, ahead["y_pred"], color="tab:blue", lw=1.6, label="expected")
    axes.margins(x=0.01)
    axes.tick_params(labelsize="small")


def _shade(axes: Axes, times: pd.Series, ahead: pd.DataFrame, *, labelled: bool = True) -> None:
    """Draw the intervals of a forecast, the widest first."""
    for (low, high, share), shade in zip(intervals(ahead), SHADES, strict=False):
        axes.fill_between(
            times,
            np.asarray(ahead[low], dtype=float),
            np.asarray(ahead[high], dtype=float),
            color="tab:blue",
            alpha=shade,
            lw=0,
            label=f"{share:.3g}% interval" if labelled else None,
        )


def intervals(forecast: pd.DataFrame) -> list[tuple[str, str, float]]:
    """Return the columns that bound each interval, and how many percent it holds, widest first."""
    columns = [str(name) for name in forecast]
    found = [
        (name, f"y_pred-hi-{level}", float(level))
        for name in columns
        if name.startswith("y_pred-lo-") and (level := name.removeprefix("y_pred-lo-"))
    ]
    quantiles = sorted(
        (float(name.removeprefix("y_pred-q")), name)
        for name in columns
        if name.startswith("y_pred-q")
    )
    found += [
        (low, high, 100 * (top - bottom))
        for (bottom, low), (top, high) in zip(quantiles, quantiles[::-1], strict=True)
        if bottom < top
    ]
    return sorted(found, key=lambda one: -one[2])


def _chosen(column: pd.Series, series: Sequence[object] | None) -> list[Any]:
    """Return the ids to draw; text stands for an id of the same text.

    Raises
    ------
    DataError
        If there is no such series.
    """
    known = {str(name): name for name in column.unique()}
    if series is None:
        return list(known.values())[:MOST_PANELS]
    for name in series:
        if str(name) not in known:
            there = ", ".join(list(known)[:10])
            raise DataError(f"plot: there is no series {name!r}; there are {there}")
    return [known[str(name)] for name in series]


def _one(frame: pd.DataFrame, series: Any, id_col: str, time_col: str) -> pd.DataFrame:
    """Return the rows of one series in time order."""
    own = frame[frame[id_col] == series] if id_col in frame.columns else frame
    return own.iloc[np.argsort(_times(own[time_col]).to_numpy(), kind="stable")]


def _times(column: pd.Series) -> pd.Series:
    """Return times that can be drawn and compared."""
    return column if pd.api.types.is_numeric_dtype(column) else pd.to_datetime(column)
