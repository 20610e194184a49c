"""Forecasts in real units, as arrays and as frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from titans_seq.exceptions import DataError
from titans_seq.forecasting.ahead import extend
from titans_seq.forecasting.conformal import Calibration, values_at
from titans_seq.forecasting.distribution import Distribution, Wanted
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


@dataclass(frozen=True, slots=True)
class Predictor:
    """A trained network and what turns its numbers into forecasts in real units."""

    network: ForecastNetwork
    preprocess: Preprocess
    calibration: Calibration | None
    columns: Columns

    def ahead(self, table: Table, future: pd.DataFrame | None, wanted: Wanted) -> pd.DataFrame:
        """Forecast the rows that follow the last one of each series, as a frame.

        Raises
        ------
        DataError
            If ``future`` lacks a covariate known ahead.
        """
        grown, panel, index = self._follow(table, future)
        raw = self._forecast(panel, index, wanted.all())
        columns = {"y_pred": raw.point}
        places = {level: place for place, level in enumerate(wanted.all())}
        for name, level in wanted.columns().items():
            columns[name] = raw.quantiles[..., places[level]]
        return self._frame(grown, columns)

    def paths(
        self,
        table: Table,
        future: pd.DataFrame | None,
        count: int,
        generator: np.random.RandomState,
    ) -> pd.DataFrame:
        """Draw paths of the rows that follow the last one of each series, as a frame.

        Raises
        ------
        DataError
            If ``future`` lacks a covariate known ahead, or there is no calibration.
        """
        if self.calibration is None:
            raise DataError(
                "samples need a calibration: fit with rows that are not trained on (val_size) "
                "and calibrate=True"
            )
        grown, panel, index = self._follow(table, future)
        raw = forecast_index(self.network, panel, index)
        drawn = self.calibration.draw(len(grown.ids), count, generator)
        values = self._distribution(raw).at(self.calibration.read(drawn))
        drawn_units = real_units(panel, index, raw._replace(quantiles=values)).quantiles
        return pd.concat(
            [
                self._frame(grown, {"sample": path, "y_pred": drawn_units[..., path]})
                for path in range(count)
            ],
            ignore_index=True,
        )

    def between(
        self,
        table: Table,
        levels: Sequence[float],
        *,
        stride: int,
        start: int | None,
        end: int | None,
    ) -> WindowForecasts:
        """Forecast every window whose target rows lie in [start, end) of each series."""
        panel = self.preprocess.panel(table, self.columns)
        horizon = self.network.config.horizon
        index = windows_between(table, panel, horizon=horizon, stride=stride, start=start, end=end)
        return self.at(table, panel, index, levels)

    def at(
        self, table: Table, panel: Panel, index: WindowIndex, levels: Sequence[float]
    ) -> WindowForecasts:
        """Forecast windows of a table."""
        return window_forecasts(table, index, self._forecast(panel, index, levels))

    def _follow(
        self, table: Table, future: pd.DataFrame | None
    ) -> tuple[Table, Panel, WindowIndex]:
        """Return the table with the rows to forecast, and the window of each series."""
        horizon = self.network.config.horizon
        grown = extend(table, horizon, self.columns, future)
        panel = self.preprocess.panel(grown, self.columns)
        index = WindowIndex(torch.arange(len(grown.ids)), panel.starts[1:] - horizon)
        return grown, panel, index

    def _distribution(self, raw: RawForecasts) -> Distribution:
        return Distribution.of(raw.point, raw.quantiles, self.network.config.quantiles)

    def _forecast(self, panel: Panel, index: WindowIndex, levels: Sequence[float]) -> RawForecasts:
        """Forecast windows in real units, at these levels."""
        raw = forecast_index(self.network, panel, index)
        quantiles = raw.quantiles[..., :0]
        if levels:
            quantiles = values_at(self._distribution(raw), self.calibration, levels)
        return real_units(panel, index, raw._replace(quantiles=quantiles))

    def _frame(self, table: Table, values: Mapping[str, Any]) -> pd.DataFrame:
        """Return (series, horizon) values of each series' last rows as a long frame."""
        horizon = self.network.config.horizon
        whole = {self.columns.id: pd.Index(table.ids).repeat(horizon)}
        whole[ROW if self.columns.time is None else self.columns.time] = last_times(table, horizon)
        return pd.DataFrame(
            whole
            | {
                name: held if np.ndim(held) == 0 else held.reshape(-1)
                for name, held in values.items()
            }
        )


def real_units(panel: Panel, index: WindowIndex, raw: RawForecasts) -> RawForecasts:
    """Undo the scale of each window's series."""
    scales = panel.scales[index.series.numpy()]
    mean, deviation = scales[:, :1], scales[:, 1:]
    return RawForecasts(
        raw.point * deviation + mean,
        raw.quantiles * deviation[..., None] + mean[..., None],
        raw.actual * deviation + mean,
    )


def rows_of(table: Table, columns: Columns) -> pd.DataFrame:
    """Return id, time and target of the rows of a table as a long frame."""
    counts = table.lengths()
    times = [table.times(series, 0, int(rows)) for series, rows in enumerate(counts)]
    name = "y" if len(columns.target) > 1 else columns.target[0]
    frame = pd.DataFrame(
        {
            columns.id: pd.Index(table.ids).repeat(counts),
            ROW if columns.time is None else columns.time: times[0].append(times[1:]),
            name: table.target,
        }
    )
    return frame[table.present]


def future_frame(table: Table, horizon: int, columns: Columns) -> pd.DataFrame:
    """Return ids and times of the rows that follow each series.

    Series that share an id, those of a wide frame, have their times once.
    """
    name = ROW if columns.time is None else columns.time
    parts: dict[Any, pd.DataFrame] = {}
    for series, rows in enumerate(table.lengths()):
        times = table.times(series, int(rows), int(rows) + horizon)
        parts.setdefault(table.keys[series], pd.DataFrame({name: times}))
    whole = pd.concat(list(parts.values()), ignore_index=True)
    if len(columns.target) > 1 and set(table.keys) == {columns.target[0]}:
        return whole
    whole.insert(0, columns.id, pd.Index(list(parts)).repeat(horizon))
    return whole


def last_times(table: Table, horizon: int) -> pd.Index:
    """Return the times of the last ``horizon`` rows of each series, one after another."""
    times = [
        table.times(series, int(rows) - horizon, int(rows))
        for series, rows in enumerate(table.lengths())
    ]
    return times[0].append(times[1:]) if len(times) > 1 else times[0]


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
