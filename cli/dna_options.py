"""Words of ``titans-seq dna predict``, and which of them go together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from .options import DATA, OutFile
from .tables import TABLE_SUFFIXES

TRACKS = (".bed", ".bedgraph")
"""Forms of output that name places of a genome, besides tables."""


@dataclass(frozen=True)
class Windowing:
    """How records are read."""

    window: int | None
    stride: int | None
    carry: bool
    summary: Path | None
    track: str | None


@dataclass(frozen=True)
class Targets:
    """What is predicted instead of records."""

    intervals: Path | None
    variants: Path | None


@dataclass(frozen=True)
class Faults:
    """What refused records do."""

    on_error: str
    refused: Path | None


WINDOWING = (
    click.option(
        "--window",
        type=click.IntRange(min=1),
        help="Letters of a window: a row for each window of a record, at constant memory.",
    ),
    click.option(
        "--stride",
        type=click.IntRange(min=1),
        help="Letters from one window to the next; by default the window's own length.",
    ),
    click.option(
        "--carry", is_flag=True, help="Carry the memory along a record, from window to window."
    ),
    click.option(
        "--summary", type=OutFile(*TABLE_SUFFIXES), help="Table with a row for each record, too."
    ),
    click.option(
        "--track",
        metavar="CLASS|surprise",
        help="What a bedGraph draws: the probability of a class, by default of the last, or the "
        "surprise of a carried memory.",
    ),
)
TARGETS = (
    click.option(
        "--intervals", type=DATA, help="BED file: predict these stretches of the FASTA's records."
    ),
    click.option(
        "--variants",
        type=DATA,
        help="VCF file: predict the FASTA's records around each variant, without it and with it. "
        "--window says how many letters; by default as many as the model tells apart by place.",
    ),
)
FAULTS = (
    click.option(
        "--on-error",
        type=click.Choice(["stop", "skip"]),
        default="stop",
        show_default=True,
        help="What to do about a record that is refused; skip keeps it in --refused.",
    ),
    click.option(
        "--refused",
        type=OutFile(".fa", ".fasta", ".fna"),
        help="FASTA file for skipped records, with reasons; by default OUT.refused.fa.",
    ),
)


def check_words(out: Path, windowing: Windowing, targets: Targets, faults: Faults) -> None:
    """Refuse options that do not go together."""
    if targets.intervals is not None and targets.variants is not None:
        raise click.UsageError("--intervals and --variants exclude each other")
    if (targets.intervals or targets.variants) and (
        windowing.stride or windowing.carry or windowing.summary or windowing.track
    ):
        raise click.UsageError(
            "--stride, --carry, --summary and --track belong to windows along records"
        )
    if targets.intervals is not None and windowing.window is not None:
        raise click.UsageError("--intervals have their own lengths: leave out --window")
    if targets.variants is not None and out.suffix in TRACKS:
        raise click.UsageError("variants are written as a table: .tsv, .csv, .jsonl or .parquet")
    if targets.intervals is not None and out.suffix == ".bedgraph":
        raise click.UsageError("intervals are written as a table, or .bed")
    if windowing.track is not None and out.suffix != ".bedgraph":
        raise click.UsageError("--track is what a .bedgraph draws: name one with --out")
    if (windowing.stride or windowing.carry) and windowing.window is None:
        raise click.UsageError("--stride and --carry need a --window")
    if faults.on_error == "skip" and faults.refused is None and str(out) == "-":
        raise click.UsageError("--on-error skip: name a file for the records with --refused")
    if faults.refused is not None and faults.on_error == "stop":
        raise click.UsageError("--refused belongs to --on-error skip")


def check_table(
    table: Path, out: Path, windowing: Windowing, targets: Targets, faults: Faults
) -> None:
    """Refuse options that mean nothing for a table of sequences."""
    if windowing != Windowing(None, None, False, None, None) or targets != Targets(None, None):
        raise click.UsageError(f"{table} is a table: windows, intervals and variants need FASTA")
    if out.suffix in TRACKS or faults.on_error == "skip":
        raise click.UsageError(f"{table} is a table: tracks and --on-error skip need FASTA")
