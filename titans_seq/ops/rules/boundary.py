"""What happens to the weights where one chunk closes and the next opens.

Inside a chunk every update is linear in the chunk's gradients, so that a query's pass is a
masked product. What is not linear waits for the chunk's end. It is done when the chunk's
successor opens, so an open or just completed chunk reads what its own tokens have written
plainly, and a sequence may be cut anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of x, x^3 and x^5 that Muon iterates with."""

LEAST_SQUARE = 1e-12
"""Added to a square that may be zero: a chunk that wrote nothing is left as it is."""


class Boundary(Protocol):
    """A change of what a chunk has written, when it closes."""

    def close(self, wrote: Float[Tensor, "*rows inner outer"]) -> Tensor:
        """Return what stays of the sum of a chunk's writes."""
        ...


@dataclass(frozen=True, slots=True)
class Orthogonalise:
    """Spread what a chunk has written evenly over all its directions, as Muon does.

    With A what the chunk's momentum has added to one matrix, decayed to the chunk's end, and
    O the matrix that Newton-Schulz iterations make of it (the singular vectors of A with
    singular values near 1), the chunk leaves the multiple of O that is nearest to A::

        O <A, O> / <O, O>

    Its size is close to the mean singular value of A, and never more than A itself, so where A
    alone would correct every error, O does not overshoot.
    """

    iterations: int = 5

    def close(self, wrote: Float[Tensor, "*rows inner outer"]) -> Tensor:
        """Return the nearest multiple of the orthogonalised sum."""
        directions = newton_schulz(wrote, self.iterations)
        projection = (wrote * directions).sum((-2, -1), keepdim=True)
        square = directions.square().sum((-2, -1), keepdim=True)
        nearest: Tensor = directions * (projection / (square + LEAST_SQUARE**0.5))
        return nearest


def newton_schulz(
    matrices: Float[Tensor, "*rows inner outer"], iterations: int
) -> Float[Tensor, "*rows inner outer"]:
    """Return matrices with the same singular vectors and singular values near 1.

    The odd polynomial ``a x + b x^3 + c x^5`` of Muon, iterated on the matrix divided by its
    length; five iterations take singular values above 0.003 of the length to 0.7...1.2.
    """
    first, third, fifth = QUINTIC
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x * torch.rsqrt(x.square().sum((-2, -1), keepdim=True) + LEAST_SQUARE)
    for _ in range(iterations):
        square = x @ x.mT
        x = first * x + (third * square + fifth * (square @ square)) @ x
    return x.mT if tall else x
