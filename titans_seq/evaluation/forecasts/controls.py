"""Simple forecasts that every score is printed beside: last value, seasonal naive, least squares.

All work on series that were scaled by their train rows, learn from these rows alone, and take a
missing value for the train rows' mean, which is 0 on that scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view

from titans_seq.evaluation.forecasts.series import Array, Series

Rows = npt.NDArray[np.int64]

# Rows that a season may have, by the time between rows: day, week, year, as far as they are short.
SEASONS: tuple[tuple[pd.Timedelta, tuple[int, ...]], ...] = (
    (pd.Timedelta(minutes=10), (144, 1008)),
    (pd.Timedelta(minutes=15), (96, 672)),
    (pd.Timedelta(minutes=30), (48, 336)),
    (pd.Timedelta(hours=1), (24, 168)),
    (pd.Timedelta(days=1), (7, 365)),
    (pd.Timedelta(days=7), (52,)),
    (pd.Timedelta(days=28), (12,)),
    (pd.Timedelta(days=90), (4,)),
)


class Control(Protocol):
    """A forecast that needs no training to speak of."""

    @property
    def name(self) -> str:
        """What tables call it."""

    def fit(self, series: Sequence[Series], train_ends: Sequence[int]) -> None:
        """Learn from the rows of each series before its train part's end."""

    def forecast(self, series: Series, starts: Rows) -> Array:
        """Return (windows, horizon), the rows from each start on; it sees only rows before."""


class LastValue:
    """Repeats the last value."""

    name = "last value"

    def __init__(self, horizon: int) -> None:
        self.horizon = horizon

    def fit(self, series: Sequence[Series], train_ends: Sequence[int]) -> None:
        """Learn nothing."""

    def forecast(self, series: Series, starts: Rows) -> Array:
        """Return the value before each start, repeated."""
        last = np.nan_to_num(series.values)[starts - 1]
        return np.repeat(last[:, None], self.horizon, axis=1)


class SeasonalNaive:
    """Repeats the last season.

    Parameters
    ----------
    horizon
        Rows ahead.
    season
        Rows of a season; if left out, that of the usual ones (a day, a week, a year by the step
        of the time stamps) with the lowest squared error in the train rows, a longer one only if
        it is better by 5%. Where none is known or the train rows are too few, a season is one row,
        which repeats the last value.
    """

    def __init__(self, horizon: int, season: int | None = None) -> None:
        self.horizon = horizon
        self.season = season or 1
        self.chosen = season is not None

    @property
    def name(self) -> str:
        """Name with the season's length."""
        return f"seasonal naive, {self.season} rows"

    def fit(self, series: Sequence[Series], train_ends: Sequence[int]) -> None:
        """Choose the season, unless it was given."""
        if not self.chosen:
            best = float("inf")
            for season in _usual_seasons(series[0].step):
                error = self._train_error(series, train_ends, season)
                if error < 0.95 * best:
                    self.season, best = season, error

    def forecast(self, series: Series, starts: Rows) -> Array:
        """Return the season before each start, repeated."""
        ahead = np.arange(self.horizon) % self.season
        forecast: Array = np.nan_to_num(series.values)[starts[:, None] - self.season + ahead]
        return forecast

    def _train_error(
        self, series: Sequence[Series], train_ends: Sequence[int], season: int
    ) -> float:
        """Return the mean squared error over the train rows, infinite where these are too few."""
        lags = season * (1 + np.arange(self.horizon) // season)
        if min(train_ends) <= lags.max() + season:
            return float("inf")
        errors = [
            np.nanmean((one.values[lag:end] - one.values[: end - lag]) ** 2)
            for one, end in zip(series, train_ends, strict=True)
            for lag in lags
        ]
        return float(np.mean(errors))


class LeastSquares:
    """One linear map from the past values to the whole horizon, the same for all series.

    Parameters
    ----------
    horizon
        Rows ahead.
    look_back
        Past rows that it sees.
    known_ahead
        Whether it also sees the columns known ahead, over the rows to forecast.
    normalised
        Whether the window's mean is taken off before and put back after. With a squared error this
        is what a linear layer behind reversible instance normalisation learns.
    penalty
        Weight of the squared coefficients.
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
        self.weights: Array | None = None

    @property
    def name(self) -> str:
        """Name with what it sees."""
        kind = "normalised linear" if self.normalised else "least squares"
        ahead = " and what is known ahead" if self.known_ahead else ""
        return f"{kind}, {self.look_back} rows{ahead}"

    def fit(self, series: Sequence[Series], train_ends: Sequence[int]) -> None:
        """Solve for the weights over all windows of the train rows."""
        squares: Array | float = 0.0
        products: Array | float = 0.0
        for one, end in zip(series, train_ends, strict=True):
            starts = np.arange(self.look_back, end - self.horizon + 1)
            for part in np.array_split(starts, max(1, len(starts) // 8192)):
                inputs, shift = self._inputs(one, part)
                targets = _windows(one.values, part, self.horizon)
                whole = np.isfinite(targets).all(axis=1)
                inputs, targets = inputs[whole], targets[whole] - shift[whole]
                squares = squares + inputs.T @ inputs
                products = products + inputs.T @ targets
        ridge = self.penalty * np.eye(np.shape(squares)[0])
        ridge[-1, -1] = 1e-6
        self.weights = np.asarray(np.linalg.solve(squares + ridge, products), dtype=np.float64)

    def forecast(self, series: Series, starts: Rows) -> Array:
        """Return the linear map of each window."""
        assert self.weights is not None, "fit comes first"
        inputs, shift = self._inputs(series, starts)
        forecast: Array = inputs @ self.weights + shift
        return forecast

    def _inputs(self, series: Series, starts: Rows) -> tuple[Array, Array]:
        """Return what it sees of each window, (windows, inputs), and what it adds afterwards."""
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


def usual_controls(
    horizon: int, look_back: int, *, known_ahead: bool, season: int | None = None
) -> list[Control]:
    """Return the controls that belong beside every forecasting score.

    Parameters
    ----------
    horizon
        Rows ahead.
    look_back
        Past rows that the scored model sees; the linear ones see as many.
    known_ahead
        Whether there are columns known ahead; then one control sees them too.
    season
        Rows of a season; chosen in the train rows if left out.
    """
    controls: list[Control] = [
        LastValue(horizon),
        SeasonalNaive(horizon, season),
        LeastSquares(horizon, look_back),
        LeastSquares(horizon, look_back, normalised=True),
    ]
    if known_ahead:
        controls.append(LeastSquares(horizon, look_back, known_ahead=True))
    return controls


def _windows(values: Array, starts: Rows, length: int) -> Array:
    """Return (windows, length), the rows from each start on."""
    if len(values) < length:
        return np.empty((0, length))
    return sliding_window_view(values, length)[starts]


def _usual_seasons(step: pd.Timedelta | None) -> tuple[int, ...]:
    """Return the seasons of the largest usual step that is not above ``step``."""
    found: tuple[int, ...] = ()
    for usual, seasons in SEASONS:
        if step is not None and usual <= step:
            found = seasons
    return found
