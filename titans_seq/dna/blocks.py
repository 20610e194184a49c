"""FASTA read in blocks of bytes: many short records, or part of a long one, at a time.

A block is split at its headers and encoded by one table, so that a short record costs no
more than a long one's letters, and a chromosome is never held whole. What is refused, and
how it is worded, is as in :mod:`titans_seq.dna.fasta`, where Biopython parses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from titans_seq.dna.alphabet import BLANKS, LETTERS, MARK, PAD, Codes, encode_text, is_no_letter
from titans_seq.dna.sources import BLOCK, not_text, text_blocks
from titans_seq.exceptions import DataError

MAX_HEADER = 1 << 20
"""Bytes of the longest header; a longer one is a file without line ends."""

LOOKS_LIKE = {
    "@": "this looks like FASTQ; `seqtk seq -A` makes FASTA of it",
    ";": "this is a comment", "#": "this is a comment", "<": "this looks like HTML",
    "LOCUS": "this looks like GenBank; Bio.SeqIO.convert makes FASTA of it",
    "ID ": "this looks like EMBL; Bio.SeqIO.convert makes FASTA of it",
}  # fmt: skip
"""What stands before the first header, by its start."""

_LINE_END = 10
_HEADER = re.compile(rb"\n>(.*)")
_ODD_STARTS = tuple(b"\n%c" % blank for blank in BLANKS + bytes(range(0x1C, 0x20)))
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

    titles: list[str]
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


class Split(NamedTuple):
    """One block of text, split at its headers."""

    titles: list[bytes]
    """Headers, without ``>`` and line end."""

    bodies: list[bytes]
    """What stands before the first header, and from the end of each one's line on."""

    line: int
    """Line ends before the block; one that is not there stands before the text."""

    open_line: int
    """Line of the last header, if there is one."""

    last: bool
    """Whether the text ends here."""

    def line_of(self, index: int) -> int:
        """Return the line of a header, counted from 1, or for 0 of the block's first byte."""
        return self.line + index + sum(body.count(b"\n") for body in self.bodies[:index])


def split_headers(blocks: Iterator[bytes], where: str) -> Iterator[Split]:
    """Yield blocks of text split at their headers, each of which is seen whole.

    A line end or an unfinished header at the end of a block waits for the next one.
    """
    held = b"\n"  # as if a line had ended before the text, so that headers always follow one
    line = 0
    begun = False
    for block in blocks:
        text = held + block
        begun = begun or b"\n" in text.lstrip(BLANKS) or len(text) > MAX_HEADER
        if not begun:  # the first line that is not blank is seen whole, too
            held = text
            continue
        cut = len(text) - text.endswith(b"\n")
        bodies = _HEADER.split(text[:cut]) if b">" in text else [text[:cut]]
        if len(bodies) > 1 and not bodies[-1] and cut == len(text):
            cut -= len(bodies[-2]) + 2  # a header that may go on
            del bodies[-2:]
        held = text[cut:]
        if len(held) > MAX_HEADER:
            raise DataError(
                f"{where}, line {line + text.count(10, 0, cut + 1)}: a header of more than "
                f"{MAX_HEADER} bytes; a line end is missing behind '>name'"
            )
        after = line + int(np.count_nonzero(np.frombuffer(text[:cut], np.uint8) == _LINE_END))
        yield Split(bodies[1::2], bodies[::2], line, after - bodies[-1].count(b"\n"), False)
        line = after
    bodies = _HEADER.split(held)
    open_line = line + held.count(b"\n") - bodies[-1].count(b"\n")
    yield Split(bodies[1::2], bodies[::2], line, open_line, True)


class _Reader:
    """Where the reading of one text stands, and what is open there."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.number = 0
        self.title = ""
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
        titles, faults = self._titles(text)
        codes = encode_text(b">".join(bodies))
        array = np.frombuffer(codes, dtype=np.uint8)
        marks = np.flatnonzero(array == MARK)
        if faults or PAD in codes or len(marks) >= len(bodies):
            bodies = self._refuse_letters(titles, bodies, text, faults)
            array = np.frombuffer(encode_text(b">".join(bodies)), dtype=np.uint8)
            marks = np.flatnonzero(array == MARK)
        ends = np.append(marks, len(array))
        self._refuse_empty(titles, ends, text, faults)
        block = Block(self.number, titles, array, ends, sorted(faults), text.last)
        self._go_on(block, text)
        return block

    def _titles(self, text: Split) -> tuple[list[str], list[Fault]]:
        """Return the headers as text; refuse what has no name, or is no UTF-8."""
        joined = b"\n".join([b"", *text.titles, b""])
        if joined.isascii() and not any(odd in joined for odd in _ODD_STARTS):
            return joined.decode().split("\n")[1:-1], []
        titles, faults = [], []
        for index, raw in enumerate(text.titles, start=1):
            title = raw.decode("utf-8", "replace")
            titles.append(title)
            message = f"{self.where}, line {text.line_of(index)}: a header without a name"
            if not _is_text(raw):
                message = not_text(self.where, text.line_of(index))
            elif title.strip():
                continue
            else:
                message += "; write >name"
            faults.append(Fault(self.number + index, name_of(title), message))
        return titles, faults

    def _refuse_letters(
        self, titles: Sequence[str], bodies: Sequence[bytes], text: Split, faults: list[Fault]
    ) -> list[bytes]:
        """Tell of each segment with something that is no letter; return the others' text."""
        refused = {fault.number - self.number for fault in faults}
        good = []
        for index, body in enumerate(bodies):
            wrong = None if index in refused else _NO_LETTER.search(body)
            good.append(b"" if wrong or index in refused else body)
            if wrong:
                name = self._name(index, titles)
                message = self._no_letter(text, index, wrong.start(), name)
                faults.append(Fault(self.number + index, name, message))
        return good

    def _no_letter(self, text: Split, index: int, place: int, name: str) -> str:
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
        return f"{self.where}, record {name}: {found} {is_no_letter(letter)}"

    def _refuse_empty(
        self,
        titles: Sequence[str],
        ends: npt.NDArray[np.int64],
        text: Split,
        faults: list[Fault],
    ) -> None:
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
            name = self._name(index, titles)
            message = f"{self.where}, record {name} (line {line}): no sequence follows it"
            faults.append(Fault(self.number + index, name, message))

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

    def _name(self, index: int, titles: Sequence[str]) -> str:
        """Return the name of the record of a segment."""
        return name_of(titles[index - 1] if index else self.title)

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


def name_of(title: str) -> str:
    """Return the first word of a header; empty if it has none."""
    return next(iter(title.split(maxsplit=1)), "")


def before_header(line: str, number: int, where: str) -> str:
    """Return the message for text before the first header."""
    hints = (hint for start, hint in LOOKS_LIKE.items() if line.startswith(start))
    hint = next(hints, "the sequence's header is missing")
    shown = line.strip()[:30]
    return (
        f"{where}, line {number}: {shown!r} stands before the first header; {hint}: "
        "FASTA begins with a line '>name'"
    )
