"""The compiled door: what uvicorn takes as its HTTP protocol. The fast_path first, and behind it uvicorn's own.

A connection's bytes go to the fast_path, request by request. At the first that it does not answer, the rest of what came in
goes untouched to `ColdDoor`, uvicorn's HttpToolsProtocol on the same transport, which runs FastAPI. While that one is
busy, whatever comes in is its to queue, so answers leave in the order of their requests; once it is idle between two
requests, the fast_path is asked first again.

With the setting `proxy_protocol`, a connection from a trusted address begins with whom it relays.

Everything that a client may do slowly or without end is bounded: a head by size and time, a body by time, an idle
connection, requests that wait behind another, a client that does not read, connections and pending requests. Beyond the
last two, requests get the cheapest correct answer: the service's fallback.

The names of uvicorn's that this relies on are internal to it: `tests/playback/test_protocol.py` holds the contract.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from array import array
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from _fastpath.client import UNKNOWN, Trust, pack
from _fastpath.connection import Connection
from _fastpath.counters import Counters
from _fastpath.fast_path import MAX_HEAD, FastPath, Peer
from _fastpath.hashing import key_of
from steering.decision.snapshot import Snapshot
from steering.errors import RequestError
from steering.playback.answers.encoding import encode
from steering.playback.answers.players import compiled
from steering.playback.answers.problem import problem
from steering.playback.answers.steering_manifests import MEDIA_TYPE, static_body
from steering.playback.http.playback_body import MAX_BODY
from steering.playback.server.proxy_protocol import read_header
from steering.settings import Settings

# Seconds. A head takes one packet; a player's connection is idle between plays; a reader that stops has gone.
HEAD_S: Final = 10
IDLE_S: Final = 75
BODY_S: Final = 30
READ_S: Final = 30
MAX_PENDING: Final = 256  # requests in the FastAPI door: about 0.1 s of work
SLICE: Final = 2048  # bytes parsed at a time: a request that waits parsed takes thirty times its bytes

FRAMING: Final = (b"content-length", b"transfer-encoding")
STEER_LINE: Final = re.compile(rb"(GET|HEAD) (/v1/steer\?[!-~]+) HTTP/1\.[01]\r\n")
PLAYER_LINE: Final = re.compile(
    rb"(GET|HEAD) /v1/(?:hls|dash)/([!-.0->@-~]*)/[!-.0->@-~]*(?:\?[!-~]*)? HTTP/1\.[01]\r\n"
)
PLAYBACK_LINE: Final = b"POST /v1/playback HTTP/1.1\r\n"
STRANGER: Final = Peer(UNKNOWN, False)
NOBODY: Final = ("", 0)  # a client without an address, for FastAPI: not trusted


class Connections:
    """What the connections of one worker share: the limits, and the fast_path, with a clock of whole seconds."""

    def __init__(self, settings: Settings, counters: Counters | None = None) -> None:
        self.trust = Trust(settings.trusted)
        self.counters = counters
        logs = settings.decision_log is not None
        self.fast_path = FastPath(
            self.trust,
            settings.forwarded,
            counters,
            settings.decision_sample if logs else 0,
            array("Q", map(key_of, settings.decision_titles)) if logs and settings.decision_titles else None,
            settings.cmcd_sample,
        )
        self.fast_path_is_open = settings.fast_path
        self.steer_gain = settings.steer_gain
        self.default_service = settings.default_service
        self.max_connections = settings.max_connections
        self.proxy_protocol = settings.proxy_protocol
        self.snapshot: Snapshot | None = None
        self.open: set[HotDoor] = set()
        self.tell_date()

    def serve(self, snapshot: Snapshot) -> None:
        """Answer from this snapshot from here on; any thread may call it."""
        self.snapshot = snapshot
        manifests = compiled(snapshot, self.steer_gain)
        self.fast_path.serve(snapshot.picker, snapshot.services, self.default_service, manifests)
        if self.counters:
            self.counters.set_gauge("generation", snapshot.current.generation)
            self.counters.set_gauge("table", snapshot.table_version)
            self.counters.set_gauge("fleet", snapshot.fleet_version)
            self.counters.set_gauge("holdings", snapshot.holdings_version or 0)
            self.counters.set_gauge("published_at", round(snapshot.current.published_at * 1000))
            self.counters.set_gauge("refused", 0)
            self.counters.set_gauge("huge_pages", snapshot.table_file.lies_in_huge_pages())

    def static_steering(self, service: bytes, is_head: bool) -> bytes:
        """Return a whole answer for a player whom there is no time for: players give up steering over an error."""
        rules = self.snapshot.rules if self.snapshot else {}
        body = static_body(rules.get(unquote(service.decode("ascii"))) or rules.get(self.default_service))
        found = closing_answer(HTTPStatus.OK, MEDIA_TYPE, body, "access-control-expose-headers: Retry-After")
        return found.removesuffix(body) if is_head else found

    def refuse(self) -> None:
        """Note that the newest files could not be used."""
        if self.counters:
            self.counters.set_gauge("refused", 1)

    def note(self, event: str) -> None:
        """Count what is no answer."""
        if self.counters:
            self.counters.note_event(event)

    def tell_date(self) -> None:
        """Put the date of now in the fast_path's answers."""
        self.fast_path.set_date(formatdate(usegmt=True).encode())

    async def tick(self) -> None:
        """Do what is due once a second: the date, and the connections that are too slow."""
        self.fast_path.second += 1
        self.tell_date()
        if self.counters:
            self.counters.set_gauge("connections", len(self.open))
        for connection in list(self.open):
            connection.check_patience(self.fast_path.second)

    def make_protocol(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> HotDoor:
        """Return the protocol of a new connection, as `uvicorn.Config(http=…)` calls it."""
        return HotDoor(self, config, server_state, app_state, _loop)


class HotDoor(Connection, asyncio.Protocol):
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
        self.fast_path = shared.fast_path
        self.server_state = server_state
        self.cold: ColdDoor | None = None
        self.arguments = (config, server_state, app_state, loop)
        self.transport: asyncio.Transport
        self.preface: bytes | None = None  # of the PROXY protocol, as far as it came
        self.relayed: tuple[str, int] | None = None
        self.sheds = False
        self.opened_at = self.active_at = self.fast_path.second
        self.stuck_at: int | None = None
        self.closing_at: int | None = None
        self.held = b""  # requests of a client that does not read its answers
        self.ended = False  # by the client, which may still read
        self.part = bytearray()  # of a playback request, which is due to have so many bytes since then
        self.due = self.part_at = 0

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Note who is at the other end."""
        self.transport = transport
        self.fd = transport.get_extra_info("socket").fileno()
        self.peer = self.find_peer(transport)
        if self.shared.proxy_protocol and self.peer.trusted:
            self.preface = b""
        self.shared.open.add(self)
        self.server_state.connections.add(self)  # type: ignore[arg-type]
        self.sheds = len(self.shared.open) > self.shared.max_connections
        if len(self.shared.open) > 2 * self.shared.max_connections:
            transport.abort()
        self.plain = self.is_plain()

    def receive(self, data: bytes) -> None:
        """Take what comes in while something is out of the ordinary."""
        if self.preface is not None:
            data = self.read_preface(data)
        if self.held:
            data, self.held = self.held + data, b""
        if self.due:
            self.part += data
            if len(self.part) < self.due:
                return
            data = self.take_part()
        cold = self.cold
        if cold is not None and not cold.idle:
            cold.data_received(data)
            return
        if self.sheds and data:
            self.shed(data)
            return
        self.plain = self.is_plain()
        self.go_on(data)

    def go_on(self, data: bytes, asked: bool = False) -> None:
        """Answer the requests that begin in the data, from the fast_path as far as it goes; it may be asked for the first.

        Where a client does not read, they are kept.
        """
        at, end = 0, len(data)
        while at < end and self.shared.fast_path_is_open:
            if self.stuck_at is not None:
                self.held = data[at:]
                return
            found = None if asked else self.fast_path.answer(data, at, self.peer)
            asked = False
            if found is None and data.startswith(PLAYBACK_LINE, at):
                found = self.answer_playback(data, at)
                if self.due:
                    return
            if found is None:
                break
            self.send(found)
            at = self.fast_path.end
        if at < end:
            self.hand_over(data[at:] if at else data)

    def is_plain(self) -> bool:
        """Tell whether the fast_path may answer, and send at once: nothing waits, here or in the transport."""
        return (
            self.shared.fast_path_is_open
            and not (self.sheds or self.held or self.due)
            and self.cold is None
            and self.preface is None
            and self.stuck_at is None
            and not self.transport.is_closing()
            and self.transport.get_write_buffer_size() == 0
        )

    def eof_received(self) -> bool:
        """Let a client that says no more have the answers that it waits for; True keeps the connection for them."""
        self.ended = True
        if self.due:
            self.hand_over(self.take_part())
        waits = self.cold is not None and self.cold.end()
        return waits or bool(self.held)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.plain = False
        self.shared.open.discard(self)
        self.server_state.connections.discard(self)
        if self.cold is not None:
            self.cold.connection_lost(exc)

    def pause_writing(self) -> None:
        """Read no more requests from a client that does not read its answers."""
        self.plain = False
        self.stuck_at = self.fast_path.second
        self.transport.pause_reading()
        if self.cold is not None:
            self.cold.pause_writing()

    def resume_writing(self) -> None:
        """Read on."""
        self.stuck_at = None
        if self.cold is not None:
            self.cold.resume_writing()
        if not self.ended and (self.cold is None or not self.cold.flow.read_paused):
            self.transport.resume_reading()
        if self.held:
            self.receive(b"")
        if self.ended and not self.eof_received():
            self.transport.close()

    def shutdown(self) -> None:
        """Close when what is in flight is answered; uvicorn calls it when it is to end."""
        if self.due:
            self.hand_over(self.take_part())
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

    def answer_playback(self, data: bytes, at: int) -> bytes | None:
        """Return the answer to the playback request at a place; None: the other door's, or its body is due."""
        found = self.fast_path.read_playback(data, at, self.peer)
        if found is None or self.fast_path.end - found[0] > MAX_BODY:
            return None
        start, accepts = found
        if self.fast_path.end > len(data):
            self.part, self.due, self.part_at = bytearray(data[at:]), self.fast_path.end - at, self.fast_path.second
            self.plain = False
            return None
        answer = self.fast_path.answer_playback(data, start)
        if answer is None:
            return None
        return self.fast_path.close_playback(*encode(answer, () if accepts is None else (accepts,)))

    def take_part(self) -> bytes:
        """Return what came of a playback request, which no more is waited for."""
        data, self.part, self.due = bytes(self.part), bytearray(), 0
        return data

    def hand_over(self, data: bytes) -> None:
        """Let the door behind the fast_path answer."""
        if len(self.server_state.tasks) >= MAX_PENDING and (self.cold is None or self.cold.idle):
            self.shed(data)
            return
        self.plain = False
        self.shared.note("handed_over")
        if self.cold is None:
            self.cold = ColdDoor(self.shared, *self.arguments)
            self.cold.take_over(self.transport, self.relayed)
            if self.stuck_at is not None:
                self.cold.pause_writing()
        self.cold.data_received(data)

    def shed(self, data: bytes) -> None:
        """Give the cheapest correct answer, and close: the service's fallback, a player's static steering, or 503.

        It is the same for every client and version of HTTP, so the request line is enough.
        """
        self.plain = False
        self.shared.note("shed")
        found = self.fast_path.answer(data, 0, self.peer, True)
        if found is None and (line := STEER_LINE.match(data)):
            found = self.fast_path.answer(b"%b %b HTTP/1.1\r\n\r\n" % line.groups(), 0, STRANGER, True)
        if found is None and (line := PLAYER_LINE.match(data)):
            found = self.shared.static_steering(line[2], line[1] == b"HEAD")
        self.transport.write(found or refusal(RequestError("too many requests at once", status=503), "retry-after: 1"))
        self.transport.close()

    def cut_off(self) -> None:
        """End the connection of a client that is too slow."""
        self.shared.note("cut_off")
        self.transport.abort()

    def check_patience(self, second: int) -> None:
        """Close the connection if what it waits for takes too long."""
        if self.transport.is_closing():  # and the last of the answers is not read
            self.closing_at = second if self.closing_at is None else self.closing_at
            if second - self.closing_at > READ_S:
                self.cut_off()
            return
        if self.stuck_at is not None:
            if second - self.stuck_at > READ_S:
                self.cut_off()
            return
        cold = self.cold
        if self.due:
            if second - self.part_at > BODY_S:
                self.transport.close()
            return
        if self.preface is not None:
            if second - self.opened_at > HEAD_S:
                self.cut_off()
            return
        if cold is None or cold.idle:
            if second - self.active_at > IDLE_S:
                self.transport.close()
        elif cold.held:
            return  # it is ours to read on
        # From the first byte: what comes drop by drop is not active.
        elif cold.in_head:
            if second - cold.began_at > HEAD_S:
                self.cut_off()
        elif cold.in_message and second - cold.began_at > BODY_S:
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
        self.held = b""  # what came in and is not parsed yet
        self.broken = False  # what came in cannot be parsed any further
        self.ended = False  # nothing more comes in
        self.refusal = b""
        self.head_size = 0
        self.fed = 0  # bytes of a head that is not whole
        self.begun = 0  # requests so far
        self.began_at = 0

    @property
    def idle(self) -> bool:
        """Whether it is between two requests, with nothing to answer."""
        return not (self.in_message or self.pipeline or self.held) and (
            self.cycle is None or self.cycle.response_complete
        )

    def take_over(self, transport: asyncio.Transport, relayed: tuple[str, int] | None) -> None:
        """Use the transport of a connection that is counted already; `relayed` is the client that a proxy named."""
        self.connection_made(transport)
        self.client = relayed or self.client
        self.connections.discard(self)  # who has the connection is its `HotDoor`

    def data_received(self, data: bytes) -> None:
        """Parse as far as it is due."""
        self._unset_keepalive_if_required()
        if not self.broken:
            self.held += data
            self.read_on()

    def read_on(self) -> None:
        """Parse what came in, until a request waits behind another: the rest then waits unparsed, and no more is read.

        A request that asks for another protocol is answered as any other, and the next one follows it. Where it has a
        body, or asks for a tunnel, the parser says that what follows is not HTTP: then nothing follows.
        """
        data, at, self.held = self.held, 0, b""
        while at < len(data) and not self.pipeline:
            part = data[at : at + SLICE]
            begun, between = self.begun, not self.in_message
            try:
                self.parser.feed_data(part)
            except httptools.HttpParserUpgrade as upgrade:
                if self.parser.get_method() == b"CONNECT" or any(name in FRAMING for name, _ in self.headers):
                    self.cycle.keep_alive, self.broken = False, True
                    return
                at += upgrade.args[0]
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
                continue
            except httptools.HttpParserError:
                self.send_400_response("")
                return
            at += len(part)
            if self.begun == begun:
                self.fed += len(part)
            else:  # where in the part the last head begins is known if it is its only one
                self.fed = len(part) if between and self.begun == begun + 1 else 0
            if self.in_head and self.fed > MAX_HEAD:
                self.too_large = True
                self.send_400_response("")
                return
        self.held = data[at:]
        if self.held:
            self.flow.pause_reading()

    def end(self) -> bool:
        """Note that nothing more comes in; tell whether answers are due, after which the connection is closed."""
        self.ended = True
        if not (self.held or self.broken) and self.in_message and not self.in_head:
            self.send_400_response("")  # half a body
        if self.broken:
            return not self.transport.is_closing()
        return bool(self.held) or (self.cycle is not None and not self.cycle.response_complete)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 (uvicorn's wording)
        """Say what is wrong with what came in, after the answers before it, and close.

        Where a body is wrong, that is its request's one answer, unless it has another already.
        """
        error = RequestError("no HTTP/1.1 request that can be read", status=400)
        if self.too_large:
            error = RequestError(f"a head of over {MAX_HEAD} bytes", status=431)
        in_body = self.in_message and not self.in_head
        self.in_message = self.broken = True
        self.held = b""
        self.refusal = refusal(error)
        if in_body and self.pipeline:
            self.pipeline.popleft()
        elif in_body and self.cycle.response_started:
            self.refusal = b""
        elif in_body:
            self.cycle.disconnected = True  # it answers nobody
            self.cycle.message_event.set()
            self.refuse()
        if self.cycle is None or self.cycle.response_complete:
            self.refuse()

    def on_response_complete(self) -> None:
        """Go on with the next request, or where what followed could not be read, say so."""
        if self.broken and not self.pipeline:
            self.refuse()
            return
        super().on_response_complete()
        if self.transport.is_closing():
            return
        self.began_at = self.shared.fast_path.second  # from here on the client is waited for
        self.read_on()
        if self.flow.write_paused:
            self.transport.pause_reading()
        if self.ended and not self.end():
            self.transport.close()

    def refuse(self) -> None:
        """Send the refusal, if there is one, and close."""
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
        self.begun += 1
        self.began_at = self.shared.fast_path.second
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A part of its target."""
        self.measure(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One of its header lines; those behind a body are no headers (RFC 9110, 6.5.1), and would forward anybody."""
        self.measure(len(name) + len(value) + len(": \r\n"))
        if self.in_head:
            super().on_header(name, value)

    def measure(self, size: int) -> None:
        """Count the bytes of a head; an error ends its parsing."""
        self.head_size += size
        if self.head_size > MAX_HEAD:
            self.too_large = True
            raise ValueError("too large")

    def on_headers_complete(self) -> None:
        """Its head is whole; an error ends its parsing."""
        if self.parser.get_http_version() not in ("1.0", "1.1"):
            raise ValueError("not a version of HTTP that is spoken here")
        super().on_headers_complete()
        self.in_head = False

    def on_message_complete(self) -> None:
        """It is whole."""
        self.in_message = False
        super().on_message_complete()


def refusal(error: RequestError, *headers: str) -> bytes:
    """Return a whole answer that says why, and that the connection is closed."""
    return closing_answer(HTTPStatus(error.status), "application/problem+json", problem(error), *headers)


def closing_answer(status: HTTPStatus, media_type: str, body: bytes, *headers: str) -> bytes:
    """Return a whole answer that no door behind this one has to make, after which the connection is closed."""
    lines = [
        f"HTTP/1.1 {status} {status.phrase}",
        f"date: {formatdate(usegmt=True)}",
        "cache-control: no-store",
        "access-control-allow-origin: *",
        *headers,
        f"content-length: {len(body)}",
        f"content-type: {media_type}",
        "connection: close",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
