"""Sequences extracted from a genome by lists of regions, in the format of GenomicBenchmarks.

A list is a table with the columns ``region`` (name of a record), ``start``, ``end`` and ``strand``;
positions count from 0 and ``end`` is exclusive. A region on the strand ``-`` is the reverse
complement of its letters. The genome is read once, a record at a time, and only the requested
letters are kept.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from titans_seq.dna.alphabet import reverse_complement_text
from titans_seq.dna.reading.fasta import read_fasta
from titans_seq.exceptions import DataError

_COLUMNS = ("region", "start", "end", "strand")


class GenomeRegion(NamedTuple):
    """One line of a list."""

    record: str
    start: int
    end: int
    strand: str
    source: str
    """File and line, for errors."""


def read_regions(path: Path) -> list[GenomeRegion]:
    """Read a list of regions.

    Raises
    ------
    DataError
        If a column is missing, or a line is not a region; the message names file and line.
    """
    table = pd.read_csv(path, dtype={"region": str, "strand": str}, keep_default_na=False)
    missing = [name for name in _COLUMNS if name not in table.columns]
    if missing:
        raise DataError(f"{path}: no column {missing[0]!r}; it needs {', '.join(_COLUMNS)}")
    regions = []
    rows = table[list(_COLUMNS)].itertuples(index=False, name=None)
    for line, (record, start, end, strand) in enumerate(rows, start=2):
        source = f"{path}, line {line}"
        integers = isinstance(start, int) and isinstance(end, int)
        if not integers or not 0 <= start < end:
            raise DataError(
                f"{source}: start and end must be integers with 0 <= start < end, got {start} and "
                f"{end}"
            )
        if strand not in ("+", "-", "", "."):
            raise DataError(f"{source}: strand must be + or -, got {strand!r}")
        regions.append(GenomeRegion(record, start, end, strand, source))
    return regions


def extract_regions(genome: Path, regions: Sequence[GenomeRegion]) -> list[str]:
    """Return the letters of each region, in upper case.

    Parameters
    ----------
    genome
        FASTA file, compressed or not. Record names are matched by :func:`canonical_name`.
    regions
        In any order.

    Raises
    ------
    DataError
        If the genome lacks a record, or a region extends beyond its end.
    """
    by_record: dict[str, list[int]] = defaultdict(list)
    for number, region in enumerate(regions):
        by_record[canonical_name(region.record)].append(number)
    letters: dict[int, str] = {}
    for record in read_fasta(genome):
        for number in by_record.pop(canonical_name(record.name), ()):
            letters[number] = _letters(regions[number], record.sequence, genome)
        if not by_record:
            break  # the rest of the genome need not be read
    if by_record:
        first = regions[min(number for numbers in by_record.values() for number in numbers)]
        raise DataError(
            f"{first.source}: {genome} has no record {first.record!r}; is it the right genome?"
        )
    return [letters[number] for number in range(len(regions))]


def labelled_sequences(
    lists: Iterable[tuple[Path, str, str]], genomes: Mapping[str, Path]
) -> tuple[list[str], list[str]]:
    """Return the sequences of several lists, and the label of each.

    Parameters
    ----------
    lists
        File, label, and name of the genome of each list.
    genomes
        File of each genome.
    """
    read = [(read_regions(path), label, genome) for path, label, genome in lists]
    # Each genome is read once, for the regions of all its lists together.
    letters = {
        name: iter(
            extract_regions(path, [r for regions, _, own in read if own == name for r in regions])
        )
        for name, path in genomes.items()
        if any(own == name for _, _, own in read)
    }
    sequences = [next(letters[genome]) for regions, _, genome in read for _ in regions]
    labels = [label for regions, label, _ in read for _ in regions]
    return sequences, labels


def canonical_name(name: str) -> str:
    """Return a record's name without spelling differences between lists and genomes.

    ``chr7`` equals ``7``, ``MT`` equals ``chrM``, and an Ensembl id with a version equals the one
    without.
    """
    bare = re.sub(r"^(ENS\w*\d)\.\d+$", r"\1", name.removeprefix("chr"))
    return {"MT": "M", "mitochondrion_genome": "M"}.get(bare, bare)


def _letters(region: GenomeRegion, sequence: str, genome: Path) -> str:
    """Return the letters of one region."""
    if region.end > len(sequence):
        raise DataError(
            f"{region.source}: end {region.end} is beyond the {len(sequence)} letters of record "
            f"{region.record!r} of {genome}; is it the right genome?"
        )
    letters = sequence[region.start : region.end].upper()
    return reverse_complement_text(letters) if region.strand == "-" else letters
