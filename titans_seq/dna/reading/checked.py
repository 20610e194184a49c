"""A FASTA file that was read once to its end before anything is made of it.

Reading is a thousand times as fast as predicting: so the last record's fault is told before
the first is predicted, and no output is begun that could not be brought to its end.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from titans_seq.dna.reading.pieces import Piece, Survey, copy_records, read_pieces, survey
from titans_seq.dna.reading.sources import BLOCK, source_name, twice_readable
from titans_seq.exceptions import DataError
from titans_seq.files import write_whole

OnError = Literal["stop", "skip"]
"""What a refused record does: end the work before it has begun, or be left out."""


@dataclass(frozen=True)
class CheckedFasta:
    """A FASTA file whose records can be read again."""

    path: str | os.PathLike[str]
    """Where it lies; a copy, if it came by standard input."""

    where: str
    """What to call it in a message."""

    survey: Survey
    """What it holds."""

    def pieces(self, size: int = BLOCK) -> Iterator[Piece]:
        """Yield the good records piece by piece."""
        skip = {fault.number for fault in self.survey.faults}
        return read_pieces(self.path, skip=skip, size=size, where=self.where)


@contextmanager
def checked_fasta(
    path: str | os.PathLike[str],
    *,
    on_error: OnError = "stop",
    refused: str | os.PathLike[str] | None = None,
) -> Iterator[CheckedFasta]:
    """Read a FASTA file to its end, then give it to be read again.

    Parameters
    ----------
    path
        File, packed by gzip or bgzip or not; ``-`` is standard input, which is copied to a
        temporary file.
    on_error
        ``stop`` at a record that is refused, or ``skip`` it with a warning.
    refused
        FASTA file to which skipped records are written as they stand, each with the reason at
        the end of its header; it is not written if there are none.

    Warns
    -----
    UserWarning
        If records are skipped, or names occur more than once (all are kept).

    Raises
    ------
    DataError
        If the file as a whole is refused, or a record and ``on_error`` is ``stop``, or all
        records.
    """
    where = source_name(path)
    with twice_readable(path) as file:
        found = survey(file, where=where)
        faults = found.faults
        if faults and on_error == "stop":
            more = f" (and {len(faults) - 1} more refused records)" if len(faults) > 1 else ""
            raise DataError(f"{faults[0].message}{more}")
        if faults and refused is not None:
            with write_whole(refused) as temporary, temporary.open("wb") as sink:
                copy_records(file, faults, sink)
        if faults and not found.records:
            raise DataError(f"{where}: every record is refused; the first: {faults[0].message}")
        if faults:
            kept = f"; they are kept in {refused}" if refused is not None else ""
            warnings.warn(
                f"{where}: {len(faults)} of {len(faults) + found.records} record(s) are left "
                f"out{kept}; the first: {faults[0].message}",
                UserWarning,
                stacklevel=3,
            )
        if found.repeated:
            warnings.warn(
                f"{where}: {len(found.repeated)} name(s) occur more than once, "
                f"{found.repeated[0]!r} first; all records are kept",
                UserWarning,
                stacklevel=3,
            )
        yield CheckedFasta(file, where, found)
