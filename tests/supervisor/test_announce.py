"""The check of a listener that has just started."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from steering.playback.server.listeners import bound
from steering.playback.server.proxy_protocol import LOCAL
from steering.settings import read_settings
from steering.supervisor.announce import check


@pytest.mark.parametrize(
    ("listen", "trusted", "start"),
    [
        ("127.0.0.1:0", "127.0.0.0/8", LOCAL),
        ("127.0.0.1:0", "10.0.0.0/8", b""),
        ("[::1]:0", "::1/128", LOCAL),
        ("unix", "10.0.0.0/8", LOCAL),
    ],
)
def test_the_check_of_a_listener_begins_as_connections_of_trusted_addresses_do(
    listen: str, trusted: str, start: bytes, tmp_path: Path
) -> None:
    settings = read_settings(trusted=trusted, proxy_protocol=True)
    received = b""

    def answer(listening: socket.socket) -> None:
        nonlocal received
        connection, _ = listening.accept()
        with connection:
            while b"\r\n\r\n" not in received[len(LOCAL) :]:
                received += connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with bound([f"unix:{tmp_path}/playback.sock" if listen == "unix" else listen], 1) as (listener,):
        listener.sockets[0].setblocking(True)
        answering = threading.Thread(target=answer, args=listener.sockets, daemon=True)
        answering.start()
        check(listener, settings)
        answering.join()
    assert received.startswith(start + b"GET /healthz HTTP/1.1\r\n")
