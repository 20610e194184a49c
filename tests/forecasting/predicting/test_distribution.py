from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from titans_seq.exceptions import ConfigError
from titans_seq.forecasting.predicting.distribution import (
    Distribution,
    QuantileRequest,
    normal_scores,
)


@pytest.mark.parametrize("levels", [(0.1, 0.9), (0.1, 0.5, 0.9), (0.02, 0.3, 0.4, 0.8)])
def test_quantiles_of_a_normal_give_the_normal_again(levels: tuple[float, ...]) -> None:
    rng = np.random.default_rng(0)
    mean, deviation = rng.normal(size=(3, 5, 1)), rng.uniform(0.5, 2, size=(3, 5, 1))
    found = Distribution.of(mean[..., 0], norm.ppf(levels, mean, deviation), levels)
    wanted = np.array([0.001, 0.1, 0.25, 0.5, 0.77, 0.9, 0.999])
    np.testing.assert_allclose(
        found.at(normal_scores(wanted)[None]), norm.ppf(wanted, mean, deviation), rtol=1e-9
    )


def test_scores_and_values_undo_each_other() -> None:
    rng = np.random.default_rng(1)
    quantiles = np.sort(rng.normal(size=(4, 6, 5)), axis=-1)
    found = Distribution.of(quantiles[..., 2], quantiles, (0.05, 0.2, 0.5, 0.7, 0.95))
    actual = 3 * rng.normal(size=(4, 6))
    scores = found.scores(actual)
    np.testing.assert_allclose(found.at(scores[..., None])[..., 0], actual, rtol=1e-9)


@pytest.mark.parametrize("levels", [(), (0.5,), (0.9,)])
def test_without_two_levels_the_spread_is_that_of_the_series(levels: tuple[float, ...]) -> None:
    point = np.zeros((2, 3))
    quantiles = np.full((2, 3, len(levels)), 4.0)
    found = Distribution.of(point, quantiles, levels).at(normal_scores((0.1, 0.9))[None])
    np.testing.assert_allclose(np.diff(found, axis=-1), 2 * norm.ppf(0.9))
    if levels:
        at_level = Distribution.of(point, quantiles, levels).at(normal_scores(levels)[None])
        np.testing.assert_allclose(at_level, 4.0)


def test_equal_quantiles_and_missing_values_do_no_harm() -> None:
    found = Distribution.of(np.zeros((1, 2)), np.zeros((1, 2, 3)), (0.1, 0.5, 0.9))
    scores = found.scores(np.array([[0.0, np.nan]]))
    assert np.isfinite(scores[0, 0])
    assert np.isnan(scores[0, 1])


def test_columns_name_quantiles_and_intervals() -> None:
    wanted = QuantileRequest.of((0.9, 0.1), (95, 80), ())
    assert wanted.columns() == {
        "y_pred-q0.1": 0.1, "y_pred-q0.9": 0.9, "y_pred-lo-80": 0.1, "y_pred-hi-80": 0.9,
        "y_pred-lo-95": 0.025, "y_pred-hi-95": 0.975,
    }  # fmt: skip
    assert wanted.all() == (0.025, 0.1, 0.9, 0.975)
    assert QuantileRequest.of(None, None, (0.5,)).all() == (0.5,)


@pytest.mark.parametrize(
    ("quantiles", "levels", "match"),
    [
        ((0.1, 1.0), None, "between 0 and 1"),
        (None, (0.8, 100), "between 0 and 100"),
        ((0.1, 0.1), None, "must differ from each other"),
        (("low",), None, "must be numbers"),
    ],
)
def test_what_is_no_quantile_is_refused(quantiles: object, levels: object, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        QuantileRequest.of(quantiles, levels, ())
