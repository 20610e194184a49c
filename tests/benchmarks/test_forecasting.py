"""The forecasting benchmark as a user runs it, on tiny sizes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import forecasting
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.mark.slow
def test_every_subject_is_timed_beside_ours(tmp_path: Path) -> None:
    out = tmp_path / "forecasting.json"
    tiny = {"series": 2, "rows": 120, "context": 12, "horizon": 6, "batch": 4, "batches": 2,
            "rounds": 1}  # fmt: skip
    words = [word for name, value in tiny.items() for word in (f"--{name}", str(value))]
    done = subprocess.run(
        [sys.executable, str(FOLDER / "forecasting.py"), *words, "--out", str(out)],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    table = json.loads(out.read_text("utf-8"))
    assert table["sizes"] == tiny
    assert {"processor", "torch", "command"} <= set(table["environment"])
    subjects = {name: set(found) for name, found in table["tasks"].items()}
    assert subjects == {
        "windows": {"ours", "TimeSeriesDataSet"},
        "epoch": {"ours", "N-HiTS", "TFT"},
        "predict": {"ours", "N-HiTS", "TFT"},
    }
    for found in table["tasks"].values():
        assert found["ours"]["over_ours"] == 1
        assert all(figures["seconds"] > 0 for figures in found.values())
    assert "windows/s" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["forecasting.json"]


def test_a_ratio_is_the_median_over_the_rounds() -> None:
    ours, other = iter([9, 1.0, 2.0, 4.0]), iter([9, 10.0, 40.0, 20.0])
    found = forecasting.measure(
        {"epoch": {"ours": lambda: next(ours), "b": lambda: next(other)}}, 3
    )
    assert found["epoch"]["b"] == {"seconds": 20.0, "over_ours": 10.0}
    assert "10.0 x ours" in forecasting.show(found)
