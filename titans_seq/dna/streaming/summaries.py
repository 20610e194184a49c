"""What the windows of a record come to, added up as they come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from titans_seq.dna.reading.pieces import Piece
from titans_seq.dna.streaming.answers import Outputs, Values
from titans_seq.dna.streaming.stream import Predictions


class RecordSummary(NamedTuple):
    """What the windows of one record come to."""

    name: str
    length: int
    windows: int

    labels: dict[str, int]
    """Windows of each label; empty of a regressor."""

    mean: Values
    """Mean of each output over the windows."""

    highest: Values
    """Largest value of each output."""

    place: npt.NDArray[np.int64]
    """Start of the window with it, the first if there are several."""


class Summaries:
    """Sums over the windows of each record, as they come; :meth:`watch` the pieces, too."""

    def __init__(self) -> None:
        self._number = 0
        self._open: RecordSummary | None = None
        self._lengths: dict[int, int] = {}

    def watch(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        """Hand pieces on, and note how long their records are."""
        for piece in pieces:
            self._lengths[piece.head.number] = piece.start + len(piece.codes)
            yield piece

    def add(self, predictions: Predictions) -> Iterator[RecordSummary]:
        """Take in predictions, and yield the records that have ended."""
        numbers = np.array([window.head.number for window in predictions.windows])
        for rows in np.split(np.arange(len(numbers)), np.flatnonzero(np.diff(numbers)) + 1):
            if numbers[rows[0]] != self._number:
                yield from self.end()
                self._number = int(numbers[rows[0]])
            part = _summary(predictions, rows)
            self._open = part if self._open is None else _joined(self._open, part)

    def end(self) -> Iterator[RecordSummary]:
        """Yield the record that is open, if there is one."""
        if self._open is not None:
            length = self._lengths.pop(self._number)
            yield self._open._replace(length=length, mean=self._open.mean / self._open.windows)
        self._open = None


def _summary(predictions: Predictions, rows: npt.NDArray[np.int64]) -> RecordSummary:
    """Return the sums over some windows of one record; ``mean`` is the sum yet."""
    values, labels = predictions.answers
    windows = [predictions.windows[row] for row in rows]
    counts = np.unique([] if labels is None else labels[rows].astype(str), return_counts=True)
    best = values[rows].argmax(axis=0)
    return RecordSummary(
        name=windows[0].head.name,
        length=0,
        windows=len(rows),
        labels=dict(zip(counts[0].tolist(), counts[1].tolist(), strict=True)),
        mean=values[rows].sum(axis=0),
        highest=values[rows].max(axis=0),
        place=np.array([windows[index].start for index in best]),
    )


def _joined(one: RecordSummary, more: RecordSummary) -> RecordSummary:
    """Return the sums over two runs of windows of one record."""
    higher = more.highest > one.highest
    labels = one.labels | more.labels
    return one._replace(
        windows=one.windows + more.windows,
        labels={name: one.labels.get(name, 0) + more.labels.get(name, 0) for name in labels},
        mean=one.mean + more.mean,
        highest=np.where(higher, more.highest, one.highest),
        place=np.where(higher, more.place, one.place),
    )


def summary_columns(summaries: Sequence[RecordSummary], outputs: Outputs) -> dict[str, Any]:
    """Return summaries as columns, a row a record.

    The label is the one that most windows have, and of those the likeliest on the mean.
    """
    columns: dict[str, Any] = {
        "id": [one.name for one in summaries],
        "length": [one.length for one in summaries],
        "windows": [one.windows for one in summaries],
    }
    if outputs.labelled:
        columns["label"] = [_commonest(one, outputs.names) for one in summaries]
        for name in outputs.names:
            columns[f"windows({name})"] = [one.labels.get(name, 0) for one in summaries]
    for index, name in enumerate(outputs.columns):
        columns[f"mean {name}"] = [one.mean[index] for one in summaries]
        columns[f"max {name}"] = [one.highest[index] for one in summaries]
        columns[f"start of max {name}"] = [one.place[index] for one in summaries]
    return columns


def _commonest(summary: RecordSummary, names: Sequence[str]) -> str:
    """Return the label of most windows; of those, the likeliest on the mean."""
    means = dict(zip(names, summary.mean.tolist(), strict=True))
    return max(summary.labels, key=lambda name: (summary.labels[name], means.get(name, 0.0)))
