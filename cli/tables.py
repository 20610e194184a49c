"""Output: tables of rows for programs, tables of scores for people."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

if TYPE_CHECKING:
    import pandas as pd

    from titans_seq.evaluation.scores.report import ScoreTable

_PARQUET_GROUP = 1 << 16
"""Rows of a row group, about."""


class TableWriter(Protocol):
    """An open table file, to which rows are appended."""

    def write(self, frame: pd.DataFrame) -> None:
        """Append rows; all frames have the same columns."""

    def close(self) -> None:
        """Finish the file."""


class TextWriter:
    """CSV, TSV or JSON Lines."""

    def __init__(self, path: Path, suffix: str) -> None:
        self.file = path.open("w", encoding="utf-8", newline="")
        self.suffix = suffix
        self.has_rows = False

    def write(self, frame: pd.DataFrame) -> None:
        """Append rows, after a header before the first."""
        if self.suffix == ".jsonl":
            frame.to_json(
                self.file, orient="records", lines=True, date_format="iso", double_precision=10
            )
        else:
            frame.to_csv(
                self.file,
                index=False,
                header=not self.has_rows,
                sep="," if self.suffix == ".csv" else "\t",
                float_format="%.8g",
                lineterminator="\n",
            )
        self.has_rows = True

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class ParquetWriter:
    """Parquet, in row groups of many frames."""

    def __init__(self, path: Path, _suffix: str) -> None:
        self.path = path
        self.writer: Any = None
        self.pending: list[pd.DataFrame] = []

    def write(self, frame: pd.DataFrame) -> None:
        """Append rows; the first row group sets the types of the columns."""
        self.pending.append(frame)
        if sum(map(len, self.pending)) >= _PARQUET_GROUP:
            self._flush()

    def _flush(self) -> None:
        """Write the pending rows as one row group."""
        import pandas as pd
        import pyarrow as pa
        import pyarrow.parquet as pq

        frame = pd.concat(self.pending, ignore_index=True)
        self.pending = []
        schema = None if self.writer is None else self.writer.schema
        table = pa.Table.from_pandas(frame, schema=schema, preserve_index=False)
        if self.writer is None:
            self.writer = pq.ParquetWriter(self.path, table.schema)
        self.writer.write_table(table)

    def close(self) -> None:
        """Write the pending rows and the footer."""
        if self.pending:
            self._flush()
        if self.writer is not None:
            self.writer.close()


_WRITERS: Mapping[str, Callable[[Path, str], TableWriter]] = {
    ".csv": TextWriter,
    ".tsv": TextWriter,
    ".jsonl": TextWriter,
    ".parquet": ParquetWriter,
}

TABLE_SUFFIXES = tuple(_WRITERS)


@contextmanager
def whole_file(out: Path) -> Iterator[Path]:
    """Yield a temporary file, which becomes ``out`` at the end if the block succeeds.

    ``-`` is standard output.
    """
    from titans_seq.files import write_whole

    if str(out) != "-":
        with write_whole(out) as temporary:
            yield temporary
        return
    with tempfile.TemporaryDirectory(prefix="titans-seq-") as folder:
        temporary = Path(folder) / "output"
        yield temporary
        with temporary.open("rb") as source:
            shutil.copyfileobj(source, sys.stdout.buffer)
        sys.stdout.buffer.flush()


@contextmanager
def rows_to(
    out: Path, *, default_suffix: str = ".tsv"
) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Yield a function that appends rows, as columns of equal length, to a table.

    Parameters
    ----------
    out
        A file, whose suffix selects the format; ``-`` is standard output.
    default_suffix
        Format of standard output, and of a file with another suffix.
    """
    import pandas as pd

    suffix = out.suffix if out.suffix in _WRITERS else default_suffix
    make_writer = _WRITERS[suffix]
    with whole_file(out) as temporary:
        writer = make_writer(temporary, suffix)
        try:
            yield lambda columns: writer.write(pd.DataFrame(columns))
        finally:
            writer.close()


def write_table(frame: pd.DataFrame, out: Path, *, default_suffix: str = ".csv") -> None:
    """Write a frame without its index, atomically; see :func:`rows_to`."""
    with rows_to(out, default_suffix=default_suffix) as write:
        write(frame)


def show_scores(
    title: str,
    scores: Mapping[str, Mapping[str, float]],
    columns: Sequence[str],
    out: Path | None,
) -> None:
    """Print one row per model, and optionally write all scores as JSON.

    Parameters
    ----------
    title
        What was scored, and how.
    scores
        Scores by name, by model.
    columns
        Scores to print, in order; one that no model has is left out.
    out
        JSON file; ``-`` prints the JSON instead of the table.
    """
    from titans_seq.evaluation.scores.report import ScoreTable

    present = tuple(name for name in columns if any(name in row for row in scores.values()))
    show_tables([ScoreTable(title, present, tuple(scores.items()))], out)


def show_tables(tables: Sequence[ScoreTable], out: Path | None) -> None:
    """Print tables one after another, and optionally write all scores as JSON.

    Parameters
    ----------
    tables
        The first is the main table; the others are listed under ``more`` in the JSON.
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
