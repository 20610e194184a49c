"""Predictions along records of any length, at constant memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, NamedTuple

from sklearn.utils.validation import check_is_fitted

from titans_seq.dna.reading.checked import CheckedFasta, OnError, checked_fasta
from titans_seq.dna.reading.pieces import Piece
from titans_seq.dna.streaming.answers import Answers, Values, ask
from titans_seq.dna.streaming.carry import CarriedBackbone, carrying
from titans_seq.dna.streaming.tiles import Grid, Window, tile
from titans_seq.exceptions import DataError
from titans_seq.training import shared_map

BATCH_LETTERS = 1 << 14
"""Letters that are predicted in one call, about: activations of more leave the cache."""

MAX_WHOLE = 200_000
"""Letters of a record, at most, that is read without windows."""


class WindowPrediction(NamedTuple):
    """What an estimator says of one window."""

    record: str
    """Name of the record: the first word of its header."""

    start: int
    """Letters of the record before the window."""

    end: int
    """Place behind the window's last letter, counted from 0."""

    label: Any
    """As ``predict`` gives it, several parted by ``;``; None of a regressor."""

    values: Values
    """Probability of each class, as in ``classes_``; or of a regressor, its values."""

    surprise: float | None
    """Mean surprise of the memory in the window; None unless it is carried."""


class Predictions(NamedTuple):
    """What an estimator says of windows that follow one another."""

    windows: list[Window]

    answers: Answers

    surprise: Values | None
    """Mean surprise of the memory in each window; None unless it is carried."""

    def rows(self) -> Iterator[WindowPrediction]:
        """Yield one row a window."""
        labels = self.answers.labels
        for index, window in enumerate(self.windows):
            yield WindowPrediction(
                window.head.name,
                window.start,
                window.end,
                None if labels is None else labels[index],
                self.answers.values[index],
                None if self.surprise is None else float(self.surprise[index]),
            )


class StreamMixin:
    """What estimators do with records of any length."""

    def predict_stream(
        self,
        path: str | os.PathLike[str],
        *,
        window: int | None = None,
        stride: int | None = None,
        carry: bool = False,
        on_error: OnError = "stop",
        refused: str | os.PathLike[str] | None = None,
    ) -> Iterator[WindowPrediction]:
        """Yield a prediction for each window of each record of a FASTA file.

        Memory does not grow with the length of a record. The whole file is read, and refused
        if need be, before the first row comes.

        Parameters
        ----------
        path
            File, packed by gzip or bgzip or not; ``-`` is standard input.
        window
            Letters of a window; None: each record is one, of 200,000 letters at most.
        stride
            Letters from one window's begin to the next's; None: the window's own length. Every
            window that begins before the last reaches the record's end is read; the last may
            be shorter.
        carry
            Carry the memory along a record, from window to window, instead of beginning anew
            in each. Windows may not overlap, so there is no stride.
        on_error
            ``stop`` at a record that is refused, or ``skip`` it.
        refused
            FASTA file for skipped records, see
            :func:`titans_seq.dna.reading.checked.checked_fasta`.

        Raises
        ------
        DataError
            If the file is refused, or a record of it and ``on_error`` is ``stop``.
        ConfigError
            If the windows cannot be as asked for.
        """
        check_is_fitted(self)
        grid = Grid.of(window, stride, carry=carry)

        def rows() -> Iterator[WindowPrediction]:
            with checked_fasta(path, on_error=on_error, refused=refused) as source:
                check_lengths(source, grid)
                for predictions in predict_pieces(self, source.pieces(), grid):
                    yield from predictions.rows()

        return rows()


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


def predict_pieces(estimator: Any, pieces: Iterable[Piece], grid: Grid) -> Iterator[Predictions]:
    """Yield predictions of windows along records that come in pieces, in their order."""
    windows = tile(pieces, grid)
    if grid.carry:
        return predict_carried(estimator, windows)
    return predict_windows(estimator, windows)


def predict_windows(estimator: Any, windows: Iterable[Window]) -> Iterator[Predictions]:
    """Yield predictions of windows in their order, each window by itself."""
    yield from shared_map(lambda batch: _predict(estimator, batch), _batches(windows))


def predict_carried(estimator: Any, windows: Iterable[Window]) -> Iterator[Predictions]:
    """Yield predictions of windows that do not overlap, the memory carried from one to the next.

    The memory begins anew with each record.
    """
    with carrying(estimator) as (twin, memory):
        for _, record in groupby(windows, lambda window: window.head.number):
            memory.begin()
            for batch in _batches(record):
                # A call takes windows of one length: only the last may differ.
                split = len(batch) - (len(batch[-1].codes) != len(batch[0].codes))
                yield from (
                    _predict(twin, part, memory) for part in (batch[:split], batch[split:]) if part
                )


def _predict(
    estimator: Any, windows: list[Window], memory: CarriedBackbone | None = None
) -> Predictions:
    """Return predictions of some windows."""
    answers = ask(estimator, [window.codes for window in windows])
    surprise = None if memory is None else memory.take_surprise(len(windows))
    return Predictions(windows, answers, surprise)


def _batches(windows: Iterable[Window]) -> Iterator[list[Window]]:
    """Yield windows in batches of enough letters to be worth a call."""
    batch: list[Window] = []
    letters = 0
    for window in windows:
        batch.append(window)
        letters += len(window.codes)
        if letters >= BATCH_LETTERS:
            yield batch
            batch, letters = [], 0
    if batch:
        yield batch
