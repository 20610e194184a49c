"""Summaries of the predictions for all windows of a record, accumulated window by window."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from titans_seq.dna.reading.records import RecordPiece
from titans_seq.dna.streaming.predictions import OutputNames
from titans_seq.dna.streaming.stream import WindowPredictions


class RecordSummary(NamedTuple):
    """Summary of the windows of one record."""

    name: str
    length: int
    windows: int

    labels: dict[str, int]
    """Number of windows by label; empty of a regressor."""

    mean: npt.NDArray[np.float64]
    """Mean of each output over the windows."""

    maximum: npt.NDArray[np.float64]
    """Largest value of each output."""

    maximum_start: npt.NDArray[np.int64]
    """Start of the first window that has the largest value."""


class Summaries:
    """Accumulates predictions by record; :meth:`count_letters` must see the pieces, too."""

    def __init__(self) -> None:
        self._number = 0
        self._open: RecordSummary | None = None
        self._lengths: dict[int, int] = {}

    def count_letters(self, pieces: Iterable[RecordPiece]) -> Iterator[RecordPiece]:
        """Yield pieces unchanged, and count the letters of their records."""
        for piece in pieces:
            self._lengths[piece.head.number] = piece.start + len(piece.codes)
            yield piece

    def add(self, predictions: WindowPredictions) -> Iterator[RecordSummary]:
        """Add predictions, and yield the summaries of records that have ended."""
        numbers = np.array([window.head.number for window in predictions.windows])
        # One run of rows for each record.
        for rows in np.split(np.arange(len(numbers)), np.flatnonzero(np.diff(numbers)) + 1):
            if numbers[rows[0]] != self._number:
                yield from self.end()
                self._number = int(numbers[rows[0]])
            summary = _summary(predictions, rows)
            self._open = summary if self._open is None else _merged(self._open, summary)

    def end(self) -> Iterator[RecordSummary]:
        """Yield the summary of the last record, if there is one."""
        if self._open is not None:
            length = self._lengths.pop(self._number)
            yield self._open._replace(length=length, mean=self._open.mean / self._open.windows)
        self._open = None


def _summary(predictions: WindowPredictions, rows: npt.NDArray[np.int64]) -> RecordSummary:
    """Return the summary of some windows of one record; its ``mean`` is still the sum."""
    values, labels = predictions.predictions
    windows = [predictions.windows[row] for row in rows]
    counts = np.unique([] if labels is None else labels[rows].astype(str), return_counts=True)
    best = values[rows].argmax(axis=0)
    return RecordSummary(
        name=windows[0].head.name,
        length=0,
        windows=len(rows),
        labels=dict(zip(counts[0].tolist(), counts[1].tolist(), strict=True)),
        mean=values[rows].sum(axis=0),
        maximum=values[rows].max(axis=0),
        maximum_start=np.array([windows[index].start for index in best]),
    )


def _merged(first: RecordSummary, second: RecordSummary) -> RecordSummary:
    """Return the summary of two consecutive runs of windows of one record."""
    higher = second.maximum > first.maximum
    labels = first.labels | second.labels
    return first._replace(
        windows=first.windows + second.windows,
        labels={name: first.labels.get(name, 0) + second.labels.get(name, 0) for name in labels},
        mean=first.mean + second.mean,
        maximum=np.where(higher, second.maximum, first.maximum),
        maximum_start=np.where(higher, second.maximum_start, first.maximum_start),
    )


def summary_columns(summaries: Sequence[RecordSummary], outputs: OutputNames) -> dict[str, Any]:
    """Return summaries as the columns of a table with one row per record.

    The label is that of most windows; of several, the one with the highest mean probability.
    """
    columns: dict[str, Any] = {
        "id": [record.name for record in summaries],
        "length": [record.length for record in summaries],
        "windows": [record.windows for record in summaries],
    }
    if outputs.are_probabilities:
        columns["label"] = [_majority_label(record, outputs.names) for record in summaries]
        for name in outputs.names:
            columns[f"windows({name})"] = [record.labels.get(name, 0) for record in summaries]
    for index, name in enumerate(outputs.columns):
        columns[f"mean {name}"] = [record.mean[index] for record in summaries]
        columns[f"max {name}"] = [record.maximum[index] for record in summaries]
        columns[f"start of max {name}"] = [record.maximum_start[index] for record in summaries]
    return columns


def _majority_label(summary: RecordSummary, names: Sequence[str]) -> str:
    """Return the label of most windows; of several, the one with the highest mean."""
    means = dict(zip(names, summary.mean.tolist(), strict=True))
    return max(summary.labels, key=lambda name: (summary.labels[name], means.get(name, 0.0)))
