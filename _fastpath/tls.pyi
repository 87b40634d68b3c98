"""The public shape of `tls.pyx`."""

import asyncio
import ssl
from typing import Any

class Records:
    """The compiled part of a TLS connection: between the transport of a socket and the protocol above.

    The subclass sets `raw` and `fd`, calls `begin`, makes the handshake in `receive`, and then calls `open`. Its method
    `fail(error)` takes an error of the peer's records, `input_ended()` the end of what the peer sends.
    """

    raw: asyncio.Transport
    connection: ssl.SSLObject
    incoming: ssl.MemoryBIO
    outgoing: ssl.MemoryBIO
    is_open: bool
    """Whether the handshake is over."""
    has_ended: bool
    """Whether the peer has said that it sends no more."""
    is_buffered: bool
    """Whether the transport held bytes when it was looked at last."""
    fd: int

    def begin(self, context: ssl.SSLContext) -> None:
        """Make the server's side of a connection in memory."""

    def open(self, deliver: Any) -> None:
        """Call `deliver` from now on with what the peer sends."""

    def release(self) -> None:
        """Free what OpenSSL holds, once the socket is gone: the collector of garbage does not see how much it is."""

    def data_received(self, data: bytes) -> None:
        """Take records from the socket: decrypt and deliver, or `receive` before `open`."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send; nothing once the transport is closing."""

    def flush(self) -> None:
        """Send what OpenSSL wants to send by itself: a handshake's messages, alerts, key updates."""
