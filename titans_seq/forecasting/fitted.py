"""What a trained forecaster can do; :class:`TitansForecaster` adds how it comes to be."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from titans_seq.exceptions import ConfigError, DataError
from titans_seq.forecasting.bundle import save_forecaster
from titans_seq.forecasting.conformal import Calibration
from titans_seq.forecasting.distribution import Wanted
from titans_seq.forecasting.frames import Columns
from titans_seq.forecasting.network import ForecastNetwork
from titans_seq.forecasting.panel import Preprocess
from titans_seq.forecasting.prepare import Data, column_roles, read_again
from titans_seq.forecasting.results import Predictor, WindowForecasts, future_frame
from titans_seq.forecasting.stream.model import StreamModel
from titans_seq.forecasting.table import Table
from titans_seq.training import History


class FittedForecaster(BaseEstimator):
    """Everything that needs a trained network and the settings, but no training."""

    horizon: int
    quantiles: Sequence[float]
    network_: ForecastNetwork
    preprocess_: Preprocess
    calibration_: Calibration | None
    memories_: StreamModel | None
    history_: History | None
    _table: Table | None

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
            History up to now, of any series; None goes on from the rows of ``fit``.
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
        wanted = Wanted.of(quantiles, levels, self.quantiles)
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
    ) -> WindowForecasts:
        """Forecast every window whose target rows lie in [start, end) of each series.

        Parameters
        ----------
        frame
            All rows, those to look back on and the covariates known ahead included.
        stride
            Rows from one window to the next.
        start, end
            Positions among the rows of each series, from 0; None for its first or last.
        """
        predictor = self._predictor()
        table = self._read(frame, predictor.columns, "frame")
        return predictor.between(table, tuple(self.quantiles), stride=stride, start=start, end=end)

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

    def save(self, folder: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write the forecaster to a model folder: JSON, safetensors and a card, no pickle.

        Parameters
        ----------
        folder
            A new or empty folder.
        force
            Replace the model that is there.

        Raises
        ------
        BundleError
            If the folder holds something that may not be replaced.
        """
        check_is_fitted(self, "network_")
        save_forecaster(
            folder,
            self.get_params(deep=False),
            self.network_,
            self.preprocess_,
            self.history_,
            self.calibration_,
            self.memories_,
            force=force,
        )

    def _columns(self) -> Columns:
        return column_roles(self.get_params(deep=False))

    def _predictor(self) -> Predictor:
        check_is_fitted(self, "network_")
        return Predictor(self.network_, self.preprocess_, self.calibration_, self._columns())

    def _read(self, data: Data, columns: Columns, what: str) -> Table:
        learnt = self.preprocess_
        return read_again(data, columns, learnt.freq, list(learnt.categories), what)

    def _history(self, df: Data | None, method: str) -> Table:
        """Return the rows to go on from: those given, or those of ``fit``."""
        if df is not None:
            return self._read(df, self._columns(), "df")
        if self._table is None:
            raise DataError(f"{method} needs df: a loaded forecaster has no rows to go on from")
        return self._table
