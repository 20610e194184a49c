"""Where text comes from: a file, standard input, gzip or not, told by the first bytes."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, TextIO, cast

from titans_seq.exceptions import DataError

STDIN = "-"
"""In place of a path: read standard input."""

BLOCK = 1 << 18
"""Bytes that are read at once: few enough for the cache, enough for the calls to cost little."""

_GZIP = b"\x1f\x8b"
_PACKED = {b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"PK\x03\x04": "zip", b"\x28\xb5\x2f\xfd": "zstd"}
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_MARK = b"\xef\xbb\xbf"


def source_name(path: str | os.PathLike[str]) -> str:
    """Return what to call a source in a message."""
    return "standard input" if str(path) == STDIN else str(path)


@contextmanager
def open_bytes(path: str | os.PathLike[str], where: str | None = None) -> Iterator[BinaryIO]:
    """Open a file, or standard input for ``-``; what gzip or bgzip packed comes unpacked.

    Parameters
    ----------
    path
        What to open.
    where
        What to call it in an error; its path if left out.

    Raises
    ------
    DataError
        If there is no such file, it is a folder, it cannot be opened, or it is packed in
        another way than gzip.
    """
    where = where or source_name(path)
    stdin = str(path) == STDIN
    try:
        raw: IO[bytes] = sys.stdin.buffer if stdin else Path(path).open("rb", 0)  # noqa: SIM115
        buffered = io.BufferedReader(raw, BLOCK)  # type: ignore[type-var]
        magic = buffered.peek(8)[:8]
    except IsADirectoryError as error:
        raise DataError(f"{where} is a folder; name a file in it") from error
    except OSError as error:
        raise DataError(f"{where} cannot be read: {error.strerror or error}") from error
    try:
        _refuse_packed(magic, where)
        packed = magic.startswith(_GZIP)
        yield cast(BinaryIO, gzip.GzipFile(fileobj=buffered) if packed else buffered)
    finally:
        if stdin:
            buffered.detach()
        else:
            buffered.close()


@contextmanager
def open_text(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    """Open the same as text of any line ends, without a byte-order mark.

    Bytes that are not UTF-8 come as lone surrogates, for the reader to refuse with a line.
    """
    with open_bytes(path) as plain:
        text = io.TextIOWrapper(plain, encoding="utf-8-sig", errors="surrogateescape")
        try:
            yield text
        finally:
            text.detach()


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
                raise DataError(not_text(where, number))
            yield number, line
    except (EOFError, zlib.error, OSError) as error:
        raise unreadable(error, where, f"line {number}") from error


def text_blocks(handle: BinaryIO, where: str, size: int = BLOCK) -> Iterator[bytes]:
    r"""Yield a text in blocks of about ``size`` bytes, its line ends all ``\n``.

    Raises
    ------
    DataError
        If the gzip stream is cut off or damaged.
    """
    held = b""
    done = 0
    while True:
        try:
            block = handle.read(size)
        except (EOFError, zlib.error, OSError) as error:
            raise unreadable(error, where, f"{done} bytes") from error
        if not block:
            break
        if not done:
            while len(block) < len(_MARK) and (more := handle.read(size)):
                block += more
        done += len(block)
        if done == len(block):
            block = block.removeprefix(_MARK)
        if held or b"\r" in block:
            block = held + block
            held = b"\r" if block.endswith(b"\r") else b""
            block = block.removesuffix(held).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        yield block
    if held:
        yield b"\n"


def not_text(where: str, line: int) -> str:
    """Return the message for a line that is not UTF-8."""
    return f"{where}, line {line}: not UTF-8 text; save the file as UTF-8"


def unreadable(error: Exception, where: str, place: str) -> DataError:
    """Return what reading failed of, after some place of the text."""
    if isinstance(error, EOFError):
        return DataError(f"{where}: the gzip file is cut off after {place}; fetch it again")
    if isinstance(error, gzip.BadGzipFile | zlib.error):
        return DataError(
            f"{where}: the gzip file is damaged after {place} ({error}); fetch it again"
        )
    return DataError(f"{where} cannot be read after {place}: {error}")


@contextmanager
def twice_readable(path: str | os.PathLike[str]) -> Iterator[str | os.PathLike[str]]:
    """Give a path that can be read more than once: what is no file is first copied to one.

    The copy lies in the folder for temporary files and is taken away at the end.

    Raises
    ------
    DataError
        If it is a folder, or cannot be read.
    """
    if str(path) != STDIN and (Path(path).is_file() or not Path(path).exists()):
        yield path
        return
    if Path(path).is_dir():
        raise DataError(f"{path} is a folder; name a file in it")
    with tempfile.TemporaryDirectory(prefix="titans-seq-") as folder:
        copy = Path(folder) / "input"
        with copy.open("wb") as sink:
            if str(path) == STDIN:
                shutil.copyfileobj(sys.stdin.buffer, sink, BLOCK)
            else:
                with Path(path).open("rb") as source:
                    shutil.copyfileobj(source, sink, BLOCK)
        yield copy
