"""Extraction of single members from zip and tar archives that are not trusted."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from titans_seq.evaluation.cards.records import DataFile, is_inside
from titans_seq.evaluation.data.checksums import verify_file
from titans_seq.exceptions import DataError
from titans_seq.files import write_whole

_BLOCK = 1 << 20
"""Bytes copied at a time."""


def extract_member(archive: Path, member: str, target: Path, file: DataFile) -> None:
    """Write one member of a zip or tar archive to ``target``, if it is the file on the card.

    Parameters
    ----------
    archive
        The archive; none of its names may lead out of the folder it is unpacked in.
    member
        Name of the member, a regular file.
    target
        Where to write it, whole or not at all.
    file
        Description on the card that it must match.

    Raises
    ------
    DataError
        If the archive is damaged or has such a name, or the member is missing or differs.
    """
    try:
        with _opened(archive, member) as content:
            target.parent.mkdir(parents=True, exist_ok=True)
            with write_whole(target) as temporary:
                with temporary.open("wb") as out:
                    _copy(content, out, file.bytes)
                verify_file(temporary, file)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, NotImplementedError) as error:
        raise DataError(f"{archive.name} is not a readable archive: {error}") from error


@contextmanager
def _opened(archive: Path, member: str) -> Iterator[IO[bytes]]:
    """Open a member for reading, after checking all names."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened_zip:
            _check_names(archive, opened_zip.namelist(), member)
            with opened_zip.open(member) as content:
                yield content
        return
    with tarfile.open(archive) as opened_tar:
        _check_names(archive, opened_tar.getnames(), member)
        if not opened_tar.getmember(member).isreg():
            raise DataError(f"{archive.name}: {member} is a link or a device, not a file")
        unpacked = opened_tar.extractfile(member)
        assert unpacked is not None
        yield unpacked


def _check_names(archive: Path, names: list[str], member: str) -> None:
    """Refuse an archive with unsafe names, or without the member."""
    unsafe = [name for name in names if not is_inside(name.removeprefix("./"))]
    if unsafe and unsafe != ["."]:
        raise DataError(f"{archive.name}: {unsafe[0]!r} leads out of the archive's folder")
    if member not in names:
        raise DataError(f"{archive.name} has no member {member}")


def _copy(content: IO[bytes], out: IO[bytes], limit: int | None) -> None:
    """Copy a member up to its expected size: a small archive can unpack to a huge file."""
    count = 0
    while block := content.read(_BLOCK):
        count += len(block)
        if limit is not None and count > limit:
            raise DataError(f"expected {limit} bytes, the archive's member has more")
        out.write(block)
