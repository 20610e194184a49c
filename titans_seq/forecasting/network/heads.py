"""Normalisation of a look-back before the backbone, and the quantile head after it."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

Normalisation = Literal["mean", "last", "none"]
"""Centre of a look-back; ``none`` leaves it as it is."""

SMALLEST_VARIANCE = 1e-5
"""Added to the variance of a look-back, whose series has variance 1."""


class WindowScale(NamedTuple):
    """Centre and spread of a look-back."""

    centre: Float[Tensor, "batch 1"]
    spread: Float[Tensor, "batch 1"]


def window_scale(
    history: Float[Tensor, "batch context"],
    seen: Bool[Tensor, "batch context"],
    normalise: Normalisation,
) -> WindowScale:
    """Return centre and spread of the known values; 0 and 1 if there are none."""
    if normalise == "none":
        zero = torch.zeros_like(history[:, :1])
        return WindowScale(zero, zero + 1)
    count = seen.sum(dim=1, keepdim=True)
    known = history * seen
    mean = known.sum(dim=1, keepdim=True) / count.clamp(min=1)
    variance = ((history - mean).square() * seen).sum(dim=1, keepdim=True) / count.clamp(min=1)
    spread = torch.where(count > 1, (variance + SMALLEST_VARIANCE).sqrt(), 1.0)
    if normalise == "mean":
        return WindowScale(mean, spread)
    return WindowScale(latest_of(history, seen), spread)


def latest_of(
    history: Float[Tensor, "batch context"], seen: Bool[Tensor, "batch context"]
) -> Float[Tensor, "batch 1"]:
    """Return the last known value; 0 if there is none."""
    positions = torch.arange(1, history.shape[1] + 1, device=history.device) * seen
    return (history * seen).gather(1, positions.argmax(dim=1, keepdim=True))


class QuantileHead(nn.Module):
    """Quantiles around the point forecast that cannot cross.

    The level nearest to one half lies at a learned distance from the point; each further
    level adds a positive step outwards. Untrained, they are those of a standard normal.
    """

    def __init__(self, dim: int, quantiles: tuple[float, ...]) -> None:
        super().__init__()
        levels = torch.tensor(quantiles, dtype=torch.float64)
        self.middle = int((levels - 0.5).abs().argmin())
        self.project = nn.Linear(dim, len(quantiles))
        nn.init.zeros_(self.project.weight)
        normal = torch.special.ndtri(levels)
        steps = normal.diff().abs().to(torch.get_default_dtype())
        start = steps.expm1().log()  # softplus(start) == steps
        with torch.no_grad():
            self.project.bias.zero_()
            self.project.bias[: self.middle] = start[: self.middle]
            self.project.bias[self.middle + 1 :] = start[self.middle :]
        # moves[step, level]: each step moves its own level and those further outwards,
        # down (-1) below the middle and up (+1) above it
        numbers = torch.arange(len(quantiles))
        below = -(numbers[:, None] >= numbers).double() * (numbers[:, None] < self.middle)
        above = (numbers[:, None] <= numbers).double() * (numbers[:, None] > self.middle)
        self.moves: Tensor
        self.register_buffer("moves", (below + above).to(torch.get_default_dtype()), False)

    def forward(
        self, features: Float[Tensor, "batch horizon dim"], point: Float[Tensor, "batch horizon"]
    ) -> Float[Tensor, "batch horizon quantiles"]:
        """Return every level, on the scale of ``point``."""
        raw = self.project(features)
        middle = point[..., None] + raw[..., self.middle : self.middle + 1]
        levels: Tensor = middle + functional.softplus(raw) @ self.moves
        return levels
