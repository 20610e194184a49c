"""How far each token of whole chunks may step, with the gradients by hand.

The triangular step of :mod:`titans_seq.ops.triangular_step` and the smooth bound on a token's
gradient, from what the products of the chunk have computed anyway: the products of its inputs
with each other, and the lengths of inputs and errors. All but the triangular system are
vectors of one number a token.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from titans_seq.ops.rule import TINY

SMALL = 1e-12
"""Added to a length that is divided by and may be zero."""


class Demand(NamedTuple):
    """What the tokens ask for; each (rows, chunk)."""

    theta: Float[Tensor, "rows chunk"]
    """Step that the token asks for."""
    room: Float[Tensor, "rows chunk"]
    """1 - momentum, a little above 0."""
    theta_room: Float[Tensor, "rows chunk"]


class Triangle(NamedTuple):
    """What the gradients of a triangular step need; each (rows, chunk)."""

    inverse: Float[Tensor, "rows chunk"]
    """One over the squared length of the input."""
    asked: Float[Tensor, "rows chunk"]
    """What the step alone would correct along its input."""
    limit: Float[Tensor, "rows chunk"]
    """What ``asked`` and the step are divided by."""
    share: Float[Tensor, "rows chunk"]
    """What the step would correct, of a full correction."""
    scale: Float[Tensor, "rows chunk"]
    """Step a token gets for all that is left of its input's direction."""
    left: Float[Tensor, "rows chunk"]
    """Share of the input's direction that the chunk had not yet corrected."""


class Steps(NamedTuple):
    """Steps of one layer before the bound on gradients; each (rows, chunk)."""

    step: Float[Tensor, "rows chunk"]
    square: Float[Tensor, "rows chunk"]
    """Squared length of each token's input."""
    length: Float[Tensor, "rows chunk"]
    triangle: Triangle | None


def demand_of(theta: Tensor, log_momentum: Tensor) -> Demand:
    """Return what tokens ask for, of any leading shape."""
    room = -torch.expm1(log_momentum)
    return Demand(theta, room.clamp_min(TINY), theta * room)


def steps(
    gram: Float[Tensor, "rows chunk chunk"],
    demand: Demand,
    shared: int | None,
    layers: int,
    system: Float[Tensor, "rows chunk chunk"],
) -> Steps:
    """Return the steps of whole chunks.

    Parameters
    ----------
    gram
        Products of the layer's inputs with each other.
    shared
        What plain steps are divided by; ``None`` for triangular ones.
    layers
        Layers that share the correction.
    system
        Where squared cosines times shares are written; what stands on and above the
        diagonal means nothing.
    """
    square = gram.diagonal(dim1=-2, dim2=-1).contiguous()
    if shared is not None:
        return Steps(demand.theta / shared, square, square.sqrt(), None)
    asked = demand.theta * square
    limit = torch.maximum(asked, demand.room)
    if layers > 1:
        limit.mul_(layers)
    share, scale = asked / limit, demand.theta_room / limit
    inverse = (square + TINY).reciprocal_()
    torch.mul(gram, gram, out=system)
    system.mul_(inverse.unsqueeze(-1)).mul_((inverse * share).unsqueeze(-2))
    left = torch.linalg.solve_triangular(
        system, torch.ones_like(share).unsqueeze(-1), upper=False, unitriangular=True
    ).squeeze(-1)
    step = left.clamp_min(0).mul_(scale)
    triangle = Triangle(inverse, asked, limit, share, scale, left)
    return Steps(step, square, square.sqrt(), triangle)



def steps_backward(
    made: Steps,
    demand: Demand,
    gram: Float[Tensor, "rows chunk chunk"],
    system: Float[Tensor, "rows chunk chunk"],
    given: tuple[Float[Tensor, "rows chunk"], Float[Tensor, "rows chunk"]],
    shared: int | None,
    layers: int,
    out: Float[Tensor, "rows chunk chunk"],
) -> tuple[Float[Tensor, "rows chunk"], Float[Tensor, "rows chunk"]]:
    """Return the gradients of the asked step and of the log momentum.

    Parameters
    ----------
    given
        Gradients of the step, and of the squared lengths by other ways.
    out
        Where the gradient of ``gram`` is written.
    """
    step, square = given
    if made.triangle is None or shared is not None:
        out.zero_()
        out.diagonal(dim1=-2, dim2=-1).copy_(square)
        return step / (shared or 1), torch.zeros_like(step)
    inverse, asked, limit, share, scale, left = made.triangle
    by_scale = step * left.clamp_min(0)
    by_left = step * scale * (left > 0)
    solved = torch.linalg.solve_triangular(
        system.mT, by_left.unsqueeze(-1), upper=True, unitriangular=True
    ).squeeze(-1)
    gained = inverse * solved
    torch.mul(gram, gained.unsqueeze(-1), out=out)
    by_share = -left * inverse * (out.tril_(-1) * gram).sum(-2)
    by_square = square + gained * (1 - left) + inverse * left * (by_left - solved)
    out.mul_((inverse * share * left).mul_(-2).unsqueeze(-2))

    # where more is asked than there is room for, the step depends on room and length alone
    bound = torch.gt(asked, demand.room)
    theta = demand.theta / limit
    by_square += torch.where(bound, by_scale * scale * inverse * -1, by_share * theta)
    out.diagonal(dim1=-2, dim2=-1).copy_(by_square)
    by_theta = (by_share * made.square + by_scale * demand.room).div_(limit)
    by_room = torch.where(bound, by_scale * theta, by_share * share / demand.room * -1)
    return by_theta.masked_fill_(bound, 0.0), by_room * (demand.room - 1)


def bounded_step(
    length: Float[Tensor, "rows chunk"],
    errors: Float[Tensor, "rows chunk"],
    step: Float[Tensor, "rows chunk"],
    bound: float,
) -> tuple[Tensor, Tensor]:
    """Shrink steps smoothly so that no token's gradient counts for more than ``bound``.

    Parameters
    ----------
    length, errors
        Lengths of the inputs and of the errors, whose product is the gradient's.

    Returns
    -------
    step, room
        The steps; and ``1 + gradient / bound``, by which they were divided.
    """
    room = (length * errors).mul_(1 / bound).add_(1.0)
    return step / room, room


def bounded_backward(
    length: Tensor, errors: Tensor, limited: Tensor, room: Tensor, step: Tensor, bound: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of the unbounded step, of ``length**2`` and of ``errors**2``.

    Parameters
    ----------
    limited, room
        As :func:`bounded_step` returned them.
    step
        Gradient of the bounded step.
    """
    by_step = step / room
    by_size = by_step * limited * (-0.5 / bound)
    return by_step, by_size * errors / (length + SMALL), by_size * length / (errors + SMALL)
