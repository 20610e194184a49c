"""Rows that come in parts, written as they come and kept whole or not at all."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .tables import FLOAT_FORMAT

if TYPE_CHECKING:
    import pandas as pd


class Sink(Protocol):
    """What takes in rows."""

    def write(self, frame: pd.DataFrame) -> None:
        """Write some rows; all parts have the same columns."""
        ...

    def close(self) -> None:
        """Bring the file to its end."""
        ...


class TextTable:
    """CSV, TSV or JSON Lines."""

    def __init__(self, path: Path, suffix: str) -> None:
        self.file = path.open("w", encoding="utf-8", newline="")
        self.suffix = suffix
        self.begun = False

    def write(self, frame: pd.DataFrame) -> None:
        """Write some rows, the titles before the first."""
        if self.suffix == ".jsonl":
            frame.to_json(self.file, orient="records", lines=True, double_precision=10)
        else:
            frame.to_csv(
                self.file,
                index=False,
                header=not self.begun,
                sep="," if self.suffix == ".csv" else "\t",
                float_format=FLOAT_FORMAT,
                lineterminator="\n",
            )
        self.begun = True

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class Parquet:
    """Parquet, in row groups of many parts."""

    group = 1 << 16
    """Rows of a group, about."""

    def __init__(self, path: Path, _suffix: str) -> None:
        self.path = path
        self.writer: Any = None
        self.waiting: list[pd.DataFrame] = []

    def write(self, frame: pd.DataFrame) -> None:
        """Take in some rows; the first say of which types the columns are."""
        self.waiting.append(frame)
        if sum(map(len, self.waiting)) >= self.group:
            self._flush()

    def _flush(self) -> None:
        """Write the rows that wait as one group."""
        import pandas as pd
        import pyarrow as pa
        import pyarrow.parquet as pq

        frame = pd.concat(self.waiting, ignore_index=True)
        self.waiting = []
        schema = None if self.writer is None else self.writer.schema
        table = pa.Table.from_pandas(frame, schema=schema, preserve_index=False)
        if self.writer is None:
            self.writer = pq.ParquetWriter(self.path, table.schema)
        self.writer.write_table(table)

    def close(self) -> None:
        """Write what waits, and the file's end."""
        if self.waiting:
            self._flush()
        if self.writer is not None:
            self.writer.close()


SINKS: Mapping[str, Callable[[Path, str], Sink]] = {
    ".tsv": TextTable,
    ".csv": TextTable,
    ".jsonl": TextTable,
    ".parquet": Parquet,
}


@contextmanager
def _ended_tidily() -> Iterator[None]:
    """Let SIGTERM, which batch systems send, end the work as Ctrl-C does: nothing stays behind."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def whole_file(out: Path) -> Iterator[Path]:
    """Give a temporary file; what was written to it comes to ``out`` at the end, or never.

    ``-`` is standard output.
    """
    from titans_seq.files import write_whole

    if str(out) != "-":
        with _ended_tidily(), write_whole(out) as temporary:
            yield temporary
        return
    with _ended_tidily(), tempfile.TemporaryDirectory(prefix="titans-seq-") as folder:
        temporary = Path(folder) / "output"
        yield temporary
        with temporary.open("rb") as source:
            shutil.copyfileobj(source, sys.stdout.buffer)
        sys.stdout.buffer.flush()


@contextmanager
def rows_to(out: Path, *, plain: str = ".tsv") -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Give a function that writes rows, as columns of one length, to a table.

    Parameters
    ----------
    out
        A file, whose suffix names its form; ``-`` is standard output.
    plain
        Suffix that stands for standard output, and for a file of none of the known kinds.
    """
    import pandas as pd

    suffix = out.suffix if out.suffix in SINKS else plain
    make = SINKS[suffix]
    with whole_file(out) as temporary:
        sink = make(temporary, suffix)
        try:
            yield lambda columns: sink.write(pd.DataFrame(columns))
        finally:
            sink.close()
