"""A file server on loopback with byte ranges, that can flip bytes, break off, and remember what it sent."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Sent(NamedTuple):
    """A request that was answered: its path with the query, where its range began, and how many bytes left."""

    path: str
    first: int
    bytes: int


class RangeServer(ThreadingHTTPServer):
    """Serves files from memory by path. `flip` is the offset of a byte to send wrong; `most` ends all sending."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes], address: str) -> None:
        super().__init__((address, 0), Handler)
        self.address = address
        self.files = files
        self.flip: int | None = None
        self.most: int | None = None
        self.sent: list[Sent] = []
        self.lock = threading.Lock()

    @property
    def host(self) -> str:
        """Return the host and port."""
        return f"{self.address}:{self.server_port}"

    @property
    def total(self) -> int:
        """Return how many bytes of files left."""
        return sum(sent.bytes for sent in self.sent)

    def share(self, wanted: int) -> int:
        """Return how many of so many bytes may still leave."""
        return wanted if self.most is None else max(min(wanted, self.most - self.total), 0)


class Handler(BaseHTTPRequestHandler):
    """Answers GET with the whole file or one range."""

    protocol_version = "HTTP/1.1"
    server: RangeServer

    def do_GET(self) -> None:
        server, path = self.server, self.path.partition("?")[0]
        body = server.files.get(path)
        if body is None:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first, last = (int(match[1]), int(match[2] or len(body) - 1)) if match else (0, len(body) - 1)
        part = bytearray(body[first : last + 1])
        if server.flip is not None and first <= server.flip < first + len(part):
            part[server.flip - first] ^= 1
        self.send_response(206 if match else 200)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Accept-Ranges", "bytes")
        if match:
            self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(body)}")
        self.end_headers()
        with server.lock:
            count = server.share(len(part))
            server.sent.append(Sent(self.path, first, count))
        with contextlib.suppress(ConnectionError):
            self.wfile.write(part[:count])
        self.close_connection = count < len(part)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@contextlib.contextmanager
def serving_ranges(files: dict[str, bytes], address: str = "127.0.0.1") -> Iterator[RangeServer]:
    """Run a server in a thread."""
    server = RangeServer(files, address)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
