"""Losses of forecasts: squared error of the point, pinball loss of the quantiles."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from titans_seq.forecasting.learning.windows import WindowBatch
from titans_seq.forecasting.network.network import Baseline, Forecast, ForecastNetwork, Windows
from titans_seq.training import Term, mean_of

_BACKBONE_SHARE = 0.5
"""Share of a batch's windows that the backbone reads; the linear part reads all."""


def squared_error(
    point: Float[Tensor, "batch horizon"],
    target: Float[Tensor, "batch horizon"],
    seen: Bool[Tensor, "batch horizon"],
) -> Float[Tensor, ""]:
    """Return the summed squared error of the point forecast where the target is known."""
    return ((point - target).square() * seen).sum()


def pinball_error(
    forecast: Forecast,
    target: Float[Tensor, "batch horizon"],
    seen: Bool[Tensor, "batch horizon"],
    levels: tuple[float, ...],
) -> Float[Tensor, ""]:
    """Return the pinball loss, summed over known steps and averaged over the levels."""
    if not levels:
        return target.new_zeros(())
    error = target[..., None] - forecast.quantiles
    # max(level * error, (level - 1) * error) is linear in the error on either side of 0. With the
    # slopes as constants autograd keeps one product instead of both branches and their maximum.
    with torch.no_grad():
        slope = (target.new_tensor(levels) - (error < 0).to(error.dtype)) * seen[..., None]
    return (error * slope).sum() / len(levels)


def summed_forecast_loss(network: ForecastNetwork, batch: WindowBatch) -> tuple[Tensor, Tensor]:
    """Return the summed loss of a batch, and the number of values it is a sum over."""
    forecast = network(batch.windows)
    target, seen = batch.target, batch.target_seen
    pinball = pinball_error(forecast, target, seen, network.config.quantiles)
    return squared_error(forecast.point, target, seen) + pinball, seen.sum().clamp(min=1)


def training_terms(network: ForecastNetwork, batch: WindowBatch) -> list[Term]:
    """Return the means over known values whose sum is the loss of a shuffled batch.

    The linear part and the effects are trained on every window by themselves. The backbone is
    trained on the first windows, on the residual of a baseline that this term does not train, and
    on the quantiles.
    """
    target, seen = batch.target, batch.target_seen
    baseline = network.baseline(batch.windows)
    linear = Term(squared_error(baseline.expected(), target, seen), seen.sum())

    count = math.ceil(_BACKBONE_SHARE * len(seen))
    target, seen = target[:count], seen[:count]
    windows = Windows(*(field[:count] for field in batch.windows))
    fixed = Baseline(*(field[:count].detach() for field in baseline))
    forecast = network.complete(windows, fixed)
    error = squared_error(forecast.point, target, seen)
    pinball = pinball_error(forecast, target, seen, network.config.quantiles)
    return [linear, Term(error + pinball, seen.sum())]


def training_loss(network: ForecastNetwork, batch: WindowBatch) -> Tensor:
    """Return the loss of a shuffled batch: the sum of :func:`training_terms`."""
    return mean_of(training_terms(network, batch))
