"""TLS between a socket and a protocol: what passes, what is refused, and what is bounded."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from steering.tls import transport as tls_transport
from steering.tls.certificates import Certificates
from steering.tls.transport import ANSWER_TO_PLAIN_HTTP, Tls, ignore_odd_names
from tests.support.certificates import client_context, make_certificate

pytestmark = pytest.mark.anyio

HEADER = b"PROXY TCP4 203.0.113.7 10.0.0.1 5 80\r\n"


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return ("asyncio", {"use_uvloop": request.param == "uvloop"})


class Echo(asyncio.Protocol):
    """Returns what comes in upper case; `goodbye` ends the connection, and so does the client's end."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.paused = False

    def data_received(self, data: bytes) -> None:
        assert not self.paused or len(data) < 1 << 20
        self.transport.write(data.upper())
        if b"goodbye" in data:
            self.transport.close()

    def pause_writing(self) -> None:
        self.paused = True
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.paused = False
        self.transport.resume_reading()


class Listening:
    """A TLS listener in this event loop."""

    def __init__(self, folder: Path) -> None:
        self.pair = make_certificate(folder, "steer.example", "steer.example")
        self.events: list[str] = []
        self.tls = Tls(Certificates([self.pair]), self.events.append)

    async def start(self) -> None:
        make = self.tls.protocol_class(Echo)
        self.server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
        self.address = self.server.sockets[0].getsockname()

    async def open(self, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = options.pop("context", None) or client_context(self.pair[0])
        return await asyncio.open_connection(*self.address, ssl=context, server_hostname="steer.example", **options)

    async def exchange(self, *parts: bytes) -> bytes:
        """Send parts as they are, without TLS, and return what comes back until the end."""
        reader, writer = await asyncio.open_connection(*self.address)
        for part in parts:
            writer.write(part)
            await asyncio.sleep(0.01)
        found = b""
        with contextlib.suppress(ConnectionError):
            found = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        return found


@pytest.fixture
async def listening(tmp_path: Path) -> AsyncIterator[Listening]:
    found = Listening(tmp_path)
    await found.start()
    yield found
    found.server.close()
    assert not found.tls.handshakes


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_what_is_sent_comes_back(listening: Listening, version: ssl.TLSVersion) -> None:
    context = client_context(listening.pair[0])
    context.minimum_version = context.maximum_version = version
    reader, writer = await listening.open(context=context)
    for size in (1, 100, 16_384, 16_385, 1_000_000):
        writer.write(b"x" * size)
        assert await reader.readexactly(size) == b"X" * size
    for size in range(200):  # records that come together and in parts
        writer.write(b"%d," % size)
    wanted = b"".join(b"%d," % size for size in range(200))
    assert await reader.readexactly(len(wanted)) == wanted
    tls = writer.get_extra_info("ssl_object")
    assert tls.version() == version.name.replace("_", ".")
    assert "GCM" in tls.cipher()[0] or "CHACHA20" in tls.cipher()[0]
    writer.write(b"goodbye")
    assert await reader.read() == b"GOODBYE", "the end is announced, so that a client knows that nothing was cut off"
    writer.close()
    assert listening.events == ["handshakes"]


async def test_records_may_come_byte_by_byte(listening: Listening) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context(listening.pair[0]).wrap_bio(incoming, outgoing, server_hostname="steer.example")
    reader, writer = await asyncio.open_connection(*listening.address)
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def until(step: Any) -> Any:
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                for byte in outgoing.read():
                    writer.write(bytes([byte]))
                    await asyncio.sleep(0)
                incoming.write(await reader.read(1000))

    await until(client.do_handshake)
    client.write(b"hello ")
    client.write(b"world")
    found = b""
    while len(found) < 11:
        found += await until(lambda: client.read(100))
    assert found == b"HELLO WORLD"
    writer.close()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
async def test_old_versions_and_weak_ciphers_are_refused(listening: Listening) -> None:
    for version, ciphers in (
        (ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0"),
        (ssl.TLSVersion.TLSv1_2, "AES128-SHA:@SECLEVEL=0"),
    ):
        context = client_context(listening.pair[0])
        context.set_ciphers(ciphers)
        context.minimum_version = context.maximum_version = version
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await listening.open(context=context)
    assert listening.events == ["failed_handshakes"] * 2


@pytest.mark.parametrize(
    "request_", [b"GET / HTTP/1.1\r\n\r\n", b"POST /v1/playback HTTP/1.1\r\n", b"HEAD / HTTP/1.0\r\n\r\n"]
)
async def test_plain_http_is_told_to_speak_tls(listening: Listening, request_: bytes) -> None:
    assert await listening.exchange(request_) == ANSWER_TO_PLAIN_HTTP
    assert listening.events == ["failed_handshakes"]


GARBAGE = [
    b"\x00" * 300,
    b"\xff" * 20_000,
    b"\x16\x03\x01\xff\xff" + b"a" * 70_000,
    b"\x16\x03\x01\x00\x05hello",
    b"SSH-2.0-x\r\n",
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=[repr(each[:12]) for each in GARBAGE])
async def test_garbage_in_place_of_a_hello_ends_the_connection(listening: Listening, garbage: bytes) -> None:
    found = await listening.exchange(garbage[:3], garbage[3:])
    assert len(found) < 10, "an alert at most"
    assert listening.events == ["failed_handshakes"]


async def test_garbage_after_the_handshake_ends_the_connection(listening: Listening) -> None:
    reader, writer = await listening.open()
    writer.get_extra_info("socket")
    raw = socket.socket(fileno=socket.dup(writer.get_extra_info("socket").fileno()))
    raw.send(b"\x17\x03\x03\x00\x10" + b"x" * 16)
    raw.close()
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.transport.abort()


async def test_half_a_hello_that_never_ends_is_cut_off(listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls_transport, "HANDSHAKE_S", 0.1)
    hello = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        client_context(listening.pair[0]).wrap_bio(
            ssl.MemoryBIO(), hello, server_hostname="steer.example"
        ).do_handshake()
    data = hello.read()
    for parts in ([data[:50]], [data], []):  # cut in the hello, after it, and nothing at all
        assert len(await listening.exchange(*parts)) in (0, *range(500, 5000)), "nothing, or our part of the handshake"
    assert listening.events == ["failed_handshakes"] * 3


async def test_handshakes_in_flight_are_bounded_in_number_and_bytes(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_transport, "MAX_HANDSHAKES", 2)
    held = [await asyncio.open_connection(*listening.address) for _ in range(2)]
    await asyncio.sleep(0.05)
    assert await listening.exchange(b"x") == b""
    assert listening.events == ["failed_handshakes"]
    held[0][1].close()
    await asyncio.sleep(0.05)
    reader, writer = await listening.open()
    writer.write(b"goodbye")
    assert await reader.read() == b"GOODBYE"
    for _, each in (*held, (reader, writer)):
        each.close()
    await asyncio.sleep(0.05)
    monkeypatch.setattr(tls_transport, "MAX_BYTES", 1000)
    assert await listening.exchange(b"\x16\x03\x01\x3f\xff" + b"\x01\x00\x3f\xfb" + b"x" * 2000) == b""


async def test_a_client_that_sends_no_more_is_closed(listening: Listening) -> None:
    reader, writer = await listening.open()
    writer.write(b"last words")
    assert await reader.readexactly(10) == b"LAST WORDS"
    raw = socket.socket(fileno=socket.dup(writer.get_extra_info("socket").fileno()))
    raw.shutdown(socket.SHUT_WR)  # an end without TLS's goodbye
    raw.close()
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()


async def test_a_client_that_reads_late_gets_everything(listening: Listening) -> None:
    data = bytes(range(97, 123)) * 200_000

    def exchange() -> bytes:
        raw = socket.create_connection(listening.address, timeout=20)
        with client_context(listening.pair[0]).wrap_socket(raw, server_hostname="steer.example") as client:
            sending = threading.Thread(target=client.sendall, args=(data + b"goodbye",))
            sending.start()
            time.sleep(0.3)  # the server's buffers fill
            found = b"".join(iter(lambda: client.recv(1 << 16), b""))
            sending.join()
            return found

    assert await asyncio.to_thread(exchange) == data.upper() + b"GOODBYE"


async def test_a_proxy_header_comes_before_tls(listening: Listening) -> None:
    def size_of_preface(data: bytes) -> int | None:
        if not HEADER.startswith(data[: len(HEADER)]):
            raise ValueError("no header")
        return len(HEADER) if len(data) >= len(HEADER) else None

    listening.tls.expects_preface = lambda _: True
    listening.tls.size_of_preface = size_of_preface
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context(listening.pair[0]).wrap_bio(incoming, outgoing, server_hostname="steer.example")
    for cut in (0, 1, len(HEADER) - 1, len(HEADER), len(HEADER) + 1):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = client_context(listening.pair[0]).wrap_bio(incoming, outgoing, server_hostname="steer.example")
        reader, writer = await asyncio.open_connection(*listening.address)
        with contextlib.suppress(ssl.SSLWantReadError):
            client.do_handshake()
        data = HEADER + outgoing.read()
        writer.write(data[:cut])
        await asyncio.sleep(0.01)
        writer.write(data[cut:])
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                incoming.write(await asyncio.wait_for(reader.read(5000), 5))
        writer.write(outgoing.read())
        found = b""
        while len(found) < len(HEADER):
            incoming.write(await asyncio.wait_for(reader.read(5000), 5))
            with contextlib.suppress(ssl.SSLWantReadError):
                found += client.read(1000)
        assert found == HEADER.upper(), "the protocol above reads it again"
        writer.close()
    assert await listening.exchange(b"\x16\x03\x01 a hello without a header") == b""


async def test_names_that_are_no_text_fail_quietly(
    listening: Listening, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", shown.append)
    ignore_odd_names()
    hello = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        client_context(listening.pair[0]).wrap_bio(
            ssl.MemoryBIO(), hello, server_hostname="aaaa.example"
        ).do_handshake()
    found = await listening.exchange(hello.read().replace(b"aaaa.example", b"\xff\xfe\x80a.example"))
    assert len(found) < 10
    assert (listening.events, shown) == (["failed_handshakes"], [])


async def test_a_rotation_drops_no_connection(listening: Listening, tmp_path: Path) -> None:
    before = await listening.open()
    new = make_certificate(tmp_path, "new.example", "steer.example")
    for old, path in zip(listening.pair, new, strict=True):
        path.rename(old)
    listening.tls.certificates.hurry()
    listening.tls.certificates.step()
    after = await listening.open(context=client_context(listening.pair[0]))
    for reader, writer in (before, after):
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"HELLO"
        writer.close()
    serials = [writer.get_extra_info("peercert")["serialNumber"] for _, writer in (before, after)]
    assert serials[0] != serials[1]
