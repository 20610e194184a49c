from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from titans_seq.forecasting.scores.seasons import SeasonalNaive, season_of
from titans_seq.forecasting.tables.grid import TimeGrid


@pytest.mark.parametrize(
    ("freq", "season"),
    [("h", 24), ("30min", 48), ("7min", 1), ("D", 7), ("B", 5), ("2D", 1), ("W-SUN", 52),
     ("MS", 12), ("ME", 12), ("QS-OCT", 4), ("YE-DEC", 1), ("2MS", 1), (1, 1), (7, 1)],
)  # fmt: skip
def test_the_usual_season_of_a_frequency(freq: str | int, season: int) -> None:
    assert season_of(TimeGrid(freq)) == season


def test_repeats_the_season_before_each_origin_and_nothing_later() -> None:
    values = np.arange(20.0)
    control = SeasonalNaive.learn(values[:8], 3)
    found = control.point(values, np.array([8, 11]), 5)
    np.testing.assert_array_equal(found, [[5, 6, 7, 5, 6], [8, 9, 10, 8, 9]])
    values[11:] = -1
    np.testing.assert_array_equal(found, control.point(values, np.array([8, 11]), 5))


def test_a_missing_value_is_taken_from_a_season_before_or_is_the_last_known() -> None:
    values = np.array([1.0, 2, 3, 4, np.nan, np.nan, 0, 0])
    found = SeasonalNaive.learn(values[:6], 3).point(values, np.array([6]), 3)
    np.testing.assert_array_equal(found, [[4, 2, 3]])
    short = np.array([np.nan, 7.0, np.nan, 0])
    found = SeasonalNaive.learn(short[:3], 24).point(short, np.array([3]), 2)
    np.testing.assert_array_equal(found, [[7, 7]])


def test_scale_and_quantiles_follow_the_changes_between_seasons() -> None:
    rng = np.random.default_rng(0)
    values = np.cumsum(rng.normal(scale=3, size=50_000))
    control = SeasonalNaive.learn(values, 1)
    assert control.scale == pytest.approx(3 * np.sqrt(2 / np.pi), rel=0.02)
    spread = control.quantiles(np.zeros((1, 4)), (0.1, 0.9))[0]
    wanted = 3 * np.sqrt([1, 2, 3, 4])[:, None] * norm.ppf([0.1, 0.9])
    np.testing.assert_allclose(spread, wanted, rtol=0.02)


@pytest.mark.parametrize("values", [[2.0], [5.0, 5.0, 5.0], [np.nan, 1.0], [1.0, 1.0 + 1e-15]])
def test_a_history_that_says_nothing_has_no_scale(values: list[float]) -> None:
    assert np.isnan(SeasonalNaive.learn(np.array(values), 1).scale)
