"""``titans-seq dna evaluate``: a model's scores beside those of simple ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .dna_fit import LABELS
from .options import DATA, DATA_OR_STDIN, MODEL_IN, SCORES_OUT
from .tables import show_tables

if TYPE_CHECKING:
    from titans_seq.dna import LabelledSequences
    from titans_seq.evaluation.dna.assessment import Assessment

COLUMNS = ("accuracy", "f1", "mcc", "auroc", "auprc", "log_loss", "ece", "r2", "pearson",
           "spearman", "rmse", "mae", "records")  # fmt: skip


@click.command()
@click.argument("fasta", type=DATA_OR_STDIN)
@LABELS
@MODEL_IN
@click.option(
    "--train",
    type=DATA,
    help="What the model was trained on (FASTA with labels in its headers, or a table): simple "
    "models are trained on it, and scored beside.",
)
@click.option(
    "--grouped",
    is_flag=True,
    help="Also train the model anew, on a split where rows that share a 24-letter word stay "
    "together. Takes as long as `fit` did.",
)
@SCORES_OUT
def evaluate(
    fasta: Path, labels: Path | None, model: Path, train: Path | None, grouped: bool,
    out: Path | None,
) -> None:  # fmt: skip
    """Score a model on labelled sequences.

    With --train, simple models stand beside it, the rows that do not overlap training rows
    are scored by themselves, and what the scores do not show is said on standard error.

    \b
    Example:
      titans-seq dna evaluate test.csv.gz --model promoters --train train.csv.gz
    """
    from titans_seq.dna import read_labelled
    from titans_seq.dna.models import load_estimator

    if grouped and train is None:
        raise click.UsageError("--grouped needs --train")
    estimator = load_estimator(model)
    data = read_labelled(fasta, labels)
    known = None if train is None else read_labelled(train)
    assessment = _assess(estimator, data, known, (fasta, train))
    tables = _tables(f"{fasta}, {len(data.sequences):,} sequences", assessment)
    found = [assessment]
    if grouped and known is not None:
        again = _assess_grouped(estimator, data, known)
        tables += _tables("rows that share a 24-letter word kept on one side, trained anew", again)
        found.append(again)
    show_tables(tables, out)
    for one in found:
        for note in one.notes:
            click.echo(f"Note: {note}", err=True)
        for warning in one.warnings:
            click.echo(f"Warning: {warning}", err=True)


def _assess(
    estimator: Any,
    data: LabelledSequences,
    known: LabelledSequences | None,
    names: tuple[Path, Path | None],
) -> Assessment:
    """Return the assessment that fits what the model answers."""
    from titans_seq.dna.reading.labels import label_table, label_values
    from titans_seq.evaluation import assess_classifier, assess_labels, assess_values

    task = estimator.network_.config.task
    if task == "classes":
        train = None if known is None else (known.sequences, known.labels)
        return assess_classifier(estimator, (data.sequences, data.labels), train)
    parts = [data] if known is None else [data, known]
    if task == "values":
        values = [(part.sequences, label_values(part, str(name)))
                  for part, name in zip(parts, names, strict=False)]  # fmt: skip
        return assess_values(estimator, *values)
    names_of = estimator.classes_.tolist()
    sets = [(part.sequences, label_table(part.labels, names_of).to_numpy()) for part in parts]
    return assess_labels(estimator, *sets)


def _assess_grouped(
    estimator: Any, data: LabelledSequences, known: LabelledSequences
) -> Assessment:
    """Return the assessment of a model trained anew on a grouped split."""
    from titans_seq.evaluation import assess_grouped

    if estimator.network_.config.task != "classes":
        raise click.UsageError("--grouped is for models of one label a sequence")
    return assess_grouped(estimator, (data.sequences, data.labels), (known.sequences, known.labels))


def _tables(title: str, found: Assessment) -> list[Any]:
    """Return what was found as tables: scores, rows apart, intervals, strands."""
    from titans_seq.evaluation.scores.report import ScoreTable

    def shown(scores: Any) -> tuple[str, ...]:
        return tuple(name for name in COLUMNS if any(name in one for one in scores.values()))

    tables = [ScoreTable(title, shown(found.scores), tuple(found.scores.items()))]
    intervals = _intervals(found.scores)
    if intervals:
        tables.append(ScoreTable("95% intervals", ("score", "low", "high"), intervals))
    if found.apart:
        rows = next(iter(found.apart.values()))["records"]
        tables.append(
            ScoreTable(
                f"the {rows:,} rows apart from training rows",
                shown(found.apart),
                tuple(found.apart.items()),
            )
        )
    if found.strands:
        columns = ("accuracy", "on the other strand", "strands agree")
        rows_of = tuple(
            (one.name, dict(zip(columns, (one.given, one.other, one.agreement), strict=True)))
            for one in found.strands
        )
        tables.append(ScoreTable("strands", columns, rows_of))
    return tables


def _intervals(scores: Any) -> tuple[tuple[str, dict[str, float]], ...]:
    """Return the model's scores with their intervals, a row each."""
    name, own = next(iter(scores.items()))
    names: Sequence[str] = [one for one in COLUMNS if f"{one}_low" in own]
    return tuple(
        (
            f"{name}: {one}",
            {"score": own[one], "low": own[f"{one}_low"], "high": own[f"{one}_high"]},
        )
        for one in names
    )
