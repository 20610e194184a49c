"""Mixture of experts: the forecasters of a stream, and the gate that weighs them.

Every expert forecasts the whole horizon:

* the window's network, which reads nothing but the look-back;
* the delayed association, as a departure from the look-back's mean;
* a linear map of the look-back;
* for each head of the phase memory, its levels over the horizon, plus a linear map of the
  look-back's departures from them.

The forecast is their weighted mean. The weights depend on the recent errors of each expert, so a
head that follows fast takes over after a jump, and hands back later.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

OTHER_EXPERTS = 2
"""Experts before the linear ones: the network and the association."""

MIN_SQUARED_ERROR = 1e-4
"""Added to a squared error before its logarithm; series have variance 1."""

ERROR_RATES = (1 / 8, 1 / 48)
"""Forgetting rates of the two averages of an expert's squared error."""


class Snapshot(NamedTuple):
    """Inputs of the experts and the gate after one row or many."""

    look_back: Float[Tensor, "snapshots context"]
    seen: Bool[Tensor, "snapshots context"]
    levels: Float[Tensor, "snapshots heads rows"]
    """Levels of the phase memory over the look-back and then the horizon."""

    recalled: Float[Tensor, "snapshots horizon"]
    """Departure from the look-back's mean that the association recalls."""

    errors: Float[Tensor, "snapshots experts 2"]
    """Recent squared errors of the experts, averaged fast and slowly."""

    known: Float[Tensor, "snapshots experts"]
    """Number of errors averaged."""

    age: Float[Tensor, "snapshots"]
    """Rows read so far."""

    def select(self, index: Tensor) -> Snapshot:
        """Return some of the snapshots."""
        return Snapshot(*(field[index] for field in self))


class Mixture(nn.Module):
    """The linear experts and the gate.

    Parameters
    ----------
    context, horizon
        Rows of the look-back and of the forecast.
    heads
        Heads of the phase memory.
    """

    def __init__(self, context: int, horizon: int, heads: int) -> None:
        super().__init__()
        self.context, self.horizon = context, horizon
        self.experts = OTHER_EXPERTS + 1 + heads
        linear = 1 + heads
        # Solved in closed form: coefficients, intercepts, and the usual log-errors.
        self.slope = nn.Parameter(torch.zeros(linear, context, horizon), requires_grad=False)
        self.offset = nn.Parameter(torch.zeros(linear, horizon), requires_grad=False)
        self.usual = nn.Parameter(torch.zeros(self.experts, 2), requires_grad=False)
        # Trained by gradient steps: the gate, its direct use of each expert's own errors, and a
        # bias for each step of the horizon.
        self.gate = nn.Linear(2 * self.experts + 1, self.experts)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)
        self.own = nn.Parameter(torch.zeros(2))
        self.step_bias = nn.Parameter(torch.zeros(self.experts, horizon))

    def centred(self, snapshot: Snapshot) -> tuple[Tensor, Tensor]:
        """Return each linear expert's levels over the horizon, and the look-back around them.

        Shapes
        ------
        levels      (snapshots, linear experts, horizon)
        departures  (snapshots, linear experts, context)
        """
        count = snapshot.seen.sum(-1, keepdim=True).clamp(min=1)
        mean = (snapshot.look_back * snapshot.seen).sum(-1, keepdim=True) / count
        rows = snapshot.levels.shape[-1]
        # The levels of the first linear expert are the look-back's mean.
        levels = torch.cat([mean[:, None].expand(-1, 1, rows), snapshot.levels], dim=1)
        departures = snapshot.look_back[:, None] - levels[..., : self.context]
        return levels[..., self.context :], departures * snapshot.seen[:, None]

    def forecasts(
        self, snapshot: Snapshot, network: Float[Tensor, "snapshots horizon"]
    ) -> Float[Tensor, "snapshots experts horizon"]:
        """Return the forecast of every expert; ``network`` is that of the window's network."""
        levels, departures = self.centred(snapshot)
        linear = torch.einsum("nec,ech->neh", departures, self.slope)
        linear = levels + linear + self.offset
        association = levels[:, :1] + snapshot.recalled[:, None]
        return torch.cat([network[:, None], association, linear], dim=1)

    def weights(self, snapshot: Snapshot) -> Float[Tensor, "snapshots experts horizon"]:
        """Return the weight of each expert at each step; they sum to 1 over the experts."""
        # Log-errors relative to what is usual for the expert, and to the mean of all experts.
        logs = (snapshot.errors + MIN_SQUARED_ERROR).log() - self.usual
        logs = torch.where(snapshot.known[..., None] > 0, logs, 0.0)
        logs = logs - logs.mean(dim=1, keepdim=True)
        age = torch.log1p(snapshot.age)[:, None] / 8
        logits = self.gate(torch.cat([logs.flatten(1), age], dim=1))
        logits = logits - (logs * self.own.exp()).sum(-1)
        return torch.softmax(logits[..., None] + self.step_bias, dim=1)

    def spread(
        self, snapshot: Snapshot, weights: Float[Tensor, "snapshots experts horizon"]
    ) -> Float[Tensor, "snapshots"]:
        """Return the recent root mean squared error of the experts, averaged by weight."""
        weights = weights.mean(-1)
        errors = torch.where(snapshot.known > 0, snapshot.errors[..., 1], 1.0)
        return ((weights * errors).sum(-1) + MIN_SQUARED_ERROR).sqrt()

    def forward(self, snapshot: Snapshot, network: Tensor) -> Float[Tensor, "snapshots horizon"]:
        """Return the forecast."""
        return (self.weights(snapshot) * self.forecasts(snapshot, network)).sum(1)
