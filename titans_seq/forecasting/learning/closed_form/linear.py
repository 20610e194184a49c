"""The linear map that all series share, solved by ridge regression.

Gradient steps take tens of epochs to train this map, and until then the backbone learns what the
map is still missing. Solved in closed form it is right from the start.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from titans_seq.forecasting.learning.closed_form.ridge import RidgeSums
from titans_seq.forecasting.learning.windows import WindowBatch
from titans_seq.forecasting.network.network import ForecastNetwork

_PENALTIES = (0.001, 0.01, 0.1, 1.0, 10.0)
"""Penalties to choose from, in units of the mean square of a row of the look-back."""


@torch.no_grad()
def solve_linear(
    network: ForecastNetwork,
    prior: Float[Tensor, "horizon context"],
    batches: Iterable[WindowBatch],
    validation: Iterable[WindowBatch],
) -> None:
    """Set the linear part of a network by ridge regression.

    Windows with a missing target are left out. The penalty is the one with the least error on
    the validation windows; if none beats the prior weights, these stay.

    Parameters
    ----------
    network
        Its effects of covariates are taken off the windows as they are.
    prior
        Weights that the penalty shrinks towards.
    batches, validation
        Windows to solve for, and to choose the penalty by.
    """
    context, horizon = network.config.context_length, network.config.horizon
    sums = RidgeSums.zeros((), context, horizon, prior.device)
    for batch in batches:
        look_back, target = centred_windows(network, batch)
        complete = batch.target_seen.all(1).to(prior.device)
        look_back, target = look_back[complete], target[complete]
        sums.add(look_back, target - look_back @ prior.T)
    candidates = [prior, *(prior + sums.solve(one).T.to(prior.dtype) for one in _PENALTIES)]
    errors = torch.zeros(len(candidates), dtype=torch.double)
    for batch in validation:
        look_back, target = centred_windows(network, batch)
        seen = batch.target_seen.to(prior.device)
        for number, weight in enumerate(candidates):
            residual = (target - look_back @ weight.T) * seen
            errors[number] += residual.double().square().sum().cpu()
    network.linear.weight.copy_(candidates[int(errors.argmin())])


def series_codes(batch: WindowBatch) -> Tensor:
    """Return the code of each window's series; 0 where series have none."""
    codes = batch.windows.static_codes
    return codes[:, -1] if codes.shape[1] else torch.zeros(len(codes), dtype=torch.long)


def centred_windows(network: ForecastNetwork, batch: WindowBatch) -> tuple[Tensor, Tensor]:
    """Return look-backs and targets less their centres and effects, in units of the series.

    Not in units of each look-back's spread: squared errors of all windows should weigh the same.
    """
    device = network.linear.weight.device
    baseline = network.baseline(batch.windows.to(device))
    target = batch.target.to(device)
    effect = baseline.effect[:, -target.shape[1] :]
    return baseline.values * baseline.spread, target - baseline.centre - effect
