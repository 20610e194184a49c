from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm, spearmanr

from titans_seq.exceptions import BundleError
from titans_seq.forecasting.predicting.conformal import (
    _FEWEST,
    SCORE_LEVELS,
    Calibration,
    values_at,
)
from titans_seq.forecasting.predicting.distribution import Distribution, normal_scores

THREE = (0.1, 0.5, 0.9)


def _standard(windows: int, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """Return forecasts of a standard normal, whatever comes."""
    point = np.zeros((windows, horizon))
    return point, np.broadcast_to(norm.ppf(THREE), (windows, horizon, 3))


def _learn(actual: np.ndarray, blocks: int) -> Calibration:
    found = Calibration.learn(*_standard(*actual.shape), actual, levels=THREE, blocks=blocks)
    assert found is not None
    return found


def _bounds(found: Calibration, levels: tuple[float, ...], horizon: int) -> np.ndarray:
    return values_at(Distribution.of(*_standard(1, horizon), THREE), found, levels)[0]


def test_quantiles_become_those_of_what_came_at_each_step_apart() -> None:
    rng = np.random.default_rng(0)
    deviations = np.array([0.5, 1.0, 3.0])
    found = _learn(1.0 + deviations * rng.normal(size=(20_000, 3)), 20_000)
    levels = (0.05, 0.1, 0.5, 0.75, 0.99)
    bounds = _bounds(found, levels, 3)
    wanted = 1.0 + deviations[:, None] * norm.ppf(levels)
    np.testing.assert_allclose(bounds, wanted, atol=0.15 * deviations.max())
    np.testing.assert_allclose((bounds[:, 1] - 1) / (deviations * norm.ppf(0.1)), 1, atol=0.05)


@pytest.mark.parametrize("blocks", [19, 50])
@pytest.mark.parametrize("level", [0.75, 0.9])
def test_few_windows_still_hold_what_they_promise_on_average(blocks: int, level: float) -> None:
    rng = np.random.default_rng(2)
    held = []
    for _ in range(400):
        found = _learn(rng.standard_t(3, size=(max(blocks, _FEWEST), 1)), blocks)
        (low, high), = _bounds(found, (1 - level, level), 1)  # fmt: skip
        fresh = rng.standard_t(3, size=500)
        held.append((np.mean(fresh <= high) + np.mean(fresh >= low)) / 2)
    assert level - 0.005 < np.mean(held) < level + 1.5 / blocks


def test_quantiles_never_cross_and_go_on_beyond_the_outermost() -> None:
    rng = np.random.default_rng(3)
    found = _learn(rng.normal(size=(30, 4)), 30)
    bounds = _bounds(found, (0.0001, 0.005, *SCORE_LEVELS[::7], 0.995, 0.9999), 4)
    assert (np.diff(bounds) > 0).all()


def test_a_step_with_few_values_takes_those_of_all_steps() -> None:
    rng = np.random.default_rng(4)
    actual = rng.normal(size=(200, 3))
    actual[5:, 2] = np.nan
    found = _learn(actual, 200)
    shared = _learn(actual[np.isfinite(actual)][:, None], 200)
    np.testing.assert_allclose(found.scores[2], shared.scores[0])


def test_too_few_values_give_no_calibration() -> None:
    actual = np.full((40, 2), np.nan)
    actual[: _FEWEST // 2 - 1] = 0.0
    shape = _standard(40, 2)
    assert Calibration.learn(*shape, actual, levels=THREE, blocks=40) is None


def test_paths_hang_together_as_the_errors_did_and_keep_the_quantiles() -> None:
    rng = np.random.default_rng(5)
    errors = np.cumsum(rng.normal(size=(4000, 6)), axis=1)
    found = _learn(errors, 4000)
    nominal = found.draw(2, 20_000, np.random.RandomState(0))
    assert nominal.shape == (2, 6, 20_000)
    paths = Distribution.of(*_standard(2, 6), THREE).at(found.read(nominal))
    for one, two in ((0, 1), (0, 5), (3, 4)):
        wanted = spearmanr(errors[:, one], errors[:, two])[0]
        assert spearmanr(paths[0, one], paths[0, two])[0] == pytest.approx(wanted, abs=0.04)
    levels = (0.1, 0.5, 0.9)
    drawn = np.quantile(paths[1], levels, axis=-1).T
    np.testing.assert_allclose(drawn, _bounds(found, levels, 6), atol=0.1)
    assert abs(spearmanr(paths[0, 3], paths[1, 3])[0]) < 0.03


def test_tensors_carry_everything_and_damage_is_named() -> None:
    found = _learn(np.random.default_rng(6).normal(size=(50, 3)), 7)
    tensors = found.to_tensors()
    again = Calibration.from_tensors(tensors | {"linear.weight": torch.ones(2)}, 3)
    assert again is not None
    assert again.blocks == 7
    nominal = normal_scores(THREE)[None]
    np.testing.assert_allclose(again.read(nominal), found.read(nominal), rtol=1e-6)
    assert Calibration.from_tensors({"linear.weight": torch.ones(2)}, 3) is None
    with pytest.raises(BundleError, match=r"scores must have the shape \(4, 99\)"):
        Calibration.from_tensors(tensors, 4)
    del tensors["calibration.correlation"]
    with pytest.raises(BundleError, match="correlation must have the shape"):
        Calibration.from_tensors(tensors, 3)


def test_one_window_says_nothing_of_how_steps_hang_together() -> None:
    steps = _FEWEST + 4
    found = _learn(np.random.default_rng(0).normal(size=(1, steps)), 1)
    np.testing.assert_array_equal(found.correlation, np.eye(steps))
