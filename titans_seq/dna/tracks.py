"""Predictions along records as columns of a table, BED lines, bedGraph and sums by record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from titans_seq.dna.intervals import Interval
from titans_seq.dna.pieces import Piece
from titans_seq.dna.stream import Predictions
from titans_seq.exceptions import ConfigError

Columns = dict[str, Any]


def chance_columns(chances: npt.NDArray[np.float64], classes: Sequence[Any]) -> Columns:
    """Return one column ``p(name)`` for each class."""
    return {f"p({name})": chances[:, index] for index, name in enumerate(classes)}


def to_columns(predictions: Predictions, classes: Sequence[Any], *, places: bool) -> Columns:
    """Return predictions as columns, a row a window.

    Parameters
    ----------
    predictions
        Of some windows.
    classes
        Names of the classes.
    places
        Whether to say where in its record a window lies.
    """
    windows = predictions.windows
    columns: Columns = {"id": [window.head.name for window in windows]}
    if places:
        columns["start"] = [window.start for window in windows]
        columns["end"] = [window.end for window in windows]
    columns["label"] = predictions.labels
    columns |= chance_columns(predictions.chances, classes)
    if predictions.surprise is not None:
        columns["surprise"] = predictions.surprise
    return columns


def bed_lines(predictions: Predictions) -> str:
    """Return windows as BED: record, start, end, label, 1000 times its probability, no strand."""
    scores = np.rint(1000 * predictions.chances.max(axis=1)).astype(int).tolist()
    return "".join(
        f"{window.head.name}\t{window.start}\t{window.end}\t{_word(label)}\t{score}\t.\n"
        for window, label, score in zip(
            predictions.windows, predictions.labels, scores, strict=True
        )
    )


def interval_lines(
    intervals: Sequence[Interval], labels: Sequence[Any], chances: npt.NDArray[np.float64]
) -> str:
    """Return intervals as BED, their labels for names and 1000 times the probability as score."""
    scores = np.rint(1000 * chances.max(axis=1)).astype(int).tolist()
    return "".join(
        f"{one.chrom}\t{one.start}\t{one.end}\t{_word(label)}\t{score}\t{one.strand}\n"
        for one, label, score in zip(intervals, labels, scores, strict=True)
    )


def _word(label: Any) -> str:
    """Return a label as one field of BED, which knows no blanks."""
    return "_".join(str(label).split()) or "."


class BedGraph:
    """Values along records as bedGraph, in which no two lines may overlap.

    Where windows overlap, each letter gets the value of the window whose middle is nearest.

    Parameters
    ----------
    classes
        Names of the classes.
    what
        ``surprise``, or the name of a class, whose probability is drawn.
    """

    def __init__(self, classes: Sequence[Any], what: str) -> None:
        names = [str(name) for name in classes]
        if what != "surprise" and what not in names:
            raise ConfigError(f"no class is called {what!r}; there are {', '.join(names)}")
        self.column = None if what == "surprise" else names.index(what)
        self.last: tuple[int, str, int, int, float] | None = None

    def lines(self, predictions: Predictions) -> str:
        """Return the lines that are settled by now: all but the last window's."""
        if self.column is None and predictions.surprise is None:
            raise ConfigError("surprise needs a memory that is carried along: --carry")
        values = predictions.chances[:, self.column or 0]
        if self.column is None and predictions.surprise is not None:
            values = predictions.surprise
        out = []
        for window, value in zip(predictions.windows, values.tolist(), strict=True):
            begin = window.start
            if self.last is not None:
                number, name, first, end, old = self.last
                if number == window.head.number and end > begin:
                    begin += (end - begin) // 2
                    end = begin
                out.append(f"{name}\t{first}\t{end}\t{old:.6g}\n")
            self.last = (window.head.number, window.head.name, begin, window.end, value)
        return "".join(out)

    def end(self) -> str:
        """Return the last line."""
        if self.last is None:
            return ""
        _, name, first, end, value = self.last
        return f"{name}\t{first}\t{end}\t{value:.6g}\n"


class RecordSummary(NamedTuple):
    """What the windows of one record come to."""

    name: str
    length: int
    windows: int
    labels: dict[str, int]
    """Windows of each label."""

    mean: npt.NDArray[np.float64]
    """Mean probability of each class over the windows."""

    highest: npt.NDArray[np.float64]
    """Largest probability of each class."""

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
        starts = np.array([window.start for window in predictions.windows])
        for rows in np.split(np.arange(len(numbers)), np.flatnonzero(np.diff(numbers)) + 1):
            if numbers[rows[0]] != self._number:
                yield from self.end()
                self._number = int(numbers[rows[0]])
            chances = predictions.chances[rows]
            best = chances.argmax(axis=0)
            last = predictions.windows[rows[-1]]
            names, counts = np.unique(predictions.labels[rows].astype(str), return_counts=True)
            part = RecordSummary(
                last.head.name,
                0,
                len(rows),
                dict(zip(names.tolist(), counts.tolist(), strict=True)),
                chances.sum(axis=0),
                chances.max(axis=0),
                starts[rows][best],
            )
            self._open = part if self._open is None else _joined(self._open, part)

    def end(self) -> Iterator[RecordSummary]:
        """Yield the record that is open, if there is one."""
        if self._open is not None:
            yield self._open._replace(
                length=self._lengths.pop(self._number), mean=self._open.mean / self._open.windows
            )
        self._open = None


def _joined(one: RecordSummary, more: RecordSummary) -> RecordSummary:
    """Return the sums over two runs of windows of one record."""
    higher = more.highest > one.highest
    labels = {
        name: one.labels.get(name, 0) + more.labels.get(name, 0)
        for name in one.labels | more.labels
    }
    return RecordSummary(
        one.name,
        0,
        one.windows + more.windows,
        labels,
        one.mean + more.mean,
        np.where(higher, more.highest, one.highest),
        np.where(higher, more.place, one.place),
    )


def _commonest(summary: RecordSummary, names: Sequence[str]) -> str:
    """Return the label of most windows; of those, the likeliest on the mean."""
    means = dict(zip(names, summary.mean.tolist(), strict=True))
    return max(summary.labels, key=lambda name: (summary.labels[name], means.get(name, 0.0)))


def summary_columns(summaries: Sequence[RecordSummary], classes: Sequence[Any]) -> Columns:
    """Return summaries as columns, a row a record.

    The label is the one that most windows have, and of those the likeliest on the mean.
    """
    names = [str(name) for name in classes]
    columns: Columns = {
        "id": [one.name for one in summaries],
        "length": [one.length for one in summaries],
        "windows": [one.windows for one in summaries],
        "label": [_commonest(one, names) for one in summaries],
    }
    for index, name in enumerate(names):
        columns[f"windows({name})"] = [one.labels.get(name, 0) for one in summaries]
        columns[f"mean p({name})"] = [one.mean[index] for one in summaries]
        columns[f"max p({name})"] = [one.highest[index] for one in summaries]
        columns[f"start of max p({name})"] = [one.place[index] for one in summaries]
    return columns
