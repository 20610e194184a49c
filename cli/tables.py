"""Results as text: tables for people and for programs."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import pandas as pd

FLOAT_FORMAT = "%.8g"


def _csv(frame: pd.DataFrame, file: Any) -> None:
    frame.to_csv(file, index=False, float_format=FLOAT_FORMAT)


def _tsv(frame: pd.DataFrame, file: Any) -> None:
    frame.to_csv(file, index=False, sep="\t", float_format=FLOAT_FORMAT)


def _jsonl(frame: pd.DataFrame, file: Any) -> None:
    frame.to_json(file, orient="records", lines=True, date_format="iso", double_precision=10)


def _parquet(frame: pd.DataFrame, file: Any) -> None:
    frame.to_parquet(file, index=False)


WRITERS: Mapping[str, Callable[[Any, Any], None]] = {
    ".csv": _csv,
    ".tsv": _tsv,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
}


def write_table(frame: pd.DataFrame, out: Path, *, plain: str) -> None:
    """Write a frame in the form that the file's suffix names, whole or not at all.

    Parameters
    ----------
    frame
        What to write; its index is left out.
    out
        A file; ``-`` is standard output.
    plain
        Suffix that stands for standard output, and for a file of none of the known kinds.
    """
    if str(out) == "-":
        text = io.StringIO()
        WRITERS[plain](frame, text)
        click.echo(text.getvalue(), nl=False)
        return
    from titans_seq.files import write_whole

    with write_whole(out) as temporary:
        WRITERS.get(out.suffix, WRITERS[plain])(frame, temporary)


def show_scores(
    scores: Mapping[str, Mapping[str, Any]], columns: Sequence[str], out: Path | None
) -> None:
    """Print one line a model, and write all figures as JSON if asked to.

    Parameters
    ----------
    scores
        Figures by name, by model.
    columns
        Figures that are printed, in order; one that no model has is left out.
    out
        JSON file; ``-`` prints the JSON instead of the table.
    """
    from titans_seq.files import plain_values, write_json

    if out is not None and str(out) == "-":
        click.echo(json.dumps(plain_values(scores), indent=2))
        return
    if out is not None:
        write_json(out, scores)
    shown = [name for name in columns if any(name in figures for figures in scores.values())]
    rows = [["model", *shown]]
    rows += [
        [model, *(_figure(figures.get(name)) for name in shown)]
        for model, figures in scores.items()
    ]
    show_columns(rows)


def show_columns(rows: Sequence[Sequence[str]]) -> None:
    """Print rows of words in columns, the first to the left and the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        words = [word.rjust(width) for word, width in zip(row, widths, strict=True)]
        words[0] = row[0].ljust(widths[0])
        click.echo("  ".join(words).rstrip())


def _figure(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.4f}"
