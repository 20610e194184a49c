"""FASTA text parted at its headers, whatever blocks it comes in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from titans_seq.dna.alphabet import BLANKS
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
        kept = text[:cut]
        bodies = _HEADER.split(kept) if b">" in kept else [kept]
        if len(bodies) > 1 and not bodies[-1] and cut == len(text):
            cut -= len(bodies[-2]) + 2  # a header that may go on
            del bodies[-2:]
        held = text[cut:]
        if len(held) > MAX_HEADER:
            raise DataError(
                f"{where}, line {line + text.count(10, 0, cut + 1)}: a header of more than "
                f"{MAX_HEADER} bytes; a line end is missing behind '>name'"
            )
        ends = np.frombuffer(text, np.uint8) == _LINE_END
        after = line + int(np.count_nonzero(ends)) - held.startswith(b"\n")
        yield Split(bodies[1::2], bodies[::2], line, after - bodies[-1].count(b"\n"), False)
        line = after
    bodies = _HEADER.split(held)
    open_line = line + held.count(b"\n") - bodies[-1].count(b"\n")
    yield Split(bodies[1::2], bodies[::2], line, open_line, True)


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
