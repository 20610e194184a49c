"""Retention: how the weights that are read follow from the sum of what was written.

The sum (accumulator) obeys the linear recurrence of every rule; the weights are a multiple of
it. Within a chunk the multiple is that of the chunk's start, so reading stays linear.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from jaxtyping import Float
from torch import Tensor

_LEAST_POWER_SUM = 1e-24
"""Added to a power sum that may be zero."""


class Retention(Protocol):
    """A rule for the size of the weights."""

    def scale(
        self,
        accumulated: Float[Tensor, "heads batch inner outer"],
        start: Float[Tensor, "heads one inner outer"],
    ) -> Float[Tensor, "heads batch one one"]:
        """Return the number that makes weights of an accumulator.

        Parameters
        ----------
        start
            Learned start of the accumulator, and so of the weights.
        """
        ...


@dataclass(frozen=True, slots=True)
class NormRetention:
    """Weights whose norm falls as their accumulator's grows: the l_q retention of MIRAS.

    Equation 24 of arXiv 2504.13173 is ``W = A / |A|_q^(q - 2)``. It leaves the unit of A open,
    and W grows without bound as A shrinks. Here, with r the norm of A over that of its learned
    start::

        W = A / ((1 + r^q) / 2)^((q - 2) / q)

    which is A at the start, ``A / r^(q - 2)`` up to a constant where r is large, and A up to a
    constant where it is small; for q = 4 the norm of W never exceeds the start's.
    """

    power: float = 4.0
    """The q of l_q, at least 2; 2 leaves the accumulator as it is."""

    def scale(
        self,
        accumulated: Float[Tensor, "heads batch inner outer"],
        start: Float[Tensor, "heads one inner outer"],
    ) -> Float[Tensor, "heads batch one one"]:
        """Return ``((1 + r^q) / 2)^(-(q - 2) / q)``."""
        ratio = self._power_sum(accumulated) / self._power_sum(start)
        return (0.5 + 0.5 * ratio) ** ((2 - self.power) / self.power)

    def _power_sum(self, weights: Tensor) -> Tensor:
        """Return the norm to its power."""
        return (weights.abs() ** self.power).sum((-2, -1), keepdim=True) + _LEAST_POWER_SUM
