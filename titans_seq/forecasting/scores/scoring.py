"""Score for hyperparameter searches: minus the mean squared error after the training rows."""

from __future__ import annotations

import numpy as np

from titans_seq.exceptions import DataError
from titans_seq.forecasting.learning.windows import index_windows
from titans_seq.forecasting.predicting.predictor import Predictor
from titans_seq.forecasting.tables.arrays import IntArray
from titans_seq.forecasting.tables.table import Table


def mean_score(predictor: Predictor, table: Table, begins: IntArray) -> float:
    """Return minus the mean squared error over consecutive whole horizons, scaled.

    Parameters
    ----------
    predictor
        A trained one.
    table
        Series; those that were trained on begin with their rows of ``fit``.
    begins
        Row from which each series is forecast; where it is 0, the first half of the rows, at
        most a look-back, is only read.

    Raises
    ------
    DataError
        If no whole horizon is left in any series.
    """
    lengths, horizon = table.lengths(), predictor.horizon
    first = np.where(begins > 0, begins, np.minimum(predictor.source.context, lengths // 2))
    index = index_windows(table, first.tolist(), lengths.tolist(), horizon=horizon, stride=horizon)
    raw, _ = predictor.scaled(table, index)
    error = (raw.point - raw.actual) ** 2
    if not np.isfinite(error).any():
        raise DataError(
            f"score: no series has {horizon} rows with values to forecast, a whole horizon"
        )
    return -float(np.nanmean(error))
