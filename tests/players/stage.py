"""The stage for real players: appliances on loopback addresses, a page, a front before the service, and a browser.

    127.0.0.1   the page; the front, which the service's public URL names; the service
    127.0.0.2…  an appliance each, the fallback last

An appliance's host is the address in a form that a fleet takes for a name (`127.0.0.0x2`; browsers write it 127.0.0.2),
so that no name has to be resolved.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import queue
import socket
import socketserver
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.players.tools import modules, need, running_as_root
from tests.support.certificates import Pair

HERE = Path(__file__).parent
TYPES = {
    ".m3u8": "application/vnd.apple.mpegurl",
    ".mpd": "application/dash+xml",
    ".html": "text/html",
    ".js": "text/javascript",
}
SEGMENTS = (".m4s", ".mp4")


class Handler(http.server.BaseHTTPRequestHandler):
    """What all of these servers answer by."""

    protocol_version = "HTTP/1.1"

    def reply(self, status: int, body: bytes = b"", kind: str = "video/mp4", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"content-type": kind, "access-control-allow-origin": "*", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("access-control-allow-headers", "*")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_OPTIONS(self) -> None:
        self.reply(204)

    def do_HEAD(self) -> None:
        self.do_GET()  # type: ignore[attr-defined]

    def log_message(self, *_: Any) -> None:
        pass

    def reply_file(self, folder: Path, name: str) -> None:
        path = (folder / name).resolve()
        if folder.resolve() not in path.parents or not path.is_file():
            self.reply(404, b"not here", "text/plain")
            return
        self.reply(200, path.read_bytes(), TYPES.get(path.suffix, "video/mp4"), cache_control="no-store")


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """A server that can be killed with all its connections, and started again on its address."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], handler: type[Handler], pair: Pair | None = None) -> None:
        self.connections: set[socket.socket] = set()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if pair else None
        if self.context and pair:
            self.context.load_cert_chain(*pair)
        super().__init__(address, handler)
        self.thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self.context:
            connection = self.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        self.connections.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away is no error of a test."""

    def kill(self) -> None:
        self.shutdown()
        self.thread.join()
        self.server_close()
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class Appliance:
    """One appliance: every title is the same media. While it is `broken`, it answers 503."""

    def __init__(self, address: str, port: int, media: Path) -> None:
        self.broken = False
        appliance = self

        class Serving(Handler):
            def do_GET(self) -> None:
                if appliance.broken:
                    self.reply(503, b"broken", "text/plain")
                else:
                    self.reply_file(media, "/".join(urlsplit(self.path).path.split("/")[3:]))

        self.address, self.port, self.handler = address, port, Serving
        self.server: Server | None = None
        self.start()

    @property
    def host(self) -> str:
        """Return the address as a fleet takes it."""
        start, _, last = self.address.rpartition(".")
        return f"{start}.0x{int(last):x}"

    def start(self) -> None:
        self.server = Server((self.address, self.port), self.handler)

    def fail(self) -> None:
        """Be gone: whoever connects is refused."""
        if self.server:
            self.server.kill()
            self.server = None


class Front:
    """What stands before the service, and can be made to fail. `mode` is ok, 503 or hang, for steering requests alone."""

    def __init__(self, page: Path, pair: Pair | None = None) -> None:
        self.mode = "ok"
        self.scheme = "https" if pair else "http"
        self.listener = ("127.0.0.1", 0)
        self.hanging = threading.Event()
        front = self

        class Passing(Handler):
            def do_GET(self) -> None:
                path = urlsplit(self.path).path
                if path.startswith("/modules/"):
                    self.reply_file(modules() / "node_modules", path.removeprefix("/modules/"))
                elif not path.startswith("/v1/"):
                    self.reply_file(page, path.lstrip("/"))
                elif front.mode == "503" and path.count("/") == 4:
                    self.reply(503, b"no", "text/plain")
                else:
                    if front.mode == "hang" and path.count("/") == 4:
                        front.hanging.wait(60)
                    self.relay()

            def relay(self) -> None:
                with contextlib.closing(http.client.HTTPConnection(*front.listener, timeout=10)) as asking:
                    asking.request(self.command, self.path)
                    result = asking.getresponse()
                    status, body, kind = result.status, result.read(), result.getheader("content-type", "")
                self.reply(status, body, kind, cache_control="no-store")

        self.server = Server(("127.0.0.1", 0), Passing, pair)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server.server_address[1]}"

    def close(self) -> None:
        self.hanging.set()
        self.server.kill()


class Browser:
    """Chromium, driven by Node, and what its pages reported. It trusts a certificate with a fingerprint."""

    def __init__(self, trusted: str = "") -> None:
        command = [
            need("node"),
            str(HERE / "driver.mjs"),
            str(modules()),
            need("chromium"),
            "root" if running_as_root() else "",
            trusted,
        ]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.events: list[dict[str, Any]] = []
        self.arrived: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        threading.Thread(target=self.listen, daemon=True).start()
        self.wait(lambda: any(event["event"] == "ready" for event in self.events), 60)

    def listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.arrived.put(json.loads(line))

    def send(self, **what: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()

    def look(self, seconds: float = 0.05) -> None:
        """Take in what the pages reported until so many seconds from now."""
        until = time.monotonic() + seconds
        with contextlib.suppress(queue.Empty):
            while True:
                self.events.append(self.arrived.get(timeout=max(until - time.monotonic(), 0.001)))
                if time.monotonic() >= until:
                    return

    def wait(self, condition: Callable[[], bool], seconds: float) -> float:
        """Wait for a report; return the seconds until it came."""
        began = time.monotonic()
        while not condition():
            assert time.monotonic() - began < seconds, self.describe()
            assert self.process.poll() is None, "the browser is gone"
            self.look()
        return time.monotonic() - began

    def open(self, players: dict[str, str]) -> None:
        """Begin anew with a page for each player."""
        self.events.clear()
        for name, url in players.items():
            self.send(open=name, url=url)

    def close_pages(self) -> None:
        self.send(close=True)
        self.wait(lambda: any(event["event"] == "closed" for event in self.events), 30)

    def quit(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()

    # ---- what the pages reported

    def of(self, player: str, event: str) -> list[dict[str, Any]]:
        return [result for result in self.events if result["event"] == event and result.get("player") == player]

    def media(self, player: str) -> list[str]:
        """Return the hosts that segments came from, in order; far segments that Shaka only probes are among them."""
        return [
            result["host"]
            for result in self.of(player, "response")
            if result["url"].endswith(SEGMENTS) and result["status"] == 200
        ]

    def tried(self, player: str) -> list[tuple[float, str]]:
        """Return when a player asked for a segment, and which host, in order, also where it got none."""
        results = (*self.of(player, "response"), *self.of(player, "failed"))
        return sorted((result["asked"], result["host"]) for result in results if result["url"].endswith(SEGMENTS))

    def polls(self, player: str, since: float) -> list[float]:
        """Return when a player asked for a steering manifest after a time, and was answered."""
        return [result["asked"] for result in self.of(player, "steering") if result["asked"] > since]

    def state(self, player: str) -> dict[str, Any]:
        """Return how a player was doing when it was looked at last."""
        return next(
            (result for result in reversed(self.events) if result["event"] == "state" and result["player"] == player),
            {"time": 0.0, "began": 0, "errors": [], "longest": 0.0},
        )

    def describe(self) -> str:
        """Return every report, to be shown with a failure."""
        players = dict.fromkeys(event["player"] for event in self.events if "player" in event)
        lines = ["it did not happen"]
        for name in players:
            steering = [f"{result['status']} {result.get('body', '')[-70:]}" for result in self.of(name, "steering")][
                -4:
            ]
            failed = [result["url"] for result in self.of(name, "failed")][-3:]
            lines.append(
                f"{name}: {self.state(name)} media {self.media(name)[-12:]} steering {steering} failed {failed}"
            )
            lines += [result["what"] for result in self.of(name, "pageerror")]
        return "\n".join(lines)


def free_port(addresses: list[str]) -> int:
    """Return a port that nobody has on any of these addresses."""
    for _ in range(50):
        with contextlib.ExitStack() as stack:
            try:
                first = stack.enter_context(socket.socket())
                first.bind((addresses[0], 0))
                port: int = first.getsockname()[1]
                for address in addresses[1:]:
                    stack.enter_context(socket.socket()).bind((address, port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free everywhere")


@contextlib.contextmanager
def appliances(addresses: list[str], media: Path) -> Iterator[dict[str, Appliance]]:
    """Give an appliance on each address, all on one port."""
    port = free_port(addresses)
    result = {address: Appliance(address, port, media) for address in addresses}
    try:
        yield result
    finally:
        for appliance in result.values():
            appliance.fail()
