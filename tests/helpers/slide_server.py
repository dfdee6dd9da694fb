"""A web server on this machine that has files, and the faults that networks have; and one that answers as S3 does."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

_LIST = '<?xml version="1.0"?><ListBucketResult><Name>b</Name><IsTruncated>false</IsTruncated>{}</ListBucketResult>'
_ENTRY = "<Contents><Key>{}</Key><Size>{}</Size><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"


@dataclass
class Served:
    """What a server has, how it behaves, and what it was asked.

    Attributes
    ----------
    files
        By their paths, without the first slash; a folder's are added as they are on the disk.
    delay_s
        Pause before every answer.
    failing
        How many answers from now on are ``status``.
    cut
        How many answers from now on break off in the middle.
    ranges
        Whether parts of files are answered.
    lost
        Paths that are answered as if they were not there.
    asked
        (method, path, range) of every request, in order.
    sent
        Bytes that were sent.
    """

    files: dict[str, bytes | Path] = field(default_factory=dict)
    delay_s: float = 0.0
    failing: int = 0
    status: int = 500
    cut: int = 0
    ranges: bool = True
    lost: set[str] = field(default_factory=set)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    sent: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""

    def add_folder(self, folder: Path, name: str) -> None:
        for path in folder.rglob("*"):
            if path.is_file():
                self.files[f"{name}/{path.relative_to(folder).as_posix()}"] = path

    def size(self, path: str) -> int | None:
        """Return the length of a file; ``None`` where there is none."""
        found = None if path in self.lost else self.files.get(path)
        if found is None:
            return None
        return found.stat().st_size if isinstance(found, Path) else len(found)

    def data(self, path: str, start: int, stop: int) -> bytes:
        found = self.files[path]
        if isinstance(found, bytes):
            return found[start:stop]
        with found.open("rb") as file:
            file.seek(start)
            return file.read(stop - start)

    def takes(self, name: str) -> bool:
        """Return whether one of the faults that are left to be made is made now."""
        with self.lock:
            left = getattr(self, name)
            setattr(self, name, max(0, left - 1))
        return left > 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: Served

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        served, asked = self.served, urlsplit(self.path)
        path, wanted = unquote(asked.path).lstrip("/"), self.headers.get("Range", "")
        with served.lock:
            served.asked.append((self.command, path, wanted))
        time.sleep(served.delay_s)
        if served.takes("failing"):
            self._send(served.status, b"", with_body=with_body)
            return
        query = parse_qs(asked.query)
        if "list-type" in query:
            self._list(path.rstrip("/"), query)
            return
        size = served.size(path)
        if size is None:
            self._send(404, b"<Error><Code>NoSuchKey</Code></Error>", with_body=with_body)
        elif wanted and served.ranges:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start = int(first) if first else size - int(last)
            if start >= size:
                self._send(416, b"", with_body=with_body)
                return
            stop = min(size, int(last) + 1) if first and last else size
            about = {"Content-Range": f"bytes {start}-{stop - 1}/{size}"}
            self._send(206, served.data(path, start, stop), with_body=with_body, about=about)
        else:
            self._send(200, served.data(path, 0, size), with_body=with_body)

    def _list(self, bucket: str, query: Mapping[str, list[str]]) -> None:
        prefix = f"{bucket}/{query.get('prefix', [''])[0]}"
        found = sorted(name for name in self.served.files if name.startswith(prefix))
        entries = (_ENTRY.format(escape(name.removeprefix(f"{bucket}/")), 1) for name in found)
        self._send(200, _LIST.format("".join(entries)).encode(), with_body=True)

    def _send(self, status: int, data: bytes, *, with_body: bool, about: Mapping[str, str] | None = None) -> None:
        cut = with_body and bool(data) and self.served.takes("cut")
        self.send_response(status)
        headers = {"Content-Length": str(len(data)), "ETag": '"x"', "Last-Modified": "Mon, 01 Jan 2026 00:00:00 GMT"}
        for name, value in (headers | dict(about or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            part = data[: len(data) // 2] if cut else data
            self.wfile.write(part)
            with self.served.lock:
                self.served.sent += len(part)
        if cut:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass

    def handle(self) -> None:
        try:
            super().handle()
        except (ConnectionResetError, BrokenPipeError):
            self.close_connection = True


@contextmanager
def serving() -> Iterator[Served]:
    """Serve files on a free port of 127.0.0.1 while the block runs."""
    served = Served()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"served": served}))
    server.daemon_threads = True
    server.block_on_close = False
    served.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
