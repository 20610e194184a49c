from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone

from titans_seq.exceptions import BundleError, ConfigError, DataError
from titans_seq.forecasting import TitansForecaster, read_frame
from titans_seq.training import seeded

ROLES = {
    "id_col": "shop",
    "time_col": "when",
    "target_col": "sold",
    "static": ["area", "town"],
    "past": ["wind", "sky"],
    "future": ["plan", "holiday"],
}
SMALL = {"horizon": 6, "context_length": 24, "dim": 8, "layers": 1, "max_epochs": 1,
         "random_state": 0, "device": "cpu"}  # fmt: skip


def _ahead(frame: pd.DataFrame, horizon: int = 6) -> pd.DataFrame:
    """Return a plan for the next rows of each series."""
    last = frame.groupby("shop")["when"].max()
    return pd.concat(
        pd.DataFrame(
            {
                "shop": name,
                "when": pd.date_range(time, periods=horizon + 1, freq="h")[1:],
                "plan": np.linspace(-1, 1, horizon),
                "holiday": "no",
            }
        )
        for name, time in last.items()
    )


@pytest.fixture(scope="module")
def waves() -> np.ndarray:
    """Three series of a day's rhythm, on scales of their own."""
    rng = np.random.default_rng(0)
    time = np.arange(160)
    rows = [np.sin(time / 4 + shift) + 0.05 * rng.normal(size=160) for shift in range(3)]
    return np.stack(rows) * np.array([[1.0], [50.0], [0.01]]) + np.array([[0.0], [1e4], [5.0]])


@pytest.fixture(scope="module")
def fitted(waves: np.ndarray) -> TitansForecaster:
    return TitansForecaster(**SMALL).fit(waves)


def test_frame_in_frame_out_with_any_names_of_columns(frame: pd.DataFrame) -> None:
    forecaster = TitansForecaster(**SMALL, **ROLES).fit(frame)
    found = forecaster.predict(future_df=_ahead(frame))
    quantiles = [f"y_pred-q{level:g}" for level in (0.1, 0.5, 0.9)]
    assert list(found.columns) == ["shop", "when", "y_pred", *quantiles]
    for name, own in found.groupby("shop"):
        last = frame.loc[frame["shop"] == name, "when"].max()
        assert list(own["when"]) == list(pd.date_range(last, periods=7, freq="h")[1:])
    steps = found[quantiles].to_numpy()
    assert (np.diff(steps) > 0).all()
    again = forecaster.predict(frame, future_df=_ahead(frame))
    pd.testing.assert_frame_equal(
        found.sort_values(["shop", "when"]), again.sort_values(["shop", "when"])
    )


@pytest.mark.slow
def test_learns_a_rhythm(waves: np.ndarray) -> None:
    settings = SMALL | {"max_epochs": 6}
    forecaster = TitansForecaster(**settings).fit(waves[:, :-6], val_size=20)
    found = forecaster.predict()["y_pred"].to_numpy().reshape(3, 6)
    error = np.abs(found - waves[:, -6:]).mean(axis=1) / waves.std(axis=1)
    assert (error < 0.35).all(), error


@pytest.mark.parametrize("column", ["plan", "holiday"])
def test_the_plan_ahead_changes_the_forecast(frame: pd.DataFrame, column: str) -> None:
    forecaster = TitansForecaster(**SMALL, **ROLES).fit(frame)
    ahead = _ahead(frame)
    other = ahead.assign(**{column: 2.0 if column == "plan" else "yes"})
    one, two = (forecaster.predict(future_df=plan)["y_pred"] for plan in (ahead, other))
    assert not np.allclose(one, two, rtol=1e-4)


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda ahead: None, "future_df is needed: it must hold plan, holiday"),
        (lambda ahead: ahead.drop(columns="plan"), "future_df: no column 'plan'"),
        (lambda ahead: ahead[ahead["shop"] != "b"], "series 'b' lacks 6 of the 6 times"),
        (lambda ahead: ahead.iloc[:-2], r"series '.' lacks 2 of the 6 times .* first 2024-01-0"),
        (
            lambda ahead: ahead.assign(plan=None),
            "column 'plan' of series '.' is empty at 2024-01-0.*, but is known ahead",
        ),
        (
            lambda ahead: pd.concat([ahead, ahead]),
            "column 'when' of series '.' holds 2024-01-0.* a second time",
        ),
    ],
)
def test_a_plan_that_lacks_something_is_refused(
    frame: pd.DataFrame, spoil: object, match: str
) -> None:
    forecaster = TitansForecaster(**SMALL, **ROLES).fit(frame)
    with pytest.raises(DataError, match=match):
        forecaster.predict(future_df=spoil(_ahead(frame)))


def test_a_stretched_and_shifted_target_gives_a_forecast_stretched_and_shifted_alike(
    waves: np.ndarray, fitted: TitansForecaster
) -> None:
    other = TitansForecaster(**SMALL).fit(waves * 8 - 16)
    before, after = (
        one.predict().filter(like="y_pred").to_numpy().reshape(3, -1) for one in (fitted, other)
    )
    scale = waves.std(axis=1, keepdims=True)
    np.testing.assert_allclose((after + 16) / 8 / scale, before / scale, atol=2e-3)


def test_the_same_random_state_gives_the_same_model_and_leaves_the_global_seed(
    waves: np.ndarray, fitted: TitansForecaster
) -> None:
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 (it is this generator that must stay untouched)
    expected = (torch.rand(1), np.random.rand())  # noqa: NPY002
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    again = TitansForecaster(**SMALL).fit(waves)
    assert (torch.rand(1), np.random.rand()) == expected  # noqa: NPY002
    pd.testing.assert_frame_equal(again.predict(), fitted.predict())
    other = TitansForecaster(**SMALL | {"random_state": 1}).fit(waves)
    assert not np.allclose(other.predict()["y_pred"], fitted.predict()["y_pred"])


def test_save_and_load_give_the_same_forecasts(
    tmp_path: Path, waves: np.ndarray, fitted: TitansForecaster
) -> None:
    fitted.save(tmp_path / "model")
    loaded = TitansForecaster.load(tmp_path / "model")
    pd.testing.assert_frame_equal(loaded.predict(waves), fitted.predict(waves))
    assert loaded.get_params() == fitted.get_params()
    assert loaded.scale_mean_ == fitted.scale_mean_
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "card.md", "config.json", "metrics.json", "model.safetensors", "preprocess.json"
    ]  # fmt: skip
    with pytest.raises(DataError, match="predict needs df"):
        loaded.predict()
    with pytest.raises(BundleError, match="exists already"):
        fitted.save(tmp_path / "model")
    fitted.save(tmp_path / "model", force=True)


def test_covariates_survive_saving(tmp_path: Path, frame: pd.DataFrame) -> None:
    forecaster = TitansForecaster(**SMALL, **ROLES).fit(frame)
    forecaster.save(tmp_path / "model")
    loaded = TitansForecaster.load(tmp_path / "model")
    plan = _ahead(frame)
    pd.testing.assert_frame_equal(loaded.predict(frame, plan), forecaster.predict(frame, plan))


def test_a_folder_that_is_no_forecaster_is_refused(
    tmp_path: Path, fitted: TitansForecaster
) -> None:
    with pytest.raises(BundleError, match="does not exist"):
        TitansForecaster.load(tmp_path / "nowhere")
    fitted.save(tmp_path / "model")
    (tmp_path / "model" / "preprocess.json").write_text("{}")
    with pytest.raises(BundleError, match="is damaged"):
        TitansForecaster.load(tmp_path / "model")


def test_every_window_is_forecast_as_predict_would(
    waves: np.ndarray, fitted: TitansForecaster
) -> None:
    found = fitted.forecast_windows(waves, stride=7, start=100, end=130)
    assert found.ids.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert found.cutoffs.tolist() == [99, 106, 113, 120] * 3
    for row in (0, 6, 11):
        series, cutoff = found.ids[row], found.cutoffs[row]
        assert np.allclose(found.actual[row], waves[series, cutoff + 1 : cutoff + 7])
        alone = fitted.predict(waves[:, : cutoff + 1])
        own = alone[alone["unique_id"] == series]
        np.testing.assert_allclose(found.point[row], own["y_pred"], rtol=1e-5)
        np.testing.assert_allclose(found.quantiles[row, :, 0], own["y_pred-q0.1"], rtol=1e-5)


def test_nothing_after_the_cutoff_is_used(waves: np.ndarray, fitted: TitansForecaster) -> None:
    scrambled = waves.copy()
    scrambled[:, 110:] = -1e6
    one = fitted.forecast_windows(waves, start=110, end=116)
    two = fitted.forecast_windows(scrambled, start=110, end=116)
    np.testing.assert_array_equal(one.point, two.point)


def test_missing_values_and_rows_are_masked(waves: np.ndarray, fitted: TitansForecaster) -> None:
    long = pd.DataFrame({"unique_id": 0, "ds": np.arange(160), "y": waves[0]})
    gone = long["ds"].isin([140, 141, 150])
    blank = long.assign(y=long["y"].mask(gone))
    pd.testing.assert_frame_equal(fitted.predict(blank), fitted.predict(long[~gone]))
    found = fitted.forecast_windows(blank, start=138, end=144)
    assert np.isnan(found.actual[0]).tolist() == [False, False, True, True, False, False]


def test_an_unknown_series_and_a_short_one_have_a_forecast(fitted: TitansForecaster) -> None:
    other = pd.DataFrame({"unique_id": ["new"] * 5, "ds": np.arange(5), "y": [7.0, 8, 7, 8, 7]})
    found = fitted.predict(other)
    assert found["y_pred"].between(5, 10).all()
    assert found["ds"].tolist() == [5, 6, 7, 8, 9, 10]


def test_counts_stay_numbers(waves: np.ndarray) -> None:
    counts = np.random.default_rng(0).poisson(20, (2, 80))
    found = TitansForecaster(**SMALL).fit(counts).predict()
    assert found["y_pred"].dtype == np.float64
    assert found["y_pred"].between(5, 40).all()


def test_wide_frames_give_a_series_a_column(waves: np.ndarray) -> None:
    times = pd.date_range("2024-01-01", periods=160, freq="h", name="date")
    wide = pd.DataFrame(waves.T, columns=["p", "q", "r"], index=times).reset_index()
    settings = SMALL | {"time_col": "date", "target_col": ["p", "q", "r"]}
    found = TitansForecaster(**settings).fit(wide).predict()
    assert found["unique_id"].unique().tolist() == ["p", "q", "r"]
    assert len(found) == 18


def test_validation_rows_may_come_as_a_frame(waves: np.ndarray) -> None:
    long = pd.DataFrame({"ds": np.arange(160), "y": waves[0]})
    both = TitansForecaster(**SMALL).fit(long, val_size=40)
    apart = TitansForecaster(**SMALL).fit(long[:120], val_df=long[120:])
    pd.testing.assert_frame_equal(both.predict(long), apart.predict(long))
    assert both.scale_mean_ == pytest.approx({"y": waves[0, :120].mean()})
    assert both.history_.epochs[0].validation_loss is not None
    alone = TitansForecaster(**SMALL).fit(long, val_size=0)
    assert alone.history_.epochs[0].validation_loss is None


def test_keeps_the_promises_of_scikit_learn(fitted: TitansForecaster, waves: np.ndarray) -> None:
    assert len(TitansForecaster().get_params()) <= 20
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    assert not hasattr(copy, "network_")
    pickled = pickle.loads(pickle.dumps(fitted))
    pd.testing.assert_frame_equal(pickled.predict(), fitted.predict())
    with seeded(0), pytest.raises(Exception, match="not fitted"):
        copy.predict(waves)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"static": ["y"]}, "column 'y' is named in target_col and in static"),
        ({"quantiles": (0.9, 0.1)}, "rising levels"),
        ({"horizon": 0}, "horizon must be at least 1, got 0"),
        ({"device": "abacus"}, "abacus"),
        ({"freq": "h"}, "does not fit"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    waves: np.ndarray, settings: dict[str, object], match: str
) -> None:
    with pytest.raises((ConfigError, DataError, RuntimeError), match=match):
        TitansForecaster(**SMALL | settings).fit(
            waves[:, :60] if "static" not in settings else pd.DataFrame({"ds": range(60), "y": 1.0})
        )


@pytest.mark.parametrize(
    ("data", "match"),
    [
        ("text", "df must be a DataFrame or an array, got str"),
        (np.zeros((2, 3, 4)), "shape"),
        (np.full((1, 60), np.nan), "series 0 has no value"),
        (np.arange(5.0)[None], "no window to train on"),
        (pd.DataFrame({"ds": [0, 1]}), "no column 'y'"),
    ],
)
def test_data_that_cannot_be_is_refused(data: object, match: str) -> None:
    with pytest.raises(DataError, match=match):
        TitansForecaster(**SMALL).fit(data)


@pytest.mark.parametrize("val_size", [-1, 3, 1.5, 1000])
def test_a_validation_part_that_cannot_be_is_refused(waves: np.ndarray, val_size: float) -> None:
    with pytest.raises(ConfigError, match="val_size"):
        TitansForecaster(**SMALL).fit(waves, val_size=val_size)


@pytest.mark.slow
def test_reads_real_data_from_a_wide_file(shared_data: Path) -> None:
    frame = read_frame(shared_data / "timeseries" / "ltsf" / "national_illness.csv.gz")
    forecaster = TitansForecaster(
        **SMALL | {"context_length": 36, "time_col": "date"}, target_col=["OT", "AGE 0-4"]
    )
    found = forecaster.fit(frame).predict()
    assert found.groupby("unique_id").size().tolist() == [6, 6]
    assert found["date"].iloc[0] == pd.Timestamp("2020-07-07")
