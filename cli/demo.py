"""``titans-seq demo``: both heads, from the embedded data to scores and plots."""

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
    """Train and score both heads on the embedded data.

    Takes two to three minutes on two cores. Prints our scores beside those of simple methods,
    and the commands that do the same with your own files.
    """
    from titans_seq.evaluation import run_demo

    if sys.stderr.isatty():
        click.echo("Training both heads; this takes two to three minutes ...", err=True)
    click.echo(run_demo(out).to_text())
