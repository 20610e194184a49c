"""Where the files of a data set lie, and whether they are the ones on its card.

A file is looked for in the data folder (``TITANS_SEQ_DATA``, or named by the caller), among
the embedded samples, and in the cache, which ``titans-seq dataset fetch`` fills. Its digest is
compared with the card's before anything is read from it.
"""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from titans_seq.config import unknown_key_error
from titans_seq.evaluation.cards.reading import card_folder
from titans_seq.evaluation.cards.records import DataFile, DatasetCard
from titans_seq.exceptions import DataError, MissingDataError

DATA_VARIABLE = "TITANS_SEQ_DATA"
"""Environment variable that names the folder of data files."""

CACHE_VARIABLE = "TITANS_SEQ_CACHE"
"""Environment variable that names the folder of fetched files."""

BLOCK = 1 << 20


class Digest(NamedTuple):
    """What a file's content comes to."""

    sha256: str
    git_blob: str
    bytes: int
    lines: int


def data_folder(folder: str | os.PathLike[str] | None = None) -> Path | None:
    """Return the data folder: the one given, else that of ``TITANS_SEQ_DATA``, else None."""
    chosen = folder if folder is not None else os.environ.get(DATA_VARIABLE)
    return Path(chosen) if chosen else None


def cache_folder() -> Path:
    """Return the folder of fetched files; it need not exist."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "titans-seq"


def places(file: DataFile, folder: Path | None = None) -> list[Path]:
    """Return where a file may lie, in the order of looking."""
    names = [file.path, *file.also]
    names += [f"{name}.gz" for name in names if not name.endswith(".gz")]
    folder = data_folder(folder)
    found = [] if folder is None else [folder / name for name in names]
    return [*found, card_folder("datasets") / file.path, cache_folder() / file.path]


def find_file(file: DataFile, folder: Path | None = None) -> Path | None:
    """Return the first place where there is a file, whatever it holds; None if there is none."""
    return next((path for path in places(file, folder) if path.is_file()), None)


def data_path(card: DatasetCard, file: str, folder: Path | None = None) -> Path:
    """Return where one file of a data set lies, after comparing its digest with the card.

    Parameters
    ----------
    card
        Card of the data set.
    file
        Name of the file in the card, such as ``train``.
    folder
        Data folder; that of ``TITANS_SEQ_DATA`` if left out.

    Raises
    ------
    ConfigError
        If the card has no such file.
    MissingDataError
        If the file is nowhere.
    DataError
        If the file is not the one that the card describes.
    """
    if file not in card.files:
        raise unknown_key_error(file, card.files, f"files of data set {card.name}")
    described = card.files[file]
    path = find_file(described, folder)
    if path is None:
        raise MissingDataError(how_to_get(card, described, folder))
    compare(path, described)
    return path


def how_to_get(card: DatasetCard, file: DataFile, folder: Path | None = None) -> str:
    """Return, for a file that is nowhere, what must be put where."""
    head, place = f"data set {card.name}: no file {file.path}", where_to_put(file, folder)
    if file.made_by is not None:
        return (
            f"{head}; `titans-seq dataset fetch {card.name}` makes it from its source, or {place}"
        )
    if file.url is not None:
        return f"{head}; `titans-seq dataset fetch {card.name}` fetches it, or {place}"
    return f"{head}; {file.obtain or f'get it from {card.url}'}; {place}"


def where_to_put(file: DataFile, folder: Path | None = None) -> str:
    """Return in words where a file belongs that is brought by hand."""
    home = data_folder(folder)
    if home is not None:
        return f"put it at {home / file.path}"
    return f"put it at {file.path} in a folder, and let {DATA_VARIABLE} name that"


def compare(path: Path, file: DataFile) -> None:
    """Refuse a file that is not what its card says.

    Raises
    ------
    DataError
        If it is another file, or cannot be read to its end.
    """
    known = bool(file.sha256 or file.git_blob)
    countable = file.rows is not None and file.path.endswith(".csv")
    if not known and not countable:
        return  # a genome, say: what is read from it is checked
    found = digest(path, unpack=path.suffix == ".gz" and not file.path.endswith(".gz"))
    for name in ("sha256", "git_blob", "bytes"):
        expected = getattr(file, name)
        if expected is not None and getattr(found, name) != expected:
            raise DataError(
                f"{path}: {name} is {getattr(found, name)}, its card says {expected}; it is "
                "another file, or a damaged one: remove it and fetch it again"
            )
    if not known and found.lines - 1 != file.rows:
        raise DataError(
            f"{path}: {found.lines - 1} rows below the header, its card says {file.rows}"
        )


def digest(path: Path, *, unpack: bool = False) -> Digest:
    """Return what a file's content comes to; ``unpack`` reads it through gzip.

    Raises
    ------
    DataError
        If it cannot be unpacked.
    """
    try:
        size = sum(map(len, _blocks(path, unpack))) if unpack else path.stat().st_size
        sha256 = hashlib.sha256()
        git = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        lines, last = 0, b"\n"
        for block in _blocks(path, unpack):
            sha256.update(block)
            git.update(block)
            lines, last = lines + block.count(b"\n"), block[-1:]
    except (gzip.BadGzipFile, EOFError) as error:
        raise DataError(f"{path}: not a whole gzip file ({error}); fetch it again") from error
    return Digest(sha256.hexdigest(), git.hexdigest(), size, lines + (last != b"\n"))


def _blocks(path: Path, unpack: bool) -> Iterator[bytes]:
    """Yield a file's content in blocks."""
    with path.open("rb") as stored:
        file: IO[bytes] = gzip.GzipFile(fileobj=stored) if unpack else stored  # type: ignore[assignment]
        while block := file.read(BLOCK):
            yield block
