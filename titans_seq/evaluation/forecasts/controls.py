"""Simple forecasts that every score is printed beside: last value, seasonal naive, least squares.

All work on series scaled by their train rows, and are fitted on these rows alone. A missing value
is replaced by the mean of the train rows, which is 0 on that scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from numpy.lib.stride_tricks import sliding_window_view

from titans_seq.evaluation.forecasts.series import Series
from titans_seq.forecasting.learning.closed_form.ridge import RidgeSums, solve_ridge
from titans_seq.forecasting.scores.seasons import SeasonalNaive
from titans_seq.forecasting.tables.arrays import FloatArray

# Usual seasons in rows, by the step between rows: day, week and year, unless they are too long.
_SEASONS: tuple[tuple[pd.Timedelta, tuple[int, ...]], ...] = (
    (pd.Timedelta(minutes=10), (144, 1008)),
    (pd.Timedelta(minutes=15), (96, 672)),
    (pd.Timedelta(minutes=30), (48, 336)),
    (pd.Timedelta(hours=1), (24, 168)),
    (pd.Timedelta(days=1), (7, 365)),
    (pd.Timedelta(days=7), (52,)),
    (pd.Timedelta(days=28), (12,)),
    (pd.Timedelta(days=90), (4,)),
)

_LONGER_SEASON_GAIN = 0.95
"""A longer season must reduce the squared error to this share to be chosen."""

_INTERCEPT_RIDGE = 1e-6
"""Penalty of the intercept, which keeps the normal equations regular."""

WINDOWS_AT_ONCE = 8192
"""Windows whose inputs are held in memory at a time."""

_Starts = npt.NDArray[np.int64]
"""First target row of each window."""


class ForecastControl(Protocol):
    """A forecast that needs little or no training."""

    @property
    def name(self) -> str:
        """Name in tables."""

    def fit(self, series: Sequence[Series], train_ends: Sequence[int]) -> None:
        """Fit to the rows of each series before the end of its train part."""

    def forecast(self, series: Series, starts: _Starts) -> FloatArray:
        """Forecast the rows from each start on, (windows, horizon), using only rows before."""


class LastValueControl:
    """Repeats the last value."""

    name = "last value"

    def __init__(self, horizon: int) -> None:
        self.horizon = horizon

    def fit(self, series: Sequence[Series], train_ends: Sequence[int]) -> None:
        """Do nothing."""

    def forecast(self, series: Series, starts: _Starts) -> FloatArray:
        """Return the value before each start, repeated."""
        return SeasonalNaive(season=1).point(np.nan_to_num(series.values), starts, self.horizon)


class SeasonalNaiveControl:
    """Repeats the last season.

    Parameters
    ----------
    horizon
        Rows ahead.
    season
        Rows of a season. If left out, the usual one (a day, a week, a year by the step of the time
        stamps) with the lowest squared error on the train rows, a longer one only if it is better
        by 5%. If there is no usual one, or there are too few train rows, the season is one row,
        which repeats the last value.
    """

    def __init__(self, horizon: int, season: int | None = None) -> None:
        self.horizon = horizon
        self.season = season or 1
        self.choose_season = season is None

    @property
    def name(self) -> str:
        """Name with the length of the season."""
        return f"seasonal naive, {self.season} rows"

    def fit(self, series: Sequence[Series], train_ends: Sequence[int]) -> None:
        """Choose the season, unless it was given."""
        if not self.choose_season:
            return
        best = float("inf")
        for season in _usual_seasons(series[0].step):
            error = self._train_error(series, train_ends, season)
            if error < _LONGER_SEASON_GAIN * best:
                self.season, best = season, error

    def forecast(self, series: Series, starts: _Starts) -> FloatArray:
        """Return the season before each start, repeated."""
        return SeasonalNaive(self.season).point(np.nan_to_num(series.values), starts, self.horizon)

    def _train_error(
        self, series: Sequence[Series], train_ends: Sequence[int], season: int
    ) -> float:
        """Return the mean squared error on the train rows, infinite if these are too few."""
        # A step ahead is compared with the row one or more whole seasons before it.
        lags = season * (1 + np.arange(self.horizon) // season)
        if min(train_ends) <= lags.max() + season:
            return float("inf")
        errors = [
            np.nanmean((own.values[lag:end] - own.values[: end - lag]) ** 2)
            for own, end in zip(series, train_ends, strict=True)
            for lag in lags
        ]
        return float(np.mean(errors))


class LeastSquaresControl:
    """Ridge regression from past values to the whole horizon, the same for all series.

    Parameters
    ----------
    horizon
        Rows ahead.
    look_back
        Past rows used as inputs.
    known_ahead
        Whether the columns known ahead, over the rows to forecast, are inputs too.
    normalised
        Whether the window's mean is subtracted before and added afterwards. With a squared error
        this is the solution of a linear layer behind reversible instance normalisation.
    penalty
        Ridge penalty of the coefficients.
    """

    def __init__(
        self,
        horizon: int,
        look_back: int,
        *,
        known_ahead: bool = False,
        normalised: bool = False,
        penalty: float = 1.0,
    ) -> None:
        self.horizon = horizon
        self.look_back = look_back
        self.known_ahead = known_ahead
        self.normalised = normalised
        self.penalty = penalty
        self.weights: FloatArray | None = None

    @property
    def name(self) -> str:
        """Name with its inputs."""
        kind = "normalised linear" if self.normalised else "least squares"
        ahead = " and what is known ahead" if self.known_ahead else ""
        return f"{kind}, {self.look_back} rows{ahead}"

    def fit(self, series: Sequence[Series], train_ends: Sequence[int]) -> None:
        """Solve for the coefficients over all windows of the train rows."""
        first_inputs, _ = self._inputs(series[0], np.zeros(0, dtype=np.int64))
        sums = RidgeSums.zeros((), first_inputs.shape[1], self.horizon)
        for own, end in zip(series, train_ends, strict=True):
            starts = np.arange(self.look_back, end - self.horizon + 1)
            for batch in np.array_split(starts, max(1, len(starts) // WINDOWS_AT_ONCE)):
                inputs, shift = self._inputs(own, batch)
                targets = _windows(own.values, batch, self.horizon)
                # A window with a missing target would need sums of its own: it is left out.
                complete = np.isfinite(targets).all(axis=1)
                sums.add(
                    torch.from_numpy(inputs[complete]),
                    torch.from_numpy(targets[complete] - shift[complete]),
                )
        # The last input is the constant 1: its coefficient, the intercept, is not shrunk.
        ridge = torch.full((first_inputs.shape[1],), self.penalty, dtype=torch.double)
        ridge[-1] = _INTERCEPT_RIDGE
        self.weights = solve_ridge(sums.inner, sums.outer, ridge).numpy()

    def forecast(self, series: Series, starts: _Starts) -> FloatArray:
        """Return the linear map of each window."""
        assert self.weights is not None, "fit comes first"
        inputs, shift = self._inputs(series, starts)
        forecast: FloatArray = inputs @ self.weights + shift
        return forecast

    def _inputs(self, series: Series, starts: _Starts) -> tuple[FloatArray, FloatArray]:
        """Return the inputs, (windows, inputs), with 1 for the intercept last, and the shift."""
        past = _windows(np.nan_to_num(series.values), starts - self.look_back, self.look_back)
        shift = np.zeros((len(starts), 1))
        columns = []
        if self.normalised:
            shift = past.mean(axis=1, keepdims=True)
            past = past - shift
            columns = [past.std(axis=1, keepdims=True)]
        if self.known_ahead:
            columns += [_windows(known, starts, self.horizon) for known in series.future.T]
        return np.concatenate([past, *columns, np.ones((len(starts), 1))], axis=1), shift


def forecast_controls(
    horizon: int, look_back: int, *, known_ahead: bool, season: int | None = None
) -> list[ForecastControl]:
    """Return the controls that belong beside every forecasting score.

    Parameters
    ----------
    horizon
        Rows ahead.
    look_back
        Past rows of the scored model, which the linear controls use too.
    known_ahead
        Whether there are columns known ahead; then one more control uses them.
    season
        Rows of a season; chosen on the train rows if left out.
    """
    controls: list[ForecastControl] = [
        LastValueControl(horizon),
        SeasonalNaiveControl(horizon, season),
        LeastSquaresControl(horizon, look_back),
        LeastSquaresControl(horizon, look_back, normalised=True),
    ]
    if known_ahead:
        controls.append(LeastSquaresControl(horizon, look_back, known_ahead=True))
    return controls


def _windows(values: FloatArray, starts: _Starts, length: int) -> FloatArray:
    """Return the rows from each start on, (windows, length)."""
    if len(values) < length:
        return np.empty((0, length))
    return sliding_window_view(values, length)[starts]


def _usual_seasons(step: pd.Timedelta | None) -> tuple[int, ...]:
    """Return the seasons of the largest usual step that is not above ``step``."""
    seasons: tuple[int, ...] = ()
    for usual_step, usual_seasons in _SEASONS:
        if step is not None and usual_step <= step:
            seasons = usual_seasons
    return seasons
