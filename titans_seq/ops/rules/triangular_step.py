"""The triangular step: full steps where keys are new, none where the chunk has written.

With the gradient at the chunk's start, every token that repeats a key writes the same
correction again, and the memory diverges at steps far below 1. Here a token's step shrinks
by the share of its direction that the chunk has already corrected. Token by token, for a
layer's input z of unit length u, and x the correction that the step alone would write::

    y[t] = x[t] (1 - sum over s < t of (u[t] . u[s])^2 y[s])
    step'[t] = step[t] (1 - momentum[t]) / max(step[t] |z[t]|^2, 1 - momentum[t])
               / layers * max(0, 1 - the same sum)

which for a whole chunk is one unit lower triangular system in ``1 - the same sum``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from titans_seq.ops.rules.rule import TINY


class TriangularStep(NamedTuple):
    """Steps of one layer, and what later tokens of the chunk must know of them."""

    step: Float[Tensor, "*rows time"]
    keys: Float[Tensor, "*rows time inner"]
    spent: Float[Tensor, "*rows time"]


def triangular_step(
    inputs: Float[Tensor, "*rows time inner"],
    step: Float[Tensor, "*rows time"],
    log_momentum: Float[Tensor, "*rows time"],
    layers: int,
    keys: Float[Tensor, "*rows before inner"] | None = None,
    spent: Float[Tensor, "*rows before"] | None = None,
) -> TriangularStep:
    """Shrink each token's step by what its chunk has already written along its input.

    Parameters
    ----------
    inputs
        Input z of the layer, from the keys.
    step
        Step theta that the token asks for, at least 0.
    log_momentum
        Log of eta; a momentum of exactly 1 never lets go and gets no step.
    layers
        Layers that share the correction.
    keys, spent
        Unit inputs of the chunk's earlier tokens and what they wrote; zero where none.
    """
    # A step of theta corrects theta |z|^2 of the error along z; with momentum it goes on writing
    # and comes to 1 / (1 - eta) times that. `room` is 1 - eta, from the logarithm without loss.
    square = inputs.square().sum(-1)
    unit = inputs * torch.rsqrt(square + TINY).unsqueeze(-1)
    demand = step * square
    room = -torch.expm1(log_momentum)
    limit = torch.maximum(demand, room).clamp_min(TINY)
    # The correction this token would write alone, at most one, shared by the layers.
    wanted = demand / limit / layers

    # `left` is the share of this direction that the chunk has not corrected yet: first what its
    # earlier tokens of a call before left, then what the tokens of this call leave each other.
    left = torch.ones_like(wanted)
    if keys is not None and spent is not None:
        left = left - ((unit @ keys.mT).square() @ spent.unsqueeze(-1)).squeeze(-1)
    # Row t: squared cosine with every token s times what s wanted. Only the part below the
    # diagonal is read, so the solve runs through the tokens in their order.
    system = (unit @ unit.mT).square() * wanted.unsqueeze(-2)
    left = torch.linalg.solve_triangular(
        system, left.unsqueeze(-1), upper=False, unitriangular=True
    ).squeeze(-1)
    # Cosines are squared, so what is left could fall below 0 by rounding or by many near keys.
    shrunk = step * (room / (limit * layers)) * left.clamp_min(0)
    return TriangularStep(shrunk, unit, wanted * left)
