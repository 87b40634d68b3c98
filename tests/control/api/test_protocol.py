"""Connections of control over TCP are bounded in memory and time, and slow clients do not keep operators out."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from steering.control.remote import RemoteControl
from steering.model.fleet import Fleet
from tests.support.processes import IMPATIENT, SHORT_HEAD_S, Served, publish_tiny_fleet, serving, until

MIB = 1 << 20
MOST_GROWTH = 64 * MIB  # of the peak, for 20 connections: each may have 256 KiB read and as much unsent
HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, fleet: Fleet) -> Iterator[Served]:
    state = publish_tiny_fleet(tmp_path_factory.mktemp("service"), fleet)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEERING_CONTROL_LISTEN", "127.0.0.1:0")
        with serving(state, "--workers", "1", through=IMPATIENT) as result:
            yield result


def address_of(served: Served) -> tuple[str, int]:
    host, _, port = served.lines[0].removeprefix("control on http://").partition(":")
    return host, int(port)


def peak_of(served: Served) -> int:
    """Return the most memory that control has had so far, in bytes (proc(5), VmHWM)."""
    status = Path(f"/proc/{served.pids('control')[0]}/status").read_text()
    result = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert result
    return int(result[1]) * 1024


def push(connection: socket.socket, data: bytes, most: int) -> int:
    """Send the data again and again until the other end takes no more; return how many bytes it took."""
    connection.settimeout(1)
    sent = 0
    with contextlib.suppress(OSError):
        while sent < most:
            sent += connection.send(data)
    return sent


PUSHES = [
    ("requests whose answers are not read", HEALTHZ * 2000, 20),
    ("requests without a token", b"GET /v1/fleet HTTP/1.1\r\nHost: x\r\n\r\n" * 2000, 20),
    ("one endless head", b"X-Field: " + b"x" * 1000 + b"\r\n", 4),
    ("one endless header line", b"x" * 65536, 4),
    ("one endless target", b"/a" * 32768, 4),
    ("an endless body that nobody asked for", b"x" * 65536, 4),
]
FIRST = {
    "one endless head": b"GET /healthz HTTP/1.1\r\n",
    "one endless header line": b"GET /healthz HTTP/1.1\r\nX: ",
    "one endless target": b"GET ",
    "an endless body that nobody asked for": b"POST /healthz HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n",
}


def test_no_client_without_a_token_makes_control_grow(served: Served) -> None:
    before = peak_of(served)
    for name, data, count in PUSHES:
        with contextlib.ExitStack() as closing:
            connections = [closing.enter_context(socket.create_connection(address_of(served), 5)) for _ in range(count)]
            for connection in connections:
                connection.sendall(FIRST.get(name, b""))
                push(connection, data, 32 * MIB)
        assert peak_of(served) - before < MOST_GROWTH, name
    assert httpx.get(f"http://{address_of(served)[0]}:{address_of(served)[1]}/healthz").json() == {"status": "ok"}


def test_an_endless_head_is_refused_and_its_connection_closed(served: Served) -> None:
    with socket.create_connection(address_of(served), 5) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 65536)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(65536):
                answer += part
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b"application/problem+json" in answer


def test_slow_clients_do_not_keep_an_operator_out(served: Served) -> None:
    with RemoteControl(served.settings) as remote:
        token = remote.tokens.make("ops", "", "test")["token"]
    host, port = address_of(served)
    with contextlib.ExitStack() as closing:
        for number in range(1100):  # more than control holds
            with contextlib.suppress(OSError):
                slow = closing.enter_context(socket.create_connection((host, port), 5))
                slow.sendall(b"GET /healthz HTTP/1.1\r\nX: " + b"x" * (number % 7))
        began = time.monotonic()
        answer = httpx.get(f"http://{host}:{port}/v1/state", headers={"authorization": f"Bearer {token}"}, timeout=20)
        assert answer.status_code == 200
        assert time.monotonic() - began < 10
        with RemoteControl(served.settings) as remote:
            assert remote.answers()


@pytest.mark.parametrize(
    "sent",
    [b"GET /healthz HT", HEALTHZ[:-2], b"POST /v1/reports HTTP/1.1\r\nContent-Le"],
    ids=["a line", "a head", "a head of a body"],
)
def test_a_head_that_comes_drop_by_drop_ends_its_connection(served: Served, sent: bytes) -> None:
    with socket.create_connection(address_of(served), 5) as connection:
        connection.sendall(sent)
        connection.settimeout(1)
        ended = False

        def dropped() -> bool:
            nonlocal ended
            with contextlib.suppress(TimeoutError):
                try:
                    connection.sendall(b"x")
                    ended = connection.recv(1) == b""
                except (ConnectionResetError, BrokenPipeError):
                    ended = True
            return ended

        assert until(dropped, 30) < SHORT_HEAD_S + 15
