"""One HTTP connection: the compiled fast path first, and behind it uvicorn and FastAPI as the fallback path.

`HttpProtocol` is the asyncio protocol that uvicorn makes for each connection. What it does with received bytes is its
state; `states.py` has the states and the table of transitions, and `HttpProtocol.move` is the only place that changes
the state. While the state is FAST, the compiled `Connection.data_received` answers alone; otherwise it calls `receive`.

With the setting `proxy_protocol`, a connection from a trusted address begins with a PROXY protocol header.

Everything that a client may do slowly or without end is bounded: a head by size and time, a body by time, an idle
connection, a client that does not read (LIMITS of `states.py`), requests that wait behind another, connections and
pending requests. Beyond the last two, requests get the cheapest correct answer (`last_answers.py`).
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import socket
from collections.abc import Callable
from typing import Final

from _fastpath.client import UNKNOWN, Trust, pack
from _fastpath.connection import Connection
from _fastpath.fast_path import Peer
from _fastpath.tls import Records
from steering.playback.answers.encoding import encode
from steering.playback.server.connections import Connections
from steering.playback.server.last_answers import UNKNOWN_PEER, cheapest_answer
from steering.playback.server.proxy_protocol import read_header
from steering.playback.server.states import TRANSITIONS, Event, State
from steering.tls.certificates import Certificates
from steering.tls.transport import Tls
from steering.uvicorn_adapter import FallbackPath, UvicornServer, protocol_class

MAX_PENDING: Final = 256  # requests on the fallback path: about 0.1 s of work

PLAYBACK_LINE: Final = b"POST /v1/playback HTTP/1.1\r\n"
NO_ADDRESS: Final = ("", 0)  # a client without an address, as FastAPI sees it: not trusted


def http_class(connections: Connections) -> Callable[..., HttpProtocol]:
    """Return the protocol of a worker's connections, as `uvicorn.Config(http=…)` takes it."""
    return protocol_class(functools.partial(HttpProtocol, connections))


def tls_of(connections: Connections, certificates: Certificates) -> Tls:
    """Return what the TLS connections of a worker share: they may begin with a PROXY protocol header, before TLS."""

    def expects_preface(transport: asyncio.Transport) -> bool:
        peer = find_peer(transport, connections.trust) if connections.proxy_protocol else None
        return peer is not None and peer.trusted

    def size_of_preface(data: bytes) -> int | None:
        header = read_header(data)
        return header.size if header else None

    return Tls(certificates, connections.count, expects_preface, size_of_preface)


class Waiting(bytearray):
    """Received bytes that are not used yet."""

    def take(self) -> bytes:
        """Return the bytes, and keep none."""
        data = bytes(self)
        self.clear()
        return data


class HttpProtocol(Connection, asyncio.Protocol):
    """One connection."""

    def __init__(self, shared: Connections, server: UvicornServer) -> None:
        self.shared = shared
        self.server = server
        self.fast_path = self.clock = shared.fast_path
        self.state = State.BUFFERED
        self.since = self.active_at = self.fast_path.second  # since when it is in its state
        self.transport: asyncio.Transport
        self.fallback: FallbackPath | None = None
        self.waiting = Waiting()  # a part of a preface or a body, or requests while STUCK
        self.body_end = 0  # how many bytes of `waiting` a playback request is, once whole; 0 where none is due
        self.relayed: tuple[str, int] | None = None  # the client that a proxy named
        self.over_limit = False
        self.half_closed = False  # the client sends no more, and may still read

    def move(self, event: Event) -> None:
        """Change the state. KeyError where the table has no such transition."""
        self.state = TRANSITIONS[self.state][event]
        self.since = self.fast_path.second
        self.direct = self.state is State.FAST

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, as far as the limits allow."""
        self.transport = transport
        self.fd = transport.get_extra_info("socket").fileno()
        self.tls = transport if isinstance(transport, Records) else None
        peer = find_peer(transport, self.shared.trust)
        self.relayed = None if peer else NO_ADDRESS
        self.peer = peer or UNKNOWN_PEER
        self.shared.open.add(self)
        self.server.add(self)
        self.over_limit = len(self.shared.open) > self.shared.max_connections
        if len(self.shared.open) > 2 * self.shared.max_connections:
            self.move(Event.CLOSE)
            transport.abort()
        elif self.shared.proxy_protocol and self.peer.trusted:
            self.move(Event.PREFACE_EXPECTED)
        elif self.over_limit:
            self.move(Event.LIMIT_EXCEEDED)
        else:
            self.use_socket()

    def receive(self, data: bytes) -> None:
        """Take received bytes in any state but FAST."""
        if self.state is State.PREFACE:
            data = self.read_preface(data)
        elif self.state is State.BODY:
            self.waiting += data
            if len(self.waiting) < self.body_end:
                return
            data = self.end_body()
        if self.state is State.FALLBACK:
            assert self.fallback
            self.fallback.data_received(data)
            self.fallback_moved_on()
        elif self.state is State.BUFFERED:
            self.use_socket()
            self.answer_requests(data)
        elif self.state is State.OVER_LIMIT and data:
            self.answer_cheaply(data)
        elif self.state is State.STUCK:
            self.waiting += data

    def answer_requests(self, data: bytes, declined: bool = False) -> None:
        """Answer the requests in the data, from the fast path as far as it goes; it may have declined the first."""
        start, end = 0, len(data)
        while start < end and self.shared.fast_path_enabled:
            if self.state is State.STUCK:
                self.waiting += data[start:]
                return
            answer = None if declined else self.fast_path.answer(data, start, self.peer)
            declined = False
            if answer is None and data.startswith(PLAYBACK_LINE, start):
                answer = self.answer_playback(data, start)
                if self.state is State.BODY:
                    return
            if answer is None:
                break
            self.send(answer)
            start = self.fast_path.end
        if start < end:
            self.hand_over(data[start:] if start else data)

    def send_buffered(self, rest: bytes) -> None:
        """Send what the socket did not take, through the transport."""
        if self.state is State.FAST:
            self.move(Event.SENT_IN_PART)
        self.transport.write(rest)

    def use_socket(self) -> None:
        """Send straight to the socket from now on, if nothing waits in the transport."""
        if (
            self.shared.fast_path_enabled
            and not self.transport.is_closing()
            and self.transport.get_write_buffer_size() == 0
        ):
            self.move(Event.BUFFER_EMPTY)

    def eof_received(self) -> bool:
        """Return True, which keeps the connection, if the client waits for answers."""
        self.half_closed = True
        if self.state is State.BODY:
            self.hand_over(self.end_body())
        if self.owes_answers():
            return True
        self.close()
        return False

    def owes_answers(self) -> bool:
        """Tell whether a client that sends no more waits for answers."""
        if self.fallback is not None:
            self.fallback.end_input()
            if self.fallback.owes_answers:
                return True
        return self.state is State.STUCK and bool(self.waiting)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.move(Event.LOST)
        self.shared.open.discard(self)
        self.server.discard(self)
        if self.fallback is not None:
            self.fallback.connection_lost(exc)

    def pause_writing(self) -> None:
        """Read no more requests from a client that does not read its answers."""
        if self.fallback is not None:
            self.fallback.pause_writing()
        if self.state is not State.CLOSING:
            self.transport.pause_reading()
            self.move(Event.PAUSED)

    def resume_writing(self) -> None:
        """Read on, and answer what was received in the meantime."""
        if self.fallback is not None:
            self.fallback.resume_writing()
        if self.state is not State.STUCK:
            return
        self.move(Event.RESUMED)
        if not self.half_closed and (self.fallback is None or self.fallback.reads):
            self.transport.resume_reading()
        if self.body_end:
            self.move(Event.BODY_INCOMPLETE)
            return
        if self.fallback is not None and not self.fallback.idle:
            self.move(Event.HANDED_OVER)
        if self.waiting:
            self.receive(self.waiting.take())
        if self.half_closed and not self.owes_answers():
            self.close()

    def shutdown(self) -> None:
        """Close once the requests in flight are answered. uvicorn calls this when the server stops."""
        if self.state is State.BODY:
            self.hand_over(self.end_body())
        if self.fallback is None:
            self.close()
        else:
            self.fallback.shutdown()

    # ---- the client

    def read_preface(self, data: bytes) -> bytes:
        """Take the client that a trusted proxy names in the first bytes, and return what follows them."""
        self.waiting += data
        try:
            header = read_header(bytes(self.waiting))
        except ValueError:
            self.move(Event.CLOSE)
            self.transport.abort()
            return b""
        if header is None:
            return b""
        if header.relayed:
            packed = header.source
            self.peer = UNKNOWN_PEER if packed is None else Peer(packed, packed in self.shared.trust)
            self.relayed = (str(ipaddress.ip_address(packed)), 0) if packed else NO_ADDRESS
        self.move(Event.PREFACE_READ)
        if self.over_limit:
            self.move(Event.LIMIT_EXCEEDED)
        return self.waiting.take()[header.size :]

    # ---- playback requests, whose bodies may come late

    def answer_playback(self, data: bytes, start: int) -> bytes | None:
        """Return the answer to the playback request at an offset. None: the fallback path's, or its body is due."""
        found = self.fast_path.read_playback(data, start, self.peer)
        if found is None:
            return None
        body_start, accepts = found
        if self.fast_path.end > len(data):
            self.waiting += data[start:]
            self.body_end = self.fast_path.end - start
            self.move(Event.BODY_INCOMPLETE)
            return None
        answer = self.fast_path.answer_playback(data, body_start)
        if answer is None:
            return None
        return self.fast_path.close_playback(*encode(answer, () if accepts is None else (accepts,)))

    def end_body(self) -> bytes:
        """Return what has come of a playback request, and wait for no more of it."""
        self.move(Event.BODY_ENDED)
        self.body_end = 0
        return self.waiting.take()

    # ---- the fallback path

    def hand_over(self, data: bytes) -> None:
        """Let the fallback path answer, from here until it is idle."""
        if self.server.pending >= MAX_PENDING:
            self.answer_cheaply(data)
            return
        self.move(Event.HANDED_OVER)
        self.shared.count("handed_over")
        if self.fallback is None:
            self.fallback = self.server.open_fallback(self, self.transport, self.relayed)
        self.fallback.data_received(data)
        self.fallback_moved_on()

    def fallback_moved_on(self) -> None:
        """Ask the fast path first again, once the fallback path is idle."""
        assert self.fallback
        if self.half_closed and not self.owes_answers():
            self.close()
        if self.state is State.FALLBACK and self.fallback.idle:
            self.move(Event.ANSWERED)

    # ---- the end

    def close(self) -> None:
        """Close the connection once what has been written is sent."""
        if self.state not in (State.CLOSING, State.CLOSED):
            self.move(Event.CLOSE)
        self.transport.close()

    def end_with(self, answer: bytes, event: str) -> None:
        """Send a last answer, count it, and close."""
        if not self.transport.is_closing():
            self.shared.count(event)
            self.move(Event.CLOSE)
            self.transport.write(answer)
            self.transport.close()

    def answer_cheaply(self, data: bytes) -> None:
        """Send the cheapest correct answer to the first request, and close."""
        shared = self.shared
        answer = cheapest_answer(data, self.peer, self.fast_path, shared.snapshot, shared.default_service)
        self.end_with(answer, "shed")


def find_peer(transport: asyncio.Transport, trust: Trust) -> Peer | None:
    """Return the other end, None where it has no address: then the client is gone. A Unix socket is trusted."""
    name = transport.get_extra_info("peername")
    if isinstance(name, tuple | list) and (packed := pack(str(name[0]))) is not None:
        return Peer(packed, packed in trust)
    if transport.get_extra_info("socket").family == socket.AF_UNIX:
        return Peer(UNKNOWN, True)
    return None
