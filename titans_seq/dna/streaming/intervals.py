"""Predictions for the intervals of a BED file."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from titans_seq.dna.alphabet import Codes, reverse_complement
from titans_seq.dna.reading.records import CheckedFasta
from titans_seq.dna.reading.sources import open_text, source_name, text_lines
from titans_seq.dna.reading.spans import Span, extract_spans
from titans_seq.dna.streaming.predictions import (
    SequencePredictions,
    concatenate_predictions,
    letter_batches,
    predict_sequences,
)
from titans_seq.exceptions import DataError

_HEADER_LINES = ("#", "track", "browser")
_BED_STRANDS = ("+", "-", ".")


class Interval(NamedTuple):
    """One line of a BED file."""

    chrom: str
    start: int
    end: int
    name: str
    strand: str
    line: int


def read_bed(path: str | os.PathLike[str]) -> list[Interval]:
    """Read the intervals of a BED file of 3 to 12 columns, plain or gzip.

    Raises
    ------
    DataError
        If the file cannot be read, contains no interval, or a line is invalid; the message
        names file and line.
    """
    where = source_name(path)
    with open_text(path) as handle:
        intervals = [
            _interval(line.rstrip("\n"), number, where)
            for number, line in text_lines(handle, where)
            if line.strip() and not line.startswith(_HEADER_LINES)
        ]
    if not intervals:
        raise DataError(f"{where} is empty; BED needs lines of chrom, start and end")
    return intervals


def _interval(text: str, number: int, where: str) -> Interval:
    """Return the interval of one line."""
    cells = text.split("\t") if "\t" in text else text.split()
    where = f"{where}, line {number}"
    if len(cells) < 3:
        raise DataError(f"{where}: {len(cells)} column(s); BED needs chrom, start and end")
    try:
        start, end = int(cells[1]), int(cells[2])
    except ValueError:
        raise DataError(
            f"{where}: start {cells[1]!r} and end {cells[2]!r} must be integers"
        ) from None
    if not 0 <= start < end:
        raise DataError(f"{where}: start {start} and end {end}; must be 0 <= start < end")
    strand = cells[5].strip() if len(cells) > 5 else "."
    if strand not in _BED_STRANDS:
        raise DataError(f"{where}: strand {strand!r} must be one of {' '.join(_BED_STRANDS)}")
    return Interval(cells[0], start, end, cells[3] if len(cells) > 3 else "", strand, number)


def predict_intervals(
    estimator: Any, genome: CheckedFasta, intervals: list[Interval], where: str
) -> SequencePredictions:
    """Return the prediction for each interval; ``-`` intervals are reverse-complemented.

    Parameters
    ----------
    estimator
        A fitted classifier or regressor.
    genome
        Read once, in memory that does not grow with it.
    intervals
        In any order.
    where
        Name of the BED file in error messages.

    Raises
    ------
    DataError
        If the genome has no record of an interval's name, or it ends before the interval does.
    """
    spans: dict[str, list[Span]] = defaultdict(list)
    for index, interval in enumerate(intervals):
        spans[interval.chrom].append(Span(interval.start, interval.end, index))
    order: list[int] = []
    predictions: list[SequencePredictions] = []
    seen = np.zeros(len(intervals), dtype=bool)

    def sequences() -> Iterator[tuple[int, Codes]]:
        for index, codes in extract_spans(genome.pieces(), spans, genome.where):
            interval = intervals[index]
            if len(codes) < interval.end - interval.start:
                raise DataError(
                    f"{where}, line {interval.line}: {interval.chrom}:{interval.start}-"
                    f"{interval.end} extends beyond the end of the record in {genome.where}"
                )
            seen[index] = True
            yield index, reverse_complement(codes) if interval.strand == "-" else codes

    for batch in letter_batches(sequences(), lambda item: len(item[1])):
        order.extend(index for index, _ in batch)
        predictions.append(predict_sequences(estimator, [codes for _, codes in batch]))
    if not seen.all():
        missing = intervals[int(np.argmin(seen))]
        raise DataError(
            f"{where}, line {missing.line}: {genome.where} has no record {missing.chrom!r}"
        )
    return concatenate_predictions(predictions, order)
