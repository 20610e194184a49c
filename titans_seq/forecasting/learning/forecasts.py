"""From a trained network to forecasts, as arrays."""

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
    quantiles: FloatArray
    actual: FloatArray
    """What came; NaN where it is missing."""


@torch.no_grad()
def forecast_index(network: ForecastNetwork, panel: Panel, index: WindowIndex) -> RawForecasts:
    """Forecast windows of a panel, a batch at a time, on the network's device."""
    device = next(network.parameters()).device
    lengths = {
        "context_length": network.config.context_length,
        "horizon": network.config.horizon,
    }
    network.eval()

    def forecast(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        batch = gather(panel, index.take(rows), **lengths)
        found = network(batch.windows.to(device))
        actual = torch.where(batch.target_seen, batch.target, torch.nan)
        return found.point.cpu(), found.quantiles.cpu(), actual

    batches = torch.arange(len(index.cutoffs)).split(FORECAST_BATCH)
    parts = list(shared_map(forecast, batches)) if len(index.cutoffs) else []
    if not parts:
        shape = (0, network.config.horizon)
        levels = len(network.config.quantiles)
        return RawForecasts(np.zeros(shape), np.zeros((*shape, levels)), np.zeros(shape))
    return RawForecasts(*(torch.cat(one).double().numpy() for one in zip(*parts, strict=True)))
