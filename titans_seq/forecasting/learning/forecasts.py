"""Forecasts of many windows by a trained network, as arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from titans_seq.forecasting.learning.windows import WindowIndex, gather
from titans_seq.forecasting.network.network import ForecastNetwork
from titans_seq.forecasting.tables.arrays import FloatArray
from titans_seq.forecasting.tables.panel import Panel
from titans_seq.training import shared_map

FORECAST_BATCH = 1_024
"""Windows that are forecast at once."""


class RawForecasts(NamedTuple):
    """Forecasts of many windows, on the scale of their series."""

    point: FloatArray
    """Expected value, (windows, horizon)."""

    quantiles: FloatArray
    """In rising order of the level, (windows, horizon, levels)."""

    actual: FloatArray
    """Target, (windows, horizon); NaN where it is missing."""


@torch.no_grad()
def forecast_index(network: ForecastNetwork, panel: Panel, index: WindowIndex) -> RawForecasts:
    """Forecast windows of a panel, a batch at a time, on the network's device."""
    device = next(network.parameters()).device
    lengths = {
        "context_length": network.config.context_length,
        "horizon": network.config.horizon,
    }
    network.eval()
    if not len(index.cutoffs):
        empty = np.zeros((0, network.config.horizon))
        return RawForecasts(empty, np.zeros((*empty.shape, len(network.config.quantiles))), empty)

    def forecast(windows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        batch = gather(panel, index.take(windows), **lengths)
        result = network(batch.windows.to(device))
        actual = torch.where(batch.target_seen, batch.target, torch.nan)
        return result.point.cpu(), result.quantiles.cpu(), actual

    batches = shared_map(forecast, torch.arange(len(index.cutoffs)).split(FORECAST_BATCH))
    fields = zip(*batches, strict=True)
    return RawForecasts(*(torch.cat(parts).double().numpy() for parts in fields))
