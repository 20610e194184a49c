"""FASTA records, parsed by Biopython and checked.

What Biopython silently accepts is rejected here, with the file and the line or record in the
message: an empty file, text before the first header, a header inside a line, a record without
letters, a letter outside IUPAC, a damaged gzip file. Accepted are gzip and bgzip (recognised by
their first bytes), Windows and old Mac line ends, a byte-order mark, lower case, ``U``, every
IUPAC letter, blank lines, and names that occur twice.

Whole records are held in memory; :mod:`titans_seq.dna.reading.records` reads the same files in
constant memory.
"""

from __future__ import annotations

import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from titans_seq.dna.alphabet import BLANKS, encode, invalid_letter
from titans_seq.dna.reading.blocks import before_header, name_of
from titans_seq.dna.reading.records import repeated_names
from titans_seq.dna.reading.sources import open_text, source_name, text_lines
from titans_seq.exceptions import DataError, MissingExtraError

_LABEL = "label="
_DROP_BLANKS = str.maketrans("", "", BLANKS.decode())


@dataclass(frozen=True, slots=True)
class FastaRecord:
    """One record of a FASTA file."""

    name: str
    """First word of the header."""

    description: str
    """The whole header, without its ``>``."""

    sequence: str
    """Letters as written in the file, lines joined; all of them IUPAC."""

    @property
    def label(self) -> str | None:
        """Text after ``label=`` in the header, up to the next space; None if there is none."""
        words = (word for word in self.description.split()[1:] if word.startswith(_LABEL))
        return next((word.removeprefix(_LABEL) for word in words), None) or None


def read_fasta(path: str | Path) -> Iterator[FastaRecord]:
    """Yield the checked records of a FASTA file in order.

    Parameters
    ----------
    path
        File, plain or compressed by gzip or bgzip; ``-`` is standard input.

    Warns
    -----
    UserWarning
        If names occur more than once; all records are kept.

    Raises
    ------
    DataError
        If the file cannot be read or is not FASTA of DNA; the message names the file and the
        line or record. Records before the invalid one have been yielded by then, so write no
        output before the iterator is exhausted.
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
    name_counts: Counter[str] = Counter()
    headers: deque[int] = deque()  # line numbers of headers that are not yet yielded
    with open_text(path) as handle:
        for title, sequence in parse(_checked_lines(handle, where, headers)):
            line = headers.popleft()
            if not title.strip():
                raise DataError(f"{where}, line {line}: a header without a name; write >name")
            name = name_of(title)
            if not sequence:
                raise DataError(f"{where}, record {name} (line {line}): no sequence follows it")
            encode(sequence, f"{where}, record {name}")
            name_counts[name] += 1
            yield FastaRecord(name, title.strip(), sequence)
    repeated = [name for name, count in name_counts.items() if count > 1]
    if repeated:
        warnings.warn(repeated_names(repeated, where), UserWarning, stacklevel=2)


def _checked_lines(handle: TextIO, where: str, headers: deque[int]) -> Iterator[str]:
    """Yield lines that Biopython parses without loss; append the line number of each header."""
    started = False
    for number, line in text_lines(handle, where):
        if line.startswith(">"):
            started = True
            headers.append(number)
            yield line
            continue
        letters = line.translate(_DROP_BLANKS)
        if not letters:
            continue
        if not started:
            raise DataError(before_header(line, number, where))
        if ">" in letters:
            raise DataError(
                f"{where}, line {number}: '>' inside a line; a header must begin its line"
            )
        if letters[-1].isspace():  # Unicode white space, which Biopython would drop
            raise DataError(
                f"{where}, line {number}: {letters[-1]!r} {invalid_letter(letters[-1])}"
            )
        yield letters
    if not started:
        raise DataError(f"{where} is empty; FASTA needs at least one record, '>name' and letters")
