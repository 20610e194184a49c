"""``titans-seq dna evaluate``: scores of a model and of simple controls."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .dna_fit import LABELS_OPTION
from .options import DATA, DATA_OR_STDIN, MODEL_IN, SCORES_OUT
from .tables import show_tables

if TYPE_CHECKING:
    from titans_seq.dna import LabelledSequences
    from titans_seq.evaluation.dna.assessment import Assessment

COLUMNS = ("accuracy", "f1", "mcc", "auroc", "auprc", "log_loss", "ece", "r2", "pearson",
           "spearman", "rmse", "mae", "records")  # fmt: skip


@click.command(name="evaluate")
@click.argument("fasta", type=DATA_OR_STDIN)
@LABELS_OPTION
@MODEL_IN
@click.option(
    "--train",
    type=DATA,
    help="Training data of the model (FASTA with labels in its headers, or a table); simple "
    "models are trained on it and scored, too.",
)
@click.option(
    "--grouped",
    is_flag=True,
    help="Also train the model again, on a split in which sequences that share a 24-mer stay "
    "together. Takes as long as `fit` did.",
)
@SCORES_OUT
def dna_evaluate(
    fasta: Path, labels: Path | None, model: Path, train: Path | None, grouped: bool,
    out: Path | None,
) -> None:  # fmt: skip
    """Score a model on labelled sequences.

    With --train, simple models are scored, too, and so are the sequences that do not overlap the
    training data; limitations of the scores are reported on standard error.

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
    assessments = [assessment]
    if grouped and known is not None:
        grouped_assessment = _assess_grouped(estimator, data, known)
        tables += _tables(
            "trained again, sequences that share a 24-mer on one side", grouped_assessment
        )
        assessments.append(grouped_assessment)
    show_tables(tables, out)
    for assessment in assessments:
        for note in assessment.notes:
            click.echo(f"Note: {note}", err=True)
        for warning in assessment.warnings:
            click.echo(f"Warning: {warning}", err=True)


def _assess(
    estimator: Any,
    data: LabelledSequences,
    known: LabelledSequences | None,
    names: tuple[Path, Path | None],
) -> Assessment:
    """Return the assessment for the kind of outputs of the model."""
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
    """Return the assessment of a model trained again on a grouped split."""
    from titans_seq.evaluation import assess_grouped

    if estimator.network_.config.task != "classes":
        raise click.UsageError("--grouped needs a model of one label per sequence")
    return assess_grouped(estimator, (data.sequences, data.labels), (known.sequences, known.labels))


def _tables(title: str, assessment: Assessment) -> list[Any]:
    """Return the tables of an assessment: scores, intervals, rows without overlap, strands."""
    from titans_seq.evaluation.scores.report import ScoreTable

    def shown(by_model: Any) -> tuple[str, ...]:
        return tuple(name for name in COLUMNS if any(name in row for row in by_model.values()))

    scores, apart = assessment.scores, assessment.apart
    tables = [ScoreTable(title, shown(scores), tuple(scores.items()))]
    intervals = _intervals(scores)
    if intervals:
        tables.append(ScoreTable("95% intervals", ("score", "low", "high"), intervals))
    if apart:
        count = next(iter(apart.values()))["records"]
        apart_title = f"the {count:,} sequences that do not overlap training sequences"
        tables.append(ScoreTable(apart_title, shown(apart), tuple(apart.items())))
    if assessment.strands:
        columns = ("accuracy", "on the other strand", "strands agree")
        rows = tuple(
            (row.name, dict(zip(columns, (row.given, row.other, row.agreement), strict=True)))
            for row in assessment.strands
        )
        tables.append(ScoreTable("strands", columns, rows))
    return tables


def _intervals(scores: Any) -> tuple[tuple[str, dict[str, float]], ...]:
    """Return the scores of the model with their intervals, one row each."""
    model, own = next(iter(scores.items()))
    return tuple(
        (
            f"{model}: {name}",
            {"score": own[name], "low": own[f"{name}_low"], "high": own[f"{name}_high"]},
        )
        for name in COLUMNS
        if f"{name}_low" in own
    )
