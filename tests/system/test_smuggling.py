"""Requests that two readers could read differently: none of them makes a second request out of a body or a head.

Each is followed by a request that must never be answered as one. Both paths of playback answer the same bytes, and
control's listener reads nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvloop

from steering.playback.server.follower import Follower
from steering.settings import Settings
from tests.support.control_app import ControlApp, running_control_app
from tests.support.playback_app import Listening, undated

SMUGGLED = b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"
LENGTH = b"%d" % len(SMUGGLED)
CHUNK = b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)


def framed(*lines: bytes, body: bytes = SMUGGLED) -> bytes:
    """Return the rest of a request: header lines, and a body."""
    return b"Host: x\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


CHUNKED = b"Transfer-Encoding: chunked"
SIZED = b"Content-Length: " + LENGTH
ODD_LENGTHS = [
    b" +" + LENGTH, b" -1", b" 0x" + LENGTH, b" " + LENGTH + b" 0", b" 0 " + LENGTH, b" " + LENGTH + b"a", b"", b" ", b" 1e1",
    b" 1.0", b" \xd9\xa5", b" " + LENGTH + b";", b' "' + LENGTH + b'"', b" " + b"9" * 40, b" 1_0", b"\x0b" + LENGTH,
    b" " + LENGTH + b"\x0b", b"\xa0" + LENGTH, b" \x00" + LENGTH, b" 18446744073709551616",
]  # fmt: skip
ODD_CODINGS = [
    b" xchunked", b" chunked, identity", b" chunkedx", b" chunked;q=1", b"\x0bchunked", b" chunked\x0b", b"", b" identity", b" gzip",
    b' "chunked"', b" chunked chunked", b" chunk ed", b" \xa0chunked", b" \x00chunked", b" chunked\x00", b" deflate, gzip",
    b" chunked, gzip", b" cow", b" identity, chunked", b" gzip, chunked", b" chunked, chunked", b" ,chunked", b" chunked,",
]  # fmt: skip
ODD_CHUNKS = [
    b"0x0\r\n\r\n", b"+0\r\n\r\n", b"-0\r\n\r\n", b"\r\n\r\n", b"g\r\n\r\n", b" 0\r\n\r\n", b"0 0\r\n\r\n",
    b"ffffffffffffffffffff\r\n", b"1\r\nxx\r\n0\r\n\r\n", b"1\r\nx0\r\n\r\n", b"0\x00\r\n\r\n", b"0\r\r\n\r\n",
    b"1\nx\n0\n\n", b"0;\r\r\n\r\n",
]  # fmt: skip
ROWS: list[tuple[str, bytes]] = [
    # a length and chunks
    ("both", framed(SIZED, CHUNKED, body=b"0\r\n\r\n" + SMUGGLED)),
    ("both, the other way round", framed(CHUNKED, SIZED, body=b"0\r\n\r\n" + SMUGGLED)),
    ("a short length and chunks", framed(b"Content-Length: 4", CHUNKED, body=CHUNK)),
    ("no length and chunks", framed(b"Content-Length: 0", CHUNKED, body=CHUNK)),
    # several lengths
    ("two lengths", framed(b"Content-Length: 0", SIZED)),
    ("two lengths, the other way round", framed(SIZED, b"Content-Length: 0")),
    ("one length twice", framed(SIZED, SIZED)),
    ("a list of lengths", framed(b"Content-Length: 0, " + LENGTH)),
    ("a list of one length", framed(b"Content-Length: " + LENGTH + b", " + LENGTH)),
    # numbers that are none
    *[
        (f"a length {text!r}", framed(b"Content-Length:" + text))
        for text in (
            *(
                b" +" + LENGTH,
                b" -1",
                b" 0x" + LENGTH,
                b" " + LENGTH + b" 0",
                b" 0 " + LENGTH,
                b" " + LENGTH + b"a",
                b"",
            ),
            *(
                b" ",
                b" 1e1",
                b" 1.0",
                b" \xd9\xa5",
                b" " + LENGTH + b";",
                b' "' + LENGTH + b'"',
                b" " + b"9" * 40,
                b" 1_0",
            ),
            *(b"\x0b" + LENGTH, b" " + LENGTH + b"\x0b", b"\xa0" + LENGTH, b" \x00" + LENGTH, b" 18446744073709551616"),
        )
    ],
    # codings
    *[
        (f"a coding {text!r}", framed(b"Transfer-Encoding:" + text, body=b"0\r\n\r\n" + SMUGGLED))
        for text in ODD_CODINGS
    ],
    ("two codings", framed(CHUNKED, b"Transfer-Encoding: identity", body=b"0\r\n\r\n" + SMUGGLED)),
    ("one coding twice", framed(CHUNKED, CHUNKED, body=b"0\r\n\r\n" + SMUGGLED)),
    ("an empty coding, and chunks", framed(b"Transfer-Encoding:", CHUNKED, body=b"0\r\n\r\n" + SMUGGLED)),
    ("two codings, the other way round", framed(b"Transfer-Encoding: identity", CHUNKED, body=b"0\r\n\r\n" + SMUGGLED)),
    # names
    *[
        (f"a name {name!r}", framed(name + value, body=body))
        for name, value, body in (
            (b"Transfer-Encoding :", b" chunked", b"0\r\n\r\n" + SMUGGLED),
            (b"Transfer-Encoding\t:", b" chunked", b"0\r\n\r\n" + SMUGGLED),
            (b"Transfer-Encoding\x00:", b" chunked", b"0\r\n\r\n" + SMUGGLED),
            (b"Transfer-\x00Encoding:", b" chunked", b"0\r\n\r\n" + SMUGGLED),
            (b"Transfer-Encoding\xa0:", b" chunked", b"0\r\n\r\n" + SMUGGLED),
            (b" Transfer-Encoding:", b" chunked", b"0\r\n\r\n" + SMUGGLED),
            (b"\x0bTransfer-Encoding:", b" chunked", b"0\r\n\r\n" + SMUGGLED),
            (b"Content-Length :", b" " + LENGTH, SMUGGLED),
            (b"Content-Length\t:", b" " + LENGTH, SMUGGLED),
            (b" Content-Length:", b" " + LENGTH, SMUGGLED),
            (b"Content-Length", b" " + LENGTH, SMUGGLED),
            (b"Content Length:", b" " + LENGTH, SMUGGLED),
            (b":", b" " + LENGTH, SMUGGLED),
        )
    ],
    # lines
    ("a folded coding", framed(b"Transfer-Encoding:\r\n chunked", body=b"0\r\n\r\n" + SMUGGLED)),
    ("a folded length", framed(b"Content-Length:\r\n " + LENGTH)),
    ("a length behind a fold", framed(b"X: a\r\n " + SIZED)),
    ("a length behind a bare CR", framed(b"X: a\r" + SIZED)),
    ("a bare CR at the end of a length", framed(SIZED + b"\r")),
    ("a coding behind a bare CR", framed(b"X: a\r" + CHUNKED, body=b"0\r\n\r\n" + SMUGGLED)),
    ("a null in a line", framed(b"X: a\x00b", SIZED)),
    # chunks
    *[(f"a chunk {head!r}", framed(CHUNKED, body=head + SMUGGLED)) for head in ODD_CHUNKS],
    ("a trailer of a length", framed(CHUNKED, body=b"0\r\n" + SIZED + b"\r\n\r\n")),
    # all is well, and the smuggled request is a body
    ("a body", framed(SIZED)),
    ("chunks", framed(CHUNKED, body=CHUNK)),
    ("chunks in capitals", framed(b"TRANSFER-ENCODING: CHUNKED", body=CHUNK)),
    ("chunks with extensions", framed(CHUNKED, body=CHUNK.replace(b"\r\n", b";a=b\r\n", 1))),
    ("a length with zeros", framed(b"Content-Length: 000" + LENGTH)),
    ("a body of another kind", framed(b"Expect: 100-continue", SIZED)),
]
LINES = [b"POST /v1/playback", b"POST /v1/steer", b"GET /v1/steer?title=t", b"POST /v1/cmcd", b"DELETE /healthz"]
ANSWERS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


@pytest.fixture(scope="module")
def paths(
    tmp_path_factory: pytest.TempPathFactory, publish: Callable[..., Path]
) -> Iterator[tuple[asyncio.Runner, tuple[Listening, Listening]]]:
    """Return an event loop, and playback in it with the fast path and without."""
    follower = Follower(publish(tmp_path_factory.mktemp("smuggling") / "state"), 0.1)
    follower.step()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        both = Listening(follower, Settings()), Listening(follower, Settings(fast_path=False))
        for listening in both:
            runner.run(listening.start())
        yield runner, both
        for listening in both:
            runner.run(listening.stop())


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlApp]:
    """Return a control process that listens over TCP."""
    with running_control_app(Settings(state=tmp_path_factory.mktemp("smuggling") / "control")) as result:
        yield result


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in ANSWERS.findall(answer)]


def test_there_are_as_many_as_were_tried_before() -> None:
    assert len(ROWS) >= 77
    assert len({rest for _, rest in ROWS}) == len(ROWS)


@pytest.mark.parametrize("rest", [row[1] for row in ROWS], ids=[row[0] for row in ROWS])
def test_no_body_or_head_of_playback_is_a_request(
    paths: tuple[asyncio.Runner, tuple[Listening, Listening]], rest: bytes
) -> None:
    runner, both = paths
    for line in LINES:
        whole = line + b" HTTP/1.1\r\n" + rest
        middle = len(whole) - len(SMUGGLED)
        for parts in ([whole], [whole[:middle], whole[middle:]], [whole[: middle - 3], whole[middle - 3 :]]):
            fast, fallback = (undated(runner.run(ended(listening, parts))) for listening in both)
            assert fast == fallback
            assert b'"ready"' not in fast
            assert len([status for status in statuses(fast) if status != 100]) <= 1, fast


async def ended(listening: Listening, parts: list[bytes]) -> bytes:
    """Return all that comes back when a client sends the parts and then no more."""
    reader, writer = await asyncio.open_connection(*listening.address)
    result = b""
    with contextlib.suppress(ConnectionError):
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        writer.write_eof()
        async with asyncio.timeout(5):
            while part := await reader.read(1 << 16):
                result += part
    writer.close()
    return result


@pytest.mark.parametrize(
    "more", [b"", b"Connection: keep-alive\r\n", b"Content-Length: 5\r\nConnection: keep-alive\r\n"]
)
def test_http_1_0_has_no_chunks(
    paths: tuple[asyncio.Runner, tuple[Listening, Listening]], control: ControlApp, more: bytes
) -> None:
    runner, both = paths
    rest = b" HTTP/1.0\r\n" + more + framed(CHUNKED, body=b"0\r\n\r\n" + SMUGGLED)
    for line in LINES:
        fast, fallback = (undated(runner.run(ended(listening, [line + rest]))) for listening in both)
        assert fast == fallback
        assert statuses(fast) == [400]
    with socket.create_connection(control.address, timeout=5) as connection:
        connection.sendall(b"GET /healthz" + rest)
        assert statuses(connection.recv(1 << 16)) == [400]


REQUEST_LINES = [
    b"GET\t/healthz\tHTTP/1.1",
    b"GET /healthz HTTP/1.1 HTTP/1.1",
    b"GET /healthz\x00 HTTP/1.1",
    b"GET\x00/healthz HTTP/1.1",
    b"GET /healthz HTTP/1.1\r",
    b"GET /healthz HTTP/11",
    b"GET /healthz HTTP/1.10",
    b"GET /healthz HTTP/ 1.1",
    b"GET /healthz",
    b"/healthz HTTP/1.1",
    b"GET HTTP/1.1",
    b"G\xc3\x89T /healthz HTTP/1.1",
    b" GET /healthz HTTP/1.1",
    b"GET /healthz\x0bHTTP/1.1",
]


@pytest.mark.parametrize("line", REQUEST_LINES)
def test_a_line_that_is_no_request_line_ends_the_connection(
    paths: tuple[asyncio.Runner, tuple[Listening, Listening]], line: bytes
) -> None:
    runner, both = paths
    whole = line + b"\r\nHost: x\r\n\r\n" + SMUGGLED
    fast, fallback = (undated(runner.run(ended(listening, [whole]))) for listening in both)
    assert fast == fallback
    assert b'"ready"' not in fast
    assert statuses(fast) in ([400], [])


@pytest.mark.parametrize("rest", [row[1] for row in ROWS], ids=[row[0] for row in ROWS])
def test_no_body_or_head_of_control_is_a_request(control: ControlApp, rest: bytes) -> None:
    rest = rest.replace(b"/readyz", b"/health")  # of the same length; answered with 404 where it is a request
    for line in (b"POST /v1/reports", b"GET /healthz", b"POST /v1/overrides"):
        with socket.create_connection(control.address, timeout=5) as connection:
            answer = b""
            with contextlib.suppress(ConnectionError):
                connection.sendall(line + b" HTTP/1.1\r\n" + rest)
                connection.shutdown(socket.SHUT_WR)
                while part := connection.recv(1 << 16):
                    answer += part
        assert 404 not in statuses(answer), answer
        assert len([status for status in statuses(answer) if status != 100]) <= 1, answer
