"""What the compiled pieces of one call leave for their backward pass, in a single tensor."""

from __future__ import annotations

import math

from torch import Tensor


class Tape:
    """Room that is handed out piece by piece; read again, it is handed out in the same order.

    Parameters
    ----------
    room
        All of it, in one dimension; see :func:`numbers_of_tape`.
    written
        Whether the pieces have written on it.
    """

    def __init__(self, room: Tensor, written: bool) -> None:
        self.written = written
        self._room, self._taken = room, 0

    def take(self, *shape: int) -> Tensor:
        """Return the next numbers, in a shape."""
        first, self._taken = self._taken, self._taken + math.prod(shape)
        return self._room[first : self._taken].view(shape)


def numbers_of_tape(rows: int, time: int, chunk_size: int, start: list[Tensor]) -> int:
    """Return room for every call of so many tokens, wherever in its chunk it begins.

    Parameters
    ----------
    rows
        Heads of all sequences.
    start
        First weights, (heads, inner, outer) a layer.
    """
    state = 2 * sum(one.shape[1] * one.shape[2] for one in start)
    hidden = sum(one.shape[2] for one in start[:-1])
    # a state before each whole chunk and before a last piece, and one after either
    return rows * ((time // chunk_size + 3) * state + time * hidden)
