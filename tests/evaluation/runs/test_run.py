"""Runs of recipes: what they write, and that a stopped one comes to the same figures."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from titans_seq.evaluation.cards.reading import parse_recipe, read_card, read_recipe
from titans_seq.evaluation.cards.recipes import RecipeCard
from titans_seq.evaluation.cards.records import (
    Columns,
    DataFile,
    DatasetCard,
    Intervals,
)
from titans_seq.evaluation.cards.splits import Split
from titans_seq.evaluation.data import checksums, locations
from titans_seq.evaluation.families import registry
from titans_seq.evaluation.families.protocol import Trial
from titans_seq.evaluation.runs import run as run_module
from titans_seq.evaluation.runs.comparison import compare_runs
from titans_seq.evaluation.runs.folder import RunFolder, read_recipe_file
from titans_seq.evaluation.runs.overrides import override
from titans_seq.evaluation.runs.report_files import write_comparison
from titans_seq.evaluation.runs.run import run_recipe
from titans_seq.evaluation.runs.summary import summarise, verdicts
from titans_seq.exceptions import ConfigError, DataError, DivergedError, MissingDataError
from titans_seq.ops.cpu.library import library
from titans_seq.training.saver import Saver
from titans_seq.training.task import Task

FILES = {
    "DONE", "checkpoints", "data.json", "environment.json", "metrics.json", "metrics.jsonl",
    "model", "plots", "predictions", "recipe.toml", "report.md", "timing.json",
}  # fmt: skip


class Killed(BaseException):
    """Stands for ``kill -9``: nobody catches it."""


FORECAST_RECIPE = RecipeCard(
    name="waves", summary="", dataset="waves", estimator="TitansForecaster", max_steps=30,
    settings={
        "horizon": 6, "context_length": 12, "dim": 8, "max_epochs": 4, "quantiles": [0.5],
    },
)  # fmt: skip


def _waves(folder: Path) -> DatasetCard:
    """Write a wide table of two series."""
    times = pd.date_range("2024-01-01", periods=300, freq="h")
    noise = np.random.default_rng(0).normal(size=(2, 300)) / 5
    waves = {"a": np.sin(np.arange(300) / 4) + noise[0], "b": np.arange(300) / 50 + noise[1]}
    pd.DataFrame({"date": times, **waves}).to_csv(folder / "waves.csv", index=False)
    return DatasetCard(
        name="waves", task="forecasting", summary="", source="", url="", licence="", citation="",
        split_rule="", files={"series": DataFile(path="waves.csv", rows=300, check="made here")},
        columns=Columns(time="date", target="*", season=24),
        split=Split(train=0.7, validation=0.1, test=0.2),
    )  # fmt: skip


def _small_genome(folder: Path) -> DatasetCard:
    """Write a genome of two kinds of regions, and lists of places in it."""
    draw = random.Random(0)
    weights = ((4, 1, 1, 4), (1, 4, 4, 1))
    regions = ["".join(draw.choices("ACGT", weights=each, k=3000)) for each in weights]
    (folder / "genome.fa").write_text(f">1\n{regions[0]}\n>2\n{regions[1]}\n")
    files = {"genome": DataFile(path="genome.fa", check="made here")}
    intervals = []
    for part, count in (("train", 60), ("test", 20)):
        for number, label in enumerate(("poor", "rich"), start=1):
            rows = [
                f"{i},chr{number},{start},{start + draw.randint(30, 50)},{draw.choice('+-')}"
                for i, start in enumerate(draw.sample(range(2900), count))
            ]
            name = f"{part}_{label}"
            with gzip.open(folder / f"{name}.csv.gz", "wt") as out:
                out.write("id,region,start,end,strand\n" + "\n".join(rows) + "\n")
            files[name] = DataFile(path=f"{name}.csv.gz", rows=count, check="made here")
            intervals.append(Intervals(file=name, genome="genome", part=part, label=label))
    return DatasetCard(
        name="small", task="classification", summary="", source="", url="", licence="",
        citation="", split_rule="", files=files, intervals=tuple(intervals),
        remarks=("Made for a test.",),
    )  # fmt: skip


DNA_RECIPE = RecipeCard(
    name="small", summary="", dataset="small", estimator="TitansDNAClassifier", seeds=(0, 1),
    settings={"dim": 8, "layers": 1, "max_epochs": 2},
)  # fmt: skip


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of the files of two small data sets, whose cards are found by name."""
    folder = tmp_path / "data"
    folder.mkdir()
    small = {"small": _small_genome(folder), "waves": _waves(folder)}

    def read(name: str) -> DatasetCard:
        return small[name] if name in small else read_card(name)

    monkeypatch.setattr("titans_seq.evaluation.families.registry.read_card", read)
    monkeypatch.setattr("titans_seq.evaluation.runs.comparison.read_card", read)
    monkeypatch.setenv("TITANS_SEQ_DATA", str(folder))
    return folder


def _kill_at(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process seem to die before its n-th step."""
    before, calls = Saver.on_train_batch_start, 0

    def counted(self: Saver, *words: Any) -> None:
        nonlocal calls
        before(self, *words)
        calls += 1
        if calls == number:
            raise Killed

    monkeypatch.setattr(Saver, "on_train_batch_start", counted)


def _scores(folder: Path) -> str:
    return (folder / "metrics.json").read_text()


@pytest.mark.slow
def test_a_set_of_intervals_is_run_end_to_end_and_goes_on_after_a_kill(
    data: Path, tmp_path: Path
) -> None:
    whole = run_recipe(DNA_RECIPE, tmp_path / "whole")
    assert {path.name for path in (tmp_path / "whole").iterdir()} == FILES
    assert set(whole["trials"]) == {"seed-0", "seed-1"}
    assert whole["controls"]["all"]["share of G and C"]["accuracy"] > 0.9
    assert json.loads((tmp_path / "whole" / "data.json").read_text())["parts"] == {
        "train": 120, "test": 40,
    }  # fmt: skip
    table = pd.read_parquet(tmp_path / "whole" / "predictions" / "seed-1.parquet")
    assert list(table.columns) == ["label", "predicted", "p(poor)", "p(rich)"]
    assert len(table) == 40
    assert sorted(path.name for path in (tmp_path / "whole" / "model").iterdir()) == [
        "seed-0", "seed-1",
    ]  # fmt: skip
    report = (tmp_path / "whole" / "report.md").read_text()
    assert "- Made for a test." in report
    assert "- whole: 2 seeds, accuracy from" in report
    for number in (7, 5):  # in the second epoch of the first training, then in the second one
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
            _kill_at(number, patch)
            run_recipe(DNA_RECIPE, tmp_path / "killed", every=0, resume=True)
    run_recipe(DNA_RECIPE, tmp_path / "killed", resume=True)
    assert _scores(tmp_path / "killed") == _scores(tmp_path / "whole")


@pytest.mark.slow
def test_a_run_reads_its_card_once_and_hashes_each_file_once(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards: list[str] = []
    hashed: list[str] = []
    read, compute, hash_whole = registry.read_card, checksums.checksums, locations.file_digest

    def read_and_count(name: str) -> DatasetCard:
        cards.append(name)
        return read(name)

    def compute_and_count(path: Path, **options: Any) -> Any:
        hashed.append(path.name)
        return compute(path, **options)

    def hash_and_count(path: Path) -> str:
        hashed.append(path.name)
        return hash_whole(path)

    monkeypatch.setattr(registry, "read_card", read_and_count)
    monkeypatch.setattr("titans_seq.evaluation.runs.comparison.read_card", read_and_count)
    monkeypatch.setattr(checksums, "checksums", compute_and_count)
    monkeypatch.setattr(locations, "file_digest", hash_and_count)
    run_recipe(dataclasses.replace(DNA_RECIPE, seeds=(0,), max_steps=1), tmp_path / "run")
    assert cards == ["small"]
    files = json.loads((tmp_path / "run" / "data.json").read_text())["files"]
    assert sorted(hashed) == sorted(Path(file["path"]).name for file in files.values())
    for file in files.values():
        assert file["sha256"] == hashlib.sha256(Path(file["path"]).read_bytes()).hexdigest()


@pytest.mark.slow
def test_a_forecast_is_run_again_from_its_folder_to_the_digit(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = FORECAST_RECIPE
    whole = run_recipe(recipe, tmp_path / "whole")
    assert whole["complete"]
    assert whole["trials"]["horizon-6-seed-0"]["scores"]["windows"] == 60 - 6 + 1
    lines = (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]
    table = pd.read_parquet(tmp_path / "whole" / "predictions" / "horizon-6-seed-0.parquet")
    assert list(table.columns) == [
        "series", "cutoff", "step", "actual", "forecast", "forecast-q0.5",
    ]  # fmt: skip
    waves = pd.read_csv(data / "waves.csv", parse_dates=["date"])
    assert table["cutoff"].iloc[0] == waves["date"][239]
    np.testing.assert_allclose(table["actual"], [*waves["a"][240:], *waves["b"][240:]], rtol=1e-5)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        _kill_at(28, patch)
        run_recipe(recipe, tmp_path / "again", every=0)
    with pytest.raises(ConfigError, match="holds a run already: --resume continues"):
        run_recipe(recipe, tmp_path / "again")
    other = dataclasses.replace(recipe, seeds=(1,))
    with pytest.raises(ConfigError, match=r"began with seeds = \[0\], now it is \[1\]"):
        run_recipe(other, tmp_path / "again", resume=True)
    kept = read_recipe_file(tmp_path / "again" / "recipe.toml")
    again = run_recipe(kept, tmp_path / "again", resume=True)
    assert again == whole
    assert _scores(tmp_path / "again") == _scores(tmp_path / "whole")

    monkeypatch.setattr(run_module, "read_experiment", lambda *words: pytest.fail("nothing to do"))
    assert run_recipe(kept, tmp_path / "again", resume=True) == whole


@pytest.mark.slow
def test_a_run_that_goes_on_with_another_form_of_the_memory_says_so(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        _kill_at(1, patch)
        run_recipe(FORECAST_RECIPE, tmp_path / "run")
    path = tmp_path / "run" / "environment.json"
    began = json.loads(path.read_text())
    assert began["compiled_memory"] is (library() is not None)
    changed = began | {"compiled_memory": not began["compiled_memory"]}
    del changed["processes"]  # of a version that did not note it: nothing to say
    path.write_text(json.dumps(changed))
    run_recipe(FORECAST_RECIPE, tmp_path / "run", resume=True)
    (said,) = [one.getMessage() for one in caplog.records if "now it is" in one.getMessage()]
    was, now = changed["compiled_memory"], began["compiled_memory"]
    assert f"compiled_memory was {was}, now it is {now}: scores may differ" in said
    after = json.loads(path.read_text())
    assert after["compiled_memory"] is was
    assert [one["compiled_memory"] for one in after["resumed"]] == [now]


def test_a_divergence_keeps_the_checkpoint(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, calls = Task.training_step, 0

    def bad(task: Task, *words: Any) -> Any:
        nonlocal calls
        calls += 1
        return step(task, *words) * (math.nan if calls == 5 else 1.0)

    monkeypatch.setattr(Task, "training_step", bad)
    with pytest.raises(DivergedError, match=r"the last good checkpoint is .*training-1\.saf"):
        run_recipe(FORECAST_RECIPE, tmp_path / "run", every=0)
    assert (tmp_path / "run" / "checkpoints" / "horizon-6-seed-0").is_dir()
    assert not (tmp_path / "run" / "DONE").exists()


def test_data_that_change_between_two_parts_of_a_run_are_refused(
    data: Path, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        _kill_at(1, patch)
        run_recipe(DNA_RECIPE, tmp_path / "run")
    (data / "genome.fa").write_text((data / "genome.fa").read_text() + ">3\nACGT\n")
    with pytest.raises(DataError, match=r"genome\.fa has changed since .* was begun"):
        run_recipe(DNA_RECIPE, tmp_path / "run", resume=True)


def test_data_that_are_nowhere_leave_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TITANS_SEQ_CACHE", str(tmp_path / "cache"))
    with pytest.raises(MissingDataError, match="`titans-seq dataset fetch etth1` fetches it"):
        run_recipe(read_recipe("etth1"), tmp_path / "run", data_folder=tmp_path)
    assert not (tmp_path / "run").exists()


def test_a_folder_with_other_things_is_left_alone(data: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for force in (False, True):
        with pytest.raises(ConfigError, match=r"holds other files \(no recipe.toml\)"):
            run_recipe(FORECAST_RECIPE, tmp_path, force=force)
    assert (tmp_path / "thesis.tex").exists()


def test_two_processes_do_not_write_to_one_run(tmp_path: Path) -> None:
    with (
        RunFolder(tmp_path / "run").locked(),
        pytest.raises(ConfigError, match="another process is running in this folder"),
        RunFolder(tmp_path / "run").locked(),
    ):
        pass


def test_what_a_kill_left_half_written_is_removed(tmp_path: Path) -> None:
    recipe = FORECAST_RECIPE
    folder = RunFolder(tmp_path / "run")
    folder.begin(recipe, resume=False, force=False)
    (tmp_path / "run" / ".0123abcd.metrics.json").write_text("{")
    (tmp_path / "run" / ".model.0123abcd").mkdir()
    (tmp_path / "run" / ".notes").write_text("mine")
    assert not folder.begin(recipe, resume=True, force=False)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"recipe.toml", ".notes"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dmi=8"], "-s dmi=8: unknown key 'dmi'; did you mean 'dim'"),
        (["dim=wide"], "dim must be of type int, got 'wide'"),
        (["dim"], "-s dim: write NAME=VALUE"),
        (["target_col=x"], "unknown key 'target_col'"),
        (["horizons=[0]"], "at least 1 each"),
        (["horizon=12"], "this recipe has several; set horizons instead"),
        (["seeds=one"], "seeds = 'one' is not of type"),
    ],
)
def test_a_word_that_cannot_be_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        override(read_recipe("etth1"), words, "etth1")


def test_words_change_the_recipe_and_the_settings_of_its_estimator() -> None:
    words = ["dim=64", "horizons=[96]", "seeds=[3, 4]", "quantiles=[0.5]", "learning_rate=1"]
    found = override(read_recipe("etth1"), words, "etth1")
    assert (found.horizons, found.seeds) == ((96,), (3, 4))
    assert found.settings == {
        "context_length": 96, "dim": 64, "quantiles": [0.5], "learning_rate": 1,
    }  # fmt: skip


def test_means_are_over_seeds_and_horizons() -> None:
    trials = [
        {"horizon": h, "seed": s, "scores": {"mse": h / 100 + s, "nan": None}}
        for h in (100, 300) for s in (0, 1)
    ]  # fmt: skip
    found = summarise(trials)
    assert found["100"] == {"mse": {"mean": 1.5, "low": 1.0, "high": 2.0}}
    assert found["mean"] == {"mse": {"mean": 2.5, "low": 2.0, "high": 3.0}}


def test_a_run_says_whether_it_met_what_its_recipe_expects() -> None:
    expect = {
        "mse": {"at_most": 2.5},
        "mae": {"at_least": 0.5},
        "pinball": {"value": 1.0, "tolerance": 0.1, "seeds": [0, 1], "source": "two cores"},
        "coverage": {"value": 0.8, "tolerance": 0.01},
    }
    table = {"name": "r", "summary": "", "dataset": "nyc13", "estimator": "TitansForecaster"}
    recipe = parse_recipe({**table, "expect": expect}, "recipes/r.toml")
    found = {"mse": 2.5, "pinball": 1.05, "coverage": 0.82}
    assert verdicts(recipe, {k: {"mean": v, "low": v, "high": v} for k, v in found.items()}) == (
        "expected mse at most 2.5: reached, 2.500",
        "expected mae at least 0.5: NOT REACHED",
        "expected pinball 1 within 0.1 (two cores): reached, 1.050",
        "expected coverage 0.8 within 0.01: NOT REACHED, 0.820",
    )
    for wrong, message in (
        ({"at_lest": 1.0}, "expect.mse: unknown key 'at_lest'; did you mean 'at_least'"),
        ({"value": 1.0}, "expect.mse: value and tolerance must be given together"),
        ({"source": "a dream"}, "expect.mse: give at_least, at_most, or value and tolerance"),
        (0.4, r"mse must be a table, \[mse\], got 0.4"),
    ):
        with pytest.raises(ConfigError, match=message):
            parse_recipe({**table, "expect": {"mse": wrong}}, "recipes/r.toml")


@pytest.mark.slow
def test_a_grouped_split_is_scored_beside_the_given_one(data: Path, tmp_path: Path) -> None:
    recipe = dataclasses.replace(DNA_RECIPE, seeds=(0,), splits=("given", "grouped"))
    recipe = dataclasses.replace(recipe, expect={"accuracy": {"at_least": 0.0}})
    whole = run_recipe(recipe, tmp_path / "both")
    assert list(whole["trials"]) == ["seed-0", "grouped-seed-0"]
    assert whole["summary"]["mean"] == whole["summary"]["all"]
    assert whole["summary"]["grouped"].keys() == whole["summary"]["all"].keys()
    parts = json.loads((tmp_path / "both" / "data.json").read_text())["parts"]
    assert sum(parts["grouped"].values()) == 160
    assert 0 < parts["test_rows_that_overlap"] <= 40
    (found,) = compare_runs([tmp_path / "both"])
    names = {row.model: row.kind for row in found.rows}
    assert names["both"] == names["both, grouped split"] == "ours"
    assert names["share of G and C, grouped split"] == "control"
    assert "expected accuracy at least 0: reached" in found.to_text()
    with pytest.raises(ConfigError, match="a grouped split is only possible for"):
        run_recipe(dataclasses.replace(FORECAST_RECIPE, splits=("grouped",)), tmp_path / "no")


def _fake_run(folder: Path, horizons: tuple[int, ...]) -> Path:
    trials = {
        Trial(seed, h).name: {"horizon": h, "seed": seed, "scores": {"mse": 0.4, "mae": 0.3}}
        for h in horizons for seed in (0, 1)
    }  # fmt: skip
    folder.mkdir()
    (folder / "metrics.json").write_text(json.dumps({
        "dataset": "etth1", "metric": "mse", "columns": ["mse", "mae"], "trials": trials,
        "summary": summarise(trials.values()), "verdicts": [],
        "controls": {str(h): {"last value": {"mse": 1.0, "mae": 0.5}} for h in horizons},
    }))  # fmt: skip
    return folder


def test_a_comparison_says_what_cannot_be_compared_and_why(tmp_path: Path) -> None:
    four = _fake_run(tmp_path / "four", (96, 192, 336, 720))
    one = _fake_run(tmp_path / "one", (96,))
    (found,) = compare_runs([four, one])
    assert found.columns == ("96", "192", "336", "720", "mean")
    text = found.to_text()
    assert "four" in text.splitlines()[3]
    rows = {row.model: row for row in found.rows}
    assert rows["one"].scores == {
        "96": {"mse": 0.4, "mae": 0.3}, "mean": {"mse": 0.4, "mae": 0.3},
    }  # fmt: skip
    assert rows["last value"].kind == "control"
    assert rows["Titans neural memory"].kind == "not comparable"
    assert rows["iTransformer"].scores["mean"] == {"mse": 0.454, "mae": 0.447}
    assert "look-back not stated" in text
    kinds = [row.kind for row in found.rows]
    assert kinds == sorted(kinds, key=["ours", "control", "published", "not comparable"].index)
    for name in ("table.md", "table.json", "table.png"):
        write_comparison([found], tmp_path / name)
        assert (tmp_path / name).stat().st_size > 1000
    (short,) = compare_runs([one])
    assert short.columns == ("96",)
    assert "Titans neural memory" not in {row.model for row in short.rows}


def test_a_folder_without_a_finished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"not the folder of a run: it has no metrics\.json"):
        compare_runs([tmp_path])
    (tmp_path / "metrics.json").write_text('{"dataset": "etth1"}')
    with pytest.raises(ConfigError, match="is not complete; continue it with --resume"):
        compare_runs([tmp_path])
