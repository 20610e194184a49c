"""``titans-seq dna fit``: labelled sequences in, a model folder out."""

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

LABELS = click.option(
    "--labels",
    type=DATA,
    help="Table id<TAB>label; left out, headers of the FASTA file say label=NAME.",
)


@dataclass(frozen=True)
class Settings:
    """Settings of the estimator, as the command takes them."""

    variant: str
    tokens: str
    init: Path | None
    reverse_complement: str
    max_epochs: int | None
    random_state: int
    device: str


@dataclass(frozen=True)
class Asked:
    """What the labels are, and how they are answered."""

    task: str
    class_weight: str | None
    threshold: float | None
    min_length: int


SETTINGS = (
    click.option(
        "--reverse-complement",
        type=click.Choice(["auto", "none", "augment", "average", "equivariant"]),
        default="auto",
        show_default=True,
        help="What the other strand is worth: nothing, more training sequences, or the same "
        "answer always (by the mean over both strands, or by the network's own symmetry); "
        "auto: none or average, whichever foretells held-out sequences.",
    ),
    variant_option("mag"),
    click.option(
        "--tokens",
        default="motif",
        show_default=True,
        help="What the network reads: motif, base, or 2-mer to 6-mer.",
    ),
    click.option("--init", type=FOLDER, help="Begin from a model that `pretrain` wrote."),
    click.option(
        "--max-epochs",
        type=click.IntRange(min=1),
        help="Passes over the sequences, at most; by default as many as suit their number.",
    ),
    *RANDOM_STATE,
)

ASKED = (
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
        help="Let rare classes count as much as frequent ones.",
    ),
    click.option(
        "--threshold",
        type=click.FloatRange(0, 1),
        help="Least probability of a label that is given; below, unclassified.",
    ),
    click.option(
        "--min-length",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="Shorter sequences are not learnt from, and are unclassified.",
    ),
)


@click.command()
@click.argument("fasta", type=DATA_OR_STDIN)
@LABELS
@MODEL_OUT
@FORCE
@RESUME
@option_group("asked", Asked, *ASKED)
@option_group("settings", Settings, *SETTINGS)
@OVERRIDES
@shared
@click.pass_context
def fit(
    ctx: click.Context,
    fasta: Path,
    labels: Path | None,
    model: Path,
    force: bool,
    resume: bool,
    asked: Asked,
    settings: Settings,
    overrides: tuple[str, ...],
) -> None:
    """Train a classifier on FASTA and write it to a model folder.

    Stopped by Ctrl-C, or killed, the same command with --resume goes on.

    \b
    Examples:
      titans-seq dna fit promoters.fa --labels promoters.tsv --model promoters
      titans-seq dna fit activity.csv --task values --model activity
    """
    check_model_out(model, force=force)
    from titans_seq.dna import read_labelled
    from titans_seq.dna.learning.calibration import describe_calibration

    estimator = _estimator(asked, settings, overrides)
    data = read_labelled(fasta, labels)
    parameters = estimator.get_params() | {"task": asked.task}
    with checkpointed(model, parameters, [fasta, labels], resume=resume, force=force):
        with progress(ctx):
            estimator.fit(data.sequences, _targets(asked.task, data, fasta))
        estimator.save(model, force=force)
    what = ", ".join(map(str, getattr(estimator, "classes_", [])))
    what = f", {asked.task} {what}" if what else ""
    report_training(model, f"{len(data.sequences)} sequences{what}", estimator.history_)
    if estimator.calibration_:
        click.echo(f"check  {describe_calibration(estimator.calibration_)}")


def _estimator(asked: Asked, settings: Settings, overrides: tuple[str, ...]) -> Any:
    """Return the estimator that the options ask for."""
    from titans_seq.dna import TitansDNAClassifier, TitansDNARegressor

    values = asdict(settings) | {"min_length": asked.min_length}
    values["init"] = None if settings.init is None else str(settings.init)
    if asked.task != "values":
        values |= {"class_weight": asked.class_weight, "threshold": asked.threshold}
        return build(TitansDNAClassifier, values, overrides)
    if asked.class_weight is not None or asked.threshold is not None:
        raise click.UsageError("--class-weight and --threshold are for labels, not for values")
    return build(TitansDNARegressor, values, overrides)


def _targets(task: str, data: LabelledSequences, fasta: Path) -> Any:
    """Return the labels as the estimator takes them."""
    from titans_seq.dna.reading.labels import label_table, label_values

    if task == "labels":
        return label_table(data.labels)
    return label_values(data, str(fasta)) if task == "values" else data.labels
