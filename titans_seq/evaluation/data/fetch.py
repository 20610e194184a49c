"""Fetches the files of a data set into the cache, checked before they get their names."""

from __future__ import annotations

import logging
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

from titans_seq.evaluation.cards.records import DataFile, DatasetCard, is_inside
from titans_seq.evaluation.data.making import Wanted, make
from titans_seq.evaluation.data.places import (
    BLOCK,
    cache_folder,
    compare,
    find_file,
    how_to_get,
    where_to_put,
)
from titans_seq.exceptions import DataError, MissingDataError, MissingExtraError
from titans_seq.files import write_whole

PARTS = ".parts"
"""Folder in the cache where beginnings and archives lie until they are whole."""


class FileState(NamedTuple):
    """What is known of one file of a data set."""

    file: str
    """Its name on the card."""

    state: Literal["ok", "fetched", "wrong", "missing"]
    """``ok`` and ``fetched`` have stood the comparison with the card."""

    path: Path | None
    """Where it is; None if it is nowhere."""

    words: str = ""
    """What is wrong, or what must be put where."""


def verify_dataset(card: DatasetCard, folder: Path | None = None) -> list[FileState]:
    """Compare every file of a data set with its card; download nothing."""
    found = []
    for name, file in card.files.items():
        path = find_file(file, folder)
        if path is None:
            found.append(FileState(name, "missing", None, how_to_get(card, file, folder)))
            continue
        try:
            compare(path, file)
        except DataError as error:
            found.append(FileState(name, "wrong", path, str(error)))
        else:
            unsure = "" if file.sha256 or file.git_blob else f"no digest; {file.check}"
            found.append(FileState(name, "ok", path, unsure))
    return found


def fetch_dataset(card: DatasetCard, folder: Path | None = None, **options: Any) -> list[FileState]:
    """Fetch what is nowhere, or damaged in the cache, and can be fetched.

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
        All files; those that must be put in place by hand are ``missing``.

    Raises
    ------
    MissingDataError
        If a file did not come; the message says what to put where instead.
    DataError
        If wrong bytes came, or a file in the data folder is another one.
    """
    states = []
    for known in verify_dataset(card, folder):
        file = card.files[known.file]
        target = cache_folder() / file.path
        if known.state == "wrong" and known.path != target:
            raise DataError(known.words)
        if known.state == "ok" or (file.url is None and file.made_by is None):
            states.append(known)
            continue
        if file.made_from is not None and file.made_by is not None:
            raw = _fetched(card, card.raw[file.made_from], folder, options)
            _make(file, raw, Wanted(card.name, known.file), target)
        else:
            _fetch_or_say(card, file, target, folder, options)
        states.append(FileState(known.file, "fetched", target))
    return states


def _fetched(
    card: DatasetCard, file: DataFile, folder: Path | None, options: dict[str, Any]
) -> Path:
    """Return where a raw file is: where it was, or in the cache after it was fetched."""
    path, target = find_file(file, folder), cache_folder() / file.path
    if path is not None and path != target:
        compare(path, file)
        return path
    try:
        compare(target, file)
    except (DataError, FileNotFoundError):
        _fetch_or_say(card, file, target, folder, options)
    return target


def _make(file: DataFile, raw: Path, wanted: Wanted, target: Path) -> None:
    """Derive a file and give it its name once it is the one on the card."""
    assert file.made_by is not None
    content = make(file.made_by, raw, wanted)
    target.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(target) as temporary:
        temporary.write_bytes(content)
        try:
            compare(temporary, file)
        except DataError as error:
            raise DataError(
                f"data set {wanted.dataset}, {wanted.part}, made from {raw}: {error}; nothing was "
                "kept"
            ) from error


def _fetch_or_say(
    card: DatasetCard, file: DataFile, target: Path, folder: Path | None, options: dict[str, Any]
) -> None:
    """Fetch one file, or say what to do instead."""
    try:
        _fetch(file, target, options)
    except DataError as error:
        raise DataError(f"data set {card.name}: {file.url}: {error}; nothing was kept") from error
    except _fetch_error() as error:
        raise MissingDataError(
            f"data set {card.name}: {file.url} did not come: {error}; try again later, or "
            f"get it otherwise and {where_to_put(file, folder)}"
        ) from error


def _fetch(file: DataFile, target: Path, options: dict[str, Any]) -> None:
    """Fetch one file to its place in the cache."""
    assert file.url is not None
    if file.member is None:
        with _told(target.name) as progress:
            _retrieve(file.url, target, file, progress, options)
        return
    archive = cache_folder() / PARTS / Path(file.url).name
    whole = DataFile(path=archive.name, check="by what is in it")
    with _told(archive.name) as progress:
        _retrieve(file.url, archive, whole, progress, options)
    try:
        extract_member(archive, file.member, target, file)
    finally:
        archive.unlink(missing_ok=True)


def _retrieve(
    url: str, target: Path, file: DataFile, progress: Any, options: dict[str, Any]
) -> None:
    """Let pooch fetch a file with our downloader: to a temporary name, then its own."""
    pooch = _import_pooch()
    from titans_seq.evaluation.data.download import Downloader

    target.unlink(missing_ok=True)
    downloader = Downloader(
        parts=cache_folder() / PARTS,
        check=lambda path: compare(path, file),
        size=file.bytes if file.member is None else None,
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


def extract_member(archive: Path, member: str, target: Path, file: DataFile) -> None:
    """Write one member of a zip or tar archive to ``target``, if it is the file on the card.

    Parameters
    ----------
    archive
        The archive; no name in it may lead out of the folder it is unpacked in.
    member
        Name of the member, a plain file.
    target
        Where to write it, whole or not at all.
    file
        What it must be.

    Raises
    ------
    DataError
        If the archive is damaged or has such a name, lacks the member, or that is another file.
    """
    try:
        with _opened(archive, member) as content:
            target.parent.mkdir(parents=True, exist_ok=True)
            with write_whole(target) as temporary:
                with temporary.open("wb") as out:
                    _copy(content, out, file.bytes)
                compare(temporary, file)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, NotImplementedError) as error:
        raise DataError(f"{archive.name} is no archive that can be read: {error}") from error


@contextmanager
def _opened(archive: Path, member: str) -> Iterator[IO[bytes]]:
    """Open a member for reading, after a look at all names."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as pack:
            _check_names(archive, pack.namelist(), member)
            with pack.open(member) as content:
                yield content
        return
    with tarfile.open(archive) as pack:
        _check_names(archive, pack.getnames(), member)
        if not pack.getmember(member).isreg():
            raise DataError(f"{archive.name}: {member} is a link or a device, not a file")
        unpacked = pack.extractfile(member)
        assert unpacked is not None
        yield unpacked


def _check_names(archive: Path, names: list[str], member: str) -> None:
    """Refuse an archive whose names lead elsewhere, or that lacks the member."""
    strange = [name for name in names if not is_inside(name.removeprefix("./"))]
    if strange and strange != ["."]:
        raise DataError(f"{archive.name}: {strange[0]!r} leads out of the archive's folder")
    if member not in names:
        raise DataError(f"{archive.name} holds no {member}")


def _copy(content: IO[bytes], out: IO[bytes], most: int | None) -> None:
    """Copy a member, but no more than was promised: small archives can unpack to large files."""
    count = 0
    while block := content.read(BLOCK):
        count += len(block)
        if most is not None and count > most:
            raise DataError(f"the archive holds more than the {most} bytes that are right")
        out.write(block)


@contextmanager
def _told(name: str) -> Iterator[Any]:
    """Give what shows a bar on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm

    with tqdm(desc=name, unit="B", unit_scale=True, file=sys.stderr, leave=False) as bar:

        def show(count: int, total: int | None) -> None:
            bar.total = total
            bar.n = count
            bar.update(0)

        yield show


def _fetch_error() -> type[Exception]:
    """Return the class of a file that did not come; its module needs requests."""
    from titans_seq.evaluation.data.download import FetchError

    return FetchError


def _import_pooch() -> Any:
    """Return pooch, which shall not speak for itself."""
    try:
        import pooch
    except ModuleNotFoundError as error:
        raise MissingExtraError("pooch", extra="all") from error
    pooch.get_logger().setLevel(logging.WARNING)
    return pooch
