"""What a forecaster learns from data: training it, and making predictors and streams from it."""

from __future__ import annotations

from dataclasses import dataclass

from titans_seq.exceptions import ConfigError, DataError
from titans_seq.forecasting.learning.fitting import fit_forecast_network
from titans_seq.forecasting.network.network import ForecastNetwork
from titans_seq.forecasting.predicting.conformal import Calibration, calibrate_network
from titans_seq.forecasting.predicting.predictor import Predictor, WindowSource
from titans_seq.forecasting.settings import ForecastSettings
from titans_seq.forecasting.stream.fitting import fit_stream
from titans_seq.forecasting.stream.frozen import FrozenForecaster
from titans_seq.forecasting.stream.model import StreamModel
from titans_seq.forecasting.stream.rolling import MemorySource
from titans_seq.forecasting.tables.arrays import IntArray
from titans_seq.forecasting.tables.panel import Preprocess
from titans_seq.forecasting.tables.prepare import Data, table_for_prediction
from titans_seq.forecasting.tables.table import Table
from titans_seq.training import History, seeded


@dataclass(slots=True)
class FittedForecast:
    """A trained network and what surrounds it.

    The methods take the settings anew, because a forecaster's parameters may be set after ``fit``.
    """

    network: ForecastNetwork
    preprocess: Preprocess
    calibration: Calibration | None = None
    memories: StreamModel | None = None
    """Trained in ``fit`` with ``context_length=None``, else with the first stream."""

    history: History | None = None
    """Losses of every epoch; None for a forecaster that was loaded."""

    table: Table | None = None
    """Rows of ``fit``, which forecasts continue; None for a forecaster that was loaded."""

    train_rows: IntArray | None = None
    """How many rows of each series were trained on."""

    def read(self, settings: ForecastSettings, data: Data, what: str) -> Table:
        """Check data, called ``what`` in errors, and lay them on the grid of ``fit``."""
        freq, categories = self.preprocess.freq, list(self.preprocess.categories)
        return table_for_prediction(data, settings.columns(), freq, categories, what)

    def rows_to_continue(self, settings: ForecastSettings, df: Data | None, method: str) -> Table:
        """Return the rows of ``df``, or those of ``fit`` if it is None.

        Raises
        ------
        DataError
            If there are none; it names the method.
        """
        if df is not None:
            return self.read(settings, df, "df")
        if self.table is None:
            raise DataError(f"{method} needs df: a loaded forecaster has no rows of its own")
        return self.table

    def predictor(self, settings: ForecastSettings) -> Predictor:
        """Return the predictor that reads a window, or with memories all rows."""
        if settings.context_length is None:
            source: MemorySource | WindowSource = MemorySource(self.frozen_forecaster(settings))
        else:
            source = WindowSource(self.network, self.calibration)
        return Predictor(source, self.preprocess, settings.columns())

    def frozen_forecaster(self, settings: ForecastSettings) -> FrozenForecaster:
        """Return the forecaster as streams use it; the memories are trained on first use.

        Raises
        ------
        ConfigError
            If there are no memories, and no rows to train them on.
        """
        if self.memories is None:
            if self.table is None or self.train_rows is None:
                raise ConfigError(
                    "this forecaster was saved without memories: fit it with "
                    "context_length=None, or begin a stream before it is saved"
                )
            self.fit_memories(settings, calibrate=self.calibration is not None)
        assert self.memories is not None
        columns, quantiles = settings.columns(), tuple(settings.quantiles)
        return FrozenForecaster(
            self.network, self.memories, self.preprocess, columns, quantiles, settings.adapt
        )

    def fit_memories(self, settings: ForecastSettings, *, calibrate: bool) -> None:
        """Train what surrounds the memories on the rows of ``fit``, with the network as it is."""
        assert self.table is not None
        assert self.train_rows is not None
        panel = self.preprocess.panel(self.table, settings.columns())
        seed = settings.random_state if isinstance(settings.random_state, int) else 0
        with seeded(seed):
            self.memories = fit_stream(
                self.network, self.preprocess, panel, self.train_rows,
                seed=seed, calibrate=calibrate,
            )  # fmt: skip


def fit_forecast(
    settings: ForecastSettings, table: Table, train_rows: IntArray, seed: int, *, calibrate: bool
) -> FittedForecast:
    """Train on the first rows of each series, and calibrate the quantiles on the others.

    Parameters
    ----------
    settings
        Parameters of the forecaster.
    table
        All rows.
    train_rows
        How many rows of each series are trained on; those after them choose the epoch.
    seed
        Of everything random but the memories, whose seed is the ``random_state`` itself.
    calibrate
        Whether to calibrate.

    Raises
    ------
    ConfigError
        If a setting is out of range.
    DataError
        If there is no window to train on.
    """
    columns = settings.columns()
    preprocess = Preprocess.learn(table, columns, train_rows)
    panel = preprocess.panel(table, columns)
    trained = fit_forecast_network(settings, preprocess, panel, train_rows, seed)
    fitted = FittedForecast(
        trained.network, trained.preprocess,
        history=trained.history, table=table, train_rows=train_rows,
    )  # fmt: skip
    if settings.context_length is None:
        fitted.fit_memories(settings, calibrate=calibrate)
        assert fitted.memories is not None
        fitted.calibration = fitted.memories.calibration
    elif calibrate:
        fitted.calibration = calibrate_network(trained.network, trained.panel, trained.held_out)
    return fitted
