"""FASTA records of any length in constant memory: in pieces, after a check of the whole file.

Reading is a thousand times as fast as predicting. So a file is read once to its end before
anything is predicted: an invalid record is reported before hours of work, and no output is begun
that could not be completed.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Literal, NamedTuple

import numpy as np

from titans_seq.dna.alphabet import Codes
from titans_seq.dna.reading.blocks import InvalidRecord, name_of, read_blocks, split_headers
from titans_seq.dna.reading.sources import (
    BLOCK_BYTES,
    open_bytes,
    readable_twice,
    source_name,
    text_blocks,
)
from titans_seq.exceptions import DataError
from titans_seq.files import write_whole

OnError = Literal["stop", "skip"]
"""What to do about an invalid record: raise before any work begins, or leave it out."""


class RecordHeader(NamedTuple):
    """Number and header of a record."""

    number: int
    """Number of the record in its file, from 1."""

    name: str
    """First word of the header."""

    title: str
    """The whole header, without its ``>``."""


class RecordPiece(NamedTuple):
    """Consecutive letters of a record."""

    head: RecordHeader

    start: int
    """Position of the first letter in the record, from 0."""

    codes: Codes
    """Codes of the letters, see :mod:`titans_seq.dna.alphabet`; may be empty at the end."""

    ends: bool
    """Whether the record ends here."""


class FastaSummary(NamedTuple):
    """Contents of a FASTA file."""

    records: int
    """Valid records."""

    letters: int
    """Letters of the valid records."""

    invalid: list[InvalidRecord]

    repeated: list[str]
    """Names that occur more than once."""

    longest: tuple[int, str]
    """Length and name of the longest record."""


@dataclass(frozen=True)
class CheckedFasta:
    """A FASTA file that was read to its end once, and whose valid records can be read again."""

    path: str | os.PathLike[str]
    """Path of the file; of a temporary copy, if it is standard input."""

    where: str
    """Name of the file in messages."""

    summary: FastaSummary

    def pieces(self, size: int = BLOCK_BYTES) -> Iterator[RecordPiece]:
        """Yield the valid records piece by piece."""
        skip = {record.number for record in self.summary.invalid}
        return read_pieces(self.path, skip=skip, size=size, where=self.where)


def read_pieces(
    path: str | os.PathLike[str],
    *,
    skip: Collection[int] = (),
    size: int = BLOCK_BYTES,
    where: str | None = None,
) -> Iterator[RecordPiece]:
    """Yield the records of a FASTA file piece by piece, in constant memory.

    Parameters
    ----------
    path
        File, plain or compressed by gzip or bgzip; ``-`` is standard input.
    skip
        Numbers of records to leave out.
    size
        Bytes to read at a time; the letters yielded do not depend on it.
    where
        Name of the file in error messages; its path by default.

    Raises
    ------
    DataError
        If the file cannot be read, is not FASTA, or a record that is not skipped is invalid.
    """
    head = RecordHeader(0, "", "")
    position = 0
    where = where or source_name(path)
    with open_bytes(path, where) as handle:
        for block in read_blocks(handle, where, size):
            for record in block.invalid:
                if record.number not in skip:
                    raise DataError(record.message)
            # Segment 0 continues the record that the block before left open.
            if block.number and block.number not in skip:
                ends = block.last or bool(block.titles)
                piece = RecordPiece(head, position, block.segment(0), ends)
                position += len(piece.codes)
                if ends or len(piece.codes):
                    yield piece
            for index, title in enumerate(block.titles, start=1):
                number = block.number + index
                head = _header(number, title)
                if number in skip:
                    continue
                codes = block.segment(index)
                ends = block.last or index < len(block.titles)
                position = len(codes)
                if ends or position:
                    yield RecordPiece(head, 0, codes, ends)


def _header(number: int, title: bytes) -> RecordHeader:
    """Return the header of a record; a title that is not UTF-8 is reported elsewhere."""
    text = title.decode("utf-8", "replace")
    return RecordHeader(number, name_of(text), text.strip())


def summarize_fasta(path: str | os.PathLike[str], *, where: str | None = None) -> FastaSummary:
    """Read a FASTA file to its end and return its contents, invalid records included.

    Raises
    ------
    DataError
        If the file as a whole cannot be used: it cannot be read, is empty, does not begin with
        a header, or its gzip stream is damaged.
    """
    names: Counter[str] = Counter()
    invalid: dict[int, InvalidRecord] = {}
    total = open_length = 0  # letters of valid records, and of the record left open
    longest = (0, "")
    title = b""
    where = where or source_name(path)
    with open_bytes(path, where) as handle:
        for block in read_blocks(handle, where):
            invalid |= {record.number: record for record in block.invalid}
            titles: list[bytes] = [title, *block.titles]
            names.update(_header(0, new).name for new in block.titles)
            lengths = np.diff(block.ends, prepend=-1) - 1
            total += int(lengths.sum())
            lengths[0] += open_length
            best = int(lengths.argmax())
            longest = max(longest, (int(lengths[best]), _header(0, titles[best]).name))
            title, open_length = titles[-1], int(lengths[-1])
            if block.number + len(block.titles) in invalid:
                total, open_length = total - open_length, 0
    names.subtract(record.name for record in invalid.values())
    repeated = [name for name, count in names.items() if count > 1]
    return FastaSummary(names.total(), total, list(invalid.values()), repeated, longest)


def copy_invalid_records(
    path: str | os.PathLike[str], invalid: Collection[InvalidRecord], sink: BinaryIO
) -> None:
    """Copy invalid records unchanged, but for ``refused="reason"`` at the end of each header.

    Parameters
    ----------
    path
        The file that contains them.
    invalid
        As listed by :func:`summarize_fasta`.
    sink
        File to write to.
    """
    reasons = {record.number: record.message.replace('"', "'").encode() for record in invalid}
    number = 0
    with open_bytes(path) as handle:
        where = source_name(path)
        for text in split_headers(text_blocks(handle, where), where):
            if number in reasons:
                sink.write(text.bodies[0])
            for title, body in zip(text.titles, text.bodies[1:], strict=True):
                if number in reasons:
                    sink.write(b"\n")
                number += 1
                if number in reasons:
                    sink.write(b'>%s refused="%s"%s' % (title, reasons[number], body))
    if number in reasons:
        sink.write(b"\n")


@contextmanager
def checked_fasta(
    path: str | os.PathLike[str],
    *,
    on_error: OnError = "stop",
    refused: str | os.PathLike[str] | None = None,
) -> Iterator[CheckedFasta]:
    """Check a whole FASTA file, then give access to its valid records.

    Parameters
    ----------
    path
        File, plain or compressed by gzip or bgzip; ``-`` is standard input, which is copied to
        a temporary file.
    on_error
        ``stop`` at an invalid record, or ``skip`` it with a warning.
    refused
        FASTA file to write skipped records to, unchanged, each with the reason at the end of
        its header; it is not written if there are none.

    Warns
    -----
    UserWarning
        If records are skipped, or names occur more than once (all are kept).

    Raises
    ------
    DataError
        If the file as a whole cannot be used, all records are invalid, or one is and
        ``on_error`` is ``stop``.
    """
    where = source_name(path)
    with readable_twice(path) as file:
        summary = summarize_fasta(file, where=where)
        invalid = summary.invalid
        if invalid and on_error == "stop":
            others = f" (and {len(invalid) - 1} more invalid records)" if len(invalid) > 1 else ""
            raise DataError(f"{invalid[0].message}{others}")
        if invalid and refused is not None:
            with write_whole(refused) as temporary, temporary.open("wb") as sink:
                copy_invalid_records(file, invalid, sink)
        if invalid and not summary.records:
            raise DataError(f"{where}: every record is invalid; the first: {invalid[0].message}")
        if invalid:
            copied = f" and written to {refused}" if refused is not None else ""
            warnings.warn(
                f"{where}: {len(invalid)} of {len(invalid) + summary.records} record(s) are "
                f"skipped{copied}; the first: {invalid[0].message}",
                UserWarning,
                stacklevel=3,
            )
        if summary.repeated:
            warnings.warn(repeated_names(summary.repeated, where), UserWarning, stacklevel=3)
        yield CheckedFasta(file, where, summary)


def repeated_names(names: list[str], where: str) -> str:
    """Return the warning about names of records that occur more than once."""
    return (
        f"{where}: {len(names)} name(s) occur more than once, {names[0]!r} first; all records "
        "are kept"
    )
