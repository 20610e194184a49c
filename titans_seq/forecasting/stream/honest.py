"""Honest streaming forecasts: a value is read only once it has been forecast and has come."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from titans_seq.forecasting.fitting import RawForecasts
from titans_seq.forecasting.results import WindowForecasts, real_units, window_forecasts
from titans_seq.forecasting.stream.moments import carried_moments
from titans_seq.forecasting.stream.parts import StreamParts
from titans_seq.forecasting.stream.rows import side_by_side
from titans_seq.forecasting.table import Table
from titans_seq.forecasting.windows import WindowIndex


class HonestForecasts(NamedTuple):
    """Forecasts of many moments, on the scale of their series."""

    series: Int[Tensor, "moments"]
    """Place of the series in the table."""

    cutoff: Int[Tensor, "moments"]
    """Row of the first step ahead, counted from the series' first row."""

    point: Float[Tensor, "moments horizon"]
    quantiles: Float[Tensor, "moments horizon levels"]
    target: Float[Tensor, "moments horizon"]
    came: Bool[Tensor, "moments horizon"]


def forecasts_at(parts: StreamParts, table: Table, index: WindowIndex) -> WindowForecasts:
    """Forecast the given windows in real units, the memory carried from the first row on."""
    begins = torch.from_numpy(table.starts[:-1])
    cutoffs = index.cutoffs - begins[index.series]
    panel = parts.preprocess.panel(table, parts.columns)
    horizon, levels = parts.model.config.horizon, len(parts.model.config.levels)
    if not len(cutoffs):
        none = np.zeros((0, horizon))
        raw = RawForecasts(none, np.zeros((0, horizon, levels)), none)
    else:
        found = _forecasts(parts, table, cutoffs.unique())
        width = int(table.lengths().max()) + 1
        places = torch.full((len(table.ids) * width,), -1)
        places[found.series * width + found.cutoff] = torch.arange(len(found.series))
        own = places[index.series * width + cutoffs]
        actual = torch.where(found.came, found.target, torch.nan)
        chosen = (one[own].double().numpy() for one in (found.point, found.quantiles, actual))
        raw = RawForecasts(*chosen)
    return window_forecasts(table, index, real_units(panel, index, raw))


def _forecasts(parts: StreamParts, table: Table, cutoffs: Tensor) -> HonestForecasts:
    """Forecast at the same rising cutoffs of every series."""
    panel = parts.preprocess.panel(table, parts.columns)
    starts = table.starts.tolist()
    rows = side_by_side(panel, parts.preprocess, starts[:-1], starts[1:])
    first = parts.model.first(panel.static, panel.static_codes, rows)
    wanted = (cutoffs - 1).numpy()
    found, _ = carried_moments(parts.model, parts.network, first, rows, wanted)
    moments = found.moments
    point, quantiles = parts.model.mixed(moments.look, moments.base)
    return HonestForecasts(
        found.series,
        found.row + 1,
        point.detach(),
        quantiles.detach(),
        moments.target,
        moments.came,
    )
