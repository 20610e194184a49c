from __future__ import annotations

import numpy as np
import pytest

from titans_seq.exceptions import DataError
from titans_seq.forecasting.scores import metrics

ACTUAL = np.array([[1.0, 2.0, np.nan], [0.0, 4.0, -2.0]])
FORECAST = np.array([[2.0, 2.0, 9.0], [0.0, 2.0, -1.0]])


def test_errors_leave_out_what_is_not_known() -> None:
    assert metrics.mse(ACTUAL, FORECAST) == pytest.approx((1 + 0 + 0 + 4 + 1) / 5)
    assert metrics.mae(ACTUAL, FORECAST) == pytest.approx((1 + 0 + 0 + 2 + 1) / 5)


def test_smape_counts_two_zeros_as_no_error() -> None:
    expected = 200 * (1 / 3 + 0 + 0 + 2 / 6 + 1 / 3) / 5
    assert metrics.smape(ACTUAL, FORECAST) == pytest.approx(expected)


def test_mase_is_in_units_of_the_seasonal_naive_forecast() -> None:
    history = np.array([1.0, 5.0, 3.0, 7.0])
    assert metrics.mase([10.0], [13.0], history, season=2) == pytest.approx(3 / 2)
    with pytest.raises(DataError, match="vary"):
        metrics.mase([1.0], [1.0], np.ones(5))


def test_pinball_of_the_median_is_half_the_absolute_error() -> None:
    quantiles = FORECAST[..., None]
    assert metrics.pinball(ACTUAL, quantiles, [0.5]) == pytest.approx(0.4)
    assert metrics.weighted_quantile_loss(ACTUAL, quantiles, [0.5]) == pytest.approx(0.8 / 1.8)


def test_pinball_punishes_the_far_side_of_a_level() -> None:
    assert metrics.pinball([10.0], [[8.0]], [0.9]) == pytest.approx(1.8)
    assert metrics.pinball([10.0], [[12.0]], [0.9]) == pytest.approx(0.2)


def test_coverage_counts_the_ends() -> None:
    assert metrics.coverage([1.0, 2.0, 3.0, np.nan], [1.0, 0, 4, 0], [2.0, 2, 5, 9]) == (
        pytest.approx(2 / 3)
    )


@pytest.mark.parametrize(
    ("actual", "forecast", "match"),
    [([1.0, 2.0], [1.0], "shape"), ([np.nan], [1.0], "nothing to score")],
)
def test_refuses_what_cannot_be_scored(
    actual: list[float], forecast: list[float], match: str
) -> None:
    with pytest.raises(DataError, match=match):
        metrics.mse(actual, forecast)
    with pytest.raises(DataError, match=r"shape|nothing"):
        metrics.pinball(actual, np.ones((len(forecast), 1)), [0.5])
