"""The estimator in scikit-learn's hands, and the frames and pictures around a forecast."""

from __future__ import annotations

from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit, cross_val_score

from titans_seq.exceptions import DataError
from titans_seq.forecasting import TitansForecaster

SMALL = {"horizon": 4, "context_length": 16, "dim": 8, "max_epochs": 1, "random_state": 0,
         "device": "cpu"}  # fmt: skip


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """Two series, rows in the order of time, as a time-series splitter wants them."""
    times = pd.date_range("2024-01-01", periods=160, freq="h")
    rng = np.random.default_rng(0)
    parts = [
        pd.DataFrame({"unique_id": name, "ds": times,
                      "y": np.sin(np.arange(160) / 3 + shift) + 0.1 * rng.normal(size=160)})
        for shift, name in enumerate("ab")
    ]  # fmt: skip
    return pd.concat(parts).sort_values("ds", ignore_index=True)


@pytest.fixture(scope="module")
def fitted(frame: pd.DataFrame) -> TitansForecaster:
    return TitansForecaster(**SMALL).fit(frame[:280])


def test_score_is_minus_the_squared_error_of_the_horizons_that_follow(
    frame: pd.DataFrame, fitted: TitansForecaster
) -> None:
    errors = []
    for begin in range(140, 157, 4):
        past, came = frame[: 2 * begin], frame[2 * begin : 2 * begin + 8]
        found = fitted.predict(past).merge(came, on=["unique_id", "ds"], validate="1:1")
        scale = found["unique_id"].map(fitted.scale_std_)
        errors.append(((found["y_pred"] - found["y"]) / scale) ** 2)
    assert fitted.score(frame[280:]) == pytest.approx(-np.concatenate(errors).mean(), rel=1e-4)


def test_another_series_is_forecast_from_its_own_first_rows(
    frame: pd.DataFrame, fitted: TitansForecaster
) -> None:
    other = frame[frame["unique_id"] == "a"][:24].assign(unique_id="new")
    scale = other["y"][:12].std(ddof=0)  # half of the rows are looked back on
    errors = []
    for begin in (12, 16, 20):
        found = fitted.predict(other[:begin])["y_pred"].to_numpy()
        errors.append((found - other["y"][begin : begin + 4].to_numpy()) / scale)
    assert fitted.score(other) == pytest.approx(-np.mean(np.square(errors)), rel=0.02)


@pytest.mark.parametrize("rows", [1, 3])
def test_less_than_a_horizon_cannot_be_scored(
    frame: pd.DataFrame, fitted: TitansForecaster, rows: int
) -> None:
    with pytest.raises(DataError, match="no series has 4 rows with values to forecast"):
        fitted.score(frame[280 : 280 + 2 * rows])


def test_rows_off_the_grid_of_fit_are_named(frame: pd.DataFrame, fitted: TitansForecaster) -> None:
    late = frame[280:].assign(ds=frame["ds"][280:] + pd.Timedelta("20min"))
    with pytest.raises(DataError, match=r"series '.' goes on at 2024-01-06 20:20:00, which is not"):
        fitted.score(late)


@pytest.mark.slow
def test_grid_search_over_time_finds_the_look_back_that_sees_the_rhythm(
    frame: pd.DataFrame,
) -> None:
    search = GridSearchCV(
        TitansForecaster(**SMALL | {"max_epochs": 3}),
        {"context_length": [1, 24]},
        cv=TimeSeriesSplit(2),
        n_jobs=2,
        error_score="raise",
    )
    search.fit(frame)
    assert search.best_params_ == {"context_length": 24}
    assert search.best_estimator_.predict()["ds"].min() == frame["ds"].max() + pd.Timedelta("1h")


def test_an_array_of_one_series_is_split_by_time_and_of_many_by_series(
    frame: pd.DataFrame,
) -> None:
    values = frame.loc[frame["unique_id"] == "a", "y"].to_numpy()
    forecaster = TitansForecaster(**SMALL).fit(values[:120])
    follows = forecaster.score(values[120:])
    frames = pd.DataFrame({"ds": np.arange(160), "y": values})
    same = TitansForecaster(**SMALL).fit(frames[:120]).score(frames[120:])
    assert follows == pytest.approx(same)
    several = np.stack([values, -values, values + 3, 2 * values])
    assert (cross_val_score(TitansForecaster(**SMALL), several, cv=2) < 0).all()


def test_joblib_keeps_a_forecaster(fitted: TitansForecaster, tmp_path: Path) -> None:
    joblib.dump(fitted, tmp_path / "forecaster.joblib")
    again = joblib.load(tmp_path / "forecaster.joblib")
    pd.testing.assert_frame_equal(again.predict(levels=[80]), fitted.predict(levels=[80]))
    pd.testing.assert_frame_equal(again.sample(random_state=0), fitted.sample(random_state=0))


def test_the_future_frame_holds_what_predict_will_forecast(
    frame: pd.DataFrame, fitted: TitansForecaster
) -> None:
    keys = ["unique_id", "ds"]
    pd.testing.assert_frame_equal(fitted.make_future_frame(), fitted.predict()[keys])
    early = frame[:100]
    pd.testing.assert_frame_equal(fitted.make_future_frame(early), fitted.predict(early)[keys])


def test_the_future_frame_with_its_columns_is_a_future_df(frame: pd.DataFrame) -> None:
    planned = frame.assign(hour=frame["ds"].dt.hour)
    forecaster = TitansForecaster(**SMALL, future=["hour"]).fit(planned)
    ahead = forecaster.make_future_frame()
    found = forecaster.predict(future_df=ahead.assign(hour=ahead["ds"].dt.hour))
    assert found["y_pred"].notna().all()
    wide = planned.pivot(index=["ds", "hour"], columns="unique_id", values="y").reset_index()
    forecaster = TitansForecaster(**SMALL, future=["hour"], target_col=["a", "b"]).fit(wide)
    ahead = forecaster.make_future_frame()
    assert list(ahead.columns) == ["ds"]
    assert len(ahead) == 4
    found = forecaster.predict(future_df=ahead.assign(hour=ahead["ds"].dt.hour))
    assert len(found) == 8


def test_a_frame_without_ids_has_a_future_frame_too(frame: pd.DataFrame) -> None:
    alone = frame.loc[frame["unique_id"] == "a", ["ds", "y"]].assign(late=False)
    forecaster = TitansForecaster(**SMALL, future=["late"]).fit(alone)
    ahead = forecaster.make_future_frame().assign(late=True)
    assert forecaster.predict(future_df=ahead)["unique_id"].unique().tolist() == ["y"]


def test_the_picture_shows_history_forecast_and_intervals(
    frame: pd.DataFrame, fitted: TitansForecaster, tmp_path: Path
) -> None:
    figure = fitted.plot(frame[:280], path=tmp_path / "f.png", actual=frame, rows=10, title="two")
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert set(lines) == {"history", "forecast", "actual"}
    wanted = fitted.predict(frame[:280])
    np.testing.assert_allclose(lines["forecast"].get_ydata(), wanted["y_pred"][:4])
    assert len(lines["history"].get_ydata()) == 10
    assert len(lines["actual"].get_ydata()) == 4
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert {"95% interval", "80% interval", "50% interval"} < set(labels)
    assert len(fitted.plot(series=["b"]).axes) == 1
    with pytest.raises(DataError, match="no series 'c'"):
        fitted.plot(series=["c"])
