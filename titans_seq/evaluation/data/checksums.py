"""Digests of data files, and their comparison with the card of the data set."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import IO, NamedTuple, cast

from titans_seq.evaluation.cards.records import DataFile
from titans_seq.exceptions import DataError

_BLOCK = 1 << 20
"""Bytes read at a time."""


class Checksums(NamedTuple):
    """Digests and size of a file's content, and of the file as stored (it may be compressed)."""

    sha256: str
    git_blob: str | None
    bytes: int
    lines: int
    stored_sha256: str
    stored_bytes: int


def verify_file(path: Path, file: DataFile) -> Checksums | None:
    """Compare a file with its card; return its checksums, None if the card has nothing to compare.

    Raises
    ------
    DataError
        If the content differs from the card, or cannot be decompressed.
    """
    has_digest = bool(file.sha256 or file.git_blob)
    countable = file.rows is not None and file.path.endswith(".csv")
    if not has_digest and not countable:
        return None  # a genome, for example: only the sequences taken from it are checked
    # A compressed copy of a file that the card describes uncompressed is compared by its content.
    decompress = path.suffix == ".gz" and not file.path.endswith(".gz")
    found = checksums(path, decompress=decompress, git=file.git_blob is not None)
    for name in ("sha256", "git_blob", "bytes"):
        expected = getattr(file, name)
        if expected is not None and getattr(found, name) != expected:
            raise DataError(
                f"{path}: {name} is {getattr(found, name)}, but the card expects {expected}: "
                "another version, or a damaged file; remove it and fetch it again"
            )
    if not has_digest and found.lines - 1 != file.rows:
        raise DataError(
            f"{path}: {found.lines - 1} rows below the header, but the card expects {file.rows}"
        )
    return found


def checksums(path: Path, *, decompress: bool = False, git: bool = False) -> Checksums:
    """Return the checksums of a file, which is read once.

    Parameters
    ----------
    path
        The file.
    decompress
        Whether its content is what gzip decompresses it to.
    git
        Whether Git's id of the content is needed; it is None otherwise.

    Raises
    ------
    DataError
        If the file cannot be decompressed.
    """
    try:
        return _checksums(path, decompress, git)
    except (gzip.BadGzipFile, EOFError) as error:
        raise DataError(f"{path}: incomplete gzip file ({error}); fetch it again") from error


def _checksums(path: Path, decompress: bool, git: bool) -> Checksums:
    sha256 = hashlib.sha256()
    blob = _git_blob_start(path, decompress) if git else None
    size, lines, last = 0, 0, b"\n"
    with path.open("rb") as file:
        stored = _HashingReader(file)
        content = gzip.GzipFile(fileobj=cast("IO[bytes]", stored)) if decompress else file
        while block := content.read(_BLOCK):
            sha256.update(block)
            if blob is not None:
                blob.update(block)
            size += len(block)
            lines, last = lines + block.count(b"\n"), block[-1:]
        if decompress:
            while stored.read(_BLOCK):
                pass  # bytes behind the compressed stream belong to the file as stored
    return Checksums(
        sha256=sha256.hexdigest(),
        git_blob=None if blob is None else blob.hexdigest(),
        bytes=size,
        lines=lines + (last != b"\n"),
        stored_sha256=(stored.sha256 if decompress else sha256).hexdigest(),
        stored_bytes=path.stat().st_size,
    )


def _git_blob_start(path: Path, decompress: bool) -> hashlib._Hash:
    """Return the hash of a Git blob's header, which holds the size of the content."""
    size = path.stat().st_size
    if decompress:
        with gzip.open(path) as content:
            size = 0
            while block := content.read(_BLOCK):
                size += len(block)
    return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)


class _HashingReader:
    """A binary file that hashes the bytes read from it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.sha256 = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        block = self.file.read(size)
        self.sha256.update(block)
        return block
