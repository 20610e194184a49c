"""Buffer for what the compiled pieces of one call save for their backward pass."""

from __future__ import annotations

import math

from torch import Tensor


class Tape:
    """Bump allocator over one tensor; the backward pass takes the same pieces in the same order.

    Parameters
    ----------
    room
        The whole buffer, one-dimensional; see :func:`numbers_of_tape`.
    written
        Whether the pieces have written on it.
    """

    def __init__(self, room: Tensor, written: bool) -> None:
        self.written = written
        self._room, self._taken = room, 0

    def take(self, *shape: int) -> Tensor:
        """Return the next free numbers as a view of this shape."""
        first, self._taken = self._taken, self._taken + math.prod(shape)
        return self._room[first : self._taken].view(shape)


def numbers_of_tape(rows: int, time: int, chunk_size: int, start: list[Tensor]) -> int:
    """Return a tape's size that suffices for ``time`` tokens from any slot of a chunk.

    Parameters
    ----------
    rows
        Heads of all sequences.
    start
        First weights, (heads, inner, outer) a layer.
    """
    # weights and momentum of one row
    state = 2 * sum(weight.shape[1] * weight.shape[2] for weight in start)
    hidden = sum(weight.shape[2] for weight in start[:-1])
    # a state before each whole chunk and before a last piece, and one after either
    return rows * ((time // chunk_size + 3) * state + time * hidden)
