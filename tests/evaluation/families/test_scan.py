import dataclasses
import gzip
import random
from pathlib import Path

import pandas as pd
import pytest

from titans_seq.dna import TitansDNAClassifier
from titans_seq.evaluation.cards.reading import read_recipe
from titans_seq.evaluation.families import scan as scan_module
from titans_seq.evaluation.families.scan_worker import POINTS, Scan, Track, run_scan
from titans_seq.evaluation.runs.comparison import compare_runs
from titans_seq.evaluation.runs.overrides import override, with_input
from titans_seq.evaluation.runs.run import run_recipe
from titans_seq.exceptions import ConfigError


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    draw = random.Random(0)
    weights = {"poor": (3, 1, 1, 3), "rich": (1, 3, 3, 1)}
    labels = [draw.choice(("poor", "rich")) for _ in range(40)]
    texts = ["".join(draw.choices("ACGT", weights[one], k=80)) for one in labels]
    classifier = TitansDNAClassifier(dim=8, layers=1, max_epochs=1, random_state=0)
    folder = tmp_path_factory.mktemp("models") / "model"
    classifier.fit(texts, labels).save(folder)
    return str(folder)


@pytest.fixture
def genome(tmp_path: Path) -> Path:
    draw, path = random.Random(1), tmp_path / "genome.fa.gz"
    with gzip.open(path, "wt") as out:
        for name, size in (("one", 1010), ("two", 250)):
            out.write(f">{name}\n{''.join(draw.choices('ACGT', k=size))}\n")
    return path


def _words(model: str, *more: str) -> tuple[str, ...]:
    return (f"model={model}", "scan_window=100", *more)


def test_a_genome_is_read_whole(
    model: str, genome: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "short-lived").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "short-lived"))
    monkeypatch.setattr(scan_module, "scan_in_process", run_scan)  # a process takes seconds
    recipe = override(read_recipe("chromosome_stream"), _words(model), "chromosome_stream")
    whole = run_recipe(with_input(recipe, genome), tmp_path / "run")
    scores = whole["trials"]["seed-0"]["scores"]
    assert (scores["letters"], scores["rows"], scores["records"]) == (1260, 14, 2)
    assert scores["share(poor)"] + scores["share(rich)"] == pytest.approx(1)
    table = pd.read_csv(tmp_path / "run" / "predictions" / "seed-0.tsv.gz", sep="\t")
    rows = TitansDNAClassifier.load(model).predict_stream(genome, window=100, carry=True)
    for found, one in zip(table.itertuples(index=False), rows, strict=True):
        assert (found.record, found.start, found.end) == (one.record, one.start, one.end)
        assert found.label == one.label
        assert found.surprise == pytest.approx(one.surprise, abs=1e-4)
    (compared,) = compare_runs([tmp_path / "run"])
    assert compared.metric == "bp_per_second"
    assert compared.rows[0].scores["bp_per_second"]["bp_per_second"] > 0
    assert not list((tmp_path / "short-lived").iterdir())


@pytest.mark.slow
def test_a_process_of_its_own_finds_the_same(model: str, genome: Path, tmp_path: Path) -> None:
    words = {"model": model, "path": str(genome), "window": 100, "stride": 50, "carry": False,
             "threads": 1}  # fmt: skip
    here = run_scan(Scan(rows=str(tmp_path / "here"), **words))
    apart = scan_module.scan_in_process(Scan(rows=str(tmp_path / "apart"), **words))
    assert here.scores == apart.scores
    assert here.track == apart.track
    assert (tmp_path / "here").read_bytes() == (tmp_path / "apart").read_bytes()


def test_a_track_never_grows_beyond_what_a_picture_shows() -> None:
    track = Track()
    for place in range(10 * POINTS):
        track.add(float(place), place + 1)
    assert POINTS <= len(track.values) < 2 * POINTS
    assert track.values[0] == (track.windows_per_point - 1) / 2
    assert track.ends[0] == track.windows_per_point


def test_windows_that_overlap_carry_nothing(model: str, genome: Path, tmp_path: Path) -> None:
    words = _words(model, "scan_stride=50")
    recipe = override(read_recipe("chromosome_stream"), words, "chromosome_stream")
    with pytest.raises(ConfigError, match="overlapping windows cannot carry the memory"):
        run_recipe(with_input(recipe, genome), tmp_path / "run")
    plain = dataclasses.replace(recipe, dataset="nyc13", settings={"model": model})
    with pytest.raises(ConfigError, match="nyc13 is not a file of sequences"):
        run_recipe(plain, tmp_path / "other")
