"""Atomic writes of files and folders, JSON and digests."""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from titans_seq.exceptions import ConfigError

_DISCARDED: ContextVar[bool] = ContextVar("discarded", default=False)


@contextmanager
def discarding(discard: bool = True) -> Iterator[None]:
    """Discard every file and folder written inside: another process writes the same."""
    token = _DISCARDED.set(discard)
    try:
        yield
    finally:
        _DISCARDED.reset(token)


@contextmanager
def write_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary file name; move the file to ``path`` at the end.

    If the block fails, ``path`` is unchanged. The temporary file is in the same folder and has
    the same suffix. If ``path`` is not a regular file (``/dev/stdout``, a pipe), the content is
    copied into it.

    Raises
    ------
    FileNotFoundError
        If the folder of ``path`` does not exist.
    IsADirectoryError
        If ``path`` is a folder.
    """
    if _DISCARDED.get():
        with _discarded_folder() as folder:
            yield folder / Path(path).name
        return
    target = Path(path).resolve()
    if target.is_dir():
        raise IsADirectoryError(f"{path} is a folder, not a file")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {target.parent}")
    special = target.exists() and not target.is_file()
    folder = Path(tempfile.gettempdir()) if special else target.parent
    temporary = folder / f".{secrets.token_hex(4)}.{target.name}"
    try:
        yield temporary
        if special:
            with temporary.open("rb") as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink)
        else:
            _flush(temporary)
            temporary.replace(target)
    except OSError as error:
        raise _named(error, path, temporary) from error
    finally:
        with suppress(OSError):  # must not hide the error above
            temporary.unlink(missing_ok=True)


@contextmanager
def write_whole_folder(
    path: str | os.PathLike[str], *, force: bool = False, marker: str | None = None
) -> Iterator[Path]:
    """Yield an empty temporary folder; move it to ``path`` at the end.

    Parameters
    ----------
    path
        New or empty folder; missing parents are made.
    force
        Replace a folder that is not empty.
    marker
        File that a folder must have to be replaced, so that ``force`` does not remove a folder of
        another kind.

    Raises
    ------
    ConfigError
        If ``path`` exists and may not be replaced.
    """
    if _DISCARDED.get():
        with _discarded_folder() as folder:
            yield folder
        return
    target = Path(path).resolve()
    check_new_folder(path, force=force, marker=marker)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _flush(file)
        if target.exists():
            old = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
            target.rename(old)
            temporary.rename(target)
            shutil.rmtree(old)
        else:
            temporary.rename(target)
    except OSError as error:
        raise _named(error, path, temporary) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _discarded_folder() -> Iterator[Path]:
    """Yield a temporary folder that is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="titans-seq-") as folder, discarding(False):
        yield Path(folder)


def check_new_folder(
    path: str | os.PathLike[str], *, force: bool = False, marker: str | None = None
) -> None:
    """Check before long work that :func:`write_whole_folder` can write to ``path``.

    Raises
    ------
    ConfigError
        If ``path`` exists and may not be replaced.
    """
    target = Path(path)
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not target.is_dir():
        raise ConfigError(f"{path} is a file; name a new folder")
    if not force:
        raise ConfigError(f"{path} exists already; name a new folder, or replace it by force")
    if marker is not None and not (target / marker).is_file():
        raise ConfigError(f"{path} holds other files (no {marker}) and is not replaced")


def file_digest(path: str | os.PathLike[str]) -> str:
    """Return the sha256 of a file as hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write plain values as JSON, atomically; NaN and infinities become null."""
    with write_whole(path) as temporary:
        text = json.dumps(plain_values(value), indent=2, allow_nan=False)
        temporary.write_text(text + "\n", "utf-8")


def plain_values(value: Any) -> Any:
    """Return ``value`` as JSON types: dicts, lists, strings, numbers, None."""
    if isinstance(value, Mapping):
        return {str(key): plain_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain_values(item) for item in value]
    if hasattr(value, "tolist"):  # arrays, tensors and their scalars
        return plain_values(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value


def _named(error: OSError, path: str | os.PathLike[str], temporary: Path) -> OSError:
    """Return a write error with the user's path; a full disk has none, or the temporary one."""
    other_file = error.filename is not None and not str(error.filename).startswith(str(temporary))
    if error.errno is None or other_file:
        return error
    return type(error)(error.errno, error.strerror, os.fspath(path))


def _flush(path: Path) -> None:
    """Flush a file to the disk, so that a crash after the rename leaves no empty file."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
