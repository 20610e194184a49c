"""Predictions along records as columns of a table, as BED, and as bedGraph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from titans_seq.dna.streaming.answers import Answers, Outputs
from titans_seq.dna.streaming.intervals import Interval
from titans_seq.dna.streaming.stream import Predictions
from titans_seq.exceptions import ConfigError

Columns = dict[str, Any]

SURPRISE = "surprise"
"""Column, and track, of how badly a carried memory foretold what it read."""


def answer_columns(answers: Answers, outputs: Outputs) -> Columns:
    """Return the label, if there is one, and a column for each output."""
    columns: Columns = {} if answers.labels is None else {"label": answers.labels}
    return columns | {name: answers.values[:, i] for i, name in enumerate(outputs.columns)}


def window_columns(predictions: Predictions, outputs: Outputs, *, places: bool) -> Columns:
    """Return predictions as columns, a row a window.

    Parameters
    ----------
    predictions
        Of some windows.
    outputs
        What the estimator answers.
    places
        Whether to say where in its record a window lies.
    """
    windows = predictions.windows
    columns: Columns = {"id": [window.head.name for window in windows]}
    if places:
        columns["start"] = [window.start for window in windows]
        columns["end"] = [window.end for window in windows]
    columns |= answer_columns(predictions.answers, outputs)
    if predictions.surprise is not None:
        columns[SURPRISE] = predictions.surprise
    return columns


def interval_columns(intervals: Sequence[Interval], answers: Answers, outputs: Outputs) -> Columns:
    """Return intervals as columns, a row for each."""
    return {
        "id": [one.name for one in intervals],
        "chrom": [one.chrom for one in intervals],
        "start": [one.start for one in intervals],
        "end": [one.end for one in intervals],
        "strand": [one.strand for one in intervals],
        **answer_columns(answers, outputs),
    }


def window_lines(predictions: Predictions) -> str:
    """Return windows as BED: record, start, end, name, score, no strand.

    The name is the label and the score 1000 times the largest probability; of a regressor the
    name is the first value and the score 0.
    """
    places = [(one.head.name, one.start, one.end, ".") for one in predictions.windows]
    return _bed(places, predictions.answers)


def interval_lines(intervals: Sequence[Interval], answers: Answers) -> str:
    """Return intervals as BED, named and scored as windows are."""
    return _bed([(one.chrom, one.start, one.end, one.strand) for one in intervals], answers)


def _bed(places: Sequence[tuple[str, int, int, str]], answers: Answers) -> str:
    """Return BED lines of six columns."""
    if answers.labels is None:
        names = [f"{value:.6g}" for value in answers.values[:, 0]]
        scores = [0] * len(names)
    else:
        names = ["_".join(str(label).split()) or "." for label in answers.labels]
        scores = np.rint(1000 * answers.values.max(axis=1)).astype(int).tolist()
    return "".join(
        f"{chrom}\t{start}\t{end}\t{name}\t{score}\t{strand}\n"
        for (chrom, start, end, strand), name, score in zip(places, names, scores, strict=True)
    )


class BedGraph:
    """Values along records as bedGraph, in which no two lines may overlap.

    Where windows overlap, each letter gets the value of the window whose middle is nearest.

    Parameters
    ----------
    outputs
        What the estimator answers.
    what
        Name of an output, or ``surprise``; None: the last output.
    """

    def __init__(self, outputs: Outputs, what: str | None = None) -> None:
        what = outputs.names[-1] if what is None else what
        if what not in (*outputs.names, SURPRISE):
            known = ", ".join((*outputs.names, SURPRISE))
            raise ConfigError(f"there is no track {what!r}; there are {known}")
        self.column = outputs.names.index(what) if what in outputs.names else None
        self.last: tuple[int, str, int, int, float] | None = None

    def lines(self, predictions: Predictions) -> str:
        """Return the lines that are settled by now: all but the last window's.

        Raises
        ------
        ConfigError
            If surprise was asked for, and no memory was carried.
        """
        if self.column is not None:
            values = predictions.answers.values[:, self.column]
        elif predictions.surprise is not None:
            values = predictions.surprise
        else:
            raise ConfigError("surprise needs a memory that is carried along: --carry")
        out = []
        for window, value in zip(predictions.windows, values.tolist(), strict=True):
            begin = window.start
            if self.last is not None:
                number, name, first, end, old = self.last
                if number == window.head.number and end > begin:
                    begin += (end - begin) // 2
                    end = begin
                out.append(_line(name, first, end, old))
            self.last = (window.head.number, window.head.name, begin, window.end, value)
        return "".join(out)

    def end(self) -> str:
        """Return the last line."""
        return "" if self.last is None else _line(*self.last[1:])


def _line(name: str, start: int, end: int, value: float) -> str:
    """Return a line of bedGraph."""
    return f"{name}\t{start}\t{end}\t{value:.6g}\n"
