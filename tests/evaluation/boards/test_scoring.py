"""Scores against loops that follow their definitions, value by value."""

from __future__ import annotations

import numpy as np
import pytest

from titans_seq.evaluation.boards.scoring import BOARD_LEVELS, score_quantiles, seasonal_error
from titans_seq.evaluation.boards.windows import BoardWindow
from titans_seq.exceptions import DataError

SEASON = 3


def _problem(missing: bool) -> tuple[list[BoardWindow], np.ndarray]:
    rng = np.random.default_rng(0)
    windows = []
    for number, length in enumerate((7, 12, 30)):
        history, actual = rng.normal(size=length), rng.normal(size=4)
        if missing:
            history[number + 1], actual[number] = np.nan, np.nan
        windows.append(BoardWindow(f"s{number}", 0, history, actual))
    return windows, np.sort(rng.normal(size=(3, 4, len(BOARD_LEVELS))), axis=-1)


def _by_definition(windows: list[BoardWindow], quantiles: np.ndarray) -> dict[str, float]:
    absolute, scaled, loss, total = [], [], dict.fromkeys(BOARD_LEVELS, 0.0), 0.0
    for window, forecast in zip(windows, quantiles, strict=True):
        steps = [
            abs(window.history[t] - window.history[t - SEASON])
            for t in range(SEASON, len(window.history))
        ]
        scale = np.mean([step for step in steps if not np.isnan(step)])
        own_absolute, own_scaled = [], []
        for step, value in enumerate(window.actual):
            if np.isnan(value):
                continue
            total += abs(value)
            own_absolute.append(abs(value - forecast[step, 4]) / scale)
            losses = []
            for level, quantile in zip(BOARD_LEVELS, forecast[step], strict=True):
                below = value < quantile
                pinball = (1 - level) * (quantile - value) if below else level * (value - quantile)
                loss[level] += pinball
                losses.append(2 * pinball / scale)
            own_scaled.append(np.mean(losses))
        absolute.append(np.mean(own_absolute))
        scaled.append(np.mean(own_scaled))
    wql = np.mean([2 * loss[level] / total for level in BOARD_LEVELS])
    return {"mase": np.mean(absolute), "wql": wql, "sql": np.mean(scaled)}


@pytest.mark.parametrize("missing", [False, True])
def test_scores_follow_their_definitions(missing: bool) -> None:
    windows, quantiles = _problem(missing)
    found = score_quantiles(windows, quantiles, SEASON)
    assert found == pytest.approx(_by_definition(windows, quantiles), rel=1e-12)


def test_a_series_whose_naive_forecast_is_perfect_counts_for_wql_only() -> None:
    windows, quantiles = _problem(False)
    flat = BoardWindow("flat", 0, np.ones(9), np.full(4, 2.0))
    with_flat = score_quantiles(
        [*windows, flat], np.concatenate([quantiles, quantiles[:1]]), SEASON
    )
    without = score_quantiles(windows, quantiles, SEASON)
    assert with_flat["mase"] == without["mase"]
    assert with_flat["sql"] == without["sql"]
    assert with_flat["wql"] != without["wql"]


def test_a_perfect_forecast_scores_zero() -> None:
    windows, _ = _problem(False)
    actual = np.stack([window.actual for window in windows])
    perfect = np.repeat(actual[..., None], len(BOARD_LEVELS), axis=-1)
    assert score_quantiles(windows, perfect, SEASON) == {"mase": 0.0, "wql": 0.0, "sql": 0.0}


@pytest.mark.parametrize("length", [0, 1, SEASON])
def test_a_history_within_one_season_has_no_error(length: int) -> None:
    assert np.isnan(seasonal_error(np.arange(float(length)), SEASON))


def test_forecasts_of_another_shape_are_refused() -> None:
    windows, quantiles = _problem(False)
    with pytest.raises(DataError, match=r"must have shape \(3, 4, 9\).*got \(3, 4, 8\)"):
        score_quantiles(windows, quantiles[..., :8], SEASON)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_forecast_that_is_not_finite_is_named(value: float) -> None:
    windows, quantiles = _problem(False)
    quantiles[1, 2, 3] = value
    with pytest.raises(DataError, match="series s1, window 0: a forecast is not finite"):
        score_quantiles(windows, quantiles, SEASON)
