"""Predictor of every kind of forecaster: tables in, forecasts in real units out.

The numbers come from a :class:`Source`: the window's network alone, or the network and the memories
around it (:class:`titans_seq.forecasting.stream.rolling.MemorySource`). All further steps, from
calibration to backtests, are the same for both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from titans_seq.exceptions import DataError
from titans_seq.forecasting.learning.forecasts import RawForecasts, forecast_index
from titans_seq.forecasting.learning.windows import WindowIndex
from titans_seq.forecasting.network.network import ForecastNetwork
from titans_seq.forecasting.predicting.conformal import Calibration, values_at
from titans_seq.forecasting.predicting.distribution import Distribution, QuantileRequest
from titans_seq.forecasting.predicting.results import (
    WindowForecasts,
    forecast_frame,
    label_forecasts,
    last_times,
    windows_between,
)
from titans_seq.forecasting.tables.ahead import extend
from titans_seq.forecasting.tables.arrays import FloatArray
from titans_seq.forecasting.tables.frames import ColumnRoles
from titans_seq.forecasting.tables.panel import Panel, Preprocess
from titans_seq.forecasting.tables.table import Table


class Source(Protocol):
    """A model that forecasts windows on the scale of their series."""

    @property
    def context(self) -> int:
        """Rows that a series should have before its first forecast."""

    @property
    def horizon(self) -> int:
        """Rows that are forecast."""

    @property
    def levels(self) -> tuple[float, ...]:
        """Levels of the quantiles, which the calibration corrects."""

    @property
    def calibration(self) -> Calibration | None:
        """Correction of the quantiles; None leaves them as they are."""

    def forecast(self, panel: Panel, index: WindowIndex, *, reset: bool = False) -> RawForecasts:
        """Forecast windows from all rows before them, with ``reset`` from the look-back only."""


@dataclass(frozen=True, slots=True)
class WindowSource:
    """Forecasts from a look-back alone."""

    network: ForecastNetwork
    calibration: Calibration | None

    @property
    def context(self) -> int:
        """Return the rows of the look-back."""
        return self.network.config.context_length

    @property
    def horizon(self) -> int:
        """Return the rows that are forecast."""
        return self.network.config.horizon

    @property
    def levels(self) -> tuple[float, ...]:
        """Return the levels of the network's quantiles."""
        return self.network.config.quantiles

    def forecast(self, panel: Panel, index: WindowIndex, *, reset: bool = False) -> RawForecasts:
        """Forecast windows; ``reset`` has no effect, as nothing but the look-back is read."""
        return forecast_index(self.network, panel, index)


@dataclass(frozen=True, slots=True)
class Predictor:
    """A source of forecasts with the scales and columns that turn its numbers into frames."""

    source: Source
    preprocess: Preprocess
    columns: ColumnRoles

    @property
    def horizon(self) -> int:
        """Return the rows that are forecast."""
        return self.source.horizon

    def ahead(
        self, table: Table, future: pd.DataFrame | None, request: QuantileRequest
    ) -> pd.DataFrame:
        """Forecast the rows that follow the last one of each series, as a frame.

        Raises
        ------
        DataError
            If ``future`` lacks a covariate known ahead.
        """
        extended, index = self._extend(table, future)
        raw, scales = self.scaled(extended, index)
        values = output_columns(self.source, raw, scales, request)
        times = last_times(extended, self.horizon)
        return forecast_frame(self.columns, extended.ids, times, values)

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
        calibration = self.source.calibration
        if calibration is None:
            raise DataError(
                "samples need a calibration: fit with rows that are not trained on (val_size) "
                "and calibrate=True"
            )
        extended, index = self._extend(table, future)
        raw, scales = self.scaled(extended, index)
        drawn = calibration.draw(len(extended.ids), count, generator)
        values = in_units(_distribution(self.source, raw).at(calibration.read(drawn)), scales)
        times = last_times(extended, self.horizon)
        return pd.concat(
            [
                forecast_frame(
                    self.columns, extended.ids, times, {"sample": path, "y_pred": values[..., path]}
                )
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
        reset: bool = False,
    ) -> WindowForecasts:
        """Forecast every window whose target rows lie in [start, end) of each series."""
        index = windows_between(table, horizon=self.horizon, stride=stride, start=start, end=end)
        return self.at(table, index, levels, reset=reset)

    def at(
        self, table: Table, index: WindowIndex, levels: Sequence[float], *, reset: bool = False
    ) -> WindowForecasts:
        """Forecast windows of a table."""
        raw, scales = self.scaled(table, index, reset=reset)
        return label_forecasts(
            table,
            index,
            RawForecasts(
                in_units(raw.point, scales),
                in_units(_quantiles(self.source, raw, levels), scales),
                in_units(raw.actual, scales),
            ),
        )

    def scaled(
        self, table: Table, index: WindowIndex, *, reset: bool = False
    ) -> tuple[RawForecasts, FloatArray]:
        """Return forecasts on the scale of their series, and the scales, (windows, 2).

        A series that was not trained on is scaled by its rows before its first window.
        """
        series = index.series.numpy()
        first = table.lengths()
        np.minimum.at(first, series, index.cutoffs.numpy() - table.starts[series])
        panel = self.preprocess.panel(table, self.columns, scale_rows=first)
        raw = self.source.forecast(panel, index, reset=reset)
        return raw, panel.scales[series]

    def _extend(self, table: Table, future: pd.DataFrame | None) -> tuple[Table, WindowIndex]:
        """Return the table with the rows to forecast, and the window of each series."""
        extended = extend(table, self.horizon, self.columns, future)
        cutoffs = torch.from_numpy(extended.starts[1:] - self.horizon)
        return extended, WindowIndex(torch.arange(len(extended.ids)), cutoffs)


def output_columns(
    source: Source, raw: RawForecasts, scales: FloatArray, request: QuantileRequest
) -> Mapping[str, npt.NDArray[Any]]:
    """Return the columns of a forecast frame by name, in real units, (windows, horizon) each."""
    levels = request.all()
    quantiles = in_units(_quantiles(source, raw, levels), scales)
    columns = {"y_pred": in_units(raw.point, scales)}
    for name, level in request.columns().items():
        columns[name] = quantiles[..., levels.index(level)]
    return columns


def in_units(values: FloatArray, scales: FloatArray) -> FloatArray:
    """Undo the scale of each window's series, mean and deviation."""
    mean, deviation = (column.reshape(-1, *[1] * (values.ndim - 1)) for column in scales.T)
    unscaled: FloatArray = values * deviation + mean
    return unscaled


def _quantiles(source: Source, raw: RawForecasts, levels: Sequence[float]) -> FloatArray:
    """Return calibrated quantiles at any levels, (windows, horizon, levels)."""
    if not levels:
        return raw.quantiles[..., :0]
    return values_at(_distribution(source, raw), source.calibration, levels)


def _distribution(source: Source, raw: RawForecasts) -> Distribution:
    return Distribution.of(raw.point, raw.quantiles, source.levels)
