"""The linear part, solved for instead of learnt from nothing.

By gradient steps the linear part takes tens of epochs to come to rest, and until then the
backbone learns what the linear part lacks. Solved by ridge regression it is there at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from titans_seq.forecasting.learning.windows import WindowBatch
from titans_seq.forecasting.network.network import ForecastNetwork

_PENALTIES = (0.001, 0.01, 0.1, 1.0, 10.0)
"""Penalties that are tried, over the mean square of a row; weights are drawn to the first ones."""


class Sums(NamedTuple):
    """Products summed over windows, in double precision."""

    inner: Float[Tensor, "context context"]
    """Of the rows of the look-back with each other."""

    outer: Float[Tensor, "context horizon"]
    """Of them with what the first weights lack."""


@torch.no_grad()
def solve_linear(
    network: ForecastNetwork,
    first: Float[Tensor, "horizon context"],
    batches: Iterable[WindowBatch],
    validation: Iterable[WindowBatch],
) -> None:
    """Give the linear part of a network the weights that least squares give it.

    Windows whose horizon was not seen whole are left out. The penalty is the one that does
    best on the validation windows; if none does better than the first weights, these stay.

    Parameters
    ----------
    network
        Whose effects are taken off the windows as they are.
    first
        Weights that the others are drawn to.
    batches, validation
        Windows to solve for, and to choose by.
    """
    sums = _sums(network, first, batches)
    choices = [first, *(_solved(first, sums, penalty) for penalty in _PENALTIES)]
    errors = torch.zeros(len(choices), dtype=torch.double)
    for batch in validation:
        look_back, came = centred(network, batch)
        seen = batch.target_seen.to(look_back.device)
        for place, weight in enumerate(choices):
            errors[place] += ((came - look_back @ weight.T) * seen).double().square().sum().cpu()
    network.linear.weight.copy_(choices[int(errors.argmin())])


def series_codes(batch: WindowBatch) -> Tensor:
    """Return the code of each window's series; 0 where series have none."""
    codes = batch.windows.static_codes
    return codes[:, -1] if codes.shape[1] else torch.zeros(len(codes), dtype=torch.long)


def _sums(
    network: ForecastNetwork,
    first: Float[Tensor, "horizon context"],
    batches: Iterable[WindowBatch],
) -> Sums:
    """Return what the normal equations are made of."""
    config, device = network.config, first.device
    inner = torch.zeros(config.context_length, config.context_length).double().to(device)
    outer = torch.zeros(config.context_length, config.horizon).double().to(device)
    for batch in batches:
        look_back, came = centred(network, batch)
        whole = batch.target_seen.all(1).to(device)
        look_back, came = look_back[whole], came[whole]
        inner += look_back.T @ look_back
        outer += look_back.T @ (came - look_back @ first.T)
    return Sums(inner, outer)


def _solved(
    first: Float[Tensor, "horizon context"], sums: Sums, penalty: float
) -> Float[Tensor, "horizon context"]:
    """Return the weights of one penalty."""
    square = sums.inner.diagonal().mean()
    if not square > 0:
        return first
    ridge = penalty * square * torch.eye(len(sums.inner), dtype=torch.double, device=first.device)
    change: Tensor = torch.linalg.solve(sums.inner + ridge, sums.outer)
    return first + change.T.to(first.dtype)


def centred(network: ForecastNetwork, batch: WindowBatch) -> tuple[Tensor, Tensor]:
    """Return look-backs and what came, less centres and effects, in the units of a series.

    There, not on the scale of each look-back, the errors count alike.
    """
    device = network.linear.weight.device
    baseline = network.baseline(batch.windows.to(device))
    target = batch.target.to(device)
    ahead = baseline.effect[:, -target.shape[1] :]
    return baseline.values * baseline.spread, target - baseline.centre - ahead
