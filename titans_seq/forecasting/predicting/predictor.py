"""One predictor for every forecaster: tables in, forecasts in real units out.

Where the numbers come from is a :class:`Source`: the window's network alone, or the network and
the memories around it (:class:`titans_seq.forecasting.stream.rolling.MemorySource`). All that
follows, from calibration to backtests, is the same for both.
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
    """What forecasts windows, on the scale of their series."""

    @property
    def context(self) -> int:
        """Rows that a series should have before it is forecast."""

    @property
    def horizon(self) -> int:
        """Rows that are forecast."""

    @property
    def levels(self) -> tuple[float, ...]:
        """Levels of its own quantiles, which the calibration corrects."""

    @property
    def calibration(self) -> Calibration | None:
        """What corrects them; None leaves them as they are."""

    def forecast(self, panel: Panel, index: WindowIndex, *, reset: bool = False) -> RawForecasts:
        """Forecast windows from rows before their cutoffs; ``reset`` keeps to the look-back."""


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
        """Forecast windows; there is nothing beyond the look-back that could be reset."""
        return forecast_index(self.network, panel, index)


@dataclass(frozen=True, slots=True)
class Predictor:
    """A source of forecasts and what turns its numbers into frames."""

    source: Source
    preprocess: Preprocess
    columns: ColumnRoles

    @property
    def horizon(self) -> int:
        """Return the rows that are forecast."""
        return self.source.horizon

    def ahead(
        self, table: Table, future: pd.DataFrame | None, wanted: QuantileRequest
    ) -> pd.DataFrame:
        """Forecast the rows that follow the last one of each series, as a frame.

        Raises
        ------
        DataError
            If ``future`` lacks a covariate known ahead.
        """
        grown, index = self._follow(table, future)
        raw, scales = self.scaled(grown, index)
        values = output_columns(self.source, raw, scales, wanted)
        return forecast_frame(self.columns, grown.ids, last_times(grown, self.horizon), values)

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
        grown, index = self._follow(table, future)
        raw, scales = self.scaled(grown, index)
        drawn = calibration.draw(len(grown.ids), count, generator)
        values = in_units(_distribution(self.source, raw).at(calibration.read(drawn)), scales)
        times = last_times(grown, self.horizon)
        return pd.concat(
            [
                forecast_frame(
                    self.columns, grown.ids, times, {"sample": path, "y_pred": values[..., path]}
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
        """Forecast windows on the scale of their series; return the scales, (windows, 2), too.

        A series that was not trained on is scaled by its rows before its first window.
        """
        series = index.series.numpy()
        first = table.lengths()
        np.minimum.at(first, series, index.cutoffs.numpy() - table.starts[series])
        panel = self.preprocess.panel(table, self.columns, scale_rows=first)
        raw = self.source.forecast(panel, index, reset=reset)
        return raw, panel.scales[series]

    def _follow(self, table: Table, future: pd.DataFrame | None) -> tuple[Table, WindowIndex]:
        """Return the table with the rows to forecast, and the window of each series."""
        grown = extend(table, self.horizon, self.columns, future)
        cutoffs = torch.from_numpy(grown.starts[1:] - self.horizon)
        return grown, WindowIndex(torch.arange(len(grown.ids)), cutoffs)


def output_columns(
    source: Source, raw: RawForecasts, scales: FloatArray, wanted: QuantileRequest
) -> Mapping[str, npt.NDArray[Any]]:
    """Return what is told of each step, in real units, by the name of its column."""
    levels = wanted.all()
    quantiles = in_units(_quantiles(source, raw, levels), scales)
    columns = {"y_pred": in_units(raw.point, scales)}
    for name, level in wanted.columns().items():
        columns[name] = quantiles[..., levels.index(level)]
    return columns


def in_units(values: FloatArray, scales: FloatArray) -> FloatArray:
    """Undo the scale of each window's series, mean and deviation."""
    mean, deviation = (scales[:, place].reshape(-1, *[1] * (values.ndim - 1)) for place in range(2))
    found: FloatArray = values * deviation + mean
    return found


def _quantiles(source: Source, raw: RawForecasts, levels: Sequence[float]) -> FloatArray:
    """Return calibrated quantiles at any levels, (windows, horizon, levels)."""
    if not levels:
        return raw.quantiles[..., :0]
    return values_at(_distribution(source, raw), source.calibration, levels)


def _distribution(source: Source, raw: RawForecasts) -> Distribution:
    return Distribution.of(raw.point, raw.quantiles, source.levels)
