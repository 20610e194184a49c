"""Tables extended by the rows to forecast, with the covariates known ahead."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from titans_seq.exceptions import DataError
from titans_seq.forecasting.tables.arrays import IntArray
from titans_seq.forecasting.tables.frames import (
    ColumnRoles,
    FrameLocation,
    check_columns,
    read_numbers,
    read_texts,
    read_times,
)
from titans_seq.forecasting.tables.table import Table


def extend(table: Table, horizon: int, columns: ColumnRoles, future: pd.DataFrame | None) -> Table:
    """Return the table with ``horizon`` further rows a series, whose target is missing.

    Parameters
    ----------
    table
        Series up to now.
    horizon
        Rows to add to each.
    columns
        Roles of the columns.
    future
        Rows with the id, the time and every covariate known ahead; further rows are ignored.
        Without the id column, they hold for every series.

    Raises
    ------
    DataError
        If there is no frame, or it lacks a column, a row or a value; the message names the
        column, the series and the time.
    """
    if not columns.future:
        if future is not None:
            raise DataError("future_df was given, but the forecaster has future=()")
        ahead: dict[str, npt.NDArray[Any]] = {}
    elif future is None:
        names = ", ".join(columns.future)
        raise DataError(f"future_df is needed: it must hold {names} of the next {horizon} times")
    else:
        ahead = _read_ahead(table, horizon, columns, future)

    # Row numbers of the old rows: each series moves by the rows added to those before it.
    old = np.arange(int(table.starts[-1])) + horizon * np.repeat(
        np.arange(len(table.ids)), table.lengths()
    )
    starts = table.starts + horizon * np.arange(len(table.starts))

    def grow(values: npt.NDArray[Any], added: npt.NDArray[Any] | None) -> npt.NDArray[Any]:
        blank: Any = {"O": None, "b": False}.get(values.dtype.kind, np.nan)
        grown = np.full(int(starts[-1]), blank, dtype=values.dtype)
        grown[old] = values
        if added is not None:
            new = np.ones(len(grown), dtype=bool)
            new[old] = False
            grown[new] = added
        return grown

    return Table(
        ids=table.ids,
        keys=table.keys,
        grid=table.grid,
        first=table.first,
        starts=starts,
        present=grow(table.present, None),
        target=grow(table.target, None),
        varying={name: grow(values, ahead.get(name)) for name, values in table.varying.items()},
        static=table.static,
    )


def _read_ahead(
    table: Table, horizon: int, columns: ColumnRoles, future: pd.DataFrame
) -> dict[str, npt.NDArray[Any]]:
    """Return each covariate known ahead at the times to forecast, series after series."""
    location = FrameLocation(future, "future_df", columns.id)
    if columns.time is None:
        raise DataError("covariates known ahead need times: name time_col")
    check_columns(future, (columns.time, *columns.future), location)
    times = read_times(future, columns.time, np.zeros(len(future), dtype=np.int64), location)
    times = _match_time_zone(times, table, columns.time, location)
    rows = _find(table, horizon, columns, future, times, location)
    ahead = {}
    for name in columns.future:
        text = table.varying[name].dtype == object
        values = read_texts(future, name) if text else read_numbers(future, name, location)
        empty = pd.isna(values[rows])
        if empty.any():
            row = int(rows[empty.argmax()])
            raise DataError(
                f"{location.cell(name, row)} is empty at {times[row]}, but is known ahead"
            )
        ahead[name] = values[rows]
    return ahead


def _match_time_zone(
    times: pd.Index, table: Table, column: str, location: FrameLocation
) -> pd.Index:
    """Return times in the time zone of the table.

    Raises
    ------
    DataError
        If only one of them has a time zone, or only one holds time stamps.
    """
    stamps = isinstance(times, pd.DatetimeIndex)
    if stamps == isinstance(table.grid.freq, int):
        kind = "time stamps" if not stamps else "whole numbers"
        raise DataError(
            f"{location.source}: column {column!r} must hold {kind}, as the history does"
        )
    if not stamps:
        return times
    zone = table.first[0].tz
    if (times.tz is None) != (zone is None):
        own, expected = ("no time zone" if tz is None else f"{tz}" for tz in (times.tz, zone))
        raise DataError(f"{location.source}: column {column!r} has {own}, the history {expected}")
    return times if zone is None else times.tz_convert(zone)


def _find(
    table: Table,
    horizon: int,
    columns: ColumnRoles,
    future: pd.DataFrame,
    times: pd.Index,
    location: FrameLocation,
) -> IntArray:
    """Return the row of ``future`` for each step of each series.

    Raises
    ------
    DataError
        If one is missing or duplicate; the message names the series and the time.
    """
    steps = [
        table.times(series, int(count), int(count) + horizon)
        for series, count in enumerate(table.lengths())
    ]
    all_steps = steps[0].append(steps[1:]) if len(steps) > 1 else steps[0]
    series, own = _codes(table, columns, future)
    # With times as their ranks, a series and a time make one integer key; rows of other series
    # get negative keys that match nothing.
    moments, ranks = np.unique(table.grid.ordinals(times), return_inverse=True)
    count = len(moments)
    keys = np.where(series >= 0, series * count + ranks, -1 - np.arange(len(series)))
    order = np.argsort(keys, kind="stable")
    duplicates = np.flatnonzero(np.diff(keys[order]) == 0)
    if len(duplicates):
        row = int(order[duplicates[0] + 1])
        raise DataError(f"{location.cell(str(columns.time), row)} holds {times[row]} a second time")
    ordinals = table.grid.ordinals(all_steps)
    rank = np.minimum(np.searchsorted(moments, ordinals), count - 1)
    needed = np.repeat(own, horizon) * count + rank
    position = np.minimum(np.searchsorted(keys, needed, sorter=order), len(order) - 1)
    rows: IntArray = order[position]
    missing = (keys[rows] != needed) | (moments[rank] != ordinals)
    if missing.any():
        number = int(missing.argmax()) // horizon
        absent = int(missing[number * horizon : (number + 1) * horizon].sum())
        raise DataError(
            f"{location.source}: column {columns.time!r} of series {table.ids[number]!r} lacks "
            f"{absent} of the {horizon} times to forecast, first {all_steps[int(missing.argmax())]}"
        )
    return rows


def _codes(table: Table, columns: ColumnRoles, future: pd.DataFrame) -> tuple[IntArray, IntArray]:
    """Return the id code of each row of ``future``, -1 for unknown ids, and that of each series.

    Without the id column it is 0 for all; series of a wide frame share the codes of their rows.
    """
    if columns.id not in future.columns:
        return np.zeros(len(future), dtype=np.int64), np.zeros(len(table.keys), dtype=np.int64)
    keys = {name: code for code, name in enumerate(dict.fromkeys(table.keys))}
    codes, names = pd.factorize(future[columns.id])
    known = np.array([keys.get(name, -1) for name in names] + [-1], dtype=np.int64)
    return known[codes], np.array([keys[name] for name in table.keys], dtype=np.int64)
