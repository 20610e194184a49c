"""Tables that go on: the rows to forecast, with the covariates known ahead."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from titans_seq.exceptions import DataError
from titans_seq.forecasting.frames import (
    Columns,
    Place,
    check_columns,
    read_numbers,
    read_texts,
    read_times,
)
from titans_seq.forecasting.table import Table


def extend(table: Table, horizon: int, columns: Columns, future: pd.DataFrame | None) -> Table:
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
    table: Table, horizon: int, columns: Columns, future: pd.DataFrame
) -> dict[str, npt.NDArray[Any]]:
    """Return each covariate known ahead at the times to forecast, series after series."""
    place = Place(future, "future_df")
    if columns.time is None:
        raise DataError("covariates known ahead need times: name time_col")
    check_columns(future, (columns.time, *columns.future), place)
    times = read_times(future, columns.time, np.zeros(len(future), dtype=np.int64), place)
    by_series = columns.id in future.columns
    found = pd.MultiIndex.from_arrays(
        [future[columns.id] if by_series else np.zeros(len(future), dtype=np.int64), times]
    )
    again = found.duplicated()
    if again.any():
        row = int(again.argmax())
        raise DataError(f"{place.row(row)}: future_df has time {times[row]} of one series twice")
    rows = _find(table, horizon, found, place, by_series=by_series)
    ahead = {}
    for name in columns.future:
        text = table.varying[name].dtype == object
        values = read_texts(future, name) if text else read_numbers(future, name, place)
        empty = pd.isna(values[rows])
        if empty.any():
            row = int(rows[empty.argmax()])
            raise DataError(f"{place.row(row)}: column {name!r} is empty, but is known ahead")
        ahead[name] = values[rows]
    return ahead


def _find(
    table: Table, horizon: int, found: pd.MultiIndex, place: Place, *, by_series: bool
) -> npt.NDArray[np.int64]:
    """Return which row holds each step of each series.

    Raises
    ------
    DataError
        If one is missing; the message names the series and the time.
    """
    times = [
        table.times(series, int(rows), int(rows) + horizon)
        for series, rows in enumerate(table.lengths())
    ]
    keys: list[Any] = table.keys if by_series else [0] * len(table.keys)
    whole = times[0].append(times[1:]) if len(keys) > 1 else times[0]
    wanted = pd.MultiIndex.from_arrays([pd.Index(keys).repeat(horizon), whole])
    rows = np.asarray(found.get_indexer(wanted), dtype=np.int64)
    if (rows < 0).any():
        series, step = divmod(int((rows < 0).argmax()), horizon)
        missing = int((rows[series * horizon : (series + 1) * horizon] < 0).sum())
        raise DataError(
            f"{place.source}: series {table.ids[series]!r} lacks {missing} of the {horizon} "
            f"times to forecast, first {times[series][step]}"
        )
    return rows
