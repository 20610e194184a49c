"""The table of many runs: one row a data set, the best simple model beside."""

from __future__ import annotations

import json
from pathlib import Path

import accuracy as script
import pytest


def write_run(
    folder: Path, seed: int, mcc: float, *, threads: int = 1, complete: bool = True
) -> Path:
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
            "versions": {}, "machine": {}, "threads": threads, "processes": 1, "command": []
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
    [({"threads": 2}, "other versions, threads or machines"), ({"complete": False}, "--resume")],
)
def test_runs_that_do_not_belong_together_are_refused(
    tmp_path: Path, changes: dict[str, bool], said: str
) -> None:
    runs = [write_run(tmp_path / "0", 0, 0.7), write_run(tmp_path / "1", 1, 0.7, **changes)]
    with pytest.raises(SystemExit, match=said):
        script.main([*map(str, runs), "--out", str(tmp_path / "all.json")])
    assert not (tmp_path / "all.json").exists()
