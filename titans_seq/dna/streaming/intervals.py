"""Intervals of a genome: BED in, each interval's sequence predicted."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from titans_seq.dna.alphabet import Codes, reverse_complement
from titans_seq.dna.reading.checked import CheckedFasta
from titans_seq.dna.reading.sources import open_text, source_name, text_lines
from titans_seq.dna.reading.spans import Span, cut
from titans_seq.dna.streaming.answers import Answers, ask, join_answers
from titans_seq.dna.streaming.stream import BATCH_LETTERS
from titans_seq.exceptions import DataError

_TALK = ("#", "track", "browser")
STRANDS = ("+", "-", ".")


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
        If the file cannot be read, holds no interval, or a line is not one; the message names
        file and line.
    """
    where = source_name(path)
    with open_text(path) as handle:
        found = [
            _interval(line.rstrip("\n"), number, where)
            for number, line in text_lines(handle, where)
            if line.strip() and not line.startswith(_TALK)
        ]
    if not found:
        raise DataError(f"{where} is empty; BED needs lines of chrom, start and end")
    return found


def _interval(text: str, number: int, where: str) -> Interval:
    """Return the interval of one line."""
    cells = text.split("\t") if "\t" in text else text.split()
    place = f"{where}, line {number}"
    if len(cells) < 3:
        raise DataError(f"{place}: {len(cells)} column(s); BED needs chrom, start and end")
    try:
        start, end = int(cells[1]), int(cells[2])
    except ValueError:
        raise DataError(
            f"{place}: start {cells[1]!r} and end {cells[2]!r} must be whole numbers"
        ) from None
    if not 0 <= start < end:
        raise DataError(f"{place}: start {start} and end {end}; 0 <= start < end is right")
    strand = cells[5].strip() if len(cells) > 5 else "."
    if strand not in STRANDS:
        raise DataError(f"{place}: strand {strand!r} must be one of {' '.join(STRANDS)}")
    return Interval(cells[0], start, end, cells[3] if len(cells) > 3 else "", strand, number)


def predict_intervals(
    estimator: Any, genome: CheckedFasta, intervals: list[Interval], where: str
) -> Answers:
    """Return the answer for each interval.

    An interval on the ``-`` strand is read as its reverse complement.

    Parameters
    ----------
    estimator
        A fitted one.
    genome
        Read once, at memory that does not grow with it.
    intervals
        In any order.
    where
        What to call the intervals in an error.

    Raises
    ------
    DataError
        If the genome has no record of an interval's name, or it ends before the interval does.
    """
    spans: dict[str, list[Span]] = defaultdict(list)
    for index, one in enumerate(intervals):
        spans[one.chrom].append(Span(one.start, one.end, index))
    order: list[int] = []
    answers: list[Answers] = []
    seen = np.zeros(len(intervals), dtype=bool)

    def sequences() -> Iterator[tuple[int, Codes]]:
        for index, codes in cut(genome.pieces(), spans, genome.where):
            one = intervals[index]
            if len(codes) < one.end - one.start:
                raise DataError(
                    f"{where}, line {one.line}: {one.chrom}:{one.start}-{one.end} reaches "
                    f"beyond the record's end in {genome.where}"
                )
            seen[index] = True
            yield index, reverse_complement(codes) if one.strand == "-" else codes

    for batch in batches(sequences()):
        order.extend(index for index, _ in batch)
        answers.append(ask(estimator, [codes for _, codes in batch]))
    if not seen.all():
        one = intervals[int(np.argmin(seen))]
        raise DataError(f"{where}, line {one.line}: {genome.where} has no record {one.chrom!r}")
    return join_answers(answers, order)


def batches(sequences: Iterator[tuple[int, Codes]]) -> Iterator[list[tuple[int, Codes]]]:
    """Yield numbered sequences in batches of enough letters to be worth a call."""
    batch: list[tuple[int, Codes]] = []
    letters = 0
    for one in sequences:
        batch.append(one)
        letters += len(one[1])
        if letters >= BATCH_LETTERS:
            yield batch
            batch, letters = [], 0
    if batch:
        yield batch
