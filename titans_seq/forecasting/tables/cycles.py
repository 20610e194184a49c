"""Cycles of the calendar as categories known ahead: time of day, day of the week and so on."""

from __future__ import annotations

import numpy as np
import pandas as pd

from titans_seq.forecasting.tables.arrays import IntArray
from titans_seq.forecasting.tables.grid import DAY, TimeGrid

FINEST_SLOTS = 144
"""Slots of a day, at most: ten minutes each."""

_ROUNDS = 3
"""A cycle is used if the training rows span it at least this many times."""

LENGTHS = {
    "time_of_day": DAY,
    "day_of_week": 7 * DAY,
    "week_of_year": 365 * DAY,
    "month_of_year": 365 * DAY,
    "quarter_of_year": 365 * DAY,
}
"""Length of each cycle in microseconds."""

SLOTS = {"day_of_week": 7, "week_of_year": 53, "month_of_year": 12, "quarter_of_year": 4}
"""Categories of each cycle but the day, whose number depends on the frequency."""


def choose_cycles(grid: TimeGrid, first: object, rows: int) -> tuple[str, ...]:
    """Return the cycles that a series of this length spans often enough.

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
    ordinals = grid.ordinals(times)
    length = int(ordinals[-1] - ordinals[0])
    step = length / (rows - 1)
    longer = []  # cycles that are longer than a step
    if step < DAY:
        longer.append("time_of_day")
    if step < 2 * DAY:
        longer += ["day_of_week", "month_of_year"]
    elif step < 20 * DAY:
        longer.append("week_of_year")
    elif step < 80 * DAY:
        longer.append("month_of_year")
    elif step < 200 * DAY:
        longer.append("quarter_of_year")
    return tuple(name for name in longer if length >= _ROUNDS * LENGTHS[name] - 2 * step)


def count_slots(name: str, grid: TimeGrid) -> int:
    """Return how many categories a cycle has."""
    if name == "time_of_day":
        assert grid.fixed is not None
        return max(1, min(FINEST_SLOTS, DAY // grid.fixed))
    return SLOTS[name]


def row_by_row(name: str, grid: TimeGrid) -> bool:
    """Return whether consecutive rows have consecutive slots of a cycle."""
    fixed = grid.fixed
    return name == "time_of_day" and fixed is not None and fixed * count_slots(name, grid) == DAY


def cycle_slots(name: str, times: pd.DatetimeIndex, grid: TimeGrid) -> IntArray:
    """Return the category of each time, from 0, in local time."""
    if name == "time_of_day":
        local = times.tz_localize(None) if times.tz is not None else times
        microseconds = local.as_unit("us").asi8 % DAY
        return np.asarray(microseconds * count_slots(name, grid) // DAY, dtype=np.int64)
    numbers = {
        "day_of_week": lambda: times.dayofweek,
        "week_of_year": lambda: times.isocalendar().week.to_numpy() - 1,
        "month_of_year": lambda: times.month - 1,
        "quarter_of_year": lambda: times.quarter - 1,
    }
    return np.asarray(numbers[name](), dtype=np.int64)
