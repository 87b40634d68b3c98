"""The one module that knows uvicorn's insides: its server, and its HTTP protocol with bounds, for playback and control.

`FallbackPath` is uvicorn's HttpToolsProtocol on the transport of a connection that has an owner: `HttpProtocol` of
playback or `ControlConnection` of control. It adds what uvicorn does not have: a limit on heads, a position in the
request for the owner's time limits, requests that stay unparsed while one is being answered, and refusals as problem
documents. It never parses a body as a request.

`tests/test_uvicorn_adapter.py` holds the names that this module relies on. Where it fails, read the new
uvicorn's httptools_impl.py and server.py before anything else.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final, Protocol, TypeVar

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from _fastpath.fast_path import MAX_HEAD
from steering.errors import RequestError, problem_body

SLICE: Final = 2048  # bytes parsed at a time: a request that waits parsed takes thirty times its bytes
FRAMING: Final = (b"content-length", b"transfer-encoding")
UNREADABLE: Final = RequestError("no HTTP/1.1 request that can be read", status=400)
TOO_LARGE: Final = RequestError(f"a head of over {MAX_HEAD} bytes", status=431)

P = TypeVar("P", bound=asyncio.Protocol)


class Position(enum.Enum):
    """Where in the client's requests the parser stands."""

    BETWEEN = "between two requests"
    HEAD = "in a head"
    BODY = "in a body, or behind what cannot be read"


class Clock(Protocol):
    """A clock of whole seconds."""

    @property
    def second(self) -> int:
        """The present second."""


class Owner(Protocol):
    """The connection that the fallback path works for."""

    @property
    def clock(self) -> Clock:
        """The clock by which its time limits count."""

    def end_with(self, answer: bytes, event: str) -> None:
        """Send a last answer, count it, and close."""

    def fallback_moved_on(self) -> None:
        """Take note that the fallback path has answered a request, or has become idle."""


class UvicornServer:
    """The server that accepted a connection: uvicorn waits for its connections and tasks when it shuts down."""

    __slots__ = ("app_state", "config", "loop", "state")

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.config = config
        self.state = server_state
        self.app_state = app_state
        self.loop = _loop

    def add(self, connection: asyncio.Protocol) -> None:
        """Count a connection. uvicorn calls its `shutdown` method when the server stops."""
        self.state.connections.add(connection)  # type: ignore[arg-type]

    def discard(self, connection: asyncio.Protocol) -> None:
        """Count a connection no longer."""
        self.state.connections.discard(connection)

    @property
    def pending(self) -> int:
        """How many requests the application is answering."""
        return len(self.state.tasks)

    def open_fallback(
        self,
        owner: Owner,
        transport: asyncio.Transport,
        relayed: tuple[str, int] | None,
        mend: Callable[[bytes, int], bytes | None] = lambda _data, _offset: None,
    ) -> FallbackPath:
        """Return the fallback path of a connection; `relayed` is the client that a proxy named.

        `mend` returns what to parse in the place of the data from an offset, where a request begins; None for itself.
        """
        fallback = FallbackPath(self.config, self.state, self.app_state, self.loop, owner=owner)
        fallback.mend = mend
        fallback.connection_made(transport)
        fallback.client = relayed or fallback.client
        self.discard(fallback)  # its owner is counted
        return fallback


def protocol_class(make: Callable[[UvicornServer], P]) -> Callable[..., P]:
    """Return what `uvicorn.Config(http=…)` takes: it makes the protocol of each new connection."""
    return lambda *args, **kwargs: make(UvicornServer(*args, **kwargs))


class FallbackPath(HttpToolsProtocol):
    """uvicorn's protocol on the transport of its owner."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        loop: asyncio.AbstractEventLoop | None,
        *,
        owner: Owner,
    ) -> None:
        super().__init__(config, server_state, app_state, loop)
        self.owner = owner
        self.mend: Callable[[bytes, int], bytes | None]
        self.position = Position.BETWEEN
        self.began_at = 0  # the second since which the client owes the rest of its request
        self.unparsed = b""
        self.error = UNREADABLE  # what a refusal would say
        self.refusal: bytes | None = None  # due after the answers; once it is there, nothing more can be parsed
        self.head_size = 0  # of the head at hand, as far as it is parsed
        self.fed = 0  # bytes of a head that is not whole
        self.begun = 0  # requests so far

    @property
    def idle(self) -> bool:
        """Whether it is between two requests, with nothing to answer."""
        return (
            self.position is Position.BETWEEN
            and not (self.pipeline or self.unparsed)
            and (self.cycle is None or self.cycle.response_complete)
        )

    @property
    def owes_answers(self) -> bool:
        """Whether an answer is due that does not depend on more bytes from the client."""
        if self.refusal is not None:
            return not self.transport.is_closing()
        return bool(self.unparsed) or (self.cycle is not None and not self.cycle.response_complete)

    @property
    def reads(self) -> bool:
        """Whether uvicorn's flow control lets the transport read."""
        return not self.flow.read_paused

    def data_received(self, data: bytes) -> None:
        """Parse as far as it is due."""
        self._unset_keepalive_if_required()
        if self.refusal is None:
            self.unparsed += data
            self.parse()

    def parse(self) -> None:
        """Parse until a request waits behind another; the rest then stays unparsed, and no more is read.

        A request that asks for another protocol is answered as any other, and the next one follows it. Where it has a
        body, or asks for a tunnel, the parser reports that what follows is not HTTP: then nothing follows.
        """
        data, offset, self.unparsed = self.unparsed, 0, b""
        while offset < len(data) and not self.pipeline:
            end = offset + SLICE
            if self.position is Position.BETWEEN:
                if mended := self.mend(data, offset):
                    data, offset, end = mended, 0, SLICE
                head_end = data.find(b"\r\n\r\n", offset, end)
                end = head_end + 4 if head_end >= 0 else end
            part = data[offset:end]
            begun, between = self.begun, self.position is Position.BETWEEN
            try:
                self.parser.feed_data(part)
            except httptools.HttpParserUpgrade as upgrade:
                if self.parser.get_method() == b"CONNECT" or any(name in FRAMING for name, _ in self.headers):
                    self.cycle.keep_alive, self.refusal = False, b""
                    return
                offset += upgrade.args[0]
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
                continue
            except httptools.HttpParserError:
                self.send_400_response("")
                return
            offset += len(part)
            if self.begun == begun:
                self.fed += len(part)
            else:  # where in the part the last head begins is known if it is its only one
                self.fed = len(part) if between and self.begun == begun + 1 else 0
            if self.position is Position.HEAD and self.fed > MAX_HEAD:
                self.error = TOO_LARGE
                self.send_400_response("")
                return
        self.unparsed = data[offset:]
        if self.unparsed:
            self.flow.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the requests that wait: nobody receives their answers."""
        self.unparsed = b""
        self.pipeline.clear()
        super().connection_lost(exc)

    def end_input(self) -> None:
        """Refuse a request whose body is not whole: nothing more comes in."""
        if self.position is Position.BODY and self.refusal is None and not self.unparsed:
            self.send_400_response("")

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 (uvicorn's wording)
        """Refuse what came in, after the answers before it, and close.

        Where a body is wrong, the refusal is its request's one answer, unless the request has another already.
        """
        in_body = self.position is Position.BODY
        if self.position is Position.BETWEEN:
            self.position = Position.BODY
        self.unparsed = b""
        self.refusal = refusal(self.error)
        if in_body and self.pipeline:
            self.pipeline.popleft()
        elif in_body and self.cycle.response_started:
            self.refusal = b""
        elif in_body:
            self.cycle.disconnected = True  # the application's answer goes nowhere
            self.cycle.message_event.set()
            self.owner.end_with(self.refusal, "unreadable")
        if self.cycle is None or self.cycle.response_complete:
            self.owner.end_with(self.refusal, "unreadable")

    def on_response_complete(self) -> None:
        """Go on with the next request, or send the refusal of what followed."""
        if self.refusal is not None and not self.pipeline:
            self.owner.end_with(self.refusal, "unreadable")
            return
        super().on_response_complete()
        if self.transport.is_closing():
            return
        self.began_at = self.owner.clock.second  # from now on the client owes the rest
        self.parse()
        if self.flow.write_paused:
            self.transport.pause_reading()
        self.owner.fallback_moved_on()

    def timeout_keep_alive_handler(self) -> None:
        """Leave idle connections to the owner's time limits."""

    # ---- callbacks of the parser

    def on_message_begin(self) -> None:
        """A request begins."""
        self.position = Position.HEAD
        self.head_size = 0
        self.begun += 1
        self.began_at = self.owner.clock.second
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Take a part of the target."""
        self.measure(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header line. Lines behind a body are no headers (RFC 9110, 6.5.1): they could name any client."""
        self.measure(len(name) + len(value) + len(": \r\n"))
        if self.position is Position.HEAD:
            super().on_header(name, value)

    def measure(self, size: int) -> None:
        """Count the bytes of a head. An error ends its parsing."""
        self.head_size += size
        if self.head_size > MAX_HEAD:
            self.error = TOO_LARGE
            raise ValueError("too large")

    def on_headers_complete(self) -> None:
        """Start the answer. An error ends the parsing."""
        if self.parser.get_http_version() not in ("1.0", "1.1"):
            raise ValueError("only HTTP/1.0 and HTTP/1.1 are spoken here")
        # Another reader may leave out a coding that it does not know, or that HTTP/1.0 does not have (RFC 9112, 6.1).
        codings = [value.strip(b" \t").lower() for name, value in self.headers if name == b"transfer-encoding"]
        if codings and (codings != [b"chunked"] or self.parser.get_http_version() == "1.0"):
            raise ValueError("the one transfer coding is chunked, in HTTP/1.1")
        super().on_headers_complete()
        self.position = Position.BODY

    def on_message_complete(self) -> None:
        """The request is whole."""
        self.position = Position.BETWEEN
        super().on_message_complete()


def refusal(error: RequestError, *headers: str) -> bytes:
    """Return a problem document as a whole answer."""
    return last_answer(HTTPStatus(error.status), "application/problem+json", problem_body(error), *headers)


def last_answer(status: HTTPStatus, media_type: str, body: bytes, *headers: str) -> bytes:
    """Return a whole answer that tells the client that the connection is closed."""
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
