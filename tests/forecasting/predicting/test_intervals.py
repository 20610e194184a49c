"""Quantiles, levels and samples of the estimator, calibrated or not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from titans_seq.exceptions import ConfigError, DataError
from titans_seq.forecasting import TitansForecaster

SMALL = {"horizon": 4, "context_length": 16, "dim": 8, "max_epochs": 1, "random_state": 0,
         "device": "cpu"}  # fmt: skip


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    """Two series of skewed noise around a level of their own."""
    rng = np.random.default_rng(0)
    return rng.gamma(2.0, 1.0, (2, 900)) * np.array([[1.0], [30.0]]) + np.array([[5.0], [0.0]])


@pytest.fixture(scope="module")
def fitted(noise: np.ndarray) -> TitansForecaster:
    return TitansForecaster(**SMALL).fit(noise[:, :700], val_size=200)


def _coverage(forecaster: TitansForecaster, noise: np.ndarray) -> float:
    found = forecaster.forecast_windows(noise, start=700)
    inside = (found.quantiles[..., 0] <= found.actual) & (found.actual <= found.quantiles[..., -1])
    return float(inside.mean())


def test_calibrated_intervals_hold_what_they_say(
    fitted: TitansForecaster, noise: np.ndarray
) -> None:
    assert 0.76 < _coverage(fitted, noise) < 0.84


@pytest.mark.parametrize("quantiles", [(), (0.5,), (0.4, 0.6)])
def test_any_quantiles_of_the_network_can_be_calibrated(
    noise: np.ndarray, quantiles: tuple[float, ...]
) -> None:
    forecaster = TitansForecaster(**SMALL, quantiles=quantiles).fit(noise[:, :700], val_size=200)
    forecaster.set_params(quantiles=(0.1, 0.9))
    assert 0.76 < _coverage(forecaster, noise) < 0.85


def test_levels_and_quantiles_are_the_same_forecasts(fitted: TitansForecaster) -> None:
    default = fitted.predict()
    both = fitted.predict(quantiles=(0.1, 0.3), levels=(80, 50))
    assert list(both.columns[2:]) == [
        "y_pred", "y_pred-q0.1", "y_pred-q0.3",
        "y_pred-lo-50", "y_pred-hi-50", "y_pred-lo-80", "y_pred-hi-80",
    ]  # fmt: skip
    for column in ("y_pred", "y_pred-q0.1"):
        np.testing.assert_allclose(both[column], default[column])
    np.testing.assert_allclose(both["y_pred-lo-80"], default["y_pred-q0.1"])
    np.testing.assert_allclose(both["y_pred-hi-80"], default["y_pred-q0.9"])
    rising = both[["y_pred-lo-80", "y_pred-lo-50", "y_pred-q0.3", "y_pred-hi-50", "y_pred-hi-80"]]
    assert (np.diff(rising.to_numpy()) > 0).all()
    assert list(fitted.predict(levels=[90]).columns[3:]) == ["y_pred-lo-90", "y_pred-hi-90"]
    assert list(fitted.predict(quantiles=()).columns[2:]) == ["y_pred"]


def test_calibration_changes_the_quantiles_and_not_the_expected_value(
    fitted: TitansForecaster, noise: np.ndarray
) -> None:
    bare = TitansForecaster(**SMALL).fit(noise[:, :700], val_size=200, calibrate=False)
    assert bare.calibration_ is None
    one, two = fitted.predict(), bare.predict()
    np.testing.assert_array_equal(one["y_pred"], two["y_pred"])
    assert not np.allclose(one["y_pred-q0.1"], two["y_pred-q0.1"])
    assert TitansForecaster(**SMALL).fit(noise[:, :100], val_size=0).calibration_ is None


@pytest.mark.slow
def test_samples_agree_with_the_quantiles(fitted: TitansForecaster) -> None:
    paths = fitted.sample(n=4000, random_state=1)
    assert list(paths.columns) == ["unique_id", "ds", "sample", "y_pred"]
    assert len(paths) == 2 * 4 * 4000
    found = paths.groupby(["unique_id", "ds"])["y_pred"].quantile([0.1, 0.9]).unstack()
    wanted = fitted.predict().set_index(["unique_id", "ds"])
    width = wanted["y_pred-q0.9"] - wanted["y_pred-q0.1"]
    for level in (0.1, 0.9):
        assert ((found[level] - wanted[f"y_pred-q{level}"]).abs() < 0.06 * width).all()


def test_the_same_seed_draws_the_same_paths(fitted: TitansForecaster) -> None:
    one, two, other = (fitted.sample(n=3, random_state=seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(one, two)
    assert not np.allclose(one["y_pred"], other["y_pred"])


def test_calibration_survives_saving(
    fitted: TitansForecaster, noise: np.ndarray, tmp_path: Path
) -> None:
    fitted.save(tmp_path / "model")
    loaded = TitansForecaster.load(tmp_path / "model")
    for method in ("predict", "sample"):
        options = {"random_state": 0} if method == "sample" else {"levels": (50, 95)}
        one, two = (getattr(each, method)(noise, **options) for each in (fitted, loaded))
        pd.testing.assert_frame_equal(one, two, rtol=1e-5)


def test_samples_without_a_calibration_are_refused(noise: np.ndarray) -> None:
    bare = TitansForecaster(**SMALL).fit(noise[:, :200], calibrate=False)
    with pytest.raises(DataError, match="samples need a calibration"):
        bare.sample()


def test_no_path_at_all_is_refused(fitted: TitansForecaster) -> None:
    with pytest.raises(ConfigError, match="n must be at least 1, got 0"):
        fitted.sample(n=0)
