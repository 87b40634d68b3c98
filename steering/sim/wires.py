"""Kept connections to a door, at little cost: requests are bytes made before, and of an answer its end is found."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from steering.settings import split_address

HEAD_END: Final = b"\r\n\r\n"
LENGTH: Final = b"content-length:"

Answered = Callable[[int, bytes], None]  # given the status, 0 where the connection went away, and the body


class Wire(asyncio.Protocol):
    """A connection: one request at a time, the next ones wait in line."""

    def __init__(self) -> None:
        self.line: deque[tuple[bytes, Answered]] = deque()
        self.asking: Answered | None = None
        self.got = bytearray()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin."""
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Tell who waits."""
        self.transport = None
        waiting = [answered for _, answered in self.line]
        self.line.clear()
        if self.asking:
            waiting.insert(0, self.asking)
        self.asking = None
        for answered in waiting:
            answered(0, b"")

    def ask(self, request: bytes, answered: Answered) -> None:
        """Send a request, or let it wait for those before it."""
        if self.transport is None:
            answered(0, b"")
        elif self.asking:
            self.line.append((request, answered))
        else:
            self.asking = answered
            self.transport.write(request)

    async def answer(self, request: bytes) -> tuple[int, bytes]:
        """Send a request; return status and body."""
        future: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self.ask(request, lambda status, body: future.set_result((status, body)))
        return await future

    def data_received(self, data: bytes) -> None:
        """Take a part of an answer."""
        self.got += data
        end = self.got.find(HEAD_END)
        if end < 0:
            return
        head = bytes(self.got[:end]).lower()
        at = head.find(LENGTH)
        length = int(head[at + len(LENGTH) :].partition(b"\r\n")[0]) if at >= 0 else 0
        first = end + len(HEAD_END)
        if len(self.got) < first + length:
            return
        body, status = bytes(self.got[first : first + length]), int(head[9:12])
        del self.got[: first + length]
        answered, self.asking = self.asking, None
        if self.line and self.transport:
            request, self.asking = self.line.popleft()
            self.transport.write(request)
        if answered:
            answered(status, body)


class Wires:
    """So many connections to one door, taken in turn."""

    def __init__(self) -> None:
        self.wires: list[Wire] = []
        self.turn = 0

    async def open(self, url: str, count: int) -> None:
        """Open them."""
        host, port = split_address(url.removeprefix("http://"))
        loop = asyncio.get_running_loop()
        for _ in range(count):
            _, wire = await loop.create_connection(Wire, host, port)
            self.wires.append(wire)

    def ask(self, request: bytes, answered: Answered) -> None:
        """Send a request over the next one."""
        self.turn = (self.turn + 1) % len(self.wires)
        self.wires[self.turn].ask(request, answered)

    async def ask_all(self, request: bytes) -> list[tuple[int, bytes]]:
        """Send a request over every one; return status and body of each answer."""
        return await asyncio.gather(*(wire.answer(request) for wire in self.wires))

    async def ask_one(self, request: bytes) -> tuple[int, bytes]:
        """Send a request over the next one; return status and body."""
        self.turn = (self.turn + 1) % len(self.wires)
        return await self.wires[self.turn].answer(request)

    def close(self) -> None:
        """Close them; who waits is told."""
        for wire in self.wires:
            if wire.transport:
                wire.transport.abort()
