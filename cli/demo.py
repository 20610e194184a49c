"""``titans-seq demo``: a forecaster and a classifier, from embedded data to plots."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from .options import FOLDER


@click.command()
@click.option(
    "--out",
    type=FOLDER,
    default="titans-seq-demo",
    show_default=True,
    help="Folder for models, plots, scores and copies of the data.",
)
def demo(out: Path) -> None:
    """Train and score a forecaster and a classifier on the embedded data.

    Takes two to three minutes on two cores. Prints the scores beside those of simple methods,
    and the commands that do the same with your own files.
    """
    from titans_seq.evaluation import run_demo

    if sys.stderr.isatty():
        click.echo("Training a forecaster and a classifier: two to three minutes ...", err=True)
    click.echo(run_demo(out).to_text())
