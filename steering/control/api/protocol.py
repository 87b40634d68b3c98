"""The connections of control: uvicorn's HTTP protocol, with bounds for callers over TCP."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from steering.control.api.entrance import LOCAL
from steering.control.services.events import CONNECTION, Connection

MAX_CONNECTIONS: Final = 1000  # over TCP
REQUEST_S: Final = 60.0  # for a request to arrive whole; a fleet document may have 64 MB


class ControlProtocol(HttpToolsProtocol):
    """Tells the application whether a connection came over a Unix socket.

    Connections over TCP are bounded in number, and in the time that a request may take to arrive.
    """

    is_local = False
    deadline: asyncio.TimerHandle | None = None
    connection: Connection | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin. What is put into `app_state` is in the state of each request."""
        peer = transport.get_extra_info("socket")
        self.is_local = peer is not None and peer.family == socket.AF_UNIX
        others = sum(not other.is_local for other in self.connections if isinstance(other, ControlProtocol))
        super().connection_made(transport)
        self.connection = Connection(transport.abort)
        self.app_state = {**self.app_state, LOCAL: self.is_local, CONNECTION: self.connection}
        if not self.is_local and others >= MAX_CONNECTIONS:
            transport.abort()
        self.set_deadline()

    def set_deadline(self) -> None:
        """Abort the connection unless a whole request arrives in time."""
        if not self.is_local and not self.deadline:
            self.deadline = self.loop.call_later(REQUEST_S, self.transport.abort)

    def clear_deadline(self) -> None:
        """Expect no request, or the request arrived."""
        if self.deadline:
            self.deadline.cancel()
            self.deadline = None

    def on_message_begin(self) -> None:
        """Begin a request."""
        self.set_deadline()
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """End a request; between two requests, uvicorn's keep-alive timeout applies."""
        self.clear_deadline()
        super().on_message_complete()

    def shutdown(self) -> None:
        """Finish the request in flight and close: the process is ending. Endless answers are called to end."""
        if self.connection:
            self.connection.shut_down()
        super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self.clear_deadline()
        super().connection_lost(exc)
