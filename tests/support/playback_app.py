"""Fast path and fallback path over one snapshot, listening on real sockets of one event loop, and a client that sends bytes in parts."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import Sequence
from typing import Any

import uvicorn

from steering.playback.http.app import make_app
from steering.playback.server.connections import Connections
from steering.playback.server.follower import Follower
from steering.playback.server.protocol import http_class
from steering.settings import Settings

DATE = re.compile(rb"\r\ndate: [A-Za-z0-9, :]{29}\r\n")


class Listening:
    """A worker's server, in this process."""

    def __init__(self, follower: Follower, settings: Settings, **options: Any) -> None:
        self.connections = Connections(settings)
        if follower.snapshot:
            self.connections.serve(follower.snapshot)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = self.socket.getsockname()
        config = uvicorn.Config(
            make_app(follower, settings),
            **{
                "http": http_class(self.connections),
                "ws": "none",
                "lifespan": "off",
                "log_config": None,
                "access_log": False,
                "proxy_headers": False,
                "server_header": False,
                **options,
            },
        )
        self.server = uvicorn.Server(config)
        self.server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]

    async def start(self) -> None:
        self.server.config.load()
        self.server.lifespan = self.server.config.lifespan_class(self.server.config)
        await self.server.startup([self.socket])
        await self.server.on_tick(0)

    async def stop(self) -> None:
        await self.server.shutdown([self.socket])

    async def exchange(self, parts: Sequence[bytes], patience_s: float = 5.0) -> bytes:
        """Send the parts, each in a packet of its own, and return all that comes back until the server closes."""
        loop = asyncio.get_running_loop()
        received = bytearray()
        with socket.socket() as client:
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(client, self.address)
            with contextlib.suppress(ConnectionError):
                for part in parts:
                    await loop.sock_sendall(client, part)
                    for _ in range(4):  # the server, in this loop, reads the part
                        await asyncio.sleep(0)
                    with contextlib.suppress(BlockingIOError):
                        received += client.recv(1 << 20)
                async with asyncio.timeout(patience_s):
                    while result := await loop.sock_recv(client, 1 << 20):
                        received += result
        return bytes(received)


def undated(answer: bytes) -> bytes:
    """Return answers with the value of every date header taken out."""
    return DATE.sub(b"\r\ndate:\r\n", answer)
