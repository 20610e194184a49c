"""The rules of the build scripts, on inputs small enough to follow by eye."""

import gzip
import importlib.util
import random
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def script(monkeypatch):
    """Load a script by name, with its folder on the path as when it is run."""
    monkeypatch.syspath_prepend(str(SCRIPTS))

    def load(name):
        spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load


def toy_genome(length=2000):
    return "".join(random.Random(1).choices("ACGT", k=length))


def test_windows_lie_where_the_rule_says(script):
    ecoli = script("build_ecoli")
    genome = toy_genome()
    features = [
        ecoli.Feature("region", 0, 2000),
        ecoli.Feature("gene", 250, 1450),
        ecoli.Feature("CDS", 250, 1250),
        ecoli.Feature("repeat_region", 1400, 1500),
        ecoli.Feature("CDS", 1620, 1990),
    ]
    parts = ecoli.build(genome, features)
    found = {part: sorted((w.label, w.start) for w in windows) for part, windows in parts.items()}
    between = {part: [start for label, start in rows if label == "intergenic"]
               for part, rows in found.items()}  # fmt: skip
    assert between == {"train": [0, 100, 1500], "test": []}
    inside = [start for label, start in found["train"] if label == "coding"]
    assert len(inside) == 3
    assert all(250 <= start <= 1150 and (start - 250) % 100 == 0 for start in inside)


def test_a_window_across_the_border_is_in_neither_part(script):
    ecoli = script("build_ecoli")
    genome = toy_genome(1000)
    parts = ecoli.build(genome, [ecoli.Feature("CDS", 0, 450), ecoli.Feature("CDS", 900, 1000)])
    starts = {window.start for windows in parts.values() for window in windows
              if window.label == "intergenic"}  # fmt: skip
    assert starts == {450, 550, 650}


def test_the_header_says_where_a_window_lies_and_the_letters_follow_its_strand(script):
    ecoli = script("build_ecoli")
    genome = toy_genome(300)
    windows = [ecoli.Window(100, "+", "coding"), ecoli.Window(100, "-", "intergenic")]
    lines = ecoli.to_fasta("train", windows, genome).splitlines()
    assert lines[0] == ">train_0001 U00096.3:101-200(+) label=coding"
    assert lines[1] == genome[100:200]
    assert lines[3] == genome[100:200].translate(str.maketrans("ACGT", "TGCA"))[::-1]


def test_flights_are_counted_by_hour_and_weather_is_filled(script):
    nyc13 = script("build_nyc13")
    hours = ["2013-01-01T06:00:00Z", "2013-01-01T07:00:00Z", "2013-01-01T08:00:00Z"]
    flights = pd.DataFrame({
        "origin": "JFK",
        "time_hour": [hours[0], hours[0], hours[0], hours[2], "2013-01-01T09:00:00Z"],
        "dep_time": [900, 905, None, 1000, 1100],
        "dep_delay": [15, 16, None, 90, 90],
    })  # fmt: skip
    weather = pd.DataFrame({"origin": "JFK", "time_hour": [hours[0], hours[2]]})
    for column in nyc13.DECIMALS:
        weather[column] = [10.0, 20.0]
    weather["wind_speed"] = [10.0, 1000.0]
    rows = nyc13.build(flights, weather)
    assert rows["ds"].tolist() == ["2013-01-01 01:00", "2013-01-01 02:00", "2013-01-01 03:00"]
    assert rows["scheduled"].tolist() == [3, 0, 1]
    assert rows["departed"].tolist() == [2, 0, 1]
    assert rows["late"].tolist() == [1, 0, 1]
    assert rows["temp"].tolist() == [10, 15, 20]
    assert rows["wind_speed"].tolist() == [10, 10, 10]
    assert rows["weather_missing"].tolist() == [0, 1, 0]


def test_a_package_is_read_from_an_archive_or_a_folder(script, tmp_path):
    sources = script("sources")
    folder = tmp_path / "package" / "data"
    folder.mkdir(parents=True)
    (folder / "a.txt").write_bytes(b"one")
    with zipfile.ZipFile(tmp_path / "package.whl", "w") as wheel:
        wheel.write(folder / "a.txt", "package/data/a.txt")
    for source in (tmp_path / "package", tmp_path / "package.whl"):
        assert sources.read_members("package", ("data/a.txt",), source) == [b"one"]
    with pytest.raises(SystemExit, match=r"expected one file data/b\.txt"):
        sources.read_members("package", ("data/b.txt",), tmp_path / "package.whl")


def test_gzip_carries_neither_time_nor_name(script, tmp_path, capsys):
    sources = script("sources")
    for name in ("one", "other"):
        sources.write_gzip(tmp_path / f"{name}.gz", "text\n")
    assert (tmp_path / "one.gz").read_bytes() == (tmp_path / "other.gz").read_bytes()
    assert gzip.decompress((tmp_path / "one.gz").read_bytes()) == b"text\n"
    assert "sha256" in capsys.readouterr().out
