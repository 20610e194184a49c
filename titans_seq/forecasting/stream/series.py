"""Series of a stream: ids, scales, last times, and the parsing of new rows onto their grids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from torch import Tensor

from titans_seq.exceptions import DataError
from titans_seq.forecasting.predicting.results import joined_times
from titans_seq.forecasting.stream.rows import StreamRows, rows_of_panel
from titans_seq.forecasting.tables.ahead import extend
from titans_seq.forecasting.tables.arrays import IntArray
from titans_seq.forecasting.tables.frames import (
    ColumnRoles,
    FrameLocation,
    has_ids,
    read_series,
    read_times,
)
from titans_seq.forecasting.tables.grid import TimeGrid
from titans_seq.forecasting.tables.panel import Preprocess
from titans_seq.forecasting.tables.prepare import Data, as_frame, table_for_prediction
from titans_seq.forecasting.tables.table import Table


class NewRows(NamedTuple):
    """Parsed rows that continue a stream."""

    series: IntArray
    """Position in the stream of each series that has new rows."""

    rows: StreamRows
    ids: list[Any]
    """Id of each row, series after series."""

    times: pd.Index
    """Time of each row."""

    last: list[Any]
    """Time of the last row of each of these series."""


@dataclass(frozen=True, slots=True)
class StreamSeries:
    """The series of a stream, and the last time that each has read."""

    preprocess: Preprocess
    """Preprocessing learnt in training, with the ids and scales of these series."""

    columns: ColumnRoles
    """Roles of the columns, without static covariates: these are in the state."""

    keys: list[Any]
    """Id of each series in the frames' id column."""

    last: list[Any]
    """Time of the last row of each series."""

    @classmethod
    def from_table(
        cls, table: Table, preprocess: Preprocess, columns: ColumnRoles, scales: Any
    ) -> Self:
        """Return the series of a table, as they are after its rows."""
        preprocess = replace(
            preprocess, ids=list(table.ids), scales=[list(map(float, pair)) for pair in scales]
        )
        last = [
            table.times(series, int(rows) - 1, int(rows))[0]
            for series, rows in enumerate(table.lengths())
        ]
        return cls(preprocess, replace(columns, static=()), list(table.keys), last)

    @property
    def ids(self) -> list[Any]:
        """Return the id of each series."""
        return self.preprocess.ids

    def parse_new(self, data: Data) -> NewRows:
        """Check and parse rows after the last ones; skipped times become missing rows.

        Raises
        ------
        DataError
            If a row has an unknown series, is not after the last row of its series, or cannot
            be used; the message names the row.
        """
        frame = self._as_frame(data)
        if self.columns.time is not None:
            frame = self._with_last_rows(frame)
        names = list(self.preprocess.categories)
        table = table_for_prediction(frame, self.columns, self.preprocess.freq, names, "rows")
        # With a time column the table starts at the last row that was read: skip it.
        skipped = 0 if self.columns.time is None else 1
        positions = self.find(table.ids)
        panel = self.preprocess.panel(table, self.columns)
        begins = (table.starts[:-1] + skipped).tolist()
        rows = rows_of_panel(panel, self.preprocess, begins, table.starts[1:].tolist())
        lengths = table.lengths() - skipped
        times = [
            table.grid.times(self._next_time(int(series)), 0, int(count))
            for series, count in zip(positions, lengths, strict=True)
        ]
        ids = np.repeat(np.array(table.ids, dtype=object), lengths).tolist()
        last = [series_times[-1] for series_times in times]
        return NewRows(positions, rows, ids, joined_times(times), last)

    def after(self, new: NewRows) -> StreamSeries:
        """Return the series as they are after new rows."""
        last = list(self.last)
        for series, time in zip(new.series, new.last, strict=True):
            last[int(series)] = time
        return replace(self, last=last)

    def ahead(self, horizon: int, future: pd.DataFrame | None) -> tuple[StreamRows, list[pd.Index]]:
        """Return the next rows of every series, as far as they are known, and their times.

        Raises
        ------
        DataError
            If ``future`` lacks a covariate known ahead.
        """
        table = extend(self._last_rows(self.columns), horizon, self.columns, future)
        times = [table.times(series, 1, 1 + horizon) for series in range(len(self.ids))]
        return self._after_first(table, self.columns), times

    def slots_ahead(self, horizon: int) -> Tensor:
        """Return the slots of the next rows of every series, (series, horizon, tables)."""
        columns = replace(self.columns, past=(), future=())
        table = extend(self._last_rows(columns), horizon, columns, None)
        return self._after_first(table, columns).slots

    def _last_rows(self, columns: ColumnRoles) -> Table:
        """Return a table of the last row of every series, without its values."""
        series = len(self.ids)
        missing: dict[str, npt.NDArray[Any]] = {
            name: np.full(series, None, dtype=object)
            if name in self.preprocess.categories
            else np.full(series, np.nan)
            for name in columns.covariates
        }
        return Table(
            ids=self.ids,
            keys=self.keys,
            grid=TimeGrid(self.preprocess.freq),
            first=self.last,
            starts=np.arange(series + 1),
            present=np.ones(series, dtype=bool),
            target=np.full(series, np.nan),
            varying=missing,
            static={},
        )

    def _after_first(self, table: Table, columns: ColumnRoles) -> StreamRows:
        """Return the rows after the first of every series of a table."""
        panel = self.preprocess.panel(table, columns)
        begins = (table.starts[:-1] + 1).tolist()
        return rows_of_panel(panel, self.preprocess, begins, table.starts[1:].tolist())

    def select(self, positions: IntArray) -> StreamSeries:
        """Return some of the series."""
        preprocess = replace(
            self.preprocess,
            ids=[self.ids[position] for position in positions],
            scales=[self.preprocess.scales[position] for position in positions],
        )
        keys = [self.keys[position] for position in positions]
        last = [self.last[position] for position in positions]
        return StreamSeries(preprocess, self.columns, keys, last)

    def concat(self, other: StreamSeries) -> StreamSeries:
        """Return these series followed by others."""
        preprocess = replace(
            self.preprocess,
            ids=[*self.ids, *other.ids],
            scales=[*self.preprocess.scales, *other.preprocess.scales],
        )
        keys, last = [*self.keys, *other.keys], [*self.last, *other.last]
        return StreamSeries(preprocess, self.columns, keys, last)

    def _next_time(self, series: int) -> Any:
        """Return the time after the last row of a series."""
        return TimeGrid(self.preprocess.freq).times(self.last[series], 1, 2)[0]

    def find(self, ids: Sequence[Any]) -> IntArray:
        """Return the position of each id.

        Raises
        ------
        DataError
            If an id is not in the stream.
        """
        known = {name: position for position, name in enumerate(self.ids)}
        for name in ids:
            if name not in known:
                raise DataError(
                    f"rows: series {name!r} is not in this stream, which has "
                    f"{', '.join(map(repr, self.ids[:5]))}; add it with its history first"
                )
        return np.array([known[name] for name in ids], dtype=np.int64)

    def _as_frame(self, data: Data) -> pd.DataFrame:
        """Return a frame; the times of an array continue from the last row."""
        frame = as_frame(data, self.columns, "rows")
        if isinstance(data, pd.DataFrame) or self.columns.time is None:
            return frame
        steps = frame[self.columns.time]
        positions = self.find(frame[self.columns.id].tolist())
        step = self.preprocess.freq if isinstance(self.preprocess.freq, int) else 1
        last = np.array([self.last[position] for position in positions])
        return frame.assign(**{self.columns.time: last + step * (steps + 1)})

    def _with_last_rows(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the frame with an empty row at the last time of each series appended.

        From that row on the grid is continuous, so skipped times become missing rows.
        """
        assert self.columns.time is not None
        if frame.empty:
            raise DataError("rows: has no rows")
        location = FrameLocation(frame, "rows")
        with_ids = has_ids(frame, self.columns)
        names, codes = read_series(frame, self.columns, location)
        positions = [0]
        if with_ids:
            keys = {key: series for series, key in enumerate(self.keys)}
            positions = [
                keys[name] if name in keys else int(self.find([name])[0]) for name in names
            ]
        times = read_times(frame, self.columns.time, codes, location)
        last = pd.Index([self.last[position] for position in positions])
        if isinstance(times, pd.DatetimeIndex) != isinstance(last, pd.DatetimeIndex) or (
            isinstance(times, pd.DatetimeIndex) and (times.tz is None) != (last.tz is None)
        ):
            raise DataError(
                f"{location.source}: column {self.columns.time!r} holds {times[0]!r}, "
                f"but the times of the stream are like {last[0]!r}"
            )
        early = np.asarray(times <= last.take(codes))
        if early.any():
            row = int(early.argmax())
            raise DataError(
                f"{location.row(row)}: series {names[codes[row]]!r} has time {times[row]}, which "
                f"is not after {last[codes[row]]}, the last one of the stream"
            )
        last_rows = pd.DataFrame({self.columns.time: last})
        if with_ids:
            last_rows[self.columns.id] = names
        frame_with_last = pd.concat(
            [frame.assign(**{self.columns.time: times}), last_rows], ignore_index=True
        )
        frame_with_last.attrs |= frame.attrs
        return frame_with_last
