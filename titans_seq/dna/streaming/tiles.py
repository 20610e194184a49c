"""Windows along records that come in pieces: every letter in at least one, none held longer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from titans_seq.dna.alphabet import Codes
from titans_seq.dna.reading.pieces import Head, Piece
from titans_seq.exceptions import ConfigError


class Window(NamedTuple):
    """A stretch of a record."""

    head: Head

    start: int
    """Letters of the record before it."""

    codes: Codes

    @property
    def end(self) -> int:
        """Place behind its last letter, counted from 0."""
        return self.start + len(self.codes)


class Grid(NamedTuple):
    """How windows lie along a record.

    They begin at 0, ``stride``, twice that, and so on, until one reaches the record's end; the
    last may be shorter. Without a window, a record is one.
    """

    window: int | None
    stride: int

    carry: bool = False
    """Whether the memory goes on from window to window."""

    @classmethod
    def of(cls, window: int | None, stride: int | None = None, *, carry: bool = False) -> Grid:
        """Check what a user asked for; the stride is the window if left out.

        Raises
        ------
        ConfigError
            If a number is below 1, there is a stride or a carried memory without a window, or
            windows leave out or repeat what a carried memory reads.
        """
        if window is None:
            if stride is not None or carry:
                raise ConfigError(f"{'carry' if carry else f'stride={stride}'} needs a window")
            return cls(None, 1)
        if carry and stride not in (None, window):
            raise ConfigError(
                f"stride={stride}: a carried memory reads each letter once, so the stride is the "
                f"window, {window}; leave it out"
            )
        for name, value in (("window", window), ("stride", stride)):
            if value is not None and value < 1:
                raise ConfigError(f"{name}={value}: at least 1 is right")
        return cls(window, window if stride is None else stride, carry)


def tile(pieces: Iterable[Piece], grid: Grid) -> Iterator[Window]:
    """Yield the windows of each record, in order."""
    held = np.empty(0, np.uint8)
    start = end = 0  # of the next window; behind the last one
    for piece in pieces:
        if not piece.start:
            held, start, end = piece.codes, 0, 0
        elif len(piece.codes):
            held = np.concatenate([held, piece.codes]) if len(held) else piece.codes
        here = piece.start + len(piece.codes)  # letters of the record so far
        first = here - len(held)
        window = here + 1 if grid.window is None else grid.window
        while start + window <= here:
            end = start + window
            yield Window(piece.head, start, held[start - first : end - first])
            start += grid.stride
        held = held[min(start - first, len(held)) :]
        if piece.ends and end < here and start < here:
            yield Window(piece.head, start, held)
