"""The table of many runs: one row a data set, the best simple model beside."""

from __future__ import annotations

import json
from pathlib import Path

import accuracy as script
import pytest


def write_run(
    folder: Path, seed: int, mcc: float, *,
    threads: int = 1, compiled: bool = True, complete: bool = True,
) -> Path:  # fmt: skip
    """Write the files of a run on a set of GUE that the table reads."""
    folder.mkdir()
    trial = {"horizon": None, "seed": seed, "split": "given", "scores": {"mcc": mcc}}
    files = {
        "metrics.json": {
            "recipe": "gue_mouse_3", "dataset": "gue_mouse_3", "metric": "mcc", "data": None,
            "complete": complete, "trials": {f"seed-{seed}": trial},
            "controls": {"all": {"majority": {"mcc": 0.0}, "letters by place": {"mcc": 0.063}}},
        },
        "timing.json": {f"seed-{seed}": {"cpu_seconds": 100.0 + seed, "wall_seconds": 120.0}},
        "environment.json": {
            "versions": {}, "machine": {}, "threads": threads, "processes": 1,
            "compiled_memory": compiled, "command": [],
        },
    }  # fmt: skip
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    return folder


def test_runs_of_one_set_are_one_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [write_run(tmp_path / str(seed), seed, 0.68 + seed / 10) for seed in (2, 0)]
    script.main([*map(str, runs), "--out", str(tmp_path / "all.json")])
    line = capsys.readouterr().out.splitlines()[-1]
    # The best simple model and DNABERT-2's figure are those of the set's card.
    assert line == (
        "| gue_mouse_3 | mcc | small CNN with pooling 0.716 | 0.665 | 0.780 (0.680-0.880) | "
        "simple, DNABERT-2 | 101 |"
    )
    kept = json.loads((tmp_path / "all.json").read_text())["datasets"]["gue_mouse_3"]
    assert [trial["seed"] for trial in kept["trials"]] == [0, 2]
    assert kept["trials"][1]["seconds"]["cpu_seconds"] == 102.0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"threads": 2}, "different versions, threads, machines or back ends"),
        ({"compiled": False}, "different versions, threads, machines or back ends"),
        ({"complete": False}, "--resume"),
    ],
)
def test_runs_that_do_not_belong_together_are_refused(
    tmp_path: Path, changes: dict[str, bool], said: str
) -> None:
    runs = [write_run(tmp_path / "0", 0, 0.7), write_run(tmp_path / "1", 1, 0.7, **changes)]
    with pytest.raises(SystemExit, match=said):
        script.main([*map(str, runs), "--out", str(tmp_path / "all.json")])
    assert not (tmp_path / "all.json").exists()


def write_long_run(folder: Path, seed: int, horizons: tuple[str, ...] = ("96", "192")) -> Path:
    """Write the files of a run of the long-horizon protocol: errors grow with seed and horizon."""
    folder.mkdir()
    scores = {h: {"mse": int(h) / 960 + seed / 100, "mae": int(h) / 480} for h in horizons}
    trials = {f"horizon-{h}-seed-{seed}": {"horizon": int(h), "seed": seed, "scores": scores[h]}
              for h in horizons}  # fmt: skip
    controls = {
        "96": {"last value": {"mse": 1.3, "mae": 0.7}, "least squares": {"mse": 0.4, "mae": 0.5}},
        "192": {"last value": {"mse": 1.5, "mae": 0.8}, "least squares": {"mse": 0.6, "mae": 0.7}},
    }
    files = {
        "metrics.json": {
            "recipe": "etth1", "dataset": "etth1", "metric": "mse", "data": None,
            "complete": True, "trials": trials, "controls": controls,
        },
        "timing.json": {name: {"cpu_seconds": 600.0, "wall_seconds": 700.0} for name in trials},
        "environment.json": {
            "versions": {}, "machine": {}, "threads": 1, "processes": 1, "command": []
        },
    }  # fmt: skip
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    return folder


def test_sets_with_horizons_are_means_over_seeds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [write_long_run(tmp_path / str(seed), seed) for seed in (0, 2)]
    script.main([*map(str, runs), "--out", str(tmp_path / "all.json")])
    *_, line = capsys.readouterr().out.splitlines()
    # The best published figure is that of the set's card.
    assert line == (
        "| etth1 | 0.110/0.200 | 0.210/0.400 | 0.160/0.300 | 0.150-0.170 | "
        "least squares 0.500/0.600 | CMamba 0.433 | 2 | 1,200 |"
    )
    assert len(json.loads((tmp_path / "all.json").read_text())["datasets"]["etth1"]["trials"]) == 4


def test_a_horizon_that_a_seed_lacks_is_told(tmp_path: Path) -> None:
    runs = [write_long_run(tmp_path / "0", 0), write_long_run(tmp_path / "1", 1, ("96",))]
    with pytest.raises(SystemExit, match="etth1: no run has 192 of seed 1"):
        script.main([*map(str, runs), "--out", str(tmp_path / "all.json")])
    assert not (tmp_path / "all.json").exists()
