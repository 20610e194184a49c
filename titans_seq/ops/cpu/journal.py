"""The journal of an open chunk: its tokens' writes, and the compiled call for the next token.

The mirror of ``src/journal.h``; :mod:`titans_seq.ops.cpu.memory_open` makes states of it.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from titans_seq.ops.cpu.call import Call, sizes_of
from titans_seq.ops.cpu.library import (
    MOST_LAYERS,
    Buffer,
    Buffers,
    check,
    library,
    pointer,
    pointers,
)
from titans_seq.ops.state import Layout

_FlatBuffers = ctypes.c_size_t * (2 * MOST_LAYERS)
"""Addresses and bytes in turn, as ``Buffers`` holds them: much faster to fill, for each token."""


def _flat(*names: str) -> list[tuple[str, Any]]:
    """Return the address and the bytes of each buffer as two fields, likewise."""
    kinds = (("", ctypes.c_void_p), ("_bytes", ctypes.c_size_t))
    return [(name + suffix, kind) for name in names for suffix, kind in kinds]


class ChunkStart(ctypes.Structure):
    """Weights and momentum that an open chunk's tokens read."""

    _fields_ = [
        *((name, Buffers) for name in ("anchor", "weights", "momentum")),
        ("first", ctypes.c_long),
    ]


class _Learned(ctypes.Structure):
    """Parameters of the layer around the memory."""

    _fields_ = [
        *_flat("enter", "taps", "rates", "rates_bias", "gain", "gate", "leave"),
        ("base", _FlatBuffers),
        *((name, ctypes.c_long) for name in ("kernel", "has_forgetting", "has_momentum")),
        ("max_step", ctypes.c_double),
    ]


class _Token(ctypes.Structure):
    """Buffers of one token of every row."""

    _fields_ = [
        *_flat("token", "tail", "tail_end", "out", "loss"),
        *_flat("journal", "weights_end", "momentum_end", "space"),
        ("slot", ctypes.c_long),
        ("token_stride", ctypes.c_long),
    ]


class _Materialised(ctypes.Structure):
    """Buffers that an open chunk's weights and momentum are written to."""

    _fields_ = [
        ("journal", Buffer),
        ("weights", Buffers),
        ("momentum", Buffers),
        ("space", Buffer),
        ("length", ctypes.c_long),
    ]


def chunk_start(
    anchor: Sequence[Tensor], weights: Sequence[Tensor], momentum: Sequence[Tensor], first: int
) -> ChunkStart:
    """Return the buffers of an open chunk's states; a tensor a layer."""
    return ChunkStart(pointers(anchor), pointers(weights), pointers(momentum), first)


class Learned(NamedTuple):
    """Parameters of the layer around the memory, all of one type and contiguous."""

    enter: Tensor
    """(3 * dim, dim): to queries, keys and values of all heads."""
    taps: Tensor
    """(kernel, 3 * dim)"""
    rates: Tensor
    """(3 * heads, dim): to keep, momentum and step."""
    rates_bias: Tensor
    """(3 * heads)"""
    gain: Tensor
    """(dim): of the norm of what is read."""
    gate: Tensor
    """(dim, dim)"""
    leave: Tensor
    """(dim, dim)"""
    start: tuple[Tensor, ...]
    """First weights."""
    forgetting: bool
    momentum: bool
    max_step: float


class Read(NamedTuple):
    """Results of reading one token."""

    out: Tensor
    """(batch, 1, dim)"""
    loss: Tensor
    """(batch, 1), a mean over heads."""
    tail: Tensor
    """(batch, kernel - 1, 3 * dim): last projected tokens."""


MOST_KNOWN = 64
"""Sets of parameters of one layout, such as a backbone's layers, that are kept as structures."""


class Sizes:
    """Sizes of a layout, converted for the compiled code."""

    def __init__(self, layout: Layout) -> None:
        rule, size, batch, shapes, dtype, _ = layout
        self.layout = layout
        self.heads, dim = shapes[0][0], shapes[0][1]
        self.is_double = dtype == torch.float64
        call = Call(rule, size, size, len(shapes), True, False)
        widths = [dim, *(shape[-1] for shape in shapes)]
        self.call = sizes_of(call, 1, self.heads, batch, widths)
        self.rows = self.heads * batch
        compiled = library()
        assert compiled is not None
        self.compiled = compiled
        at = ctypes.byref(self.call)
        self.row: int = compiled.titans_journal_row(at)
        """Numbers of one row's journal."""
        self.workspace: int = compiled.titans_token_workspace(at, ctypes.c_long(batch))
        """Numbers of working memory for one token of the whole batch."""
        self.materialise_workspace: int = compiled.titans_materialise_workspace(at)
        """Numbers of working memory for writing a chunk's state out."""
        if self.row < 0:
            check(b"sizes")
        self._known: dict[Any, _Learned] = {}
        self.zeros: list[Tensor] = []
        if rule.forget_to == "zero":
            self.zeros = [torch.zeros(shape, dtype=dtype) for shape in shapes]

    def states(self) -> tuple[Tensor, ...]:
        """Return uninitialised weights, or momentum, of each layer."""
        batch, dtype = self.layout.batch, self.layout.dtype
        return tuple(
            torch.empty(shape[0], batch, *shape[1:], dtype=dtype) for shape in self.layout.shapes
        )

    def read(
        self, start: ChunkStart, learned: Learned, token: Tensor, tail: Tensor, slot: int,
        to: Journal | tuple[Tensor, Tensor],
    ) -> Read:  # fmt: skip
        """Read a token and write it into a journal, or into weights and momentum after it."""
        out = torch.empty(token.shape, dtype=token.dtype)
        loss, after = out.new_empty(token.shape[:2]), torch.empty_like(tail)
        ends: tuple[int | None, ...]
        if isinstance(to, Journal):
            # six fields of `_Token`: journal, weights_end, momentum_end; then the working memory
            ends = (*to.entries_at, None, 0, None, 0, *to.space_at)
        else:
            space = out.new_empty(self.workspace)
            ends = (None, 0, *_at(to[0]), *_at(to[1]), *_at(space))
        # a token's rows may be strided: its last row begins (batch - 1) strides behind the first
        stride = token.stride(0)
        reached = ((len(token) - 1) * stride + token.shape[2]) * token.element_size()
        buffers = _Token(
            token.data_ptr(), reached, *_at(tail), *_at(after), *_at(out), *_at(loss), *ends,
            slot, stride,
        )  # fmt: skip
        call, parameters = ctypes.byref(self.call), ctypes.byref(self._learned(learned))
        refused = self.compiled.titans_token(
            call, ctypes.byref(start), parameters, ctypes.byref(buffers), 0, self.call.batch,
            self.is_double,
        )  # fmt: skip
        check(refused)
        return Read(out, loss, after)

    def materialise(
        self, start: ChunkStart, journal: Journal, length: int
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return weights and momentum after the journal's first ``length`` tokens."""
        weights, momentum = self.states(), self.states()
        space = weights[0].new_empty(self.materialise_workspace)
        to = _Materialised(
            Buffer(*journal.entries_at), pointers(weights), pointers(momentum), pointer(space),
            length,
        )  # fmt: skip
        arguments = map(ctypes.byref, (self.call, start, to))
        check(self.compiled.titans_materialise(*arguments, self.is_double))
        return weights, momentum

    def _learned(self, learned: Learned) -> _Learned:
        """Return the parameters as a structure for the compiled code, from a cache if known.

        Those at the same addresses are the same ones: the caller has checked their shapes.
        """
        tensors = (*learned[:7], *(self.zeros or learned.start))
        rest = (learned.taps.shape[0], *learned[8:])
        key = (tuple([tensor.data_ptr() for tensor in tensors]), rest)
        structure = self._known.get(key)
        if structure is None:
            buffers = [number for tensor in tensors for number in _at(tensor)]
            structure = _Learned(*buffers[:14], _FlatBuffers(*buffers[14:]), *rest)
            # entries of freed parameters are never looked up again: drop all at the bound
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[key] = structure
        return structure


def _at(tensor: Tensor) -> tuple[int, int]:
    """Return a contiguous tensor's address and size in bytes."""
    return tensor.data_ptr(), tensor.nbytes


@lru_cache(maxsize=64)
def sizes_for(layout: Layout) -> Sizes:
    """Return the sizes of a layout."""
    return Sizes(layout)


class Journal:
    """Entries of an open chunk's tokens, followed by working memory for the next token."""

    def __init__(self, numbers: Tensor, sizes: Sizes, used: int) -> None:
        self.numbers = numbers
        self.used = used
        entries = numbers.element_size() * sizes.rows * sizes.row
        self.entries_at = (numbers.data_ptr(), entries)
        self.space_at = (numbers.data_ptr() + entries, numbers.nbytes - entries)
        self._lock = threading.Lock()

    @classmethod
    def new(cls, sizes: Sizes, used: int) -> Journal:
        """Return a journal whose first ``used`` tokens belong to a state."""
        numbers = sizes.rows * sizes.row + sizes.workspace
        return cls(torch.empty(numbers, dtype=sizes.layout.dtype), sizes, used)

    def extended(self, sizes: Sizes, length: int) -> Journal:
        """Return a journal in which only the caller may write token ``length``."""
        # two streams may continue one state: the first to come extends it, the other copies
        with self._lock:
            if self.used == length:
                self.used += 1
                return self
        # others may be writing behind the first ``length`` tokens, which nobody will read here
        return Journal(self.numbers.clone(), sizes, length + 1)

    def entries(self, sizes: Sizes, layer: int, length: int) -> tuple[Tensor, Tensor]:
        """Return the unit inputs of the chunk's first tokens, and what they have spent.

        Views, (heads, batch, length, inner) and (heads, batch, length); the order of a row is
        that of ``src/journal.h``.
        """
        shapes, chunk = sizes.layout.shapes, sizes.layout.chunk_size
        whole = self.numbers[: sizes.rows * sizes.row]
        numbers = whole.view(sizes.heads, -1, sizes.row)
        # a row: units and changes of every layer, then spent and lengths of every layer
        before = [chunk * (inner + outer) for _, inner, outer in shapes]
        at, behind, inner = sum(before[:layer]), sum(before) + 2 * layer * chunk, shapes[layer][1]
        units = numbers[..., at : at + chunk * inner].unflatten(-1, (chunk, inner))
        return units[:, :, :length], numbers[..., behind : behind + length]
