from __future__ import annotations

import pandas as pd
import pytest

from titans_seq.forecasting.tables.cycles import (
    choose_cycles,
    count_slots,
    cycle_slots,
    row_by_row,
)
from titans_seq.forecasting.tables.grid import TimeGrid


@pytest.mark.parametrize(
    ("freq", "rows", "expected"),
    [
        ("15min", 96 * 30, ("time_of_day", "day_of_week")),
        ("h", 24 * 5, ("time_of_day",)),
        ("h", 24 * 2, ()),
        ("D", 28, ("day_of_week",)),
        ("D", 1200, ("day_of_week", "month_of_year")),
        ("W-SUN", 160, ("week_of_year",)),
        ("MS", 40, ("month_of_year",)),
        ("MS", 20, ()),
        ("QS-OCT", 14, ("quarter_of_year",)),
        ("YS-JAN", 30, ()),
    ],
)
def test_uses_the_cycles_that_the_rows_show(
    freq: str, rows: int, expected: tuple[str, ...]
) -> None:
    assert choose_cycles(TimeGrid(freq), pd.Timestamp("2020-01-01"), rows) == expected


def test_slots_follow_the_clock() -> None:
    times = pd.DatetimeIndex(["2024-01-01 00:00", "2024-01-01 13:30", "2024-01-07 23:45"])
    quarters = TimeGrid("15min")
    assert count_slots("time_of_day", quarters) == 96
    assert cycle_slots("time_of_day", times, quarters).tolist() == [0, 54, 95]
    assert cycle_slots("time_of_day", times, TimeGrid("h")).tolist() == [0, 13, 23]
    assert cycle_slots("day_of_week", times, quarters).tolist() == [0, 0, 6]
    for name in ("time_of_day", "day_of_week", "week_of_year", "month_of_year"):
        slots = cycle_slots(
            name, pd.date_range("2019-12-20", "2021-01-10", freq="5min"), TimeGrid("5min")
        )
        assert slots.min() == 0
        assert slots.max() < count_slots(name, TimeGrid("5min"))


def test_slots_follow_the_local_clock() -> None:
    berlin = pd.DatetimeIndex(["2024-07-01 12:00"], tz="UTC").tz_convert("Europe/Berlin")
    assert cycle_slots("time_of_day", berlin, TimeGrid("h")).tolist() == [14]


def test_of_fine_rows_several_share_a_slot_of_the_day() -> None:
    assert row_by_row("time_of_day", TimeGrid("10min"))
    assert row_by_row("time_of_day", TimeGrid("h"))
    assert not row_by_row("time_of_day", TimeGrid("5min"))
    assert not row_by_row("time_of_day", TimeGrid("7min"))
    assert not row_by_row("day_of_week", TimeGrid("D"))
