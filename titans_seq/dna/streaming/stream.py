"""Predictions along records of any length, in windows, in constant memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from titans_seq.dna.alphabet import Codes
from titans_seq.dna.reading.records import (
    CheckedFasta,
    OnError,
    RecordHeader,
    RecordPiece,
    checked_fasta,
)
from titans_seq.dna.streaming.carry import CarriedBackbone, carrying
from titans_seq.dna.streaming.predictions import (
    SequencePredictions,
    letter_batches,
    predict_sequences,
)
from titans_seq.exceptions import ConfigError, DataError
from titans_seq.training import shared_map

MAX_UNWINDOWED = 200_000
"""Letters of the longest record that is read without windows."""


class RecordWindow(NamedTuple):
    """A window of a record."""

    head: RecordHeader

    start: int
    """Position of its first letter in the record, from 0."""

    codes: Codes

    @property
    def end(self) -> int:
        """Position after its last letter, from 0."""
        return self.start + len(self.codes)


class WindowGrid(NamedTuple):
    """Positions of windows along a record.

    Windows begin at 0, ``stride``, twice that, and so on, until one reaches the end of the
    record; the last may be shorter. Without a window length, a record is one window.
    """

    window: int | None
    stride: int

    carry: bool = False
    """Whether the state of the memory is carried from window to window."""

    @classmethod
    def checked(
        cls, window: int | None, stride: int | None = None, *, carry: bool = False
    ) -> WindowGrid:
        """Return a valid grid; the stride is the window by default.

        Raises
        ------
        ConfigError
            If a number is below 1, there is a stride or a carried memory without a window, or
            a carried memory would read letters twice or not at all.
        """
        if window is None:
            if stride is not None or carry:
                raise ConfigError(f"{'carry' if carry else f'stride={stride}'} needs a window")
            return cls(None, 1)
        if carry and stride not in (None, window):
            raise ConfigError(
                f"stride={stride}: a carried memory reads each letter once, so the stride must be "
                f"the window, {window}"
            )
        for name, value in (("window", window), ("stride", stride)):
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        return cls(window, window if stride is None else stride, carry)


class WindowPrediction(NamedTuple):
    """Prediction for one window."""

    record: str
    """Name of the record: the first word of its header."""

    start: int
    """Position of the window's first letter in the record, from 0."""

    end: int
    """Position after the window's last letter, from 0."""

    label: Any
    """As returned by ``predict``, several joined by ``;``; None of a regressor."""

    values: npt.NDArray[np.float64]
    """Probability of each class, as in ``classes_``; or of a regressor, its values."""

    surprise: float | None
    """Mean surprise of the memory in the window; None unless it is carried."""


class WindowPredictions(NamedTuple):
    """Predictions for consecutive windows."""

    windows: list[RecordWindow]

    predictions: SequencePredictions

    surprise: npt.NDArray[np.float64] | None
    """Mean surprise of the memory in each window; None unless it is carried."""

    def rows(self) -> Iterator[WindowPrediction]:
        """Yield the prediction for each window."""
        labels = self.predictions.labels
        for index, window in enumerate(self.windows):
            yield WindowPrediction(
                window.head.name,
                window.start,
                window.end,
                None if labels is None else labels[index],
                self.predictions.values[index],
                None if self.surprise is None else float(self.surprise[index]),
            )


def cut_windows(pieces: Iterable[RecordPiece], grid: WindowGrid) -> Iterator[RecordWindow]:
    """Yield the windows of each record in order, buffering only the letters still needed."""
    buffer = np.empty(0, np.uint8)
    start = end = 0  # start of the next window; end of the last one
    for piece in pieces:
        if not piece.start:
            buffer, start, end = piece.codes, 0, 0
        elif len(piece.codes):
            buffer = np.concatenate([buffer, piece.codes]) if len(buffer) else piece.codes
        position = piece.start + len(piece.codes)  # letters of the record read so far
        buffer_start = position - len(buffer)
        window = position + 1 if grid.window is None else grid.window
        while start + window <= position:
            end = start + window
            yield RecordWindow(piece.head, start, buffer[start - buffer_start : end - buffer_start])
            start += grid.stride
        buffer = buffer[min(start - buffer_start, len(buffer)) :]
        # A shorter last window, unless the one before already reached the end.
        if piece.ends and end < position and start < position:
            yield RecordWindow(piece.head, start, buffer)


def check_lengths(source: CheckedFasta, grid: WindowGrid) -> None:
    """Raise if a record is too long to be read without windows.

    Raises
    ------
    DataError
        If there is no window, and a record has more than ``MAX_UNWINDOWED`` letters.
    """
    letters, name = source.summary.longest
    if grid.window is None and letters > MAX_UNWINDOWED:
        raise DataError(
            f"{source.where}, record {name}: {letters:,} letters are more than "
            f"{MAX_UNWINDOWED:,}; read it in windows (window=N; --window N)"
        )


def predict_file(
    estimator: Any,
    path: str | os.PathLike[str],
    grid: WindowGrid,
    *,
    on_error: OnError,
    refused: str | os.PathLike[str] | None,
) -> Iterator[WindowPrediction]:
    """Yield the prediction for each window of each record of a FASTA file."""
    with checked_fasta(path, on_error=on_error, refused=refused) as source:
        check_lengths(source, grid)
        for predictions in predict_pieces(estimator, source.pieces(), grid):
            yield from predictions.rows()


def predict_pieces(
    estimator: Any, pieces: Iterable[RecordPiece], grid: WindowGrid
) -> Iterator[WindowPredictions]:
    """Yield the predictions for windows along records that are read in pieces, in order."""
    windows = cut_windows(pieces, grid)
    if grid.carry:
        return predict_carried(estimator, windows)
    return predict_windows(estimator, windows)


def predict_windows(estimator: Any, windows: Iterable[RecordWindow]) -> Iterator[WindowPredictions]:
    """Yield the predictions for independent windows, in order."""
    yield from shared_map(lambda batch: _predict(estimator, batch), _batches(windows))


def predict_carried(estimator: Any, windows: Iterable[RecordWindow]) -> Iterator[WindowPredictions]:
    """Yield the predictions for windows that do not overlap, with the memory carried along.

    The memory is reset at the beginning of each record.
    """
    with carrying(estimator) as (twin, memory):
        for _, record in groupby(windows, lambda window: window.head.number):
            memory.reset()
            for batch in _batches(record):
                # All windows of a call must have one length: only the last may differ.
                split = len(batch) - (len(batch[-1].codes) != len(batch[0].codes))
                yield from (
                    _predict(twin, part, memory) for part in (batch[:split], batch[split:]) if part
                )


def _predict(
    estimator: Any, windows: list[RecordWindow], memory: CarriedBackbone | None = None
) -> WindowPredictions:
    """Return the predictions for some windows."""
    predictions = predict_sequences(estimator, [window.codes for window in windows])
    surprise = None if memory is None else memory.take_surprise(len(windows))
    return WindowPredictions(windows, predictions, surprise)


def _batches(windows: Iterable[RecordWindow]) -> Iterator[list[RecordWindow]]:
    return letter_batches(windows, lambda window: len(window.codes))
