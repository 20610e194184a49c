"""``titans-seq dna``: train, predict, evaluate and explain on FASTA."""

from __future__ import annotations

import click

from .lazy import LazyGroup


@click.group(
    cls=LazyGroup,
    lazy={
        "fit": (".dna_fit:dna_fit", "Train a classifier or a regressor on FASTA."),
        "predict": (".dna_predict:dna_predict", "Label records, windows, intervals or variants."),
        "evaluate": (".dna_evaluate:dna_evaluate", "Score a model and simple controls."),
        "pretrain": (".dna_pretrain:dna_pretrain", "Pre-train on sequences without labels."),
        "explain": (".dna_explain:dna_explain", "Show which bases drive a prediction."),
    },
)
def dna() -> None:
    """Classify DNA sequences.

    Input is FASTA (plain or gzip, - is standard input), or a table .csv or .tsv (also .gz)
    with columns sequence and label.
    """
