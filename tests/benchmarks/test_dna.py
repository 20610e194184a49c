"""The DNA benchmark as a user runs it, on tiny sizes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from dna_parts import reading
from dna_parts.files import write_shapes

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.mark.slow
def test_every_part_is_measured(tmp_path: Path) -> None:
    out = tmp_path / "dna.json"
    words = ["--parts", "windows", "predict", "--lengths", "3000", "--most", "5000"]
    done = subprocess.run(
        [sys.executable, str(FOLDER / "dna.py"), *words, "--out", str(out)],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    table = json.loads(out.read_text("utf-8"))
    assert {"processor", "torch", "command"} <= set(table["environment"])
    assert table["windows"]["3,000 bp"]["letters"] == 3000
    assert table["windows"]["3,000 bp"]["windows"] == 15
    for name in ("3,000 bp", "3,000 bp, carried"):
        figures = table["predict"][name]
        assert (figures["rows"], figures["bp_through_network"], figures["last_end"]) == (
            15, 3000, 3000,
        )  # fmt: skip
        assert figures["peak_mb"] > figures["loaded_mb"] > 0
    assert "bp/s" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["dna.json"]


def test_every_reader_counts_the_same_letters(tmp_path: Path) -> None:
    for path in write_shapes(tmp_path, 1).values():
        found = reading.measure(path, 1)
        assert found["ours"]["ours_times_as_fast"] == 1
        assert {"SimpleFastaParser", "SeqIO.parse"} < set(found)
        assert all(one["mb_per_cpu_second"] > 0 for one in found.values())
