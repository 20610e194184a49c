"""A classifier along a genome of any length, in a process of its own, whose memory is its own."""

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

from titans_seq.evaluation.families.machine import peak_megabytes, resident_megabytes

POINTS = 2000
"""Points of a track, about, however many windows there are."""

WARM = 1_000_000
"""Letters after which it is measured what memory the rest takes."""


@dataclass(frozen=True)
class Scan:
    """What is read, with what, and where the rows go."""

    model: str
    """Folder of a ``TitansDNAClassifier``."""
    path: str
    """FASTA file."""
    rows: str
    """File of the rows, parted by tabs and packed by gzip."""
    window: int
    stride: int | None
    carry: bool
    threads: int


@dataclass
class Track:
    """Means over neighbouring windows, as many as a picture can show.

    Where there are too many, each two are made one: what is kept does not grow.
    """

    values: list[float] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    each: int = 1
    """Windows of a point."""
    _sum: float = 0.0
    _count: int = 0

    def add(self, value: float, end: int) -> None:
        """Take in the next window, which ends there."""
        self._sum, self._count = self._sum + value, self._count + 1
        if self._count < self.each:
            return
        self.values.append(self._sum / self._count)
        self.ends.append(end)
        self._sum, self._count = 0.0, 0
        if len(self.values) >= 2 * POINTS:
            self.values = [(a + b) / 2 for a, b in
                           zip(self.values[::2], self.values[1::2], strict=True)]  # fmt: skip
            self.ends = self.ends[1::2]
            self.each *= 2


class Found(NamedTuple):
    """What a scan came to."""

    scores: dict[str, float]
    """The same whenever it is repeated."""
    measured: dict[str, float]
    """What depends on the machine."""
    track: dict[str, Any]
    """Probability of the last class along the first records, for a picture."""


def scan_apart(scan: Scan) -> Found:
    """Scan in a new process, so that its peak of memory is that of scanning."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return Found(*json.loads(pool.submit(_in_child, json.dumps(asdict(scan))).result()))


def _in_child(words: str) -> str:
    """Scan, words in and words out."""
    import torch

    scan = Scan(**json.loads(words))
    torch.set_num_threads(scan.threads)
    return json.dumps(run_scan(scan))


def run_scan(scan: Scan) -> Found:
    """Scan in this process, and write a row a window."""
    from titans_seq.dna import TitansDNAClassifier

    classifier = TitansDNAClassifier.load(scan.model)
    classes = [str(name) for name in classifier.classes_]
    counts = dict.fromkeys(classes, 0)
    letters = rows = surprise = 0.0
    records: set[str] = set()
    track, warm = Track(), resident_megabytes()
    loaded, cpu, begun = warm, time.process_time(), time.perf_counter()
    with _table(Path(scan.rows)) as table:
        table.writerow(["record", "start", "end", "label", *(f"p({c})" for c in classes),
                        "surprise"])  # fmt: skip
        for one in classifier.predict_stream(
            scan.path, window=scan.window, stride=scan.stride, carry=scan.carry
        ):
            best = int(one.values.argmax())
            table.writerow([one.record, one.start, one.end, one.label,
                            *(f"{value:.5f}" for value in one.values),
                            "" if one.surprise is None else f"{one.surprise:.5f}"])  # fmt: skip
            counts[classes[best]] += 1
            track.add(float(one.values[-1]), int(letters) + one.end - one.start)
            before, letters, rows = letters, letters + one.end - one.start, rows + 1
            surprise += one.surprise or 0.0
            records.add(one.record)
            if before < WARM <= letters:
                warm = resident_megabytes()
    taken, used = time.perf_counter() - begun, time.process_time() - cpu
    scores: dict[str, float] = {"letters": int(letters), "rows": int(rows), "records": len(records)}
    scores |= {f"share({name})": count / max(rows, 1) for name, count in counts.items()}
    if scan.carry:
        scores["surprise"] = surprise / max(rows, 1)
    measured: dict[str, float] = {
        "bp_per_second": round(letters / taken), "bp_per_cpu_second": round(letters / used),
        "loaded_mb": round(loaded, 1), "peak_rss_mb": round(peak_megabytes(), 1),
        "grew_mb": round(resident_megabytes() - warm, 1),
    }  # fmt: skip
    known = {name: value for name, value in measured.items() if value == value}
    return Found(scores, known, {"class": classes[-1], "ends": track.ends, "values": track.values})


@contextmanager
def _table(path: Path) -> Iterator[Any]:
    """Give a writer of lines parted by tabs; the packed file has no time in it."""
    with (
        path.open("wb") as stored,
        gzip.GzipFile(fileobj=stored, mode="wb", filename="", mtime=0) as packed,
        io.TextIOWrapper(packed, "utf-8", newline="") as text,
    ):
        yield csv.writer(text, delimiter="\t", lineterminator="\n")
