"""Generate FASTA files of several layouts from a seed."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

LINE = 80
"""Letters of a wrapped line."""


def letters(count: int, seed: int) -> bytes:
    """Return random bases."""
    bases = np.frombuffer(b"ACGT", dtype=np.uint8)
    return bases[np.random.default_rng(seed).integers(0, 4, size=count)].tobytes()


def wrapped(sequence: bytes) -> bytes:
    """Return a sequence in wrapped lines."""
    starts = range(0, len(sequence), LINE)
    return b"".join(sequence[start : start + LINE] + b"\n" for start in starts)


def write_record(path: Path, length: int) -> None:
    """Write one wrapped record, in parts."""
    part = 80 * LINE * 1000
    with path.open("wb") as file:
        file.write(b">record\n")
        for start in range(0, length, part):
            file.write(wrapped(letters(min(part, length - start), start)))


def write_shapes(folder: Path, megabases: int) -> dict[str, Path]:
    """Write files of about the same number of letters, and return them by layout."""
    count = megabases * 1_000_000
    base = letters(count // 16, 0)
    reads = count // 200
    spots = np.random.default_rng(1).integers(0, len(base) - 200, size=reads).tolist()
    shapes = {
        "16 wrapped records": b"".join(b">chr%d\n" % i + wrapped(base) for i in range(16)),
        "one line": b">chr\n" + base * 16 + b"\n",
        "200 bp, wrapped": b"".join(
            b">read%d\n" % i + wrapped(base[at : at + 200]) for i, at in enumerate(spots)
        ),
        "200 bp, one line": b"".join(
            b">read%d\n%b\n" % (i, base[at : at + 200]) for i, at in enumerate(spots)
        ),
    }
    paths = {}
    for name, content in shapes.items():
        paths[name] = folder / f"{len(paths)}.fa"
        paths[name].write_bytes(content)
    name = "16 wrapped records, gzip"
    paths[name] = folder / "wrapped.fa.gz"
    paths[name].write_bytes(gzip.compress(shapes["16 wrapped records"], 6))
    return paths
