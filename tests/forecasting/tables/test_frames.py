from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from titans_seq.exceptions import DataError
from titans_seq.forecasting.tables.frames import ColumnRoles, read_frame
from titans_seq.forecasting.tables.table import table_from_frame

COLUMNS = ColumnRoles(
    id="shop",
    time="when",
    target=("sold",),
    static=("area", "town"),
    past=("wind", "sky"),
    future=("plan", "holiday"),
)
PLAIN = ColumnRoles(id="unique_id", time="ds", target=("y",))
GOOD = "ds,y\n2024-01-01,1\n2024-01-02,2\n2024-01-03,3\n"


def _read(path: Path, text: str, columns: ColumnRoles = PLAIN) -> object:
    path.write_text(text)
    return table_from_frame(read_frame(path), columns)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.tsv", "a.parquet"])
def test_reads_each_kind_of_file_alike(tmp_path: Path, name: str) -> None:
    table = pd.DataFrame({"ds": ["2024-01-01", "2024-01-02"], "y": [1.5, 2.0]})
    if name.endswith("parquet"):
        table.to_parquet(tmp_path / name)
    else:
        table.to_csv(tmp_path / name, index=False, sep="\t" if name.endswith("tsv") else ",")
    pd.testing.assert_frame_equal(read_frame(tmp_path / name), table)


def test_lays_series_on_their_grid_whatever_the_order_of_rows(frame: pd.DataFrame) -> None:
    table = table_from_frame(frame, COLUMNS)
    for series, name in enumerate(table.ids):
        own = frame[frame["shop"] == name].sort_values("when")
        rows = slice(int(table.starts[series]), int(table.starts[series + 1]))
        assert np.array_equal(table.target[rows], own["sold"])
        assert np.array_equal(table.varying["wind"][rows], own["wind"])
        assert list(table.varying["holiday"][rows]) == list(own["holiday"])
        assert table.static["town"][series] == f"town {name}"
        assert list(table.times(series, 0, len(own))) == list(own["when"])


def test_missing_rows_become_missing_values(frame: pd.DataFrame) -> None:
    whole = table_from_frame(frame, COLUMNS)
    gone = frame["when"].between("2024-01-02 03:00", "2024-01-02 07:00")
    table = table_from_frame(frame[~gone], COLUMNS)
    order = [whole.ids.index(name) for name in table.ids]
    assert np.array_equal(table.lengths(), whole.lengths()[order])
    assert np.isnan(table.target).sum() == 10
    assert not table.present.all()
    assert np.isnan(table.varying["plan"]).sum() == 10


def test_a_wide_frame_is_a_series_a_column() -> None:
    wide = pd.DataFrame({"ds": [1, 2, 3], "p": [1.0, 2, 3], "q": [4.0, 5, 6], "x": [7.0, 8, 9]})
    table = table_from_frame(
        wide, ColumnRoles(id="unique_id", time="ds", target=("p", "q"), past=("x",))
    )
    assert table.ids == ["p", "q"]
    assert table.target.tolist() == [1, 2, 3, 4, 5, 6]
    assert table.varying["x"].tolist() == [7, 8, 9, 7, 8, 9]
    assert table.starts.tolist() == [0, 3, 6]


def test_without_a_time_column_rows_are_counted() -> None:
    twice = pd.DataFrame({"when": ["x", "x", "x"], "y": [1.0, 2.0, 3.0]})
    table = table_from_frame(twice, ColumnRoles(id="unique_id", time=None, target=("y",)))
    assert table.target.tolist() == [1, 2, 3]
    assert table.times(0, 3, 5).tolist() == [3, 4]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "not a table"),
        ("ds,y\n", "has no rows"),
        ("ds,z\n2024-01-01,1\n", r"no column 'y'; it has ds, z"),
        (GOOD + ",4\n", r"line 5: column 'ds' holds nothing, which is no time"),
        (GOOD + "soon,4\n", r"line 5: column 'ds' holds 'soon', which is no time"),
        (GOOD + "2024-01-02,4\n", r"line 5: column 'ds' holds 2024-01-02 .* a second time"),
        (GOOD + "2024-01-03 05:17,4\n", r"line 5: column 'ds' holds .*05:17.* not on the grid"),
        (GOOD + "2024-01-04,many\n", r"line 5: column 'y' holds 'many', which is no finite"),
        (GOOD + "2024-01-04,inf\n", r"line 5: column 'y' holds inf"),
        (GOOD + "2224-01-04,4\n", r"line 5: column 'ds' jumps from 2024-01-03"),
        ("ds,y\n1,1\n2.5,2\n", r"line 3: column 'ds' holds 2.5, which is no time"),
    ],
)
def test_an_error_names_file_line_and_column(tmp_path: Path, text: str, match: str) -> None:
    with pytest.raises(DataError, match=rf"sales\.csv.*{match}"):
        _read(tmp_path / "sales.csv", text)


@pytest.mark.parametrize(
    "texts",
    [
        ["2024-03-31T01:00:00+01:00", "2024-03-31T03:00:00+02:00", "2024-03-31T04:00:00+02:00"],
        ["2024-03-31 00", "2024-03-31 01", "2024-03-31 02"],
        ["03/31/2024 00:00", "03/31/2024 01:00", "03/31/2024 02:00"],
        ["31 March 2024 00:00", "31 March 2024 01:00", "31 March 2024 02:00"],
    ],
)
def test_reads_times_in_many_forms(texts: list[str]) -> None:
    table = table_from_frame(pd.DataFrame({"ds": texts, "y": [1.0, 2, 3]}), PLAIN)
    assert table.target.tolist() == [1, 2, 3]
    assert table.first[0].tz_localize(None) == pd.Timestamp("2024-03-31")
    assert table.grid.freq == "h"


def test_a_day_before_the_month_is_not_mixed_with_a_month_before_the_day() -> None:
    days = pd.DataFrame({"ds": ["11/02/2024", "12/02/2024", "13/02/2024"], "y": [1.0, 2, 3]})
    with pytest.raises(DataError, match="row 2: column 'ds' holds '13/02/2024'"):
        table_from_frame(days, PLAIN)


def test_lines_are_right_when_some_rows_were_left_out(tmp_path: Path) -> None:
    (tmp_path / "sales.csv").write_text("ds,y\n2024-01-01,1\n2024-01-02,2\nnever,3\n")
    with pytest.raises(DataError, match="line 4: column 'ds'"):
        table_from_frame(read_frame(tmp_path / "sales.csv").iloc[1:], PLAIN)


def test_a_row_without_series_is_named(tmp_path: Path) -> None:
    columns = ColumnRoles(id="shop", time="ds", target=("y",))
    with pytest.raises(DataError, match=r"line 3: column 'shop' is empty"):
        _read(tmp_path / "sales.csv", "shop,ds,y\na,1,1\n,2,2\n", columns)
    with pytest.raises(DataError, match=r"no column 'shop'; it has ds, y"):
        _read(tmp_path / "sales.csv", GOOD, columns)


def test_several_series_without_an_id_column_are_noticed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a second time .*there is no 'unique_id'"):
        _read(tmp_path / "sales.csv", "ds,y\n1,1\n2,2\n1,3\n2,4\n")


def test_a_static_column_must_not_change(frame: pd.DataFrame) -> None:
    frame.loc[frame["wind"] > 0, "town"] = "elsewhere"
    with pytest.raises(DataError, match="static column 'town' changes within series"):
        table_from_frame(frame, COLUMNS)


def test_refuses_what_is_no_table(tmp_path: Path) -> None:
    whole = gzip.compress(GOOD.encode() * 200)
    (tmp_path / "cut.csv.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "noise.csv").write_bytes(bytes(range(256)))
    (tmp_path / "noise.parquet").write_bytes(b"no parquet")
    (tmp_path / "notes.pdf").write_bytes(b"x")
    for name in ("cut.csv.gz", "noise.csv", "noise.parquet", "notes.pdf"):
        with pytest.raises(DataError, match=name.replace(".", r"\.")):
            read_frame(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read_frame(tmp_path / "nowhere.csv")
