"""Fetching and verification of a data set's files.

Files are downloaded, extracted or derived into the cache under temporary names, and get their own
names only after their digests were compared with the card.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from titans_seq.evaluation.cards.records import DataFile, DatasetCard
from titans_seq.evaluation.data.archives import extract_member
from titans_seq.evaluation.data.checksums import verify_file
from titans_seq.evaluation.data.derive import DerivedFile, derive
from titans_seq.evaluation.data.locations import (
    cache_folder,
    find_file,
    how_to_get,
    where_to_put,
)
from titans_seq.exceptions import DataError, MissingDataError, MissingExtraError
from titans_seq.files import write_whole

_PARTIAL_FOLDER = ".parts"
"""Folder in the cache for partial downloads and archives."""


class FileState(NamedTuple):
    """Result of looking for, or fetching, one file of a data set."""

    file: str
    """Its name on the card."""

    state: Literal["ok", "fetched", "wrong", "missing"]
    """``ok`` and ``fetched`` match the card."""

    path: Path | None
    """Where it is; None if it was not found."""

    message: str = ""
    """What is wrong, or where to put which file."""


def verify_dataset(card: DatasetCard, folder: Path | None = None) -> list[FileState]:
    """Compare every file of a data set with its card, without downloading anything."""
    states = []
    for name, file in card.files.items():
        path = find_file(file, folder)
        if path is None:
            states.append(FileState(name, "missing", None, how_to_get(card, file, folder)))
            continue
        try:
            verify_file(path, file)
        except DataError as error:
            states.append(FileState(name, "wrong", path, str(error)))
        else:
            remark = "" if file.sha256 or file.git_blob else f"no digest; {file.check}"
            states.append(FileState(name, "ok", path, remark))
    return states


def fetch_dataset(card: DatasetCard, folder: Path | None = None, **options: Any) -> list[FileState]:
    """Fetch the files of a data set that are missing, or damaged in the cache.

    Parameters
    ----------
    card
        Card of the data set.
    folder
        Data folder; that of ``TITANS_SEQ_DATA`` if left out. Nothing is written there.
    **options
        For :class:`titans_seq.evaluation.data.download.Downloader`, such as ``attempts``.

    Returns
    -------
    list of FileState
        All files; those without a source to fetch from are ``missing``.

    Raises
    ------
    MissingDataError
        If a download failed; the message says how to provide the file by hand.
    DataError
        If a download, or a file in the data folder, differs from the card.
    """
    states = []
    for known in verify_dataset(card, folder):
        file = card.files[known.file]
        target = cache_folder() / file.path
        # A damaged file in the cache is replaced, but never one of the user's.
        if known.state == "wrong" and known.path != target:
            raise DataError(known.message)
        if known.state == "ok" or (file.url is None and file.made_by is None):
            states.append(known)
            continue
        if file.made_from is not None and file.made_by is not None:
            raw = _raw_file(card, card.raw[file.made_from], folder, options)
            _derive(file, raw, DerivedFile(card.name, known.file), target)
        else:
            _download_or_explain(card, file, target, folder, options)
        states.append(FileState(known.file, "fetched", target))
    return states


def _raw_file(
    card: DatasetCard, file: DataFile, folder: Path | None, options: dict[str, Any]
) -> Path:
    """Return the path of a raw file, which is fetched into the cache if it is not found."""
    path, target = find_file(file, folder), cache_folder() / file.path
    if path is not None and path != target:
        verify_file(path, file)
        return path
    try:
        verify_file(target, file)
    except (DataError, FileNotFoundError):
        _download_or_explain(card, file, target, folder, options)
    return target


def _derive(file: DataFile, raw: Path, derived: DerivedFile, target: Path) -> None:
    """Derive a file from a raw one; write it if it matches the card."""
    assert file.made_by is not None
    content = derive(file.made_by, raw, derived)
    target.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(target) as temporary:
        temporary.write_bytes(content)
        try:
            verify_file(temporary, file)
        except DataError as error:
            raise DataError(
                f"data set {derived.dataset}, {derived.part}, derived from {raw}: {error}; "
                "nothing was kept"
            ) from error


def _download_or_explain(
    card: DatasetCard, file: DataFile, target: Path, folder: Path | None, options: dict[str, Any]
) -> None:
    """Download one file; if that fails, name the data set, the address and the alternative."""
    try:
        _download(file, target, options)
    except DataError as error:
        raise DataError(f"data set {card.name}: {file.url}: {error}; nothing was kept") from error
    except _download_error() as error:
        raise MissingDataError(
            f"data set {card.name}: downloading {file.url} failed: {error}; try again later, or "
            f"get the file elsewhere and {where_to_put(file, folder)}"
        ) from error


def _download(file: DataFile, target: Path, options: dict[str, Any]) -> None:
    """Download one file, or the archive that holds it, to its path in the cache."""
    assert file.url is not None
    if file.member is None:
        _retrieve(file.url, target, file, options)
        return
    archive = cache_folder() / _PARTIAL_FOLDER / Path(file.url).name
    # Only the member has a digest on the card.
    _retrieve(file.url, archive, DataFile(path=archive.name, check="the member's digest"), options)
    try:
        extract_member(archive, file.member, target, file)
    finally:
        archive.unlink(missing_ok=True)


def _retrieve(url: str, target: Path, file: DataFile, options: dict[str, Any]) -> None:
    """Run pooch with our downloader: to a temporary name, then to ``target``."""
    try:
        import pooch
    except ModuleNotFoundError as error:
        raise MissingExtraError("pooch", extra="all") from error
    from titans_seq.evaluation.data.download import Downloader

    pooch.get_logger().setLevel(logging.WARNING)
    # pooch would keep a file that exists and has no known hash.
    target.unlink(missing_ok=True)
    with _progress_bar(target.name) as progress:
        downloader = Downloader(
            parts=cache_folder() / _PARTIAL_FOLDER,
            check=lambda path: verify_file(path, file),
            size=file.bytes,
            progress=progress,
            **options,
        )
        pooch.retrieve(
            url,
            known_hash=None if file.sha256 is None else f"sha256:{file.sha256}",
            fname=target.name,
            path=target.parent,
            downloader=downloader,
        )


@contextmanager
def _progress_bar(name: str) -> Iterator[Any]:
    """Show a bar on standard error if that is a terminal; yields the function that updates it."""
    if not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm

    with tqdm(desc=name, unit="B", unit_scale=True, file=sys.stderr, leave=False) as bar:

        def update(count: int, total: int | None) -> None:
            bar.total = total
            bar.n = count
            bar.update(0)

        yield update


def _download_error() -> type[Exception]:
    """Return the class of failed downloads; imported late because its module needs requests."""
    from titans_seq.evaluation.data.download import DownloadError

    return DownloadError
