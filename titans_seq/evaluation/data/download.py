"""One file over HTTP, against servers that cut, stall, lie, or know no ranges.

:class:`Downloader` is a downloader in the sense of pooch: called with an address and a file to
write to. It tries several times with growing pauses, goes on by range where a large file was
cut, also when that was in another process, and hands over only what the check says is right.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import requests

from titans_seq.exceptions import DataError, TitansSeqError

BLOCK = 1 << 16
RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers that may be another one in a moment."""

LONGEST_PAUSE = 30.0
"""Seconds to wait at most because a server asks for it."""

Check = Callable[[Path], object]
"""Raises ``DataError`` on a file that is not the one."""

Progress = Callable[[int, int | None], None]
"""Is told how many bytes there are, and how many there shall be."""


class FetchError(TitansSeqError):
    """A file that did not come, and why."""


class _TryAgainError(Exception):
    """A fault that may pass; ``pause`` is what the server asks for, in seconds."""

    def __init__(self, words: str, pause: float = 0.0) -> None:
        super().__init__(words)
        self.pause = pause


class _DropError(_TryAgainError):
    """What was kept cannot be gone on with."""


class _Answer(NamedTuple):
    """What a response says about the bytes that follow."""

    begins: int
    total: int | None


@dataclass(kw_only=True)
class Downloader:
    """Fetches one address into one file; see the module."""

    parts: Path
    """Folder where the beginnings of large files wait to be gone on with."""

    check: Check
    """What a file must stand before it is handed over."""

    size: int | None = None
    """Bytes that the file must have; None if that is not known."""

    attempts: int = 5
    """Tries, the first counted; of these two may bring wrong bytes."""

    pause: float = 1.0
    """Seconds before the second try; each later one waits twice as long as the one before."""

    timeout: tuple[float, float] = (10.0, 30.0)
    """Seconds to wait for a connection, and for the next bytes."""

    keep_above: int = 50_000_000
    """Bytes from which on a beginning is kept, and gone on with by range."""

    progress: Progress | None = None
    """Is told how far it is."""

    def __call__(self, url: str, output_file: Any, pooch: Any = None) -> None:
        """Fetch ``url`` into ``output_file``, whole and checked.

        Raises
        ------
        FetchError
            If it did not come, after all tries, or the server refuses it.
        DataError
            If what came is wrong, twice, each time from its first byte.
        """
        part = self.parts / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.part"
        part.parent.mkdir(parents=True, exist_ok=True)
        wrong, resumed = 0, False
        for attempt in range(1, self.attempts + 1):
            try:
                resumed = self._get(url, part)
                self.check(part)
            except (_TryAgainError, requests.RequestException) as error:
                if isinstance(error, _DropError):
                    _remove(part)
                self._drop_if_small(part)
                if attempt == self.attempts:
                    raise FetchError(f"{_words(error)}, {attempt} times") from error
                asked = getattr(error, "pause", 0.0)
                time.sleep(max(self.pause * 2 ** (attempt - 1), min(asked, LONGEST_PAUSE)))
            except OSError as error:  # a full disk has no name of its own
                raise type(error)(error.errno, error.strerror, str(part)) from error
            except DataError:
                _remove(part)
                wrong += not resumed
                if wrong == 2 or attempt == self.attempts:
                    raise
            else:
                part.replace(output_file)
                _remove(part)
                return

    def _get(self, url: str, part: Path) -> bool:
        """Fetch what lacks of a part; tell whether it was begun earlier."""
        have, tag = _begun(part)
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
            if tag:
                headers["If-Range"] = tag
        with closing(requests.get(url, headers=headers, stream=True, timeout=self.timeout)) as got:
            answer = self._understand(got, have)
            if self.size is not None and answer.total not in (None, self.size):
                _remove(part)
                raise DataError(f"{answer.total} bytes are offered, {self.size} are right")
            _tag_file(part).write_text(got.headers.get("ETag", ""), "utf-8")
            with part.open("ab" if answer.begins else "wb") as file:
                count = answer.begins
                for block in _blocks(got):
                    file.write(block)
                    count += len(block)
                    if self.size is not None and count > self.size:
                        raise DataError(f"more than the {self.size} bytes came that are right")
                    if self.progress is not None:
                        self.progress(count, answer.total or self.size)
        if answer.total is not None and count != answer.total:
            raise _TryAgainError(f"the connection ended after {count} of {answer.total} bytes")
        return answer.begins > 0

    def _understand(self, got: requests.Response, have: int) -> _Answer:
        """Return where the bytes begin and end; a server may know no ranges."""
        if got.status_code == 416:
            raise _DropError("the server has no bytes beyond those that came")
        if got.status_code in RETRIED:
            raise _TryAgainError(f"the server answers {_status(got)}", _asked_pause(got))
        if got.status_code not in (200, 206):
            raise FetchError(f"the server answers {_status(got)}")
        length = got.headers.get("Content-Length", "")
        # Compressed on the way, the length is that of the compressed bytes.
        known = length.isdigit() and "Content-Encoding" not in got.headers
        if got.status_code == 200:
            return _Answer(0, int(length) if known else None)
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", got.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != have:
            raise _DropError("the server sends another range than was asked for")
        return _Answer(have, int(match[2]) if match[2] != "*" else None)

    def _drop_if_small(self, part: Path) -> None:
        """Forget a beginning that is fetched again sooner than it is gone on with."""
        if part.exists() and part.stat().st_size < self.keep_above:
            _remove(part)


def _begun(part: Path) -> tuple[int, str]:
    """Return how many bytes there are, and the server's mark of the file they are from."""
    if not part.is_file():
        return 0, ""
    tag = _tag_file(part)
    return part.stat().st_size, tag.read_text("utf-8") if tag.is_file() else ""


def _tag_file(part: Path) -> Path:
    return part.with_suffix(".etag")


def _remove(part: Path) -> None:
    """Remove a part and its mark."""
    part.unlink(missing_ok=True)
    _tag_file(part).unlink(missing_ok=True)


def _blocks(got: requests.Response) -> Iterator[bytes]:
    """Yield the bytes of a response as they come."""
    yield from got.iter_content(BLOCK)


def _status(got: requests.Response) -> str:
    return f"{got.status_code} {got.reason or ''}".strip()


def _asked_pause(got: requests.Response) -> float:
    """Return how long the server asks to wait, in seconds."""
    asked = got.headers.get("Retry-After", "")
    return float(asked) if asked.isdigit() else 0.0


def _words(error: Exception) -> str:
    """Return a fault in few words: those of requests run over several lines."""
    if isinstance(error, _TryAgainError):
        return str(error)
    if isinstance(error, requests.Timeout) or "timed out" in str(error):
        return "the server is silent"
    if isinstance(error, requests.TooManyRedirects):
        return "the server redirects without end"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection was cut"
    if isinstance(error, requests.exceptions.SSLError):
        return "the server's certificate is not trusted"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return f"{type(error).__name__}: {error}"
