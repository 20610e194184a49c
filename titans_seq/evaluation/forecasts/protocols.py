"""Scoring protocol of forecasters: every window of the test part, on the scale of the train rows.

The rules are those of the long-horizon benchmarks (Informer, Autoformer and later) as intended:
parts split by rows in time order, each series standardised by mean and population standard
deviation of its train rows, windows at every row, errors averaged over windows, steps and series,
and no incomplete batch dropped at the end.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
import pandas as pd

from titans_seq.evaluation.cards.splits import Borders, Split
from titans_seq.evaluation.forecasts.controls import (
    WINDOWS_AT_ONCE,
    ForecastControl,
    forecast_controls,
)
from titans_seq.evaluation.forecasts.series import Series, TrainScale, series_from_frame
from titans_seq.evaluation.scores.report import Metrics
from titans_seq.exceptions import DataError
from titans_seq.forecasting.predicting.results import WindowForecasts
from titans_seq.forecasting.scores.metrics import pinball_losses
from titans_seq.forecasting.tables.arrays import FloatArray

BLOCK_VALUES = 20_000_000
"""Approximate limit of the numbers that forecasts hold in memory at once."""


class Forecaster(Protocol):
    """The part of a fitted :class:`titans_seq.forecasting.TitansForecaster` that scoring uses."""

    horizon: int
    context_length: int
    quantiles: Sequence[float]
    id_col: str
    time_col: str
    target_col: str | Sequence[str]
    future: Sequence[str]

    def forecast_windows(
        self, frame: pd.DataFrame, *, stride: int = 1, start: int | None, end: int | None
    ) -> WindowForecasts:
        """Forecast every window whose target rows lie in [start, end) of each series."""


class ErrorSum:
    """Sums of errors on standardised values, over blocks of windows."""

    def __init__(self) -> None:
        self.totals: dict[str, float] = defaultdict(float)
        self.counts: dict[str, int] = defaultdict(int)

    def add(self, forecast: FloatArray, actual: FloatArray) -> None:
        """Add the errors of point forecasts, (windows, horizon)."""
        known = np.isfinite(actual)
        error = (forecast - actual)[known]
        self._add("mse", (error**2).sum(), error.size)
        self._add("mae", np.abs(error).sum(), error.size)

    def add_quantiles(
        self, quantiles: FloatArray, actual: FloatArray, levels: Sequence[float]
    ) -> None:
        """Add the pinball losses, and the coverage of the outermost levels."""
        known = np.isfinite(actual)
        target, at_levels = actual[known], quantiles[known]
        losses = pinball_losses(target, at_levels, levels)
        self._add("pinball", losses.sum(), losses.size)
        inside = (target >= at_levels[:, 0]) & (target <= at_levels[:, -1])
        self._add("coverage", inside.sum(), inside.size)

    def means(self) -> Metrics:
        """Return the mean of each error.

        Raises
        ------
        DataError
            If nothing was added.
        """
        if not self.counts["mse"]:
            raise DataError("no window to score: all targets of the test part are missing")
        return {name: total / self.counts[name] for name, total in self.totals.items()}

    def _add(self, name: str, total: float, count: int) -> None:
        self.totals[name] += float(total)
        self.counts[name] += count


def score_forecaster(
    forecaster: Forecaster, frame: pd.DataFrame, split: Split, *, stride: int = 1
) -> Metrics:
    """Score a fitted forecaster on the test part.

    Parameters
    ----------
    forecaster
        Fitted on the train part of the same split; this is not checked.
    frame
        All rows, including the train part, which defines the scale.
    split
        Borders of the parts.
    stride
        Rows between windows; 1 in the published protocol.

    Returns
    -------
    Metrics
        ``mse``, ``mae`` and ``pinball`` on the scale of the train rows; ``coverage``, the share of
        values between the lowest and the highest quantile, beside ``coverage_nominal``, its
        nominal value; ``series``, and ``windows`` of the longest one.

    Raises
    ------
    DataError
        If a series is too short for the split, or no window of the test part can be scored.
    """
    series = series_from_frame(
        frame, id_col=forecaster.id_col, time_col=forecaster.time_col,
        target_col=forecaster.target_col,
    )  # fmt: skip
    scales = {
        own.name: TrainScale(own.values[: split.borders(len(own.values)).train_end])
        for own in series
    }
    errors, windows = ErrorSum(), 0
    levels = list(forecaster.quantiles)
    values_per_window = len(series) * forecaster.horizon * (len(levels) + 2)
    for subset, borders in _by_length(forecaster, frame, series, split):
        windows_of: Counter[str] = Counter()
        for start, end in _blocks(borders, forecaster.horizon, stride, values_per_window):
            forecasts = forecaster.forecast_windows(subset, stride=stride, start=start, end=end)
            ids = np.asarray(forecasts.ids).astype(str)
            # Each series has its own scale.
            for name in np.unique(ids):
                own, scale = ids == name, scales[name]
                actual = scale.apply(forecasts.actual[own])
                errors.add(scale.apply(forecasts.point[own]), actual)
                if levels:
                    errors.add_quantiles(scale.apply(forecasts.quantiles[own]), actual, levels)
                windows_of[str(name)] += int(own.sum())
        windows = max(windows, *windows_of.values())
    nominal = {"coverage_nominal": max(levels) - min(levels)} if levels else {}
    return {**errors.means(), **nominal, "series": len(series), "windows": windows}


def score_forecast_controls(
    frame: pd.DataFrame,
    split: Split,
    *,
    horizon: int,
    look_back: int,
    id_col: str,
    time_col: str,
    target_col: str | Sequence[str],
    future: Sequence[str] = (),
    season: int | None = None,
    stride: int = 1,
) -> dict[str, Metrics]:
    """Score the simple forecasts on the same windows, fitted on the train rows.

    Parameters
    ----------
    frame, split, stride
        As for :func:`score_forecaster`.
    horizon, look_back
        Rows ahead, and the past rows of the scored model.
    id_col, time_col, target_col, future
        Roles of the columns, see
        :func:`titans_seq.evaluation.forecasts.series.series_from_frame`.
    season
        Rows of a season; chosen on the train rows if left out.

    Returns
    -------
    dict
        ``mse``, ``mae``, ``series`` and ``windows`` by the control's name.
    """
    series = series_from_frame(
        frame, id_col=id_col, time_col=time_col, target_col=target_col, future=future
    )
    borders = [split.borders(len(own.values)) for own in series]
    train_ends = [border.train_end for border in borders]
    scaled = [own.scaled(end) for own, end in zip(series, train_ends, strict=True)]
    known_ahead = bool(scaled[0].future.shape[1])
    controls = forecast_controls(horizon, look_back, known_ahead=known_ahead, season=season)
    for control in controls:
        control.fit(scaled, train_ends)
    return {
        control.name: _score_control(control, scaled, borders, horizon, stride)
        for control in controls
    }


def _score_control(
    control: ForecastControl,
    series: list[Series],
    borders: list[Borders],
    horizon: int,
    stride: int,
) -> Metrics:
    """Return the scores of one control."""
    errors, windows = ErrorSum(), 0
    for own, border in zip(series, borders, strict=True):
        starts = np.arange(border.test_start, border.test_end - horizon + 1, stride)
        for batch in np.array_split(starts, max(1, len(starts) // WINDOWS_AT_ONCE)):
            if len(batch):
                actual = own.values[batch[:, None] + np.arange(horizon)]
                errors.add(control.forecast(own, batch), actual)
        windows = max(windows, len(starts))
    return {**errors.means(), "series": len(series), "windows": windows}


def _blocks(
    borders: Borders, horizon: int, stride: int, values_per_window: int
) -> Iterator[tuple[int, int]]:
    """Yield ranges of rows of the test part whose windows fit into memory.

    Parameters
    ----------
    borders, horizon, stride
        Define the windows.
    values_per_window
        Numbers that one window of every series amounts to.
    """
    step = max(1, BLOCK_VALUES // values_per_window) * stride
    last = borders.test_end - horizon
    for start in range(borders.test_start, max(last + 1, borders.test_start + 1), step):
        # The last window of a block starts one stride before the next block.
        yield start, min(start + step - stride + horizon, borders.test_end)


def _by_length(
    forecaster: Forecaster, frame: pd.DataFrame, series: list[Series], split: Split
) -> Iterable[tuple[pd.DataFrame, Borders]]:
    """Yield subsets of the frame whose series have the same borders."""
    lengths = {own.name: len(own.values) for own in series}
    if len(set(lengths.values())) == 1:
        yield frame, split.borders(len(series[0].values))
        return
    ids = frame[forecaster.id_col].astype(str)
    for length in sorted(set(lengths.values())):
        names = [name for name, rows in lengths.items() if rows == length]
        yield frame[ids.isin(names)], split.borders(length)
