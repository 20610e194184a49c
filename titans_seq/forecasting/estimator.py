"""TitansForecaster: ``fit`` on a frame and ``predict`` a frame, as scikit-learn's users expect."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from titans_seq.config import Variant
from titans_seq.exceptions import ConfigError
from titans_seq.forecasting.bundle import load_forecaster, save_forecaster
from titans_seq.forecasting.fitted import FittedForecast, fit_forecast
from titans_seq.forecasting.network.heads import Normalisation
from titans_seq.forecasting.plots import plot_forecast
from titans_seq.forecasting.predicting.distribution import QuantileRequest
from titans_seq.forecasting.predicting.predictor import Predictor
from titans_seq.forecasting.predicting.results import WindowForecasts, future_frame, rows_of
from titans_seq.forecasting.scores.backtest import Backtest
from titans_seq.forecasting.scores.rolling import BacktestPlan, run_backtest
from titans_seq.forecasting.scores.scoring import mean_score
from titans_seq.forecasting.settings import ForecastSettings
from titans_seq.forecasting.stream.model import StreamModel
from titans_seq.forecasting.stream.stream import ForecastStream
from titans_seq.forecasting.tables.arrays import IntArray
from titans_seq.forecasting.tables.frames import DEFAULT_ID
from titans_seq.forecasting.tables.joining import join
from titans_seq.forecasting.tables.prepare import (
    Data,
    as_frame,
    held_out_rows,
    training_table,
)
from titans_seq.forecasting.tables.table import Table, table_from_frame
from titans_seq.training import broadcast_from_rank0, showing_progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class TitansForecaster(BaseEstimator):
    """Forecast one or many series, with intervals.

    Parameters
    ----------
    horizon, context_length
        Rows to forecast, and to look back; a shorter series is masked where it has not begun.
        None looks back on 96 rows, and keeps all rows before them in memories of constant size,
        as :meth:`stream` does.
    variant
        How memory and attention are joined: ``mac``, ``mag``, ``mal``, ``lmm``, or
        ``attention``, the control without memory.
    quantiles
        Rising levels between 0 and 1; may be empty.
    id_col
        Column of the series' ids; a frame of one series may lack ``unique_id``.
    time_col
        Column of the times: time stamps, or whole numbers. None counts the rows instead.
    target_col
        Column to forecast. Several are a wide frame: each is a series of that name.
    static, past, future
        Covariates that do not change within a series; that are known up to now; that are
        known ahead, whose next values ``predict`` needs.
    freq
        Pandas' name of the frequency, or the step of whole-number times; None infers it.
    normalise
        Centre each look-back on its ``mean`` or its ``last`` value, or ``none``.
    adapt
        Keep adapting the trust in the memories' experts while rows are read
        (:mod:`titans_seq.forecasting.stream.adaptation`); without memories it has no effect.
    dim, layers
        Width and depth of the backbone.
    max_epochs
        Passes over the training windows (of very many, 32,768 a pass), at most.
    learning_rate
        Peak step of AdamW.
    batch_size
        Windows of a training step, at most.
    device
        ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
    random_state
        Seed, generator or None, as in scikit-learn.

    Attributes
    ----------
    network_, preprocess_
        The trained network; scales, codes and calendar.
    calibration_ : Calibration
        Correction of the quantiles; None if there was nothing to calibrate on.
    memories_ : StreamModel
        The memories of streams, once trained.
    history_ : History
        Losses of every epoch; None after ``load``.
    scale_mean_, scale_std_ : dict
        Mean and population deviation of each series over its training rows.

    Notes
    -----
    Covariates that are numbers are scaled; all others, truth values too, are categories. A
    category or series that was not trained on is treated as an average one. Besides the
    columns named, the time of day, the day of the week and the time of the year are used
    wherever the training rows span them three times.

    Methods raise a :class:`~titans_seq.exceptions.DataError` for data that cannot be used (the
    message names column, series and row), a :class:`~titans_seq.exceptions.ConfigError` for a
    parameter out of range, a :class:`~titans_seq.exceptions.BundleError` for a model or stream
    that cannot be read or replaced, and ``fit`` a :class:`~titans_seq.exceptions.DivergedError`
    if the loss becomes non-finite.

    Examples
    --------
    >>> import numpy as np
    >>> from titans_seq.forecasting import TitansForecaster
    >>> waves = np.sin(np.arange(200) / 4)[None] + np.arange(2)[:, None]
    >>> forecaster = TitansForecaster(horizon=8, context_length=32, max_epochs=1, random_state=0)
    >>> forecaster.fit(waves).predict().shape
    (16, 6)
    """

    def __init__(
        self,
        horizon: int = 24,
        context_length: int | None = 168,
        *,
        variant: Variant = "mac",
        quantiles: Sequence[float] = (0.1, 0.5, 0.9),
        id_col: str = DEFAULT_ID,
        time_col: str | None = "ds",
        target_col: str | Sequence[str] = "y",
        static: Sequence[str] = (),
        past: Sequence[str] = (),
        future: Sequence[str] = (),
        freq: str | int | None = None,
        normalise: Normalisation = "mean",
        adapt: bool = False,
        dim: int = 32,
        layers: int = 1,
        max_epochs: int = 20,
        learning_rate: float = 3e-3,
        batch_size: int = 256,
        device: str = "auto",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.horizon = horizon
        self.context_length = context_length
        self.variant = variant
        self.quantiles = quantiles
        self.id_col = id_col
        self.time_col = time_col
        self.target_col = target_col
        self.static = static
        self.past = past
        self.future = future
        self.freq = freq
        self.normalise = normalise
        self.adapt = adapt
        self.dim = dim
        self.layers = layers
        self.max_epochs = max_epochs
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state

    def fit(
        self,
        df: Data,
        y: None = None,
        *,
        val_size: int | float | None = None,
        val_df: Data | None = None,
        calibrate: bool = True,
        progress: bool = False,
    ) -> Self:
        """Train on a frame, or on an array (series, time).

        Parameters
        ----------
        df
            One row a time step, in any order; missing rows and values are masked.
        y
            Ignored, for scikit-learn.
        val_size
            Last rows of each series that choose the epoch and are not trained on: a number
            of rows, or a share below 1. None takes 15% where a series has enough rows; 0
            none.
        val_df
            Later rows of the same series, or other series, that choose the epoch instead.
        calibrate
            Widen or narrow the quantiles, separately for each step of the horizon, until their
            coverage on the rows that chose the epoch is the nominal one (split-conformal).
            Without such rows the quantiles stay as they were trained.
        progress
            Show a bar on standard error, if that is a terminal.
        """
        table, train_rows = training_table(
            df, self._settings().columns(), self.freq,
            horizon=self.horizon, val_size=val_size, val_data=val_df,
        )  # fmt: skip
        with showing_progress() if progress else nullcontext():
            return self._fit_table(table, train_rows, calibrate=calibrate)

    def predict(
        self,
        df: Data | None = None,
        future_df: pd.DataFrame | None = None,
        *,
        quantiles: Sequence[float] | None = None,
        levels: Sequence[float] | None = None,
    ) -> pd.DataFrame:
        """Forecast the rows that follow the last one of each series.

        Returns id, time, ``y_pred`` (the expected value), and ``y_pred-q0.1`` and so on; one row
        a series and step.

        Parameters
        ----------
        df
            History up to now, of any series; None continues the rows of ``fit``. With
            ``context_length=None`` all of it is read, at constant memory.
        future_df
            Covariates known ahead at the times to forecast, with the id and the time. Needed
            only if ``future`` names any; it has no target and no past covariates.
        quantiles
            Any numbers between 0 and 1; without these and ``levels``, those of the settings.
        levels
            Intervals in percent: 80 gives ``y_pred-lo-80`` and ``y_pred-hi-80``.

        """
        request = QuantileRequest.of(quantiles, levels, self.quantiles)
        return self._predictor().ahead(self._history(df, "predict"), future_df, request)

    def sample(
        self,
        df: Data | None = None,
        future_df: pd.DataFrame | None = None,
        *,
        n: int = 100,
        random_state: int | np.random.RandomState | None = None,
    ) -> pd.DataFrame:
        """Draw paths of the rows that follow, each correlated along the horizon.

        Returns id, time, ``sample`` (from 0) and ``y_pred``, one row a path, series and step.
        Every step has the distribution of the calibrated quantiles; between the steps the draws
        are correlated like the errors on the calibration rows (a Gaussian copula), so that sums,
        extremes and first times over the horizon can be read off the paths. Series are drawn
        independently of each other. The forecaster must be calibrated.

        Parameters
        ----------
        df, future_df
            As in :meth:`predict`.
        n, random_state
            Paths of each series; seed, generator or None.
        """
        if n < 1:
            raise ConfigError(f"n must be at least 1, got {n}")
        generator = check_random_state(random_state)
        return self._predictor().paths(self._history(df, "sample"), future_df, n, generator)

    def forecast_windows(
        self,
        frame: Data,
        *,
        stride: int = 1,
        start: int | None = None,
        end: int | None = None,
        reset: bool = False,
    ) -> WindowForecasts:
        """Forecast every window whose target rows lie in [start, end) of each series.

        A window knows only the rows before it: with ``context_length=None`` every row since the
        first of ``frame``, through the memories.

        Parameters
        ----------
        frame
            All rows, those to look back on and the covariates known ahead included.
        stride
            Rows from one window to the next.
        start, end
            Positions among the rows of each series, from 0; None for its first or last.
        reset
            Begin with an empty memory one look-back before each window, to measure what the
            memories are worth. Without memories it has no effect.
        """
        table, levels = self._read(frame, "frame"), tuple(self.quantiles)
        return self._predictor().between(
            table, levels, stride=stride, start=start, end=end, reset=reset
        )

    def make_future_frame(self, df: Data | None = None) -> pd.DataFrame:
        """Return the ids and times that :meth:`predict` forecasts after the same ``df``.

        There are ``horizon`` rows a series; a wide frame without ids has times alone. Join the
        columns known ahead to it, and it is a ``future_df``.
        """
        table = self._history(df, "make_future_frame")
        return future_frame(table, self.horizon, self._settings().columns())

    def stream(self, df: Data | None = None, *, adapt: bool | None = None) -> ForecastStream:
        """Begin a stream: memories of constant size that learn from every further row.

        It has ``update``, ``forecast``, ``surprise``, ``save``, ``copy`` and ``reset``. With
        ``context_length=None`` the weights around the memories were trained in ``fit``; else the
        first stream trains them, on the rows of ``fit``, with the network as it is.

        Parameters
        ----------
        df
            History of the series up to now, to read first; None reads the rows of ``fit``.
        adapt
            Keep adapting the trust in the experts; None follows the forecaster's setting.
        """
        frozen = self._state().frozen_forecaster(self._settings())
        frozen = frozen if adapt is None else replace(frozen, adapt=adapt)
        return ForecastStream.begin(frozen, self._history(df, "stream"))

    def load_stream(self, path: str | os.PathLike[str]) -> ForecastStream:
        """Continue a stream of this forecaster that :meth:`ForecastStream.save` wrote."""
        return ForecastStream.load(self._state().frozen_forecaster(self._settings()), path)

    def backtest(
        self,
        df: Data,
        *,
        windows: int = 5,
        step: int | None = None,
        levels: Sequence[float] = (80, 95),
        season: int | None = None,
        refit: bool | str = False,
    ) -> Backtest:
        """Forecast from several rolling origins of the past, with scores beside seasonal naive.

        Parameters
        ----------
        df
            All rows; of those after an origin only the columns known ahead are used.
        windows
            Origins of each series; a short series has fewer. The last horizon ends with it.
        step
            Rows from one origin to the next; None takes the horizon.
        levels
            Intervals, in percent, whose coverage is measured.
        season
            Rows of the naive forecast's season; None takes the usual one of the frequency (a
            day of hours, a week of days, a year of months).
        refit
            False forecasts with the forecaster as it is, and counts the windows that lie in rows
            it was trained on. ``once`` trains a clone on the rows before the first origin, True
            one before every origin; the forecaster itself stays as it is.

        Returns
        -------
        Backtest
            ``summary()``, ``by_series()``, ``by_horizon()``, ``by_cutoff()``: MSE, MAE, sMAPE,
            MASE, CRPS, WQL and coverage; ``forecasts``; ``plot()``.
        """
        step = self.horizon if step is None else step
        percents = QuantileRequest.of((), levels, ()).levels
        plan = BacktestPlan(windows=windows, step=step, season=season, levels=percents, refit=refit)
        columns = self._settings().columns()
        if not refit:
            predictor = self._predictor()
            return run_backtest(self._read(df, "df"), columns, self.horizon, plan, predictor)
        frame = as_frame(df, columns, "df")
        table = table_from_frame(frame, columns, freq=self.freq, what="df")
        return run_backtest(table, columns, self.horizon, plan, self._train_clone)

    def score(self, df: Data, y: None = None) -> float:
        """Return minus the mean squared error, in units of each series' variance.

        Whole horizons are forecast one after the other, each from all rows before it. A series
        that was trained on continues its rows of ``fit``, so that the folds of a time-series
        splitter serve as they are; of any other, the first half of the rows, at most a look-back,
        is only read.

        Parameters
        ----------
        df
            Rows that follow those of ``fit``, or other series. An array (time,) follows the
            array that was fitted; the rows of an array (series, time) are other series.
        y
            Ignored, for scikit-learn.
        """
        predictor, table = self._predictor(), self._read(df, "df")
        previous = self._fitted.table
        is_array = not isinstance(df, pd.DataFrame)
        if previous is None or (is_array and np.ndim(df) > 1):
            return mean_score(predictor, table, np.zeros(len(table.ids), dtype=np.int64))
        counted = is_array or self.time_col is None
        return mean_score(predictor, *join(previous, table, counted=counted))

    def plot(
        self,
        df: Data | None = None,
        future_df: pd.DataFrame | None = None,
        *,
        path: str | os.PathLike[str] | None = None,
        levels: Sequence[float] = (50, 80, 95),
        actual: pd.DataFrame | None = None,
        series: Sequence[object] | None = None,
        rows: int | None = None,
        title: str = "",
    ) -> Figure:
        """Draw the last rows of each series and the forecast of those that follow.

        Parameters
        ----------
        df, future_df
            As in :meth:`predict`.
        path
            File to write, ``.png``, ``.svg`` or ``.pdf``; None writes nothing.
        levels
            Intervals in percent, three at most.
        actual
            Rows with the actual values, drawn beside the forecast.
        series, rows
            Ids to draw, None takes the first six; rows of the history, None shows four horizons.
        title
            Heading.
        """
        predictor, table = self._predictor(), self._history(df, "plot")
        forecast = predictor.ahead(table, future_df, QuantileRequest.of((), levels, ()))
        past = rows_of(table, predictor.columns)
        if actual is not None:
            actual = rows_of(self._read(actual, "actual"), predictor.columns)
        id_col, time_col, target_col = past.columns
        return plot_forecast(
            past, forecast, path, actual=actual, id_col=id_col, time_col=time_col,
            target_col=target_col, series=series, rows=rows, title=title,
        )  # fmt: skip

    def save(self, folder: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write the forecaster to a model folder: JSON, safetensors and a card, no pickle.

        The folder must be new or empty, unless ``force`` replaces the model that is there.
        """
        save_forecaster(folder, self._settings(), self._state(), force=force)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Read a forecaster that :meth:`save` wrote; it computes on the CPU."""
        params, fitted = load_forecaster(folder, defaults=cls().get_params(deep=False))
        return cls(**params)._keep(fitted)

    def _settings(self) -> ForecastSettings:
        return ForecastSettings.from_params(self.get_params(deep=False))

    def _state(self) -> FittedForecast:
        check_is_fitted(self, "network_")
        return self._fitted

    def _predictor(self) -> Predictor:
        return self._state().predictor(self._settings())

    def _history(self, df: Data | None, method: str) -> Table:
        return self._state().rows_to_continue(self._settings(), df, method)

    def _read(self, data: Data, what: str) -> Table:
        return self._state().read(self._settings(), data, what)

    def _fit_table(self, table: Table, train_rows: IntArray, *, calibrate: bool = True) -> Self:
        """Train on the first rows of each series of a table, and calibrate on the others."""
        random = self.random_state
        seed = broadcast_from_rank0(lambda: int(check_random_state(random).randint(2**31)))
        fitted = fit_forecast(self._settings(), table, train_rows, seed, calibrate=calibrate)
        return self._keep(fitted)

    def _train_clone(self, table: Table) -> Predictor:
        """Train a clone on a table, and return its predictor."""
        lengths = table.lengths()
        train_rows = lengths - held_out_rows(lengths, self.horizon, None)
        fresh: Self = clone(self)
        return fresh._fit_table(table, train_rows)._predictor()

    def _keep(self, fitted: FittedForecast) -> Self:
        """Set the fitted attributes."""
        self._fitted = fitted
        self.network_, self.preprocess_ = fitted.network, fitted.preprocess
        self.calibration_, self.history_ = fitted.calibration, fitted.history
        scales = dict(zip(fitted.preprocess.ids, fitted.preprocess.scales, strict=True))
        self.scale_mean_: dict[Any, float] = {name: mean for name, (mean, _) in scales.items()}
        self.scale_std_: dict[Any, float] = {name: std for name, (_, std) in scales.items()}
        return self

    @property
    def memories_(self) -> StreamModel | None:
        """The memories of streams, once trained."""
        return self._state().memories
