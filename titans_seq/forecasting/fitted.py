"""What a trained forecaster can do; :class:`TitansForecaster` adds how it comes to be."""

from __future__ import annotations

import os

import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from titans_seq.exceptions import DataError
from titans_seq.forecasting.bundle import save_forecaster
from titans_seq.forecasting.frames import Columns
from titans_seq.forecasting.network import ForecastNetwork
from titans_seq.forecasting.panel import Preprocess
from titans_seq.forecasting.prepare import Data, column_roles, read_again
from titans_seq.forecasting.results import WindowForecasts, forecast_ahead, forecast_between
from titans_seq.forecasting.table import Table
from titans_seq.training import History


class FittedForecaster(BaseEstimator):
    """Everything that needs a trained network and the settings, but no training."""

    network_: ForecastNetwork
    preprocess_: Preprocess
    history_: History | None
    _table: Table | None

    def predict(
        self, df: Data | None = None, future_df: pd.DataFrame | None = None
    ) -> pd.DataFrame:
        """Forecast the rows that follow the last one of each series.

        Parameters
        ----------
        df
            History up to now, of any series; None goes on from the rows of ``fit``.
        future_df
            Covariates known ahead at the times to forecast, with the id and the time. Needed
            only if ``future`` names any; it has no target and no past covariates.

        Returns
        -------
        DataFrame
            Id, time, ``y_pred`` (the expected value), and ``y_pred-q0.1`` and so on; one row
            a series and step.

        Raises
        ------
        DataError
            If the data cannot be used, or ``future_df`` lacks a series, time or value.
        """
        check_is_fitted(self, "network_")
        columns = self._columns()
        if df is not None:
            table = self._read(df, columns, "df")
        elif self._table is not None:
            table = self._table
        else:
            raise DataError("predict needs df: a loaded forecaster has no rows to go on from")
        return forecast_ahead(self.network_, self.preprocess_, table, columns, future_df)

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
        check_is_fitted(self, "network_")
        columns = self._columns()
        table = self._read(frame, columns, "frame")
        return forecast_between(
            self.network_, self.preprocess_, table, columns, stride=stride, start=start, end=end
        )

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
            force=force,
        )

    def _columns(self) -> Columns:
        return column_roles(self.get_params(deep=False))

    def _read(self, data: Data, columns: Columns, what: str) -> Table:
        learnt = self.preprocess_
        return read_again(data, columns, learnt.freq, list(learnt.categories), what)
