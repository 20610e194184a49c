"""Predictions along records of any length, at constant memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from titans_seq.dna.carry import CarriedBackbone, carrying
from titans_seq.dna.checked import CheckedFasta, OnError, checked_fasta
from titans_seq.dna.pieces import Piece
from titans_seq.dna.tiles import Grid, Window, tile
from titans_seq.exceptions import DataError

BATCH_LETTERS = 1 << 17
"""Letters that are predicted in one call, about."""

BATCH_WINDOWS = 4096
"""Windows of one call, at most."""

MAX_WHOLE = 200_000
"""Letters of a record, at most, that is read without windows."""

Chances = npt.NDArray[np.float64]


class WindowPrediction(NamedTuple):
    """What a classifier says of one window."""

    record: str
    """Name of the record: the first word of its header."""

    start: int
    """Letters of the record before the window."""

    end: int
    """Place behind the window's last letter, counted from 0."""

    label: Any
    """The likeliest label."""

    probabilities: Chances
    """Of each class, as in ``classes_``."""

    surprise: float | None
    """Mean surprise of the memory in the window; None unless it is carried."""


class Predictions(NamedTuple):
    """What a classifier says of windows that follow one another."""

    windows: list[Window]

    chances: Chances
    """Probability of each class, (windows, classes)."""

    labels: npt.NDArray[Any]

    surprise: Chances | None
    """Mean surprise of the memory in each window; None unless it is carried."""

    def rows(self) -> Iterator[WindowPrediction]:
        """Yield one row a window."""
        for index, window in enumerate(self.windows):
            yield WindowPrediction(
                window.head.name,
                window.start,
                window.end,
                self.labels[index],
                self.chances[index],
                None if self.surprise is None else float(self.surprise[index]),
            )


def stream_rows(
    classifier: Any,
    path: str | os.PathLike[str],
    grid: Grid,
    *,
    on_error: OnError = "stop",
    refused: str | os.PathLike[str] | None = None,
) -> Iterator[WindowPrediction]:
    """Yield a prediction for each window of each record of a FASTA file."""
    with checked_fasta(path, on_error=on_error, refused=refused) as source:
        check_lengths(source, grid)
        for predictions in predict_pieces(classifier, source.pieces(), grid):
            yield from predictions.rows()


def check_lengths(source: CheckedFasta, grid: Grid) -> None:
    """Refuse a long record if there are no windows to part it.

    Raises
    ------
    DataError
        If there is no window, and a record has more than ``MAX_WHOLE`` letters.
    """
    letters, name = source.survey.longest
    if grid.window is None and letters > MAX_WHOLE:
        raise DataError(
            f"{source.where}, record {name}: {letters:,} letters are more than {MAX_WHOLE:,}; "
            "read it in windows (window=N; --window N)"
        )


def predict_pieces(classifier: Any, pieces: Iterable[Piece], grid: Grid) -> Iterator[Predictions]:
    """Yield predictions of windows along records that come in pieces, in their order."""
    windows = tile(pieces, grid)
    if grid.carry:
        return predict_carried(classifier, windows)
    return predict_windows(classifier, windows)


def predict_windows(classifier: Any, windows: Iterable[Window]) -> Iterator[Predictions]:
    """Yield predictions of windows in their order, each window by itself."""
    for batch in _batches(windows):
        yield _predict(classifier, batch)


def predict_carried(classifier: Any, windows: Iterable[Window]) -> Iterator[Predictions]:
    """Yield predictions of windows that do not overlap, the memory carried from one to the next.

    The memory begins anew with each record.
    """
    with carrying(classifier) as (twin, memory):
        for _, record in groupby(windows, lambda window: window.head.number):
            memory.begin()
            for batch in _batches(record):
                # A call takes windows of one length: only the last may differ.
                split = len(batch) - (len(batch[-1].codes) != len(batch[0].codes))
                yield from (
                    _predict(twin, part, memory) for part in (batch[:split], batch[split:]) if part
                )


def _predict(
    classifier: Any, windows: list[Window], memory: CarriedBackbone | None = None
) -> Predictions:
    """Return predictions of some windows."""
    chances = classifier.predict_proba([window.codes for window in windows])
    surprise = None if memory is None else memory.take_surprise(len(windows))
    return Predictions(windows, chances, classifier.classes_[chances.argmax(axis=1)], surprise)


def _batches(windows: Iterable[Window]) -> Iterator[list[Window]]:
    """Yield windows in batches of enough letters to be worth a call."""
    batch: list[Window] = []
    letters = 0
    for window in windows:
        batch.append(window)
        letters += len(window.codes)
        if letters >= BATCH_LETTERS or len(batch) >= BATCH_WINDOWS:
            yield batch
            batch, letters = [], 0
    if batch:
        yield batch
