"""FASTA in, checked records out.

Biopython parses; what it lets pass in silence is refused here, with the file and the line
or record in the message: an empty file, text before the first header, a header inside a
line, a record without letters, a letter that is no DNA, a damaged gzip file. Accepted:
gzip and bgzip (told by their first bytes), Windows and old Mac line ends, a byte-order
mark, lower case, ``U``, every IUPAC letter, blank lines, and names that occur twice.

Records come whole, so this is for what fits into memory; :mod:`titans_seq.dna.reading.pieces` reads
the same at constant memory.
"""

from __future__ import annotations

import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from titans_seq.dna.alphabet import BLANKS, encode, is_no_letter
from titans_seq.dna.reading.headers import before_header, name_of
from titans_seq.dna.reading.sources import open_text, source_name, text_lines
from titans_seq.exceptions import DataError, MissingExtraError

_LABEL = "label="
_DROPPED = str.maketrans("", "", BLANKS.decode())


@dataclass(frozen=True, slots=True)
class FastaRecord:
    """One record of a FASTA file."""

    name: str
    """First word of the header."""

    description: str
    """The whole header, without its ``>``."""

    sequence: str
    """Letters as they stand in the file, joined; all of them IUPAC."""

    @property
    def label(self) -> str | None:
        """What stands behind ``label=`` in the header, up to the next space; None without."""
        words = (word for word in self.description.split()[1:] if word.startswith(_LABEL))
        return next((word.removeprefix(_LABEL) for word in words), None) or None


def read_fasta(path: str | Path) -> Iterator[FastaRecord]:
    """Yield the records of a FASTA file in their order, each checked.

    Parameters
    ----------
    path
        File, packed by gzip or bgzip or not; ``-`` is standard input.

    Warns
    -----
    UserWarning
        If names occur more than once; all records are kept.

    Raises
    ------
    DataError
        If the file cannot be read or is not FASTA of DNA; the message names the file and the
        line or record. Records before the fault have been yielded by then, so write nothing
        before the last one has come.
    MissingExtraError
        If Biopython is not installed.
    """
    try:
        from Bio.SeqIO.FastaIO import SimpleFastaParser
    except ImportError as error:
        raise MissingExtraError("Bio", extra="dna") from error
    return _records(path, SimpleFastaParser)


def _records(
    path: str | Path, parse: Callable[[Iterator[str]], Iterator[tuple[str, str]]]
) -> Iterator[FastaRecord]:
    """Yield checked records; ``parse`` is Biopython's parser of lines."""
    where = source_name(path)
    seen: Counter[str] = Counter()
    headers: deque[int] = deque()
    with open_text(path) as handle:
        for title, sequence in parse(_checked_lines(handle, where, headers)):
            line = headers.popleft()
            if not title.strip():
                raise DataError(f"{where}, line {line}: a header without a name; write >name")
            name = name_of(title)
            if not sequence:
                raise DataError(f"{where}, record {name} (line {line}): no sequence follows it")
            encode(sequence, f"{where}, record {name}")
            seen[name] += 1
            yield FastaRecord(name, title.strip(), sequence)
    twice = [name for name, count in seen.items() if count > 1]
    if twice:
        warnings.warn(
            f"{where}: {len(twice)} name(s) occur more than once, {twice[0]!r} first; "
            "all records are kept",
            UserWarning,
            stacklevel=2,
        )


def _checked_lines(handle: TextIO, where: str, headers: deque[int]) -> Iterator[str]:
    """Yield lines that Biopython parses without loss, noting the number of each header."""
    begun = False
    for number, line in text_lines(handle, where):
        if line.startswith(">"):
            begun = True
            headers.append(number)
            yield line
            continue
        letters = line.translate(_DROPPED)
        if not letters:
            continue
        if not begun:
            raise DataError(before_header(line, number, where))
        if ">" in letters:
            raise DataError(
                f"{where}, line {number}: '>' inside a line; a header must begin its line"
            )
        if letters[-1].isspace():  # of Unicode, which Biopython would drop
            raise DataError(f"{where}, line {number}: {letters[-1]!r} {is_no_letter(letters[-1])}")
        yield letters
    if not begun:
        raise DataError(f"{where} is empty; FASTA needs at least one record, '>name' and letters")
