"""Robust HTTP download of one file: retries, resumption by range, and a final check.

:class:`Downloader` is a pooch downloader, called with an address and a file to write to. It
retries with growing pauses, resumes a large file that was cut (also one that an earlier process
began), copes with servers that stall, lie about sizes or ignore ranges, and delivers only a file
that passes the check.
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

_BLOCK = 1 << 16
"""Bytes received at a time."""

RETRIED_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Responses that may be transient."""

LONGEST_PAUSE = 30.0
"""Limit, in seconds, of a pause that a server asks for."""


class DownloadError(TitansSeqError):
    """A download that failed."""


class _TransientError(Exception):
    """A fault that may pass; ``pause`` is the delay that the server asks for, in seconds."""

    def __init__(self, message: str, pause: float = 0.0) -> None:
        super().__init__(message)
        self.pause = pause


class _PartUnusableError(_TransientError):
    """The partial file cannot be resumed."""


class _BodyRange(NamedTuple):
    """Which bytes of the file a response contains."""

    start: int
    total: int | None
    """Size of the whole file; None if the server does not say."""


@dataclass(kw_only=True)
class Downloader:
    """Downloads one address into one file, see the module."""

    parts: Path
    """Folder of partial downloads."""

    check: Callable[[Path], object]
    """Raises ``DataError`` on a file that is not the expected one."""

    size: int | None = None
    """Expected size in bytes; None if unknown."""

    attempts: int = 5
    """Limit of attempts; of these, two may deliver wrong bytes."""

    pause: float = 1.0
    """Seconds before the second attempt; doubled before each further one."""

    timeout: tuple[float, float] = (10.0, 30.0)
    """Seconds to wait for a connection, and for the next bytes."""

    keep_above: int = 50_000_000
    """Size in bytes from which a partial file is kept and resumed by range."""

    progress: Callable[[int, int | None], None] | None = None
    """Called with the number of bytes received so far, and the expected total."""

    def __call__(self, url: str, output_file: Any, pooch: Any = None) -> None:
        """Download ``url`` into ``output_file``, whole and checked.

        Raises
        ------
        DownloadError
            If all attempts failed, or the server refuses the file.
        DataError
            If two complete downloads did not pass the check.
        """
        part = self.parts / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.part"
        part.parent.mkdir(parents=True, exist_ok=True)
        wrong, resumed = 0, False
        for attempt in range(1, self.attempts + 1):
            try:
                resumed = self._get(url, part)
                self.check(part)
            except (_TransientError, requests.RequestException) as error:
                if isinstance(error, _PartUnusableError):
                    _remove(part)
                self._drop_if_small(part)
                if attempt == self.attempts:
                    raise DownloadError(f"{_describe(error)}, {attempt} times") from error
                requested = min(getattr(error, "pause", 0.0), LONGEST_PAUSE)
                time.sleep(max(self.pause * 2 ** (attempt - 1), requested))
            except OSError as error:  # a full disk: the error itself has no file name
                raise type(error)(error.errno, error.strerror, str(part)) from error
            except DataError:
                _remove(part)
                # A resumed file may mix two versions: only whole downloads count as wrong.
                wrong += not resumed
                if wrong == 2 or attempt == self.attempts:
                    raise
            else:
                part.replace(output_file)
                _remove(part)
                return

    def _get(self, url: str, part: Path) -> bool:
        """Download the rest of a partial file; return whether it was begun earlier."""
        have, etag = _read_part(part)
        # Ranges count bytes of the file itself, not of a compressed transfer.
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
            if etag:
                headers["If-Range"] = etag  # the whole file instead, if it has changed
        with closing(
            requests.get(url, headers=headers, stream=True, timeout=self.timeout)
        ) as response:
            body = _body_range(response, have)
            if self.size is not None and body.total not in (None, self.size):
                _remove(part)
                raise DataError(f"expected {self.size} bytes, the server sent {body.total}")
            _etag_file(part).write_text(response.headers.get("ETag", ""), "utf-8")
            count = body.start
            # A server that ignores the range sends the file from its start: overwrite the part.
            with part.open("ab" if body.start else "wb") as file:
                for block in _blocks(response):
                    file.write(block)
                    count += len(block)
                    if self.size is not None and count > self.size:
                        raise DataError(f"expected {self.size} bytes, the server sent more")
                    if self.progress is not None:
                        self.progress(count, body.total or self.size)
        if body.total is not None and count != body.total:
            raise _TransientError(f"the connection ended after {count} of {body.total} bytes")
        return body.start > 0

    def _drop_if_small(self, part: Path) -> None:
        """Remove a partial file that is too small to be worth resuming."""
        if part.exists() and part.stat().st_size < self.keep_above:
            _remove(part)


def _body_range(response: requests.Response, have: int) -> _BodyRange:
    """Return which bytes follow; servers may ignore the requested range."""
    if response.status_code == 416:
        raise _PartUnusableError("the server has no bytes beyond those already received")
    if response.status_code in RETRIED_STATUS:
        raise _TransientError(f"the server answers {_status(response)}", _retry_after(response))
    if response.status_code not in (200, 206):
        raise DownloadError(f"the server answers {_status(response)}")
    if response.status_code == 200:
        length = response.headers.get("Content-Length", "")
        # With a content encoding, the length is that of the encoded bytes.
        known = length.isdigit() and "Content-Encoding" not in response.headers
        return _BodyRange(0, int(length) if known else None)
    content_range = response.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", content_range)
    if match is None or int(match[1]) != have:
        raise _PartUnusableError("the server sends another range than requested")
    return _BodyRange(have, int(match[2]) if match[2] != "*" else None)


def _read_part(part: Path) -> tuple[int, str]:
    """Return the size of a partial file, and the ETag of the file it belongs to."""
    if not part.is_file():
        return 0, ""
    etag = _etag_file(part)
    return part.stat().st_size, etag.read_text("utf-8") if etag.is_file() else ""


def _etag_file(part: Path) -> Path:
    return part.with_suffix(".etag")


def _remove(part: Path) -> None:
    """Remove a partial file and its ETag."""
    part.unlink(missing_ok=True)
    _etag_file(part).unlink(missing_ok=True)


def _blocks(response: requests.Response) -> Iterator[bytes]:
    """Yield the bytes of a response as they arrive."""
    yield from response.iter_content(_BLOCK)


def _status(response: requests.Response) -> str:
    return f"{response.status_code} {response.reason or ''}".strip()


def _retry_after(response: requests.Response) -> float:
    """Return the pause that the server asks for, in seconds."""
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isdigit() else 0.0


def _describe(error: Exception) -> str:
    """Return a short description of a fault: those of requests span several lines."""
    if isinstance(error, _TransientError):
        return str(error)
    # Timeouts during the body arrive as ConnectionError, hence the look at the text.
    if isinstance(error, requests.Timeout) or "timed out" in str(error):
        return "the server does not respond"
    known = {
        requests.TooManyRedirects: "too many redirects",
        requests.exceptions.ChunkedEncodingError: "the connection was cut",
        requests.exceptions.SSLError: "the server's certificate is not trusted",
        requests.ConnectionError: "no connection",
    }
    for kind, description in known.items():
        if isinstance(error, kind):
            return description
    return f"{type(error).__name__}: {error}"
