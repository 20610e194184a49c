"""Results as text: tables for people and for programs."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import pandas as pd

    from titans_seq.evaluation.scores.report import ScoreTable

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
    title: str,
    scores: Mapping[str, Mapping[str, float]],
    columns: Sequence[str],
    out: Path | None,
) -> None:
    """Print one line a model, and write all figures as JSON if asked to.

    Parameters
    ----------
    title
        What was scored, and how.
    scores
        Figures by name, by model.
    columns
        Figures that are printed, in order; one that no model has is left out.
    out
        JSON file; ``-`` prints the JSON instead of the table.
    """
    from titans_seq.evaluation.scores.report import ScoreTable

    shown = tuple(name for name in columns if any(name in one for one in scores.values()))
    show_tables([ScoreTable(title, shown, tuple(scores.items()))], out)


def show_tables(tables: Sequence[ScoreTable], out: Path | None) -> None:
    """Print tables one after another, and write all figures as JSON if asked to.

    Parameters
    ----------
    tables
        The first is what was asked for, the others stand under ``more`` in the JSON.
    out
        JSON file; ``-`` prints the JSON instead of the tables.
    """
    from titans_seq.evaluation.scores.report import to_json
    from titans_seq.files import write_json

    first, *others = (table.to_record() for table in tables)
    record = {**first, "more": others} if others else first
    if out is not None and str(out) == "-":
        click.echo(to_json(record), nl=False)
        return
    if out is not None:
        write_json(out, record)
    click.echo("\n\n".join(table.to_text() for table in tables))
