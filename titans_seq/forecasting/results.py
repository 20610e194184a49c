"""Forecasts in real units, as arrays and as frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from titans_seq.forecasting.ahead import extend
from titans_seq.forecasting.fitting import RawForecasts, forecast_index
from titans_seq.forecasting.frames import Columns
from titans_seq.forecasting.network import ForecastNetwork
from titans_seq.forecasting.panel import Panel, Preprocess
from titans_seq.forecasting.table import Table
from titans_seq.forecasting.windows import WindowIndex, index_windows

ROW = "row"
"""Name of the time column in forecasts when the frame has none."""


class WindowForecasts(NamedTuple):
    """Forecasts of many windows, in real units."""

    ids: npt.NDArray[Any]
    """Series of each window, (windows,)."""

    cutoffs: npt.NDArray[Any]
    """Time of the last row each window has seen, (windows,)."""

    point: npt.NDArray[np.float64]
    """Expected value, (windows, horizon)."""

    quantiles: npt.NDArray[np.float64]
    """In rising order of the level, (windows, horizon, levels)."""

    actual: npt.NDArray[np.float64]
    """What came, (windows, horizon); NaN where it is not known."""


def real_units(panel: Panel, index: WindowIndex, raw: RawForecasts) -> RawForecasts:
    """Undo the scale of each window's series."""
    scales = panel.scales[index.series.numpy()]
    mean, deviation = scales[:, :1], scales[:, 1:]
    return RawForecasts(
        raw.point * deviation + mean,
        raw.quantiles * deviation[..., None] + mean[..., None],
        raw.actual * deviation + mean,
    )


def forecast_ahead(
    network: ForecastNetwork,
    preprocess: Preprocess,
    table: Table,
    columns: Columns,
    future: pd.DataFrame | None,
) -> pd.DataFrame:
    """Forecast the rows that follow the last one of each series, as a frame.

    Raises
    ------
    DataError
        If ``future`` lacks a covariate known ahead.
    """
    horizon = network.config.horizon
    grown = extend(table, horizon, columns, future)
    panel = preprocess.panel(grown, columns)
    index = WindowIndex(torch.arange(len(grown.ids)), panel.starts[1:] - horizon)
    raw = real_units(panel, index, forecast_index(network, panel, index))
    return forecast_frame(grown, raw, columns, network.config.quantiles)


def forecast_between(
    network: ForecastNetwork,
    preprocess: Preprocess,
    table: Table,
    columns: Columns,
    *,
    stride: int,
    start: int | None,
    end: int | None,
) -> WindowForecasts:
    """Forecast every window whose target rows lie in [start, end) of each series."""
    panel = preprocess.panel(table, columns)
    index = windows_between(
        table, panel, horizon=network.config.horizon, stride=stride, start=start, end=end
    )
    raw = real_units(panel, index, forecast_index(network, panel, index))
    return window_forecasts(table, index, raw)


def windows_between(
    table: Table, panel: Panel, *, horizon: int, stride: int, start: int | None, end: int | None
) -> WindowIndex:
    """Return the windows whose target rows lie in [start, end) of the rows of each series."""
    begins, ends = [], []
    for series in range(len(table.ids)):
        own = table.present[int(table.starts[series]) : int(table.starts[series + 1])]
        rows = np.append(np.flatnonzero(own), len(own))
        begins.append(int(rows[min(start or 0, len(rows) - 1)]))
        ends.append(int(rows[-1 if end is None else min(end, len(rows) - 1)]))
    return index_windows(panel, begins, ends, horizon=horizon, stride=stride)


def window_forecasts(table: Table, index: WindowIndex, raw: RawForecasts) -> WindowForecasts:
    """Return forecasts with the series and the time each was made at."""
    cutoffs = np.empty(len(index.cutoffs), dtype=object)
    series, rows = index.series.numpy(), index.cutoffs.numpy()
    for code in np.unique(series):
        own = series == code
        steps = rows[own] - 1 - table.starts[code]
        times = table.times(int(code), 0, int(steps.max()) + 1)
        cutoffs[own] = times[steps]
    ids = np.empty(len(table.ids), dtype=object)
    ids[:] = table.ids
    return WindowForecasts(ids[series], cutoffs, raw.point, raw.quantiles, raw.actual)


def forecast_frame(
    table: Table, raw: RawForecasts, columns: Columns, quantiles: Sequence[float]
) -> pd.DataFrame:
    """Return the forecast of each series' last rows, one row a series and step."""
    horizon = raw.point.shape[1]
    times = [
        table.times(series, int(rows) - horizon, int(rows))
        for series, rows in enumerate(table.lengths())
    ]
    frame = pd.DataFrame(
        {
            columns.id: pd.Index(table.ids).repeat(horizon),
            ROW if columns.time is None else columns.time: times[0].append(times[1:])
            if len(times) > 1
            else times[0],
            "y_pred": raw.point.reshape(-1),
        }
    )
    for column, level in enumerate(quantiles):
        frame[f"y_pred-q{level:g}"] = raw.quantiles[..., column].reshape(-1)
    return frame
