"""Stretches of a genome, cut out of its records while they are read once."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from titans_seq.dna.alphabet import Codes
from titans_seq.dna.reading.pieces import Piece
from titans_seq.exceptions import DataError


class Span(NamedTuple):
    """A stretch of a record."""

    start: int
    """Letters of the record before it."""

    end: int
    """Place behind its last letter."""

    key: int
    """What the caller knows it by."""


def cut(
    pieces: Iterable[Piece], wanted: Mapping[str, Sequence[Span]], where: str
) -> Iterator[tuple[int, Codes]]:
    """Yield the key and the codes of each span that lies in a record, as its end is read.

    Of a span that reaches beyond its record comes what is there, which may be nothing. Memory
    grows with the longest stretch that unfinished spans cover, not with the record.

    Parameters
    ----------
    pieces
        The genome.
    wanted
        Spans by name of record.
    where
        What to call the genome in an error.

    Raises
    ------
    DataError
        If two records have a name that is asked for.
    """
    seen: set[str] = set()
    cutter = _Cutter([])
    for piece in pieces:
        if not piece.start:
            name = piece.head.name
            if name in seen:
                raise DataError(f"{where}: two records are called {name!r}; spans need one")
            spans = wanted.get(name, ())
            if spans:
                seen.add(name)
            cutter = _Cutter(spans)
        yield from cutter.read(piece)


class _Cutter:
    """Spans of one record, and as much of it as they still need."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self.waiting = sorted(spans, reverse=True)
        self.open: list[tuple[int, Span]] = []
        self.held: Codes = np.empty(0, np.uint8)
        self.first = 0

    def read(self, piece: Piece) -> Iterator[tuple[int, Codes]]:
        """Take in a piece, and yield what is whole now."""
        if not self.waiting and not self.open:
            return
        here = piece.start + len(piece.codes)
        if not len(self.held):
            self.first = piece.start
        self.held = np.concatenate([self.held, piece.codes]) if len(self.held) else piece.codes
        while self.waiting and (piece.ends or self.waiting[-1].start < here):
            span = self.waiting.pop()
            heapq.heappush(self.open, (span.end, span))
        while self.open and (piece.ends or self.open[0][0] <= here):
            _, span = heapq.heappop(self.open)
            begin = max(span.start - self.first, 0)
            yield span.key, self.held[begin : max(span.end - self.first, 0)].copy()
        needed = min((span.start for _, span in self.open), default=here)
        self.held = self.held[needed - self.first :]
        self.first = needed
