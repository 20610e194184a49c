"""ForecastStream: learns from each new row and forecasts at any time, at constant cost and size."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from titans_seq.exceptions import DataError
from titans_seq.forecasting.learning.forecasts import RawForecasts
from titans_seq.forecasting.predicting.distribution import QuantileRequest
from titans_seq.forecasting.predicting.predictor import output_columns
from titans_seq.forecasting.predicting.results import forecast_frame, joined_times, time_name
from titans_seq.forecasting.stream.files import read_stream, write_stream
from titans_seq.forecasting.stream.frozen import FrozenForecaster
from titans_seq.forecasting.stream.rolling import MemorySource
from titans_seq.forecasting.stream.rows import (
    ROWS_AT_ONCE,
    StreamRows,
    rows_of_panel,
    slots_with_horizon,
)
from titans_seq.forecasting.stream.series import StreamSeries
from titans_seq.forecasting.stream.state import StreamState
from titans_seq.forecasting.tables.arrays import IntArray
from titans_seq.forecasting.tables.prepare import Data, table_for_prediction
from titans_seq.forecasting.tables.table import Table


class ForecastStream:
    """One or many series, read row by row into memories of constant size.

    ``update`` learns in the memories only; the weights of the forecaster do not change.
    ``forecast`` writes nothing. Rows given one by one or many at once lead to the same state, up
    to rounding. Created by :meth:`TitansForecaster.stream`.

    Parameters
    ----------
    frozen
        The trained forecaster.
    series
        The series and their last times.
    state
        Memories of the series.
    """

    def __init__(self, frozen: FrozenForecaster, series: StreamSeries, state: StreamState) -> None:
        self._frozen, self._series, self._state = frozen, series, state
        self._surprise: pd.DataFrame | None = None

    @classmethod
    def begin(cls, frozen: FrozenForecaster, table: Table) -> Self:
        """Read the history of some series, from an empty memory."""
        panel = frozen.preprocess.panel(table, frozen.columns)
        series = StreamSeries.from_table(table, frozen.preprocess, frozen.columns, panel.scales)
        starts = table.starts.tolist()
        rows = rows_of_panel(panel, frozen.preprocess, starts[:-1], starts[1:])
        state = frozen.initial_state(panel.static, panel.static_codes, rows)
        stream = cls(frozen, series, state)
        surprise = stream._learn(np.arange(len(table.ids)), rows, series)
        lengths = table.lengths()
        times = [table.times(code, 0, int(count)) for code, count in enumerate(lengths)]
        ids = np.repeat(np.array(table.ids, dtype=object), lengths).tolist()
        stream._store_surprise(ids, joined_times(times), surprise[rows.real])
        return stream

    def update(self, rows: Data) -> Self:
        """Learn new rows.

        Parameters
        ----------
        rows
            Like the frame of ``fit`` without the static covariates: one row or many, of one
            series or many, each after the last one of its series. Skipped times count as
            missing rows; a missing target is not learnt. An array (series, time) continues the
            series of an array.

        Raises
        ------
        DataError
            If a row cannot be used; the stream then stays as it was.
        """
        new = self._series.parse_new(rows)
        series = self._series.after(new)
        surprise = self._learn(new.series, new.rows, series)
        self._series = series
        self._store_surprise(new.ids, new.times, surprise[new.rows.real])
        return self

    def add(self, history: Data) -> Self:
        """Add series: read their history, from an empty memory.

        Raises
        ------
        DataError
            If the data cannot be used, or a series is in the stream already.
        """
        frozen = self._frozen
        preprocess = frozen.preprocess
        names = list(preprocess.categories)
        table = table_for_prediction(history, frozen.columns, preprocess.freq, names, "history")
        for name in table.ids:
            if name in self._series.ids:
                raise DataError(f"history: series {name!r} is in the stream already; update it")
        added = type(self).begin(frozen, table)
        self._series = self._series.concat(added._series)
        self._state = self._state.concat(added._state)
        self._surprise = added._surprise
        return self

    def forecast(
        self,
        future_df: pd.DataFrame | None = None,
        *,
        ids: Sequence[Any] | None = None,
        quantiles: Sequence[float] | None = None,
        levels: Sequence[float] | None = None,
    ) -> pd.DataFrame:
        """Forecast the next rows of each series; nothing is written.

        Parameters
        ----------
        future_df
            Covariates known ahead at the times to forecast, if the forecaster has any.
        ids
            Series to forecast; None forecasts all.
        quantiles, levels
            As in ``predict``.

        Returns
        -------
        DataFrame
            Id, time, ``y_pred``, ``y_pred-q0.1`` and so on, as ``predict`` returns.

        Raises
        ------
        DataError
            If ``future_df`` lacks a series, time or value.
        ConfigError
            If a quantile or level is out of range.
        """
        frozen = self._frozen
        request = QuantileRequest.of(quantiles, levels, frozen.quantiles)
        series, state = self._series, self._state
        if ids is not None:
            positions = series.find(list(ids))
            series, state = series.select(positions), state.select(positions)
        ahead, times = series.ahead(frozen.model.config.horizon, future_df)
        point, own_quantiles = (
            tensor.double().numpy()
            for tensor in frozen.model.forecast(frozen.network, state, ahead)
        )
        raw = RawForecasts(point, own_quantiles, np.full_like(point, np.nan))
        values = output_columns(
            MemorySource(frozen), raw, np.array(series.preprocess.scales), request
        )
        return forecast_frame(frozen.columns, series.ids, joined_times(times), values)

    @property
    def surprise(self) -> pd.DataFrame:
        """Surprise of each row of the last ``update``, before it was learnt.

        Returns
        -------
        DataFrame
            Id, time, ``surprise`` (deviation from the forecast, 1 being usual) and ``p_value``
            (share of the last training rows that were at least as surprising); NaN where the
            target is missing.
        """
        assert self._surprise is not None
        return self._surprise.copy()

    @property
    def ids(self) -> list[Any]:
        """Ids of the series."""
        return list(self._series.ids)

    @property
    def last(self) -> dict[Any, Any]:
        """Time of the last row of each series."""
        return dict(zip(self._series.ids, self._series.last, strict=True))

    @property
    def rows(self) -> dict[Any, int]:
        """Rows that each series' memory has read."""
        return dict(zip(self._series.ids, self._state.count.tolist(), strict=True))

    @property
    def nbytes(self) -> int:
        """Size of the state in bytes; it does not grow."""
        return self._state.nbytes

    def digest(self) -> str:
        """Return a hash of the state: streams with the same digest continue identically."""
        series = json.dumps([str(value) for value in (*self._series.ids, *self._series.last)])
        return hashlib.sha256((self._state.digest() + series).encode()).hexdigest()

    def copy(self) -> ForecastStream:
        """Return an independent copy; also a snapshot for :meth:`restore`."""
        twin = ForecastStream(self._frozen, self._series, self._state.copy())
        twin._surprise = self._surprise
        return twin

    def restore(self, snapshot: ForecastStream) -> Self:
        """Return to a snapshot made by :meth:`copy`; it can be restored again.

        Raises
        ------
        DataError
            If it belongs to another forecaster.
        """
        if snapshot._frozen.model is not self._frozen.model:
            raise DataError("the snapshot is of a stream of another forecaster")
        self._frozen = snapshot._frozen
        self._series, self._state = snapshot._series, snapshot._state.copy()
        self._surprise = snapshot._surprise
        return self

    def reset(self, ids: Sequence[Any] | None = None) -> Self:
        """Empty the memory of some series, or all; their times are kept.

        Raises
        ------
        DataError
            If an id is not in the stream.
        """
        positions = self._series.find(self._series.ids if ids is None else list(ids))
        state = self._state
        empty = self._frozen.initial_state(
            state.static[positions], state.static_codes[positions], state.rows
        )
        self._state = state.copy().put(positions, empty)
        return self

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the stream to one file, atomically; it holds no code.

        The forecaster itself is saved separately, and :meth:`load` needs both.
        """
        write_stream(path, self._frozen, self._series, self._state)

    @classmethod
    def load(cls, frozen: FrozenForecaster, path: str | os.PathLike[str]) -> Self:
        """Read a stream that :meth:`save` wrote.

        Raises
        ------
        BundleError
            If the file is not a stream file, is damaged, or belongs to another forecaster.
        """
        series, state = read_stream(frozen, path)
        stream = cls(replace(frozen, adapt=state.adapted is not None), series, state)
        stream._store_surprise([], pd.Index(series.last[:0]), torch.zeros(0))
        return stream

    def _learn(self, positions: IntArray, rows: StreamRows, series: StreamSeries) -> Tensor:
        """Learn rows of some series, (series, rows); return the surprise of each.

        Parameters
        ----------
        positions
            Series of the stream that the rows belong to.
        rows
            New rows.
        series
            All series of the stream, as they are after the rows.
        """
        frozen = self._frozen
        all_in_order = np.array_equal(positions, np.arange(len(self._state.count)))
        state = self._state if all_in_order else self._state.select(positions)
        horizon, width = frozen.model.config.horizon, rows.value.shape[1]
        slots = None
        if frozen.adapt:  # forecasts after rows on the way need the slots that follow
            slots = slots_with_horizon(rows, series.select(positions).slots_ahead(horizon))
            rows = rows._replace(slots=slots[:, :width])
        surprise, step = [], max(1, ROWS_AT_ONCE // len(positions))
        for begin in range(0, width, step):
            end = min(begin + step, width)
            following = None if slots is None else slots[:, end : end + horizon]
            reading, _ = frozen.read(state, rows.span(begin, end), following=following)
            state = reading.state
            surprise.append(reading.surprise)
        self._state = state if all_in_order else self._state.copy().put(positions, state)
        return torch.cat(surprise, dim=1)

    def _store_surprise(self, ids: list[Any], times: pd.Index, surprise: Tensor) -> None:
        """Keep the surprise of the rows just learnt."""
        self._surprise = pd.DataFrame(
            {
                self._frozen.columns.id: ids,
                time_name(self._frozen.columns): times,
                "surprise": surprise.double().numpy(),
                "p_value": self._frozen.model.p_value(surprise).double().numpy(),
            }
        )
