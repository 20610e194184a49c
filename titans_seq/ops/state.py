"""What a memory carries from one call to the next, as plain tensors.

Weights are kept as their difference from where forgetting leads (the learned start, or
zero), so that forgetting is a plain decay whatever it leads to.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from titans_seq.ops.rules.rule import UpdateRule

Weights = tuple[Float[Tensor, "heads batch inner outer"], ...]
"""One matrix a layer of the memory, for each head and sequence."""


class Carry(NamedTuple):
    """State of the memory between two tokens; its size does not depend on the past's length.

    Shapes
    ------
    ``weights``, ``momentum``, ``anchor``: one (heads, batch, inner, outer) a layer;
    ``keys``: one (heads, batch, chunk, inner) a layer; ``spent``: one (heads, batch, chunk);
    ``kept``: none, or one (heads, batch); ``pending``: none, or inputs and then changes, each
    one (heads, batch, chunk, width) a layer
    """

    weights: Weights
    """Weights after the last token, less the base that forgetting leads to."""

    momentum: Weights
    """Momentum S after the last token (with the mean schedule: sum of the chunk's steps; with
    a retention: the accumulator, less the base)."""

    anchor: Weights
    """``weights`` at the start of the open chunk, where its gradients are taken (with a
    retention: the accumulator there)."""

    keys: tuple[Tensor, ...]
    """Unit inputs of each layer for the open chunk's tokens (triangular step)."""

    spent: tuple[Tensor, ...]
    """Share of a full correction that each of those tokens has written."""

    kept: tuple[Tensor, ...] = ()
    """Share of ``anchor`` that forgetting has left since, for rules with a boundary."""

    pending: tuple[Tensor, ...] = ()
    """What the open chunk's tokens write at each step of their windows, for rules with one."""


class Layout(NamedTuple):
    """Everything that the carry of a memory must match before the memory goes on from it."""

    rule: UpdateRule
    chunk_size: int
    batch: int
    shapes: tuple[torch.Size, ...]
    """Of the learned first weights, (heads, inner, outer) a layer."""
    dtype: torch.dtype
    """Of the first weights; a carry may be of another floating type, but float64 only with it."""
    device: torch.device

    def carry_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every tensor of a carry, by its field and place: ``weights.0``."""
        rule, heads = self.rule, self.shapes[0][0]
        memories = (heads, self.batch)
        matrices = [(*memories, *shape[1:]) for shape in self.shapes]
        inputs = [(*memories, self.chunk_size, shape[1]) for shape in self.shapes]
        changes = [(*memories, self.chunk_size, shape[2]) for shape in self.shapes]
        fields: dict[str, list[tuple[int, ...]]] = {"weights": [*matrices], "momentum": [*matrices]}
        if rule.gradient_point == "chunk":
            fields["anchor"] = [*matrices]
            if rule.step == "triangular":
                fields |= {"keys": [*inputs], "spent": [shape[:3] for shape in inputs]}
            if rule.boundary is not None:
                fields["kept"] = [memories]
            if rule.window > 1:
                fields["pending"] = [*inputs, *changes]
        return {
            f"{field}.{index}": shape
            for field, shapes in fields.items()
            for index, shape in enumerate(shapes)
        }


def split_start(
    start: tuple[Tensor, ...], rule: UpdateRule
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Return the base that forgetting leads to, and the first difference from it.

    Parameters
    ----------
    start
        Learned first weights, one (heads, inner, outer) a layer.
    """
    zeros = tuple(torch.zeros_like(one) for one in start)
    return (start, zeros) if rule.forget_to == "start" else (zeros, start)


def first_carry(start: tuple[Tensor, ...], rule: UpdateRule, batch: int, chunk_size: int) -> Carry:
    """Return the state of ``batch`` memories that have read nothing."""
    _, first = split_start(start, rule)
    weights = tuple(one.unsqueeze(1).expand(-1, batch, -1, -1) for one in first)
    momentum = tuple(torch.zeros_like(one) for one in weights)
    if rule.gradient_point == "token":
        return Carry(weights, momentum, (), (), ())
    carry = Carry(weights, momentum, weights, (), ())
    if rule.retention is not None:
        carry = carry._replace(momentum=weights)
    rows = weights[0].shape[:2]
    inputs = tuple(one.new_zeros(*rows, chunk_size, one.shape[-2]) for one in weights)
    if rule.step == "triangular":
        spent = tuple(one.new_zeros(*rows, chunk_size) for one in weights)
        carry = carry._replace(keys=inputs, spent=spent)
    if rule.boundary is not None:
        carry = carry._replace(kept=(weights[0].new_ones(rows),))
    if rule.window > 1:
        changes = tuple(one.new_zeros(*rows, chunk_size, one.shape[-1]) for one in weights)
        carry = carry._replace(pending=inputs + changes)
    return carry


def open_chunk(carry: Carry, rule: UpdateRule) -> Carry:
    """Return the state with the next chunk open: its gradients are taken at these weights."""
    weights = carry.weights
    if rule.boundary is not None:
        share = carry.kept[0][..., None, None]
        left = [share * one for one in carry.anchor]
        wrote = [now - one for now, one in zip(weights, left, strict=True)]
        kept = [rule.boundary.close(one) for one in wrote]
        weights = tuple(one + two for one, two in zip(left, kept, strict=True))
    anchor = weights if rule.retention is None else carry.momentum
    momentum = carry.momentum
    if rule.schedule == "mean":
        momentum = _zeros(momentum)
    ones = tuple(torch.ones_like(one) for one in carry.kept)
    return carry._replace(weights=weights, momentum=momentum, anchor=anchor, kept=ones)


def forget_chunk(carry: Carry) -> Carry:
    """Return the state without what only the chunk that has closed needed, shapes unchanged."""
    return carry._replace(
        keys=_zeros(carry.keys), spent=_zeros(carry.spent), pending=_zeros(carry.pending)
    )


def _zeros(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(torch.zeros_like(one) for one in tensors)


def with_chunk_size(carry: Carry, chunk_size: int) -> Carry:
    """Return the state between two chunks for chunks of another length.

    Only what the closed chunk remembered of its tokens depends on the length, and nothing
    reads that once the chunk is closed: it becomes zeros.
    """

    def resized(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(one.new_zeros(*one.shape[:2], chunk_size, *one.shape[3:]) for one in tensors)

    return carry._replace(
        keys=resized(carry.keys), spent=resized(carry.spent), pending=resized(carry.pending)
    )


def close_chunk(carry: Carry | None, rule: UpdateRule, chunk_size: int, end: int) -> Carry | None:
    """Close the chunk of a state that stands at a chunk's end, whichever back end left it there.

    Rules that only torch computes keep what they need to open the next chunk.

    Parameters
    ----------
    end
        Slot after the last token.
    """
    at_end = rule.gradient_point == "token" or not end % chunk_size
    if carry is None or not at_end or rule.torch_only_feature() is not None:
        return carry
    return closed(carry, rule, chunk_size)


def closed(carry: Carry, rule: UpdateRule, chunk_size: int) -> Carry:
    """Return the one form of a state between two chunks.

    What the last chunk remembered of its keys no longer matters, and is zero.
    """
    if rule.gradient_point == "token":
        return carry._replace(anchor=(), keys=(), spent=())
    keys: tuple[Tensor, ...] = ()
    spent: tuple[Tensor, ...] = ()
    if rule.step == "triangular":
        shapes = [(*weight.shape[:2], chunk_size) for weight in carry.weights]
        pairs = list(zip(carry.weights, shapes, strict=True))
        keys = tuple(weight.new_zeros(*shape, weight.shape[-2]) for weight, shape in pairs)
        spent = tuple(weight.new_zeros(shape) for weight, shape in pairs)
    return carry._replace(anchor=carry.weights, keys=keys, spent=spent)


def choose(rows: Tensor, ours: Carry, theirs: Carry) -> Carry:
    """Return ``ours`` for the sequences where ``rows`` (batch) is true, else ``theirs``."""

    def pick(one: Tensor, other: Tensor) -> Tensor:
        return torch.where(rows.reshape(1, -1, *(1,) * (one.dim() - 2)), one, other)

    return Carry(
        *(
            tuple(pick(one, other) for one, other in zip(mine, yours, strict=True))
            for mine, yours in zip(ours, theirs, strict=True)
        )
    )
