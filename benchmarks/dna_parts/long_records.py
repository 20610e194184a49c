"""Time and memory for records of growing length, one process per cell to measure its peak."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from memory_cells.machine import peak_megabytes

from titans_seq.dna.reading.records import checked_fasta
from titans_seq.dna.streaming.stream import WindowGrid, cut_windows

Figures = dict[str, Any]


def read_windows(path: Path, window: int) -> Figures:
    """Read, check, encode and cut a file into windows, without a network."""
    letters = windows = 0
    wall_start, cpu_start = time.perf_counter(), time.process_time()
    with checked_fasta(path) as source:
        surveyed = time.process_time()
        for record_window in cut_windows(source.pieces(), WindowGrid.checked(window)):
            letters += len(record_window.codes)
            windows += 1
    used = time.process_time()
    return {
        "letters": letters,
        "windows": windows,
        "seconds": time.perf_counter() - wall_start,
        "survey_cpu_seconds": surveyed - cpu_start,
        "cpu_seconds": used - cpu_start,
        "bp_per_cpu_second": letters / (used - cpu_start),
        "peak_mb": peak_megabytes(),
    }


def predict(path: Path, model: Path, window: int, stride: int, carry: bool) -> Figures:
    """Predict a file in windows, as ``titans-seq dna predict`` does."""
    import torch

    from titans_seq.dna import TitansDNAClassifier

    classifier = TitansDNAClassifier.load(model)
    start_mb = peak_megabytes()
    first_mb = None
    letters = rows = 0
    wall_start, cpu_start = time.perf_counter(), time.process_time()
    windowing = {"carry": True} if carry else {"stride": stride}
    end = 0
    for row in classifier.predict_stream(path, window=window, **windowing):
        rows += 1
        letters += row.end - row.start
        end = row.end
        if first_mb is None and letters >= 100_000:
            first_mb = peak_megabytes()
    used, taken = time.process_time() - cpu_start, time.perf_counter() - wall_start
    return {
        "rows": rows,
        "last_end": end,
        "bp_through_network": letters,
        "seconds": taken,
        "cpu_seconds": used,
        "network_bp_per_second": letters / taken,
        "network_bp_per_cpu_second": letters / used,
        "threads": torch.get_num_threads(),
        "loaded_mb": start_mb,
        "mb_after_100_kbp": first_mb,
        "peak_mb": peak_megabytes(),
    }


def run_in_process(script: str, cell: Figures) -> Figures:
    """Run a cell in its own process, and return it with its results."""
    done = subprocess.run(
        [sys.executable, script, "--worker", json.dumps(cell)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{cell} failed:\n{done.stderr}")
    figures: Figures = json.loads(done.stdout)
    return {**{name: value for name, value in cell.items() if name != "model"}, **figures}


def run_cell(cell: Figures) -> Figures:
    """Run a cell in this process."""
    path = Path(cell["path"])
    if cell["part"] == "windows":
        return read_windows(path, cell["window"])
    return predict(path, Path(cell["model"]), cell["window"], cell["stride"], cell["carry"])
