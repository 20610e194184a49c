"""Reading of files and frames, with checks of every column.

Errors name the file, the column and the row.
"""

from __future__ import annotations

import os
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from titans_seq.exceptions import DataError
from titans_seq.forecasting.tables.arrays import FloatArray, IntArray

DEFAULT_ID = "unique_id"
"""Name of the id column that a frame of one series may lack."""

NUMBERS = ("integer", "floating", "mixed-integer-float", "decimal")
"""Pandas' inferred types of an object column that holds only numbers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnRoles:
    """Roles of the columns of a frame."""

    id: str
    time: str | None
    """None counts the rows of a series instead."""

    target: tuple[str, ...]
    """Several targets are a wide frame: each column is a series of that name."""

    static: tuple[str, ...] = ()
    past: tuple[str, ...] = ()
    future: tuple[str, ...] = ()

    @property
    def covariates(self) -> tuple[str, ...]:
        """Columns that vary with time, besides the target."""
        return self.past + self.future


def read_frame(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a table from a ``.csv``, ``.csv.gz`` or ``.parquet`` file.

    Raises
    ------
    DataError
        If the file is empty, damaged, not text, or of another kind.
    FileNotFoundError
        If there is no such file.
    """
    name = Path(path).name.lower()
    try:
        if name.endswith((".parquet", ".pq")):
            frame = pd.read_parquet(path)
        elif name.endswith((".csv", ".csv.gz", ".txt", ".tsv")):
            frame = pd.read_csv(path, sep="\t" if name.endswith(".tsv") else ",", low_memory=False)
        else:
            raise DataError(f"{path}: name a .csv, .csv.gz, .tsv or .parquet file")
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a table in UTF-8: {error}") from error
    except (EOFError, OSError, ValueError, zlib.error) as error:
        if isinstance(error, FileNotFoundError | IsADirectoryError | DataError):
            raise
        raise DataError(f"{path}: cannot be read: {error}") from error
    if frame.empty:
        raise DataError(f"{path}: has no rows")
    frame.attrs["source"] = str(path)
    frame.attrs["first_line"] = None if name.endswith((".parquet", ".pq")) else 2
    return frame


class FrameLocation:
    """Names rows and cells of a frame, or of the file it was read from, in errors."""

    def __init__(self, frame: pd.DataFrame, what: str, id_col: str | None = None) -> None:
        self.source = frame.attrs.get("source", what)
        self.first_line = frame.attrs.get("first_line")
        self.labels = frame.index  # a selection of rows keeps the line numbers of the file
        known = id_col is not None and list(frame.columns).count(id_col) == 1
        self.ids = frame[id_col] if known else None

    def row(self, position: int) -> str:
        """Name a row: by line for a text file, else counted from 0."""
        if self.first_line is None:
            return f"{self.source}, row {position}"
        return f"{self.source}, line {int(self.labels[position]) + self.first_line}"

    def cell(self, column: str, position: int) -> str:
        """Name a cell: its row, its column, and the series if the frame has ids."""
        name = None if self.ids is None else self.ids.iloc[position]
        series = "" if self.ids is None or pd.isna(name) else f" of series {name!r}"
        return f"{self.row(position)}: column {column!r}{series}"


def check_columns(frame: pd.DataFrame, columns: Sequence[str], location: FrameLocation) -> None:
    """Refuse a frame in which a column is missing or duplicate.

    Raises
    ------
    DataError
        If so; the message names the column and those of the frame.
    """
    names = list(frame.columns)
    for column in columns:
        count = names.count(column)
        if count != 1:
            what = "no column" if count == 0 else f"{count} columns named"
            known = ", ".join(str(name) for name in names[:20])
            raise DataError(f"{location.source}: {what} {column!r}; it has {known}")


def read_numbers(frame: pd.DataFrame, column: str, location: FrameLocation) -> FloatArray:
    """Return a column as numbers, NaN where it is missing.

    Raises
    ------
    DataError
        If a value is no number or infinite; the message names the row.
    """
    raw = frame[column]
    if isinstance(raw.dtype, np.dtype) and raw.dtype.kind in "iuf":
        numbers: FloatArray = raw.to_numpy(dtype=np.float64)
        wrong = np.isinf(numbers)
    else:
        parsed = pd.to_numeric(raw, errors="coerce")
        numbers = parsed.to_numpy(dtype=np.float64, na_value=np.nan)
        wrong = (np.isnan(numbers) & raw.notna().to_numpy()) | np.isinf(numbers)
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"{location.cell(column, row)} holds {shown(raw.iloc[row])}, which is no finite number"
        )
    return numbers


def read_texts(frame: pd.DataFrame, column: str) -> npt.NDArray[np.object_]:
    """Return a column as texts, None where it is missing."""
    raw = frame[column]
    texts: npt.NDArray[np.object_] = (
        raw.astype(object).map(str, na_action="ignore").to_numpy(dtype=object)
    )
    texts[raw.isna().to_numpy()] = None
    return texts


def is_category(column: pd.Series) -> bool:
    """Return whether a column holds categories: anything but numbers, of whatever dtype."""
    if column.dtype == object:
        return pd.api.types.infer_dtype(column, skipna=True) not in NUMBERS
    numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    return not numeric


def has_ids(frame: pd.DataFrame, columns: ColumnRoles) -> bool:
    """Return whether a frame has the id column."""
    return columns.id in frame.columns


def read_series(
    frame: pd.DataFrame, columns: ColumnRoles, location: FrameLocation
) -> tuple[list[Any], IntArray]:
    """Return the ids of the series in order of appearance, and the series of each row.

    Raises
    ------
    DataError
        If the column is missing, or a row has no id.
    """
    if not has_ids(frame, columns):
        if columns.id != DEFAULT_ID and len(columns.target) == 1:
            check_columns(frame, (columns.id,), location)
        return [columns.target[0]], np.zeros(len(frame), dtype=np.int64)
    check_columns(frame, (columns.id,), location)
    missing = frame[columns.id].isna().to_numpy()
    if missing.any():
        raise DataError(f"{location.row(int(missing.argmax()))}: column {columns.id!r} is empty")
    codes, names = pd.factorize(frame[columns.id])
    return list(names.tolist()), codes.astype(np.int64)


def read_times(
    frame: pd.DataFrame, column: str | None, codes: IntArray, location: FrameLocation
) -> pd.Index:
    """Return the time of each row: time stamps, or whole numbers.

    Raises
    ------
    DataError
        If a time is missing or cannot be read; the message names the row.
    """
    if column is None:
        return pd.Index(pd.Series(codes).groupby(codes).cumcount())
    raw = frame[column]
    if pd.api.types.is_numeric_dtype(raw):
        times = raw
        wrong = raw.isna() | ((raw.fillna(0) % 1) != 0)
    else:
        times = _parse_times(raw)
        wrong = times.isna()
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        raise DataError(
            f"{location.cell(column, row)} holds {shown(raw.iloc[row])}, which is no time"
        )
    if pd.api.types.is_numeric_dtype(times):
        return pd.Index(times.to_numpy(dtype=np.int64))
    return pd.DatetimeIndex(times).as_unit("us")


def _parse_times(raw: pd.Series) -> pd.Series:
    """Return time stamps; NaT where a value cannot be read in the format of the first one.

    Texts with changing offsets from UTC become UTC.
    """
    if pd.api.types.is_datetime64_any_dtype(raw):
        return raw
    if isinstance(raw.dtype, pd.PeriodDtype):
        return raw.dt.to_timestamp()
    first = raw[raw.notna()].iloc[:1]
    iso = pd.api.types.is_string_dtype(raw) and bool(
        pd.to_datetime(first, errors="coerce", format="ISO8601").notna().all()
    )
    layout = "ISO8601" if iso else None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Could not infer format", UserWarning)
        # pandas 3 refuses changing offsets, pandas 2 warns and returns Python objects.
        warnings.filterwarnings("error", ".*mixed time zones", FutureWarning)
        try:
            return pd.to_datetime(raw, errors="coerce", format=layout)
        except (ValueError, FutureWarning):
            return pd.to_datetime(raw, errors="coerce", format=layout, utc=True)


def shown(value: Any) -> str:
    """Return a value as an error shows it."""
    if pd.isna(value):
        return "nothing"
    return repr(value) if isinstance(value, str) else str(value)
