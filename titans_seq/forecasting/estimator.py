"""TitansForecaster: ``fit`` on a frame, ``predict`` a frame, as scikit-learn's users expect."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, Self

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from titans_seq.config import Variant
from titans_seq.forecasting.assessed import AssessedForecaster
from titans_seq.forecasting.bundle import load_forecaster, save_forecaster
from titans_seq.forecasting.learning.fitting import fit_forecast_network
from titans_seq.forecasting.network.heads import Normalisation
from titans_seq.forecasting.network.network import ForecastNetwork
from titans_seq.forecasting.predicting.calibrating import calibrate_network
from titans_seq.forecasting.predicting.conformal import Calibration
from titans_seq.forecasting.predicting.predictor import Predictor
from titans_seq.forecasting.stream.model import StreamModel
from titans_seq.forecasting.tables.arrays import IntArray
from titans_seq.forecasting.tables.frames import DEFAULT_ID
from titans_seq.forecasting.tables.panel import Preprocess
from titans_seq.forecasting.tables.prepare import Data, held_out_rows, training_table
from titans_seq.forecasting.tables.table import Table
from titans_seq.training import broadcast_from_rank0, showing_progress


class TitansForecaster(AssessedForecaster):
    """Forecast one or many series, with intervals.

    Parameters
    ----------
    horizon, context_length
        Rows to forecast, and to look back; a shorter series is masked where it has not begun.
        None looks back on 96 rows, and remembers all that were before them in memories of
        constant size, as :meth:`stream` does.
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
        Let the trust in the memories' experts move on while rows are read
        (:mod:`titans_seq.forecasting.stream.trust`); a window has none.
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
        What corrects the quantiles; None if there was nothing to calibrate on.
    memories_ : StreamModel
        What streams learn with, once trained.
    history_ : History
        What happened in training; None after ``load``.
    scale_mean_, scale_std_ : dict
        Mean and population deviation of each series over its training rows.

    Notes
    -----
    Covariates that are numbers are scaled; all others, truth values too, are categories. A
    category or series that was not trained on is treated as an average one. Besides the
    columns named, the time of day, the day of the week and the time of the year are used
    wherever the training rows span them three times.

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
            Widen or narrow the quantiles, each step of the horizon by itself, until they hold
            on the rows that chose the epoch as much as they say (split-conformal); without
            such rows the quantiles stay as they were trained.
        progress
            Show a bar on standard error, if that is a terminal.

        Raises
        ------
        DataError
            If the data cannot be used; the message names column, series and row.
        ConfigError
            If a parameter cannot be used.
        DivergedError
            If the loss becomes non-finite.
        """
        columns = self._columns()
        table, train_rows = training_table(
            df, columns, self.freq, horizon=self.horizon, val_size=val_size, val_data=val_df
        )
        with showing_progress() if progress else nullcontext():
            return self._learn(table, train_rows, calibrate=calibrate)

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

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Read a forecaster that :meth:`save` wrote; it computes on the CPU.

        Raises
        ------
        BundleError
            If the folder is none, or holds another kind of model, or is damaged.
        """
        known = cls().get_params(deep=False)
        settings, network, preprocess, calibration, memories = load_forecaster(folder, known)
        forecaster = cls(**settings)
        forecaster._keep(network, preprocess)
        forecaster.calibration_, forecaster.memories_ = calibration, memories
        return forecaster

    def _learn(self, table: Table, train_rows: IntArray, *, calibrate: bool = True) -> Self:
        """Train on the first rows of each series of a table, and calibrate on the others."""
        columns = self._columns()
        preprocess = Preprocess.learn(table, columns, train_rows)
        panel = preprocess.panel(table, columns)
        seed = broadcast_from_rank0(
            lambda: int(check_random_state(self.random_state).randint(2**31))
        )
        trained = fit_forecast_network(
            self.get_params(deep=False), preprocess, panel, train_rows, seed
        )
        self._keep(trained.network, trained.preprocess)
        self._table, self._train_rows = table, train_rows
        self.history_ = trained.history
        if self.context_length is None:
            self.memories_ = self._fit_memories(table, train_rows, calibrate=calibrate)
            self.calibration_ = self.memories_.calibration
        elif calibrate:
            self.calibration_ = calibrate_network(trained.network, trained.panel, trained.held_out)
        return self

    def _trained_on(self, table: Table) -> Predictor:
        lengths = table.lengths()
        train_rows = lengths - held_out_rows(lengths, self.horizon, None)
        fresh: Self = clone(self)
        return fresh._learn(table, train_rows)._predictor()

    def _keep(self, network: ForecastNetwork, preprocess: Preprocess) -> None:
        self.network_, self.preprocess_ = network, preprocess
        self.calibration_: Calibration | None = None
        self.memories_: StreamModel | None = None
        self.history_ = None
        self._table = self._train_rows = None
        pairs = dict(zip(preprocess.ids, preprocess.scales, strict=True))
        self.scale_mean_: dict[Any, float] = {name: pair[0] for name, pair in pairs.items()}
        self.scale_std_: dict[Any, float] = {name: pair[1] for name, pair in pairs.items()}
