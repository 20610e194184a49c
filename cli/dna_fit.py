"""``titans-seq dna fit``: train on labelled sequences and write a model folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import DATA, DATA_OR_STDIN, FOLDER, FORCE, MODEL_OUT, option_group
from .processes import shared
from .training import (
    OVERRIDES,
    RANDOM_STATE,
    RESUME,
    build,
    check_model_out,
    checkpointed,
    progress,
    report_training,
    variant_option,
)

if TYPE_CHECKING:
    from titans_seq.dna import LabelledSequences

LABELS_OPTION = click.option(
    "--labels",
    type=DATA,
    help="Table id<TAB>label; by default, label=NAME in the headers of the FASTA file.",
)


@dataclass(frozen=True)
class EstimatorOptions:
    """Options that are parameters of the estimator."""

    variant: str
    tokens: str
    init: Path | None
    reverse_complement: str
    max_epochs: int | None
    random_state: int
    device: str


@dataclass(frozen=True)
class TargetOptions:
    """Options about the labels and their prediction."""

    task: str
    class_weight: str | None
    threshold: float | None
    min_length: int


ESTIMATOR_OPTIONS = (
    click.option(
        "--reverse-complement",
        type=click.Choice(["auto", "none", "augment", "average", "equivariant"]),
        default="auto",
        show_default=True,
        help="Use of the reverse strand: none; augment the training sequences; average the "
        "predictions for both strands; or an equivariant network. auto: none or average, "
        "whichever predicts held-out sequences better.",
    ),
    variant_option("mag"),
    click.option(
        "--tokens",
        default="motif",
        show_default=True,
        help="Tokens of the network: motif, base, or 2-mer to 6-mer.",
    ),
    click.option("--init", type=FOLDER, help="Start from a model that `pretrain` wrote."),
    click.option(
        "--max-epochs",
        type=click.IntRange(min=1),
        help="Most passes over the sequences; by default as many as suit their number.",
    ),
    *RANDOM_STATE,
)

TARGET_OPTIONS = (
    click.option(
        "--task",
        type=click.Choice(["classes", "labels", "values"]),
        default="classes",
        show_default=True,
        help="classes: one label each; labels: any number, such as tata;gc; values: numbers.",
    ),
    click.option(
        "--class-weight",
        type=click.Choice(["balanced"]),
        help="Give rare classes the same weight as frequent ones.",
    ),
    click.option(
        "--threshold",
        type=click.FloatRange(0, 1),
        help="Lowest probability at which a label is predicted; below it, unclassified.",
    ),
    click.option(
        "--min-length",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="Shorter sequences are not used for training, and are unclassified.",
    ),
)


@click.command(name="fit")
@click.argument("fasta", type=DATA_OR_STDIN)
@LABELS_OPTION
@MODEL_OUT
@FORCE
@RESUME
@option_group("target_options", TargetOptions, *TARGET_OPTIONS)
@option_group("settings", EstimatorOptions, *ESTIMATOR_OPTIONS)
@OVERRIDES
@shared
@click.pass_context
def dna_fit(
    ctx: click.Context,
    fasta: Path,
    labels: Path | None,
    model: Path,
    force: bool,
    resume: bool,
    target_options: TargetOptions,
    settings: EstimatorOptions,
    overrides: tuple[str, ...],
) -> None:
    """Train a classifier on FASTA and write it to a model folder.

    If interrupted, run the same command with --resume to continue.

    \b
    Examples:
      titans-seq dna fit promoters.fa --labels promoters.tsv --model promoters
      titans-seq dna fit activity.csv --task values --model activity
    """
    check_model_out(model, force=force)
    from titans_seq.dna import read_labelled
    from titans_seq.dna.learning.calibration import describe_calibration

    estimator = _estimator(target_options, settings, overrides)
    data = read_labelled(fasta, labels)
    parameters = estimator.get_params() | {"task": target_options.task}
    with checkpointed(model, parameters, [fasta, labels], resume=resume, force=force):
        with progress(ctx):
            estimator.fit(data.sequences, _targets(target_options.task, data, fasta))
        estimator.save(model, force=force)
    outputs = ", ".join(map(str, getattr(estimator, "classes_", [])))
    outputs = f", {target_options.task} {outputs}" if outputs else ""
    report_training(model, f"{len(data.sequences)} sequences{outputs}", estimator.history_)
    if estimator.calibration_:
        click.echo(f"check  {describe_calibration(estimator.calibration_)}")


def _estimator(
    options: TargetOptions, settings: EstimatorOptions, overrides: tuple[str, ...]
) -> Any:
    """Return the estimator with these options."""
    from titans_seq.dna import TitansDNAClassifier, TitansDNARegressor

    values = asdict(settings) | {"min_length": options.min_length}
    values["init"] = None if settings.init is None else str(settings.init)
    if options.task != "values":
        values |= {
            "class_weight": options.class_weight,
            "threshold": options.threshold,
        }
        return build(TitansDNAClassifier, values, overrides)
    if options.class_weight is not None or options.threshold is not None:
        raise click.UsageError("--class-weight and --threshold cannot be used with --task values")
    return build(TitansDNARegressor, values, overrides)


def _targets(task: str, data: LabelledSequences, fasta: Path) -> Any:
    """Return the labels in the form that the estimator takes."""
    from titans_seq.dna.reading.labels import label_table, label_values

    if task == "labels":
        return label_table(data.labels)
    return label_values(data, str(fasta)) if task == "values" else data.labels
