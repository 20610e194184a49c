"""FASTA read in blocks of bytes: many short records, or part of a long one, at a time.

A block is split at its headers and encoded by one table, so that a short record costs no
more than a long one's letters, and a chromosome is never held whole. What is refused, and
how it is worded, is as in :mod:`titans_seq.dna.reading.fasta`, where Biopython parses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from titans_seq.dna.alphabet import BLANKS, LETTERS, MARK, PAD, Codes, encode_text, is_no_letter
from titans_seq.dna.reading.headers import Split, before_header, name_of, split_headers
from titans_seq.dna.reading.sources import BLOCK, not_text, text_blocks
from titans_seq.exceptions import DataError

_ODD_START = re.compile(rb"\n[\s\x1c-\x1f]")
"""What a header without a name has behind a line end; one with a name, nearly never."""

_NO_LETTER = re.compile(b"[^%sUu%s]" % (BLANKS, (LETTERS + LETTERS.lower()).encode()))


class Fault(NamedTuple):
    """A record that is refused."""

    number: int
    """Place of the record in its file, from 1."""

    name: str

    message: str
    """File, record, line and reason."""


class Block(NamedTuple):
    """The letters of one block, parted by record.

    Segment 0 goes on with the record that was open before; segment i belongs to the i-th
    record that begins here. All but the last have ended.
    """

    number: int
    """Of the record of segment 0, from 1; 0 before the first."""

    titles: list[bytes]
    """Headers that begin here, without their ``>``."""

    codes: Codes
    """Codes of all letters, one ``MARK`` between two segments."""

    ends: npt.NDArray[np.int64]
    """Place behind each segment in ``codes``."""

    faults: list[Fault]
    """Records that were found to be refused; what is here of them is empty."""

    last: bool
    """Whether the file ends here."""

    def segment(self, index: int) -> Codes:
        """Return the codes of one segment."""
        return self.codes[self.ends[index - 1] + 1 if index else 0 : self.ends[index]]


def read_blocks(handle: BinaryIO, where: str, size: int = BLOCK) -> Iterator[Block]:
    """Yield a FASTA text block by block.

    Parameters
    ----------
    handle
        The text, unpacked.
    where
        What to call it in an error.
    size
        Bytes that are read at once, about.

    Raises
    ------
    DataError
        If the text as a whole is refused: it is empty, does not begin with a header, or cannot
        be read to its end. Records that are refused are told in the blocks.
    """
    reader = _Reader(where)
    for text in split_headers(text_blocks(handle, where, size), where):
        yield reader.read(text)
    if not reader.number:
        raise DataError(f"{where} is empty; FASTA needs at least one record, '>name' and letters")


class _Reader:
    """Where the reading of one text stands, and what is open there."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.number = 0
        self.title = b""
        self.line = 0
        self.letters = 0
        self.refused = False

    def read(self, text: Split) -> Block:
        """Return one block of text, encoded and checked."""
        bodies = text.bodies
        if not self.number:
            self._refuse_start(text)
        if self.refused or not self.number:
            bodies = [b"", *bodies[1:]]
        faults = self._refuse_titles(text)
        codes = encode_text(b">".join(bodies))
        array = np.frombuffer(codes, dtype=np.uint8)
        marks = np.flatnonzero(array == MARK)
        if faults or PAD in codes or len(marks) >= len(bodies):
            bodies = self._refuse_letters(bodies, text, faults)
            array = np.frombuffer(encode_text(b">".join(bodies)), dtype=np.uint8)
            marks = np.flatnonzero(array == MARK)
        ends = np.append(marks, len(array))
        self._refuse_empty(ends, text, faults)
        block = Block(self.number, text.titles, array, ends, sorted(faults), text.last)
        self._go_on(block, text)
        return block

    def _refuse_titles(self, text: Split) -> list[Fault]:
        """Tell of each header that has no name, or is no UTF-8."""
        joined = b"\n".join([b"", *text.titles, b""])
        if joined.isascii() and not _ODD_START.search(joined):
            return []
        faults = []
        for index, title in enumerate(text.titles, start=1):
            if not _is_text(title):
                message = not_text(self.where, text.line_of(index))
            elif not name_of(title.decode()):
                where = f"{self.where}, line {text.line_of(index)}"
                message = f"{where}: a header without a name; write >name"
            else:
                continue
            faults.append(self._fault(index, text, message))
        return faults

    def _refuse_letters(
        self, bodies: Sequence[bytes], text: Split, faults: list[Fault]
    ) -> list[bytes]:
        """Tell of each segment with something that is no letter; return the others' text."""
        refused = {fault.number - self.number for fault in faults}
        good = []
        for index, body in enumerate(bodies):
            wrong = None if index in refused else _NO_LETTER.search(body)
            good.append(b"" if wrong or index in refused else body)
            if wrong:
                message = self._no_letter(text, index, wrong.start())
                faults.append(self._fault(index, text, message))
        return good

    def _no_letter(self, text: Split, index: int, place: int) -> str:
        """Return the message for what stands at a place of a segment."""
        body = text.bodies[index]
        line = text.line_of(index) + body.count(b"\n", 0, place)
        begin, end = body.rfind(b"\n", 0, place) + 1, body.find(b"\n", place)
        whole = body[begin : end if end >= 0 else len(body)]
        letter = body[place:].decode("utf-8", "replace")[0]
        if letter == ">":
            return f"{self.where}, line {line}: '>' inside a line; a header must begin its line"
        if not _is_text(whole):
            return not_text(self.where, line)
        letters = len(encode_text(body[:place])) + (0 if index else self.letters)
        found = f"letter {letter!r} at position {letters + 1} (line {line})"
        return f"{self.where}, record {self._name(index, text)}: {found} {is_no_letter(letter)}"

    def _refuse_empty(self, ends: npt.NDArray[np.int64], text: Split, faults: list[Fault]) -> None:
        """Tell of records that ended without a letter."""
        letters = np.diff(ends, prepend=-1) - 1
        letters[0] += self.letters
        known = {fault.number for fault in faults} | {0}
        if self.refused:
            known.add(self.number)
        for index in np.flatnonzero(letters[: None if text.last else -1] == 0).tolist():
            if self.number + index in known:
                continue
            line = text.line_of(index) if index else self.line
            place = f"{self.where}, record {self._name(index, text)} (line {line})"
            faults.append(self._fault(index, text, f"{place}: no sequence follows it"))

    def _go_on(self, block: Block, text: Split) -> None:
        """Note which record is open behind a block."""
        refused = {fault.number for fault in block.faults}
        if block.titles:
            self.number += len(block.titles)
            self.title = block.titles[-1]
            self.line = text.open_line
            self.letters = 0
            self.refused = False
        self.letters += len(block.segment(len(block.titles)))
        self.refused = self.refused or self.number in refused

    def _name(self, index: int, text: Split) -> str:
        """Return the name of the record of a segment."""
        title = text.titles[index - 1] if index else self.title
        return name_of(title.decode("utf-8", "replace"))

    def _fault(self, index: int, text: Split, message: str) -> Fault:
        """Return what is wrong with the record of a segment."""
        return Fault(self.number + index, self._name(index, text), message)

    def _refuse_start(self, text: Split) -> None:
        """Refuse text before the first header."""
        for number, raw in enumerate(text.bodies[0].split(b"\n"), start=text.line):
            if not raw.strip(BLANKS):
                continue
            if not _is_text(raw):
                raise DataError(not_text(self.where, number))
            raise DataError(before_header(raw.decode(), number, self.where))


def _is_text(raw: bytes) -> bool:
    """Tell whether bytes are UTF-8."""
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
