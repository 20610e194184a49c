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


class Learned(ctypes.Structure):
    """Parameters of the layer around the memory."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("enter", "taps", "rates", "rates_bias", "gain")),
        *((name, ctypes.c_void_p) for name in ("gate", "leave")),
        ("base", _Pointers),
        *((name, ctypes.c_long) for name in ("kernel", "forgets", "surges")),
        ("most_step", ctypes.c_double),
    ]


class Token(ctypes.Structure):
    """What one token of every row reads and writes."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("token", "tail", "tail_end", "out", "loss")),
        *((name, ctypes.c_void_p) for name in ("journal", "drift_end", "surge_end", "space")),
        ("slot", ctypes.c_long),
        ("apart", ctypes.c_long),
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


def journal_numbers(call: Call) -> int:
    """Return how many numbers of the journal belong to each row."""
    found: int = _library().titans_journal_row(ctypes.byref(call))
    return found


def token_room(call: Call) -> int:
    """Return how many numbers of working memory a token of the whole batch takes."""
    found: int = _library().titans_token_room(ctypes.byref(call), ctypes.c_long(call.batch))
    return found


def settling_room(call: Call) -> int:
    """Return how many numbers of working memory writing a chunk out takes."""
    found: int = _library().titans_settle_room(ctypes.byref(call))
    return found


def read_token(call: Call, states: Opened, learned: Learned, token: Token, is_double: bool) -> None:
    """Read and write one token of every row."""
    at = map(ctypes.byref, (call, states, learned, token))
    _library().titans_token(*at, 0, call.batch, is_double)


def settle(call: Call, states: Opened, to: Settled, is_double: bool) -> None:
    """Write an open chunk's state out."""
    _library().titans_settle(ctypes.byref(call), ctypes.byref(states), ctypes.byref(to), is_double)


def _library() -> ctypes.CDLL:
    found = library()
    assert found is not None
    return found
