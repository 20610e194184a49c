"""What a memory carries from one call to the next, as plain tensors.

Weights are kept as their difference from where forgetting leads (the learned start, or
zero), so that forgetting is a plain decay whatever it leads to.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from titans_seq.ops.rule import UpdateRule

Weights = tuple[Float[Tensor, "heads batch inner outer"], ...]
"""One matrix a layer of the memory, for each head and sequence."""


class Carry(NamedTuple):
    """State of the memory between two tokens; its size does not depend on the past's length.

    Shapes
    ------
    ``weights``, ``momentum``, ``anchor``: one (heads, batch, inner, outer) a layer;
    ``keys``: one (heads, batch, chunk, inner) a layer; ``spent``: one (heads, batch, chunk)
    """

    weights: Weights
    """Weights after the last token, less the base that forgetting leads to."""

    momentum: Weights
    """Momentum S after the last token (with the mean schedule: sum of the chunk's steps)."""

    anchor: Weights
    """``weights`` at the start of the open chunk, where its gradients are taken."""

    keys: tuple[Tensor, ...]
    """Unit inputs of each layer for the open chunk's tokens (triangular step)."""

    spent: tuple[Tensor, ...]
    """Share of a full correction that each of those tokens has written."""


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
    if rule.step != "triangular":
        return Carry(weights, momentum, weights, (), ())
    rows = [one.new_zeros(*one.shape[:2], chunk_size) for one in weights]
    keys = tuple(one.new_zeros(*one.shape[:2], chunk_size, one.shape[-2]) for one in weights)
    return Carry(weights, momentum, weights, keys, tuple(rows))


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
