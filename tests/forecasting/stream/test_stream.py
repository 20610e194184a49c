"""Streams: learning row by row, forecasting without side effects, snapshots, files."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from titans_seq.exceptions import BundleError, ConfigError, DataError
from titans_seq.forecasting import TitansForecaster
from titans_seq.forecasting.stream import ForecastStream

pytestmark = pytest.mark.slow


def _in_parts(frame: pd.DataFrame, cuts: list[int]) -> list[pd.DataFrame]:
    """Cut the rows of every series at the same times."""
    times = frame["ds"].unique()
    edges = [0, *cuts, len(times)]
    return [
        frame[frame["ds"].isin(times[begin:end])] for begin, end in pairwise(edges) if end > begin
    ]


def _assert_close(one: ForecastStream, two: ForecastStream) -> None:
    first, second = one._state.to_tensors(), two._state.to_tensors()
    for name, held in first.items():
        np.testing.assert_allclose(held, second[name], rtol=2e-3, atol=2e-4, err_msg=name)
    pd.testing.assert_frame_equal(one.forecast(), two.forecast(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("cuts", [[1], [37], [5, 6, 50], list(range(1, 40))])
def test_any_split_of_the_rows_leads_to_the_same_state(
    forecaster: TitansForecaster, later: pd.DataFrame, cuts: list[int]
) -> None:
    whole, parts = forecaster.stream(), forecaster.stream()
    whole.update(later)
    surprise = []
    for part in _in_parts(later, cuts):
        surprise.append(parts.update(part).surprise)
    _assert_close(whole, parts)
    joined = pd.concat(surprise).sort_values(["unique_id", "ds"], kind="stable")
    np.testing.assert_allclose(joined["surprise"], whole.surprise["surprise"], rtol=1e-2, atol=1e-3)


def test_forecast_writes_nothing(forecaster: TitansForecaster, later: pd.DataFrame) -> None:
    stream = forecaster.stream().update(later)
    before = stream.digest()
    first = stream.forecast()
    pd.testing.assert_frame_equal(first, stream.forecast())
    assert stream.digest() == before
    assert list(first) == ["unique_id", "ds", "y_pred", "y_pred-q0.1", "y_pred-q0.9"]
    assert first["ds"].min() == later["ds"].max() + pd.Timedelta("1h")
    assert (first["y_pred-q0.1"] <= first["y_pred-q0.9"]).all()


def test_a_saved_stream_continues_bit_for_bit(
    forecaster: TitansForecaster, later: pd.DataFrame, tmp_path: Path
) -> None:
    early, late = _in_parts(later, [40])
    stream = forecaster.stream().update(early)
    stream.save(tmp_path / "state")
    again = forecaster.load_stream(tmp_path / "state")
    assert again.digest() == stream.digest()
    pd.testing.assert_frame_equal(again.forecast(), stream.forecast(), check_exact=True)
    assert again.update(late).digest() == stream.update(late).digest()
    pd.testing.assert_frame_equal(again.surprise, stream.surprise, check_exact=True)


def test_a_snapshot_can_be_restored_and_a_copy_is_independent(
    forecaster: TitansForecaster, later: pd.DataFrame
) -> None:
    stream = forecaster.stream()
    snapshot = stream.copy()
    start = stream.digest()
    stream.update(later)
    assert snapshot.digest() == start != stream.digest()
    assert stream.restore(snapshot).digest() == start
    stream.update(later)
    assert snapshot.digest() == start


def test_many_series_in_one_batch_are_as_one_by_one(
    forecaster: TitansForecaster, frame: pd.DataFrame, later: pd.DataFrame
) -> None:
    both = forecaster.stream(frame[~frame.index.isin(later.index)])
    apart = {}
    for name in ("a", "b"):
        own = frame[(frame["unique_id"] == name) & ~frame.index.isin(later.index)]
        apart[name] = forecaster.stream(own)
    ragged = later[(later["unique_id"] == "a") | (later["ds"] < later["ds"].iloc[30])]
    both.update(ragged)
    for name, stream in apart.items():
        stream.update(ragged[ragged["unique_id"] == name])
        expected = stream.forecast()
        found = both.forecast()
        found = found[found["unique_id"] == name].reset_index(drop=True)
        pd.testing.assert_frame_equal(found, expected, rtol=1e-3, atol=1e-3)
    assert both.rows == {"a": 400, "b": 330}


def test_a_row_of_one_series_leaves_the_others_alone(
    forecaster: TitansForecaster, later: pd.DataFrame
) -> None:
    stream = forecaster.stream()
    before = stream.forecast()
    stream.update(later[later["unique_id"] == "b"].head(1))
    after = stream.forecast()
    same = before["unique_id"] == "a"
    pd.testing.assert_frame_equal(after[same], before[same], check_exact=True)
    assert stream.last["b"] == stream.last["a"] + pd.Timedelta("1h")


def test_missing_rows_and_missing_values_are_the_same(
    forecaster: TitansForecaster, later: pd.DataFrame
) -> None:
    times = later["ds"].unique()
    gone = later["ds"].isin(times[10:30])
    empty, absent = forecaster.stream(), forecaster.stream()
    empty.update(later.assign(y=later["y"].mask(gone)))
    absent.update(later[~gone])
    _assert_close(empty, absent)
    found = empty.surprise
    assert found.loc[found["ds"].isin(times[10:30]), "surprise"].isna().all()
    assert found.loc[~found["ds"].isin(times[10:30]), "surprise"].notna().all()


@pytest.mark.parametrize("burst", [np.nan, 1e3, -1e3, 1e9])
def test_a_burst_does_no_lasting_harm(
    forecaster: TitansForecaster, longer: pd.DataFrame, burst: float
) -> None:
    begin = longer["ds"].iloc[300]
    history, later = longer[longer["ds"] < begin], longer[longer["ds"] >= begin]
    calm, hit = forecaster.stream(history), forecaster.stream(history)
    times = later["ds"].unique()
    hurt = later["ds"].isin(times[100:106])
    hit.update(later.assign(y=later["y"].mask(hurt, burst)))
    calm.update(later)
    difference = np.abs(hit.forecast()["y_pred"] - calm.forecast()["y_pred"])
    assert difference.max() < 1.0


def test_reset_forgets_one_series_and_keeps_its_time(
    forecaster: TitansForecaster, later: pd.DataFrame
) -> None:
    stream = forecaster.stream()
    before = stream.forecast()
    stream.reset(["a"])
    after = stream.forecast()
    assert stream.rows == {"a": 0, "b": 300}
    pd.testing.assert_series_equal(after["ds"], before["ds"])
    own = before["unique_id"] == "a"
    assert not np.allclose(after.loc[own, "y_pred"], before.loc[own, "y_pred"])
    np.testing.assert_array_equal(after.loc[~own, "y_pred"], before.loc[~own, "y_pred"])
    stream.update(later)
    with pytest.raises(DataError, match="'c' is not in this stream"):
        stream.reset(["c"])


def test_the_state_does_not_grow(forecaster: TitansForecaster, later: pd.DataFrame) -> None:
    stream = forecaster.stream()
    size = stream.nbytes
    assert stream.update(later).nbytes == size


def test_surprise_has_p_values_and_finds_an_outlier(
    forecaster: TitansForecaster, later: pd.DataFrame
) -> None:
    stream = forecaster.stream()
    first, second = _in_parts(later, [60])
    calm = stream.update(first).surprise
    assert calm["p_value"].between(0, 1).all()
    row = second.head(1).assign(y=100.0)
    found = stream.update(row).surprise
    assert len(found) == 1
    assert found["p_value"].iloc[0] < 0.02
    assert found["surprise"].iloc[0] > calm["surprise"].max()


def test_rows_that_do_not_continue_a_series_are_refused_and_change_nothing(
    forecaster: TitansForecaster, later: pd.DataFrame
) -> None:
    stream = forecaster.stream()
    before = stream.digest()
    with pytest.raises(DataError, match=r"row 1: series 'a' has time 2024-01-13 11:00:00"):
        early = pd.DataFrame(
            {
                "unique_id": ["b", "a"],
                "ds": ["2024-01-13 12:00", "2024-01-13 11:00"],
                "y": [1.0, 1.0],
            }
        )
        stream.update(early)
    with pytest.raises(DataError, match="series 'c' is not in this stream, which has 'a', 'b'"):
        stream.update(later.head(1).assign(unique_id="c"))
    with pytest.raises(DataError, match="column 'y' of series 'a' holds 'many'"):
        stream.update(later.head(1).assign(y="many"))
    with pytest.raises(DataError, match="has no rows"):
        stream.update(later.head(0))
    assert stream.digest() == before


def test_a_stream_of_another_forecaster_is_refused(
    forecaster: TitansForecaster, frame: pd.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "state"
    forecaster.stream().save(path)
    other = TitansForecaster(horizon=6, context_length=24, dim=8, max_epochs=1, random_state=1)
    other.fit(frame)
    with pytest.raises(BundleError, match="another forecaster"):
        other.load_stream(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(BundleError, match="damaged"):
        forecaster.load_stream(path)


def test_a_loaded_forecaster_streams_as_before(
    forecaster: TitansForecaster, frame: pd.DataFrame, tmp_path: Path
) -> None:
    forecaster.save(tmp_path / "model")
    loaded = TitansForecaster.load(tmp_path / "model")
    assert loaded.stream(frame).digest() == forecaster.stream(frame).digest()


def test_a_forecaster_saved_before_any_stream_says_so(frame: pd.DataFrame, tmp_path: Path) -> None:
    plain = TitansForecaster(horizon=6, context_length=24, dim=8, max_epochs=1, random_state=0)
    plain.fit(frame).save(tmp_path / "model")
    loaded = TitansForecaster.load(tmp_path / "model")
    with pytest.raises(ConfigError, match="saved without memories"):
        loaded.stream(frame)


def test_arrays_continue_with_their_rows_and_need_no_calendar(tmp_path: Path) -> None:
    waves = np.sin(np.arange(90) / 3)[None] + np.arange(2)[:, None]
    small = TitansForecaster(horizon=4, context_length=12, dim=8, max_epochs=1, random_state=0)
    stream = small.fit(waves[:, :60]).stream()
    whole = small.stream(waves)
    stream.update(waves[:, 60:75]).update(waves[:, 75:])
    _assert_close(whole, stream)
    assert stream.rows == {0: 90, 1: 90}
    assert stream.forecast()["ds"].tolist() == [90, 91, 92, 93] * 2
    stream.save(tmp_path / "state")
    assert small.load_stream(tmp_path / "state").digest() == stream.digest()


def test_further_series_join_a_stream(forecaster: TitansForecaster, frame: pd.DataFrame) -> None:
    apart = [frame[frame["unique_id"] == name] for name in ("a", "b")]
    stream = forecaster.stream(apart[0]).add(apart[1])
    both = forecaster.stream(frame)
    assert stream.ids == ["a", "b"]
    _assert_close(both, stream)
    only = stream.forecast(ids=["b"])
    pd.testing.assert_frame_equal(
        only, both.forecast().iloc[6:].reset_index(drop=True), rtol=1e-3, atol=1e-3
    )
    with pytest.raises(DataError, match="'a' is in the stream already"):
        stream.add(apart[0])


def test_the_shortest_history_can_be_streamed() -> None:
    values = np.sin(np.arange(12.0))
    small = TitansForecaster(horizon=4, context_length=None, dim=8, max_epochs=1, random_state=0)
    found = small.fit(values).predict(values[:5])
    assert np.isfinite(found["y_pred"]).all()
