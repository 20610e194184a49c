"""ForecastStream: learn from each new row, forecast at any time, at constant cost and size."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from titans_seq.exceptions import DataError
from titans_seq.forecasting.learning.forecasts import RawForecasts
from titans_seq.forecasting.predicting.distribution import QuantileRequest
from titans_seq.forecasting.predicting.predictor import output_columns
from titans_seq.forecasting.predicting.results import forecast_frame, joined_times, time_name
from titans_seq.forecasting.stream.adapting import read_rows
from titans_seq.forecasting.stream.carried import MemorySource
from titans_seq.forecasting.stream.files import read_stream, write_stream
from titans_seq.forecasting.stream.parts import StreamParts
from titans_seq.forecasting.stream.rows import side_by_side, slots_onward
from titans_seq.forecasting.stream.series import StreamSeries
from titans_seq.forecasting.stream.state import Rows, StreamState
from titans_seq.forecasting.tables.prepare import Data, table_for_prediction
from titans_seq.forecasting.tables.table import Table

PIECE = 2_048
"""Rows, over all series, that are read at once."""


class ForecastStream:
    """One or many series that are read as they come, by memories of constant size.

    ``update`` learns in the memories only; the weights of the forecaster stay as they are.
    ``forecast`` writes nothing. Rows given one by one or many at once lead to the same state, but
    for rounding. Made by :meth:`TitansForecaster.stream`.

    Parameters
    ----------
    parts
        The trained forecaster.
    series
        Which series, and where they stand.
    state
        What has been learnt.
    """

    def __init__(self, parts: StreamParts, series: StreamSeries, state: StreamState) -> None:
        self._parts, self._series, self._state = parts, series, state
        self._read: pd.DataFrame | None = None

    @classmethod
    def begin(cls, parts: StreamParts, table: Table) -> Self:
        """Read the history of some series, from an empty memory."""
        panel = parts.preprocess.panel(table, parts.columns)
        series = StreamSeries.of(table, parts.preprocess, parts.columns, panel.scales)
        starts = table.starts.tolist()
        rows = side_by_side(panel, parts.preprocess, starts[:-1], starts[1:])
        state = parts.first(panel.static, panel.static_codes, rows)
        stream = cls(parts, series, state)
        everything = np.arange(len(table.ids))
        found = stream._learn(everything, rows, series)
        times = [table.times(one, 0, int(count)) for one, count in enumerate(table.lengths())]
        ids = np.repeat(np.array(table.ids, dtype=object), table.lengths()).tolist()
        stream._note(ids, joined_times(times), rows, found)
        return stream

    def update(self, rows: Data) -> Self:
        """Learn rows that have come.

        Parameters
        ----------
        rows
            Like the frame of ``fit`` without the static covariates: one row or many, of one
            series or many, each after the last one of its series. Times left out count as
            missing rows; a missing target is skipped. An array (series, time) goes on with the
            series of an array.

        Raises
        ------
        DataError
            If a row cannot be used; the stream then stays as it was.
        """
        new = self._series.follow(rows)
        series = self._series.moved(new)
        found = self._learn(new.places, new.rows, series)
        self._series = series
        self._note(new.ids, new.times, new.rows, found)
        return self

    def add(self, history: Data) -> Self:
        """Begin further series, with what is known of them, from an empty memory.

        Raises
        ------
        DataError
            If the data cannot be used, or a series is in the stream already.
        """
        parts = self._parts
        learnt = parts.preprocess
        names = list(learnt.categories)
        table = table_for_prediction(history, parts.columns, learnt.freq, names, "history")
        for name in table.ids:
            if name in self._series.ids:
                raise DataError(f"history: series {name!r} is in the stream already; update it")
        more = type(self).begin(parts, table)
        self._series = self._series.joined(more._series)
        self._state = self._state.joined(more._state)
        self._read = more._read
        return self

    def forecast(
        self,
        future_df: pd.DataFrame | None = None,
        *,
        ids: Sequence[Any] | None = None,
        quantiles: Sequence[float] | None = None,
        levels: Sequence[float] | None = None,
    ) -> pd.DataFrame:
        """Forecast the rows that follow the last one of each series; nothing is written.

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
            If a quantile or level is none.
        """
        parts = self._parts
        wanted = QuantileRequest.of(quantiles, levels, parts.quantiles)
        series, state = self._series, self._state
        if ids is not None:
            places = series.find(list(ids))
            series, state = series.some(places), state.take(places)
        ahead, times = series.ahead(parts.model.config.horizon, future_df)
        found = parts.model.forecast(parts.network, state, ahead)
        point, spread = (one.double().numpy() for one in found)
        raw = RawForecasts(point, spread, np.full_like(point, np.nan))
        values = output_columns(
            MemorySource(parts), raw, np.array(series.preprocess.scales), wanted
        )
        return forecast_frame(parts.columns, series.ids, joined_times(times), values)

    @property
    def surprise(self) -> pd.DataFrame:
        """How unexpected each row of the last ``update`` was, before it was learnt.

        Returns
        -------
        DataFrame
            Id, time, ``surprise`` (deviation from what was expected, 1 being usual) and
            ``p_value`` (share of the training tail that was at least as surprising); NaN
            where the target is missing.
        """
        assert self._read is not None
        return self._read.copy()

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
        """Return a hash of the state: two streams with the same one go on alike."""
        places = json.dumps([str(one) for one in (*self._series.ids, *self._series.last)])
        return hashlib.sha256((self._state.digest() + places).encode()).hexdigest()

    def copy(self) -> ForecastStream:
        """Return a stream that goes its own way from here; also a snapshot to ``restore``."""
        twin = ForecastStream(self._parts, self._series, self._state.copy())
        twin._read = self._read
        return twin

    def restore(self, snapshot: ForecastStream) -> Self:
        """Go back to a snapshot that :meth:`copy` made; it can be gone back to again.

        Raises
        ------
        DataError
            If it belongs to another forecaster.
        """
        if snapshot._parts.model is not self._parts.model:
            raise DataError("the snapshot is of a stream of another forecaster")
        self._parts = snapshot._parts
        self._series, self._state = snapshot._series, snapshot._state.copy()
        self._read = snapshot._read
        return self

    def reset(self, ids: Sequence[Any] | None = None) -> Self:
        """Forget everything about some series, or all; the times go on.

        Raises
        ------
        DataError
            If an id is not in the stream.
        """
        chosen = self._series.ids if ids is None else list(ids)
        places = self._series.find(chosen)
        state = self._state
        like = state.rows
        empty = self._parts.first(state.static[places], state.static_codes[places], like)
        self._state = state.copy().put(places, empty)
        return self

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the stream to one file, whole or not at all; it holds no code.

        The forecaster itself is saved apart, and :meth:`load` needs both.
        """
        write_stream(path, self._parts, self._series, self._state)

    @classmethod
    def load(cls, parts: StreamParts, path: str | os.PathLike[str]) -> Self:
        """Read a stream that :meth:`save` wrote.

        Raises
        ------
        BundleError
            If the file is none or damaged, or belongs to another forecaster.
        """
        series, state = read_stream(parts, path)
        stream = cls(replace(parts, adapt=state.adapted is not None), series, state)
        stream._note([], pd.Index(series.last[:0]), None, torch.zeros(0))
        return stream

    def _learn(self, places: npt.NDArray[np.int64], rows: Rows, series: StreamSeries) -> Tensor:
        """Learn rows of some series; return the surprise of each. ``series`` is after them."""
        parts, whole = self._parts, len(places) == len(self._state.count)
        state = self._state if whole and (places == np.arange(len(places))).all() else None
        own = state or self._state.take(places)
        horizon, width = parts.model.config.horizon, rows.value.shape[1]
        slots = None
        if parts.adapt:
            slots = slots_onward(rows, series.some(places).slots_ahead(horizon))
            rows = rows._replace(slots=slots[:, :width])
        found, step = [], max(1, PIECE // len(places))
        for begin in range(0, width, step):
            end = min(begin + step, width)
            reading, _ = read_rows(
                parts.model,
                parts.network,
                own,
                rows.span(begin, end),
                following=None if slots is None else slots[:, end : end + horizon],
            )
            own = reading.state
            found.append(reading.surprise)
        self._state = own if state is not None else self._state.copy().put(places, own)
        return torch.cat(found, dim=1)

    def _note(self, ids: list[Any], times: pd.Index, rows: Rows | None, found: Tensor) -> None:
        """Keep the surprise of the rows just learnt."""
        own = found if rows is None else found[rows.real]
        self._read = pd.DataFrame(
            {
                self._parts.columns.id: ids,
                time_name(self._parts.columns): times,
                "surprise": own.double().numpy(),
                "p_value": self._parts.model.p_value(own).double().numpy(),
            }
        )
