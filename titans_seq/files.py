"""Files and folders that are written whole or not at all."""

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
from typing import TYPE_CHECKING, Any

from titans_seq.exceptions import ConfigError

if TYPE_CHECKING:
    pass

_DISCARDED: ContextVar[bool] = ContextVar("discarded", default=False)


@contextmanager
def discarding(discard: bool = True) -> Iterator[None]:
    """Let nothing that is written inside come to its place: another process writes the same."""
    before = _DISCARDED.set(discard)
    try:
        yield
    finally:
        _DISCARDED.reset(before)


@contextmanager
def write_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary name to write to; move what was written to ``path`` at the end.

    If the body fails, ``path`` stays as it was. The temporary file lies beside ``path`` and
    has the same suffix. What is no regular file (``/dev/stdout``, a pipe) is copied into.

    Raises
    ------
    FileNotFoundError
        If the folder of ``path`` does not exist.
    IsADirectoryError
        If ``path`` is a folder.
    """
    if _DISCARDED.get():
        with _nowhere() as folder:
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
        with suppress(OSError):  # the failure above says more
            temporary.unlink(missing_ok=True)


@contextmanager
def write_whole_folder(
    path: str | os.PathLike[str], *, force: bool = False, marker: str | None = None
) -> Iterator[Path]:
    """Give an empty temporary folder; move it to ``path`` once it is filled.

    Parameters
    ----------
    path
        Where the folder shall be; missing parents are made. An empty folder may stand there.
    force
        Replace a folder that holds something.
    marker
        File that a folder must hold to be replaced: ``force`` alone may not take away what
        someone else put there.

    Raises
    ------
    ConfigError
        If something stands at ``path`` that may not be replaced.
    """
    if _DISCARDED.get():
        with _nowhere() as folder:
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
def _nowhere() -> Iterator[Path]:
    """Give a folder to write to that is gone at the end."""
    with tempfile.TemporaryDirectory(prefix="titans-seq-") as folder, discarding(False):
        yield Path(folder)


def check_new_folder(
    path: str | os.PathLike[str], *, force: bool = False, marker: str | None = None
) -> None:
    """Refuse early what :func:`write_whole_folder` would refuse, before the long work.

    Raises
    ------
    ConfigError
        If something stands at ``path`` that may not be replaced.
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
    """Write plain values as JSON, whole or not at all; NaN and infinities become null."""
    with write_whole(path) as temporary:
        text = json.dumps(plain_values(value), indent=2, allow_nan=False)
        temporary.write_text(text + "\n", "utf-8")


def plain_values(value: Any) -> Any:
    """Return ``value`` as JSON can hold it: tables, lists, texts, numbers, null."""
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
    """Return a failure to write under the name that the user gave: a full disk has none."""
    strange = error.filename is not None and not str(error.filename).startswith(str(temporary))
    if error.errno is None or strange:
        return error
    return type(error)(error.errno, error.strerror, os.fspath(path))


def _flush(path: Path) -> None:
    """Have the file on the disk before its name is given to it."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
