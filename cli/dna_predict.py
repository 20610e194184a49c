"""``titans-seq dna predict``: FASTA in, a row for each record, window, interval or variant out."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .dna_options import (
    ALONG,
    FAULTS,
    INSTEAD,
    TRACKS,
    Along,
    Faults,
    Instead,
    check_words,
)
from .options import DATA_OR_STDIN, MODEL_IN, OutFile, gathered
from .rows import SINKS, rows_to, whole_file

if TYPE_CHECKING:
    from titans_seq.dna.checked import CheckedFasta
    from titans_seq.dna.stream import Predictions


@click.command()
@click.argument("fasta", type=DATA_OR_STDIN)
@MODEL_IN
@click.option(
    "--out",
    type=OutFile(*SINKS, *TRACKS),
    default="-",
    help="Table .tsv, .csv, .jsonl or .parquet, or track .bed or .bedgraph; by default TSV on "
    "standard output.",
)
@gathered("along", Along, *ALONG)
@gathered("instead", Instead, *INSTEAD)
@gathered("faults", Faults, *FAULTS)
@click.pass_context
def predict(
    ctx: click.Context,
    fasta: Path,
    model: Path,
    out: Path,
    along: Along,
    instead: Instead,
    faults: Faults,
) -> None:
    """Label every record of FASTA, or every window, interval or variant.

    Writes one row for each: where it lies, its label, and the probability of each class. The
    whole input is checked first; the output is written whole or not at all.

    \b
    Examples:
      titans-seq dna predict contigs.fa.gz --model promoters --out labels.tsv
      titans-seq dna predict chr1.fa.gz --model promoters --window 200 --stride 50 \\
          --out chr1.bedgraph --summary chr1.tsv
      titans-seq dna predict genome.fa --model enhancers --intervals peaks.bed
      titans-seq dna predict genome.fa --model enhancers --variants snps.vcf.gz
    """
    check_words(out, along, instead, faults)
    from titans_seq.dna import TitansDNAClassifier
    from titans_seq.dna.checked import checked_fasta
    from titans_seq.dna.labels import table_separator

    classifier = TitansDNAClassifier.load(model)
    if table_separator(fasta) is not None:
        _predict_table(classifier, fasta, out, along, instead)
        return
    refused = faults.refused
    if refused is None and faults.on_error == "skip":
        refused = out.with_name(f"{out.name}.refused.fa")
    on_error: Any = faults.on_error
    with checked_fasta(fasta, on_error=on_error, refused=refused) as source:
        if instead.intervals is not None:
            _predict_intervals(classifier, source, instead.intervals, out)
        elif instead.variants is not None:
            _predict_variants(classifier, source, instead.variants, out, along.window)
        else:
            _predict_records(ctx, classifier, source, out, along)


def _predict_records(
    ctx: click.Context, classifier: Any, source: CheckedFasta, out: Path, along: Along
) -> None:
    """Write a row for each record, or for each window of it."""
    from titans_seq.dna.stream import check_lengths, predict_pieces
    from titans_seq.dna.tiles import Grid
    from titans_seq.dna.tracks import Summaries, summary_columns

    grid = Grid.of(along.window, along.stride, carry=along.carry)
    check_lengths(source, grid)
    summaries = Summaries()
    with ExitStack() as stack:
        write = stack.enter_context(_writer(classifier, out, along))
        summarise = stack.enter_context(rows_to(along.summary)) if along.summary else None
        found = predict_pieces(classifier, summaries.watch(source.pieces()), grid)
        for predictions in _shown(ctx, found, source.survey.letters):
            write(predictions)
            ended = list(summaries.add(predictions))
            if summarise is not None and ended:
                summarise(summary_columns(ended, classifier.classes_))
        if summarise is not None:
            summarise(summary_columns(list(summaries.end()), classifier.classes_))


@contextmanager
def _writer(classifier: Any, out: Path, along: Along) -> Iterator[Callable[[Predictions], None]]:
    """Give a function that writes predictions in the form that the file's suffix names."""
    from titans_seq.dna.tracks import BedGraph, bed_lines, to_columns

    classes = classifier.classes_
    if out.suffix not in TRACKS:
        places = along.window is not None
        with rows_to(out) as rows:
            yield lambda predictions: rows(to_columns(predictions, classes, places=places))
        return
    with whole_file(out) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        if out.suffix == ".bed":
            yield lambda predictions: _put(file, bed_lines(predictions))
            return
        track = BedGraph(classes, str(classes[-1]) if along.track is None else along.track)
        yield lambda predictions: _put(file, track.lines(predictions))
        file.write(track.end())


def _put(file: Any, text: str) -> None:
    file.write(text)


def _shown(ctx: click.Context, found: Iterable[Predictions], letters: int) -> Iterator[Predictions]:
    """Yield predictions, a bar on standard error beside them, on a terminal only."""
    from tqdm import tqdm

    quiet = int(ctx.find_root().meta.get("verbosity", 0)) < 0
    hidden = quiet or not sys.stderr.isatty()
    before = (0, 0)
    with tqdm(
        total=letters, unit="bp", unit_scale=True, desc="predicting", leave=False,
        file=sys.stderr, disable=hidden,
    ) as bar:  # fmt: skip
        for predictions in found:
            yield predictions
            for window in predictions.windows:
                place = (window.head.number, window.end)
                bar.update(place[1] - (before[1] if place[0] == before[0] else 0))
                before = place


def _predict_intervals(classifier: Any, source: CheckedFasta, bed: Path, out: Path) -> None:
    """Write a row for each interval, in the order of the BED file."""
    from titans_seq.dna.intervals import predict_intervals, read_bed
    from titans_seq.dna.tracks import chance_columns, interval_lines

    intervals = read_bed(bed)
    chances = predict_intervals(classifier, source, intervals, str(bed))
    labels = classifier.classes_[chances.argmax(axis=1)]
    if out.suffix == ".bed":
        with whole_file(out) as temporary:
            temporary.write_text(interval_lines(intervals, labels, chances), "utf-8")
        return
    with rows_to(out) as rows:
        rows(
            {
                "id": [one.name for one in intervals],
                "chrom": [one.chrom for one in intervals],
                "start": [one.start for one in intervals],
                "end": [one.end for one in intervals],
                "strand": [one.strand for one in intervals],
                "label": labels,
                **chance_columns(chances, classifier.classes_),
            }
        )


def _predict_variants(
    classifier: Any, source: CheckedFasta, vcf: Path, out: Path, window: int | None
) -> None:
    """Write a row for each variant, in the order of the VCF file."""
    from titans_seq.dna.variants import read_vcf, score_variants, variant_columns

    variants = read_vcf(vcf)
    if variants.left_out:
        line, alt = variants.left_out[0]
        warnings.warn(
            f"{vcf}: {len(variants.left_out)} ALT(s) that are no letters are left out, "
            f"{alt!r} of line {line} first",
            UserWarning,
            stacklevel=1,
        )
    window = classifier.network_.config.places if window is None else window
    scores = score_variants(classifier, source, variants.scored, window, str(vcf))
    with rows_to(out) as rows:
        rows(variant_columns(variants.scored, scores, classifier.classes_))


def _predict_table(classifier: Any, path: Path, out: Path, along: Along, instead: Instead) -> None:
    """Write a row for each row of a table of sequences."""
    if along.window or instead.intervals or instead.variants or out.suffix in TRACKS:
        raise click.UsageError(f"{path} is a table: windows and intervals need FASTA")
    from titans_seq.dna import read_sequences
    from titans_seq.dna.tracks import chance_columns

    data = read_sequences(path)
    chances = classifier.predict_proba(data.sequences)
    labels = classifier.classes_[chances.argmax(axis=1)]
    with rows_to(out) as rows:
        rows({"id": data.names, "label": labels, **chance_columns(chances, classifier.classes_)})
