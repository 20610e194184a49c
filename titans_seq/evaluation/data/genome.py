"""Sequences cut from a genome by lists of places, as GenomicBenchmarks gives them.

A list is a table with the columns ``region``, ``start``, ``end`` and ``strand``: letters
``start`` to ``end`` of a record, counted from 0, the end not among them; on the strand ``-``
their reverse complement. The genome is read once, a record at a time, and only the letters
asked for are kept.
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

COLUMNS = ("region", "start", "end", "strand")


class Place(NamedTuple):
    """One line of a list."""

    region: str
    start: int
    end: int
    strand: str
    where: str
    """File and line, for an error."""


def read_places(path: Path) -> list[Place]:
    """Read a list of places.

    Raises
    ------
    DataError
        If a column lacks, or a line is no place; the message names file and line.
    """
    table = pd.read_csv(path, dtype={"region": str, "strand": str}, keep_default_na=False)
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise DataError(f"{path}: no column {missing[0]!r}; it needs {', '.join(COLUMNS)}")
    found = []
    rows = table[list(COLUMNS)].itertuples(index=False, name=None)
    for line, (region, start, end, strand) in enumerate(rows, start=2):
        where = f"{path}, line {line}"
        whole = isinstance(start, int) and isinstance(end, int)
        if not whole or not 0 <= start < end:
            raise DataError(f"{where}: {start} to {end} is no place; 0 <= start < end is right")
        if strand not in ("+", "-", "", "."):
            raise DataError(f"{where}: strand {strand!r} is none of + and -")
        found.append(Place(region, start, end, strand, where))
    return found


def cut(genome: Path, places: Sequence[Place]) -> list[str]:
    """Return the letters of each place, in upper case.

    Parameters
    ----------
    genome
        FASTA file, compressed or not. A record ``7`` answers to ``chr7`` and the other way
        round, ``MT`` to ``chrM``, and a transcript with a version to the one without.
    places
        In any order.

    Raises
    ------
    DataError
        If the genome lacks a record, or a place lies beyond its end.
    """
    by_region: dict[str, list[int]] = defaultdict(list)
    for number, place in enumerate(places):
        by_region[plain_name(place.region)].append(number)
    letters: list[str | None] = [None] * len(places)
    left = dict(by_region)
    for record in read_fasta(genome):
        numbers = left.pop(plain_name(record.name), None)
        if numbers is not None:
            for number in numbers:
                letters[number] = _letters(places[number], record.sequence, genome)
        if not left:
            break
    if left:
        first = places[min(number for numbers in left.values() for number in numbers)]
        raise DataError(
            f"{first.where}: {genome} has no record {first.region!r}; is it the right genome?"
        )
    return [text for text in letters if text is not None]


def cut_all(
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
    read = [(read_places(path), label, genome) for path, label, genome in lists]
    letters: dict[str, list[str]] = {}
    for name, path in genomes.items():
        wanted = [place for places, _, genome in read if genome == name for place in places]
        letters[name] = cut(path, wanted) if wanted else []
    sequences: list[str] = []
    labels: list[str] = []
    taken: dict[str, int] = dict.fromkeys(genomes, 0)
    for places, label, genome in read:
        begin = taken[genome]
        taken[genome] += len(places)
        sequences += letters[genome][begin : taken[genome]]
        labels += [label] * len(places)
    return sequences, labels


def plain_name(name: str) -> str:
    """Return a record's name without what lists and genomes spell differently."""
    bare = re.sub(r"^(ENS\w*\d)\.\d+$", r"\1", name.removeprefix("chr"))
    return {"MT": "M", "mitochondrion_genome": "M"}.get(bare, bare)


def _letters(place: Place, sequence: str, genome: Path) -> str:
    """Return the letters of one place."""
    if place.end > len(sequence):
        raise DataError(
            f"{place.where}: {place.end} lies beyond the {len(sequence)} letters of record "
            f"{place.region!r} of {genome}; is it the right genome?"
        )
    letters = sequence[place.start : place.end].upper()
    return reverse_complement_text(letters) if place.strand == "-" else letters
