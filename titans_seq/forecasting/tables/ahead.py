"""Tables that go on: the rows to forecast, with the covariates known ahead."""

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
        Rows with the id, the time and every covariate known ahead; more rows may stand
        there. Without the id column, they hold for every series.

    Raises
    ------
    DataError
        If a covariate known ahead lacks the frame, a column, a row or a value; the message
        names it, the series and the time.
    """
    if not columns.future:
        if future is not None:
            raise DataError("future_df was given, but the forecaster was made with future=()")
        ahead: dict[str, npt.NDArray[Any]] = {}
    elif future is None:
        names = ", ".join(columns.future)
        raise DataError(f"future_df is needed: it must hold {names} of the next {horizon} times")
    else:
        ahead = _read_ahead(table, horizon, columns, future)

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
        varying={name: grow(held, ahead.get(name)) for name, held in table.varying.items()},
        static=table.static,
    )


def _read_ahead(
    table: Table, horizon: int, columns: ColumnRoles, future: pd.DataFrame
) -> dict[str, npt.NDArray[Any]]:
    """Return each covariate known ahead at the times to forecast, series after series."""
    place = FrameLocation(future, "future_df", columns.id)
    if columns.time is None:
        raise DataError("covariates known ahead need times: name time_col")
    check_columns(future, (columns.time, *columns.future), place)
    times = read_times(future, columns.time, np.zeros(len(future), dtype=np.int64), place)
    times = _alike(times, table, columns.time, place)
    rows = _find(table, horizon, columns, future, times, place)
    ahead = {}
    for name in columns.future:
        text = table.varying[name].dtype == object
        values = read_texts(future, name) if text else read_numbers(future, name, place)
        empty = pd.isna(values[rows])
        if empty.any():
            row = int(rows[empty.argmax()])
            raise DataError(f"{place.cell(name, row)} is empty at {times[row]}, but is known ahead")
        ahead[name] = values[rows]
    return ahead


def _alike(times: pd.Index, table: Table, column: str, place: FrameLocation) -> pd.Index:
    """Return times in the time zone of the table's.

    Raises
    ------
    DataError
        If only one of them has a time zone, or only one holds time stamps.
    """
    stamps = isinstance(times, pd.DatetimeIndex)
    if stamps == isinstance(table.grid.freq, int):
        kind = "time stamps" if not stamps else "whole numbers"
        raise DataError(f"{place.source}: column {column!r} must hold {kind}, as the history does")
    if not stamps:
        return times
    zone = table.first[0].tz
    if (times.tz is None) != (zone is None):
        here, there = ("no time zone" if one is None else f"{one}" for one in (times.tz, zone))
        raise DataError(f"{place.source}: column {column!r} has {here}, the history {there}")
    return times if zone is None else times.tz_convert(zone)


def _find(
    table: Table,
    horizon: int,
    columns: ColumnRoles,
    future: pd.DataFrame,
    times: pd.Index,
    place: FrameLocation,
) -> IntArray:
    """Return which row holds each step of each series.

    Raises
    ------
    DataError
        If one is missing, or there twice; the message names the series and the time.
    """
    wanted = [
        table.times(series, int(rows), int(rows) + horizon)
        for series, rows in enumerate(table.lengths())
    ]
    whole = wanted[0].append(wanted[1:]) if len(wanted) > 1 else wanted[0]
    series, own = _codes(table, columns, future)
    # Times as their ranks, so that a series and a time make one number.
    moments, ranks = np.unique(table.grid.ordinals(times), return_inverse=True)
    count = len(moments)
    given = np.where(series >= 0, series * count + ranks, -1 - np.arange(len(series)))
    order = np.argsort(given, kind="stable")
    again = np.flatnonzero(np.diff(given[order]) == 0)
    if len(again):
        row = int(order[again[0] + 1])
        raise DataError(f"{place.cell(str(columns.time), row)} holds {times[row]} a second time")
    ordinals = table.grid.ordinals(whole)
    place_of = np.minimum(np.searchsorted(moments, ordinals), count - 1)
    asked = np.repeat(own, horizon) * count + place_of
    found = np.minimum(np.searchsorted(given, asked, sorter=order), len(order) - 1)
    rows: IntArray = order[found]
    missing = (given[rows] != asked) | (moments[place_of] != ordinals)
    if missing.any():
        number = int(missing.argmax()) // horizon
        lacking = int(missing[number * horizon : (number + 1) * horizon].sum())
        raise DataError(
            f"{place.source}: column {columns.time!r} of series {table.ids[number]!r} lacks "
            f"{lacking} of the {horizon} times to forecast, first {whole[int(missing.argmax())]}"
        )
    return rows


def _codes(table: Table, columns: ColumnRoles, future: pd.DataFrame) -> tuple[IntArray, IntArray]:
    """Return the series of each row of ``future``, -1 for others, and that of each series.

    Without the id column, or where a wide frame's series share their rows, it is 0 for all.
    """
    if columns.id not in future.columns:
        return np.zeros(len(future), dtype=np.int64), np.zeros(len(table.keys), dtype=np.int64)
    keys = {name: code for code, name in enumerate(dict.fromkeys(table.keys))}
    codes, names = pd.factorize(future[columns.id])
    known = np.array([keys.get(name, -1) for name in names] + [-1], dtype=np.int64)
    return known[codes], np.array([keys[name] for name in table.keys], dtype=np.int64)
