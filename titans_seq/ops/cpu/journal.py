"""What the tokens of an open chunk have written, and how compiled code reads one more.

See :mod:`titans_seq.ops.cpu.memory_open` for what becomes of it.
"""

from __future__ import annotations

import ctypes
import threading
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from titans_seq.ops.cpu import open as compiled
from titans_seq.ops.cpu.call import Call, sizes_of
from titans_seq.ops.cpu.library import pointers
from titans_seq.ops.state import Layout


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
    """What reading a token gives."""

    out: Tensor
    """(batch, 1, dim)"""
    loss: Tensor
    """(batch, 1), a mean over heads."""
    tail: Tensor
    """(batch, kernel - 1, 3 * dim): last projected tokens."""


class Sizes:
    """A layout as the compiled code takes it."""

    def __init__(self, layout: Layout) -> None:
        rule, size, batch, shapes, dtype, _ = layout
        self.layout = layout
        self.heads, dim = shapes[0][0], shapes[0][1]
        self.is_double = dtype == torch.float64
        call = Call(rule, size, size, len(shapes), True, False)
        widths = [dim, *(one[-1] for one in shapes)]
        self.call = sizes_of(call, 1, self.heads, batch, widths)
        self.rows = self.heads * batch
        self.row = compiled.journal_numbers(self.call)
        self.room = compiled.token_room(self.call)
        self.settling_room = compiled.settling_room(self.call)
        self.base: ctypes.Array[ctypes.c_void_p] | None = None
        if rule.forget_to == "zero":
            self.zeros = [torch.zeros(shape, dtype=dtype) for shape in shapes]
            self.base = pointers(self.zeros)

    def states(self) -> tuple[Tensor, ...]:
        """Return room for a weight or a momentum of each layer."""
        batch, dtype = self.layout.batch, self.layout.dtype
        return tuple(
            torch.empty(one[0], batch, *one[1:], dtype=dtype) for one in self.layout.shapes
        )

    def read(
        self, states: compiled.Opened, learned: Learned, token: Tensor, tail: Tensor, slot: int,
        to: Journal | tuple[Tensor, Tensor],
    ) -> Read:  # fmt: skip
        """Read a token and write it into a journal, or into weights and momentum after it."""
        out = torch.empty(token.shape, dtype=token.dtype)
        loss, after = out.new_empty(token.shape[:2]), torch.empty_like(tail)
        ends: tuple[int | None, ...]
        if isinstance(to, Journal):
            ends = (to.at, None, None, to.space)
        else:
            space = out.new_empty(self.room)
            ends = (None, to[0].data_ptr(), to[1].data_ptr(), space.data_ptr())
        one = compiled.Token(
            token.data_ptr(), tail.data_ptr(), after.data_ptr(), out.data_ptr(), loss.data_ptr(),
            *ends, slot, token.stride(0),
        )  # fmt: skip
        compiled.read_token(self.call, states, self._learned(learned), one, self.is_double)
        return Read(out, loss, after)

    def _learned(self, given: Learned) -> compiled.Learned:
        """Return parameters as the compiled code takes them."""
        return compiled.Learned(
            *[one.data_ptr() for one in given[:7]], self.base or pointers(given.start),
            given.taps.shape[0], given.forgetting, given.momentum, given.max_step,
        )  # fmt: skip


@lru_cache(maxsize=64)
def sizes_for(layout: Layout) -> Sizes:
    """Return the sizes of a layout."""
    return Sizes(layout)


class Journal:
    """What the tokens of an open chunk have written, and room to work in for whoever writes."""

    def __init__(self, numbers: Tensor, sizes: Sizes, used: int) -> None:
        self.numbers = numbers
        self.used = used
        self.at = numbers.data_ptr()
        self.space = self.at + numbers.element_size() * sizes.rows * sizes.row
        self._lock = threading.Lock()

    @classmethod
    def new(cls, sizes: Sizes, used: int) -> Journal:
        """Return a journal in which so many tokens have an owner."""
        numbers = sizes.rows * sizes.row + sizes.room
        return cls(torch.empty(numbers, dtype=sizes.layout.dtype), sizes, used)

    def extended(self, sizes: Sizes, length: int) -> Journal:
        """Return a journal in which token ``length`` is the caller's alone to write."""
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
        before = [chunk * (inner + outer) for _, inner, outer in shapes]
        at, behind, inner = sum(before[:layer]), sum(before) + 2 * layer * chunk, shapes[layer][1]
        units = numbers[..., at : at + chunk * inner].unflatten(-1, (chunk, inner))
        return units[:, :, :length], numbers[..., behind : behind + length]
