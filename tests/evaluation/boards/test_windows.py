"""Series of a board's tasks: files read, rows averaged and put on a grid, windows cut."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from titans_seq.evaluation.boards import windows as module
from titans_seq.evaluation.boards.records import BoardTask
from titans_seq.evaluation.boards.windows import read_tsf, read_windows
from titans_seq.evaluation.cards.records import Columns, Competition, DataFile, DatasetCard
from titans_seq.exceptions import DataError

TSF = """# Dataset Information
@relation Sums
@attribute series_name string
@attribute start_timestamp date
@frequency monthly
@data
T1:1990-01-01 00-00-00:1,2,3.5,?,5,6,7,8
T2:1990-01-01 00-00-00:10,20,30,40,50,60,70,80
"""


def _use(monkeypatch: pytest.MonkeyPatch, files: dict[str, Path], **fields: object) -> None:
    """Let every data set be this one."""
    texts = dict.fromkeys(("summary", "source", "url", "licence", "citation", "split_rule"), "x")
    described = {name: DataFile(path=path.name, check="x") for name, path in files.items()}
    card = DatasetCard(name="d", task="forecasting", files=described, **texts, **fields)  # type: ignore[arg-type]
    monkeypatch.setattr(module, "read_card", lambda name: card)
    monkeypatch.setattr(module, "data_path", lambda card, name, folder: files[name])


@pytest.fixture
def tsf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "sums.tsf"
    path.write_text(TSF)
    _use(monkeypatch, {"series": path})
    return path


def _task(**fields: object) -> BoardTask:
    usual = {"name": "t", "datasets": ("d",), "horizon": 2, "season": 1}
    return BoardTask(**{**usual, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize("compressed", [False, True])
def test_a_tsf_file_is_read(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / ("sums.tsf.gz" if compressed else "sums.tsf")
    path.write_bytes(gzip.compress(TSF.encode()) if compressed else TSF.encode())
    series = dict(read_tsf(path))
    assert list(series) == ["T1", "T2"]
    np.testing.assert_array_equal(series["T1"], [1, 2, 3.5, np.nan, 5, 6, 7, 8])


def test_a_bad_value_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.tsf"
    path.write_text("@data\nT1:1,2\nT2:1,x\n")
    with pytest.raises(DataError, match=r"bad.tsf, line 3: .*'x'.*write \? for a missing"):
        dict(read_tsf(path))


def test_a_file_without_data_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.tsf"
    path.write_text("@relation none\n")
    with pytest.raises(DataError, match="expected a line @data"):
        dict(read_tsf(path))


@pytest.mark.usefixtures("tsf")
def test_windows_follow_each_other_and_end_with_the_series() -> None:
    found = read_windows(_task(windows=3))
    assert [(window.series, window.number) for window in found] == [
        (f"d/{name}", number) for name in ("T1", "T2") for number in range(3)
    ]
    second = found[3:]
    assert [window.actual.tolist() for window in second] == [[30, 40], [50, 60], [70, 80]]
    assert [window.history.tolist() for window in second] == [
        [10, 20], [10, 20, 30, 40], [10, 20, 30, 40, 50, 60]
    ]  # fmt: skip


@pytest.mark.usefixtures("tsf")
def test_values_after_the_last_window_are_not_used() -> None:
    (_, window) = read_windows(_task(skipped=1))
    assert window.actual.tolist() == [60, 70]
    assert window.history.tolist() == [10, 20, 30, 40, 50]


@pytest.mark.usefixtures("tsf")
def test_rows_are_averaged_and_a_rest_is_dropped() -> None:
    (_, window) = read_windows(_task(averaged=3, horizon=1))
    assert window.history.tolist() == [20]
    assert window.actual.tolist() == [50]


@pytest.mark.usefixtures("tsf")
def test_a_series_without_a_history_is_refused() -> None:
    with pytest.raises(DataError, match="series d/T1: 8 values are too few for 4 windows of 2"):
        read_windows(_task(windows=4))


def test_a_wide_table_is_put_on_its_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = ["2020-01-01 00:10", "2020-01-01 00:20", "2020-01-01 00:20", "2020-01-01 00:40"]
    path = tmp_path / "wide.csv"
    pd.DataFrame({"date": times, "a": [1.0, 2, 9, 4], "b": [5.0, 6, 9, 8]}).to_csv(
        path, index=False
    )
    _use(monkeypatch, {"series": path}, columns=Columns(time="date", target="*"))
    found = read_windows(_task(horizon=1, grid="10min"))
    assert [window.series for window in found] == ["d/a", "d/b"]
    np.testing.assert_array_equal(found[1].history, [5, 6, np.nan])
    assert found[1].actual.tolist() == [8]


def test_train_and_test_of_a_competition_are_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {name: tmp_path / f"{name}.csv" for name in ("train", "test")}
    files["train"].write_text("V1,V2,V3,V4\nW1,1,2,3\nW2,4,,\n")
    files["test"].write_text("V1,V2,V3\nW2,50,60\nW1,10,20\n")
    _use(monkeypatch, files, competition=Competition(horizon=2, season=1))
    first, second = read_windows(_task())
    assert (first.series, first.history.tolist(), first.actual.tolist()) == (
        "d/W1", [1, 2, 3], [10, 20]
    )  # fmt: skip
    assert (second.history.tolist(), second.actual.tolist()) == ([4], [50, 60])
