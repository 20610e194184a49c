"""Records of any length, piece by piece; what a file holds; and the records it refuses."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

from titans_seq.dna.alphabet import Codes
from titans_seq.dna.reading.blocks import Fault, read_blocks
from titans_seq.dna.reading.headers import name_of, split_headers
from titans_seq.dna.reading.sources import BLOCK, open_bytes, source_name, text_blocks
from titans_seq.exceptions import DataError


class Head(NamedTuple):
    """Which record it is."""

    number: int
    """Place of the record in its file, from 1."""

    name: str
    """First word of the header."""

    title: str
    """The whole header, without its ``>``."""


class Piece(NamedTuple):
    """Letters of a record that follow one another."""

    head: Head

    start: int
    """Letters of the record before these."""

    codes: Codes
    """Codes of the letters, see :mod:`titans_seq.dna.alphabet`; may be none at the end."""

    ends: bool
    """Whether the record ends here."""


class Survey(NamedTuple):
    """What a FASTA file holds."""

    records: int
    """Records that are not refused."""

    letters: int
    """Their letters."""

    faults: list[Fault]
    """Records that are refused."""

    repeated: list[str]
    """Names that occur more than once."""

    longest: tuple[int, str]
    """Letters and name of the longest record."""


def read_pieces(
    path: str | os.PathLike[str],
    *,
    skip: Collection[int] = (),
    size: int = BLOCK,
    where: str | None = None,
) -> Iterator[Piece]:
    """Yield the records of a FASTA file piece by piece, at constant memory.

    Parameters
    ----------
    path
        File, packed by gzip or bgzip or not; ``-`` is standard input.
    skip
        Numbers of records to leave out.
    size
        Bytes that are read at once; the letters that come out do not depend on it.
    where
        What to call the file in an error; its path if left out.

    Raises
    ------
    DataError
        If the file cannot be read, is not FASTA, or a record that is not left out is refused.
    """
    head = Head(0, "", "")
    done = 0
    where = where or source_name(path)
    with open_bytes(path, where) as handle:
        for block in read_blocks(handle, where, size):
            for fault in block.faults:
                if fault.number not in skip:
                    raise DataError(fault.message)
            if block.number and block.number not in skip:
                ends = block.last or bool(block.titles)
                piece = Piece(head, done, block.segment(0), ends)
                done += len(piece.codes)
                if ends or len(piece.codes):
                    yield piece
            for index, title in enumerate(block.titles, start=1):
                number = block.number + index
                head = _head(number, title)
                if number in skip:
                    continue
                codes = block.segment(index)
                ends = block.last or index < len(block.titles)
                done = len(codes)
                if ends or done:
                    yield Piece(head, 0, codes, ends)


def _head(number: int, title: bytes) -> Head:
    """Return the head of a record; what is no UTF-8 is refused elsewhere."""
    text = title.decode("utf-8", "replace")
    return Head(number, name_of(text), text.strip())


def survey(path: str | os.PathLike[str], *, where: str | None = None) -> Survey:
    """Read a FASTA file once and tell what it holds, refused records too.

    Raises
    ------
    DataError
        If the file as a whole is refused: it cannot be read, is empty, does not begin with a
        header, or its gzip stream is damaged.
    """
    names: Counter[str] = Counter()
    faults: dict[int, Fault] = {}
    total = before = 0  # letters of good records, and of the open one
    longest = (0, "")
    title = b""
    where = where or source_name(path)
    with open_bytes(path, where) as handle:
        for block in read_blocks(handle, where):
            faults |= {fault.number: fault for fault in block.faults}
            titles: list[bytes] = [title, *block.titles]
            names.update(_head(0, one).name for one in block.titles)
            letters = np.diff(block.ends, prepend=-1) - 1
            total += int(letters.sum())
            letters[0] += before
            best = int(letters.argmax())
            longest = max(longest, (int(letters[best]), _head(0, titles[best]).name))
            title, before = titles[-1], int(letters[-1])
            if block.number + len(block.titles) in faults:
                total, before = total - before, 0
    names.subtract(fault.name for fault in faults.values())
    repeated = [name for name, count in names.items() if count > 1]
    return Survey(names.total(), total, list(faults.values()), repeated, longest)


def copy_records(path: str | os.PathLike[str], faults: Collection[Fault], sink: BinaryIO) -> None:
    """Write refused records as they stand in their file; each header ends in ``refused="..."``.

    Parameters
    ----------
    path
        The file that they stand in.
    faults
        What :func:`survey` found.
    sink
        Where to write.
    """
    reasons = {fault.number: fault.message.replace('"', "'").encode() for fault in faults}
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
