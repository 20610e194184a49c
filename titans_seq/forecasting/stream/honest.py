"""Honest streaming forecasts: a value is read only once it has been forecast and has come.

``carried_forecasts`` goes through long series once, with the memory carried along;
``reset_forecasts`` gives the same forecasts from memories that began anew one look-back before,
so that the difference is the memory's.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from titans_seq.forecasting.stream.moments import carried_moments, later_moments
from titans_seq.forecasting.stream.rows import side_by_side
from titans_seq.forecasting.stream.stream import StreamParts
from titans_seq.forecasting.table import Table

RESET_BATCH = 32
"""Memories that begin anew at once."""


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


def carried_forecasts(
    parts: StreamParts, table: Table, *, start: int, stride: int = 1
) -> HonestForecasts:
    """Forecast at every ``stride``-th row from ``start`` on, the memory carried from the first.

    Parameters
    ----------
    parts
        The trained forecaster.
    table
        Whole series; their horizons lie in them.
    start
        First cutoff of each series, counted from its first row.
    stride
        Rows from one cutoff to the next.
    """
    panel = parts.preprocess.panel(table, parts.columns)
    starts = table.starts.tolist()
    rows = side_by_side(panel, parts.preprocess, starts[:-1], starts[1:])
    first = parts.model.first(panel.static, panel.static_codes, rows)
    wanted = torch.arange(
        max(1, start), rows.value.shape[1] - parts.model.config.horizon + 1, stride
    )
    found, _ = carried_moments(parts.model, parts.network, first, rows, (wanted - 1).numpy())
    moments = found.moments
    point, quantiles = parts.model.mixed(moments.look, moments.base)
    whole = HonestForecasts(
        found.series, found.row + 1, point, quantiles, moments.target, moments.came
    )
    real = moments.came.any(-1)
    return HonestForecasts(*(one[real].detach() for one in whole))


def reset_forecasts(parts: StreamParts, table: Table, like: HonestForecasts) -> HonestForecasts:
    """Forecast the same moments from memories that have read one look-back and nothing else."""
    panel = parts.preprocess.panel(table, parts.columns)
    starts = table.starts.tolist()
    rows = side_by_side(panel, parts.preprocess, starts[:-1], starts[1:])
    points, quantiles = [], []
    for part in torch.arange(len(like.series)).split(RESET_BATCH):
        moments = later_moments(
            parts.model,
            parts.network,
            (panel.static, panel.static_codes),
            rows,
            like.series[part],
            like.cutoff[part] - parts.model.config.context,
            parts.model.config.context,
        )
        point, away = parts.model.mixed(moments.look, moments.base)
        points.append(point.detach())
        quantiles.append(away.detach())
    return like._replace(point=torch.cat(points), quantiles=torch.cat(quantiles))
