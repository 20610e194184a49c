"""``titans-seq dna predict``: one row for each record, window, interval or variant of FASTA."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .dna_options import (
    FAULTS,
    TARGETS,
    TRACKS,
    WINDOWING,
    Faults,
    Targets,
    Windowing,
    check_options,
    check_table,
)
from .options import DATA_OR_STDIN, MODEL_IN, OutFile, option_group
from .processes import shared
from .tables import TABLE_SUFFIXES, rows_to, whole_file

if TYPE_CHECKING:
    from titans_seq.dna.reading.records import CheckedFasta
    from titans_seq.dna.streaming.predictions import OutputNames
    from titans_seq.dna.streaming.stream import WindowPredictions
    from titans_seq.dna.streaming.summaries import Summaries

_logger = logging.getLogger("titans_seq")


@click.command(name="predict")
@click.argument("fasta", type=DATA_OR_STDIN)
@MODEL_IN
@click.option(
    "--out",
    type=OutFile(*TABLE_SUFFIXES, *TRACKS),
    default="-",
    help="Table .tsv, .csv, .jsonl or .parquet, or track .bed or .bedgraph; by default TSV on "
    "standard output.",
)
@option_group("windowing", Windowing, *WINDOWING)
@option_group("targets", Targets, *TARGETS)
@option_group("faults", Faults, *FAULTS)
@shared
def dna_predict(
    fasta: Path,
    model: Path,
    out: Path,
    windowing: Windowing,
    targets: Targets,
    faults: Faults,
) -> None:
    """Label every record of FASTA, or every window, interval or variant.

    Writes one row for each: its position, its label, and the probability of each class. The whole
    input is checked first; the output is written completely or not at all.

    \b
    Examples:
      titans-seq dna predict contigs.fa.gz --model promoters --out labels.tsv
      titans-seq dna predict chr1.fa.gz --model promoters --window 200 \\
          --stride 50 --out chr1.bedgraph --summary chr1.tsv
      titans-seq dna predict genome.fa --model enhancers --intervals peaks.bed
      titans-seq dna predict genome.fa --model enhancers --variants snps.vcf.gz
    """
    check_options(out, windowing, targets, faults)
    from titans_seq.dna.models import load_estimator
    from titans_seq.dna.reading.labels import table_separator
    from titans_seq.dna.reading.records import checked_fasta

    estimator = load_estimator(model)
    if table_separator(fasta) is not None:
        check_table(fasta, out, windowing, targets, faults)
        _predict_table(estimator, fasta, out)
        return
    refused = faults.refused
    if refused is None and faults.on_error == "skip":
        refused = out.with_name(f"{out.name}.refused.fa")
    on_error: Any = faults.on_error
    with checked_fasta(fasta, on_error=on_error, refused=refused) as source:
        if targets.intervals is not None:
            _predict_intervals(estimator, source, targets.intervals, out)
        elif targets.variants is not None:
            _predict_variants(estimator, source, targets.variants, out, windowing.window)
        else:
            _predict_records(estimator, source, out, windowing)


def _predict_records(estimator: Any, source: CheckedFasta, out: Path, windowing: Windowing) -> None:
    """Write one row per record, or per window."""
    from titans_seq.dna.streaming.predictions import output_names
    from titans_seq.dna.streaming.stream import WindowGrid, check_lengths, predict_pieces
    from titans_seq.dna.streaming.summaries import Summaries

    grid = WindowGrid.checked(windowing.window, windowing.stride, carry=windowing.carry)
    check_lengths(source, grid)
    outputs = output_names(estimator)
    summaries = Summaries()
    pieces = (
        source.pieces() if windowing.summary is None else summaries.count_letters(source.pieces())
    )
    with (
        _writer(outputs, out, windowing) as write,
        _summary(outputs, summaries, windowing.summary) as add,
    ):
        for predictions in _with_progress(
            predict_pieces(estimator, pieces, grid), source.summary.letters
        ):
            write(predictions)
            add(predictions)


@contextmanager
def _summary(
    outputs: OutputNames, summaries: Summaries, out: Path | None
) -> Iterator[Callable[[WindowPredictions], None]]:
    """Give a function that summarises predictions by record, and writes one row per record."""
    from titans_seq.dna.streaming.summaries import summary_columns

    if out is None:
        yield lambda _: None
        return
    with rows_to(out) as rows:

        def add(predictions: WindowPredictions) -> None:
            complete = list(summaries.add(predictions))
            if complete:
                rows(summary_columns(complete, outputs))

        yield add
        rows(summary_columns(list(summaries.end()), outputs))


@contextmanager
def _writer(
    outputs: OutputNames, out: Path, windowing: Windowing
) -> Iterator[Callable[[WindowPredictions], None]]:
    """Give a function that writes predictions in the format of the file's suffix."""
    from titans_seq.dna.streaming.tracks import BedGraph, window_columns, window_lines

    if out.suffix not in TRACKS:
        positions = windowing.window is not None
        with rows_to(out) as rows:
            yield lambda predictions: rows(
                window_columns(predictions, outputs, positions=positions)
            )
        return
    track = BedGraph(outputs, windowing.track)
    lines = window_lines if out.suffix == ".bed" else track.lines
    with whole_file(out) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        yield lambda predictions: file.writelines([lines(predictions)])
        file.write("" if out.suffix == ".bed" else track.end())


def _with_progress(
    predictions_by_batch: Iterable[WindowPredictions], letters: int
) -> Iterator[WindowPredictions]:
    """Yield predictions and show a progress bar on standard error, on a terminal only.

    With ``-v``, the speed is logged at the end.
    """
    from tqdm import tqdm

    hidden = not sys.stderr.isatty() or not _logger.isEnabledFor(logging.WARNING)
    begun = time.perf_counter()
    number = end = done = 0
    with tqdm(
        total=letters, unit="bp", unit_scale=True, desc="predicting", leave=False,
        file=sys.stderr, disable=hidden,
    ) as bar:  # fmt: skip
        for predictions in predictions_by_batch:
            yield predictions
            for window in predictions.windows:
                bar.update(window.end - (end if window.head.number == number else 0))
                number, end = window.head.number, window.end
                done += len(window.codes)
    seconds = time.perf_counter() - begun
    _logger.info("%d bp in windows, %.1f s, %.0f bp/s", done, seconds, done / seconds)


def _predict_intervals(estimator: Any, source: CheckedFasta, bed: Path, out: Path) -> None:
    """Write one row per interval, in the order of the BED file."""
    from titans_seq.dna.streaming.intervals import predict_intervals, read_bed
    from titans_seq.dna.streaming.predictions import output_names
    from titans_seq.dna.streaming.tracks import interval_columns, interval_lines

    intervals = read_bed(bed)
    predictions = predict_intervals(estimator, source, intervals, str(bed))
    if out.suffix == ".bed":
        with whole_file(out) as temporary:
            temporary.write_text(interval_lines(intervals, predictions), "utf-8")
        return
    with rows_to(out) as rows:
        rows(interval_columns(intervals, predictions, output_names(estimator)))


def _predict_variants(
    estimator: Any, source: CheckedFasta, vcf: Path, out: Path, window: int | None
) -> None:
    """Write one row per variant, in the order of the VCF file."""
    from titans_seq.dna.streaming.predictions import output_names
    from titans_seq.dna.streaming.variants import read_vcf, score_variants, variant_columns

    variants = read_vcf(vcf)
    if variants.skipped:
        line, alt = variants.skipped[0]
        _logger.warning(
            "%s: %d ALT(s) that are not sequences are skipped, %r of line %d first",
            vcf,
            len(variants.skipped),
            alt,
            line,
        )
    window = estimator.network_.config.places if window is None else window
    scores = score_variants(estimator, source, variants.scored, window, str(vcf))
    with rows_to(out) as rows:
        rows(variant_columns(variants.scored, scores, output_names(estimator)))


def _predict_table(estimator: Any, path: Path, out: Path) -> None:
    """Write one row per row of a table of sequences."""
    from titans_seq.dna import read_sequences
    from titans_seq.dna.inputs import encode_all
    from titans_seq.dna.streaming.predictions import output_names, predict_sequences
    from titans_seq.dna.streaming.tracks import prediction_columns

    data = read_sequences(path)
    predictions = predict_sequences(estimator, encode_all(data.sequences))
    with rows_to(out) as rows:
        rows({"id": data.names, **prediction_columns(predictions, output_names(estimator))})
