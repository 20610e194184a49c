"""Forecasts in real units, as arrays and as frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from titans_seq.forecasting.fitting import RawForecasts
from titans_seq.forecasting.panel import Panel
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


def last_windows(table: Table, horizon: int) -> WindowIndex:
    """Return the one window of each series whose horizon is its last rows."""
    starts = torch.from_numpy(table.starts)
    return WindowIndex(torch.arange(len(table.ids)), starts[1:] - horizon)


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
    table: Table,
    raw: RawForecasts,
    *,
    id_col: str,
    time_col: str | None,
    quantiles: Sequence[float],
) -> pd.DataFrame:
    """Return the forecast of each series' last rows, one row a series and step."""
    horizon = raw.point.shape[1]
    times = [
        table.times(series, int(rows) - horizon, int(rows))
        for series, rows in enumerate(table.lengths())
    ]
    frame = pd.DataFrame(
        {
            id_col: pd.Index(table.ids).repeat(horizon),
            ROW if time_col is None else time_col: times[0].append(times[1:])
            if len(times) > 1
            else times[0],
            "y_pred": raw.point.reshape(-1),
        }
    )
    for column, level in enumerate(quantiles):
        frame[f"y_pred-q{level:g}"] = raw.quantiles[..., column].reshape(-1)
    return frame
