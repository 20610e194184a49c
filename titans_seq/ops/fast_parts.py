"""A call of the fast form, cut into the sequences and chunks that are worked on together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from titans_seq.ops.fast_forward import Tokens
from titans_seq.ops.fast_slots import Fixed, Sizes, State, state
from titans_seq.ops.fast_space import Space
from titans_seq.ops.rule import Rates, UpdateRule
from titans_seq.ops.state import split_start

ROWS = 32
"""Rows (heads of sequences) worked on at a time."""


class Call(NamedTuple):
    """What is not a tensor of one call."""

    rule: UpdateRule
    chunk: int
    """Tokens in each chunk of the call."""
    full_chunk: int
    """Tokens between two refreshes of the gradient's point."""
    layers: int
    states: bool
    """Whether the state after the last token is wanted."""
    learns: bool
    """Whether gradients will be asked for."""
    inputs: int
    """Tensors given."""


class Given:
    """The tensors of one call by their roles."""

    def __init__(self, call: Call, tensors: tuple[Tensor, ...]) -> None:
        self.call = call
        self.tokens = tensors[:3]
        self.rates = Rates(*tensors[3:7])
        self.start_and_carry = tensors[7:]
        self.start = tensors[7 : 7 + call.layers]
        carried = tensors[7 + call.layers :]
        self.weights, self.momentum = carried[: call.layers], carried[call.layers :]
        self.batch, self.heads, self.time, _ = tensors[0].shape
        self.widths = (tensors[0].shape[-1], *(one.shape[-1] for one in self.start))
        self.chunks = self.time // call.chunk
        self.at_once = max(1, ROWS // self.heads)
        """Sequences worked on at a time."""
        rows = min(self.at_once, self.batch) * self.heads
        self.group = max(1, ROWS // rows)
        """Chunks worked on at a time."""

    @property
    def kind(self) -> tuple[object, ...]:
        """What must be equal for two calls to work in the same space."""
        return self.call, self.batch, self.heads, self.time, self.widths

    def results(self) -> list[Tensor]:
        """Return outputs, losses and, if they are wanted, the last weights and momenta."""
        like = self.tokens[0]
        made = [torch.empty(like.shape, dtype=like.dtype), like.new_empty(like.shape[:3])]
        if self.call.states:
            for _ in range(2):
                made += [
                    one.new_empty(one.shape[0], self.batch, *one.shape[1:]) for one in self.start
                ]
        return made

    @property
    def nbytes(self) -> int:
        """Bytes that a record of the whole forward pass takes, in float32."""
        return Sizes(self.batch * self.heads, self.call.chunk, self.widths).nbytes * self.chunks

    def states(self) -> list[Tensor]:
        """Return room for D and S at the start of each group of chunks.

        Shapes
        ------
        (groups, heads, batch, inner, outer) a layer for D, then as many for S
        """
        groups = -(-self.chunks // self.group)
        return [
            one.new_empty(groups, one.shape[0], self.batch, *one.shape[1:])
            for _ in range(2)
            for one in self.start
        ]

    def parts(self) -> Iterator["Part"]:
        """Yield the sequences that are worked on together."""
        for first in range(0, self.batch, self.at_once):
            yield Part(self, first, min(self.at_once, self.batch - first))


class Part:
    """Some sequences of a call, and all of their chunks."""

    def __init__(self, given: Given, first: int, count: int) -> None:
        self.given, self.rows = given, slice(first, first + count)
        self.shape = (given.heads, count)
        sizes = Sizes(count * given.heads, given.call.chunk, given.widths)
        base, _ = split_start(given.start, given.call.rule)
        self.fixed = Fixed(
            sizes,
            given.call.rule,
            given.call.full_chunk,
            tuple(
                one.unsqueeze(1).expand(-1, count, -1, -1).reshape(sizes.rows, *one.shape[1:])
                for one in base
            ),
        )
        self.spans = [
            slice(first, min(first + given.group, given.chunks))
            for first in range(0, given.chunks, given.group)
        ]

    def cut(self, x: Tensor, span: slice) -> Tensor:
        """Return (n, heads, sequences, chunk, ...) as a view of (batch, heads, time, ...)."""
        given = self.given
        cut = x[self.rows].unflatten(2, (given.chunks, given.call.chunk))[:, :, span]
        return cut.movedim((2, 1, 0), (0, 1, 2))

    def tokens(self, span: slice, space: Space) -> Tokens:
        """Return the tokens of some chunks."""
        given, (rows, chunk, widths) = self.given, self.fixed.sizes
        n, shape = span.stop - span.start, self.shape
        both = space.take("both", (n, rows, 2 * chunk, widths[0]))
        wide = both.unflatten(1, shape)
        wide[..., :chunk, :] = self.cut(given.tokens[0], span)
        wide[..., chunk:, :] = self.cut(given.tokens[1], span)
        values = space.take("values", (n, rows, chunk, widths[0]))
        values.unflatten(1, shape).copy_(self.cut(given.tokens[2], span))
        rates = [
            self.cut(one, span).movedim(-1, 0).reshape(chunk, n * rows) for one in given.rates
        ]
        return Tokens(both, values, Rates(*rates))

    def begin(self, space: Space) -> State:
        """Return the state before the first token."""
        given = self.given
        made = space.once(state, self.fixed.sizes, "start")
        _, first = split_start(given.start, given.call.rule)
        for layer, one in enumerate(made.layers):
            heads = one.drift.unflatten(0, self.shape)
            if given.weights:
                heads.copy_(given.weights[layer][:, self.rows])
                one.momentum.unflatten(0, self.shape).copy_(
                    given.momentum[layer][:, self.rows]
                )
            else:
                heads.copy_(first[layer].unsqueeze(1))
                one.momentum.zero_()
            torch.add(one.drift, self.fixed.base[layer], out=one.weights)
        return made

    def keep(self, now: State, places: list[Tensor]) -> None:
        """Copy D and then S, a (heads, batch, inner, outer) a layer, if there are places."""
        views = [one.drift for one in now.layers] + [one.momentum for one in now.layers]
        for view, place in zip(views, places, strict=bool(places)):
            place[:, self.rows].copy_(view.unflatten(0, self.shape))

    def restore(self, places: list[Tensor], space: Space) -> State:
        """Undo :meth:`keep`."""
        made = space.once(state, self.fixed.sizes, "start")
        layers = len(made.layers)
        for layer, one in enumerate(made.layers):
            one.drift.copy_(places[layer][:, self.rows].flatten(0, 1))
            one.momentum.copy_(places[layers + layer][:, self.rows].flatten(0, 1))
            torch.add(one.drift, self.fixed.base[layer], out=one.weights)
        return made
