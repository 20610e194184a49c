"""Adaptation: the bias of the gate moves where it should, and nowhere else."""

from __future__ import annotations

from copy import copy
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from titans_seq.forecasting import TitansForecaster
from titans_seq.forecasting.stream import ForecastStream
from titans_seq.forecasting.stream.adaptation import (
    ADAPT_EVERY,
    ADAPT_RATE,
    MAX_BIAS,
    MAX_BIAS_STEP,
    AdaptationState,
    biased_weights,
)

pytestmark = pytest.mark.slow

HORIZON = 6
CLOSE = {"rtol": 2e-3, "atol": 2e-3}


def _parts(frame: pd.DataFrame, cuts: list[int]) -> list[pd.DataFrame]:
    times = frame["ds"].unique()
    return [frame[frame["ds"].isin(times[a:b])] for a, b in pairwise([0, *cuts, len(times)])]


def _assert_close(one: ForecastStream, two: ForecastStream) -> None:
    first, second = one._state.to_tensors(), two._state.to_tensors()
    assert set(first) == set(second)
    for name, held in first.items():
        np.testing.assert_allclose(held, second[name], err_msg=name, **CLOSE)


def _update(
    adapted: AdaptationState, forecast: list[float], logs: list[float], observed: float, count: int
) -> float:
    """Store forecasts of the experts and learn from the observation; return the forecast."""
    shape = (1, len(forecast), HORIZON)
    forecasts = np.broadcast_to(np.float32(forecast)[None, :, None], shape)
    weights = np.broadcast_to(np.float32(logs)[None, :, None], shape)
    every = np.array([True])
    adapted.enqueue(forecasts, weights, np.array([count - HORIZON]), every)
    shares = biased_weights(torch.tensor(weights).exp(), torch.tensor(adapted.trust))
    adapted.learn(
        forecasts[:, 0], np.full((1, HORIZON), observed, np.float32), np.array([count]), every
    )
    return float((shares * torch.tensor(forecasts)).sum(1)[0, 0])


def test_a_step_follows_the_gradient_of_the_squared_error() -> None:
    source = np.random.default_rng(0)
    adapted = AdaptationState.initial(2, 3, HORIZON)
    adapted.trust = source.standard_normal((2, 3)).astype(np.float32)
    forecast = 0.2 * source.standard_normal((2, 3, HORIZON)).astype(np.float32)
    logs = torch.log_softmax(torch.tensor(source.standard_normal((2, 3, HORIZON))), 1).float()
    observed = 0.2 * source.standard_normal((2, HORIZON)).astype(np.float32)
    observed[0, 2] = np.nan
    trust = torch.tensor(adapted.trust, requires_grad=True)
    point = (torch.softmax(logs + trust[..., None], 1) * torch.tensor(forecast)).sum(1)
    missed = torch.nan_to_num(point - torch.tensor(observed)) * torch.tensor(np.isfinite(observed))
    (slope,) = torch.autograd.grad(missed.square().mean(1).sum(), trust)
    both, count = np.array([True, True]), np.array([2 * ADAPT_EVERY, 2 * ADAPT_EVERY])
    adapted.enqueue(forecast, logs.numpy(), count - HORIZON, both)
    before = adapted.trust.copy()
    adapted.learn(forecast[:, 0], observed, count, both)
    expected = before - ADAPT_RATE * slope.numpy() / adapted.errors[:, 2:]
    expected -= expected.mean(1, keepdims=True)
    np.testing.assert_allclose(adapted.trust, expected, rtol=1e-4, atol=1e-6)


def test_the_bias_moves_to_the_best_expert_and_back_when_another_is_best() -> None:
    adapted = AdaptationState.initial(1, 2, HORIZON)
    logs = [float(np.log(0.9)), float(np.log(0.1))]
    source = np.random.default_rng(0)
    errors: dict[int, list[float]] = {0: [], 1: []}
    for number in range(1, 401):
        observed = float(source.standard_normal())
        right = int(number <= 200)  # expert 1, and then expert 0 as in training
        forecast = [
            observed + float(source.standard_normal()),
            observed + float(source.standard_normal()),
        ]
        forecast[right] = observed + 0.1 * float(source.standard_normal())
        found = _update(adapted, forecast, logs, observed, number * ADAPT_EVERY)
        errors[right].append((found - observed) ** 2)
        assert np.abs(adapted.trust).max() <= MAX_BIAS
    assert np.mean(errors[1][:10]) > 0.2  # nine tenths of the weight on a bad expert
    assert np.mean(errors[1][-50:]) < 0.05
    assert np.mean(errors[0][-50:]) < 0.1
    assert adapted.lessons[0] == 400


def test_a_returning_bias_takes_the_better_of_the_anchor_and_zero() -> None:
    adapted = AdaptationState.initial(3, 2, HORIZON)
    adapted.trust[:] = [3, -3]
    adapted.anchor[:] = [1, -1]
    adapted.since[:] = 100
    adapted.errors = np.float32([[2, 1, 3], [2, 3, 1], [0.5, 1, 1]])
    adapted._return_or_anchor(np.arange(3))
    np.testing.assert_array_equal(adapted.trust, [[1, -1], [0, 0], [3, -3]])
    np.testing.assert_array_equal(adapted.anchor, [[1, -1], [0, 0], [3, -3]])
    np.testing.assert_array_equal(adapted.errors[:, 0], [1, 1, 0.5])
    np.testing.assert_array_equal(adapted.share, [0.5, 0.5, 1])


def test_one_update_is_bounded_and_missing_observations_change_nothing() -> None:
    adapted = AdaptationState.initial(1, 2, HORIZON)
    for number, observed in enumerate((1e6, -1e6, 1e6), start=1):
        before = adapted.trust.copy()
        _update(adapted, [1e6, -1e3], [-0.1, -2.0], observed, number * ADAPT_EVERY)
        assert np.abs(adapted.trust - before).max() <= MAX_BIAS_STEP + 1e-6
        assert np.isfinite(adapted.errors).all()
    before = adapted.copy()
    _update(adapted, [1.0, 2.0], [-1.0, -1.0], np.nan, 4 * ADAPT_EVERY)
    for name in ("trust", "anchor", "errors", "lessons"):
        np.testing.assert_array_equal(getattr(adapted, name), getattr(before, name))


@pytest.mark.parametrize("cuts", [[1], [37], [5, 6, 50], list(range(1, 45))])
def test_any_split_of_the_rows_adapts_the_same(
    forecaster: TitansForecaster, later: pd.DataFrame, cuts: list[int]
) -> None:
    whole, parts = forecaster.stream(adapt=True), forecaster.stream(adapt=True)
    whole.update(later)
    for part in _parts(later, cuts):
        parts.update(part)
    _assert_close(whole, parts)
    pd.testing.assert_frame_equal(whole.forecast(), parts.forecast(), **CLOSE)
    assert whole._state.adapted is not None
    assert (whole._state.adapted.lessons >= 40).all()
    assert (np.abs(whole._state.adapted.trust).max(1) > 0.01).all()


def test_ragged_rows_of_several_series_adapt_as_one_by_one(
    forecaster: TitansForecaster, later: pd.DataFrame
) -> None:
    ragged = later[(later["unique_id"] == "a") | (later["ds"] < later["ds"].iloc[31])]
    both, apart = forecaster.stream(adapt=True), forecaster.stream(adapt=True)
    both.update(ragged)
    for name in ("b", "a"):
        apart.update(ragged[ragged["unique_id"] == name])
    _assert_close(both, apart)


def test_it_is_off_by_default_and_changes_no_weight(
    forecaster: TitansForecaster, later: pd.DataFrame
) -> None:
    plain, moved = forecaster.stream().update(later), forecaster.stream(adapt=True).update(later)
    assert plain._state.adapted is None
    assert plain._frozen.fingerprint() == moved._frozen.fingerprint()
    for name, held in plain._state.to_tensors().items():
        np.testing.assert_array_equal(held, moved._state.to_tensors()[name], err_msg=name)
    assert not np.allclose(plain.forecast()["y_pred"], moved.forecast()["y_pred"], atol=1e-4)


def test_it_is_kept_with_the_state(
    forecaster: TitansForecaster, later: pd.DataFrame, tmp_path: Path
) -> None:
    early, late = _parts(later, [40])
    stream = forecaster.stream(adapt=True).update(early)
    size, digest = stream.nbytes, stream.digest()
    first = stream.forecast()
    assert stream.digest() == digest  # forecasting writes nothing
    stream.save(tmp_path / "state")
    again = forecaster.load_stream(tmp_path / "state")
    pd.testing.assert_frame_equal(again.forecast(), first, check_exact=True)
    snapshot = stream.copy()
    assert again.update(late).digest() == stream.update(late).digest() != digest
    assert stream.nbytes == size
    assert snapshot.digest() == digest
    assert stream.restore(snapshot).digest() == digest
    stream.reset(["a"])
    assert stream._state.adapted is not None
    assert stream._state.adapted.lessons.tolist() == [0, 42]


def test_a_series_that_joins_adapts_too(forecaster: TitansForecaster, frame: pd.DataFrame) -> None:
    apart = [frame[frame["unique_id"] == name] for name in ("a", "b")]
    stream = forecaster.stream(apart[0], adapt=True).add(apart[1])
    _assert_close(stream, forecaster.stream(frame, adapt=True))
    only = stream.forecast(ids=["b"])
    assert len(only) == HORIZON


@pytest.mark.parametrize("burst", [np.nan, 1e3, 1e9])
def test_a_burst_does_no_lasting_harm(
    forecaster: TitansForecaster, longer: pd.DataFrame, burst: float
) -> None:
    begin = longer["ds"].iloc[300]
    history, later = longer[longer["ds"] < begin], longer[longer["ds"] >= begin]
    calm, hit = (forecaster.stream(history, adapt=True) for _ in range(2))
    hurt = later["ds"].isin(later["ds"].unique()[100:106])
    hit.update(later.assign(y=later["y"].mask(hurt, burst)))
    calm.update(later)
    adapted = hit._state.adapted
    assert adapted is not None
    assert np.abs(adapted.trust).max() <= MAX_BIAS
    for held in adapted.arrays().values():
        assert np.isfinite(held).all()
    difference = np.abs(hit.forecast()["y_pred"] - calm.forecast()["y_pred"])
    assert difference.max() < 1.0


def test_intervals_are_as_wide_as_the_errors_of_the_experts_with_weight(
    forecaster: TitansForecaster, later: pd.DataFrame
) -> None:
    stream = forecaster.stream(adapt=True).update(later)
    errors, adapted = stream._state.errors.recent[..., 1], stream._state.adapted
    assert adapted is not None
    widths = []
    for chosen in (errors.argmin(1), errors.argmax(1)):
        adapted.trust[:] = -MAX_BIAS
        np.put_along_axis(adapted.trust, chosen[:, None], MAX_BIAS, axis=1)
        found = stream.forecast()
        widths.append((found["y_pred-q0.9"] - found["y_pred-q0.1"]).mean())
    assert widths[0] < widths[1]


def test_the_setting_holds_for_forecasts_of_every_kind(
    remembering: TitansForecaster, frame: pd.DataFrame
) -> None:
    small = copy(remembering).set_params(adapt=True)
    found = small.predict(frame)
    pd.testing.assert_frame_equal(found, small.stream(frame).forecast(), **CLOSE)
    assert not np.allclose(found["y_pred"], small.stream(frame, adapt=False).forecast()["y_pred"])
    windows = small.forecast_windows(frame, start=350, stride=13)
    for place in (0, 2):
        past = frame[(frame["unique_id"] == "a") & (frame["ds"] <= windows.cutoffs[place])]
        np.testing.assert_allclose(windows.point[place], small.predict(past)["y_pred"], **CLOSE)


def test_known_covariates_are_taken_from_the_rows_read() -> None:
    source = np.random.default_rng(0)
    plan = source.standard_normal(180)
    rows = pd.DataFrame(
        {
            "ds": pd.date_range("2024-01-01", periods=180, freq="h"),
            "y": 2 * plan + 0.1 * source.standard_normal(180),
            "plan": plan,
        }
    )
    small = TitansForecaster(
        horizon=HORIZON, context_length=24, dim=8, max_epochs=1, future=["plan"], random_state=0
    ).fit(rows[:120])
    whole, parts = (small.stream(rows[:120], adapt=True) for _ in range(2))
    whole.update(rows[120:])
    for row in range(120, 180):
        parts.update(rows[row : row + 1])
    _assert_close(whole, parts)


def test_counted_cycles_adapt_the_same_in_any_split() -> None:
    source = np.random.default_rng(0)
    values = np.sin(2 * np.pi * np.arange(260) / 13)[None] + 0.2 * source.standard_normal((2, 260))
    small = TitansForecaster(
        horizon=HORIZON, context_length=24, dim=8, max_epochs=1, random_state=0
    ).fit(values[:, :200])
    whole, parts = (small.stream(values[:, :200], adapt=True) for _ in range(2))
    whole.update(values[:, 200:])
    for row in range(200, 260):
        parts.update(values[:, row : row + 1])
    _assert_close(whole, parts)
    assert whole._state.adapted is not None
    assert (whole._state.adapted.lessons >= 20).all()
