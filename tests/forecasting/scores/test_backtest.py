from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from titans_seq.exceptions import ConfigError, DataError
from titans_seq.forecasting import TitansForecaster
from titans_seq.forecasting.scores import metrics
from titans_seq.forecasting.scores.backtest import NAIVE, OURS, SCORED_LEVELS

SMALL = {"horizon": 6, "context_length": 24, "dim": 8, "max_epochs": 1, "random_state": 0,
         "device": "cpu"}  # fmt: skip


def _long(rows: dict[str, int]) -> pd.DataFrame:
    """Return hourly series with the rhythm of a day, each with rows of its own number."""
    rng = np.random.default_rng(0)
    return pd.concat(
        pd.DataFrame(
            {
                "unique_id": name,
                "ds": pd.date_range("2024-01-01", periods=count, freq="h"),
                "y": 10 + 3 * np.sin(np.arange(count) / 24 * 2 * np.pi) + rng.normal(size=count),
            }
        )
        for name, count in rows.items()
    )


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return _long({"a": 240, "b": 200})


@pytest.fixture(scope="module")
def early(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows before the last 30 of each series."""
    return frame[frame.groupby("unique_id").cumcount(ascending=False) >= 30]


@pytest.fixture(scope="module")
def fitted(early: pd.DataFrame) -> TitansForecaster:
    return TitansForecaster(**SMALL).fit(early)


def test_forecasts_are_those_of_predict_at_each_origin(
    frame: pd.DataFrame, fitted: TitansForecaster
) -> None:
    found = fitted.backtest(frame, windows=3, step=5, levels=(80,))
    assert found.windows == 6
    assert found.seen_windows == 0
    table = found.forecasts
    assert list(table.columns) == [
        "unique_id", "cutoff", "ds", "step", "y", "y_pred", "y_pred-lo-80", "y_pred-hi-80", "naive"
    ]  # fmt: skip
    ends = frame.groupby("unique_id")["ds"].max()
    for (name, cutoff), own in table.groupby(["unique_id", "cutoff"]):
        past = frame[(frame["unique_id"] == name) & (frame["ds"] <= cutoff)]
        wanted = fitted.predict(past, levels=(80,))
        for column in ("y_pred", "y_pred-lo-80", "y_pred-hi-80"):
            np.testing.assert_allclose(own[column], wanted[column], rtol=1e-5)
        assert (own["ds"].to_numpy() == wanted["ds"].to_numpy()).all()
        assert list(own["step"]) == [1, 2, 3, 4, 5, 6]
        behind = (ends[name] - cutoff) / pd.Timedelta("1h")
        assert behind in (6, 11, 16)
        day_before = own["ds"] - pd.Timedelta("24h")
        known = frame[frame["unique_id"] == name].set_index("ds")["y"]
        np.testing.assert_allclose(own["naive"], known[day_before])
        np.testing.assert_allclose(own["y"], known[own["ds"]])


def test_scores_are_those_of_the_metrics(frame: pd.DataFrame, fitted: TitansForecaster) -> None:
    found = fitted.backtest(frame, windows=4)
    table = found.forecasts
    score = found.by_series()
    for name, own in table.groupby("unique_id"):
        series = frame.loc[frame["unique_id"] == name, "y"].to_numpy()
        history = series[: -4 * 6]
        for model, column in ((OURS, "y_pred"), (NAIVE, "naive")):
            row = score.loc[(name, model)]
            came, point = own["y"], own[column]
            assert row["mse"] == pytest.approx(metrics.mse(came, point))
            assert row["mae"] == pytest.approx(metrics.mae(came, point))
            assert row["smape"] == pytest.approx(metrics.smape(came, point))
            assert row["mase"] == pytest.approx(metrics.mase(came, point, history, 24))
        ours = score.loc[(name, OURS)]
        for level in (80, 95):
            held = metrics.coverage(own["y"], own[f"y_pred-lo-{level}"], own[f"y_pred-hi-{level}"])
            assert ours[f"coverage-{level}"] == pytest.approx(held)
        start = len(series) - 24
        fitted.set_params(quantiles=SCORED_LEVELS)
        windows = fitted.forecast_windows(frame[frame["unique_id"] == name], stride=6, start=start)
        fitted.set_params(quantiles=(0.1, 0.5, 0.9))
        scored = (windows.actual, windows.quantiles, SCORED_LEVELS)
        assert ours["crps"] == pytest.approx(2 * metrics.pinball(*scored), rel=1e-5)
        assert ours["wql"] == pytest.approx(metrics.weighted_quantile_loss(*scored), rel=1e-5)
    overall = found.summary().loc[OURS]
    assert overall["mse"] == pytest.approx(metrics.mse(table["y"], table["y_pred"]))
    steps = found.by_horizon()["mae"].unstack()[OURS]
    for step, own in table.groupby("step"):
        assert steps[step] == pytest.approx(metrics.mae(own["y"], own["y_pred"]))
    assert len(found.by_cutoff()) == 2 * table["cutoff"].nunique()


def test_the_target_after_an_origin_is_not_used(
    frame: pd.DataFrame, fitted: TitansForecaster
) -> None:
    late = frame.groupby("unique_id").cumcount(ascending=False) < 6
    spoiled = frame.assign(y=frame["y"].mask(late, -1e5), unique_id=frame["unique_id"] + " new")
    plain = frame.assign(unique_id=frame["unique_id"] + " new")
    one, two = (fitted.backtest(each, windows=1).forecasts for each in (plain, spoiled))
    np.testing.assert_array_equal(one["y_pred"], two["y_pred"])
    np.testing.assert_array_equal(one["naive"], two["naive"])


def test_windows_that_were_trained_on_are_counted_and_told(
    frame: pd.DataFrame, fitted: TitansForecaster, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="titans_seq"):
        found = fitted.backtest(frame, windows=8)
    assert found.seen_windows == 6
    assert "6 of 16 windows lie in rows that the forecaster was trained on" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize(("refit", "times"), [("once", 1), (True, 3)])
def test_refitting_trains_on_the_rows_before_the_origin_alone(
    frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, refit: bool | str, times: int
) -> None:
    trained: list[pd.DataFrame] = []
    forecaster = TitansForecaster(**SMALL)
    plain = TitansForecaster._fit_table

    def spy(self, table, *more, **words):
        trained.append(dict(zip(table.ids, table.lengths(), strict=True)))
        return plain(self, table, *more, **words)

    monkeypatch.setattr(TitansForecaster, "_fit_table", spy)
    found = forecaster.backtest(frame, windows=3, step=4, refit=refit)
    assert trained == [{"a": 226 + 4 * turn, "b": 186 + 4 * turn} for turn in range(times)]
    assert found.seen_windows == 0
    assert not hasattr(forecaster, "network_")
    monkeypatch.undo()
    cutoff = frame["ds"].iloc[225]
    table = found.forecasts
    own = table[(table["unique_id"] == "a") & (table["cutoff"] == cutoff)]
    past = frame[frame.groupby("unique_id").cumcount(ascending=False) >= 14]
    wanted = TitansForecaster(**SMALL).fit(past).predict(past)
    wanted = wanted[wanted["unique_id"] == "a"]
    np.testing.assert_allclose(own["y_pred"], wanted["y_pred"], rtol=1e-5)


def test_a_short_series_has_fewer_windows_and_missing_values_are_not_scored(
    frame: pd.DataFrame, fitted: TitansForecaster
) -> None:
    short = pd.concat([frame, _long({"c": 13, "d": 5})])
    gone = short["ds"].isin(frame["ds"].iloc[[239]]) & (short["unique_id"] == "a")
    found = fitted.backtest(short.assign(y=short["y"].mask(gone)), windows=3)
    counts = found.forecasts.groupby("unique_id")["cutoff"].nunique()
    assert counts.to_dict() == {"a": 3, "b": 3, "c": 2}
    assert (found.forecasts["unique_id"] == "a").sum() == 17
    assert found.summary().notna().all(axis=None)


@pytest.mark.slow
def test_covariates_known_ahead_are_taken_from_the_rows(frame: pd.DataFrame) -> None:
    rng = np.random.default_rng(1)
    plan = rng.normal(size=len(frame))
    planned = frame.assign(plan=plan, y=frame["y"] + 5 * plan)
    forecaster = TitansForecaster(**SMALL | {"max_epochs": 4, "future": ["plan"]})
    found = forecaster.backtest(planned, windows=4, refit="once").summary()["mse"]
    assert found[OURS] < 0.5 * found[NAIVE]


def test_one_series_of_an_array_or_a_wide_frame(fitted: TitansForecaster) -> None:
    values = np.sin(np.arange(120) / 4)
    forecaster = TitansForecaster(**SMALL).fit(values[:90])
    found = forecaster.backtest(values, windows=2)
    assert found.season == 1
    assert list(found.forecasts["ds"][:6]) == list(range(108, 114))
    wide = pd.DataFrame({"ds": range(120), "p": values, "q": -values})
    forecaster = TitansForecaster(**SMALL, target_col=("p", "q")).fit(wide[:90])
    assert set(forecaster.backtest(wide).forecasts["unique_id"]) == {"p", "q"}


def test_the_picture_has_a_panel_a_series(
    frame: pd.DataFrame, fitted: TitansForecaster, tmp_path: Path
) -> None:
    found = fitted.backtest(frame, windows=2)
    figure = found.plot(tmp_path / "backtest.png")
    assert (tmp_path / "backtest.png").read_bytes().startswith(b"\x89PNG")
    assert [axes.get_title("left") for axes in figure.axes] == ["a", "b"]
    lines = [line.get_label() for line in figure.axes[0].lines]
    assert lines.count("actual") == 1
    assert lines.count("forecast") == 1
    (drawn,) = [line for line in figure.axes[0].lines if line.get_label() == "forecast"]
    first = found.forecasts[found.forecasts["unique_id"] == "a"].head(6)
    np.testing.assert_allclose(drawn.get_ydata(), first["y_pred"])
    assert len(found.plot(series=["b"]).axes) == 1
    with pytest.raises(DataError, match="no series 'z'; there are a, b"):
        found.plot(series=["z"])


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ({"windows": 0}, "windows must be at least 1, got 0"),
        ({"step": 0}, "step must be at least 1, got 0"),
        ({"season": -1}, "season must be at least 1, got -1"),
        ({"refit": "daily"}, "refit must be False, True or 'once', got 'daily'"),
        ({"levels": (120,)}, "levels"),
    ],
)
def test_a_plan_that_cannot_be_run_is_refused(
    frame: pd.DataFrame, fitted: TitansForecaster, words: dict[str, object], match: str
) -> None:
    with pytest.raises(ConfigError, match=match):
        fitted.backtest(frame, **words)


def test_series_that_are_too_short_are_refused(fitted: TitansForecaster) -> None:
    with pytest.raises(DataError, match="longest series has 6 rows, and horizon=6 needs at least"):
        fitted.backtest(_long({"a": 6}))
