"""FASTA read in blocks of bytes: many short records, or part of a long one, at a time.

A block is split at its headers and encoded with one table lookup, so that a short record costs
no more than the letters of a long one, and a chromosome is never held in memory whole. Records
are rejected for the same reasons, in the same words, as in :mod:`titans_seq.dna.reading.fasta`,
where Biopython parses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from titans_seq.dna.alphabet import BLANKS, LETTERS, MARK, PAD, Codes, encode_text, invalid_letter
from titans_seq.dna.reading.sources import BLOCK_BYTES, not_text, text_blocks
from titans_seq.exceptions import DataError

MAX_HEADER = 1 << 20
"""Bytes of the longest header accepted; a longer one is a file without line ends."""

_FORMAT_HINTS = {
    "@": "this looks like FASTQ; `seqtk seq -A` converts it to FASTA",
    ";": "this is a comment", "#": "this is a comment", "<": "this looks like HTML",
    "LOCUS": "this looks like GenBank; Bio.SeqIO.convert converts it to FASTA",
    "ID ": "this looks like EMBL; Bio.SeqIO.convert converts it to FASTA",
}  # fmt: skip
"""Likely format of a file that does not begin with a header, by its first characters."""

_HEADER = re.compile(rb"\n>(.*)")

_BLANK_LINE_START = re.compile(rb"\n[\s\x1c-\x1f]")
"""Matches every title without a name in a list of titles, and hardly any title with one."""

_INVALID_BYTE = re.compile(b"[^%sUu%s]" % (BLANKS, (LETTERS + LETTERS.lower()).encode()))


class HeaderSplit(NamedTuple):
    """One block of text, split at its headers."""

    titles: list[bytes]
    """Headers, without ``>`` and line end."""

    bodies: list[bytes]
    """Text before the first header, and after each header line."""

    line: int
    """Line ends before the block, counting an imaginary one before the whole text."""

    open_line: int
    """Line number of the last header, if there is one."""

    last: bool
    """Whether the text ends here."""

    def line_of(self, index: int) -> int:
        """Return the line number of a header, from 1; of index 0, that of the first byte."""
        return self.line + index + sum(body.count(b"\n") for body in self.bodies[:index])


def split_headers(blocks: Iterator[bytes], where: str) -> Iterator[HeaderSplit]:
    """Yield blocks of text split at their headers, each of them complete.

    A line end or an incomplete header at the end of a block is moved to the next block.
    """
    carried = b"\n"  # as if a line had ended before the text, so that a header always follows one
    line = 0
    started = False
    for block in blocks:
        text = carried + block
        started = started or b"\n" in text.lstrip(BLANKS) or len(text) > MAX_HEADER
        if not started:  # the first line that is not blank must be complete, too
            carried = text
            continue
        end = len(text) - text.endswith(b"\n")
        kept = text[:end]
        bodies = _HEADER.split(kept) if b">" in kept else [kept]
        if len(bodies) > 1 and not bodies[-1] and end == len(text):
            end -= len(bodies[-2]) + 2  # the last header may continue in the next block
            del bodies[-2:]
        carried = text[end:]
        if len(carried) > MAX_HEADER:
            raise DataError(
                f"{where}, line {line + text.count(10, 0, end + 1)}: a header of more than "
                f"{MAX_HEADER} bytes; a line end is missing after '>name'"
            )
        # numpy counts line ends several times as fast as bytes.count does
        line_ends = int(np.count_nonzero(np.frombuffer(text, np.uint8) == ord("\n")))
        after = line + line_ends - carried.startswith(b"\n")
        yield HeaderSplit(bodies[1::2], bodies[::2], line, after - bodies[-1].count(b"\n"), False)
        line = after
    bodies = _HEADER.split(carried)
    open_line = line + carried.count(b"\n") - bodies[-1].count(b"\n")
    yield HeaderSplit(bodies[1::2], bodies[::2], line, open_line, True)


def name_of(title: str) -> str:
    """Return the first word of a header; empty if it has none."""
    return next(iter(title.split(maxsplit=1)), "")


def before_header(line: str, number: int, where: str) -> str:
    """Return the error message for text before the first header."""
    hints = (hint for start, hint in _FORMAT_HINTS.items() if line.startswith(start))
    hint = next(hints, "the header of the sequence is missing")
    return (
        f"{where}, line {number}: {line.strip()[:30]!r} stands before the first header; {hint}: "
        "FASTA begins with a line '>name'"
    )


class InvalidRecord(NamedTuple):
    """A record that cannot be used."""

    number: int
    """Number of the record in its file, from 1."""

    name: str

    message: str
    """File, record, line and reason."""


class Block(NamedTuple):
    """The letters of one block, by record.

    Segment 0 continues the record left open by the block before; segment i belongs to the i-th
    record that begins here. All but the last segment are complete.
    """

    number: int
    """Number of the record of segment 0, from 1; 0 before the first record."""

    titles: list[bytes]
    """Headers that begin here, without their ``>``."""

    codes: Codes
    """Codes of all letters, with one ``MARK`` between two segments."""

    ends: npt.NDArray[np.int64]
    """Index in ``codes`` one past the end of each segment."""

    invalid: list[InvalidRecord]
    """Records found to be invalid; their segments in this block are empty."""

    last: bool
    """Whether the file ends here."""

    def segment(self, index: int) -> Codes:
        """Return the codes of one segment."""
        return self.codes[self.ends[index - 1] + 1 if index else 0 : self.ends[index]]


def read_blocks(handle: BinaryIO, where: str, size: int = BLOCK_BYTES) -> Iterator[Block]:
    """Yield a FASTA text block by block.

    Parameters
    ----------
    handle
        The text, uncompressed.
    where
        Name of the text in error messages.
    size
        Approximate number of bytes to read at a time.

    Raises
    ------
    DataError
        If the text is empty, does not begin with a header, or cannot be read to its end. An
        invalid record raises nothing: it is listed in its block.
    """
    reader = _BlockReader(where)
    for text in split_headers(text_blocks(handle, where, size), where):
        yield reader.read(text)
    if not reader.number:
        raise DataError(f"{where} is empty; FASTA needs at least one record, '>name' and letters")


class _BlockReader:
    """Checks and encodes blocks; keeps the state of the record left open by the last block."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.number = 0
        self.title = b""
        self.line = 0
        self.letters = 0
        self.open_invalid = False

    def read(self, text: HeaderSplit) -> Block:
        """Return one block of text, encoded and checked."""
        bodies = text.bodies
        if not self.number:
            self._check_start(text)
        if self.open_invalid or not self.number:
            bodies = [b"", *bodies[1:]]
        invalid = self._invalid_titles(text)
        # All bodies are encoded in one call; '>' becomes MARK, which separates the segments.
        codes = encode_text(b">".join(bodies))
        array = np.frombuffer(codes, dtype=np.uint8)
        marks = np.flatnonzero(array == MARK)
        # Only if something is wrong are the bodies looked at one by one.
        if invalid or PAD in codes or len(marks) >= len(bodies):
            bodies = self._drop_invalid_letters(bodies, text, invalid)
            array = np.frombuffer(encode_text(b">".join(bodies)), dtype=np.uint8)
            marks = np.flatnonzero(array == MARK)
        ends = np.append(marks, len(array))
        self._add_empty_records(ends, text, invalid)
        block = Block(self.number, text.titles, array, ends, sorted(invalid), text.last)
        self._update(block, text)
        return block

    def _invalid_titles(self, text: HeaderSplit) -> list[InvalidRecord]:
        """Return the records whose header has no name or is not UTF-8."""
        joined = b"\n".join([b"", *text.titles, b""])
        if joined.isascii() and not _BLANK_LINE_START.search(joined):
            return []
        invalid = []
        for index, title in enumerate(text.titles, start=1):
            if not _is_utf8(title):
                message = not_text(self.where, text.line_of(index))
            elif not name_of(title.decode()):
                where = f"{self.where}, line {text.line_of(index)}"
                message = f"{where}: a header without a name; write >name"
            else:
                continue
            invalid.append(self._invalid_record(index, text, message))
        return invalid

    def _drop_invalid_letters(
        self, bodies: Sequence[bytes], text: HeaderSplit, invalid: list[InvalidRecord]
    ) -> list[bytes]:
        """Return the bodies with those of invalid records emptied; add new ones to ``invalid``."""
        known = {record.number - self.number for record in invalid}
        kept = []
        for index, body in enumerate(bodies):
            match = None if index in known else _INVALID_BYTE.search(body)
            kept.append(b"" if match or index in known else body)
            if match:
                message = self._letter_message(text, index, match.start())
                invalid.append(self._invalid_record(index, text, message))
        return kept

    def _letter_message(self, text: HeaderSplit, index: int, offset: int) -> str:
        """Return the error message for the invalid byte at an offset of a body."""
        body = text.bodies[index]
        line = text.line_of(index) + body.count(b"\n", 0, offset)
        begin, end = body.rfind(b"\n", 0, offset) + 1, body.find(b"\n", offset)
        whole_line = body[begin : end if end >= 0 else len(body)]
        letter = body[offset:].decode("utf-8", "replace")[0]
        if letter == ">":
            return f"{self.where}, line {line}: '>' inside a line; a header must begin its line"
        if not _is_utf8(whole_line):
            return not_text(self.where, line)
        position = len(encode_text(body[:offset])) + (0 if index else self.letters) + 1
        return (
            f"{self.where}, record {self._name(index, text)}: letter {letter!r} at position "
            f"{position} (line {line}) {invalid_letter(letter)}"
        )

    def _add_empty_records(
        self, ends: npt.NDArray[np.int64], text: HeaderSplit, invalid: list[InvalidRecord]
    ) -> None:
        """Add records that ended without a letter to ``invalid``."""
        lengths = np.diff(ends, prepend=-1) - 1
        lengths[0] += self.letters
        known = {record.number for record in invalid} | {0}
        if self.open_invalid:
            known.add(self.number)
        # The last segment may continue in the next block, unless the text ends here.
        for index in np.flatnonzero(lengths[: None if text.last else -1] == 0).tolist():
            if self.number + index in known:
                continue
            line = text.line_of(index) if index else self.line
            where = f"{self.where}, record {self._name(index, text)} (line {line})"
            invalid.append(self._invalid_record(index, text, f"{where}: no sequence follows it"))

    def _update(self, block: Block, text: HeaderSplit) -> None:
        """Remember the record that a block leaves open."""
        invalid = {record.number for record in block.invalid}
        if block.titles:
            self.number += len(block.titles)
            self.title = block.titles[-1]
            self.line = text.open_line
            self.letters = 0
            self.open_invalid = False
        self.letters += len(block.segment(len(block.titles)))
        self.open_invalid = self.open_invalid or self.number in invalid

    def _name(self, index: int, text: HeaderSplit) -> str:
        """Return the name of the record of a segment."""
        title = text.titles[index - 1] if index else self.title
        return name_of(title.decode("utf-8", "replace"))

    def _invalid_record(self, index: int, text: HeaderSplit, message: str) -> InvalidRecord:
        """Return the record of a segment, with what is wrong with it."""
        return InvalidRecord(self.number + index, self._name(index, text), message)

    def _check_start(self, text: HeaderSplit) -> None:
        """Raise if there is text before the first header."""
        for number, raw in enumerate(text.bodies[0].split(b"\n"), start=text.line):
            if not raw.strip(BLANKS):
                continue
            if not _is_utf8(raw):
                raise DataError(not_text(self.where, number))
            raise DataError(before_header(raw.decode(), number, self.where))


def _is_utf8(raw: bytes) -> bool:
    """Return whether bytes are UTF-8."""
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
