"""``titans-seq dna``: FASTA in, labels out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import click

from .dna_predict import predict
from .options import DATA, DATA_OR_STDIN, FORCE, MODEL_IN, MODEL_OUT, SCORES_OUT, gathered
from .tables import show_scores
from .training import (
    MORE,
    RANDOM_STATE,
    RESUME,
    build,
    check_model_out,
    progress,
    report_training,
    surviving,
)

COLUMNS = ("accuracy", "f1", "mcc", "auroc", "auprc", "log_loss", "records")

LABELS = click.option(
    "--labels",
    type=DATA,
    help="Table id<TAB>label; left out, headers of the FASTA file say label=NAME.",
)


@dataclass(frozen=True)
class Settings:
    """Settings of the classifier, as the command takes them."""

    variant: str
    reverse_complement: str
    class_weight: str | None
    max_epochs: int | None
    random_state: int
    device: str


SETTINGS = (
    click.option(
        "--reverse-complement",
        type=click.Choice(["none", "augment", "average"]),
        default="none",
        show_default=True,
        help="What the other strand is worth: nothing, more training sequences, or the same "
        "answer always.",
    ),
    click.option(
        "--variant",
        type=click.Choice(["mac", "mag", "mal", "lmm", "attention"]),
        default="mag",
        show_default=True,
        help="How memory and attention are joined.",
    ),
    click.option(
        "--class-weight",
        type=click.Choice(["balanced"]),
        help="Let rare classes count as much as frequent ones.",
    ),
    click.option(
        "--max-epochs",
        type=click.IntRange(min=1),
        help="Passes over the sequences, at most; by default as many as suit their number.",
    ),
    *RANDOM_STATE,
)


@click.group()
def dna() -> None:
    """Classify DNA sequences.

    Input is FASTA (plain or gzip, - is standard input), or a table .csv or .tsv (also .gz)
    with columns sequence and label.
    """


@dna.command()
@click.argument("fasta", type=DATA_OR_STDIN)
@LABELS
@MODEL_OUT
@FORCE
@RESUME
@gathered("settings", Settings, *SETTINGS)
@MORE
@click.pass_context
def fit(
    ctx: click.Context,
    fasta: Path,
    labels: Path | None,
    model: Path,
    force: bool,
    resume: bool,
    settings: Settings,
    more: tuple[str, ...],
) -> None:
    """Train a classifier on FASTA and write it to a model folder.

    Stopped by Ctrl-C, or killed, the same command with --resume goes on.

    \b
    Example:
      titans-seq dna fit promoters.fa --labels promoters.tsv --model promoters
    """
    check_model_out(model, force=force)
    from titans_seq.dna import TitansDNAClassifier, read_labelled

    classifier = build(TitansDNAClassifier, asdict(settings), more)
    data = read_labelled(fasta, labels)
    with surviving(model, classifier, [fasta, labels], resume=resume, force=force):
        with progress(ctx):
            classifier.fit(data.sequences, data.labels)
        classifier.save(model, force=force)
    what = f"{len(data.sequences)} sequences, classes {', '.join(map(str, classifier.classes_))}"
    report_training(model, what, classifier.history_)


dna.add_command(predict)


@dna.command()
@click.argument("fasta", type=DATA_OR_STDIN)
@LABELS
@MODEL_IN
@click.option(
    "--train",
    type=DATA,
    help="What the model was trained on (FASTA with labels in its headers, or a table): simple "
    "classifiers are trained on it, and scored beside.",
)
@SCORES_OUT
def evaluate(
    fasta: Path, labels: Path | None, model: Path, train: Path | None, out: Path | None
) -> None:
    """Score a model on labelled sequences.

    \b
    Example:
      titans-seq dna evaluate test.csv.gz --model promoters --train train.csv.gz
    """
    from titans_seq.dna import TitansDNAClassifier, read_labelled
    from titans_seq.evaluation import score_dna, score_dna_controls

    classifier = TitansDNAClassifier.load(model)
    data = read_labelled(fasta, labels)
    scores = {"titans-seq": score_dna(classifier, data.sequences, data.labels)}
    if train is not None:
        known = read_labelled(train)
        scores |= score_dna_controls((known.sequences, known.labels), (data.sequences, data.labels))
    show_scores(f"{fasta}, {len(data.sequences)} sequences", scores, COLUMNS, out)
