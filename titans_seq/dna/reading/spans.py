"""Extract intervals of a genome from its records in one pass over the file."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from titans_seq.dna.alphabet import Codes
from titans_seq.dna.reading.records import RecordPiece
from titans_seq.exceptions import DataError


class Span(NamedTuple):
    """A half-open interval of a record, counted from 0."""

    start: int
    end: int

    key: int
    """Identifier that the caller gives it."""


def extract_spans(
    pieces: Iterable[RecordPiece], spans_by_record: Mapping[str, Sequence[Span]], where: str
) -> Iterator[tuple[int, Codes]]:
    """Yield the key and the codes of each span, as soon as its end is read.

    A span that reaches beyond its record is cut at the record's end, and may be empty. Memory
    grows with the longest stretch that incomplete spans cover, not with the record.

    Parameters
    ----------
    pieces
        The genome.
    spans_by_record
        Spans by name of record.
    where
        Name of the genome in error messages.

    Raises
    ------
    DataError
        If two records have a name for which there are spans.
    """
    seen: set[str] = set()
    extractor = _SpanExtractor([])
    for piece in pieces:
        if not piece.start:
            name = piece.head.name
            if name in seen:
                raise DataError(
                    f"{where}: two records are called {name!r}; names in intervals and variants "
                    "must be unique"
                )
            spans = spans_by_record.get(name, ())
            if spans:
                seen.add(name)
            extractor = _SpanExtractor(spans)
        yield from extractor.read(piece)


class _SpanExtractor:
    """Extracts the spans of one record; buffers only letters that open spans still need."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self.pending = sorted(spans, reverse=True)  # next to begin last
        self.open: list[tuple[int, Span]] = []  # a heap by end
        self.buffer: Codes = np.empty(0, np.uint8)
        self.buffer_start = 0

    def read(self, piece: RecordPiece) -> Iterator[tuple[int, Codes]]:
        """Add a piece to the buffer, and yield the spans that it completes."""
        if not self.pending and not self.open:
            return
        position = piece.start + len(piece.codes)
        if not len(self.buffer):
            self.buffer_start = piece.start
        self.buffer = (
            np.concatenate([self.buffer, piece.codes]) if len(self.buffer) else piece.codes
        )
        while self.pending and (piece.ends or self.pending[-1].start < position):
            span = self.pending.pop()
            heapq.heappush(self.open, (span.end, span))
        while self.open and (piece.ends or self.open[0][0] <= position):
            _, span = heapq.heappop(self.open)
            begin = max(span.start - self.buffer_start, 0)
            yield span.key, self.buffer[begin : max(span.end - self.buffer_start, 0)].copy()
        # Drop the letters before the first open span.
        needed_from = min((span.start for _, span in self.open), default=position)
        self.buffer = self.buffer[needed_from - self.buffer_start :]
        self.buffer_start = needed_from
