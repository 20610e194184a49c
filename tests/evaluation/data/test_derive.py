"""Derived files: the rules of those that make them, on inputs small enough to follow by eye."""

import gzip
from pathlib import Path

import pandas as pd
import pytest

from titans_seq.evaluation.cards.reading import list_cards, read_card
from titans_seq.evaluation.data import derive as derive_module
from titans_seq.evaluation.data.derive import BUILDERS, DerivedFile, derive
from titans_seq.exceptions import ConfigError, DataError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder that stands for that of the cards."""
    monkeypatch.setattr(derive_module, "card_folder", lambda kind: tmp_path)
    return tmp_path


@pytest.mark.slow
def test_an_hour_that_is_missing_has_no_rentals_and_weather_from_beside(tmp_path: Path) -> None:
    head = "dteday,hr,holiday,workingday,weathersit,temp,hum,windspeed,casual,registered\n"
    rows = ["2011-01-01,22,1,0,1,0.24,0.81,0.0896,3,13", "2011-01-02,1,0,1,3,0.26,0.853,0.1,8,32"]
    (tmp_path / "hour.csv").write_text(head + "\n".join(rows) + "\n")
    made = derive("bike_sharing", tmp_path / "hour.csv", DerivedFile("bike_sharing", "hourly"))
    lines = made.decode().splitlines()
    assert lines[:5] == [
        "ds,casual,registered,temp_c,humidity,windspeed,weather,holiday,workingday,was_missing",
        "2011-01-01 22:00,3,13,3.28,81.0,6.0,1,1,0,0",
        "2011-01-01 23:00,0,0,3.59,82.4,6.24,1,1,0,1",
        "2011-01-02 00:00,0,0,3.91,83.9,6.47,1,0,1,1",
        "2011-01-02 01:00,8,32,4.22,85.3,6.7,3,0,1,0",
    ]
    assert len(lines) == 1 + 2 + 24
    assert lines[-1].startswith("2011-01-02 23:00,0,0,")


def test_rows_are_taken_as_the_split_has_them(folder: Path) -> None:
    (folder / "uci_splice").mkdir()
    with gzip.open(folder / "uci_splice" / "rows.csv.gz", "wt") as out:
        out.write("part,row\ntrain,2\ntrain,0\ntest,1\n")
    raw = folder / "splice.data"
    raw.write_text("EI, a-1,  acgt\nN, b,   TTNA\nIE, c, GGGG\n")
    train, test = (
        derive("uci_splice", raw, DerivedFile("uci_splice", part)) for part in ("train", "test")
    )
    assert train == b"sequence,label\nGGGG,IE\nACGT,EI\n"
    assert test == b"sequence,label\nTTNA,N\n"
    raw.write_text("EI, a-1, ACGT\n")
    with pytest.raises(DataError, match="expected at least 3 rows, got 1"):
        derive("uci_splice", raw, DerivedFile("uci_splice", "train"))
    raw.write_text("EI, a-1, ACGT\nN\n")
    with pytest.raises(DataError, match="line 2: expected 3 cells, got 1"):
        derive("uci_splice", raw, DerivedFile("uci_splice", "train"))


def test_windows_are_cut_from_the_strand_that_is_named(folder: Path) -> None:
    (folder / "small").mkdir()
    with gzip.open(folder / "small" / "places.csv.gz", "wt") as out:
        out.write("part,label,region,start,end,strand\n")
        out.write("train,sense,chrI,1,5,+\ntest,sense,chrI,0,3,+\ntrain,antisense,chrII,0,4,-\n")
    (folder / "genome.fa").write_text(">chrI\nACCGTT\n>chrII\nAAGTC\n")
    made = derive("windows", folder / "genome.fa", DerivedFile("small", "train"))
    assert made == b"sequence,label\nCCGT,sense\nACTT,antisense\n"


def test_a_table_of_r_keeps_its_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rdata = pytest.importorskip("rdata", reason="needs the extra rdata")
    table = pd.DataFrame({
        "Time": [1325336400.0, 1325338200.0], "Demand": [4382.825174, 4263.365526],
        "Temperature": [21.4, 21.05], "Holiday": [True, False],
    }, index=["1", "2"])  # fmt: skip
    monkeypatch.setattr(rdata, "read_rda", lambda path: {"vic_elec": table})
    made = derive("vic_elec", tmp_path / "vic_elec.rda", DerivedFile("vic_elec", "half_hourly"))
    assert made.decode().splitlines() == [
        "time_utc,time_local,demand_mwh,temperature_c,holiday",
        "2011-12-31 13:00,2012-01-01 00:00,4382.825,21.4,1",
        "2011-12-31 13:30,2012-01-01 00:30,4263.366,21.05,0",
    ]


def test_every_card_names_builders_that_there_are() -> None:
    for name in list_cards():
        for file in read_card(name).files.values():
            assert file.made_by is None or file.made_by in BUILDERS
    with pytest.raises(ConfigError, match="made_by: unknown key 'window'; did you mean 'windows'"):
        derive("window", Path("x"), DerivedFile("small", "train"))


@pytest.mark.parametrize("name", ["yeast_cds_strand", "yeast_coding_vs_intergenic"])
def test_places_have_as_many_rows_as_the_card_says(name: str) -> None:
    places = pd.read_csv(derive_module.card_folder("datasets") / name / "places.csv.gz")
    for part, file in read_card(name).files.items():
        assert (places["part"] == part).sum() == file.rows
    assert (places["end"] - places["start"] == 250).all()
    held_out = places.loc[places["part"] == "test", "region"]
    assert set(held_out) == {"chrXIII", "chrXIV", "chrXV", "chrXVI"}
