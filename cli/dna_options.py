"""Options of ``titans-seq dna predict``, and which of them go together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from .options import DATA, OutFile
from .tables import TABLE_SUFFIXES

TRACKS = (".bed", ".bedgraph")
"""Output formats with genomic positions, besides tables."""


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
    """Handling of invalid records."""

    on_error: str
    refused: Path | None


WINDOWING = (
    click.option(
        "--window",
        type=click.IntRange(min=1),
        help="Letters of a window: one row for each window of a record, in constant memory.",
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
        "--summary",
        type=OutFile(*TABLE_SUFFIXES),
        help="Also write a table of records.",
    ),
    click.option(
        "--track",
        metavar="CLASS|surprise",
        help="Values of a .bedgraph: the probability of a class, by default the last, or the "
        "surprise of a carried memory.",
    ),
)
TARGETS = (
    click.option(
        "--intervals", type=DATA, help="BED file: predict these intervals of the records."
    ),
    click.option(
        "--variants",
        type=DATA,
        help="VCF file: predict the sequence around each variant, with REF and with ALT, --window "
        "letters long; by default as long as the positions that the model distinguishes.",
    ),
)
FAULTS = (
    click.option(
        "--on-error",
        type=click.Choice(["stop", "skip"]),
        default="stop",
        show_default=True,
        help="Stop at an invalid record, or skip it and write it to --refused.",
    ),
    click.option(
        "--refused",
        type=OutFile(".fa", ".fasta", ".fna"),
        help="FASTA file for skipped records, with the reasons; by default OUT.refused.fa.",
    ),
)


def check_options(out: Path, windowing: Windowing, targets: Targets, faults: Faults) -> None:
    """Raise if options do not go together."""
    if targets.intervals is not None and targets.variants is not None:
        raise click.UsageError("--intervals and --variants cannot be combined")
    if (targets.intervals or targets.variants) and (
        windowing.stride or windowing.carry or windowing.summary or windowing.track
    ):
        raise click.UsageError(
            "--stride, --carry, --summary and --track are for windows along records"
        )
    if targets.intervals is not None and windowing.window is not None:
        raise click.UsageError("--intervals have their own lengths: omit --window")
    if targets.variants is not None and out.suffix in TRACKS:
        raise click.UsageError("--variants needs a table: .tsv, .csv, .jsonl or .parquet")
    if targets.intervals is not None and out.suffix == ".bedgraph":
        raise click.UsageError("--intervals needs a table or a .bed file")
    if windowing.track is not None and out.suffix != ".bedgraph":
        raise click.UsageError("--track needs a .bedgraph file as --out")
    if (windowing.stride or windowing.carry) and windowing.window is None:
        raise click.UsageError("--stride and --carry need a --window")
    if faults.on_error == "skip" and faults.refused is None and str(out) == "-":
        raise click.UsageError("--on-error skip needs a file for the records: --refused")
    if faults.refused is not None and faults.on_error == "stop":
        raise click.UsageError("--refused needs --on-error skip")


def check_table(
    table: Path, out: Path, windowing: Windowing, targets: Targets, faults: Faults
) -> None:
    """Raise if options cannot be used with a table of sequences."""
    if windowing != Windowing(None, None, False, None, None) or targets != Targets(None, None):
        raise click.UsageError(f"{table} is a table: windows, intervals and variants need FASTA")
    if out.suffix in TRACKS or faults.on_error == "skip":
        raise click.UsageError(f"{table} is a table: tracks and --on-error skip need FASTA")
