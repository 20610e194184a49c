"""Simple forecasts of a task."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from titans_seq.evaluation.boards.baselines import (
    fill_forward,
    seasonal_naive_quantiles,
    statistical_forecaster,
)
from titans_seq.evaluation.boards.records import BoardTask, NaiveIntervals
from titans_seq.evaluation.boards.scoring import BOARD_LEVELS, score_quantiles
from titans_seq.evaluation.boards.windows import BoardWindow

NORMAL, NONE = NaiveIntervals(kind="normal"), NaiveIntervals(kind="none")


def test_the_last_season_is_repeated() -> None:
    history = np.array([9.0, 1, 2, 3, 4, 5, 6])
    found = seasonal_naive_quantiles(history, 5, 3, NONE)
    assert found.shape == (5, 9)
    assert found[:, 0].tolist() == found[:, 8].tolist() == [4, 5, 6, 4, 5]


def test_a_history_shorter_than_a_season_repeats_its_last_value() -> None:
    assert seasonal_naive_quantiles(np.array([1.0, 2]), 3, 3, NORMAL)[:, 4].tolist() == [2, 2, 2]


def test_intervals_widen_with_every_season_ahead() -> None:
    history = np.random.default_rng(0).normal(size=50)
    found = seasonal_naive_quantiles(history, 5, 2, NORMAL)
    spread = np.sqrt(np.mean((history[2:] - history[:-2]) ** 2))
    width = found[:, 8] - found[:, 4]
    np.testing.assert_allclose(width, spread * norm.ppf(0.9) * np.sqrt([1, 1, 2, 2, 3]))


def test_only_the_last_rows_may_say_how_wide() -> None:
    history = np.r_[np.random.default_rng(0).normal(size=50), np.tile([0.0, 1.0], 10)]
    found = seasonal_naive_quantiles(history, 2, 2, NaiveIntervals(kind="normal", rows=20))
    assert np.ptp(found, axis=1).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("history", "filled"),
    [
        ([np.nan, 1, np.nan, np.nan, 2, np.nan], [1, 1, 1, 1, 2, 2]),
        ([np.nan] * 2, [0, 0]),
        ([], []),
    ],
)
def test_gaps_take_the_value_before_them(history: list[float], filled: list[float]) -> None:
    assert fill_forward(np.array(history, dtype=float)).tolist() == filled


def test_statistics_find_a_trend_that_repeats() -> None:
    pytest.importorskip("statsforecast")
    task = BoardTask(name="t", datasets=("d",), horizon=4, season=4)
    time = np.arange(44)
    rng = np.random.default_rng(0)
    windows = []
    for number in range(2):
        values = 10 + time + 5 * np.sin(np.pi / 2 * time) + 0.1 * rng.normal(size=44)
        windows.append(BoardWindow(f"s{number}", 0, values[:40], values[40:]))
    found = statistical_forecaster("AutoETS")(task, windows)
    assert found.shape == (2, 4, len(BOARD_LEVELS))
    assert (np.diff(found, axis=-1) >= 0).all()
    assert score_quantiles(windows, found, 4)["mase"] < 0.2
