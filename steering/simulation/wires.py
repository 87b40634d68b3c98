"""Cheap persistent HTTP connections: requests are prepared bytes, and of an answer only its end is parsed."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from steering.settings import split_address

HEAD_END: Final = b"\r\n\r\n"
IDLE_S: Final = 1.0
LENGTH: Final = b"content-length:"

Answered = Callable[[int, bytes], None]  # called with the status (0 if the connection was lost) and the body


class Wire(asyncio.Protocol):
    """A connection: one request at a time, the others are queued.

    The server may close an idle connection; it is opened again, and a request sent at that moment is sent again.
    """

    def __init__(self, host: str, port: int) -> None:
        self.address = host, port
        self.queue: deque[tuple[bytes, Answered]] = deque()
        self.asking: tuple[bytes, Answered] | None = None
        self.got = bytearray()
        self.used_at = 0.0
        self.was_idle = False
        self.transport: asyncio.Transport | None = None
        self.opening: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect, and send the first queued request; without a listener all queued requests fail."""
        try:
            await asyncio.get_running_loop().create_connection(lambda: self, *self.address)
            self.send_next()
        except OSError:
            self.connection_lost(None)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Send a request that crossed the close again; fail all others."""
        self.transport = None
        if self.asking:
            self.queue.appendleft(self.asking)
        crossed = self.asking is not None and self.was_idle and not self.got
        self.asking, self.was_idle = None, False
        self.got.clear()
        if crossed:
            self.opening = asyncio.ensure_future(self.open())
            return
        waiting = [answered for _, answered in self.queue]
        self.queue.clear()
        for answered in waiting:
            answered(0, b"")

    def ask(self, request: bytes, answered: Answered) -> None:
        """Send a request, or queue it."""
        self.queue.append((request, answered))
        if self.transport is None:
            if self.opening is None or self.opening.done():
                self.opening = asyncio.ensure_future(self.open())
        elif self.asking is None:
            self.send_next()

    def send_next(self) -> None:
        """Send the first queued request."""
        if self.queue and self.transport:
            self.asking = self.queue.popleft()
            now = asyncio.get_running_loop().time()
            self.was_idle, self.used_at = now - self.used_at > IDLE_S, now
            self.transport.write(self.asking[0])

    async def answer(self, request: bytes) -> tuple[int, bytes]:
        """Send a request; return status and body."""
        future: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self.ask(request, lambda status, body: future.set_result((status, body)))
        return await future

    def data_received(self, data: bytes) -> None:
        self.got += data
        end = self.got.find(HEAD_END)
        if end < 0:
            return
        head = bytes(self.got[:end]).lower()
        offset = head.find(LENGTH)
        length = int(head[offset + len(LENGTH) :].partition(b"\r\n")[0]) if offset >= 0 else 0
        first = end + len(HEAD_END)
        if len(self.got) < first + length:
            return
        body, status = bytes(self.got[first : first + length]), int(head[9:12])
        del self.got[: first + length]
        asked, self.asking = self.asking, None
        self.send_next()
        if asked:
            asked[1](status, body)


class Wires:
    """Connections to one listener, used in turn."""

    def __init__(self) -> None:
        self.wires: list[Wire] = []
        self.turn = 0

    async def open(self, url: str, count: int) -> None:
        """Open `count` connections."""
        host, port = split_address(url.removeprefix("http://"))
        self.wires = [Wire(host, port) for _ in range(count)]
        await asyncio.gather(*(wire.open() for wire in self.wires))

    def next(self) -> Wire:
        self.turn = (self.turn + 1) % len(self.wires)
        return self.wires[self.turn]

    def ask(self, request: bytes, answered: Answered) -> None:
        """Send a request over the next connection."""
        self.next().ask(request, answered)

    async def ask_all(self, request: bytes) -> list[tuple[int, bytes]]:
        """Send a request over every connection; return status and body of each answer."""
        return await asyncio.gather(*(wire.answer(request) for wire in self.wires))

    async def ask_one(self, request: bytes) -> tuple[int, bytes]:
        """Send a request over the next connection; return status and body."""
        return await self.next().answer(request)

    def waiting(self) -> int:
        """Return how many requests are queued."""
        return sum(len(wire.queue) for wire in self.wires)

    def close(self) -> None:
        """Close all connections; queued requests fail."""
        for wire in self.wires:
            if wire.transport:
                wire.transport.abort()
