"""Checked series on a regular grid: the step between a frame and tensors.

A frame becomes a :class:`Table`: every series in time order at one frequency, rows that were
missing filled with NaN, covariates beside the target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from titans_seq.exceptions import DataError
from titans_seq.forecasting.tables.arrays import BoolArray, FloatArray, IntArray
from titans_seq.forecasting.tables.frames import (
    ColumnRoles,
    FrameLocation,
    check_columns,
    has_ids,
    is_category,
    read_numbers,
    read_series,
    read_texts,
    read_times,
    shown,
)
from titans_seq.forecasting.tables.grid import TimeGrid, infer_grid

LONGEST_GAPS = 50
"""Rows of a grid, relative to those that were given, above which a time must be wrong."""

CLOCK_HINT = "; leave one out, or if the clock was set back, give times in UTC"


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Series on a regular grid, one after another."""

    ids: list[Any]
    """One a series, as they were given."""

    keys: list[Any]
    """Id of each series in the frame's id column; the same as ``ids`` unless it was wide."""

    grid: TimeGrid
    """Frequency of the times."""

    first: list[Any]
    """Time of the first row of each series."""

    starts: IntArray
    """Where each series begins, and at the end the number of rows."""

    present: BoolArray
    """(rows,) False for rows that fill a gap."""

    target: FloatArray
    """(rows,) NaN where missing."""

    varying: dict[str, npt.NDArray[Any]]
    """Covariates by name, (rows,): numbers, or texts with None where missing."""

    static: dict[str, npt.NDArray[Any]]
    """Covariates of the series by name, (series,)."""

    def lengths(self) -> IntArray:
        """Return the rows of each series."""
        return np.diff(self.starts)

    def times(self, series: int, begin: int, end: int) -> pd.Index:
        """Return the times of rows ``begin`` to ``end`` of a series; they may lie ahead."""
        return self.grid.times(self.first[series], begin, end)


def table_from_frame(
    frame: pd.DataFrame,
    columns: ColumnRoles,
    *,
    freq: str | int | None = None,
    categories: set[str] | None = None,
    what: str = "frame",
) -> Table:
    """Check a frame and lay its series on a grid.

    Parameters
    ----------
    frame
        One row a time step, in any order, one or many series; or a wide one.
    columns
        Roles of the columns.
    freq
        Pandas' name of the frequency, or the step of whole-number times; inferred if None.
    categories
        Covariates to read as categories; None lets their types decide.
    what
        Name of the frame in errors, if it was not read from a file.

    Raises
    ------
    DataError
        If a column is missing, a time is missing, unreadable, duplicate or off the grid, a
        number is not finite, or a static covariate changes within a series.
    """
    location = FrameLocation(frame, what, columns.id)
    if frame.empty:
        raise DataError(f"{location.source}: has no rows")
    named = () if columns.time is None else (columns.time,)
    check_columns(frame, (*named, *columns.target, *columns.static, *columns.covariates), location)
    names, codes = read_series(frame, columns, location)
    times = read_times(frame, columns.time, codes, location)
    grid = infer_grid(times, codes, freq, columns.time, location.source)
    order = np.lexsort((grid.ordinals(times), codes))
    positions, starts, first = _lay_out(times, codes, order, grid, names, columns, location)

    laid = partial(_spread, rows=int(starts[-1]), positions=positions)

    def read(column: str) -> npt.NDArray[Any]:
        text = is_category(frame[column]) if categories is None else column in categories
        return read_texts(frame, column) if text else read_numbers(frame, column, location)

    targets = [laid(read_numbers(frame, name, location)) for name in columns.target]
    single = Table(
        ids=names,
        keys=names,
        grid=grid,
        first=first,
        starts=starts,
        present=laid(np.ones(len(frame), dtype=bool)),
        target=targets[0],
        varying={name: laid(read(name)) for name in columns.covariates},
        static={
            name: _constant(read(name), codes, names, name, location) for name in columns.static
        },
    )
    if len(targets) == 1:
        return single
    return _stack(single, columns.target, targets, without_ids=not has_ids(frame, columns))


def _spread(values: npt.NDArray[Any], *, rows: int, positions: IntArray) -> npt.NDArray[Any]:
    """Return values at their positions among ``rows``, with blanks in the gaps."""
    blank: Any = {"O": None, "b": False}.get(values.dtype.kind, np.nan)
    spread = np.full(rows, blank, dtype=values.dtype)
    spread[positions] = values
    return spread


def _lay_out(
    times: pd.Index,
    codes: IntArray,
    order: IntArray,
    grid: TimeGrid,
    names: list[Any],
    columns: ColumnRoles,
    location: FrameLocation,
) -> tuple[IntArray, IntArray, list[Any]]:
    """Return the grid row of each row, the first grid row of each series, and its time."""
    column = "row" if columns.time is None else columns.time
    edges = np.searchsorted(codes[order], np.arange(len(names) + 1))
    positions = np.empty(len(times), dtype=np.int64)
    starts, first = [0], []
    for series in range(len(names)):
        rows = order[edges[series] : edges[series + 1]]
        own = times[rows]
        steps = grid.positions(own)
        _check_steps(own, steps, rows, column, grid, location, _no_ids_hint(columns, names))
        positions[rows] = starts[-1] + steps
        starts.append(starts[-1] + int(steps[-1]) + 1)
        first.append(own[0])
    return positions, np.asarray(starts, dtype=np.int64), first


def _check_steps(
    own: pd.Index,
    steps: IntArray,
    rows: IntArray,
    column: str,
    grid: TimeGrid,
    location: FrameLocation,
    hint: str,
) -> None:
    """Refuse a series with a time off the grid, a duplicate time, or far too large a gap."""
    off = steps < 0
    if off.any():
        row = int(off.argmax())
        raise DataError(
            f"{location.cell(column, int(rows[row]))} holds {own[row]}, which is not "
            f"on the grid of frequency {grid.freq!r} that begins at {own[0]}; "
            f"resample the series, or give freq=..."
        )
    duplicates = np.flatnonzero(np.diff(steps) == 0)
    if len(duplicates):
        position = duplicates[0]
        first, second = sorted(int(row) for row in rows[position : position + 2])
        raise DataError(
            f"{location.cell(column, second)} holds {own[position]} a second time "
            f"(the first is in {location.row(first).rsplit(', ')[-1]}){hint or CLOCK_HINT}"
        )
    length = int(steps[-1]) + 1
    if length > LONGEST_GAPS * len(rows) + 1000:
        after = int(np.diff(steps).argmax()) + 1
        raise DataError(
            f"{location.cell(column, int(rows[after]))} jumps from {own[after - 1]} to "
            f"{own[after]}: more rows would be missing than are there"
        )


def _no_ids_hint(columns: ColumnRoles, names: list[Any]) -> str:
    if len(names) > 1 or names[0] != columns.target[0]:
        return ""
    return f"; with several series, name their column (there is no {columns.id!r})"


def _constant(
    values: npt.NDArray[Any],
    codes: IntArray,
    names: list[Any],
    column: str,
    location: FrameLocation,
) -> npt.NDArray[Any]:
    """Return the value of a static column for each series.

    Raises
    ------
    DataError
        If it changes within a series.
    """
    known = pd.Series(values).groupby(codes)
    first = np.asarray(known.first().to_numpy(), dtype=values.dtype)
    changed = ~pd.isna(values) & (values != first[codes])
    if changed.any():
        row = int(changed.argmax())
        raise DataError(
            f"{location.row(row)}: static column {column!r} changes within series "
            f"{names[codes[row]]!r} (from {shown(first[codes[row]])} to {shown(values[row])}); "
            f"is it a past covariate?"
        )
    return first


def _stack(
    table: Table, targets: Sequence[str], values: Sequence[FloatArray], *, without_ids: bool
) -> Table:
    """Return a table with one series for each series and target column."""
    count, rows = len(targets), int(table.starts[-1])
    ids = [name if without_ids else f"{series}/{name}" for name in targets for series in table.ids]
    return Table(
        ids=ids,
        keys=table.keys * count,
        grid=table.grid,
        first=table.first * count,
        starts=np.concatenate(
            [table.starts[:-1] + rows * copy for copy in range(count)] + [[rows * count]]
        ).astype(np.int64),
        present=np.tile(table.present, count),
        target=np.concatenate(list(values)),
        varying={name: np.tile(column, count) for name, column in table.varying.items()},
        static={name: np.tile(column, count) for name, column in table.static.items()},
    )
