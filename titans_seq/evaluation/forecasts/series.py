"""Series of a frame as arrays, for scoring protocols and controls; rows before the test part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from titans_seq.evaluation.cards.splits import Split
from titans_seq.exceptions import DataError
from titans_seq.forecasting.tables.arrays import FloatArray
from titans_seq.forecasting.tables.frames import (
    FrameLocation,
    check_columns,
    read_numbers,
    read_times,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """One series in time order."""

    name: str
    """Its id as text, or the name of its column in a wide table."""

    values: FloatArray
    """Target, (time,); NaN where it is missing."""

    future: FloatArray
    """Columns known ahead, (time, columns)."""

    step: pd.Timedelta | None
    """Most frequent step between rows; None if times are integers."""

    def scaled(self, train_end: int) -> Self:
        """Return the series with target and known columns standardised by its train rows."""
        future = TrainScale(self.future[:train_end]).apply(self.future)
        values = TrainScale(self.values[:train_end]).apply(self.values)
        return replace(self, values=values, future=np.nan_to_num(future))


class TrainScale:
    """Mean and population standard deviation of the train rows; 1 if these are constant."""

    def __init__(self, values: FloatArray) -> None:
        """Compute both of ``values``, (time,) or (time, columns), without NaN."""
        known = np.isfinite(values)
        count = np.maximum(known.sum(axis=0), 1)
        self.mean: FloatArray = np.where(known, values, 0).sum(axis=0) / count
        centred = np.where(known, values - self.mean, 0)
        deviation = np.sqrt((centred**2).sum(axis=0) / count)
        self.deviation: FloatArray = np.where(deviation > 1e-12, deviation, 1.0)

    def apply(self, values: npt.ArrayLike) -> FloatArray:
        """Return standardised values."""
        standardised: FloatArray = (
            np.asarray(values, dtype=np.float64) - self.mean
        ) / self.deviation
        return standardised


def series_from_frame(
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
        One row for each time; any order.
    id_col
        Column of the series' ids; if the table has none, all rows are one series.
    time_col
        Column of the times; None takes the rows in their order.
    target_col
        Column of the target; several are one series each, named after the column.
    future
        Columns known ahead; those that are not numeric are left out.

    Raises
    ------
    DataError
        If a column is missing, or a time or a value is invalid.
    """
    targets = [target_col] if isinstance(target_col, str) else list(target_col)
    location = FrameLocation(frame, "frame")
    time_columns = () if time_col is None else (time_col,)
    check_columns(frame, (*time_columns, *targets, *future), location)
    numeric = [column for column in future if pd.api.types.is_numeric_dtype(frame[column])]
    has_ids = id_col in frame.columns
    codes, names = pd.factorize(frame[id_col]) if has_ids else (np.zeros(len(frame), int), [None])
    times = read_times(frame, time_col, np.asarray(codes, dtype=np.int64), location)
    columns = {column: read_numbers(frame, column, location) for column in (*targets, *numeric)}
    known = np.zeros((len(frame), len(numeric)))
    for number, column in enumerate(numeric):
        known[:, number] = columns[column]
    # Rows of each id in time order, which all targets have in common.
    rows_of_id = []
    for code in range(len(names)):
        rows = np.flatnonzero(codes == code)
        rows_of_id.append(rows[np.argsort(times[rows], kind="stable")])
    return [
        Series(
            name=_series_name(name if has_ids else None, target, wide=len(targets) > 1),
            values=columns[target][rows],
            future=known[rows],
            step=_commonest_step(times[rows]),
        )
        for target in targets
        for name, rows in zip(names, rows_of_id, strict=True)
    ]


def _series_name(name: object, target: str, *, wide: bool) -> str:
    """Return the name of a series: its id, its column, or both."""
    if name is None:
        return target
    return f"{name}/{target}" if wide else str(name)


def _commonest_step(times: pd.Index) -> pd.Timedelta | None:
    """Return the most frequent step between rows, None for integers."""
    if not isinstance(times, pd.DatetimeIndex) or len(times) < 2:
        return None
    steps, counts = np.unique(np.diff(times.to_numpy()), return_counts=True)
    return pd.Timedelta(steps[counts.argmax()])


def rows_before_test(
    frame: pd.DataFrame, split: Split, *, id_col: str, time_col: str | None, source: str
) -> tuple[pd.DataFrame, int | float]:
    """Return the train and validation rows, and the size of the validation part.

    Parameters
    ----------
    frame
        One row for each time; any order.
    split
        Borders of the parts.
    id_col, time_col
        As for :func:`series_from_frame`.
    source
        Name of the table in errors.

    Returns
    -------
        The rows; and the validation rows of each series, or their share if series differ in length.

    Raises
    ------
    DataError
        If a time is invalid, or a series is too short for the split.
    """
    # Rank by time rather than by row: the table may be in any order.
    times = pd.Series(
        checked_times(frame, id_col=id_col, time_col=time_col, source=source), index=frame.index
    )
    one_series = pd.Series(0, index=frame.index)
    by_series = times.groupby(frame[id_col] if id_col in frame.columns else one_series)
    positions = by_series.rank(method="first")
    lengths = by_series.transform("size")
    try:
        borders = {int(rows): split.borders(int(rows)) for rows in lengths.unique()}
    except DataError as error:
        raise DataError(f"{source}: {error}") from error
    ends = {rows: border.validation_end for rows, border in borders.items()}
    before_test = frame[positions <= lengths.map(ends)]
    if len(borders) > 1:
        return before_test, split.validation / (split.train + split.validation)
    (border,) = borders.values()
    return before_test, border.validation_end - border.train_end


def checked_times(
    frame: pd.DataFrame, *, id_col: str, time_col: str | None, source: str
) -> pd.Index:
    """Return the times of a frame's rows.

    Raises
    ------
    DataError
        If the column is missing, or a time is invalid.
    """
    location = FrameLocation(frame, source, id_col)
    check_columns(frame, () if time_col is None else (time_col,), location)
    return read_times(frame, time_col, np.zeros(len(frame), dtype=np.int64), location)
