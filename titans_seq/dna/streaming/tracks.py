"""Predictions as columns of a table, as BED, and as bedGraph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from titans_seq.dna.streaming.intervals import Interval
from titans_seq.dna.streaming.predictions import OutputNames, SequencePredictions
from titans_seq.dna.streaming.stream import WindowPredictions
from titans_seq.exceptions import ConfigError

_SURPRISE = "surprise"
"""Column and track of the prediction error of a carried memory."""


def prediction_columns(predictions: SequencePredictions, outputs: OutputNames) -> dict[str, Any]:
    """Return the label, if there is one, and a column for each output."""
    columns: dict[str, Any] = {} if predictions.labels is None else {"label": predictions.labels}
    return columns | {name: predictions.values[:, i] for i, name in enumerate(outputs.columns)}


def window_columns(
    predictions: WindowPredictions, outputs: OutputNames, *, positions: bool
) -> dict[str, Any]:
    """Return predictions as the columns of a table with one row per window.

    Parameters
    ----------
    predictions, outputs
        Predictions for some windows, and the names of their outputs.
    positions
        Whether to include the start and end of each window.
    """
    windows = predictions.windows
    columns: dict[str, Any] = {"id": [window.head.name for window in windows]}
    if positions:
        columns["start"] = [window.start for window in windows]
        columns["end"] = [window.end for window in windows]
    columns |= prediction_columns(predictions.predictions, outputs)
    if predictions.surprise is not None:
        columns[_SURPRISE] = predictions.surprise
    return columns


def interval_columns(
    intervals: Sequence[Interval], predictions: SequencePredictions, outputs: OutputNames
) -> dict[str, Any]:
    """Return predictions as the columns of a table with one row per interval."""
    return {
        "id": [interval.name for interval in intervals],
        "chrom": [interval.chrom for interval in intervals],
        "start": [interval.start for interval in intervals],
        "end": [interval.end for interval in intervals],
        "strand": [interval.strand for interval in intervals],
        **prediction_columns(predictions, outputs),
    }


def window_lines(predictions: WindowPredictions) -> str:
    """Return windows as BED: record, start, end, name, score, no strand.

    The name is the label and the score 1000 times the largest probability; of a regressor the
    name is the first value and the score 0.
    """
    return _bed(
        [(window.head.name, window.start, window.end, ".") for window in predictions.windows],
        predictions.predictions,
    )


def interval_lines(intervals: Sequence[Interval], predictions: SequencePredictions) -> str:
    """Return intervals as BED, with names and scores as those of windows."""
    return _bed([(row.chrom, row.start, row.end, row.strand) for row in intervals], predictions)


def _bed(intervals: Sequence[tuple[str, int, int, str]], predictions: SequencePredictions) -> str:
    """Return BED lines of six columns."""
    if predictions.labels is None:
        names = [f"{value:.6g}" for value in predictions.values[:, 0]]
        scores = [0] * len(names)
    else:
        names = ["_".join(str(label).split()) or "." for label in predictions.labels]
        scores = np.rint(1000 * predictions.values.max(axis=1)).astype(int).tolist()
    return "".join(
        f"{chrom}\t{start}\t{end}\t{name}\t{score}\t{strand}\n"
        for (chrom, start, end, strand), name, score in zip(intervals, names, scores, strict=True)
    )


class BedGraph:
    """Values along records as bedGraph, in which no two lines may overlap.

    Where windows overlap, each letter gets the value of the window whose centre is nearest.

    Parameters
    ----------
    outputs
        Names of the estimator's outputs.
    track
        Name of an output, or ``surprise``; the last output by default.
    """

    def __init__(self, outputs: OutputNames, track: str | None = None) -> None:
        track = outputs.names[-1] if track is None else track
        if track not in (*outputs.names, _SURPRISE):
            known = ", ".join((*outputs.names, _SURPRISE))
            raise ConfigError(f"unknown track {track!r}; choose one of {known}")
        self.column = outputs.names.index(track) if track in outputs.names else None
        self.last: tuple[int, str, int, int, float] | None = None

    def lines(self, predictions: WindowPredictions) -> str:
        """Return the lines that are final: all but that of the last window.

        Raises
        ------
        ConfigError
            If the track is ``surprise``, and no memory was carried.
        """
        if self.column is not None:
            values = predictions.predictions.values[:, self.column]
        elif predictions.surprise is not None:
            values = predictions.surprise
        else:
            raise ConfigError("the track 'surprise' needs a carried memory: --carry")
        lines = []
        for window, value in zip(predictions.windows, values.tolist(), strict=True):
            start = window.start
            if self.last is not None:
                number, name, last_start, last_end, last_value = self.last
                # Split an overlap in the middle: half to either window.
                if number == window.head.number and last_end > start:
                    start += (last_end - start) // 2
                    last_end = start
                lines.append(_bedgraph_line(name, last_start, last_end, last_value))
            self.last = (window.head.number, window.head.name, start, window.end, value)
        return "".join(lines)

    def end(self) -> str:
        """Return the last line."""
        return "" if self.last is None else _bedgraph_line(*self.last[1:])


def _bedgraph_line(name: str, start: int, end: int, value: float) -> str:
    """Return a line of bedGraph."""
    return f"{name}\t{start}\t{end}\t{value:.6g}\n"
