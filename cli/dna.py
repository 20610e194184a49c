"""``titans-seq dna``: FASTA in, labels out."""

from __future__ import annotations

from pathlib import Path

import click

from .lazy import LazyGroup
from .options import DATA_OR_STDIN, MODEL_IN, OutFile
from .tables import WRITERS, write_table


@click.group(
    cls=LazyGroup,
    lazy={
        "fit": (".dna_fit:fit", "Train a classifier, or a regressor, on FASTA."),
        "predict": (".dna:predict", "Label every record of FASTA."),
        "evaluate": (".dna_evaluate:evaluate", "Score a model beside simple controls."),
        "pretrain": (".dna_pretrain:pretrain", "Learn from sequences without labels."),
        "explain": (".dna_explain:explain", "Show which bases an answer rests on."),
    },
)
def dna() -> None:
    """Classify DNA sequences.

    Input is FASTA (plain or gzip, - is standard input), or a table .csv or .tsv (also .gz)
    with columns sequence and label.
    """


@click.command()
@click.argument("fasta", type=DATA_OR_STDIN)
@MODEL_IN
@click.option(
    "--out",
    type=OutFile(*WRITERS),
    default="-",
    help="Table .tsv, .csv, .jsonl or .parquet; by default TSV on standard output.",
)
def predict(fasta: Path, model: Path, out: Path) -> None:
    """Label every record of FASTA.

    Writes one row a record: its name, its label, and the probability of each class.

    \b
    Example:
      titans-seq dna predict contigs.fa.gz --model promoters --out labels.tsv
    """
    import pandas as pd

    from titans_seq.dna import TitansDNAClassifier, read_sequences

    classifier = TitansDNAClassifier.load(model)
    data = read_sequences(fasta)
    chances = classifier.predict_proba(data.sequences)
    table = {
        "id": data.names,
        "label": classifier.classes_[chances.argmax(axis=1)],
        **{f"p({name})": chances[:, i] for i, name in enumerate(classifier.classes_)},
    }
    write_table(pd.DataFrame(table), out, plain=".tsv")
