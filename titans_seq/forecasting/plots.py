"""One picture of a forecast: what was, what is expected, and how sure that is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from titans_seq.exceptions import DataError, MissingExtraError
from titans_seq.files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
    rows: int | None = None,
    title: str = "",
) -> Figure:
    """Draw the history of each series, its forecast and the intervals, one panel a series.

    Parameters
    ----------
    history
        Long frame of what was seen.
    forecast
        What ``TitansForecaster.predict`` returned; the first six series of it are drawn.
    path
        File to write, ``.png``, ``.svg`` or ``.pdf``; None writes nothing.
    actual
        Long frame of what came, to be drawn beside the forecast.
    id_col, time_col, target_col
        Columns of the frames; a history without the id column is one series.
    rows
        Rows of the history to show; None shows four times the horizon.
    title
        Heading of the figure.

    Raises
    ------
    DataError
        If a column is missing, or the forecast is empty.
    MissingExtraError
        If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", extra="forecasting") from error
    for name, frame, columns in (
        ("history", history, (time_col, target_col)),
        ("forecast", forecast, (id_col, time_col, "y_pred")),
    ):
        for column in columns:
            if column not in frame.columns:
                raise DataError(f"plot_forecast: the {name} has no column {column!r}")
    if forecast.empty:
        raise DataError("plot_forecast: the forecast has no rows")
    names = list(forecast[id_col].unique()[:MOST_PANELS])
    figure = Figure(figsize=(9, 0.8 + 2.4 * len(names)), layout="constrained")
    panels = figure.subplots(len(names), squeeze=False)[:, 0]
    for axes, series in zip(panels, names, strict=True):
        ahead = forecast[forecast[id_col] == series]
        past = _one(history, series, id_col, time_col).tail(rows or 4 * len(ahead))
        _draw(axes, past, ahead, time_col, target_col)
        if actual is not None:
            came = _one(actual, series, id_col, time_col)
            came = came[_times(came[time_col]).isin(_times(ahead[time_col]))]
            axes.plot(_times(came[time_col]), came[target_col], color="0.2", ls="--", label="came")
        axes.set_title(str(series), loc="left", fontsize="medium")
        axes.set_ylabel(target_col)
    panels[0].legend(loc="upper left", fontsize="small", ncols=4)
    figure.suptitle(title)
    if path is not None:
        with write_whole(Path(path)) as temporary:
            figure.savefig(temporary, dpi=130)
    return figure


def _draw(
    axes: Axes, past: pd.DataFrame, ahead: pd.DataFrame, time_col: str, target_col: str
) -> None:
    """Draw one series."""
    times = _times(ahead[time_col])
    axes.plot(_times(past[time_col]), past[target_col], color="0.2", lw=1.2, label="history")
    levels = sorted(
        float(name.removeprefix("y_pred-q")) for name in ahead if str(name).startswith("y_pred-q")
    )
    pairs = [(low, high) for low, high in zip(levels, levels[::-1], strict=True) if low < high]
    for (low, high), shade in zip(pairs, SHADES, strict=False):
        axes.fill_between(
            times,
            np.asarray(ahead[f"y_pred-q{low:g}"], dtype=float),
            np.asarray(ahead[f"y_pred-q{high:g}"], dtype=float),
            color="tab:blue",
            alpha=shade,
            lw=0,
            label=f"{high - low:.0%} interval",
        )
    axes.plot(times, ahead["y_pred"], color="tab:blue", lw=1.6, label="expected")
    axes.margins(x=0.01)
    axes.tick_params(labelsize="small")


def _one(frame: pd.DataFrame, series: Any, id_col: str, time_col: str) -> pd.DataFrame:
    """Return the rows of one series in time order."""
    own = frame[frame[id_col] == series] if id_col in frame.columns else frame
    return own.iloc[np.argsort(_times(own[time_col]).to_numpy(), kind="stable")]


def _times(column: pd.Series) -> pd.Series:
    """Return times that can be drawn and compared."""
    return column if pd.api.types.is_numeric_dtype(column) else pd.to_datetime(column)
