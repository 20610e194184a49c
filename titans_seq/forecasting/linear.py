"""Where training begins: the linear part solved for, instead of learnt from nothing.

By gradient steps the linear part takes tens of epochs to come to rest, and until then the
backbone learns what the linear part lacks. Solved by ridge regression it is there at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from titans_seq.forecasting.network import ForecastNetwork
from titans_seq.forecasting.windows import WindowBatch

PENALTIES = (0.001, 0.01, 0.1, 1.0, 10.0)
"""Penalties that are tried, over the mean square of a row; weights are drawn to the first ones."""


class Sums(NamedTuple):
    """Products summed over windows, in double precision."""

    inner: Float[Tensor, "context context"]
    """Of the rows of the look-back with each other."""

    outer: Float[Tensor, "context horizon"]
    """Of them with what the first weights lack."""


@torch.no_grad()
def solve_linear(
    network: ForecastNetwork, batches: Iterable[WindowBatch], validation: Iterable[WindowBatch]
) -> None:
    """Give the linear part of a new network the weights that least squares give it.

    Windows whose horizon was not seen whole are left out. The penalty is the one that does
    best on the validation windows; if none does better than the first weights, these stay.

    Parameters
    ----------
    network
        Whose covariates have no effect yet.
    batches, validation
        Windows to solve for, and to choose by.
    """
    first = network.linear.weight.clone()
    sums = _sums(network, batches)
    choices = [first, *(_solved(first, sums, penalty) for penalty in PENALTIES)]
    errors = torch.zeros(len(choices), dtype=torch.double)
    for batch in validation:
        look_back, came = _centred(network, batch)
        missed = torch.stack([came - look_back @ weight.T for weight in choices])
        errors += (missed * batch.target_seen.to(missed.device)).double().square().sum((1, 2)).cpu()
    network.linear.weight.copy_(choices[int(errors.argmin())])


def _sums(network: ForecastNetwork, batches: Iterable[WindowBatch]) -> Sums:
    """Return what the normal equations are made of."""
    config, weight = network.config, network.linear.weight
    inner = torch.zeros(config.context_length, config.context_length).double().to(weight.device)
    outer = torch.zeros(config.context_length, config.horizon).double().to(weight.device)
    for batch in batches:
        look_back, came = _centred(network, batch)
        whole = batch.target_seen.all(1).to(weight.device)
        look_back, came = look_back[whole], came[whole]
        inner += look_back.T @ look_back
        outer += look_back.T @ (came - look_back @ weight.T)
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


def _centred(network: ForecastNetwork, batch: WindowBatch) -> tuple[Tensor, Tensor]:
    """Return look-backs and what came, less the look-backs' centres, in the units of a series.

    There, not on the scale of each look-back, the errors count alike.
    """
    device = network.linear.weight.device
    outline = network.outline(batch.windows.to(device))
    return outline.values * outline.spread, batch.target.to(device) - outline.centre
