"""A forecaster with memory does all that one with a window does, and never looks ahead."""

from __future__ import annotations

import json
import pickle
from itertools import pairwise
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit

from titans_seq.exceptions import ConfigError, DataError
from titans_seq.forecasting import TitansForecaster
from titans_seq.forecasting.stream import rolling

pytestmark = pytest.mark.slow

SMALL = {"horizon": 6, "context_length": None, "dim": 8, "max_epochs": 1, "random_state": 0}
LEVELS = (50, 80)
KEYS = ["unique_id", "ds"]


@pytest.fixture(scope="module")
def ragged(frame: pd.DataFrame) -> pd.DataFrame:
    """Series of unlike length, the second with rows and values missing."""
    missing = frame["ds"].isin(frame["ds"].unique()[120:127])
    some = frame.assign(y=frame["y"].mask(missing & (frame["unique_id"] == "b")))
    keep = (some["unique_id"] == "b") | (some["ds"] < some["ds"].iloc[330])
    return some[keep & ~((some["unique_id"] == "b") & (some["ds"] == some["ds"].iloc[200]))]


@pytest.fixture
def fitted(remembering: TitansForecaster) -> TitansForecaster:
    return remembering


def _alike(one: pd.DataFrame, two: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(
        one.reset_index(drop=True), two.reset_index(drop=True), rtol=1e-3, atol=2e-3
    )


def test_predict_is_what_a_stream_forecasts(fitted: TitansForecaster, ragged: pd.DataFrame) -> None:
    _alike(fitted.predict(ragged), fitted.stream(ragged).forecast())
    wanted = {"quantiles": (0.05,), "levels": LEVELS}
    found = fitted.predict(ragged, **wanted)
    _alike(found, fitted.stream(ragged).forecast(**wanted))
    assert list(found)[2:] == [
        "y_pred", "y_pred-q0.05", "y_pred-lo-50", "y_pred-hi-50", "y_pred-lo-80", "y_pred-hi-80",
    ]  # fmt: skip
    rising = found[["y_pred-q0.05", "y_pred-lo-80", "y_pred-lo-50", "y_pred-hi-50"]]
    assert (np.diff(rising.to_numpy()) > 0).all()


def test_all_of_the_past_is_read(fitted: TitansForecaster, frame: pd.DataFrame) -> None:
    whole, short = fitted.predict(frame), fitted.predict(frame.groupby("unique_id").tail(96))
    assert not np.allclose(whole["y_pred"], short["y_pred"])


def test_windows_are_what_predict_says_at_each_cutoff(
    fitted: TitansForecaster, ragged: pd.DataFrame
) -> None:
    windows = fitted.forecast_windows(ragged, start=290, stride=17)
    assert sorted(set(windows.ids)) == ["a", "b"]
    for place, (name, cutoff) in enumerate(zip(windows.ids, windows.cutoffs, strict=True)):
        past = ragged[(ragged["unique_id"] == name) & (ragged["ds"] <= cutoff)]
        expected = fitted.predict(past)
        close = {"rtol": 1e-3, "atol": 2e-3}
        np.testing.assert_allclose(windows.point[place], expected["y_pred"], **close)
        np.testing.assert_allclose(windows.quantiles[place, :, 0], expected["y_pred-q0.1"], **close)


def test_nothing_after_a_cutoff_is_read(fitted: TitansForecaster, frame: pd.DataFrame) -> None:
    cutoff = frame["ds"].unique()[309]
    wild = frame.assign(y=frame["y"].where(frame["ds"] <= cutoff, 1e4 * np.sin(frame.index)))
    one, two = (fitted.forecast_windows(each, start=310, end=316) for each in (frame, wild))
    np.testing.assert_array_equal(one.point, two.point)
    np.testing.assert_array_equal(one.quantiles, two.quantiles)
    unknown = {"a": "c", "b": "d"}  # series that must be scaled by their own past
    one, two = (
        fitted.forecast_windows(
            each.assign(unique_id=each["unique_id"].map(unknown)), start=310, end=316
        )
        for each in (frame, wild)
    )
    np.testing.assert_array_equal(one.point, two.point)


@pytest.mark.parametrize(("piece", "together"), [(1, 64), (7, 1), (50, 2), (100_000, 64)])
def test_every_split_forecasts_the_same(
    fitted: TitansForecaster,
    ragged: pd.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
    piece: int,
    together: int,
) -> None:
    rows = ragged.groupby("unique_id").head(140)
    whole = fitted.forecast_windows(rows, start=100, stride=5)
    monkeypatch.setattr(rolling, "ROWS_AT_ONCE", piece)
    monkeypatch.setattr(rolling, "STREAMS_AT_ONCE", together)
    parts = fitted.forecast_windows(rows, start=100, stride=5)
    np.testing.assert_allclose(parts.point, whole.point, rtol=1e-3, atol=2e-3)
    np.testing.assert_allclose(parts.quantiles, whole.quantiles, rtol=1e-3, atol=5e-3)


def test_a_reset_memory_has_read_one_look_back(
    fitted: TitansForecaster, frame: pd.DataFrame
) -> None:
    cut = frame.groupby("unique_id").head(320)
    reset = fitted.forecast_windows(cut, start=314, reset=True)
    expected = fitted.predict(cut.groupby("unique_id").head(314).groupby("unique_id").tail(96))
    np.testing.assert_allclose(reset.point.ravel(), expected["y_pred"], rtol=1e-3, atol=2e-3)
    carried = fitted.forecast_windows(cut, start=314)
    assert not np.allclose(reset.point, carried.point)
    early = frame.groupby("unique_id").head(20)  # shorter than a look-back: the same thing
    one, two = (fitted.forecast_windows(early, start=5, reset=each) for each in (True, False))
    np.testing.assert_allclose(one.point, two.point, rtol=1e-3, atol=2e-3)


def test_no_window_at_all_is_no_forecast(fitted: TitansForecaster, frame: pd.DataFrame) -> None:
    found = fitted.forecast_windows(frame.groupby("unique_id").head(20), start=18)
    assert found.point.shape == (0, 6)
    assert found.quantiles.shape == (0, 6, 3)
    with pytest.raises(DataError, match="no series has 6 rows with values to forecast"):
        fitted.score(frame[frame["ds"] == frame["ds"].unique()[300]])


def test_a_window_has_nothing_to_reset(forecaster: TitansForecaster, frame: pd.DataFrame) -> None:
    one, two = (forecaster.forecast_windows(frame, start=380, reset=each) for each in (True, False))
    np.testing.assert_array_equal(one.point, two.point)


def test_backtest_forecasts_what_predict_would_have(
    fitted: TitansForecaster, frame: pd.DataFrame
) -> None:
    found = fitted.backtest(frame, windows=3, step=10, levels=LEVELS)
    assert found.windows == 6
    assert found.seen_windows == 0
    for (name, cutoff), own in found.forecasts.groupby(["unique_id", "cutoff"]):
        past = frame[(frame["unique_id"] == name) & (frame["ds"] <= cutoff)]
        expected = fitted.predict(past, levels=LEVELS)
        for column in ("y_pred", "y_pred-lo-80", "y_pred-hi-50"):
            np.testing.assert_allclose(own[column], expected[column], rtol=1e-3, atol=2e-3)
    assert found.summary().notna().all(axis=None)
    again = fitted.backtest(frame.groupby("unique_id").head(90), windows=2, refit="once")
    assert again.seen_windows == 0
    assert again.windows == 4


def test_score_goes_on_from_the_rows_of_fit(fitted: TitansForecaster, frame: pd.DataFrame) -> None:
    times = frame["ds"].unique()
    later = frame[frame["ds"].isin(times[300:318])]
    errors = []
    for begin, end in pairwise((300, 306, 312, 318)):
        past, observed = (
            frame[frame["ds"] < times[begin]],
            frame[frame["ds"].isin(times[begin:end])],
        )
        found = fitted.predict(past).merge(observed, on=KEYS, validate="1:1")
        scale = found["unique_id"].map(fitted.scale_std_)
        errors.append(((found["y_pred"] - found["y"]) / scale) ** 2)
    assert fitted.score(later) == pytest.approx(-np.concatenate(errors).mean(), rel=1e-3)


def test_samples_and_intervals_are_calibrated(
    fitted: TitansForecaster, frame: pd.DataFrame
) -> None:
    assert fitted.calibration_ is not None
    paths = fitted.sample(frame, n=3000, random_state=1)
    wanted = fitted.predict(frame, quantiles=(0.1, 0.8))
    both = paths.merge(wanted, on=KEYS, suffixes=("", "-predicted"))
    for level in (0.1, 0.8):
        below = both["y_pred"] < both[f"y_pred-q{level}"]
        assert (below.groupby([both[key] for key in KEYS]).mean() - level).abs().max() < 0.03
    one, two = (fitted.sample(frame, n=2, random_state=3) for _ in range(2))
    pd.testing.assert_frame_equal(one, two)


def test_intervals_hold_what_they_say() -> None:
    rng = np.random.default_rng(0)
    noise = rng.gamma(2.0, 1.0, (2, 1800)) * np.array([[1.0], [30.0]])
    few = TitansForecaster(**SMALL | {"quantiles": ()}).fit(noise[:, :1200], val_size=600)
    few.set_params(quantiles=(0.1, 0.9))
    found = few.forecast_windows(noise, start=1200)
    inside = (found.quantiles[..., 0] <= found.actual) & (found.actual <= found.quantiles[..., 1])
    assert 0.74 < inside.mean() < 0.87


def test_without_a_calibration_samples_are_refused(frame: pd.DataFrame) -> None:
    bare = TitansForecaster(**SMALL).fit(frame.groupby("unique_id").head(90), calibrate=False)
    assert bare.calibration_ is None
    with pytest.raises(DataError, match="samples need a calibration"):
        bare.sample()
    with pytest.raises(ConfigError, match="levels"):
        bare.predict(levels=(120,))
    with pytest.raises(ConfigError, match="quantiles"):
        bare.stream().forecast(quantiles=(2,))


def test_the_picture_is_drawn(
    fitted: TitansForecaster, frame: pd.DataFrame, tmp_path: Path
) -> None:
    figure = fitted.plot(frame, path=tmp_path / "f.png", levels=LEVELS)
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    expected = fitted.predict(frame)["y_pred"][:6]
    np.testing.assert_allclose(lines["forecast"].get_ydata(), expected)


def test_it_is_kept_by_save_pickle_joblib_and_clone(
    fitted: TitansForecaster, frame: pd.DataFrame, tmp_path: Path
) -> None:
    wanted = fitted.predict(frame, levels=LEVELS)
    fitted.save(tmp_path / "model")
    joblib.dump(fitted, tmp_path / "forecaster.joblib")
    for again in (
        TitansForecaster.load(tmp_path / "model"),
        joblib.load(tmp_path / "forecaster.joblib"),
        pickle.loads(pickle.dumps(fitted)),
    ):
        assert again.get_params() == fitted.get_params()
        pd.testing.assert_frame_equal(again.predict(frame, levels=LEVELS), wanted, rtol=1e-5)
        one, two = (each.sample(frame, n=2, random_state=0) for each in (again, fitted))
        pd.testing.assert_frame_equal(one, two, rtol=1e-5)
    bare = clone(fitted)
    assert bare.get_params() == fitted.get_params()
    assert not hasattr(bare, "memories_")


def test_a_window_is_searched_for_beside_the_memories(frame: pd.DataFrame) -> None:
    search = GridSearchCV(
        TitansForecaster(**SMALL),
        {"context_length": [None, 12]},
        cv=TimeSeriesSplit(2),
        error_score="raise",
        refit=False,
    )
    search.fit(frame.sort_values("ds", ignore_index=True).head(240))
    assert (search.cv_results_["mean_test_score"] < 0).all()
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_a_folder_from_another_device_forecasts_here(
    fitted: TitansForecaster, frame: pd.DataFrame, tmp_path: Path
) -> None:
    fitted.save(tmp_path / "model")
    head = json.loads((tmp_path / "model" / "config.json").read_text())
    head["config"]["device"] = "cuda:3"  # the only word of a device in the whole folder
    (tmp_path / "model" / "config.json").write_text(json.dumps(head))
    weights = (tmp_path / "model" / "model.safetensors").read_bytes()
    described = weights[8 : 8 + int.from_bytes(weights[:8], "little")].decode()
    keys = {key for one in json.loads(described).values() for key in one}
    assert keys <= {"dtype", "shape", "data_offsets", "format"}
    loaded = TitansForecaster.load(tmp_path / "model")
    assert loaded.device == "cuda:3"
    pd.testing.assert_frame_equal(loaded.predict(frame), fitted.predict(frame))
    assert loaded.stream(frame).digest() == fitted.stream(frame).digest()
