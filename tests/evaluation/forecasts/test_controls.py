import numpy as np
import pandas as pd
import pytest

from titans_seq.evaluation.forecasts.controls import (
    LastValueControl,
    LeastSquaresControl,
    SeasonalNaiveControl,
    forecast_controls,
)
from titans_seq.evaluation.forecasts.series import Series

HOUR = pd.Timedelta(hours=1)


def series(values, future=None, step=HOUR):
    values = np.asarray(values, dtype=float)
    future = np.zeros((len(values), 0)) if future is None else np.asarray(future, dtype=float)
    return Series(name="a", values=values, future=future, step=step)


def test_last_value_repeats_the_value_before_the_start():
    forecast = LastValueControl(3).forecast(series([1, 2, 3, 4]), np.array([2, 3]))
    np.testing.assert_array_equal(forecast, [[2, 2, 2], [3, 3, 3]])


def test_a_missing_last_value_counts_as_the_mean():
    forecast = LastValueControl(2).forecast(series([1, np.nan, 3]), np.array([2]))
    np.testing.assert_array_equal(forecast, [[0, 0]])


def test_seasonal_naive_repeats_the_season_beyond_its_length():
    control = SeasonalNaiveControl(5, season=3)
    control.fit([series(range(10))], [10])
    np.testing.assert_array_equal(
        control.forecast(series(range(10)), np.array([6])), [[3, 4, 5, 3, 4]]
    )


@pytest.mark.parametrize(
    ("period", "step", "season"),
    [(24, "1h", 24), (168, "1h", 168), (96, "15min", 96), (7, "1D", 7), (12, "30D", 12)],
)
def test_the_season_is_the_one_that_fits_the_train_rows(period, step, season):
    generator = np.random.default_rng(0)
    values = np.tile(generator.normal(size=period), 2000 // period + 2)
    values = values + 0.1 * generator.normal(size=len(values))
    control = SeasonalNaiveControl(10)
    control.fit([series(values, step=pd.Timedelta(step))], [len(values)])
    assert control.season == season
    assert control.name == f"seasonal naive, {season} rows"


@pytest.mark.parametrize("step", [None, pd.Timedelta(seconds=1)])
def test_without_a_usual_season_the_last_value_is_repeated(step):
    rows = series(range(50), step=step)
    control = SeasonalNaiveControl(4)
    control.fit([rows], [40])
    starts = np.array([40, 41])
    np.testing.assert_array_equal(
        control.forecast(rows, starts), LastValueControl(4).forecast(rows, starts)
    )


def test_a_season_longer_than_the_train_rows_is_not_chosen():
    control = SeasonalNaiveControl(4)
    control.fit([series(np.sin(np.arange(100)))], [100])
    assert control.season == 24


def test_least_squares_learns_a_linear_recurrence_exactly():
    values = np.zeros(300)
    values[:2] = 1, 0.5
    for time in range(2, 300):
        values[time] = 1.8 * values[time - 1] - 0.9999 * values[time - 2]
    control = LeastSquaresControl(6, 4, penalty=1e-9)
    control.fit([series(values)], [200])
    starts = np.arange(200, 295)
    expected = values[starts[:, None] + np.arange(6)]
    np.testing.assert_allclose(control.forecast(series(values), starts), expected, atol=1e-4)


def test_least_squares_reads_what_is_known_ahead():
    known = np.random.default_rng(0).normal(size=(400, 1))
    rows = series(3 * known[:, 0] + 1, known)
    control = LeastSquaresControl(5, 2, known_ahead=True, penalty=1e-9)
    control.fit([rows], [300])
    starts = np.arange(300, 396)
    expected = rows.values[starts[:, None] + np.arange(5)]
    np.testing.assert_allclose(control.forecast(rows, starts), expected, atol=1e-6)


def test_the_normalised_one_follows_a_level_that_it_never_saw():
    wave = np.sin(np.arange(600) * 2 * np.pi / 12)
    control = LeastSquaresControl(6, 24, normalised=True, penalty=1e-6)
    control.fit([series(wave)], [400])
    starts = np.arange(450, 590)
    expected = (wave + 50)[starts[:, None] + np.arange(6)]
    np.testing.assert_allclose(control.forecast(series(wave + 50), starts), expected, atol=1e-3)


def test_least_squares_learns_from_train_rows_alone():
    values = np.random.default_rng(0).normal(size=200)
    changed = values.copy()
    changed[150:] = 100
    one, other = LeastSquaresControl(3, 5), LeastSquaresControl(3, 5)
    one.fit([series(values)], [150])
    other.fit([series(changed)], [150])
    np.testing.assert_array_equal(one.weights, other.weights)


def test_windows_with_a_missing_target_are_left_out_of_training():
    values = np.sin(np.arange(300) / 3)
    with_gap = values.copy()
    with_gap[100:104] = np.nan
    control = LeastSquaresControl(3, 8, penalty=1e-6)
    control.fit([series(with_gap)], [200])
    assert np.isfinite(control.weights).all()


def test_the_usual_ones_add_what_is_known_ahead_only_where_there_is_any():
    assert len(forecast_controls(3, 8, known_ahead=False)) == 4
    assert forecast_controls(3, 8, known_ahead=True)[-1].name.endswith("known ahead")
