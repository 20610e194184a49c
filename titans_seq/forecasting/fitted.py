"""What a trained forecaster makes of rows: forecasts, paths, windows, streams."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from titans_seq.exceptions import ConfigError, DataError
from titans_seq.forecasting.network.network import ForecastNetwork
from titans_seq.forecasting.predicting.conformal import Calibration
from titans_seq.forecasting.predicting.distribution import QuantileRequest
from titans_seq.forecasting.predicting.predictor import Predictor, WindowSource
from titans_seq.forecasting.predicting.results import WindowForecasts, future_frame
from titans_seq.forecasting.stream.carried import MemorySource
from titans_seq.forecasting.stream.fitting import fit_stream
from titans_seq.forecasting.stream.model import StreamModel
from titans_seq.forecasting.stream.parts import StreamParts
from titans_seq.forecasting.stream.stream import ForecastStream
from titans_seq.forecasting.tables.arrays import IntArray
from titans_seq.forecasting.tables.frames import ColumnRoles
from titans_seq.forecasting.tables.panel import Preprocess
from titans_seq.forecasting.tables.prepare import Data, column_roles, table_for_prediction
from titans_seq.forecasting.tables.table import Table
from titans_seq.training import History, seeded


class FittedForecaster(BaseEstimator):
    """Everything that a trained network, and perhaps its memories, can forecast."""

    horizon: int
    context_length: int | None
    quantiles: Sequence[float]
    adapt: bool
    random_state: int | np.random.RandomState | None
    network_: ForecastNetwork
    preprocess_: Preprocess
    calibration_: Calibration | None
    memories_: StreamModel | None
    history_: History | None
    _table: Table | None
    _train_rows: IntArray | None

    def predict(
        self,
        df: Data | None = None,
        future_df: pd.DataFrame | None = None,
        *,
        quantiles: Sequence[float] | None = None,
        levels: Sequence[float] | None = None,
    ) -> pd.DataFrame:
        """Forecast the rows that follow the last one of each series.

        Parameters
        ----------
        df
            History up to now, of any series; None goes on from the rows of ``fit``. With
            ``context_length=None`` all of it is read, at constant memory.
        future_df
            Covariates known ahead at the times to forecast, with the id and the time. Needed
            only if ``future`` names any; it has no target and no past covariates.
        quantiles
            Any numbers between 0 and 1; without these and ``levels``, those of the settings.
        levels
            Intervals in percent: 80 gives ``y_pred-lo-80`` and ``y_pred-hi-80``.

        Returns
        -------
        DataFrame
            Id, time, ``y_pred`` (the expected value), and ``y_pred-q0.1`` and so on; one row
            a series and step.

        Raises
        ------
        DataError
            If the data cannot be used, or ``future_df`` lacks a series, time or value.
        ConfigError
            If a quantile or level is none.
        """
        wanted = QuantileRequest.of(quantiles, levels, self.quantiles)
        return self._predictor().ahead(self._history(df, "predict"), future_df, wanted)

    def sample(
        self,
        df: Data | None = None,
        future_df: pd.DataFrame | None = None,
        *,
        n: int = 100,
        random_state: int | np.random.RandomState | None = None,
    ) -> pd.DataFrame:
        """Draw paths of the rows that follow; each hangs together along the horizon.

        A step by itself is distributed as the calibrated quantiles say; between the steps the
        draws are correlated as the errors on the calibration rows were (a Gaussian copula), so
        that sums, extremes and first times over the horizon can be read off the paths. Series
        are drawn independently of each other.

        Parameters
        ----------
        df, future_df
            As in :meth:`predict`.
        n
            Paths of each series.
        random_state
            Seed, generator or None.

        Returns
        -------
        DataFrame
            Id, time, ``sample`` (from 0) and ``y_pred``, one row a path, series and step.

        Raises
        ------
        DataError
            If the data cannot be used, or the forecaster has no calibration.
        ConfigError
            If ``n`` is below 1.
        """
        if n < 1:
            raise ConfigError(f"n={n}: draw at least one path")
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

        A window knows only what came before it: with ``context_length=None`` every row since the
        first of ``frame``, by the memories that are carried along.

        Parameters
        ----------
        frame
            All rows, those to look back on and the covariates known ahead included.
        stride
            Rows from one window to the next.
        start, end
            Positions among the rows of each series, from 0; None for its first or last.
        reset
            Begin with an empty memory one look-back before each window instead: what the
            difference is worth, the memories are. A window has nothing to reset.

        Raises
        ------
        DataError
            If the data cannot be used.
        """
        predictor = self._predictor()
        return predictor.between(
            self._read(frame, "frame"), tuple(self.quantiles),
            stride=stride, start=start, end=end, reset=reset,
        )  # fmt: skip

    def make_future_frame(self, df: Data | None = None) -> pd.DataFrame:
        """Return the ids and times that :meth:`predict` will forecast.

        Join the columns known ahead to it, and it is a ``future_df``.

        Parameters
        ----------
        df
            History up to now; None goes on from the rows of ``fit``.

        Returns
        -------
        DataFrame
            Id and time, ``horizon`` rows a series. A wide frame without ids has times alone.

        Raises
        ------
        DataError
            If the data cannot be used.
        """
        check_is_fitted(self, "network_")
        return future_frame(self._history(df, "make_future_frame"), self.horizon, self._columns())

    def stream(self, df: Data | None = None, *, adapt: bool | None = None) -> ForecastStream:
        """Begin a stream: memories of constant size that learn from every further row.

        Parameters
        ----------
        df
            History of the series up to now, to read first; None reads the rows of ``fit``.

        adapt
            Let the trust in the experts move too; None does as the forecaster's setting says.

        Returns
        -------
        ForecastStream
            With ``update``, ``forecast``, ``surprise``, ``save``, ``copy`` and ``reset``.

        Raises
        ------
        DataError
            If the data cannot be used.
        ConfigError
            If this forecaster was saved without memories.

        Notes
        -----
        With ``context_length=None`` the memories' surroundings were trained in ``fit``; else the
        first stream trains them, on the rows of ``fit``, with the network as it is.
        """
        parts = self._parts()
        parts = parts if adapt is None else replace(parts, adapt=adapt)
        return ForecastStream.begin(parts, self._history(df, "stream"))

    def load_stream(self, path: str | os.PathLike[str]) -> ForecastStream:
        """Go on with a stream that :meth:`ForecastStream.save` wrote.

        Raises
        ------
        BundleError
            If the file is none or damaged, or belongs to another forecaster.
        """
        return ForecastStream.load(self._parts(), path)

    def _columns(self) -> ColumnRoles:
        return column_roles(self.get_params(deep=False))

    def _predictor(self) -> Predictor:
        """Return what forecasts: from the window alone, or with the memories carried."""
        check_is_fitted(self, "network_")
        if self.context_length is None:
            return Predictor(MemorySource(self._parts()), self.preprocess_, self._columns())
        source = WindowSource(self.network_, self.calibration_)
        return Predictor(source, self.preprocess_, self._columns())

    def _parts(self) -> StreamParts:
        """Return what streams need, trained now if it was not before."""
        check_is_fitted(self, "network_")
        if self.memories_ is None:
            if self._table is None or self._train_rows is None:
                raise ConfigError(
                    "this forecaster was saved without memories: fit it with "
                    "context_length=None, or begin a stream before it is saved"
                )
            calibrate = self.calibration_ is not None
            self.memories_ = self._fit_memories(self._table, self._train_rows, calibrate=calibrate)
        told = tuple(self.quantiles)
        return StreamParts(
            self.network_, self.memories_, self.preprocess_, self._columns(), told, self.adapt
        )

    def _fit_memories(self, table: Table, train_rows: IntArray, *, calibrate: bool) -> StreamModel:
        panel = self.preprocess_.panel(table, self._columns())
        seed = self.random_state if isinstance(self.random_state, int) else 0
        with seeded(seed):
            return fit_stream(
                self.network_, self.preprocess_, panel, train_rows, seed=seed, calibrate=calibrate
            )

    def _read(self, data: Data, what: str) -> Table:
        learnt = self.preprocess_
        return table_for_prediction(
            data, self._columns(), learnt.freq, list(learnt.categories), what
        )

    def _history(self, df: Data | None, method: str) -> Table:
        """Return the rows to go on from: those given, or those of ``fit``."""
        if df is not None:
            return self._read(df, "df")
        if self._table is None:
            raise DataError(f"{method} needs df: a loaded forecaster has no rows to go on from")
        return self._table
