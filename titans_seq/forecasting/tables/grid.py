"""Regular grids of time: frequencies, and rows as times and times as rows."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from titans_seq.exceptions import ConfigError, DataError
from titans_seq.forecasting.tables.arrays import IntArray

DAY = 86_400_000_000
"""Microseconds of a day."""

CALENDAR_STEPS = ("MS", "ME", "QS", "QE", "YS", "YE")
"""Frequencies that have no fixed length, tried in this order."""


@dataclass(frozen=True, slots=True)
class TimeGrid:
    """Times at one frequency."""

    freq: str | int
    """Pandas' name of the frequency, or the step of whole-number times."""

    @property
    def fixed(self) -> int | None:
        """Length of a step, in microseconds or whole numbers; None if steps vary."""
        return _fixed(self.freq)

    def ordinals(self, times: pd.Index) -> IntArray:
        """Return times as numbers that sort and subtract: whole numbers, or microseconds.

        Days and weeks are counted on the clock of the time zone, shorter steps on UTC.
        """
        if not isinstance(times, pd.DatetimeIndex):
            return np.asarray(times, dtype=np.int64)
        local = times.tz is not None and (self.fixed is None or self.fixed % DAY == 0)
        numbers = times.tz_localize(None) if local else times
        ordinals: IntArray = numbers.as_unit("us").asi8
        return ordinals

    def positions(self, times: pd.Index) -> IntArray:
        """Return the row of each time, counted from the first; -1 for one off the grid.

        Parameters
        ----------
        times
            Of one series, in rising order.
        """
        if self.fixed is not None:
            ahead = self.ordinals(times) - self.ordinals(times[:1])
            steps, rest = np.divmod(ahead, self.fixed)
            return np.where(rest == 0, steps, -1)
        whole = pd.date_range(times[0], times[-1], freq=self.freq).as_unit("us")
        if len(whole) == 0 or whole[0] != times[0]:
            return np.full(len(times), -1, dtype=np.int64)
        return np.asarray(whole.get_indexer(times), dtype=np.int64)

    def rows_until(self, first: Any, last: Any) -> int:
        """Return how many rows there are from ``first`` to ``last``, both included."""
        if isinstance(self.freq, int):
            return max(0, (int(last) - int(first)) // self.freq + 1)
        if self.fixed is None:
            return len(pd.date_range(first, last, freq=self.freq))
        ends = self.ordinals(pd.DatetimeIndex([first, last]))
        return max(0, int(ends[1] - ends[0]) // self.fixed + 1)

    def times(self, first: Any, begin: int, end: int) -> pd.Index:
        """Return the times of rows ``begin`` to ``end`` (without it) after ``first``."""
        if isinstance(self.freq, int):
            return pd.Index(int(first) + self.freq * np.arange(begin, end, dtype=np.int64))
        steps = np.arange(begin, end, dtype=np.int64)
        if self.fixed is None:
            return pd.date_range(first, periods=end, freq=self.freq)[begin:].as_unit("us")
        local = first.tz is not None and self.fixed % DAY == 0
        start = first.tz_localize(None) if local else first
        ordinals = int(start.as_unit("us").asm8.view("int64")) + steps * self.fixed
        times = pd.DatetimeIndex(ordinals.view("datetime64[us]"))
        if first.tz is None:
            return times
        if not local:
            return times.tz_localize("UTC").tz_convert(first.tz)
        return times.tz_localize(
            first.tz, nonexistent="shift_forward", ambiguous=np.zeros(len(times), dtype=bool)
        )


@functools.lru_cache(maxsize=64)
def _fixed(freq: str | int) -> int | None:
    """Return the length of a step, as :attr:`TimeGrid.fixed` does."""
    if isinstance(freq, int):
        return freq
    offset = pd.tseries.frequencies.to_offset(freq)
    if isinstance(offset, pd.offsets.Tick):
        return int(pd.Timedelta(offset) // pd.Timedelta(1, "us"))
    if isinstance(offset, pd.offsets.Day):
        return int(offset.n) * DAY
    return 7 * int(offset.n) * DAY if isinstance(offset, pd.offsets.Week) else None


def infer_grid(
    times: pd.Index,
    codes: IntArray,
    freq: str | int | None,
    column: str | None,
    source: str,
) -> TimeGrid:
    """Return the grid of a frame: as given, or as the longest series shows it.

    Raises
    ------
    ConfigError
        If ``freq`` is no frequency, or not one for this kind of times.
    DataError
        If none can be inferred.
    """
    stamps = isinstance(times, pd.DatetimeIndex)
    if freq is not None:
        if stamps == isinstance(freq, int):
            kind = "time stamps" if stamps else "whole numbers"
            raise ConfigError(f"freq={freq!r} does not fit column {column!r}, which holds {kind}")
        return TimeGrid(freq if isinstance(freq, int) else _checked(freq))
    longest = np.flatnonzero(codes == np.bincount(codes).argmax())
    own = times[longest].sort_values().unique()
    if len(own) < 2:
        raise DataError(
            f"{source}: no frequency can be inferred from one row in column {column!r}; give freq"
        )
    if not stamps:
        return TimeGrid(int(_commonest(np.diff(own.to_numpy()))))
    return TimeGrid(_infer(pd.DatetimeIndex(own)))


def _infer(times: pd.DatetimeIndex) -> str:
    """Return the frequency of rising times, among which some may be missing."""
    whole = pd.infer_freq(times) if len(times) > 2 else None
    if whole is not None:
        return str(whole)
    step = int(_commonest(np.diff(times.as_unit("us").asi8)))
    if step <= 27 * DAY:
        return _name(step)
    for name in CALENDAR_STEPS:
        if pd.DatetimeIndex(times).normalize().equals(times) and all(
            pd.tseries.frequencies.to_offset(name).is_on_offset(time) for time in times
        ):
            return name
    return _name(step)


def _name(step: int) -> str:
    """Return pandas' name of a step in microseconds."""
    if step % DAY == 0:
        return f"{step // DAY}D"
    return str(pd.tseries.frequencies.to_offset(pd.Timedelta(step, unit="us")).freqstr)


def _checked(freq: str) -> str:
    try:
        return str(pd.tseries.frequencies.to_offset(freq).freqstr)
    except (ValueError, AttributeError) as error:
        raise ConfigError(
            f"freq={freq!r} is no frequency of pandas, like 'h', '15min' or 'D'"
        ) from error


def _commonest(steps: IntArray) -> np.int64:
    values, counts = np.unique(steps, return_counts=True)
    commonest: np.int64 = values[counts.argmax()]
    return commonest
