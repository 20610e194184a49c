"""Checked tables from a user's frames and arrays, and the split into training and validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from titans_seq.exceptions import ConfigError, DataError
from titans_seq.forecasting.tables.arrays import IntArray
from titans_seq.forecasting.tables.frames import ColumnRoles, FrameLocation
from titans_seq.forecasting.tables.table import Table, table_from_frame

VALIDATION_SHARE = 0.15
"""Default share of each series' rows, the last ones, that choose the epoch."""

Data: TypeAlias = "pd.DataFrame | npt.NDArray[Any]"


def as_frame(data: Data, columns: ColumnRoles, what: str) -> pd.DataFrame:
    """Return a frame as it is, and an array (series, time) as a long frame.

    Raises
    ------
    DataError
        If it is neither, or an array of another shape.
    """
    if isinstance(data, pd.DataFrame):
        return data
    if not isinstance(data, np.ndarray | list):
        raise DataError(f"{what} must be a DataFrame or an array, got {type(data).__name__}")
    values: npt.NDArray[Any] = np.asarray(data)
    if values.ndim not in (1, 2) or not np.issubdtype(values.dtype, np.number):
        raise DataError(
            f"{what}: an array must hold numbers in the shape (series, time), "
            f"got {values.dtype} in {values.shape}"
        )
    values = np.atleast_2d(values)
    series, time = values.shape
    if len(columns.target) != 1 or columns.static or columns.covariates:
        raise DataError(f"{what}: covariates and several targets need a DataFrame")
    return pd.DataFrame(
        {
            columns.id: np.repeat(np.arange(series), time),
            "row" if columns.time is None else columns.time: np.tile(np.arange(time), series),
            columns.target[0]: values.reshape(-1),
        }
    )


def training_table(
    data: Data,
    columns: ColumnRoles,
    freq: str | int | None,
    *,
    horizon: int,
    val_size: int | float | None,
    val_data: Data | None,
) -> tuple[Table, IntArray]:
    """Return the table of all rows, and how many rows of each series are trained on.

    Raises
    ------
    DataError
        If the data cannot be used.
    ConfigError
        If ``val_size`` cannot be used.
    """
    frame = as_frame(data, columns, "df")
    if val_data is None:
        table = table_from_frame(frame, columns, freq=freq, what="df")
        return table, table.lengths() - held_out_rows(table.lengths(), horizon, val_size)
    if val_size is not None:
        raise ConfigError("give val_size or val_df, not both")
    later = as_frame(val_data, columns, "val_df")
    both = pd.concat([frame, later], ignore_index=True)
    both.attrs.clear()
    table = table_from_frame(both, columns, freq=freq, what="df and val_df together")
    trained = table_from_frame(frame, columns, freq=table.grid.freq, what="df")
    counts = dict(zip(trained.ids, trained.lengths(), strict=True))
    begins = dict(zip(trained.ids, trained.first, strict=True))
    for name, first in zip(table.ids, table.first, strict=True):
        if first != begins.get(name, first):
            raise DataError(f"val_df: series {name!r} begins before its rows in df")
    return table, np.array([counts.get(name, 0) for name in table.ids], dtype=np.int64)


def held_out_rows(lengths: IntArray, horizon: int, val_size: int | float | None) -> IntArray:
    """Return how many rows of each series choose the epoch."""
    if val_size is None:
        default = np.maximum(horizon, (VALIDATION_SHARE * lengths).astype(np.int64))
        return np.where(lengths >= default + 2 * horizon, default, 0)
    if val_size < 0 or (isinstance(val_size, float) and not 0 <= val_size < 1):
        raise ConfigError(f"val_size must be a number of rows or a share below 1, got {val_size}")
    if isinstance(val_size, float):
        return (val_size * lengths).astype(np.int64)
    if val_size >= lengths.max():
        raise ConfigError(
            f"val_size={val_size} leaves no row to train on: the longest series has {lengths.max()}"
        )
    if 0 < val_size < horizon:
        raise ConfigError(f"val_size must be 0 or at least horizon={horizon}, got {val_size}")
    return np.where(lengths > val_size, val_size, 0)


def table_for_prediction(
    data: Data, columns: ColumnRoles, freq: str | int, categories: Sequence[str], what: str
) -> Table:
    """Return the table of data for a trained forecaster.

    Raises
    ------
    DataError
        If the data cannot be used; values of a numeric covariate must be numbers again.
    """
    frame = as_frame(data, columns, what)
    stamps = columns.time is not None and columns.time in frame.columns
    if stamps and isinstance(freq, int) != pd.api.types.is_numeric_dtype(frame[columns.time]):
        kind = "whole numbers" if isinstance(freq, int) else "time stamps"
        source = FrameLocation(frame, what).source
        raise DataError(f"{source}: column {columns.time!r} must hold {kind}, as in fit")
    return table_from_frame(frame, columns, freq=freq, categories=set(categories), what=what)
