"""How good a trained forecaster is: backtests, a score for searches, pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from titans_seq.forecasting.fitted import FittedForecaster
from titans_seq.forecasting.predicting.distribution import QuantileRequest
from titans_seq.forecasting.predicting.predictor import Predictor
from titans_seq.forecasting.predicting.results import rows_of
from titans_seq.forecasting.scores.backtest import Backtest
from titans_seq.forecasting.scores.rolling import BacktestPlan, run_backtest
from titans_seq.forecasting.scores.scoring import mean_score
from titans_seq.forecasting.tables.arrays import IntArray
from titans_seq.forecasting.tables.joining import join
from titans_seq.forecasting.tables.prepare import Data, as_frame
from titans_seq.forecasting.tables.table import Table, table_from_frame

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class AssessedForecaster(FittedForecaster):
    """What tells of a forecaster how well it does."""

    freq: str | int | None

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
        """Forecast from several rolling origins of the past, and score it beside seasonal naive.

        Parameters
        ----------
        df
            All rows; of those after an origin only the columns known ahead are used.
        windows
            Origins of each series; a short series has fewer. The last horizon ends with it.
        step
            Rows from one origin to the next; None takes the horizon.
        levels
            Intervals, in percent, whose coverage is told.
        season
            Rows of the naive forecast's season; None takes the usual one of the frequency (a
            day of hours, a week of days, a year of months).
        refit
            False forecasts with the forecaster as it is, and tells how many windows lie in rows
            it was trained on. ``once`` trains a clone on the rows before the first origin, True
            one before every origin; the forecaster itself stays as it is.

        Returns
        -------
        Backtest
            ``summary()``, ``by_series()``, ``by_horizon()``, ``by_cutoff()``: MSE, MAE, sMAPE,
            MASE, CRPS, WQL and coverage; ``forecasts``; ``plot()``.

        Raises
        ------
        DataError
            If the data cannot be used, or no series is long enough.
        ConfigError
            If a number is below 1, or ``refit`` is none of these.
        """
        plan = BacktestPlan(
            windows=windows,
            step=self.horizon if step is None else step,
            season=season,
            levels=QuantileRequest.of((), levels, ()).levels,
            refit=refit,
        )
        columns = self._columns()
        if refit:
            frame = as_frame(df, columns, "df")
            table = table_from_frame(frame, columns, freq=self.freq, what="df")
            return run_backtest(table, columns, self.horizon, plan, self._trained_on)
        predictor = self._predictor()
        table = self._read(df, "df")
        return run_backtest(table, columns, self.horizon, plan, predictor)

    def score(self, df: Data, y: None = None) -> float:
        """Return minus the mean squared error, in units of each series' variance.

        One whole horizon after the other is forecast from all that came before it. A series that
        was trained on goes on from its rows of ``fit``, so that the folds of a time-series
        splitter serve as they are; of any other, half the rows, at most a look-back, are only
        looked back on.

        Parameters
        ----------
        df
            Rows that follow those of ``fit``, or other series. An array (time,) follows the
            array that was fitted; the rows of an array (series, time) are other series.
        y
            Ignored, for scikit-learn.

        Raises
        ------
        DataError
            If the data cannot be used, or nowhere a whole horizon is left.
        """
        predictor = self._predictor()
        table, begins = self._after_fit(df)
        return mean_score(predictor, table, begins)

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
            Rows of what came, to be drawn beside the forecast.
        series
            Ids to draw; None takes the first six.
        rows
            Rows of the history to show; None shows four times the horizon.
        title
            Heading.

        Raises
        ------
        DataError
            If the data cannot be used, or there is no such series.
        MissingExtraError
            If matplotlib is not installed.
        """
        from titans_seq.forecasting.plots import plot_forecast

        predictor = self._predictor()
        columns, table = predictor.columns, self._history(df, "plot")
        forecast = predictor.ahead(table, future_df, QuantileRequest.of((), levels, ()))
        past = rows_of(table, columns)
        came = None
        if actual is not None:
            came = rows_of(self._read(actual, "actual"), columns)
        return plot_forecast(
            past, forecast, path, actual=came, id_col=columns.id, time_col=str(past.columns[1]),
            target_col=str(past.columns[2]), series=series, rows=rows, title=title,
        )  # fmt: skip

    def _after_fit(self, df: Data) -> tuple[Table, IntArray]:
        """Return the rows of fit and those that follow, and where these begin."""
        table = self._read(df, "df")
        array = not isinstance(df, pd.DataFrame)
        if self._table is None or (array and np.ndim(np.asarray(df)) > 1):
            return table, np.zeros(len(table.ids), dtype=np.int64)
        return join(self._table, table, counted=array or self._columns().time is None)

    def _trained_on(self, table: Table) -> Predictor:
        """Return the predictor of a clone that was trained on a table."""
        raise NotImplementedError
