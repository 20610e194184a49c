"""One number for searches: how good the forecasts of what follows the training rows are."""

from __future__ import annotations

import numpy as np

from titans_seq.exceptions import DataError
from titans_seq.forecasting.learning.windows import index_windows
from titans_seq.forecasting.predicting.predictor import Predictor
from titans_seq.forecasting.tables.arrays import IntArray
from titans_seq.forecasting.tables.table import Table


def mean_score(predictor: Predictor, table: Table, begins: IntArray) -> float:
    """Return minus the mean squared error of one whole horizon after the other, scaled.

    Parameters
    ----------
    predictor
        A trained one.
    table
        Series, those that were trained on from their rows of ``fit`` on.
    begins
        Row from which each series is to be forecast; where it is 0, half the rows are only
        looked back on, at most a look-back.

    Raises
    ------
    DataError
        If nowhere a whole horizon is left.
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
