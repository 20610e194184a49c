"""FASTA in, checked records out.

Biopython parses; what it lets pass in silence is refused here, with the file and the line
or record in the message: an empty file, text before the first header, a header inside a
line, a record without letters, a letter that is no DNA, a damaged gzip file. Accepted:
gzip and bgzip (told by their first bytes), Windows and old Mac line ends, a byte-order
mark, lower case, ``U``, every IUPAC letter, blank lines, and names that occur twice.
"""

from __future__ import annotations

import gzip
import io
import sys
import warnings
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TextIO

from titans_seq.dna.alphabet import encode
from titans_seq.exceptions import DataError, MissingExtraError

STDIN = "-"
"""In place of a path: read standard input."""

_LABEL = "label="
_GZIP = b"\x1f\x8b"
_PACKED = {b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"PK\x03\x04": "zip", b"\x28\xb5\x2f\xfd": "zstd"}
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_LOOKS_LIKE = {
    "@": "this looks like FASTQ", ";": "this is a comment", "#": "this is a comment",
    "<": "this looks like HTML", "LOCUS": "this looks like GenBank", "ID ": "this looks like EMBL",
}  # fmt: skip


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
            name = title.split(maxsplit=1)[0]
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


def source_name(path: str | Path) -> str:
    """Return what to call a source in a message."""
    return "standard input" if str(path) == STDIN else str(path)


@contextmanager
def open_text(path: str | Path) -> Iterator[TextIO]:
    """Open a file, or standard input for ``-``, as text; gzip is told by its first bytes.

    Bytes that are not UTF-8 come as lone surrogates, for the reader to refuse with a line.

    Raises
    ------
    DataError
        If there is no such file, it is a folder, it cannot be opened, or it is packed in
        another way than gzip.
    """
    where = source_name(path)
    stdin = str(path) == STDIN
    try:
        raw: IO[bytes] = sys.stdin.buffer if stdin else Path(path).open("rb", 0)  # noqa: SIM115
        buffered = io.BufferedReader(raw)  # type: ignore[type-var]
        magic = buffered.peek(8)[:8]
    except IsADirectoryError as error:
        raise DataError(f"{where} is a folder; name a file in it") from error
    except OSError as error:
        raise DataError(f"{where} cannot be read: {error.strerror or error}") from error
    try:
        _refuse_packed(magic, where)
        plain = gzip.GzipFile(fileobj=buffered) if magic.startswith(_GZIP) else buffered
        text = io.TextIOWrapper(plain, encoding="utf-8-sig", errors="surrogateescape")
        try:
            yield text
        finally:
            text.detach()
    finally:
        if stdin:
            buffered.detach()
        else:
            buffered.close()


def _refuse_packed(magic: bytes, where: str) -> None:
    """Refuse what is not text and not gzip, by the first bytes."""
    for start, kind in _PACKED.items():
        if magic.startswith(start):
            raise DataError(f"{where} is packed with {kind}; unpack it, or pack it with gzip")
    if magic.startswith(_UTF16):
        raise DataError(f"{where} is UTF-16 text; save it as UTF-8")


def text_lines(handle: TextIO, where: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text with their numbers from 1, as UTF-8 and whole or not at all.

    Raises
    ------
    DataError
        If the gzip stream is cut off or damaged, or a line is not UTF-8.
    """
    number = 0
    try:
        for number, line in enumerate(handle, start=1):
            if not line.isascii() and any("\udc80" <= letter <= "\udcff" for letter in line):
                raise DataError(f"{where}, line {number}: not UTF-8 text; save the file as UTF-8")
            yield number, line
    except EOFError as error:
        raise DataError(
            f"{where}: the gzip file is cut off after line {number}; fetch it again"
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{where}: the gzip file is damaged after line {number} ({error}); fetch it again"
        ) from error
    except OSError as error:
        raise DataError(f"{where} cannot be read after line {number}: {error}") from error


def _checked_lines(handle: TextIO, where: str, headers: deque[int]) -> Iterator[str]:
    """Yield lines that Biopython parses without loss, noting the number of each header."""
    begun = False
    for number, line in text_lines(handle, where):
        if line.startswith(">"):
            begun = True
            headers.append(number)
            yield line
            continue
        if not line.strip():
            continue
        if not begun:
            raise DataError(_no_header(line, number, where))
        if ">" in line:
            raise DataError(
                f"{where}, line {number}: '>' inside a line; a header must begin its line"
            )
        yield line.replace("\t", "")
    if not begun:
        raise DataError(f"{where} is empty; FASTA needs at least one record, '>name' and letters")


def _no_header(line: str, number: int, where: str) -> str:
    """Return the message for text before the first header."""
    hints = (hint for start, hint in _LOOKS_LIKE.items() if line.startswith(start))
    hint = next(hints, "the sequence's header is missing")
    shown = line.strip()[:30]
    return (
        f"{where}, line {number}: {shown!r} stands before the first header; {hint}: "
        "FASTA begins with a line '>name'"
    )
