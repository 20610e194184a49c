"""The compiled form of the memory's chunks, as plain functions: the mirror of ``src/call.h``.

The library is built with the package where a C compiler is at hand; it knows neither Python
nor torch, so it is reached by ctypes, and threads may run it side by side.
"""

from __future__ import annotations

import ctypes
import importlib.util
import logging
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

_log = logging.getLogger(__name__)

MOST_LAYERS = 4

INTERFACE = 2
"""What a call hands over; counted up with every change, here and in ``src/memory.c``."""

_Pointers = ctypes.c_void_p * MOST_LAYERS


class Call(ctypes.Structure):
    """Sizes and choices of one call."""

    _fields_ = [
        ("layers", ctypes.c_long),
        ("chunk", ctypes.c_long),
        ("chunks", ctypes.c_long),
        ("heads", ctypes.c_long),
        ("batch", ctypes.c_long),
        ("widths", ctypes.c_long * (MOST_LAYERS + 1)),
        ("triangular", ctypes.c_long),
        ("gelu", ctypes.c_long),
        ("exact", ctypes.c_long),
        ("decay_first", ctypes.c_long),
        ("shared", ctypes.c_double),
        ("bound", ctypes.c_double),
        ("tiny", ctypes.c_double),
    ]


class Tokens(ctypes.Structure):
    """Vectors of all tokens, with the strides of batch, head and time."""

    _fields_ = [
        ("at", ctypes.c_void_p),
        ("batch", ctypes.c_long),
        ("head", ctypes.c_long),
        ("time", ctypes.c_long),
    ]


class Forward(ctypes.Structure):
    """What the forward pass reads and writes."""

    _fields_ = [
        *((name, Tokens) for name in ("queries", "keys", "values")),
        *((name, ctypes.c_void_p) for name in ("keep", "momentum", "room", "step", "write")),
        *((name, _Pointers) for name in ("base", "drift", "surge")),
        *((name, ctypes.c_void_p) for name in ("out", "loss")),
        *((name, _Pointers) for name in ("drift_end", "surge_end")),
        *((name, _Pointers) for name in ("anchor", "units", "spent")),
        *((name, ctypes.c_long) for name in ("slot", "open")),
        *((name, ctypes.c_void_p) for name in ("tape", "space")),
    ]


class Backward(ctypes.Structure):
    """What the backward pass reads and writes beside that."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("by_out", "by_loss")),
        *((name, _Pointers) for name in ("by_drift_end", "by_surge_end")),
        *(
            (f"by_{name}", ctypes.c_void_p)
            for name in ("queries", "keys", "values", "keep", "momentum", "step")
        ),
        *((name, _Pointers) for name in ("by_base", "by_drift", "by_surge")),
    ]


def interface_of(loaded: ctypes.CDLL) -> int:
    """Return which interface a library was built for; 1 is the last that does not say."""
    try:
        return int(loaded.titans_interface())
    except AttributeError:
        return 1


@cache
def library() -> ctypes.CDLL | None:
    """Return the compiled library, or ``None`` if it was not built, or of another version."""
    found = importlib.util.find_spec("titans_seq.ops.cpu._kernels")
    if found is None or found.origin is None:
        return None
    loaded = ctypes.CDLL(found.origin)
    if interface_of(loaded) != INTERFACE:
        _log.warning(
            "%s was built from other sources than these: install titans-seq again; until then "
            "the memory is slower", found.origin
        )  # fmt: skip
        return None
    loaded.titans_room.restype = ctypes.c_long
    loaded.titans_forward.restype = None
    loaded.titans_backward.restype = None
    loaded.titans_journal_row.restype = ctypes.c_long
    loaded.titans_token_room.restype = ctypes.c_long
    loaded.titans_settle_room.restype = ctypes.c_long
    loaded.titans_token.restype = None
    loaded.titans_token.argtypes = [*[ctypes.c_void_p] * 4, *[ctypes.c_long] * 2, ctypes.c_int]
    loaded.titans_settle.restype = None
    return loaded


def pointer(tensor: Tensor | None) -> int | None:
    """Return where a contiguous tensor's numbers lie."""
    if tensor is None:
        return None
    assert tensor.is_contiguous()
    return tensor.data_ptr()


def pointers(tensors: Sequence[Tensor | None]) -> ctypes.Array[ctypes.c_void_p]:
    """Return an array with a pointer a layer."""
    return _Pointers(*(pointer(one) for one in tensors))


def vectors(tensor: Tensor) -> Tokens:
    """Return (batch, heads, time, dim) with its strides; each vector must be contiguous."""
    assert tensor.stride(-1) == 1
    return Tokens(tensor.data_ptr(), *tensor.stride()[:3])


def number_of_threads(rows: int) -> int:
    """Return how many threads share ``rows``."""
    return max(1, min(torch.get_num_threads(), rows))
