"""Classification along a genome of any length, in a process whose memory is measured.

This module imports little: the new process imports it first, and measures what it loads.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from titans_seq.evaluation.families.process_memory import peak_megabytes, resident_megabytes

POINTS = 2000
"""Approximate number of points of a track, for any number of windows."""

WARM_UP_LETTERS = 1_000_000
"""Letters after which the growth of memory is measured."""


@dataclass(frozen=True)
class Scan:
    """Input, output and settings of a scan."""

    model: str
    """Folder of a ``TitansDNAClassifier``."""
    path: str
    """FASTA file."""
    rows: str
    """Output table, tab-separated and compressed by gzip."""
    window: int
    stride: int | None
    carry: bool
    threads: int


@dataclass
class Track:
    """Means over neighbouring windows, as many as a plot can show.

    When there are too many points, pairs are merged, so that memory is bounded.
    """

    values: list[float] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    windows_per_point: int = 1
    _sum: float = 0.0
    _count: int = 0

    def add(self, value: float, end: int) -> None:
        """Add the next window, which ends at position ``end``."""
        self._sum, self._count = self._sum + value, self._count + 1
        if self._count < self.windows_per_point:
            return
        self.values.append(self._sum / self._count)
        self.ends.append(end)
        self._sum, self._count = 0.0, 0
        if len(self.values) >= 2 * POINTS:
            # Halve the resolution: neighbouring points have the same number of windows.
            self.values = [(a + b) / 2 for a, b in
                           zip(self.values[::2], self.values[1::2], strict=True)]  # fmt: skip
            self.ends = self.ends[1::2]
            self.windows_per_point *= 2


class ScanResult(NamedTuple):
    """Outcome of a scan."""

    scores: dict[str, float]
    """Reproducible figures."""
    measured: dict[str, float]
    """Figures that depend on the machine."""
    track: dict[str, Any]
    """Probability of the last class along the file, for a plot."""


def scan_in_process(scan: Scan) -> ScanResult:
    """Scan in a new process, so that its peak memory is that of scanning alone."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return ScanResult(*json.loads(pool.submit(_in_child, json.dumps(asdict(scan))).result()))


def _in_child(scan_json: str) -> str:
    """Scan with JSON as input and output, which needs no module to be unpickled."""
    import torch

    scan = Scan(**json.loads(scan_json))
    torch.set_num_threads(scan.threads)
    return json.dumps(run_scan(scan))


def run_scan(scan: Scan) -> ScanResult:
    """Scan in this process, and write a row for each window."""
    from titans_seq.dna import TitansDNAClassifier

    classifier = TitansDNAClassifier.load(scan.model)
    classes = [str(name) for name in classifier.classes_]
    counts = dict.fromkeys(classes, 0)
    letters = rows = 0
    surprise = 0.0
    records: set[str] = set()
    loaded_mb = warm_mb = resident_megabytes()
    track, cpu_start, start = Track(), time.process_time(), time.perf_counter()
    with _tsv_writer(Path(scan.rows)) as table:
        table.writerow(["record", "start", "end", "label", *(f"p({c})" for c in classes),
                        "surprise"])  # fmt: skip
        for window in classifier.predict_stream(
            scan.path, window=scan.window, stride=scan.stride, carry=scan.carry
        ):
            chances = [f"{value:.5f}" for value in window.values]
            surprise_cell = "" if window.surprise is None else f"{window.surprise:.5f}"
            table.writerow(
                [window.record, window.start, window.end, window.label, *chances, surprise_cell]
            )
            counts[classes[int(window.values.argmax())]] += 1
            before, letters, rows = letters, letters + window.end - window.start, rows + 1
            track.add(float(window.values[-1]), letters)
            surprise += window.surprise or 0.0
            records.add(window.record)
            # Buffers have reached their size by now: later growth would be a leak.
            if before < WARM_UP_LETTERS <= letters:
                warm_mb = resident_megabytes()
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    scores: dict[str, float] = {"letters": letters, "rows": rows, "records": len(records)}
    scores |= {f"share({name})": count / max(rows, 1) for name, count in counts.items()}
    if scan.carry:
        scores["surprise"] = surprise / max(rows, 1)
    measured: dict[str, float] = {
        "bp_per_second": round(letters / seconds),
        "bp_per_cpu_second": round(letters / cpu_seconds),
        "loaded_mb": round(loaded_mb, 1), "peak_rss_mb": round(peak_megabytes(), 1),
        "grew_mb": round(resident_megabytes() - warm_mb, 1),
    }  # fmt: skip
    measured = {name: value for name, value in measured.items() if value == value}
    track_record = {"class": classes[-1], "ends": track.ends, "values": track.values}
    return ScanResult(scores, measured, track_record)


@contextmanager
def _tsv_writer(path: Path) -> Iterator[Any]:
    """Yield a writer of compressed tab-separated rows; equal rows give equal bytes."""
    with (
        path.open("wb") as stored,
        # Without a file name and a time stamp in the gzip header.
        gzip.GzipFile(fileobj=stored, mode="wb", filename="", mtime=0) as packed,
        io.TextIOWrapper(packed, "utf-8", newline="") as text,
    ):
        yield csv.writer(text, delimiter="\t", lineterminator="\n")
