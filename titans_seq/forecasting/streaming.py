"""What a trained forecaster offers to those who go on reading: streams."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from sklearn.utils.validation import check_is_fitted

from titans_seq.exceptions import ConfigError
from titans_seq.forecasting.assessed import AssessedForecaster
from titans_seq.forecasting.prepare import Data
from titans_seq.forecasting.results import Predictor, WindowForecasts, windows_between
from titans_seq.forecasting.stream.fitting import fit_stream
from titans_seq.forecasting.stream.honest import forecasts_at
from titans_seq.forecasting.stream.model import StreamModel
from titans_seq.forecasting.stream.parts import StreamParts
from titans_seq.forecasting.stream.stream import ForecastStream
from titans_seq.forecasting.table import Table

MOST_ROWS = 40_000
"""Rows that the memories' surroundings are trained on, over all series."""


class StreamingForecaster(AssessedForecaster):
    """A forecaster whose memories go on learning."""

    memories_: StreamModel | None
    _train_rows: npt.NDArray[np.int64] | None

    def stream(self, df: Data | None = None) -> ForecastStream:
        """Begin a stream: memories of constant size that learn from every further row.

        Parameters
        ----------
        df
            History of the series up to now, to read first; None reads the rows of ``fit``.

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
        return ForecastStream.begin(self._parts(), self._history(df, "stream"))

    def load_stream(self, path: str | os.PathLike[str]) -> ForecastStream:
        """Go on with a stream that :meth:`ForecastStream.save` wrote.

        Raises
        ------
        BundleError
            If the file is none or damaged, or belongs to another forecaster.
        """
        return ForecastStream.load(self._parts(), path)

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
            If a quantile or level is none, or with ``context_length=None`` was not trained.
        """
        check_is_fitted(self, "network_")
        if self.context_length is not None:
            return super().predict(df, future_df, quantiles=quantiles, levels=levels)
        if quantiles is not None or levels is not None:
            raise ConfigError(
                "with context_length=None the quantiles are those the forecaster was made with: "
                f"{tuple(self.quantiles)}"
            )
        return self.stream(df).forecast(future_df)

    def forecast_windows(
        self,
        frame: Data,
        *,
        stride: int = 1,
        start: int | None = None,
        end: int | None = None,
    ) -> WindowForecasts:
        """Forecast every window whose target rows lie in [start, end) of each series.

        With ``context_length=None`` the memory is carried from the first row of ``frame`` on,
        and has read nothing beyond a window's cutoff.

        Parameters
        ----------
        frame
            All rows, those to look back on and the covariates known ahead included.
        stride
            Rows from one window to the next.
        start, end
            Positions among the rows of each series, from 0; None for its first or last.
        """
        if self.context_length is not None:
            return super().forecast_windows(frame, stride=stride, start=start, end=end)
        parts = self._parts()
        table = self._read(frame, parts.columns, "frame")
        panel = parts.preprocess.panel(table, parts.columns)
        index = windows_between(
            table, panel, horizon=self.horizon, stride=stride, start=start, end=end
        )
        return forecasts_at(parts, table, index)

    def _predictor(self) -> Predictor:
        """Return the window's network alone, which is the whole forecaster only with a window."""
        check_is_fitted(self, "network_")
        if self.context_length is None:
            raise ConfigError(
                "with context_length=None, backtest, score, sample and plot would leave the "
                "memories out: use forecast_windows, which carries them, or give a context_length"
            )
        return super()._predictor()

    def _parts(self) -> StreamParts:
        """Return what streams need, trained now if it was not before."""
        check_is_fitted(self, "network_")
        if self.memories_ is None:
            if self._table is None or self._train_rows is None:
                raise ConfigError(
                    "this forecaster was saved without memories: fit it with "
                    "context_length=None, or begin a stream before it is saved"
                )
            self.memories_ = self._fit_memories(self._table, self._train_rows)
        return StreamParts(self.network_, self.memories_, self.preprocess_, self._columns())

    def _fit_memories(self, table: Table, train_rows: npt.NDArray[np.int64]) -> StreamModel:
        with torch.random.fork_rng(devices=[]):  # the caller's own random numbers stay as they are
            torch.manual_seed(0)
            return fit_stream(
                self.network_,
                self.preprocess_,
                self.preprocess_.panel(table, self._columns()),
                train_rows,
                most_rows=MOST_ROWS,
                seed=self.random_state if isinstance(self.random_state, int) else 0,
            )
