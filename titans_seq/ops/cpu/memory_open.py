"""One token a call, inside a chunk that stays open: nothing as large as a weight is written.

What each token of the chunk writes is kept as it is (its inputs, and its errors times bounded
steps), and a token reads by the dual form of :mod:`titans_seq.ops.general.chunked`. Weights and
momentum are computed when the chunk ends or when they are first accessed.

States stay values: a journal is added to in place only behind the last token that any state
knows of it, and one that goes on from an earlier token gets a copy.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from titans_seq.ops.cpu.journal import (
    ChunkStart,
    Journal,
    Learned,
    Read,
    Sizes,
    chunk_start,
    sizes_for,
)
from titans_seq.ops.state import Carry, Layout, closed, first_carry


class States(NamedTuple):
    """Matrices that an open chunk's tokens read, (heads, batch, inner, outer) a layer."""

    anchor: tuple[Tensor, ...]
    """Weights at the chunk's start, less the base that forgetting leads to."""
    weights: tuple[Tensor, ...]
    """Weights before the journal's first token, likewise."""
    momentum: tuple[Tensor, ...]
    """Momentum there."""
    first: int
    """Tokens of the chunk before the journal's first."""
    at: ChunkStart
    """The same as buffers."""


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

    def read(self, learned: Learned, token: Tensor, tail: Tensor) -> tuple[Read, OpenChunk]:
        """Read and write one token; return the state after it.

        Parameters
        ----------
        token
            (batch, 1, dim)
        tail
            (batch, kernel - 1, 3 * dim): what the projection made of the tokens before.
        """
        sizes, length = self.sizes, self.length
        journal = self.journal
        journal = (
            Journal.new(sizes, length + 1) if journal is None else journal.extended(sizes, length)
        )
        read = sizes.read(self.states.at, learned, token, tail, length, journal)
        after = OpenChunk(sizes, self.states, journal, length + 1)
        if after.length < sizes.layout.chunk_size:
            return read, after
        # the chunk is full: its last weights anchor the next, whose journal begins empty
        weights, momentum = after._materialised()
        return read, OpenChunk(sizes, _states(weights, weights, momentum, 0), None, 0)

    def carry(self) -> Carry:
        """Return the state in full, with weights and momentum computed."""
        layout, states = self.sizes.layout, self.states
        weights, momentum = self._materialised()
        state = Carry(weights, momentum, states.anchor, (), ())
        emptied = closed(state, layout.rule, layout.chunk_size)
        if not self.length:
            return emptied
        for layer, (keys, spent) in enumerate(zip(emptied.keys, emptied.spent, strict=True)):
            assert self.journal is not None
            mine = self.journal.entries(self.sizes, layer, self.length)
            keys[:, :, : self.length], spent[:, :, : self.length] = mine
        return state._replace(keys=emptied.keys, spent=emptied.spent)

    def outline(self) -> Carry:
        """Return tensors shaped and typed like those of :meth:`carry`, without its numbers."""
        layout, states = self.sizes.layout, self.states
        like = Carry(states.weights, states.momentum, states.anchor, (), ())
        if layout.rule.step != "triangular":
            return like
        # one number expanded to every shape: no memory is taken
        none = torch.zeros((), dtype=layout.dtype)
        rows = [(*weight.shape[:2], layout.chunk_size) for weight in states.weights]
        inner = [weight.shape[-2] for weight in states.weights]
        keys = tuple(none.expand(*row, width) for row, width in zip(rows, inner, strict=True))
        return like._replace(keys=keys, spent=tuple(none.expand(row) for row in rows))

    def _materialised(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return weights and momentum after the last token."""
        states, sizes = self.states, self.sizes
        if self.journal is None or self.length == states.first:
            return states.weights, states.momentum
        return sizes.materialise(states.at, self.journal, self.length)


def begin(
    layout: Layout, start: tuple[Tensor, ...], carry: Carry | None, slot: int
) -> OpenChunk | None:
    """Open a chunk to read it token by token.

    Parameters
    ----------
    start
        Learned first weights.
    carry
        The state after ``slot`` tokens of the chunk, checked against the layout; ``None`` if
        nothing was read.

    Returns
    -------
    chunk
        ``None`` if the state's tensors are of another floating type.
    """
    rule, size = layout.rule, layout.chunk_size
    carry = carry or first_carry(start, rule, layout.batch, size)
    # a new chunk takes its gradients at the weights that the last one left
    anchor = carry.anchor if slot else carry.weights
    anchor, weights, momentum = (
        tuple(map(_plain, tensors)) for tensors in (anchor, carry.weights, carry.momentum)
    )
    if not _alike((*anchor, *weights, *momentum), layout):
        return None
    chunk = OpenChunk(sizes_for(layout), _states(anchor, weights, momentum, slot), None, slot)
    if not slot or rule.step != "triangular":
        return chunk
    if not _alike((*carry.keys, *carry.spent), layout):
        return None
    journal = Journal.new(chunk.sizes, slot)
    for layer in range(len(layout.shapes)):
        # the triangular step bounds a token by the earlier ones, so they enter the journal too
        units, spent = journal.entries(chunk.sizes, layer, slot)
        units.copy_(carry.keys[layer][:, :, :slot])
        spent.copy_(carry.spent[layer][:, :, :slot])
    return OpenChunk(chunk.sizes, chunk.states, journal, slot)


def read_exactly(
    layout: Layout, learned: Learned, token: Tensor, tail: Tensor, carry: Carry | None
) -> tuple[Read, Carry] | None:
    """Read and write a token of a linear memory with its gradient at every token.

    Returns
    -------
    read, carry
        What is read, and the state after it; ``None`` if the state is of another floating type.
    """
    chunk = begin(layout, learned.start, carry, 0)
    if chunk is None:
        return None
    sizes = chunk.sizes
    (weights,), (momentum,) = sizes.states(), sizes.states()
    read = sizes.read(chunk.states.at, learned, token, tail, 0, (weights, momentum))
    return read, Carry((weights,), (momentum,), (), (), ())


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous()


def _alike(tensors: tuple[Tensor, ...], layout: Layout) -> bool:
    """Return whether all are of the layout's type, and on the CPU."""
    return all(t.dtype == layout.dtype and t.device.type == "cpu" for t in tensors)


def _states(
    anchor: tuple[Tensor, ...],
    weights: tuple[Tensor, ...],
    momentum: tuple[Tensor, ...],
    first: int,
) -> States:
    at = chunk_start(anchor, weights, momentum, first)
    return States(anchor, weights, momentum, first, at)
