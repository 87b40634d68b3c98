"""TLS between a socket and a protocol: `TlsTransport` is the protocol of the one and the transport of the other.

Handshakes are bounded in number and time, and so is what a client may send in one. A client that speaks plain HTTP is
told so. There is no renegotiation and no early data. `_fastpath/tls.pyx` has what runs for each request.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys
from collections.abc import Callable, Iterable
from typing import Any, Final, cast

from _fastpath.tls import Records
from steering.tls.certificates import Certificates

MAX_HANDSHAKES: Final = 1024  # of one process at a time; a further connection is dropped
HANDSHAKE_S: Final = 10.0
MAX_BYTES: Final = 256 << 10  # of a client's handshake; a chain of certificates may have a hundred thousand
PLAIN_HTTP: Final = frozenset({"HTTP_REQUEST", "HTTPS_PROXY_REQUEST"})
BODY: Final = (
    b'{"type":"about:blank","title":"Bad Request","status":400,"detail":"this listener speaks TLS: use https://"}'
)
ANSWER_TO_PLAIN_HTTP: Final = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\ncache-control: no-store\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%b" % (len(BODY), BODY)
)


class Tls:
    """What the TLS connections of a process share.

    `count` takes the events `handshakes` and `failed_handshakes`. Where `expects_preface` is true of a transport, the
    connection begins with a PROXY protocol header before TLS; `size_of_preface` returns its size in bytes, None while
    it is not whole, and raises ValueError where it is none. The header is passed on to the protocol above.
    """

    def __init__(
        self,
        certificates: Certificates,
        count: Callable[[str], None] = lambda _: None,
        expects_preface: Callable[[asyncio.Transport], bool] = lambda _: False,
        size_of_preface: Callable[[bytes], int | None] = lambda _: 0,
    ) -> None:
        self.certificates = certificates
        self.count = count
        self.expects_preface = expects_preface
        self.size_of_preface = size_of_preface
        self.handshakes: set[TlsTransport] = set()

    def protocol_class(self, make: Callable[[], asyncio.Protocol]) -> Callable[[], asyncio.Protocol]:
        """Return what `create_server` takes for the listeners whose connections get `make`'s protocols."""
        return lambda: cast(asyncio.Protocol, TlsTransport(self, make))


def ignore_odd_names() -> None:
    """Keep names that are no ASCII text, in hellos of clients, out of this process's log; the handshakes fail.

    Python's `ssl` hands each such name to `sys.unraisablehook`, which prints a traceback.
    """
    before = sys.unraisablehook

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if not (isinstance(unraisable.exc_value, UnicodeDecodeError) and isinstance(unraisable.object, bytes)):
            before(unraisable)

    sys.unraisablehook = hook


class TlsTransport(Records):
    """One connection."""

    def __init__(self, shared: Tls, make: Callable[[], asyncio.Protocol]) -> None:
        self.shared = shared
        self.make = make
        self.protocol: asyncio.Protocol | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.preface: bytes | None = None  # while it is not whole
        self.header = b""  # the preface, once it is
        self.received = 0  # bytes of the handshake

    # ---- the protocol of the socket

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin a handshake, if not too many are going on."""
        self.raw = transport
        self.fd = transport.get_extra_info("socket").fileno()
        if len(self.shared.handshakes) >= MAX_HANDSHAKES:
            self.give_up()
            return
        self.shared.handshakes.add(self)
        self.timer = asyncio.get_running_loop().call_later(HANDSHAKE_S, self.give_up)
        self.preface = b"" if self.shared.expects_preface(transport) else None
        self.begin(self.shared.certificates.context)

    def receive(self, data: bytes) -> None:
        """Take bytes before the end of the handshake."""
        if self.raw.is_closing():
            return
        self.received += len(data)
        if self.received > MAX_BYTES:
            self.give_up()
            return
        if self.preface is not None:
            data = self.read_preface(self.preface + data)
        if not data:
            return
        self.incoming.write(data)
        try:
            self.connection.do_handshake()
        except ssl.SSLWantReadError:
            self.flush()
            return
        except ssl.SSLError as error:
            self.shared.count("failed_handshakes")
            self.fail(error)
            return
        self.end_handshake()
        self.shared.count("handshakes")
        self.flush()
        self.protocol = self.make()
        self.protocol.connection_made(cast(asyncio.Transport, self))
        if self.header:
            self.protocol.data_received(self.header)
        self.open(self.protocol.data_received)

    def read_preface(self, data: bytes) -> bytes:
        """Take a PROXY protocol header, and return what follows it; nothing while it is not whole."""
        try:
            size = self.shared.size_of_preface(data)
        except ValueError:
            self.give_up()
            return b""
        self.preface = data if size is None else None
        self.header = data[: size or 0]
        return b"" if size is None else data[size:]

    def give_up(self) -> None:
        """End a handshake that takes too long, or that has no room."""
        self.shared.count("failed_handshakes")
        self.raw.abort()

    def end_handshake(self) -> None:
        """Let another begin."""
        if self.timer:
            self.timer.cancel()
            self.timer = None
        self.shared.handshakes.discard(self)

    def fail(self, error: ssl.SSLError) -> None:
        """End a connection whose peer does not speak TLS as we do; OpenSSL's alert says why."""
        if error.reason in PLAIN_HTTP and not self.is_open:
            self.raw.write(ANSWER_TO_PLAIN_HTTP)
        else:
            self.flush()
        self.raw.close()

    def eof_received(self) -> bool:
        """Keep the socket while the protocol has answers to send."""
        if self.is_open and not self.has_ended:
            self.has_ended = True
            self.input_ended()
        return self.is_open

    def input_ended(self) -> None:
        """Close, unless the protocol has answers to send; it closes then."""
        assert self.protocol
        if not self.protocol.eof_received():
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        """Pass it on."""
        self.end_handshake()
        if self.protocol:
            self.protocol.connection_lost(error)
        self.release()

    def pause_writing(self) -> None:
        """Pass it on."""
        if self.protocol:
            self.protocol.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        if self.protocol:
            self.protocol.resume_writing()

    # ---- the transport of the protocol

    def writelines(self, parts: Iterable[bytes]) -> None:
        """Send some parts."""
        self.write(b"".join(parts))

    def close(self) -> None:
        """Close once everything is sent, and say so to the client first."""
        if not self.raw.is_closing():
            with contextlib.suppress(ssl.SSLError):  # the client's part of the goodbye is not waited for
                self.connection.unwrap()
            self.flush()
            self.raw.close()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what the socket's transport knows, or what TLS adds."""
        if name == "sslcontext":
            return self.shared.certificates.context
        if name == "peercert":
            return self.connection.getpeercert() if self.connection else default
        return self.connection if name == "ssl_object" else self.raw.get_extra_info(name, default)

    def __getattr__(self, name: str) -> Any:
        """Return the other methods of a transport, which the socket's has: flow control, limits, abort."""
        if name.startswith("_") or name == "raw":
            raise AttributeError(name)
        return getattr(self.raw, name)
