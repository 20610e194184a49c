"""How a forecaster is scored: every window of the test part, on the scale of the train rows.

The rules are those of the long-horizon benchmarks (Informer, Autoformer and after) as they are
meant: borders by rows in time order, each series scaled by mean and population standard deviation
of its train rows, windows at every row, the error averaged over windows, steps and series, and no
part batch dropped at the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from titans_seq.evaluation.cards.splits import Borders, Split
from titans_seq.evaluation.forecasts.controls import Control, usual_controls
from titans_seq.evaluation.forecasts.series import Array, Scale, Series, scaled, series_of
from titans_seq.exceptions import DataError

Metrics = dict[str, float]

BLOCK_VALUES = 20_000_000
"""Numbers of forecasts that are held at once, about."""


class Forecasts(Protocol):
    """Forecasts of many windows, in real units."""

    @property
    def ids(self) -> npt.NDArray[Any]:
        """Series of each window, (windows,)."""

    @property
    def point(self) -> npt.NDArray[Any]:
        """Forecast, (windows, horizon)."""

    @property
    def quantiles(self) -> npt.NDArray[Any]:
        """Quantiles in the order of the forecaster's levels, (windows, horizon, levels)."""

    @property
    def actual(self) -> npt.NDArray[Any]:
        """What came, (windows, horizon); NaN where it is not known."""


class Forecaster(Protocol):
    """What scoring needs of a fitted :class:`titans_seq.forecasting.TitansForecaster`."""

    horizon: int
    context_length: int
    quantiles: Sequence[float]
    id_col: str
    time_col: str
    target_col: str | Sequence[str]
    future: Sequence[str]

    def forecast_windows(
        self, frame: pd.DataFrame, *, stride: int = 1, start: int | None, end: int | None
    ) -> Forecasts:
        """Forecast every window whose target rows lie in [start, end) of each series."""


class ErrorSum:
    """Sums of errors on the scaled values, over as many windows as come."""

    def __init__(self) -> None:
        self.totals: dict[str, float] = {}
        self.counts: dict[str, float] = {}

    def add(self, forecast: Array, actual: Array) -> None:
        """Count the errors of point forecasts, (windows, horizon)."""
        known = np.isfinite(actual)
        error = (forecast - actual)[known]
        self._count("mse", (error**2).sum(), known.sum())
        self._count("mae", np.abs(error).sum(), known.sum())

    def add_quantiles(self, quantiles: Array, actual: Array, levels: Sequence[float]) -> None:
        """Count pinball loss, and how often the outermost levels hold what came."""
        known = np.isfinite(actual)
        error = actual[known][:, None] - quantiles[known]
        pinball = np.maximum(error * np.asarray(levels), error * (np.asarray(levels) - 1))
        self._count("pinball", pinball.sum(), pinball.size)
        inside = (error[:, 0] >= 0) & (error[:, -1] <= 0)
        self._count("coverage", inside.sum(), inside.size)

    def means(self) -> Metrics:
        """Return the mean of each error.

        Raises
        ------
        DataError
            If nothing was counted.
        """
        if not self.counts.get("mse"):
            raise DataError("no window to score: the test part has no known target")
        return {name: total / self.counts[name] for name, total in self.totals.items()}

    def _count(self, name: str, total: float, count: float) -> None:
        self.totals[name] = self.totals.get(name, 0.0) + float(total)
        self.counts[name] = self.counts.get(name, 0.0) + float(count)


def score_forecaster(
    forecaster: Forecaster, frame: pd.DataFrame, split: Split, *, stride: int = 1
) -> Metrics:
    """Score a fitted forecaster on the test part.

    Parameters
    ----------
    forecaster
        Fitted on the train part of the same split; this is not checked.
    frame
        All rows, the train part too: its rows give the scale.
    split
        Borders of the parts.
    stride
        Rows from one window to the next; the protocol has 1.

    Returns
    -------
    Metrics
        ``mse``, ``mae`` and ``pinball`` on the scale of the train rows; ``coverage``, the share of
        values between the lowest and the highest quantile, beside ``coverage_nominal``, what it
        should be; ``series``, and ``windows`` of the longest one.

    Raises
    ------
    DataError
        If a series is too short for the split, or no window of the test part can be scored.
    """
    series = _series(forecaster, frame)
    scales = {
        one.name: Scale(one.values[: split.borders(len(one.values)).train_end]) for one in series
    }
    errors, windows = ErrorSum(), 0
    levels = list(forecaster.quantiles)
    for part, borders in _by_length(forecaster, frame, series, split):
        counted: Counter[str] = Counter()
        size = len(series) * forecaster.horizon * (len(levels) + 2)
        for start, end in _blocks(borders, forecaster.horizon, stride, size):
            found = forecaster.forecast_windows(part, stride=stride, start=start, end=end)
            names = np.asarray(found.ids).astype(str)
            for name in np.unique(names):
                chosen, scale = names == name, scales[name]
                actual = scale.apply(found.actual[chosen])
                errors.add(scale.apply(found.point[chosen]), actual)
                if levels:
                    errors.add_quantiles(scale.apply(found.quantiles[chosen]), actual, levels)
                counted[str(name)] += int(chosen.sum())
        windows = max(windows, *counted.values())
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
        Rows ahead, and the past rows that the scored model sees.
    id_col, time_col, target_col, future
        Roles of the columns, see :func:`titans_seq.evaluation.forecasts.series.series_of`.
    season
        Rows of a season; chosen in the train rows if left out.

    Returns
    -------
    dict
        ``mse``, ``mae``, ``series`` and ``windows`` by the control's name.
    """
    series = series_of(
        frame, id_col=id_col, time_col=time_col, target_col=target_col, future=future
    )
    borders = [split.borders(len(one.values)) for one in series]
    rows = [scaled(one, border.train_end) for one, border in zip(series, borders, strict=True)]
    known_ahead = bool(rows[0].future.shape[1])
    controls = usual_controls(horizon, look_back, known_ahead=known_ahead, season=season)
    for control in controls:
        control.fit(rows, [border.train_end for border in borders])
    return {control.name: _score(control, rows, borders, horizon, stride) for control in controls}


def _score(
    control: Control, rows: list[Series], borders: list[Borders], horizon: int, stride: int
) -> Metrics:
    """Return the scores of one control."""
    errors, windows = ErrorSum(), 0
    for one, border in zip(rows, borders, strict=True):
        starts = np.arange(border.test_start, border.test_end - horizon + 1, stride)
        for part in np.array_split(starts, max(1, len(starts) // 8192)):
            if len(part):
                errors.add(
                    control.forecast(one, part), one.values[part[:, None] + np.arange(horizon)]
                )
        windows = max(windows, len(starts))
    return {**errors.means(), "series": len(rows), "windows": windows}


def _blocks(borders: Borders, horizon: int, stride: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield the rows of parts of the test part whose windows fit the memory.

    Parameters
    ----------
    borders, horizon, stride
        Which windows there are.
    size
        Numbers that one window of every series comes to.
    """
    each = max(1, BLOCK_VALUES // size) * stride
    last = borders.test_end - horizon
    for start in range(borders.test_start, max(last + 1, borders.test_start + 1), each):
        yield start, min(start + each - stride + horizon, borders.test_end)


def _series(forecaster: Forecaster, frame: pd.DataFrame) -> list[Series]:
    """Return the series of a frame by the forecaster's column names."""
    return series_of(
        frame,
        id_col=forecaster.id_col,
        time_col=forecaster.time_col,
        target_col=forecaster.target_col,
    )


def _by_length(
    forecaster: Forecaster, frame: pd.DataFrame, series: list[Series], split: Split
) -> Iterable[tuple[pd.DataFrame, Borders]]:
    """Yield the frame in parts whose series have the same borders."""
    lengths = {one.name: len(one.values) for one in series}
    if len(set(lengths.values())) == 1:
        yield frame, split.borders(len(series[0].values))
        return
    names = frame[forecaster.id_col].astype(str)
    for length in sorted(set(lengths.values())):
        chosen = [name for name, rows in lengths.items() if rows == length]
        yield frame[names.isin(chosen)], split.borders(length)
