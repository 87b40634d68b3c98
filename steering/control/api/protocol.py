"""The connections of control: the bounded HTTP protocol of playback's fallback path, without a fast path.

Over TCP, connections are bounded in number, and each in the time that its client may take. Where there are too many, a
new connection takes the place of the one that has been idle longest among those without a token, then among those of
appliances and partners: slow clients do not keep operators out. `control.sock` has no limit: only ops can open it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from typing import Any, Final

from steering.control.api.entrance import CERTIFICATE, LOCAL
from steering.control.records.documents import ID
from steering.control.services.events import CONNECTION, Connection
from steering.uvicorn_adapter import FallbackPath, Position, UvicornServer, protocol_class

MAX_CONNECTIONS: Final = 1000  # over TCP
CHECK_S: Final = 1.0
# How many seconds a client may take: for a head, for a body (a fleet document has up to 64 MB), to read what was sent,
# and between two requests. 19,000 appliances report every 10 s, and must not keep their connections.
HEAD_S: Final = 10
BODY_S: Final = 60
READ_S: Final = 30
IDLE_S: Final = 5
PRECEDENCE: Final = {"": 0, "appliance": 1, "partner": 1, "ops": 2}


@dataclasses.dataclass(frozen=True, slots=True)
class LoopClock:
    """The event loop's clock, in whole seconds."""

    loop: asyncio.AbstractEventLoop

    @property
    def second(self) -> int:
        """The present second."""
        return int(self.loop.time())


def appliance_of(certificate: dict[str, Any] | None) -> str:
    """Return the common name in a client's certificate where it can be the id of an appliance, else nothing."""
    subject = (certificate or {}).get("subject", ())
    names = [value for row in subject for field, value in row if field == "commonName"]
    return names[0] if len(names) == 1 and ID.fullmatch(names[0]) else ""


class ControlConnection(asyncio.Protocol):
    """One connection. It tells the application whether it came over `control.sock`."""

    def __init__(self, server: UvicornServer) -> None:
        self.server = server
        self.loop = asyncio.get_running_loop()
        self.clock = LoopClock(self.loop)
        self.active_at = self.clock.second
        self.stuck_since: int | None = None  # the client does not read
        self.transport: asyncio.Transport
        self.fallback: FallbackPath
        self.seen: Connection
        self.timer: asyncio.TimerHandle
        self.is_local = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin. What is put into `app_state` is in the state of each request."""
        self.transport = transport
        self.is_local = transport.get_extra_info("socket").family == socket.AF_UNIX
        self.seen = Connection(transport.abort)
        name = appliance_of(transport.get_extra_info("peercert"))
        about = {LOCAL: self.is_local, CERTIFICATE: name, CONNECTION: self.seen}
        self.server.app_state = {**self.server.app_state, **about}
        self.fallback = self.server.open_fallback(self, transport, None)
        if not self.is_local:
            self.make_room()
        self.server.add(self)
        self.timer = self.loop.call_later(CHECK_S, self.check_time)

    def make_room(self) -> None:
        """Abort one connection where there are too many: this one if all others are of operators."""
        others = [other for other in self.server.state.connections if isinstance(other, ControlConnection)]
        remote = [other for other in others if not other.is_local]
        if len(remote) >= MAX_CONNECTIONS:
            first = min(remote, key=lambda other: (PRECEDENCE[other.seen.role], other.active_at))
            (self if first.seen.role == "ops" else first).transport.abort()

    def check_time(self) -> None:
        """End the connection if its client takes too long, and look again in a second."""
        if limit := self.limit():
            since, limit_s = limit
            if self.clock.second - since > limit_s:
                self.transport.abort()
                return
        self.timer = self.loop.call_later(CHECK_S, self.check_time)

    def limit(self) -> tuple[int, int] | None:
        """Return since when the client is expected to act, and how many seconds it may take; None if it is not."""
        if self.stuck_since is not None:
            return self.stuck_since, READ_S
        if self.fallback.unparsed:
            return None  # requests wait for the answer to the one before them
        if self.fallback.position is Position.HEAD:
            return self.fallback.began_at, HEAD_S
        if self.fallback.position is Position.BODY:
            return self.fallback.began_at, BODY_S
        return (self.active_at, IDLE_S) if self.fallback.idle and not self.is_local else None

    def data_received(self, data: bytes) -> None:
        """Parse received bytes."""
        self.active_at = self.clock.second
        self.fallback.data_received(data)

    def pause_writing(self) -> None:
        """Read no more requests from a client that does not read its answers."""
        self.stuck_since = self.clock.second
        self.fallback.pause_writing()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Read on."""
        self.stuck_since = None
        self.fallback.resume_writing()
        if self.fallback.reads:
            self.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.timer.cancel()
        self.server.discard(self)
        self.fallback.connection_lost(exc)

    def shutdown(self) -> None:
        """Close once the request in flight is answered; endless answers end. uvicorn calls this when it stops."""
        self.seen.shut_down()
        self.fallback.shutdown()

    # ---- for the fallback path

    def end_with(self, answer: bytes, event: str) -> None:  # noqa: ARG002 (control counts no events)
        """Send a last answer, and close."""
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()

    def fallback_moved_on(self) -> None:
        """Count idle time from now on."""
        self.active_at = self.clock.second


ControlProtocol = protocol_class(ControlConnection)  # as `uvicorn.Config(http=…)` takes it
