"""Forecasts in real units, as arrays and as frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from titans_seq.forecasting.learning.forecasts import RawForecasts
from titans_seq.forecasting.learning.windows import WindowIndex, index_windows
from titans_seq.forecasting.tables.arrays import FloatArray
from titans_seq.forecasting.tables.frames import ColumnRoles
from titans_seq.forecasting.tables.table import Table

ROW = "row"
"""Name of the time column in forecasts when the frame has none."""


class WindowForecasts(NamedTuple):
    """Forecasts of many windows, in real units."""

    ids: npt.NDArray[Any]
    """Series of each window, (windows,)."""

    cutoffs: npt.NDArray[Any]
    """Time of the last row each window has seen, (windows,)."""

    point: FloatArray
    """Expected value, (windows, horizon)."""

    quantiles: FloatArray
    """In rising order of the level, (windows, horizon, levels)."""

    actual: FloatArray
    """What came, (windows, horizon); NaN where it is not known."""


def forecast_frame(
    columns: ColumnRoles, ids: Sequence[Any], times: pd.Index, values: Mapping[str, Any]
) -> pd.DataFrame:
    """Return a long frame of what is told of each series' next steps.

    Parameters
    ----------
    columns
        Names of the columns of ids and times.
    ids, times
        Of the series; of their steps, series after series.
    values
        By column: (series, horizon), or one value for all.
    """
    whole = {
        columns.id: pd.Index(ids).repeat(len(times) // len(ids)),
        time_name(columns): times,
    }
    told = {name: one if np.ndim(one) == 0 else one.reshape(-1) for name, one in values.items()}
    return pd.DataFrame(whole | told)


def time_name(columns: ColumnRoles) -> str:
    """Return the name of the time column in what is handed back."""
    return ROW if columns.time is None else columns.time


def rows_of(table: Table, columns: ColumnRoles) -> pd.DataFrame:
    """Return id, time and target of the rows of a table as a long frame."""
    counts = table.lengths()
    times = [table.times(series, 0, int(rows)) for series, rows in enumerate(counts)]
    name = "y" if len(columns.target) > 1 else columns.target[0]
    frame = pd.DataFrame(
        {
            columns.id: pd.Index(table.ids).repeat(counts),
            time_name(columns): joined_times(times),
            name: table.target,
        }
    )
    return frame[table.present]


def future_frame(table: Table, horizon: int, columns: ColumnRoles) -> pd.DataFrame:
    """Return ids and times of the rows that follow each series.

    Series that share an id, those of a wide frame, have their times once.
    """
    name = time_name(columns)
    parts: dict[Any, pd.DataFrame] = {}
    for series, rows in enumerate(table.lengths()):
        times = table.times(series, int(rows), int(rows) + horizon)
        parts.setdefault(table.keys[series], pd.DataFrame({name: times}))
    whole = pd.concat(list(parts.values()), ignore_index=True)
    if len(columns.target) > 1 and set(table.keys) == {columns.target[0]}:
        return whole
    whole.insert(0, columns.id, pd.Index(list(parts)).repeat(horizon))
    return whole


def last_times(table: Table, horizon: int) -> pd.Index:
    """Return the times of the last ``horizon`` rows of each series, one after another."""
    times = [
        table.times(series, int(rows) - horizon, int(rows))
        for series, rows in enumerate(table.lengths())
    ]
    return joined_times(times)


def joined_times(parts: Sequence[pd.Index]) -> pd.Index:
    """Return times one part after another, as an index of their own kind."""
    return parts[0].append(list(parts[1:])) if len(parts) > 1 else parts[0]


def windows_between(
    table: Table, *, horizon: int, stride: int, start: int | None, end: int | None
) -> WindowIndex:
    """Return the windows whose target rows lie in [start, end) of the rows of each series."""
    begins, ends = [], []
    for series in range(len(table.ids)):
        own = table.present[int(table.starts[series]) : int(table.starts[series + 1])]
        rows = np.append(np.flatnonzero(own), len(own))
        begins.append(int(rows[min(start or 0, len(rows) - 1)]))
        ends.append(int(rows[-1 if end is None else min(end, len(rows) - 1)]))
    return index_windows(table, begins, ends, horizon=horizon, stride=stride)


def label_forecasts(table: Table, index: WindowIndex, raw: RawForecasts) -> WindowForecasts:
    """Return forecasts with the series and the time each was made at."""
    cutoffs = np.empty(len(index.cutoffs), dtype=object)
    series, rows = index.series.numpy(), index.cutoffs.numpy()
    for code in np.unique(series):
        own = series == code
        steps = rows[own] - 1 - table.starts[code]
        times = table.times(int(code), 0, int(steps.max()) + 1)
        cutoffs[own] = times[steps]
    ids = np.empty(len(table.ids), dtype=object)
    ids[:] = table.ids
    return WindowForecasts(ids[series], cutoffs, raw.point, raw.quantiles, raw.actual)
