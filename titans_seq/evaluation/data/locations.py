"""Locations of data files: the data folder, the embedded samples, and the cache.

A file is looked for in the data folder (``TITANS_SEQ_DATA``, or an argument), among the embedded
samples, and in the cache, which ``titans-seq dataset fetch`` fills. It is compared with the digest
on its card before anything is read from it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from titans_seq.config import unknown_key_error
from titans_seq.evaluation.cards.reading import card_folder
from titans_seq.evaluation.cards.records import DataFile, DatasetCard
from titans_seq.evaluation.data.checksums import Checksums, verify_file
from titans_seq.exceptions import MissingDataError
from titans_seq.files import file_digest

DATA_VARIABLE = "TITANS_SEQ_DATA"
"""Environment variable that names the folder of data files."""

CACHE_VARIABLE = "TITANS_SEQ_CACHE"
"""Environment variable that names the folder of fetched files."""


class StoredFile(NamedTuple):
    """A data file that was compared with its card."""

    path: Path

    sha256: str
    """Digest of the file as stored."""

    bytes: int
    """Size as stored."""


def data_folder(folder: str | os.PathLike[str] | None = None) -> Path | None:
    """Return the data folder: ``folder`` if given, else that of ``TITANS_SEQ_DATA``, else None."""
    chosen = folder if folder is not None else os.environ.get(DATA_VARIABLE)
    return Path(chosen) if chosen else None


def cache_folder() -> Path:
    """Return the folder of fetched files; it need not exist."""
    cache = os.environ.get(CACHE_VARIABLE)
    if cache:
        return Path(cache)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "titans-seq"


def candidate_paths(file: DataFile, folder: Path | None = None) -> list[Path]:
    """Return the paths where a file may be, in the order of the search."""
    names = [file.path, *file.also]
    names += [f"{name}.gz" for name in names if not name.endswith(".gz")]
    folder = data_folder(folder)
    in_folder = [] if folder is None else [folder / name for name in names]
    return [*in_folder, card_folder("datasets") / file.path, cache_folder() / file.path]


def find_file(file: DataFile, folder: Path | None = None) -> Path | None:
    """Return the first candidate path that exists, unverified; None if there is none."""
    return next((path for path in candidate_paths(file, folder) if path.is_file()), None)


def data_path(card: DatasetCard, file: str, folder: Path | None = None) -> Path:
    """Return the path of one file of a data set, after comparing its digest with the card.

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
        If the file is not found.
    DataError
        If the file differs from the card.
    """
    return _verified(card, file, folder)[0]


def stored_file(card: DatasetCard, file: str, folder: Path | None = None) -> StoredFile:
    """Return the same with the file's digest, which is computed once for both purposes."""
    path, found = _verified(card, file, folder)
    if found is None:
        return hash_file(path)
    return StoredFile(path, found.stored_sha256, found.stored_bytes)


def hash_file(path: Path) -> StoredFile:
    """Return a file with its digest, without a card to compare it with."""
    return StoredFile(path, file_digest(path), path.stat().st_size)


def _verified(card: DatasetCard, file: str, folder: Path | None) -> tuple[Path, Checksums | None]:
    if file not in card.files:
        raise unknown_key_error(file, card.files, f"files of data set {card.name}")
    described = card.files[file]
    path = find_file(described, folder)
    if path is None:
        raise MissingDataError(how_to_get(card, described, folder))
    return path, verify_file(path, described)


def how_to_get(card: DatasetCard, file: DataFile, folder: Path | None = None) -> str:
    """Return instructions for getting a file that was not found."""
    missing, put = f"data set {card.name}: no file {file.path}", where_to_put(file, folder)
    fetch = f"`titans-seq dataset fetch {card.name}`"
    if file.made_by is not None:
        return f"{missing}; {fetch} makes it from its source, or {put}"
    if file.url is not None:
        return f"{missing}; {fetch} fetches it, or {put}"
    return f"{missing}; {file.obtain or f'get it from {card.url}'}; {put}"


def where_to_put(file: DataFile, folder: Path | None = None) -> str:
    """Return instructions for placing a file that the user has downloaded."""
    home = data_folder(folder)
    if home is not None:
        return f"put it at {home / file.path}"
    return f"put it at {file.path} in a folder, and set {DATA_VARIABLE} to that folder"
