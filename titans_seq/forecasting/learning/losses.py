"""What a forecast of windows is charged for what came."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from titans_seq.forecasting.learning.windows import WindowBatch
from titans_seq.forecasting.network.network import Baseline, Forecast, ForecastNetwork, Windows
from titans_seq.training import Term, mean_of

READ_SHARE = 0.5
"""Share of the training windows that the backbone reads; the linear part reads all."""


def squared_error(
    point: Float[Tensor, "batch horizon"],
    target: Float[Tensor, "batch horizon"],
    seen: Bool[Tensor, "batch horizon"],
) -> Float[Tensor, ""]:
    """Return the summed squared error of the point forecast where the target was seen."""
    return ((point - target).square() * seen).sum()


def pinball_error(
    forecast: Forecast,
    target: Float[Tensor, "batch horizon"],
    seen: Bool[Tensor, "batch horizon"],
    levels: tuple[float, ...],
) -> Float[Tensor, ""]:
    """Return the pinball loss, summed over steps and averaged over the levels."""
    if not levels:
        return target.new_zeros(())
    error = target[..., None] - forecast.quantiles
    with torch.no_grad():  # the slope of each value's loss
        slope = (target.new_tensor(levels) - (error < 0).to(error.dtype)) * seen[..., None]
    return (error * slope).sum() / len(levels)


def summed_forecast_loss(network: ForecastNetwork, batch: WindowBatch) -> tuple[Tensor, Tensor]:
    """Return the summed loss of a batch, and how many values it is a sum over."""
    forecast = network(batch.windows)
    target, seen = batch.target, batch.target_seen
    pinball = pinball_error(forecast, target, seen, network.config.quantiles)
    return squared_error(forecast.point, target, seen) + pinball, seen.sum().clamp(min=1)


def training_terms(network: ForecastNetwork, batch: WindowBatch) -> list[Term]:
    """Return the means that the loss of a shuffled batch is the sum of, over values that were seen.

    The linear part and the effects answer for every window by themselves; the backbone, for
    which they are given, for what they lack in the first windows, and for the quantiles.
    """
    target, seen = batch.target, batch.target_seen
    baseline = network.baseline(batch.windows)
    plain = Term(squared_error(baseline.expected(), target, seen), seen.sum())

    count = math.ceil(READ_SHARE * len(seen))
    target, seen = target[:count], seen[:count]
    windows = Windows(*(part[:count] for part in batch.windows))
    forecast = network.complete(windows, Baseline(*(part[:count].detach() for part in baseline)))
    lacking = squared_error(forecast.point, target, seen)
    pinball = pinball_error(forecast, target, seen, network.config.quantiles)
    return [plain, Term(lacking + pinball, seen.sum())]


def training_loss(network: ForecastNetwork, batch: WindowBatch) -> Tensor:
    """Return the loss of a shuffled batch: the sum of :func:`training_terms`."""
    return mean_of(training_terms(network, batch))
