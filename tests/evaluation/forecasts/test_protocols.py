from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from titans_seq.evaluation.cards.splits import Split
from titans_seq.evaluation.forecasts.protocols import score_forecast_controls, score_forecaster
from titans_seq.evaluation.forecasts.series import TrainScale, series_from_frame
from titans_seq.exceptions import DataError

SPLIT = Split(train=60, validation=20, test=20)
COLUMNS = {"id_col": "unit", "time_col": "ds", "target_col": "y"}


def long_frame(lengths=(100, 100), future=False):
    generator = np.random.default_rng(0)
    parts = [
        pd.DataFrame({
            "unit": f"u{number}",
            "ds": pd.date_range("2024-01-01", periods=length, freq="h"),
            "y": generator.normal(5 * number, 1 + number, length),
            "plan": generator.normal(size=length),
        })
        for number, length in enumerate(lengths)
    ]  # fmt: skip
    frame = pd.concat(parts, ignore_index=True)
    return frame if future else frame.drop(columns="plan")


class Oracle:
    """Forecasts what comes, plus ``miss`` in units of the train rows' deviation."""

    horizon, context_length = 5, 10
    id_col, time_col, target_col, future = "unit", "ds", "y", ()

    def __init__(self, miss=0.0, quantiles=(0.1, 0.5, 0.9), width=1.0, train=60):
        self.miss, self.quantiles, self.width, self.train = miss, quantiles, width, train
        self.asked = []

    def forecast_windows(self, frame, *, stride=1, start=None, end=None):
        self.asked.append((start, end))
        ids, actual, point = [], [], []
        for name, rows in frame.groupby("unit"):
            values = rows["y"].to_numpy()
            for first in range(start, end - self.horizon + 1, stride):
                ids.append(name)
                actual.append(values[first : first + self.horizon])
                point.append(actual[-1] + self.miss * values[: self.train].std())
        point = np.stack(point)
        levels = np.asarray(self.quantiles) - 0.5
        return SimpleNamespace(
            ids=np.asarray(ids), actual=np.stack(actual), point=point,
            quantiles=point[..., None] + self.width * levels,
        )  # fmt: skip


def test_every_window_of_the_test_part_is_scored():
    scores = score_forecaster(Oracle(), long_frame(), SPLIT)
    assert scores["windows"] == 20 - 5 + 1
    assert scores["series"] == 2
    assert scores["mse"] == pytest.approx(0)


def test_errors_are_in_deviations_of_each_series_train_rows():
    scores = score_forecaster(Oracle(miss=0.5), long_frame(), SPLIT)
    assert scores["mse"] == pytest.approx(0.25)
    assert scores["mae"] == pytest.approx(0.5)


def test_coverage_counts_what_lies_between_the_outermost_levels():
    inside = score_forecaster(Oracle(width=1), long_frame(), SPLIT)
    outside = score_forecaster(Oracle(miss=3, width=1), long_frame(), SPLIT)
    assert inside["coverage"] == 1
    assert outside["coverage"] == 0
    assert inside["coverage_nominal"] == pytest.approx(0.8)


def test_pinball_loss_weighs_what_lies_above_by_the_level():
    scores = score_forecaster(Oracle(miss=-2, quantiles=(0.9,), width=0), long_frame(), SPLIT)
    assert scores["pinball"] == pytest.approx(0.9 * 2)


def test_series_of_other_lengths_have_borders_of_their_own():
    oracle = Oracle(miss=0.5, train=70)
    split = Split(train=0.7, validation=0.1, test=0.2)
    score_forecaster(oracle, long_frame((100, 200)), split)
    assert oracle.asked == [(80, 100), (160, 200)]


def test_a_target_that_is_not_known_is_not_scored():
    frame = long_frame()
    whole = score_forecaster(Oracle(miss=0.5), frame, SPLIT)
    frame.loc[frame.index[85], "y"] = np.nan
    assert score_forecaster(Oracle(miss=0.5), frame, SPLIT)["mse"] == pytest.approx(whole["mse"])
    frame.loc[frame.index % 100 >= 80, "y"] = np.nan
    with pytest.raises(DataError, match="no window to score"):
        score_forecaster(Oracle(), frame, SPLIT)


def test_controls_are_scored_on_the_same_windows():
    scores = score_forecast_controls(
        long_frame(future=True), SPLIT, horizon=5, look_back=10, future=["plan"], **COLUMNS
    )
    assert len(scores) == 5
    assert {metrics["windows"] for metrics in scores.values()} == {16}
    last = scores["last value"]
    errors = []
    for _, rows in long_frame().groupby("unit"):
        values = rows["y"].to_numpy()
        scaled = (values - values[:60].mean()) / values[:60].std()
        errors += [(scaled[s : s + 5] - scaled[s - 1]) ** 2 for s in range(80, 96)]
    assert last["mse"] == pytest.approx(np.mean(errors))


def test_a_wide_table_is_one_series_a_column():
    times = pd.date_range("2024-01-01", periods=4, freq="h")
    frame = pd.DataFrame({"ds": times[::-1], "a": [4, 3, 2, 1], "b": [8, 7, 6, 5]})
    first, second = series_from_frame(frame, id_col="unit", time_col="ds", target_col=["a", "b"])
    assert (first.name, second.name) == ("a", "b")
    np.testing.assert_array_equal(first.values, [1, 2, 3, 4])
    assert second.step == pd.Timedelta(hours=1)


def test_a_missing_column_is_named():
    with pytest.raises(DataError, match="no column 'z'; it has unit, ds, y"):
        series_from_frame(long_frame(), id_col="unit", time_col="ds", target_col="z")


def test_scale_uses_the_population_deviation_and_leaves_a_constant_as_it_is():
    np.testing.assert_allclose(TrainScale(np.array([1.0, 3.0, np.nan])).apply([2, 3]), [0, 1])
    np.testing.assert_allclose(TrainScale(np.full(4, 7.0)).apply([7, 8]), [0, 1])


@pytest.mark.parametrize(
    ("name", "split", "horizon", "look_back", "published"),
    [
        ("ETTh1", "8640,2880,2880", 96, 96,
         {"last value": (1.294, 0.713), "seasonal naive, 24 rows": (0.512, 0.433)}),
        ("ETTh2", "8640,2880,2880", 336, 96,
         {"last value": (0.597, 0.511), "seasonal naive, 24 rows": (0.532, 0.466)}),
        ("national_illness", "0.7,0.1,0.2", 24, 36,
         {"last value": (6.213, 1.622), "seasonal naive, 52 rows": (2.564, 1.004)}),
    ],
)  # fmt: skip
def test_published_controls_come_out(name, split, horizon, look_back, published, shared_data):
    frame = pd.read_csv(shared_data / "timeseries" / "ltsf" / f"{name}.csv.gz")
    scores = score_forecast_controls(
        frame, Split.parse(split), horizon=horizon, look_back=look_back,
        id_col="unique_id", time_col="date", target_col=list(frame.columns[1:]),
    )  # fmt: skip
    for control, (mse, mae) in published.items():
        assert scores[control]["mse"] == pytest.approx(mse, abs=5e-4)
        assert scores[control]["mae"] == pytest.approx(mae, abs=5e-4)


def test_the_normalised_linear_control_is_at_the_level_of_the_trained_one(shared_data):
    frame = pd.read_csv(shared_data / "timeseries" / "ltsf" / "ETTh1.csv.gz")
    scores = score_forecast_controls(
        frame, Split.parse("8640,2880,2880"), horizon=96, look_back=96,
        id_col="unique_id", time_col="date", target_col=list(frame.columns[1:]),
    )  # fmt: skip
    linear = scores["normalised linear, 96 rows"]
    assert linear["windows"] == 2785
    assert linear["mse"] == pytest.approx(0.384, abs=0.003)


def test_nyc13_controls_are_those_of_its_card():
    from titans_seq.evaluation.cards.reading import read_card
    from titans_seq.evaluation.data.locations import data_path

    card = read_card("nyc13")
    frame = pd.read_csv(data_path(card, "hourly"))
    columns = card.columns
    found = {}
    for look_back in (96, 168):
        found |= score_forecast_controls(
            frame, card.split, horizon=24, look_back=look_back, id_col=columns.id,
            time_col=columns.time, target_col=columns.target, future=columns.future,
            season=columns.season,
        )  # fmt: skip
    for result in card.results:
        assert found[result.model]["mse"] == pytest.approx(result.score("mse"), abs=5e-4)


@pytest.mark.parametrize("stride", [1, 2])
def test_windows_that_are_forecast_in_blocks_are_all_scored(stride, monkeypatch):
    from titans_seq.evaluation.forecasts import protocols

    whole = score_forecaster(Oracle(miss=0.5), long_frame(), SPLIT, stride=stride)
    oracle = Oracle(miss=0.5)
    monkeypatch.setattr(protocols, "BLOCK_VALUES", 3 * 2 * 5 * 5)
    assert score_forecaster(oracle, long_frame(), SPLIT, stride=stride) == pytest.approx(whole)
    assert len(oracle.asked) > 2
