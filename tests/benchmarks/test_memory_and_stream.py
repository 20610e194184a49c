"""The scripts as a user runs them, on tiny sizes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import stream

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


def run(script: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a script of the benchmarks."""
    return subprocess.run(
        [sys.executable, str(FOLDER / script), *words], capture_output=True, text=True, check=False
    )


def measure(out: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Measure one tiny cell."""
    tiny = ["--dim", "8", "--heads", "2", "--depths", "1", "--chunks", "4", "--batches", "1"]
    short = ["--times", "8", "--modes", "train", "--rounds", "1", "--turn", "0"]
    subject = ["--subjects", "ours-titans", "--large", "without", "--out", str(out)]
    return run("memory.py", *tiny, *short, *subject, *words)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """File of results with one cell."""
    out = tmp_path_factory.mktemp("results") / "folder" / "memory.json"
    done = measure(out)
    assert done.returncode == 0, done.stderr
    assert "ours-titans    train" in done.stdout
    return out


def read(path: Path) -> dict[str, Any]:
    table: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return table


def test_results_say_where_and_what(results: Path) -> None:
    table = read(results)
    assert {"processor", "cores", "torch", "date", "seed", "command", "peers"} <= set(
        table["environment"]
    )
    (cell,) = table["cells"]
    assert (cell["status"], cell["time"], cell["subject"]) == ("ok", 8, "ours-titans")
    assert table["claims"]


def test_a_second_run_measures_only_what_is_missing(results: Path) -> None:
    before = read(results)["cells"]
    done = measure(results, "--times", "8", "12")
    assert done.returncode == 0, done.stderr
    after = read(results)["cells"]
    assert after[: len(before)] == before
    assert [cell["time"] for cell in after] == [8, 12]


def test_results_of_another_machine_are_not_mixed_in(results: Path, tmp_path: Path) -> None:
    table = read(results)
    table["environment"]["processor"] = "an abacus"
    other = tmp_path / "other.json"
    other.write_text(json.dumps(table), "utf-8")
    done = measure(other)
    assert done.returncode == 1
    assert "measured with processor 'an abacus'" in done.stderr


def test_a_stream_is_read_in_pieces_with_a_state_that_does_not_grow(tmp_path: Path) -> None:
    out = tmp_path / "stream.json"
    words = ["--tokens", "70", "--piece", "20", "--dim", "8", "--heads", "2", "--chunks", "4"]
    done = run("stream.py", *words, "--variants", "mac", "--out", str(out))
    assert done.returncode == 0, done.stderr
    (record,) = read(out)["streams"]
    assert record["finite"]
    assert len(record["tokens_per_second"]) == 4
    assert record["peak_mb"] >= record["first_mb"]


def test_a_hostile_stream_stays_finite(tmp_path: Path) -> None:
    out = tmp_path / "hostile.json"
    words = ["--tokens", "40", "--piece", "16", "--dim", "8", "--heads", "2", "--chunks", "4"]
    done = run("stream.py", "--hostile", *words, "--variants", "lmm", "--out", str(out))
    assert done.returncode == 0, done.stderr
    (record,) = read(out)["streams"]
    assert record["finite"]
    assert 0 < record["largest_output"] < 100


def make(**changes: Any) -> stream.Stream:
    """Return a small stream."""
    usual: dict[str, Any] = {
        "variant": "lmm", "chunk": 4, "tokens": 10, "piece": 4, "dim": 3, "heads": 1,
        "threads": 1, "hostile": False, "seed": 0,
    }  # fmt: skip
    return stream.Stream(**usual | changes)


@pytest.mark.parametrize("hostile", [False, True])
def test_pieces_make_up_the_stream_and_never_repeat(hostile: bool) -> None:
    parts = list(stream.pieces(make(hostile=hostile)))
    rows = len(stream.HOSTILE) if hostile else 1
    assert [tuple(one.shape) for one in parts] == [(rows, 4, 3), (rows, 4, 3), (rows, 2, 3)]
    noise = stream.HOSTILE.index("noise") if hostile else 0
    assert not parts[0][noise].equal(parts[1][noise])


def test_signs_go_on_alternating_from_piece_to_piece() -> None:
    parts = list(stream.pieces(make(hostile=True, piece=3, tokens=6)))
    row = stream.HOSTILE.index("alternating")
    assert parts[1][row, 0].equal(-parts[0][row, 2])


def test_speed_is_told_for_each_tenth() -> None:
    marks = [(10 * step, 2.0 * step, 1.0 * step) for step in range(21)]
    speeds = stream.speeds(marks)
    assert speeds["tokens_per_second"] == [5.0] * 10
    assert speeds["tokens_per_cpu_second"] == [10.0] * 10
    assert speeds["fastest_over_slowest"] == 1.0
