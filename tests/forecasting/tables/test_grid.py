from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from titans_seq.exceptions import ConfigError, DataError
from titans_seq.forecasting.tables.grid import TimeGrid, infer_grid


def _infer(times: pd.Index) -> TimeGrid:
    return infer_grid(times, np.zeros(len(times), dtype=np.int64), None, "ds", "frame")


@pytest.mark.parametrize("freq", ["10min", "h", "D", "W-SUN", "MS", "ME", "QS-OCT", "YS-JAN", "B"])
def test_infers_the_frequency_and_goes_on_in_it(freq: str) -> None:
    times = pd.date_range("2023-01-01", periods=40, freq=freq).as_unit("us")
    grid = _infer(times[:30])
    assert np.array_equal(grid.positions(times[:30]), np.arange(30))
    assert list(grid.times(times[0], 30, 40)) == list(times[30:])


@pytest.mark.parametrize("freq", ["h", "D", "MS"])
def test_missing_rows_do_not_hide_the_frequency(freq: str) -> None:
    times = pd.date_range("2023-01-01", periods=40, freq=freq).as_unit("us")
    kept = np.delete(np.arange(40), [3, 4, 17, 30])
    assert np.array_equal(_infer(times[kept]).positions(times[kept]), kept)


def test_days_are_counted_on_the_local_clock_when_summer_time_begins() -> None:
    days = pd.date_range("2024-03-29", periods=5, freq="D", tz="Europe/Berlin").as_unit("us")
    grid = _infer(days)
    assert np.array_equal(grid.positions(days), np.arange(5))
    assert list(grid.times(days[0], 3, 5)) == list(days[3:])


def test_hours_are_counted_through_the_change_to_summer_time() -> None:
    hours = pd.date_range("2024-03-30 20:00", periods=12, freq="h", tz="Europe/Berlin")
    grid = _infer(hours.as_unit("us"))
    assert np.array_equal(grid.positions(hours.as_unit("us")), np.arange(12))
    assert list(grid.times(hours[0], 8, 12)) == list(hours[8:])


def test_whole_numbers_step_by_their_commonest_difference() -> None:
    grid = _infer(pd.Index([0, 5, 10, 20, 25]))
    assert grid.freq == 5
    assert grid.times(0, 6, 8).tolist() == [30, 35]


def test_a_time_off_the_grid_has_no_position() -> None:
    times = pd.DatetimeIndex(["2024-01-01 00:00", "2024-01-01 01:00", "2024-01-01 01:37"])
    assert TimeGrid("h").positions(times).tolist() == [0, 1, -1]


def test_one_row_shows_no_frequency() -> None:
    with pytest.raises(DataError, match="no frequency can be inferred from one row"):
        _infer(pd.DatetimeIndex(["2024-01-01"]))


@pytest.mark.parametrize(("freq", "match"), [("fortnight", "no frequency"), (3, "does not fit")])
def test_refuses_a_frequency_that_is_none(freq: str | int, match: str) -> None:
    times = pd.date_range("2024-01-01", periods=3, freq="h")
    with pytest.raises(ConfigError, match=match):
        infer_grid(times, np.zeros(3, dtype=np.int64), freq, "ds", "frame")
