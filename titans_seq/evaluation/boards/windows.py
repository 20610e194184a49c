"""Series of a board's task, cut into histories and the windows to forecast."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import pandas as pd

from titans_seq.evaluation.boards.records import BoardTask
from titans_seq.evaluation.cards.reading import read_card
from titans_seq.evaluation.cards.records import DatasetCard
from titans_seq.evaluation.data.locations import data_path
from titans_seq.exceptions import ConfigError, DataError
from titans_seq.forecasting.tables.arrays import FloatArray
from titans_seq.forecasting.tables.frames import read_frame


class BoardWindow(NamedTuple):
    """One window to forecast."""

    series: str
    """Name of its series."""

    number: int
    """Position among the windows of the series, the earliest is 0."""

    history: FloatArray
    """Every value before it, (time,); NaN where one is missing."""

    actual: FloatArray
    """Values to forecast, (horizon,)."""


def read_windows(task: BoardTask, folder: Path | None = None) -> list[BoardWindow]:
    """Return the windows of a task, series by series.

    Parameters
    ----------
    task
        Task of a board.
    folder
        Data folder; that of ``TITANS_SEQ_DATA`` if left out.

    Raises
    ------
    MissingDataError
        If a file is not found.
    DataError
        If a file differs from its card, cannot be read, or a series is too short.
    """
    windows = []
    for name, values in _series(task, folder):
        end = len(values) - task.skipped
        first = end - task.windows * task.horizon
        if first < 1:
            raise DataError(
                f"task {task.name}, series {name}: {len(values)} values are too few for "
                f"{task.windows} windows of {task.horizon} values and a history"
            )
        for number in range(task.windows):
            cut = first + number * task.horizon
            windows.append(
                BoardWindow(name, number, values[:cut], values[cut : cut + task.horizon])
            )
    return windows


def read_tsf(path: Path) -> Iterator[tuple[str, FloatArray]]:
    """Read a ``.tsf`` file of the Monash archive, compressed or not, series by series.

    The format: a header of ``@`` lines, ``@data``, then a line a series, its attributes and its
    values parted by colons, the values parted by commas, ``?`` where one is missing
    (Godahewa et al., Monash Time Series Forecasting Archive, NeurIPS 2021).

    Raises
    ------
    DataError
        If a value is not a number, or there is no ``@data``; the line is named.
    """
    with _open_text(path) as file:
        in_data = False
        for number, line in enumerate(file, start=1):
            text = line.strip()
            if in_data and text:
                name, *_, values = text.split(":")
                yield name, _tsf_values(values, f"{path}, line {number}")
            in_data = in_data or text.lower() == "@data"
    if not in_data:
        raise DataError(f"{path}: expected a line @data before the series")


def _tsf_values(text: str, where: str) -> FloatArray:
    try:
        return np.array([np.nan if cell == "?" else float(cell) for cell in text.split(",")])
    except ValueError as error:
        raise DataError(f"{where}: {error}; write ? for a missing value") from error


def _open_text(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="latin-1")
    return path.open(encoding="latin-1")


def _series(task: BoardTask, folder: Path | None) -> Iterator[tuple[str, FloatArray]]:
    """Yield the series of a task as its rules want them; a name starts with its data set."""
    for dataset in task.datasets:
        card = read_card(dataset)
        for name, raw in _card_series(card, task, folder):
            whole = len(raw) // task.averaged * task.averaged
            averaged = raw[:whole].reshape(-1, task.averaged).mean(axis=1)
            yield f"{dataset}/{name}", averaged


def _card_series(
    card: DatasetCard, task: BoardTask, folder: Path | None
) -> Iterator[tuple[str, FloatArray]]:
    """Yield the series of a data set as they stand in its files."""
    if card.competition is not None:
        train, test = (_row_tables(data_path(card, part, folder)) for part in ("train", "test"))
        for name, history in train.items():
            yield name, np.concatenate([history, test[name]])
        return
    path = data_path(card, "series", folder)
    if card.columns is None:
        yield from read_tsf(path)
        return
    frame = read_frame(path)
    if card.columns.id is not None:
        raise ConfigError(f"task {task.name}: data set {card.name} must be a wide table")
    times = pd.to_datetime(frame.pop(card.columns.time))
    if task.grid is not None:
        frame.index = pd.DatetimeIndex(times)
        frame = frame[~frame.index.duplicated()].asfreq(task.grid)
    for column in frame.columns:
        yield str(column), frame[column].to_numpy(np.float64)


def _row_tables(path: Path) -> dict[str, FloatArray]:
    """Read a table with a row a series; empty cells behind the last value are dropped."""
    table = pd.read_csv(path, dtype={0: str}, index_col=0)
    return {
        str(name): row[~np.isnan(row)]
        for name, row in zip(table.index, table.to_numpy(float), strict=True)
    }
