"""Open text files and standard input, plain or compressed by gzip."""

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
"""Path that stands for standard input."""

BLOCK_BYTES = 1 << 18
"""Bytes read at a time: few enough for the cache, enough to keep the overhead of a call small."""

_GZIP = b"\x1f\x8b"
_COMPRESSED = {
    b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"PK\x03\x04": "zip", b"\x28\xb5\x2f\xfd": "zstd"
}  # fmt: skip
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def source_name(path: str | os.PathLike[str]) -> str:
    """Return the name of a file, or of standard input, for messages."""
    return "standard input" if str(path) == STDIN else str(path)


@contextmanager
def open_bytes(path: str | os.PathLike[str], where: str | None = None) -> Iterator[BinaryIO]:
    """Open a file, or standard input for ``-``; gzip and bgzip are decompressed.

    Parameters
    ----------
    path
        File to open.
    where
        Its name in error messages; the path by default.

    Raises
    ------
    DataError
        If there is no such file, it is a folder, it cannot be opened, or it is compressed by
        another program than gzip.
    """
    where = where or source_name(path)
    stdin = str(path) == STDIN
    try:
        raw: IO[bytes] = sys.stdin.buffer if stdin else Path(path).open("rb", 0)  # noqa: SIM115
        buffered = io.BufferedReader(raw, BLOCK_BYTES)  # type: ignore[type-var]
        magic = buffered.peek(8)[:8]
    except IsADirectoryError as error:
        raise DataError(f"{where} is a folder; name a file in it") from error
    except OSError as error:
        raise DataError(f"{where} cannot be read: {error.strerror or error}") from error
    try:
        _check_format(magic, where)
        is_gzip = magic.startswith(_GZIP)
        yield cast(BinaryIO, gzip.GzipFile(fileobj=buffered) if is_gzip else buffered)
    finally:
        if stdin:
            buffered.detach()  # closing it would close standard input
        else:
            buffered.close()


@contextmanager
def open_text(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    """Open a file as text with any line ends, without its byte-order mark.

    Bytes that are not UTF-8 become lone surrogates; :func:`text_lines` reports their line.
    """
    with open_bytes(path) as plain:
        text = io.TextIOWrapper(plain, encoding="utf-8-sig", errors="surrogateescape")
        try:
            yield text
        finally:
            text.detach()


def _check_format(magic: bytes, where: str) -> None:
    """Raise if the first bytes are those of a format other than text and gzip."""
    for start, kind in _COMPRESSED.items():
        if magic.startswith(start):
            raise DataError(f"{where} is compressed with {kind}; decompress it, or use gzip")
    if magic.startswith(_UTF16):
        raise DataError(f"{where} is UTF-16 text; save it as UTF-8")


def text_lines(handle: TextIO, where: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text with their numbers, from 1.

    Raises
    ------
    DataError
        If the gzip stream is truncated or damaged, or a line is not UTF-8.
    """
    number = 0
    try:
        for number, line in enumerate(handle, start=1):
            if not line.isascii() and any("\udc80" <= letter <= "\udcff" for letter in line):
                raise DataError(not_text(where, number))
            yield number, line
    except (EOFError, zlib.error, OSError) as error:
        raise _read_error(error, where, f"line {number}") from error


def text_blocks(handle: BinaryIO, where: str, size: int = BLOCK_BYTES) -> Iterator[bytes]:
    r"""Yield a text in blocks of about ``size`` bytes, with all line ends converted to ``\n``.

    Raises
    ------
    DataError
        If the gzip stream is truncated or damaged.
    """
    carried = b""  # a \r at the end of a block, which may be the first half of \r\n
    done = 0
    while True:
        try:
            block = handle.read(size)
        except (EOFError, zlib.error, OSError) as error:
            raise _read_error(error, where, f"{done} bytes") from error
        if not block:
            break
        if not done:
            while len(block) < len(_BYTE_ORDER_MARK) and (next_bytes := handle.read(size)):
                block += next_bytes
        done += len(block)
        if done == len(block):
            block = block.removeprefix(_BYTE_ORDER_MARK)
        if carried or b"\r" in block:
            block = carried + block
            carried = b"\r" if block.endswith(b"\r") else b""
            block = block.removesuffix(carried).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        yield block
    if carried:
        yield b"\n"


def not_text(where: str, line: int) -> str:
    """Return the error message for a line that is not UTF-8."""
    return f"{where}, line {line}: not UTF-8 text; save the file as UTF-8"


def _read_error(error: Exception, where: str, position: str) -> DataError:
    """Return the error to raise for one that reading raised after a position of the text."""
    if isinstance(error, EOFError):
        return DataError(f"{where}: the gzip file is truncated after {position}; download it again")
    if isinstance(error, gzip.BadGzipFile | zlib.error):
        return DataError(
            f"{where}: the gzip file is damaged after {position} ({error}); download it again"
        )
    return DataError(f"{where} cannot be read after {position}: {error}")


@contextmanager
def readable_twice(path: str | os.PathLike[str]) -> Iterator[str | os.PathLike[str]]:
    """Give a path that can be read more than once; copy standard input and pipes to a file.

    The copy lies in the folder for temporary files and is deleted at the end.

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
                shutil.copyfileobj(sys.stdin.buffer, sink, BLOCK_BYTES)
            else:
                with Path(path).open("rb") as source:
                    shutil.copyfileobj(source, sink, BLOCK_BYTES)
        yield copy
