"""Cycles of the calendar, as categories known ahead: time of day, day of the week and so on."""

from __future__ import annotations

import numpy as np
import pandas as pd

from titans_seq.forecasting.tables.arrays import IntArray
from titans_seq.forecasting.tables.grid import DAY, TimeGrid

FINEST_SLOTS = 144
"""Slots of a day, at most: ten minutes each."""

_ROUNDS = 3
"""A cycle is used if the training rows span it this many times; fewer cannot show it."""

LENGTHS = {
    "time_of_day": DAY,
    "day_of_week": 7 * DAY,
    "week_of_year": 365 * DAY,
    "month_of_year": 365 * DAY,
    "quarter_of_year": 365 * DAY,
}
"""Length of each cycle in microseconds."""

SLOTS = {"day_of_week": 7, "week_of_year": 53, "month_of_year": 12, "quarter_of_year": 4}
"""Categories of each cycle but the day, whose slots follow the frequency."""


def choose_cycles(grid: TimeGrid, first: object, rows: int) -> tuple[str, ...]:
    """Return the cycles that a series of this length shows.

    Parameters
    ----------
    grid
        Its frequency; whole-number times have no calendar.
    first
        Time of its first row.
    rows
        How many training rows it has.
    """
    if isinstance(grid.freq, int) or rows < 2:
        return ()
    times = grid.times(first, 0, rows)
    span = grid.ordinals(times)
    length = int(span[-1] - span[0])
    step = length / (rows - 1)
    fitting = []
    if step < DAY:
        fitting.append("time_of_day")
    if step < 2 * DAY:
        fitting += ["day_of_week", "month_of_year"]
    elif step < 20 * DAY:
        fitting.append("week_of_year")
    elif step < 80 * DAY:
        fitting.append("month_of_year")
    elif step < 200 * DAY:
        fitting.append("quarter_of_year")
    return tuple(name for name in fitting if length >= _ROUNDS * LENGTHS[name] - 2 * step)


def count_slots(name: str, grid: TimeGrid) -> int:
    """Return how many categories a cycle has."""
    if name == "time_of_day":
        assert grid.fixed is not None
        return max(1, min(FINEST_SLOTS, DAY // grid.fixed))
    return SLOTS[name]


def row_by_row(name: str, grid: TimeGrid) -> bool:
    """Return whether each row of a cycle has a slot of its own."""
    fixed = grid.fixed
    return name == "time_of_day" and fixed is not None and fixed * count_slots(name, grid) == DAY


def cycle_slots(name: str, times: pd.DatetimeIndex, grid: TimeGrid) -> IntArray:
    """Return the category of each time, from 0, on the clock of its time zone."""
    if name == "time_of_day":
        local = times.tz_localize(None) if times.tz is not None else times
        passed = local.as_unit("us").asi8 % DAY
        return np.asarray(passed * count_slots(name, grid) // DAY, dtype=np.int64)
    numbers = {
        "day_of_week": lambda: times.dayofweek,
        "week_of_year": lambda: times.isocalendar().week.to_numpy() - 1,
        "month_of_year": lambda: times.month - 1,
        "quarter_of_year": lambda: times.quarter - 1,
    }
    return np.asarray(numbers[name](), dtype=np.int64)
