"""Frames as arrays, one record a series: what the forecasting protocol and its controls work on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from titans_seq.exceptions import DataError

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
    time_col: str,
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
        Column of the time stamps.
    target_col
        Column of the target; several make one series of each, named after it.
    future
        Columns known ahead; those that are not numbers are left out.

    Raises
    ------
    DataError
        If a column is missing.
    """
    targets = [target_col] if isinstance(target_col, str) else list(target_col)
    for column in (time_col, *targets, *future):
        if column not in frame.columns:
            known = ", ".join(map(str, frame.columns))
            raise DataError(f"no column {column!r} in the table; it has {known}")
    numeric = [column for column in future if pd.api.types.is_numeric_dtype(frame[column])]
    groups = (
        frame.groupby(id_col, sort=False, observed=True)
        if id_col in frame.columns
        else [(None, frame)]
    )
    found = []
    for key, rows in groups:
        ordered = rows.sort_values(time_col, kind="stable")
        for target in targets:
            name = target if key is None else str(key)
            name = f"{name}/{target}" if key is not None and len(targets) > 1 else name
            found.append(_series(name, ordered, target, numeric, time_col))
    return found


def _series(name: str, rows: pd.DataFrame, target: str, future: list[str], time_col: str) -> Series:
    """Return one series of rows in time order."""
    times = rows[time_col]
    if not pd.api.types.is_numeric_dtype(times):
        times = pd.to_datetime(times)
    steps = times.diff().dropna()
    step = steps.mode().iloc[0] if len(steps) else None
    return Series(
        name=name,
        values=rows[target].to_numpy(dtype=np.float64, na_value=np.nan),
        future=rows[future].to_numpy(dtype=np.float64, na_value=np.nan),
        step=step if isinstance(step, pd.Timedelta) else None,
    )


def scaled(series: Series, train_end: int) -> Series:
    """Return the series with target and known columns scaled by its train rows."""
    future = Scale(series.future[:train_end]).apply(series.future)
    return replace(
        series,
        values=Scale(series.values[:train_end]).apply(series.values),
        future=np.nan_to_num(future),
    )
