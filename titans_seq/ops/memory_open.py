"""One token a call, inside a chunk that stays open: nothing as large as a weight is written.

What each token of the chunk writes is kept as it is (its inputs, and its errors times bounded
steps), and a token reads by the dual form of :mod:`titans_seq.ops.memory_chunked`. Weights and
momentum are computed when the chunk ends, or when someone asks for them.

States stay values: a journal is added to in place only behind the last token that any state
knows of it, and one that goes on from an earlier token gets a copy.
"""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from titans_seq.ops.cpu import library as kernels
from titans_seq.ops.cpu import open as compiled
from titans_seq.ops.cpu.call import Call, sizes_of
from titans_seq.ops.memory_cpu import closed
from titans_seq.ops.rule import UpdateRule
from titans_seq.ops.state import Carry, first_carry


class Layout(NamedTuple):
    """What a chunk's tokens have in common."""

    rule: UpdateRule
    chunk_size: int
    batch: int
    shapes: tuple[torch.Size, ...]
    """Of the learned first weights, (heads, inner, outer) a layer."""
    dtype: torch.dtype


class Token(NamedTuple):
    """One token of every row after the layer's projections, all of one type and contiguous."""

    mixed: Tensor
    """(batch, 1, 3 * dim): queries, keys and values of all heads."""
    tail: Tensor
    """(batch, kernel - 1, 3 * dim): those of the tokens before."""
    taps: Tensor
    """(kernel, 3 * dim)"""
    logits: Tensor
    """(batch, 1, 3 * heads): of keep, momentum and step."""
    gain: Tensor
    """(dim): of the norm of what is read."""
    gate: Tensor
    """(batch, 1, dim), before its SiLU."""
    start: tuple[Tensor, ...]
    """Learned first weights."""
    forgetting: bool
    momentum: bool
    max_step: float


class Read(NamedTuple):
    """What reading a token gives."""

    out: Tensor
    """(batch, 1, dim), normalised and gated."""
    loss: Tensor
    """(batch, 1), a mean over heads."""
    tail: Tensor


class Sizes:
    """A layout as the compiled code takes it; see :func:`_sizes`."""

    def __init__(self, layout: Layout) -> None:
        rule, size, batch, shapes, dtype = layout
        self.layout = layout
        self.heads, dim = shapes[0][0], shapes[0][1]
        self.is_double = dtype == torch.float64
        call = Call(rule, size, size, len(shapes), True, False)
        widths = [dim, *(one[-1] for one in shapes)]
        self.call = sizes_of(call, 1, self.heads, batch, widths)
        self.block = compiled.block_numbers(self.call)
        self.room = compiled.working_numbers(self.call, False)
        self.settling_room = compiled.working_numbers(self.call, True)
        self.leads_to_start = rule.forget_to == "start"

    def states(self) -> tuple[Tensor, ...]:
        """Return room for a weight or a momentum of each layer."""
        batch, dtype = self.layout.batch, self.layout.dtype
        return tuple(
            torch.empty(one[0], batch, *one[1:], dtype=dtype) for one in self.layout.shapes
        )

    def read(
        self, states: compiled.Opened, token: Token, slot: int, journal: Tensor | None,
        after: tuple[Tensor, Tensor] | None,
    ) -> Read:  # fmt: skip
        """Read a token and write it into the journal, or into the states ``after`` it."""
        out, tail = torch.empty_like(token.gate), torch.empty_like(token.tail)
        loss = out.new_empty(out.shape[:2])
        space = out.new_empty(self.room)
        base = token.start if self.leads_to_start else tuple(map(torch.zeros_like, token.start))
        drift, surge = after or (None, None)
        wanted = compiled.Token(
            *(one.data_ptr() for one in token[:6]), kernels.pointers(base),
            tail.data_ptr(), out.data_ptr(), loss.data_ptr(),
            *map(kernels.pointer, (journal, drift, surge, space)),
            len(token.taps), slot, token.forgetting, token.momentum, token.max_step,
        )  # fmt: skip
        compiled.read_token(self.call, states, wanted, len(out), self.is_double)
        return Read(out, loss, tail)


class Journal:
    """What the tokens of an open chunk have written, (chunk, heads * batch, numbers)."""

    def __init__(self, numbers: Tensor, used: int) -> None:
        self.numbers = numbers
        self.used = used
        self._lock = threading.Lock()

    def extended(self, length: int) -> Journal:
        """Return a journal in which token ``length`` is the caller's alone to write."""
        with self._lock:
            if self.used == length:
                self.used += 1
                return self
        numbers = torch.empty_like(self.numbers)
        numbers[:length] = self.numbers[:length]
        return Journal(numbers, length + 1)


class States(NamedTuple):
    """Matrices that an open chunk's tokens read, (heads, batch, inner, outer) a layer."""

    anchor: tuple[Tensor, ...]
    """Drift at the chunk's start: weights less the base that forgetting leads to."""
    drift: tuple[Tensor, ...]
    """Drift after the tokens that do not stand in the journal."""
    surge: tuple[Tensor, ...]
    """Momentum there."""
    first: int
    """How many those are."""
    at: compiled.Opened
    """Where all of these lie."""


class OpenChunk:
    """The state of a memory some tokens into a chunk; it never changes.

    Parameters
    ----------
    length
        Tokens of the chunk that were read.
    """

    __slots__ = ("journal", "length", "sizes", "states")

    def __init__(self, sizes: Sizes, states: States, journal: Journal | None, length: int) -> None:
        self.sizes, self.states, self.journal, self.length = sizes, states, journal, length

    def read(self, token: Token) -> tuple[Read, OpenChunk]:
        """Read and write one token; return the state after it."""
        sizes, length = self.sizes, self.length
        journal = self.journal
        journal = _journal(sizes, length + 1) if journal is None else journal.extended(length)
        read = sizes.read(self.states.at, token, length, journal.numbers, None)
        after = OpenChunk(sizes, self.states, journal, length + 1)
        if after.length < sizes.layout.chunk_size:
            return read, after
        weights, momentum = after._settled()
        return read, OpenChunk(sizes, _states(weights, weights, momentum, 0), None, 0)

    def carry(self) -> Carry:
        """Return the state with everything written out."""
        layout, states = self.sizes.layout, self.states
        weights, momentum = self._settled()
        state = Carry(weights, momentum, states.anchor, (), ())
        emptied = closed(state, layout.rule, layout.chunk_size)
        if not self.length:
            return emptied
        for layer, (keys, spent) in enumerate(zip(emptied.keys, emptied.spent, strict=True)):
            assert self.journal is not None
            mine = _entries(self.sizes, self.journal, layer, self.length)
            keys[:, :, : self.length], spent[:, :, : self.length] = mine
        return state._replace(keys=emptied.keys, spent=emptied.spent)

    def outline(self) -> Carry:
        """Return the same as :meth:`carry`, but for the numbers, without computing any."""
        layout, states = self.sizes.layout, self.states
        like = Carry(states.drift, states.surge, states.anchor, (), ())
        if layout.rule.step != "triangular":
            return like
        none = torch.zeros((), dtype=layout.dtype)
        rows = [(*one.shape[:2], layout.chunk_size) for one in states.drift]
        inner = [one.shape[-2] for one in states.drift]
        keys = tuple(none.expand(*one, width) for one, width in zip(rows, inner, strict=True))
        return like._replace(keys=keys, spent=tuple(none.expand(one) for one in rows))

    def _settled(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return weights and momentum after the last token."""
        states, sizes = self.states, self.sizes
        if self.journal is None or self.length == states.first:
            return states.drift, states.surge
        weights, momentum = sizes.states(), sizes.states()
        space = weights[0].new_empty(sizes.settling_room)
        to = compiled.Settled(
            self.journal.numbers.data_ptr(), kernels.pointers(weights),
            kernels.pointers(momentum), space.data_ptr(), self.length,
        )  # fmt: skip
        compiled.settle(sizes.call, states.at, to, sizes.is_double)
        return weights, momentum


def begin(
    layout: Layout, start: tuple[Tensor, ...], carry: Carry | None, slot: int
) -> OpenChunk | None:
    """Open a chunk to read it token by token.

    Parameters
    ----------
    start
        Learned first weights.
    carry
        The state after ``slot`` tokens of the chunk; ``None`` if nothing was read.

    Returns
    -------
    chunk
        ``None`` if the state's tensors are not of the layout.
    """
    rule, size = layout.rule, layout.chunk_size
    carry = carry or first_carry(start, rule, layout.batch, size)
    anchor = carry.anchor if slot else carry.weights
    anchor, drift, surge = (
        tuple(map(_plain, one)) for one in (anchor, carry.weights, carry.momentum)
    )
    shapes = [(one[0], layout.batch, *one[1:]) for one in layout.shapes]
    for one in (anchor, drift, surge):
        if [tuple(tensor.shape) for tensor in one] != shapes or not _alike(one, layout):
            return None
    chunk = OpenChunk(_sizes(layout), _states(anchor, drift, surge, slot), None, slot)
    if not slot or rule.step != "triangular":
        return chunk
    if not _alike((*carry.keys, *carry.spent), layout) or len(carry.keys) != len(shapes):
        return None
    journal = _journal(chunk.sizes, slot)
    for layer in range(len(shapes)):
        units, spent = _entries(chunk.sizes, journal, layer, slot)
        units.copy_(carry.keys[layer][:, :, :slot])
        spent.copy_(carry.spent[layer][:, :, :slot])
    return OpenChunk(chunk.sizes, chunk.states, journal, slot)


def read_exactly(layout: Layout, token: Token, carry: Carry | None) -> tuple[Read, Carry] | None:
    """Read and write a token of a linear memory with its gradient at every token.

    Returns
    -------
    read, carry
        What is read, and the state after it; ``None`` if the state is not of the layout.
    """
    chunk = begin(layout, token.start, carry, 0)
    if chunk is None:
        return None
    sizes = chunk.sizes
    (weights,), (momentum,) = sizes.states(), sizes.states()
    read = sizes.read(chunk.states.at, token, 0, None, (weights, momentum))
    return read, Carry((weights,), (momentum,), (), (), ())


@lru_cache(maxsize=64)
def _sizes(layout: Layout) -> Sizes:
    return Sizes(layout)


def _plain(one: Tensor) -> Tensor:
    return one.detach().contiguous()


def _alike(tensors: tuple[Tensor, ...], layout: Layout) -> bool:
    """Return whether all are of the layout's type, and on the CPU."""
    return all(one.dtype == layout.dtype and one.device.type == "cpu" for one in tensors)


def _states(
    anchor: tuple[Tensor, ...], drift: tuple[Tensor, ...], surge: tuple[Tensor, ...], first: int
) -> States:
    return States(anchor, drift, surge, first, compiled.opened(anchor, drift, surge, first))


def _journal(sizes: Sizes, used: int) -> Journal:
    """Return a journal in which so many tokens have an owner."""
    layout = sizes.layout
    shape = (layout.chunk_size, sizes.heads * layout.batch, sizes.block)
    return Journal(torch.empty(shape, dtype=layout.dtype), used)


def _entries(sizes: Sizes, journal: Journal, layer: int, length: int) -> tuple[Tensor, Tensor]:
    """Return the unit inputs of the chunk's first tokens, and what they have spent.

    Views, (heads, batch, length, inner) and (heads, batch, length); the order of a block is
    that of ``src/journal.h``.
    """
    shapes = sizes.layout.shapes
    at = sum(one[1] + one[2] for one in shapes[:layer])
    behind = sum(one[1] + one[2] for one in shapes)
    rows = journal.numbers[:length].unflatten(1, (sizes.heads, -1)).movedim(0, 2)
    return rows[..., at : at + shapes[layer][1]], rows[..., behind + layer]
