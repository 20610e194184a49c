"""Attentional bias: what the memory minimises at each token, as a loss of its error.

The error is what the memory answers to a key, less the value (arXiv 2504.13173 calls the loss
of it the attentional bias). Each bias states its loss and, by hand, the loss's slope: the
memory learns in its forward pass, where autograd does not always answer. The reference
differentiates ``loss`` by autograd, so a slope that is wrong does not pass its test.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor


class Bias(Protocol):
    """A loss of the memory's error, and its slope."""

    def loss(self, error: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows"]:
        """Return the loss of each token."""
        ...

    def slope(self, error: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows dim"]:
        """Return the gradient of each token's loss by its error."""
        ...

    def steepness(self, error: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows"] | None:
        """Return how many times longer than the error the slope may be, at least 1.

        A bounded step is shorter by so much: along no direction does a token write more than
        one full correction. ``None`` if the slope is never longer.
        """
        ...


@dataclass(frozen=True, slots=True)
class SquaredError:
    """Half the squared length of the error (arXiv 2501.00663, equation 12)."""

    def loss(self, error: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows"]:
        """Return ``1/2 |error|^2``."""
        return 0.5 * error.square().sum(-1)

    def slope(self, error: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows dim"]:
        """Return the error itself."""
        return error

    def steepness(self, error: Float[Tensor, "*rows dim"]) -> None:
        """Return ``None``: the slope is never longer than the error."""


SQUARED_ERROR = SquaredError()


@dataclass(frozen=True, slots=True)
class Huber:
    """Squared near zero, linear in the error's length beyond ``width``.

    The second form of arXiv 2504.13173, section 5.1 (equation 15): the length of the whole
    error decides, not each coordinate, so the direction of a write is never turned. An
    outlier then writes no more than an error of length ``width`` does.
    """

    width: float = 1.0
    """Length of the error from which the loss grows linearly; above 0."""

    def loss(self, error: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows"]:
        """Return ``1/2 |error|^2``, or ``width (|error| - width / 2)`` beyond the width."""
        square = error.square().sum(-1)
        length = square.clamp_min(self.width**2).sqrt()
        linear = self.width * (length - 0.5 * self.width)
        return torch.where(square <= self.width**2, 0.5 * square, linear)

    def slope(self, error: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows dim"]:
        """Return the error, shortened to the width."""
        square = error.square().sum(-1, keepdim=True)
        return error * (self.width * torch.rsqrt(square.clamp_min(self.width**2)))

    def steepness(self, error: Float[Tensor, "*rows dim"]) -> None:
        """Return ``None``: the slope is never longer than the error."""


@dataclass(frozen=True, slots=True)
class PowerError:
    """Sum of the coordinates' errors to a power: the l_p bias of arXiv 2504.13173.

    Equation 10 there, divided by p as the squared error is by 2, so that a step means the same
    for every power. Beyond ``width`` a coordinate's loss grows linearly: the cube of an absurd
    value is not a number that float32 holds.
    """

    power: float = 3.0
    """The p of l_p, at least 1."""

    width: float = 100.0
    """Error of a coordinate from which its loss grows linearly."""

    def loss(self, error: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows"]:
        """Return ``sum |error|^p / p``, linear beyond the width."""
        size = error.abs()
        inner = size.clamp_max(self.width)
        outer = (size - self.width).clamp_min(0) * self.width ** (self.power - 1)
        loss: Tensor = (inner**self.power / self.power + outer).sum(-1)
        return loss

    def slope(self, error: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows dim"]:
        """Return ``sign(error) |error|^(p - 1)``, each coordinate limited by the width."""
        size = error.abs().clamp_max(self.width)
        slope: Tensor = error.sign() * size ** (self.power - 1)
        return slope

    def steepness(self, error: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows"]:
        """Return the largest ``|error|^(p - 2)`` of a coordinate."""
        size = error.abs().amax(-1).clamp(1.0, self.width)
        steepness: Tensor = size ** (self.power - 2)
        return steepness
