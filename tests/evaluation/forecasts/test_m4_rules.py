import math

import numpy as np
import pytest

from titans_seq.evaluation.forecasts.m4_rules import (
    is_seasonal,
    naive2,
    score_m4,
    score_m4_controls,
    seasonal_factors,
    smoothed_level,
    theta,
)


def _series(rows: int, season: int, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    times = np.arange(rows)
    factors = 1 + 0.5 * np.sin(2 * np.pi * times / season)
    return (50 + 0.1 * times) * factors + draw.normal(size=rows)


def test_errors_are_means_over_series_of_the_competition_s_definitions() -> None:
    actual = np.array([[1.0, 4.0], [2.0, 2.0]])
    forecast = np.array([[3.0, 4.0], [2.0, 6.0]])
    past = np.array([1.0, 2.0, 4.0, 7.0])
    for season, scale in ((1, 2.0), (2, 4.0)):
        scores = score_m4([past, past], actual, forecast, season)
        assert scores["smape"] == pytest.approx(200 * (2 / 4 + 4 / 8) / 4)
        assert scores["mase"] == pytest.approx((2 / 2 + 4 / 2) / 2 / scale)


@pytest.mark.parametrize("season", [4, 5])
def test_the_season_is_that_of_classical_decomposition(season: int) -> None:
    past = _series(3 * season + 2, season)
    half = season // 2
    ratios = {}
    for t in range(half, len(past) - half):
        span = past[t - half : t + half + 1]
        ends = 0.5 * (span[0] + span[-1]) + span[1:-1].sum() if season % 2 == 0 else span.sum()
        ratios.setdefault(t % season, []).append(past[t] / (ends / season))
    figure = [np.mean(ratios[place]) for place in range(season)]
    expected = [figure[t % season] / np.mean(figure) for t in range(len(past))]
    np.testing.assert_allclose(seasonal_factors(past, season), expected)


def _season_is_believed(past: np.ndarray, season: int) -> bool:
    mean, size = past.mean(), len(past)

    def correlation(lag: int) -> float:
        pairs = zip(past[lag:], past[: size - lag], strict=True)
        return sum((a - mean) * (b - mean) for a, b in pairs) / sum((past - mean) ** 2)

    known = [correlation(lag) for lag in range(1, season + 1)]
    bound = 1.645 * math.sqrt((1 + 2 * sum(one**2 for one in known[:-1])) / size)
    return abs(known[-1]) > bound


@pytest.mark.parametrize("seed", range(6))
def test_a_season_is_believed_beyond_chance_only(seed: int) -> None:
    noise = np.random.default_rng(seed).normal(size=40) + 10
    assert is_seasonal(noise, 4) == _season_is_believed(noise, 4)
    wave = _series(40, 4, seed)
    assert is_seasonal(wave, 4)
    assert _season_is_believed(wave, 4)
    assert not is_seasonal(wave[:11], 4)
    assert not is_seasonal(wave, 1)
    assert not is_seasonal(np.ones(40), 4)


def test_naive_2_puts_the_season_back() -> None:
    past = _series(48, 12)
    factors = seasonal_factors(past, 12)
    told = naive2(past, 15, 12)
    level = past[-1] / factors[-1]
    np.testing.assert_allclose(told, [level * factors[36 + step % 12] for step in range(15)])
    np.testing.assert_array_equal(naive2(past, 3, 1), np.repeat(past[-1], 3))


def test_theta_goes_on_with_half_the_trend_of_a_line() -> None:
    line = 3 + 2.0 * np.arange(20)
    told = theta(line, 4, 1)
    assert told[0] == pytest.approx((line[-1] + 2 + smoothed_level(line)) / 2)
    np.testing.assert_allclose(np.diff(told), 1.0)
    values = np.random.default_rng(0).normal(size=30).cumsum()

    def sum_of_squares(rate: float) -> tuple[float, float]:
        level, total = values[0], 0.0
        for value in values[1:]:
            total += (value - level) ** 2
            level += rate * (value - level)
        return total, level

    best = min(sum_of_squares(rate) for rate in np.linspace(0.001, 0.999, 999))
    assert smoothed_level(values) == pytest.approx(best[1], abs=0.01)


def test_the_reference_has_an_owa_of_one() -> None:
    histories = [_series(40, 4, seed) for seed in range(3)]
    found = score_m4_controls(histories, np.full((3, 5), 50.0), 4)
    assert found["Naive 2"]["owa"] == 1
    last = found["last value"]
    ratios = [last[name] / found["Naive 2"][name] for name in ("smape", "mase")]
    assert last["owa"] == pytest.approx(np.mean(ratios))
