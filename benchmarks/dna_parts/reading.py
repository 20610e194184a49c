"""Speed of FASTA readers; ours also checks and encodes every letter."""

from __future__ import annotations

import gzip
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from titans_seq.dna.reading.blocks import read_blocks
from titans_seq.dna.reading.records import read_pieces
from titans_seq.dna.reading.sources import open_bytes


def blocks(path: Path) -> int:
    """Count letters: ours, checked and encoded, in blocks of bytes."""
    with open_bytes(path) as handle:
        return sum(len(b.codes) - len(b.titles) for b in read_blocks(handle, str(path)))


def pieces(path: Path) -> int:
    """Count letters: ours, record by record."""
    return sum(len(piece.codes) for piece in read_pieces(path))


def _text(path: Path) -> Any:
    return gzip.open(path, "rt") if path.suffix == ".gz" else path.open()


def simple_parser(path: Path) -> int:
    """Count letters: Biopython's SimpleFastaParser."""
    from Bio.SeqIO.FastaIO import SimpleFastaParser

    with _text(path) as handle:
        return sum(len(sequence) for _, sequence in SimpleFastaParser(handle))


def seqio(path: Path) -> int:
    """Count letters: Biopython's SeqIO.parse."""
    from Bio import SeqIO

    with _text(path) as handle:
        return sum(len(record.seq) for record in SeqIO.parse(handle, "fasta"))


def dnaio(path: Path) -> int:
    """Count letters: dnaio."""
    import dnaio

    with dnaio.open(path, open_threads=0) as reader:
        return sum(len(record.sequence) for record in reader)


def pyfastx(path: Path) -> int:
    """Count letters: pyfastx.Fastx."""
    import pyfastx

    return sum(len(sequence) for _, sequence in pyfastx.Fastx(str(path)))


READERS: dict[str, Callable[[Path], int]] = {
    "ours": blocks,
    "ours, by record": pieces,
    "SimpleFastaParser": simple_parser,
    "SeqIO.parse": seqio,
    "dnaio": dnaio,
    "pyfastx.Fastx": pyfastx,
}


def measure(path: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Return the speed of each reader on one file, in MB of file per CPU second, and beside ours.

    Readers alternate, so that a slow moment of the machine affects all; the ratio is the median
    over the rounds.
    """
    seconds: dict[str, list[float]] = {name: [] for name in READERS}
    counts = set()
    for _ in range(rounds):
        for name, read in list(READERS.items()):
            before = time.process_time()
            try:
                counts.add(read(path))
            except ImportError:
                seconds.pop(name, None)
                continue
            seconds[name].append(time.process_time() - before)
    assert len(counts) == 1, f"readers count differently: {counts}"
    size = path.stat().st_size / 1e6
    ours = seconds["ours"]
    return {
        name: {
            "mb_per_cpu_second": size / min(taken),
            "ours_times_as_fast": statistics.median(
                theirs / own for theirs, own in zip(taken, ours, strict=True)
            ),
        }
        for name, taken in seconds.items()
    }
