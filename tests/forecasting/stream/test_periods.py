"""Cycles without a calendar: found where there are some, and counted alike however rows come."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch

from titans_seq.forecasting import TitansForecaster
from titans_seq.forecasting.stream.periods import counted_slots, find_periods

pytestmark = pytest.mark.slow

PERIOD = 17
ROWS = 600


def _found(*series: npt.NDArray[np.float64]) -> tuple[int, ...]:
    values = np.stack(series)
    seen = np.isfinite(values)
    return find_periods(torch.from_numpy(np.where(seen, values, 0)), torch.from_numpy(seen))


def _noise(rows: int, seed: int) -> npt.NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal(rows)


@pytest.mark.parametrize("seed", range(5))
def test_noise_and_walks_have_no_cycle(seed: int) -> None:
    noise = _noise(1_500, seed)
    assert _found(noise) == _found(np.cumsum(noise)) == ()
    assert _found(pd.Series(noise).ewm(alpha=0.1).mean().to_numpy()) == ()
    assert _found(np.zeros(100)) == _found(noise[:5]) == ()


def test_a_cycle_is_found_under_noise_trend_and_gaps() -> None:
    rows = np.arange(1_500)
    wave = np.sin(2 * np.pi * rows / 37)
    assert _found(wave + 0.5 * _noise(1_500, 0)) == (37,)
    assert _found(3 * wave + rows / 50 + np.cumsum(0.3 * _noise(1_500, 1))) == (37,)
    assert _found(np.where(_noise(1_500, 2) < -1, np.nan, wave)) == (37,)
    shape = _noise(24, 3)  # levels that have nothing to do with each other
    assert _found(shape[rows % 24] + 0.5 * _noise(1_500, 4))[-1] == 24


def test_a_cycle_of_cycles_is_found_in_series_out_of_step() -> None:
    rows = np.arange(2_000)
    day, week = 2 * _noise(24, 5), np.repeat(2 * _noise(7, 6), 24)
    series = [
        day[(rows + late) % 24] + week[(rows + late) % 168] + 0.3 * _noise(2_000, 7 + late)
        for late in (0, 5)
    ]
    assert _found(*series) == (24, 168)


def test_rows_are_counted_from_the_first() -> None:
    slots = counted_slots(torch.tensor([0, 5]), 3, (4, 6))
    assert slots.tolist() == [[[0, 0], [1, 1], [2, 2]], [[1, 5], [2, 0], [3, 1]]]


@pytest.fixture(scope="module")
def values() -> npt.NDArray[np.float64]:
    """A cycle without a calendar, drawn anew for the rows to stream."""
    shapes = 3 * _noise(2 * PERIOD, 8).reshape(2, PERIOD)
    places = np.arange(2 * ROWS)
    return shapes[places // ROWS, places % PERIOD] + 0.2 * _noise(2 * ROWS, 9)


@pytest.fixture(scope="module")
def counting(values: npt.NDArray[np.float64]) -> TitansForecaster:
    forecaster = TitansForecaster(
        horizon=6, context_length=12, dim=8, max_epochs=1, quantiles=(), random_state=0
    )
    forecaster.fit(values[None, :ROWS])
    forecaster.stream()
    return forecaster


def test_a_stream_without_a_calendar_learns_a_new_cycle_beyond_the_window(
    counting: TitansForecaster, values: npt.NDArray[np.float64]
) -> None:
    later = values[ROWS:]
    forecast = counting.stream(later[None, :-6]).forecast()["y_pred"]
    assert np.mean((forecast - later[-6:]) ** 2) < 0.5 * later.var()


def test_split_saved_and_loaded_it_counts_alike(
    counting: TitansForecaster, values: npt.NDArray[np.float64], tmp_path: Path
) -> None:
    counting.save(tmp_path / "model")
    loaded = TitansForecaster.load(tmp_path / "model")
    whole = counting.stream(values[None, ROWS:])
    parts = loaded.stream(values[None, ROWS : ROWS + 50])
    parts.update(values[None, ROWS + 50 : ROWS + 51]).save(tmp_path / "state")
    parts = loaded.load_stream(tmp_path / "state").update(values[None, ROWS + 51 :])
    first, second = whole.forecast()["y_pred"], parts.forecast()["y_pred"]
    np.testing.assert_allclose(first, second, rtol=1e-3, atol=1e-3)
    assert whole.nbytes == parts.nbytes
