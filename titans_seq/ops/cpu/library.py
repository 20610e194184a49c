"""The library of the compiled memory, and its arguments: the mirror of ``src/call.h``.

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

from titans_seq.exceptions import DataError

_logger = logging.getLogger(__name__)

MOST_LAYERS = 4
"""Layers of the deepest memory, as in ``src/call.h``; a layer checks its depth against 4, too."""

INTERFACE = 3
"""Version of the arguments of all calls, here and in ``src/memory.c``."""


class Buffer(ctypes.Structure):
    """Address of a contiguous tensor, and how many bytes lie there; all zeros if it is missing."""

    _fields_ = [("at", ctypes.c_void_p), ("bytes", ctypes.c_size_t)]


Buffers = Buffer * MOST_LAYERS
"""A buffer a layer."""


class CallSizes(ctypes.Structure):
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


class TokenVectors(ctypes.Structure):
    """Vectors of all tokens: the bytes behind the first, and strides of batch, head and time."""

    _fields_ = [
        ("at", ctypes.c_void_p),
        ("bytes", ctypes.c_size_t),
        ("batch", ctypes.c_long),
        ("head", ctypes.c_long),
        ("time", ctypes.c_long),
    ]


class Forward(ctypes.Structure):
    """Buffers of the forward pass."""

    _fields_ = [
        *((name, TokenVectors) for name in ("queries", "keys", "values")),
        *((name, Buffer) for name in ("keep", "decay", "headroom", "step", "write")),
        *((name, Buffers) for name in ("base", "weights", "momentum")),
        *((name, Buffer) for name in ("out", "loss")),
        *((name, Buffers) for name in ("weights_end", "momentum_end")),
        *((name, Buffers) for name in ("anchor", "units", "spent")),
        *((name, ctypes.c_long) for name in ("slot", "open")),
        *((name, Buffer) for name in ("tape", "space")),
    ]


class BackwardBuffers(ctypes.Structure):
    """Further buffers of the backward pass."""

    _fields_ = [
        *((name, Buffer) for name in ("by_out", "by_loss")),
        *((name, Buffers) for name in ("by_weights_end", "by_momentum_end")),
        *(
            (f"by_{name}", Buffer)
            for name in ("queries", "keys", "values", "keep", "decay", "step")
        ),
        *((name, Buffers) for name in ("by_base", "by_weights", "by_momentum")),
    ]


def interface_of(loaded: ctypes.CDLL) -> int:
    """Return the interface a library was built for; libraries of interface 1 do not state it."""
    try:
        return int(loaded.titans_interface())
    except AttributeError:
        return 1


def library_path() -> str | None:
    """Return the file of the compiled library, or ``None`` if it was not built."""
    spec = importlib.util.find_spec("titans_seq.ops.cpu._kernels")
    return None if spec is None else spec.origin


@cache
def library() -> ctypes.CDLL | None:
    """Return the compiled library, or ``None`` if it was not built, or of another version."""
    path = library_path()
    if path is None:
        return None
    loaded = ctypes.CDLL(path)
    if interface_of(loaded) != INTERFACE:
        _logger.warning(
            "%s was built from other sources than these: install titans-seq again; until then "
            "the memory is slower", path
        )  # fmt: skip
        return None
    # sizes may exceed an int, which ctypes assumes; negative ones are refusals
    for name in ("workspace", "journal_row", "token_workspace", "materialise_workspace"):
        getattr(loaded, f"titans_{name}").restype = ctypes.c_long
    # trailing arguments: first and last row, and whether numbers are double
    rows = [ctypes.c_long, ctypes.c_long, ctypes.c_int]
    structures = {
        "forward": 2, "backward": 3, "token": 4, "materialise": 3, "mix": 1, "unmix": 2,
        "leave": 1, "unleave": 2,
    }  # fmt: skip
    for name, count in structures.items():
        function = getattr(loaded, f"titans_{name}")
        function.restype = ctypes.c_char_p
        function.argtypes = [
            *[ctypes.c_void_p] * count,
            *(rows if name != "materialise" else rows[2:]),
        ]
    return loaded


def check(refused: bytes | None) -> None:
    """Raise an error for the argument that a compiled function refused, if any.

    Raises
    ------
    DataError
        If a buffer is smaller than the call's sizes, or a size is out of range.
    """
    if refused is not None:
        raise DataError(
            f"the compiled memory got {refused.decode()!r} of a wrong size: the state or the "
            "tensors do not fit the call"
        )


def pointer(tensor: Tensor | None) -> Buffer:
    """Return the buffer of a contiguous tensor."""
    if tensor is None:
        return Buffer()
    assert tensor.is_contiguous()
    return Buffer(tensor.data_ptr(), tensor.nbytes)


def pointers(tensors: Sequence[Tensor | None]) -> ctypes.Array[Buffer]:
    """Return an array with a buffer a layer."""
    return Buffers(*(pointer(tensor) for tensor in tensors))


def vectors(tensor: Tensor) -> TokenVectors:
    """Return (batch, heads, time, dim) with its strides; each vector must be contiguous."""
    assert tensor.stride(-1) == 1
    # what lies behind the first number belongs to the tensor's storage, whatever its strides
    behind = tensor.untyped_storage().nbytes() - tensor.storage_offset() * tensor.element_size()
    return TokenVectors(tensor.data_ptr(), behind, *tensor.stride()[:3])


def number_of_threads(rows: int) -> int:
    """Return how many threads share ``rows``."""
    return max(1, min(torch.get_num_threads(), rows))
