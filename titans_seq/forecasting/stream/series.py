"""Which series a stream holds, and new rows of them laid on their grids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from torch import Tensor

from titans_seq.exceptions import DataError
from titans_seq.forecasting.stream.rows import side_by_side
from titans_seq.forecasting.stream.state import Rows
from titans_seq.forecasting.tables.ahead import extend
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
    """Rows that follow those of a stream."""

    places: npt.NDArray[np.int64]
    """Which series of the stream they belong to."""

    rows: Rows
    ids: list[Any]
    """Id of every row, series after series."""

    times: pd.Index
    """Time of every row."""

    last: list[Any]
    """Time of the last row of each of these series."""


@dataclass(frozen=True, slots=True)
class StreamSeries:
    """The series of a stream and where each has got to."""

    preprocess: Preprocess
    """What training learnt, with the ids and scales of these series instead of its own."""

    columns: ColumnRoles
    """Roles of the columns; those of static covariates are known already."""

    keys: list[Any]
    """Id of each series in the frames' id column."""

    last: list[Any]
    """Time of the last row of each series."""

    @classmethod
    def of(cls, table: Table, preprocess: Preprocess, columns: ColumnRoles, scales: Any) -> Self:
        """Return the series of a table, whose rows have been read."""
        own = replace(
            preprocess, ids=list(table.ids), scales=[list(map(float, pair)) for pair in scales]
        )
        last = [
            table.times(series, int(rows) - 1, int(rows))[0]
            for series, rows in enumerate(table.lengths())
        ]
        return cls(own, replace(columns, static=()), list(table.keys), last)

    @property
    def ids(self) -> list[Any]:
        """Return the id of each series."""
        return self.preprocess.ids

    def follow(self, data: Data) -> NewRows:
        """Check rows that go on from the last ones; times left out become missing rows.

        Raises
        ------
        DataError
            If a row belongs to no series of the stream, or is not after its last one, or
            cannot be used; the message names the row.
        """
        frame = self._continued(data)
        if self.columns.time is not None:
            frame = self._with_last_rows(frame)
        names = list(self.preprocess.categories)
        table = table_for_prediction(frame, self.columns, self.preprocess.freq, names, "rows")
        skipped = 0 if self.columns.time is None else 1
        places = self.find(table.ids)
        panel = self.preprocess.panel(table, self.columns)
        begins = (table.starts[:-1] + skipped).tolist()
        rows = side_by_side(panel, self.preprocess, begins, table.starts[1:].tolist())
        lengths = table.lengths() - skipped
        first = [self._after(int(place)) for place in places]
        times = [
            table.grid.times(begin, 0, int(count))
            for begin, count in zip(first, lengths, strict=True)
        ]
        ids = np.repeat(np.array(table.ids, dtype=object), lengths).tolist()
        whole = times[0].append(times[1:]) if len(times) > 1 else times[0]
        return NewRows(places, rows, ids, whole, [one[-1] for one in times])

    def moved(self, new: NewRows) -> StreamSeries:
        """Return the series after new rows."""
        last = list(self.last)
        for place, time in zip(new.places, new.last, strict=True):
            last[int(place)] = time
        return replace(self, last=last)

    def ahead(self, horizon: int, future: pd.DataFrame | None) -> tuple[Rows, list[pd.Index]]:
        """Return the next rows of every series, as far as they are known, and their times.

        Raises
        ------
        DataError
            If ``future`` lacks a covariate known ahead.
        """
        grown = extend(self._last_rows(self.columns), horizon, self.columns, future)
        return self._behind_last(grown, self.columns), [
            grown.times(one, 1, 1 + horizon) for one in range(len(self.ids))
        ]

    def slots_ahead(self, horizon: int) -> Tensor:
        """Return the slots of the next rows of every series, (series, horizon, tables)."""
        plain = replace(self.columns, past=(), future=())
        grown = extend(self._last_rows(plain), horizon, plain, None)
        return self._behind_last(grown, plain).slots

    def _last_rows(self, columns: ColumnRoles) -> Table:
        """Return a table of the last row of every series, without its values."""
        series = len(self.ids)
        blank: dict[str, npt.NDArray[Any]] = {
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
            varying=blank,
            static={},
        )

    def _behind_last(self, table: Table, columns: ColumnRoles) -> Rows:
        """Return the rows after the first of every series of a table."""
        panel = self.preprocess.panel(table, columns)
        begins = (table.starts[:-1] + 1).tolist()
        return side_by_side(panel, self.preprocess, begins, table.starts[1:].tolist())

    def some(self, places: npt.NDArray[np.int64]) -> StreamSeries:
        """Return some of the series."""
        own = self.preprocess
        chosen = replace(
            own,
            ids=[own.ids[place] for place in places],
            scales=[own.scales[place] for place in places],
        )
        keys = [self.keys[place] for place in places]
        return StreamSeries(chosen, self.columns, keys, [self.last[place] for place in places])

    def joined(self, other: StreamSeries) -> StreamSeries:
        """Return these series and then others."""
        own, more = self.preprocess, other.preprocess
        both = replace(own, ids=[*own.ids, *more.ids], scales=[*own.scales, *more.scales])
        keys, last = [*self.keys, *other.keys], [*self.last, *other.last]
        return StreamSeries(both, self.columns, keys, last)

    def _after(self, place: int) -> Any:
        """Return the time after the last row of a series."""
        return TimeGrid(self.preprocess.freq).times(self.last[place], 1, 2)[0]

    def find(self, ids: Sequence[Any]) -> npt.NDArray[np.int64]:
        """Return the place of each id.

        Raises
        ------
        DataError
            If one is not in the stream.
        """
        known = {name: place for place, name in enumerate(self.ids)}
        for name in ids:
            if name not in known:
                raise DataError(
                    f"rows: series {name!r} is not in this stream, which has "
                    f"{', '.join(repr(one) for one in self.ids[:5])}; begin one with its history"
                )
        return np.array([known[name] for name in ids], dtype=np.int64)

    def _continued(self, data: Data) -> pd.DataFrame:
        """Return a frame; the times of an array go on from the last row."""
        frame = as_frame(data, self.columns, "rows")
        if isinstance(data, pd.DataFrame) or self.columns.time is None:
            return frame
        steps = frame[self.columns.time]
        places = self.find(frame[self.columns.id].tolist())
        step = self.preprocess.freq if isinstance(self.preprocess.freq, int) else 1
        last = np.array([self.last[place] for place in places])
        return frame.assign(**{self.columns.time: last + step * (steps + 1)})

    def _with_last_rows(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the frame and, at its end, an empty row at the last time of each series."""
        assert self.columns.time is not None
        if frame.empty:
            raise DataError("rows: has no rows")
        place = FrameLocation(frame, "rows")
        named = has_ids(frame, self.columns)
        names, codes = read_series(frame, self.columns, place)
        if named:
            keys = {key: series for series, key in enumerate(self.keys)}
            places = [keys[name] if name in keys else int(self.find([name])[0]) for name in names]
        else:
            places = [0]
        times = read_times(frame, self.columns.time, codes, place)
        last = pd.Index([self.last[one] for one in places])
        if isinstance(times, pd.DatetimeIndex) != isinstance(last, pd.DatetimeIndex) or (
            isinstance(times, pd.DatetimeIndex) and (times.tz is None) != (last.tz is None)
        ):
            raise DataError(
                f"{place.source}: column {self.columns.time!r} holds {times[0]!r}, "
                f"but the times of the stream are like {last[0]!r}"
            )
        early = np.asarray(times <= last.take(codes))
        if early.any():
            row = int(early.argmax())
            raise DataError(
                f"{place.row(row)}: series {names[codes[row]]!r} has time {times[row]}, which is "
                f"not after {last[codes[row]]}, the last one of the stream"
            )
        more = pd.DataFrame({self.columns.time: last})
        if named:
            more[self.columns.id] = names
        whole = pd.concat([frame.assign(**{self.columns.time: times}), more], ignore_index=True)
        whole.attrs |= frame.attrs
        return whole
