"""Calibrate the quantiles of a trained network on windows that it was not trained on."""

from __future__ import annotations

import torch

from titans_seq.forecasting.learning.fitting import VALIDATION_WINDOWS
from titans_seq.forecasting.learning.forecasts import forecast_index
from titans_seq.forecasting.learning.windows import WindowIndex
from titans_seq.forecasting.network.network import ForecastNetwork
from titans_seq.forecasting.predicting.conformal import Calibration
from titans_seq.forecasting.tables.panel import Panel


def calibrate_network(
    network: ForecastNetwork, panel: Panel, held_out: WindowIndex
) -> Calibration | None:
    """Return what held-out windows say about the network's quantiles; None if they are too few."""
    count = len(held_out.cutoffs)
    chosen = torch.linspace(0, count - 1, min(count, VALIDATION_WINDOWS)).long()
    raw = forecast_index(network, panel, held_out.take(chosen))
    each = torch.bincount(held_out.series) if count else torch.zeros(1, dtype=torch.long)
    horizons = -(-int(each.max()) // network.config.horizon)
    return Calibration.learn(
        *raw, levels=network.config.quantiles, blocks=max(horizons, int((each > 0).sum()))
    )
