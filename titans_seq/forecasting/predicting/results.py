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
"""Name of the time column in forecasts if the frame has none."""


class WindowForecasts(NamedTuple):
    """Forecasts of many windows, in real units."""

    ids: npt.NDArray[Any]
    """Series of each window, (windows,)."""

    cutoffs: npt.NDArray[Any]
    """Time of the last row before each window's horizon, (windows,)."""

    point: FloatArray
    """Expected value, (windows, horizon)."""

    quantiles: FloatArray
    """In rising order of the level, (windows, horizon, levels)."""

    actual: FloatArray
    """Target, (windows, horizon); NaN where it is missing."""


def forecast_frame(
    columns: ColumnRoles, ids: Sequence[Any], times: pd.Index, values: Mapping[str, Any]
) -> pd.DataFrame:
    """Return forecasts of each series' next steps as a long frame.

    Parameters
    ----------
    columns
        Names of the columns of ids and times.
    ids, times
        Of the series; of their steps, series after series.
    values
        By column: (series, horizon), or a scalar for all.
    """
    keys = {
        columns.id: pd.Index(ids).repeat(len(times) // len(ids)),
        time_name(columns): times,
    }
    flat = {
        name: column if np.ndim(column) == 0 else column.reshape(-1)
        for name, column in values.items()
    }
    return pd.DataFrame(keys | flat)


def time_name(columns: ColumnRoles) -> str:
    """Return the name of the time column in forecasts."""
    return ROW if columns.time is None else columns.time


def rows_of(table: Table, columns: ColumnRoles) -> pd.DataFrame:
    """Return id, time and target of the rows of a table as a long frame."""
    counts = table.lengths()
    times = [table.times(series, 0, int(count)) for series, count in enumerate(counts)]
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
    by_id: dict[Any, pd.DataFrame] = {}
    for series, count in enumerate(table.lengths()):
        times = table.times(series, int(count), int(count) + horizon)
        by_id.setdefault(table.keys[series], pd.DataFrame({name: times}))
    future = pd.concat(list(by_id.values()), ignore_index=True)
    if len(columns.target) > 1 and set(table.keys) == {columns.target[0]}:
        return future  # a wide frame without ids
    future.insert(0, columns.id, pd.Index(list(by_id)).repeat(horizon))
    return future


def last_times(table: Table, horizon: int) -> pd.Index:
    """Return the times of the last ``horizon`` rows of each series, one after another."""
    times = [
        table.times(series, int(count) - horizon, int(count))
        for series, count in enumerate(table.lengths())
    ]
    return joined_times(times)


def joined_times(parts: Sequence[pd.Index]) -> pd.Index:
    """Concatenate times, and keep the kind of their index."""
    return parts[0].append(list(parts[1:])) if len(parts) > 1 else parts[0]


def windows_between(
    table: Table, *, horizon: int, stride: int, start: int | None, end: int | None
) -> WindowIndex:
    """Return the windows whose target rows lie in [start, end) of the rows of each series."""
    begins, ends = [], []
    for series in range(len(table.ids)):
        present = table.present[int(table.starts[series]) : int(table.starts[series + 1])]
        # ``start`` and ``end`` count the rows that were given, not those that fill gaps.
        given = np.append(np.flatnonzero(present), len(present))
        begins.append(int(given[min(start or 0, len(given) - 1)]))
        ends.append(int(given[-1 if end is None else min(end, len(given) - 1)]))
    return index_windows(table, begins, ends, horizon=horizon, stride=stride)


def label_forecasts(table: Table, index: WindowIndex, raw: RawForecasts) -> WindowForecasts:
    """Return forecasts with the id of the series and the time of the cutoff of each."""
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
