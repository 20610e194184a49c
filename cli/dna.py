"""``titans-seq dna``: train, predict, evaluate and explain on FASTA."""

from __future__ import annotations

import click

from .lazy import LazyGroup


@click.group(
    cls=LazyGroup,
    lazy={
        "fit": (".dna_fit:fit", "Train a classifier or a regressor on FASTA."),
        "predict": (".dna_predict:predict", "Label records, windows, intervals or variants."),
        "evaluate": (".dna_evaluate:evaluate", "Score a model beside simple controls."),
        "pretrain": (".dna_pretrain:pretrain", "Learn from sequences without labels."),
        "explain": (".dna_explain:explain", "Show which bases drive a prediction."),
    },
)
def dna() -> None:
    """Classify DNA sequences.

    Input is FASTA (plain or gzip, - is standard input), or a table .csv or .tsv (also .gz)
    with columns sequence and label.
    """
