"""Frames as arrays, one record a series: what the forecasting protocol and its controls work on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from titans_seq.forecasting.tables.frames import (
    FrameLocation,
    check_columns,
    read_numbers,
    read_times,
)

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """One series in time order."""

    name: str
    """Its id as text; the column's name if it is a column of a wide table."""

    values: Array
    """Target, (time,); NaN where it is missing."""

    future: Array
    """Columns known ahead, (time, columns)."""

    step: pd.Timedelta | None
    """Commonest time from one row to the next; None if time is counted in whole numbers."""


class Scale:
    """Mean and population standard deviation of the train rows; 1 where these do not vary."""

    def __init__(self, values: Array) -> None:
        """Read both off ``values``, (time,) or (time, columns); NaN are left out."""
        known = np.isfinite(values)
        count = np.maximum(known.sum(axis=0), 1)
        self.mean: Array = np.where(known, values, 0).sum(axis=0) / count
        spread = np.where(known, values - self.mean, 0)
        deviation = np.sqrt((spread**2).sum(axis=0) / count)
        self.deviation: Array = np.where(deviation > 1e-12, deviation, 1.0)

    def apply(self, values: npt.ArrayLike) -> Array:
        """Return values in units of the train rows' deviation, around their mean."""
        scaled: Array = (np.asarray(values, dtype=np.float64) - self.mean) / self.deviation
        return scaled


def series_of(
    frame: pd.DataFrame,
    *,
    id_col: str,
    time_col: str | None,
    target_col: str | Sequence[str],
    future: Sequence[str] = (),
) -> list[Series]:
    """Return the series of a long table, or of a wide one (several target columns).

    Parameters
    ----------
    frame
        One row a time step; any order.
    id_col
        Column of the series' ids; if the table has none, all rows are one series.
    time_col
        Column of the times; None takes the rows as they stand.
    target_col
        Column of the target; several make one series of each, named after it.
    future
        Columns known ahead; those that are not numbers are left out.

    Raises
    ------
    DataError
        If a column is missing, or a time or a value is none.
    """
    targets = [target_col] if isinstance(target_col, str) else list(target_col)
    place = FrameLocation(frame, "frame")
    named = () if time_col is None else (time_col,)
    check_columns(frame, (*named, *targets, *future), place)
    numeric = [column for column in future if pd.api.types.is_numeric_dtype(frame[column])]
    many = id_col in frame.columns
    codes, names = pd.factorize(frame[id_col]) if many else (np.zeros(len(frame), int), [None])
    times = read_times(frame, time_col, np.asarray(codes, dtype=np.int64), place)
    columns = {column: read_numbers(frame, column, place) for column in (*targets, *numeric)}
    known = np.zeros((len(frame), len(numeric)))
    for number, column in enumerate(numeric):
        known[:, number] = columns[column]
    found = []
    for target in targets:
        for code, name in enumerate(names):
            rows = np.flatnonzero(codes == code)
            rows = rows[np.argsort(times[rows], kind="stable")]
            found.append(
                Series(
                    name=_name(name, target, alone=len(targets) == 1, many=many),
                    values=columns[target][rows],
                    future=known[rows],
                    step=_step(times[rows]),
                )
            )
    return found


def _name(name: object, target: str, *, alone: bool, many: bool) -> str:
    """Return what a series is called: by its id, its column, or both."""
    if not many:
        return target
    return str(name) if alone else f"{name}/{target}"


def _step(times: pd.Index) -> pd.Timedelta | None:
    """Return the commonest time from row to row, None for whole numbers."""
    if not isinstance(times, pd.DatetimeIndex) or len(times) < 2:
        return None
    steps, counts = np.unique(np.diff(times.to_numpy()), return_counts=True)
    return pd.Timedelta(steps[counts.argmax()])


def scaled(series: Series, train_end: int) -> Series:
    """Return the series with target and known columns scaled by its train rows."""
    future = Scale(series.future[:train_end]).apply(series.future)
    return replace(
        series,
        values=Scale(series.values[:train_end]).apply(series.values),
        future=np.nan_to_num(future),
    )
