"""One token at a time through the compiled form: the mirror of ``src/journal.h``."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from torch import Tensor

from titans_seq.ops.cpu.library import MOST_LAYERS, Call, library, pointers

_Pointers = ctypes.c_void_p * MOST_LAYERS


class Opened(ctypes.Structure):
    """An open chunk's states."""

    _fields_ = [
        *((name, _Pointers) for name in ("anchor", "drift", "surge")),
        ("first", ctypes.c_long),
    ]


class Token(ctypes.Structure):
    """What one token of every row reads and writes."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("mixed", "tail", "taps", "logits", "gain", "gate")),
        ("base", _Pointers),
        *((name, ctypes.c_void_p) for name in ("tail_end", "out", "loss", "journal")),
        *((name, ctypes.c_void_p) for name in ("drift_end", "surge_end", "space")),
        *((name, ctypes.c_long) for name in ("kernel", "slot", "forgets", "surges")),
        ("most_step", ctypes.c_double),
    ]


class Settled(ctypes.Structure):
    """Where an open chunk's state is written out."""

    _fields_ = [
        ("journal", ctypes.c_void_p),
        *((name, _Pointers) for name in ("drift", "surge")),
        ("space", ctypes.c_void_p),
        ("length", ctypes.c_long),
    ]


def opened(
    anchor: Sequence[Tensor], drift: Sequence[Tensor], surge: Sequence[Tensor], first: int
) -> Opened:
    """Return where the states of an open chunk lie; a tensor a layer."""
    return Opened(pointers(anchor), pointers(drift), pointers(surge), first)


def block_numbers(call: Call) -> int:
    """Return how many numbers a token's block in the journal has, for each row."""
    found: int = _library().titans_block(ctypes.byref(call))
    return found


def working_numbers(call: Call, settles: bool) -> int:
    """Return how many numbers of working memory a token takes, or writing a chunk out."""
    found: int = _library().titans_token_room(ctypes.byref(call), settles)
    return found


def read_token(call: Call, states: Opened, token: Token, rows: int, is_double: bool) -> None:
    """Read and write one token of each of the batch's ``rows``."""
    _library().titans_token(
        ctypes.byref(call), ctypes.byref(states), ctypes.byref(token), 0, rows, is_double
    )


def settle(call: Call, states: Opened, to: Settled, is_double: bool) -> None:
    """Write an open chunk's state out."""
    _library().titans_settle(ctypes.byref(call), ctypes.byref(states), ctypes.byref(to), is_double)


def _library() -> ctypes.CDLL:
    found = library()
    assert found is not None
    return found
