"""The compiled door: what uvicorn takes as its HTTP protocol. The lane first, and behind it uvicorn's own.

A connection's bytes go to the lane, request by request. At the first that it does not answer, the rest of what came in
goes untouched to `ColdDoor`, uvicorn's HttpToolsProtocol on the same transport, which runs FastAPI. While that one is
busy, whatever comes in is its to queue, so answers leave in the order of their requests; once it is idle between two
requests, the lane is asked first again.

With the setting `proxy_protocol`, a connection from a trusted address begins with whom it relays.

Everything that a client may do slowly or without end is bounded: a head by size and time, an idle connection, a client
that does not read, connections and pending requests. Beyond the last two, requests get the cheapest correct answer: the
service's fallback.

The names of uvicorn's that this relies on are internal to it: `tests/playback/test_protocol.py` holds the contract.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from array import array
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from _fastpath.counters import Counters
from _fastpath.lane import MAX_HEAD, Lane, Peer
from steering.errors import PartnerError
from steering.playback.answer import problem
from steering.playback.client import UNKNOWN, Trust, pack
from steering.playback.proxy_protocol import read_header
from steering.settings import Settings
from steering.snapshot import Snapshot, key_of

# Seconds. A head takes one packet; a player's connection is idle between plays; a reader that stops has gone.
HEAD_S: Final = 10
IDLE_S: Final = 75
BODY_S: Final = 30
READ_S: Final = 30
MAX_PENDING: Final = 256  # requests in the FastAPI door: about 0.1 s of work

NOBODY: Final = ("", 0)  # a client without an address, for FastAPI: not trusted


class Connections:
    """What the connections of one worker share: the lane, the limits, and a clock of whole seconds."""

    def __init__(self, settings: Settings, counters: Counters | None = None) -> None:
        self.trust = Trust(settings.trusted)
        self.counters = counters
        logs = settings.decision_log is not None
        self.lane = Lane(
            self.trust.networks,
            settings.forwarded,
            counters,
            settings.decision_sample if logs else 0,
            array("Q", map(key_of, settings.decision_titles)) if logs and settings.decision_titles else None,
        )
        self.lane_is_open = settings.lane
        self.default_service = settings.default_service
        self.max_connections = settings.max_connections
        self.proxy_protocol = settings.proxy_protocol
        self.open: set[HotDoor] = set()
        self.second = 0
        self.tell_date()

    def serve(self, snapshot: Snapshot) -> None:
        """Answer from this snapshot from here on; any thread may call it."""
        self.lane.serve(snapshot.picker, snapshot.services, self.default_service)
        if self.counters:
            self.counters.set_gauge("generation", snapshot.current.generation)
            self.counters.set_gauge("table", snapshot.table_version)
            self.counters.set_gauge("fleet", snapshot.fleet_version)
            self.counters.set_gauge("holdings", snapshot.holdings_version or 0)
            self.counters.set_gauge("published_at", round(snapshot.current.published_at * 1000))
            self.counters.set_gauge("refused", 0)
            self.counters.set_gauge("huge_pages", snapshot.table_file.lies_in_huge_pages())

    def refuse(self) -> None:
        """Note that the newest files could not be used."""
        if self.counters:
            self.counters.set_gauge("refused", 1)

    def note(self, event: str) -> None:
        """Count what is no answer."""
        if self.counters:
            self.counters.note_event(event)

    def tell_date(self) -> None:
        """Put the date of now in the lane's answers."""
        self.lane.set_date(formatdate(usegmt=True).encode())

    async def tick(self) -> None:
        """Do what is due once a second: the date, and the connections that are too slow."""
        self.second += 1
        self.tell_date()
        if self.counters:
            self.counters.set_gauge("connections", len(self.open))
        for connection in list(self.open):
            connection.check_patience(self.second)

    def make_protocol(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> HotDoor:
        """Return the protocol of a new connection, as `uvicorn.Config(http=…)` calls it."""
        return HotDoor(self, config, server_state, app_state, _loop)


class HotDoor(asyncio.Protocol):
    """One connection."""

    def __init__(
        self,
        shared: Connections,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        self.shared = shared
        self.lane = shared.lane
        self.server_state = server_state
        self.cold: ColdDoor | None = None
        self.arguments = (config, server_state, app_state, loop)
        self.transport: asyncio.Transport
        self.peer: Peer
        self.preface: bytes | None = None  # of the PROXY protocol, as far as it came
        self.relayed: tuple[str, int] | None = None
        self.sheds = False
        self.opened_at = self.active_at = shared.second
        self.stuck_at: int | None = None

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Note who is at the other end."""
        self.transport = transport
        self.peer = self.find_peer(transport)
        if self.shared.proxy_protocol and self.peer.trusted:
            self.preface = b""
        self.shared.open.add(self)
        self.server_state.connections.add(self)  # type: ignore[arg-type]
        self.sheds = len(self.shared.open) > self.shared.max_connections
        if len(self.shared.open) > 2 * self.shared.max_connections:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Answer the requests that begin in the data, from the lane as far as it goes."""
        self.active_at = self.shared.second
        if self.preface is not None:
            data = self.read_preface(data)
        cold = self.cold
        if cold is not None and not cold.idle:
            cold.data_received(data)
            return
        if self.sheds and data:
            self.shed(data)
            return
        at, end = 0, len(data)
        if self.shared.lane_is_open:
            answer, write, peer = self.lane.answer, self.transport.write, self.peer
            while at < end:
                found = answer(data, at, peer)
                if found is None:
                    break
                write(found)
                at = self.lane.end
        if at < end:
            self.hand_over(data[at:] if at else data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.shared.open.discard(self)
        self.server_state.connections.discard(self)
        if self.cold is not None:
            self.cold.connection_lost(exc)

    def pause_writing(self) -> None:
        """Read no more requests from a client that does not read its answers."""
        self.stuck_at = self.shared.second
        self.transport.pause_reading()
        if self.cold is not None:
            self.cold.pause_writing()

    def resume_writing(self) -> None:
        """Read on."""
        self.stuck_at = None
        if self.cold is not None:
            self.cold.resume_writing()
        if self.cold is None or not self.cold.flow.read_paused:
            self.transport.resume_reading()

    def shutdown(self) -> None:
        """Close when what is in flight is answered; uvicorn calls it when it is to end."""
        if self.cold is None:
            self.transport.close()
        else:
            self.cold.shutdown()

    # ---- how

    def find_peer(self, transport: asyncio.Transport) -> Peer:
        """Return who is at the other end. A Unix socket is trusted; one without an address is gone, and nobody."""
        name = transport.get_extra_info("peername")
        if isinstance(name, tuple | list) and (packed := pack(str(name[0]))) is not None:
            return Peer(packed, packed in self.shared.trust)
        if transport.get_extra_info("socket").family == socket.AF_UNIX:
            return Peer(UNKNOWN, True)
        self.relayed = NOBODY
        return Peer(UNKNOWN, False)

    def read_preface(self, data: bytes) -> bytes:
        """Take whom a trusted proxy relays from the first bytes, and return what follows them."""
        assert self.preface is not None
        self.preface += data
        try:
            header = read_header(self.preface)
        except ValueError:
            self.transport.abort()
            return b""
        if header is None:
            return b""
        rest, self.preface = self.preface[header.size :], None
        if header.relayed:
            packed = header.source
            self.peer = Peer(UNKNOWN, False) if packed is None else Peer(packed, packed in self.shared.trust)
            self.relayed = (str(ipaddress.ip_address(packed)), 0) if packed else NOBODY
        return rest

    def hand_over(self, data: bytes) -> None:
        """Let the door behind the lane answer."""
        if len(self.server_state.tasks) >= MAX_PENDING and (self.cold is None or self.cold.idle):
            self.shed(data)
            return
        self.shared.note("handed_over")
        if self.cold is None:
            self.cold = ColdDoor(self.shared, *self.arguments)
            self.cold.take_over(self.transport, self.relayed)
        self.cold.data_received(data)

    def shed(self, data: bytes) -> None:
        """Give the cheapest correct answer, and close: the service's fallback, or where that is not asked for, 503."""
        self.shared.note("shed")
        found = self.lane.answer(data, 0, self.peer, True)
        self.transport.write(found or refusal(PartnerError("too many requests at once", status=503), "retry-after: 1"))
        self.transport.close()

    def cut_off(self) -> None:
        """End the connection of a client that is too slow."""
        self.shared.note("cut_off")
        self.transport.abort()

    def check_patience(self, second: int) -> None:
        """Close the connection if what it waits for takes too long."""
        if self.stuck_at is not None:
            if second - self.stuck_at > READ_S:
                self.cut_off()
            return
        cold = self.cold
        if self.preface is not None:
            if second - self.opened_at > HEAD_S:
                self.cut_off()
            return
        if cold is None or cold.idle:
            patience_s = IDLE_S
        elif cold.in_head:
            # From its first byte: one that comes drop by drop is not active.
            if second - cold.began_at > HEAD_S:
                self.cut_off()
            return
        elif cold.in_message:
            patience_s = BODY_S
        else:
            return  # it is ours to answer
        if second - self.active_at > patience_s:
            self.transport.close()


class ColdDoor(HttpToolsProtocol):
    """uvicorn's own protocol, which tells where in a request it is, and refuses heads that are too large."""

    def __init__(
        self,
        shared: Connections,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        super().__init__(config, server_state, app_state, loop)
        self.shared = shared
        self.in_message = False
        self.in_head = False
        self.too_large = False
        self.refusal = b""
        self.head_size = 0
        self.fed = 0
        self.began_at = 0

    @property
    def idle(self) -> bool:
        """Whether it is between two requests, with nothing to answer."""
        return not (self.in_message or self.pipeline) and (self.cycle is None or self.cycle.response_complete)

    def take_over(self, transport: asyncio.Transport, relayed: tuple[str, int] | None) -> None:
        """Use the transport of a connection that is counted already; `relayed` is the client that a proxy named."""
        self.connection_made(transport)
        self.client = relayed or self.client
        self.connections.discard(self)  # who has the connection is its `HotDoor`

    def data_received(self, data: bytes) -> None:
        """Parse. A request that asks for another protocol is answered as any other, and the next one follows it."""
        self._unset_keepalive_if_required()
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
                continue
            except httptools.HttpParserError:
                self.send_400_response("")
                return
            self.fed = self.fed + len(data) if self.in_head else 0
            if self.fed > MAX_HEAD:
                self.too_large = True
                self.send_400_response("")
            return

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 (uvicorn's wording)
        """Say what is wrong with what came in, after the answers in flight, and close."""
        self.in_message = True
        error = PartnerError("no HTTP/1.1 request that can be read", status=400)
        if self.too_large:
            error = PartnerError(f"a head of over {MAX_HEAD} bytes", status=431)
        self.refusal = refusal(error)
        if self.cycle is None or self.cycle.response_complete:
            self.refuse()

    def on_response_complete(self) -> None:
        """Go on with the next request, or where what followed could not be read, say so."""
        if self.refusal and not self.pipeline:
            self.refuse()
        else:
            super().on_response_complete()

    def refuse(self) -> None:
        """Send the refusal, and close."""
        if not self.transport.is_closing():
            self.shared.note("unreadable")
            self.transport.write(self.refusal)
            self.transport.close()

    def timeout_keep_alive_handler(self) -> None:
        """Leave idle connections to `HotDoor.check_patience`."""

    # ---- callbacks of the parser

    def on_message_begin(self) -> None:
        """A request begins."""
        self.in_message = self.in_head = True
        self.head_size = 0
        self.began_at = self.shared.second
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A part of its target."""
        self.measure(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One of its header lines."""
        self.measure(len(name) + len(value) + len(": \r\n"))
        super().on_header(name, value)

    def measure(self, size: int) -> None:
        """Count the bytes of a head; an error ends its parsing."""
        self.head_size += size
        if self.head_size > MAX_HEAD:
            self.too_large = True
            raise ValueError("too large")

    def on_headers_complete(self) -> None:
        """Its head is whole."""
        self.in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """It is whole."""
        self.in_message = False
        super().on_message_complete()


def refusal(error: PartnerError, *headers: str) -> bytes:
    """Return a whole answer that says why, and that the connection is closed."""
    body = problem(error)
    lines = [
        f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}",
        f"date: {formatdate(usegmt=True)}",
        "cache-control: no-store",
        "access-control-allow-origin: *",
        *headers,
        f"content-length: {len(body)}",
        "content-type: application/problem+json",
        "connection: close",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
