"""The experts of a streaming forecast, and how far each is trusted.

Every expert forecasts the whole horizon:

* the window's network, which knows nothing but the look-back;
* what the delayed association remembers, from the look-back's mean on;
* a linear map of the look-back;
* for each head of the phase memory, its levels over the horizon, plus a linear map of how the
  look-back departs from them.

The forecast is their weighted mean. The weights depend on how wrong each has been of late, which
is the memory's surprise: so a head that follows fast takes over after a jump, and hands back.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

BEFORE_HEADS = 2
"""Experts before the linear ones: the network, and the association."""

SMALLEST_ERROR = 1e-4
"""Added to a squared error under the logarithm, where a series has variance 1."""

RATES = (1 / 8, 1 / 48)
"""How fast the two averages of an expert's squared error forget."""


class Snapshot(NamedTuple):
    """What the experts look at, at the end of one row or many."""

    look_back: Float[Tensor, "moments context"]
    seen: Bool[Tensor, "moments context"]
    levels: Float[Tensor, "moments heads rows"]
    """What the phase memory expects of the look-back and then of the horizon."""

    remembered: Float[Tensor, "moments horizon"]
    """What the association adds to the look-back's mean."""

    errors: Float[Tensor, "moments experts 2"]
    known: Float[Tensor, "moments experts"]
    age: Float[Tensor, "moments"]
    """Rows read so far."""


class Mixture(nn.Module):
    """The linear experts and the weights.

    Parameters
    ----------
    context, horizon
        Rows of the look-back and of the forecast.
    heads
        Of the phase memory.
    """

    def __init__(self, context: int, horizon: int, heads: int) -> None:
        super().__init__()
        self.context = context
        self.experts = BEFORE_HEADS + 1 + heads
        linear = 1 + heads
        self.slope = nn.Parameter(torch.zeros(linear, context, horizon), requires_grad=False)
        self.offset = nn.Parameter(torch.zeros(linear, horizon), requires_grad=False)
        self.usual = nn.Parameter(torch.zeros(self.experts, 2), requires_grad=False)
        self.gate = nn.Linear(2 * self.experts + 1, self.experts)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)
        self.own = nn.Parameter(torch.zeros(2))
        self.step_bias = nn.Parameter(torch.zeros(self.experts, horizon))

    def centred(self, look: Snapshot) -> tuple[Tensor, Tensor]:
        """Return each linear expert's levels over the horizon, and the look-back around them.

        Shapes
        ------
        levels      (moments, linear experts, horizon)
        departures  (moments, linear experts, context)
        """
        count = look.seen.sum(-1, keepdim=True).clamp(min=1)
        mean = (look.look_back * look.seen).sum(-1, keepdim=True) / count
        rows = look.levels.shape[-1]
        levels = torch.cat([mean[:, None].expand(-1, 1, rows), look.levels], dim=1)
        departures = (look.look_back[:, None] - levels[..., : self.context]) * look.seen[:, None]
        return levels[..., self.context :], departures

    def forecasts(
        self, look: Snapshot, network: Float[Tensor, "moments horizon"]
    ) -> Float[Tensor, "moments experts horizon"]:
        """Return the forecast of every expert; ``network`` is that of the window alone."""
        levels, departures = self.centred(look)
        linear = torch.einsum("nec,ech->neh", departures, self.slope)
        linear = levels + linear + self.offset
        remembered = levels[:, :1] + look.remembered[:, None]
        return torch.cat([network[:, None], remembered, linear], dim=1)

    def weights(self, look: Snapshot) -> Float[Tensor, "moments experts horizon"]:
        """Return how far each expert is trusted, for each step; they sum to 1."""
        logs = (look.errors + SMALLEST_ERROR).log() - self.usual
        logs = torch.where(look.known[..., None] > 0, logs, 0.0)
        logs = logs - logs.mean(dim=1, keepdim=True)
        age = torch.log1p(look.age)[:, None] / 8
        trust = self.gate(torch.cat([logs.flatten(1), age], dim=1))
        trust = trust - (logs * self.own.exp()).sum(-1)
        return torch.softmax(trust[..., None] + self.step_bias, dim=1)

    def spread(
        self, look: Snapshot, weights: Float[Tensor, "moments experts horizon"]
    ) -> Float[Tensor, "moments"]:
        """Return the size that the experts' errors have had of late, weighed as they are."""
        weights = weights.mean(-1)
        errors = torch.where(look.known > 0, look.errors[..., 1], 1.0)
        return ((weights * errors).sum(-1) + SMALLEST_ERROR).sqrt()

    def forward(self, look: Snapshot, network: Tensor) -> Float[Tensor, "moments horizon"]:
        """Return the forecast."""
        return (self.weights(look) * self.forecasts(look, network)).sum(1)
