"""A server on loopback with every fault that a downloader meets, one an address."""

from __future__ import annotations

import gzip
import http.server
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

CONTENT = b"".join(b"%d,%d\n" % (i, i * i % 97) for i in range(3000))
OTHER = CONTENT[:-5] + b"9999\n"


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers ``/fault`` with that fault, often only the first time."""

    def do_GET(self) -> None:
        fault = self.path.strip("/").partition("/")[0]
        self.server.asked[fault] += 1  # type: ignore[attr-defined]
        self.first = self.server.asked[fault] == 1  # type: ignore[attr-defined]
        self.server.ranges.append(self.headers.get("Range"))  # type: ignore[attr-defined]
        getattr(self, f"do_{fault}")()

    def log_message(self, *words: Any) -> None:
        """Say nothing."""

    def answer(self, body: bytes, status: int = 200, **headers: Any) -> None:
        length = headers.pop("length", len(body))
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_plain(self) -> None:
        self.answer(CONTENT)

    def do_redirect(self) -> None:
        self.answer(b"", 302, Location="/plain")

    def do_circle(self) -> None:
        self.answer(b"", 302, Location="/circle")

    def do_missing(self) -> None:
        self.answer(b"no", 404)

    def do_broken(self) -> None:
        self.answer(b"no", 500)

    def do_busy(self) -> None:
        self.answer(b"no", 503, Retry_After="0") if self.first else self.do_plain()

    def do_cut(self) -> None:
        """Cut in the middle, the first time."""
        if self.first:
            self.answer(CONTENT[:5000], length=len(CONTENT))
        else:
            self.do_plain()

    def do_always_cut(self) -> None:
        self.answer(CONTENT[:5000], length=len(CONTENT))

    def do_stall(self) -> None:
        self.answer(CONTENT[:5000], length=len(CONTENT))
        time.sleep(1.0)

    def do_stall_once(self) -> None:
        self.do_stall() if self.first else self.do_plain()

    def do_too_long(self) -> None:
        """Say more bytes than there are."""
        self.answer(CONTENT, length=len(CONTENT) + 100)

    def do_too_short(self) -> None:
        """Say fewer bytes than there are."""
        self.answer(CONTENT, length=len(CONTENT) - 100)

    def do_endless(self) -> None:
        """Say no length and send what never ends."""
        self.answer(CONTENT * 50, length=None)

    def do_no_length_cut(self) -> None:
        self.answer(CONTENT[:5000] if self.first else CONTENT, length=None)

    def do_wrong(self) -> None:
        self.answer(OTHER)

    def do_wrong_once(self) -> None:
        self.answer(OTHER if self.first else CONTENT)

    def do_page(self) -> None:
        """A page that says something kind instead of the file."""
        self.answer(b"<html>Please log in</html>", Content_Type="text/html")

    def do_zipped(self) -> None:
        self.answer(gzip.compress(CONTENT), Content_Encoding="gzip")

    def do_ranges(self) -> None:
        """Cut the first time; afterwards send what is asked for."""
        if self.first:
            self.answer(CONTENT[:9000], length=len(CONTENT), ETag='"one"')
            return
        begin = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
        where = f"bytes {begin}-{len(CONTENT) - 1}/{len(CONTENT)}"
        self.answer(CONTENT[begin:], 206, Content_Range=where, ETag='"one"')

    def do_changed(self) -> None:
        """Cut another file the first time; the mark says that it has changed since."""
        if self.first:
            self.answer(OTHER[::-1][:9000], length=len(CONTENT), ETag='"one"')
        elif self.headers.get("If-Range") == '"one"':
            self.answer(CONTENT, ETag='"two"')
        else:
            self.answer(b"", 416)

    def do_changed_in_silence(self) -> None:
        """Cut another file the first time, and go on with this one as if it were the same."""
        if self.first:
            self.answer(OTHER[::-1][:9000], length=len(CONTENT))
        elif self.headers.get("Range"):
            where = f"bytes 9000-{len(CONTENT) - 1}/{len(CONTENT)}"
            self.answer(CONTENT[9000:], 206, Content_Range=where)
        else:
            self.do_plain()

    def do_knows_no_ranges(self) -> None:
        self.do_cut()

    def do_another_range(self) -> None:
        """Send a range that nobody asked for."""
        if self.first:
            self.answer(CONTENT[:9000], length=len(CONTENT))
        elif self.headers.get("Range"):
            where = f"bytes 100-{len(CONTENT) - 1}/{len(CONTENT)}"
            self.answer(CONTENT[100:], 206, Content_Range=where)
        else:
            self.do_plain()

    def do_no_such_range(self) -> None:
        if self.first:
            self.answer(CONTENT[:9000], length=len(CONTENT))
        elif self.headers.get("Range"):
            self.answer(b"", 416)
        else:
            self.do_plain()

    def do_archive(self) -> None:
        self.answer(self.server.archive)  # type: ignore[attr-defined]


@contextmanager
def serving() -> Iterator[Any]:
    """Run the server on a free port of loopback."""
    server: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.asked, server.ranges, server.archive = Counter(), [], b""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        server.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
