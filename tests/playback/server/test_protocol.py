"""A connection from the outside: the order of answers, and the limits in size and time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from steering.decision.snapshot import Snapshot
from steering.playback.server import protocol
from steering.playback.server.connections import Connections
from steering.playback.server.follower import Follower
from steering.playback.server.protocol import HttpProtocol
from steering.playback.server.states import BODY_S, HEAD_S, IDLE_S, READ_S, State
from steering.settings import Settings
from steering.uvicorn_adapter import SLICE, FallbackPath
from tests.support.playback_app import Listening
from tests.support.steering_rules import broken_rules

pytestmark = pytest.mark.anyio

FAST = b"GET /v1/steer?title=t&ip=203.0.113.7 HTTP/1.1\r\nHost: x\r\n\r\n"
FALLBACK = b"GET /v1/steer?title=t&ip=203.0.113.7&explain=1 HTTP/1.1\r\nHost: x\r\n\r\n"
PLAIN = b"GET /v1/steer?title=t HTTP/1.1\r\n\r\n"
LAST = b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n"


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return ("asyncio", {"use_uvloop": request.param == "uvloop"})


@pytest.fixture
async def listening(state_folder: Path) -> AsyncIterator[Listening]:
    follower = Follower(state_folder, 0.1)
    follower.step()
    result = Listening(follower, Settings(max_connections=2))
    await result.start()
    yield result
    await result.stop()


async def opened(listening: Listening) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(*listening.address)


async def wait(connections: Connections, seconds: int) -> None:
    """Let so many seconds pass for the server, none for us."""
    for _ in range(seconds):
        await connections.tick()
    await asyncio.sleep(0.01)


async def answers(reader: asyncio.StreamReader, count: int) -> list[tuple[int, bytes]]:
    """Return the (status, body) of the next answers."""
    result = []
    for _ in range(count):
        head = await reader.readuntil(b"\r\n\r\n")
        lines = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:-2])
        result.append((int(head[9:12]), await reader.readexactly(int(lines["content-length"]))))
    return result


async def test_answers_leave_in_the_order_of_their_requests(listening: Listening) -> None:
    reader, writer = await opened(listening)
    writer.write(FAST + FALLBACK + FAST + FALLBACK + FAST)
    bodies = [json.loads(body) for _, body in await answers(reader, 5)]
    assert ["explain" in body for body in bodies] == [False, True, False, True, False]
    assert all(body["targets"] == bodies[0]["targets"] for body in bodies)
    writer.close()


async def test_after_a_request_of_the_fallback_path_the_fast_path_is_asked_first_again(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = await opened(listening)
    writer.write(FALLBACK)
    await answers(reader, 1)
    monkeypatch.setattr(FallbackPath, "data_received", None)  # a call of it now fails
    writer.write(FAST + FAST)
    assert [status for status, _ in await answers(reader, 2)] == [200, 200]
    writer.close()


async def test_a_request_in_parts_is_answered_when_it_is_whole(listening: Listening) -> None:
    reader, writer = await opened(listening)
    for index in range(len(FAST)):
        writer.write(FAST[index : index + 1])
        await asyncio.sleep(0)
    writer.write(FAST)
    assert [status for status, _ in await answers(reader, 2)] == [200, 200]
    writer.close()


async def test_a_request_for_another_protocol_is_answered_in_this_one(listening: Listening) -> None:
    upgrade = FAST.replace(b"Host: x", b"Connection: upgrade\r\nUpgrade: websocket")
    result = await listening.exchange([upgrade * 2000 + LAST], patience_s=20.0)
    assert result.count(b"HTTP/1.1 200 OK") == 2001


SMUGGLED = b"GET /readyz HTTP/1.1\r\n\r\n"
BODIES = [
    ("a body", b"POST", b"Upgrade: h2c\r\nContent-Length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED),
    ("a body of GET", b"GET", b"Upgrade: websocket\r\nContent-Length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED),
    ("chunks", b"POST", b"Upgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % len(SMUGGLED) + SMUGGLED + b"\r\n0\r\n\r\n"),
    ("a tunnel", b"CONNECT", b"Content-Length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED),
    ("a tunnel without", b"CONNECT", b"Host: x\r\n\r\n" + SMUGGLED),
]  # fmt: skip


@pytest.mark.parametrize(("name", "method", "rest"), BODIES, ids=[row[0] for row in BODIES])
@pytest.mark.parametrize("before", [b"", FALLBACK])
async def test_a_body_is_never_a_request(
    listening: Listening, name: str, method: bytes, rest: bytes, before: bytes
) -> None:
    data = before + method + b" /v1/steer?title=t HTTP/1.1\r\nConnection: upgrade\r\n" + rest
    for parts in ([data + LAST], [data[:-30], data[-30:], LAST]):
        result = await listening.exchange(parts)
        assert result.count(b"HTTP/1.1 ") == 1 + bool(before), result
        assert b'"ready"' not in result


@pytest.mark.parametrize("version", [b"", b" HTTP/0.9", b" HTTP/2.0", b" HTTP/1.2", b" HTTP/9.9"])
async def test_other_versions_of_http_are_refused(listening: Listening, version: bytes) -> None:
    result = await listening.exchange([b"GET /v1/steer?title=t" + version + b"\r\n\r\n"])
    assert result.startswith(b"HTTP/1.1 400 Bad Request\r\n")


@pytest.mark.parametrize("size", [17_000, 300_000])
@pytest.mark.parametrize("whole", [True, False])
async def test_a_head_of_over_16_kb_gets_431(listening: Listening, size: int, whole: bool) -> None:
    data = b"GET /v1/steer?title=t HTTP/1.1\r\nCookie: " + b"x" * size + (b"\r\n\r\n" if whole else b"")
    result = await listening.exchange([data[at : at + 9000] for at in range(0, len(data), 9000)])
    assert result.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert json.loads(result.partition(b"\r\n\r\n")[2])["detail"] == "a head of over 16384 bytes"
    many = b"GET /v1/steer?title=t HTTP/1.1\r\n" + b"A: b\r\n" * 4000 + b"\r\n"
    assert (await listening.exchange([many])).startswith(b"HTTP/1.1 431 ")


async def test_a_tunnel_is_refused_and_closed_or_answered(listening: Listening) -> None:
    for target in (b"example.org:443", b"/v1/steer?title=t"):
        result = await listening.exchange([b"CONNECT " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n" + LAST])
        assert result[9:12] in (b"400", b"405"), result


async def test_bytes_that_are_no_request_are_refused_after_the_answers_before_them(listening: Listening) -> None:
    for before in (FAST, FALLBACK):
        result = await listening.exchange([before + b"\x00\x01garbage\r\n\r\n"])
        assert result.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"HTTP/1.1 400 Bad Request\r\n" in result
        assert result.endswith(b'"no HTTP/1.1 request that can be read"}')


async def test_a_head_that_comes_drop_by_drop_is_cut_off(listening: Listening) -> None:
    reader, writer = await opened(listening)
    writer.write(b"GET /v1/st")
    await asyncio.sleep(0.01)
    for drop in range(HEAD_S):
        writer.write(b"eer"[drop % 3 : drop % 3 + 1])
        await wait(listening.connections, 1)
    assert len(listening.connections.open) == 1
    await wait(listening.connections, 1)
    assert not listening.connections.open
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await reader.readexactly(1)
    writer.close()


async def test_an_idle_connection_is_closed_and_one_in_use_is_not(listening: Listening) -> None:
    idle, used = await opened(listening), await opened(listening)
    for reader, writer in (idle, used):
        writer.write(FALLBACK)
        await answers(reader, 1)
    await wait(listening.connections, IDLE_S)
    used[1].write(FAST)
    await answers(used[0], 1)
    await wait(listening.connections, 1)
    assert await idle[0].read() == b""
    used[1].write(FAST)
    await answers(used[0], 1)
    for _, writer in (idle, used):
        writer.close()


async def test_a_body_that_does_not_come_is_not_waited_for(listening: Listening) -> None:
    reader, writer = await opened(listening)
    writer.write(b"POST /v1/steer HTTP/1.1\r\nContent-Length: 100\r\n\r\nhalf")
    await asyncio.sleep(0.05)
    await wait(listening.connections, BODY_S + 1)
    assert not listening.connections.open
    assert (await reader.read()).startswith(b"HTTP/1.1 405 ")
    writer.close()


async def test_a_body_that_comes_drop_by_drop_is_not_waited_for_either(listening: Listening) -> None:
    reader, writer = await opened(listening)
    writer.write(b"POST /v1/steer HTTP/1.1\r\nContent-Length: 100\r\n\r\n")
    await answers(reader, 1)
    for _ in range(BODY_S):
        writer.write(b"x")
        await wait(listening.connections, 1)
    assert listening.connections.open
    await wait(listening.connections, 1)
    assert not listening.connections.open
    writer.close()


HALF = (
    b"POST /v1/playback HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n"
    + b'{"files'
)


async def test_a_playback_body_that_does_not_come_is_not_waited_for(listening: Listening) -> None:
    reader, writer = await opened(listening)
    writer.write(HALF)
    await asyncio.sleep(0.05)
    for _ in range(3):  # drop by drop
        writer.write(b" ")
        await wait(listening.connections, BODY_S // 3)
    (connection,) = listening.connections.open
    assert connection.state is State.BODY, "the compiled reader waits for it"
    await wait(listening.connections, 1)
    assert not listening.connections.open
    assert await reader.read() == b""
    writer.close()


async def test_the_rest_of_a_playback_body_is_waited_for_at_shutdown(listening: Listening) -> None:
    reader, writer = await opened(listening)
    writer.write(HALF)
    await asyncio.sleep(0.05)
    ending = asyncio.create_task(listening.stop())
    await asyncio.sleep(0.05)
    writer.write(b'":["a"]}')
    ((status, body),) = await answers(reader, 1)
    assert (status, list(json.loads(body)["files"])) == (200, ["a"])
    assert await reader.read() == b""
    await ending
    writer.close()


@contextlib.asynccontextmanager
async def deaf(listening: Listening) -> AsyncIterator[tuple[socket.socket, HttpProtocol]]:
    """Give a client that reads nothing by itself, and the server's side of its connection."""
    with socket.socket() as client:
        client.setblocking(False)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await asyncio.get_running_loop().sock_connect(client, listening.address)
        await asyncio.sleep(0.01)
        (connection,) = listening.connections.open
        yield client, connection


@pytest.mark.parametrize("request_", [FAST, FALLBACK, FAST * 999 + FALLBACK], ids=["fast", "fallback", "mixed"])
async def test_a_client_that_never_reads_is_cut_off_and_holds_little_memory(
    listening: Listening, request_: bytes
) -> None:
    async with deaf(listening) as (client, connection):
        while connection.state is not State.STUCK:
            with contextlib.suppress(BlockingIOError):
                client.send(request_ * (60_000 // len(request_)))
            await asyncio.sleep(0)
        for _ in range(200):  # it goes on sending
            with contextlib.suppress(BlockingIOError):
                client.send(request_ * (60_000 // len(request_)))
            await asyncio.sleep(0)
        assert connection.transport.get_write_buffer_size() < 100_000
        await wait(listening.connections, READ_S)
        assert listening.connections.open
        await wait(listening.connections, 1)
        assert not listening.connections.open


@pytest.mark.parametrize(("request_", "count"), [(FAST, 20_000), (FALLBACK, 2000)], ids=["fast", "fallback"])
async def test_a_client_that_reads_late_gets_every_answer_in_order(
    listening: Listening, request_: bytes, count: int
) -> None:
    asked = b"".join(request_.replace(b"title=t", b"title=%d" % number) for number in range(count))
    async with deaf(listening) as (client, connection):
        client.settimeout(30)
        sending = asyncio.create_task(asyncio.to_thread(client.sendall, asked + LAST))
        async with asyncio.timeout(30):
            while connection.state is not State.STUCK:
                await asyncio.sleep(0.001)
        reading = asyncio.to_thread(lambda: b"".join(iter(lambda: client.recv(1 << 16), b"")))
        result, _ = await asyncio.gather(reading, sending)
    titles = re.findall(rb'"targets":\[\{"url":"[^"]*/v/([0-9]+)"', result)
    assert [int(title) for title in titles] == list(range(count))


async def test_a_client_that_does_not_read_the_last_answer_is_cut_off(listening: Listening) -> None:
    async with deaf(listening) as (client, connection):
        connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        while not connection.transport.get_write_buffer_size():
            client.send(FAST)
            await asyncio.sleep(0.01)
        client.send(LAST)
        await asyncio.sleep(0.05)
        assert connection.state is not State.STUCK
        assert connection.transport.is_closing()
        await wait(listening.connections, READ_S + 1)
        assert listening.connections.open
        await wait(listening.connections, 1)
        assert not listening.connections.open


@pytest.mark.parametrize("count", [1, 3, 300])
async def test_a_client_that_sends_no_more_gets_the_answers_that_it_waits_for(listening: Listening, count: int) -> None:
    for request_ in (FAST, FALLBACK, FAST + FALLBACK):
        reader, writer = await opened(listening)
        writer.write(request_ * count)
        writer.write_eof()
        result = await reader.read()
        assert result.count(b"HTTP/1.1 200 OK\r\n") == count * request_.count(b"GET")
        assert result.endswith(b"}")
        writer.close()


HALVES = [
    ("a head", FALLBACK + FAST[:30], [[200]]),
    ("a body", FALLBACK + b"POST /v1/steer HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf", [[200, 400], [200, 405]]),
    ("a line", b"GET /", [[]]),
    ("nothing", b"", [[]]),
]


@pytest.mark.parametrize(("name", "data", "statuses"), HALVES, ids=[row[0] for row in HALVES])
async def test_a_client_that_ends_in_the_middle_is_not_waited_for(
    listening: Listening, name: str, data: bytes, statuses: list[list[int]]
) -> None:
    reader, writer = await opened(listening)
    writer.write(data)
    writer.write_eof()
    result = await reader.read()
    assert [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", result)] in statuses
    writer.close()


async def test_requests_that_wait_for_a_slow_answer_wait_unparsed(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    explaining = asyncio.Event()
    monkeypatch.setattr("anyio.to_thread.run_sync", lambda _: slow(explaining))
    reader, writer = await opened(listening)
    writer.write(FALLBACK + (FAST + FALLBACK) * 2000)
    await asyncio.sleep(0.05)
    (connection,) = listening.connections.open
    assert connection.fallback is not None
    assert len(connection.fallback.pipeline) < SLICE // len(FAST)
    await wait(listening.connections, IDLE_S + 1)  # it is our turn, not the client's
    explaining.set()
    statuses = [status for status, _ in await answers(reader, 4001)]
    assert set(statuses) == {200}
    assert connection.fallback.idle
    writer.close()


async def slow(until: asyncio.Event) -> str:
    await until.wait()
    return "{}"


BROKEN_BODY = b"POST /v1/steer HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_a_request_with_a_broken_body_has_one_answer(listening: Listening) -> None:
    at_once = await listening.exchange([BROKEN_BODY + b"zz\r\n" + FAST])
    after_others = await listening.exchange([FALLBACK + FALLBACK + BROKEN_BODY + b"zz\r\n" + FAST])
    reader, writer = await opened(listening)
    writer.write(BROKEN_BODY)
    (late,) = await answers(reader, 1)
    writer.write(b"zz\r\n" + FAST)
    assert await reader.read() == b""
    writer.close()
    result = [[int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", each)] for each in (at_once, after_others)]
    assert (result, late[0]) == ([[400], [200, 200, 400]], 405)


async def test_a_line_behind_a_body_is_no_header(listening: Listening) -> None:
    trailed = FALLBACK.replace(b"&ip=203.0.113.7", b"").replace(b"Host: x", b"Transfer-Encoding: chunked")
    result = await listening.exchange([trailed + b"0\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n" + LAST])
    assert b'"address":"127.0.0.1"' in result
    header = trailed.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n")
    assert (await listening.exchange([header + b"0\r\n\r\n" + LAST])).startswith(b"HTTP/1.1 403 ")


async def test_connections_beyond_the_limit_get_the_fallback_and_are_closed(listening: Listening) -> None:
    kept = [await opened(listening) for _ in range(2)]
    await asyncio.sleep(0.01)
    closing = PLAIN.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    for request_ in (FAST, closing, PLAIN.replace(b"HTTP/1.1", b"HTTP/1.0")):
        head, _, body = (await listening.exchange([request_])).partition(b"\r\n\r\n")
        assert b"\r\nconnection: close" in head
        assert json.loads(body)["targets"] == [{"url": "https://origin.example/v/t", "fallback": True}]
    result = await listening.exchange([FALLBACK])
    assert result.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nretry-after: 1\r\n" in result
    for reader, writer in kept:
        writer.write(FAST)
        assert (await answers(reader, 1))[0][0] == 200
        writer.close()


async def test_players_beyond_the_limit_get_a_static_steering_manifest(listening: Listening) -> None:
    kept = [await opened(listening) for _ in range(2)]
    await asyncio.sleep(0.01)
    for target in (b"/v1/hls/video/t?_HLS_pathway=x", b"/v1/dash/none/t", b"/v1/hls/%ff/t"):
        head, _, body = (await listening.exchange([b"GET %b HTTP/1.1\r\n\r\n" % target])).partition(b"\r\n\r\n")
        line, *rows = head.decode().split("\r\n")
        assert line == "HTTP/1.1 200 OK"
        assert broken_rules(200, dict(row.split(": ", 1) for row in rows), body) == []
        assert json.loads(body)["TTL"] >= 300
    assert (await listening.exchange([b"HEAD /v1/hls/video/t HTTP/1.1\r\n\r\n"])).endswith(b"connection: close\r\n\r\n")
    for target in (b"/v1/hls/video/t/master.m3u8", b"/v1/other/video/t"):
        assert (await listening.exchange([b"GET %b HTTP/1.1\r\n\r\n" % target])).startswith(b"HTTP/1.1 503 ")
    for _, writer in kept:
        writer.close()


async def test_overload_gives_trusted_callers_the_fallback_for_others_too(listening: Listening) -> None:
    kept = [await opened(listening) for _ in range(2)]
    await asyncio.sleep(0.01)
    hops = b"X-Forwarded-For: 127.0.0.2\r\nx-forwarded-for:127.0.0.3"
    stranger = hops.replace(b"127.0.0.2", b"198.51.100.7")
    for lines, status in (
        (b"Host: x", 200),
        (b"Connection: close", 200),
        (b"Connection: close\r\n" + hops, 200),
        (b"Connection: close\r\n" + stranger, 503),
        (hops, 200),
        (stranger, 503),
    ):
        for version in (b"HTTP/1.1", b"HTTP/1.0"):
            request_ = FAST.replace(b"Host: x", lines).replace(b"HTTP/1.1", version)
            result = await listening.exchange([request_])
            assert result.startswith(b"HTTP/1.1 %d " % status), (lines, version)
    assert (await listening.exchange([FAST[:-2]])).startswith(b"HTTP/1.1 503 ")
    for _, writer in kept:
        writer.close()


PLAYED = b"/v1/hls/video/t?_HLS_pathway=c001-bom001&declared=c001-bom001%2Cc002-bom001"


async def test_overload_moves_no_player_off_a_good_appliance(listening: Listening) -> None:
    """Beyond the limit a player gets the answer of the fast path with a long TTL, or the pathways that it brings."""
    assert listening.connections.snapshot is not None
    plain = await listening.exchange([b"GET %b HTTP/1.1\r\nConnection: close\r\n\r\n" % PLAYED])
    steered = json.loads(plain.partition(b"\r\n\r\n")[2])
    kept = [await opened(listening) for _ in range(2)]
    await asyncio.sleep(0.01)
    for line, expected in (
        (b"GET %b HTTP/1.1\r\n\r\n" % PLAYED, steered["PATHWAY-PRIORITY"]),
        (b"GET %b&failed=c002-bom001 HTTP/1.1\r\n\r\n" % PLAYED, ["c001-bom001", "cdn", "c002-bom001"]),
        (b"GET %b&family=5 HTTP/1.0\r\n\r\n" % PLAYED, ["c001-bom001", "c002-bom001", "cdn"]),
        (b"GET %b HTTP/1.1\r\nHo" % PLAYED.replace(b"c001", b"c002", 1), ["c002-bom001", "c001-bom001", "cdn"]),
        ("GET /v1/hls/caf\xe9 x/t?declared=a,b&_HLS_pathway=b HTTP/1.1\r\n\r\n".encode(), ["b", "a", "cdn"]),
    ):
        head, _, body = (await listening.exchange([line])).partition(b"\r\n\r\n")
        assert b"\r\nconnection: close" in head
        assert json.loads(body)["PATHWAY-PRIORITY"] == expected
        assert json.loads(body)["TTL"] >= 270
    for _, writer in kept:
        writer.close()


TARGETS = [
    b"/v1/hls/video/caf\xc3\xa9",
    b"/v1/hls/video/a b?_HLS_pathway=c001 x",
    b"/v1/dash/video/\xff\xfe?session=\xe9",
    b"/v1/hls/ / ",
    b"/v1/hls/video/t HTTP/1.1",
]


@pytest.mark.parametrize("target", TARGETS)
async def test_players_targets_are_answered_whatever_they_hold(listening: Listening, target: bytes) -> None:
    request_ = b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % target
    result = await listening.exchange([request_ + FALLBACK + request_ + LAST])
    assert result.count(b"HTTP/1.1 200 OK\r\n") == result.count(b"HTTP/1.1 ") >= 3, result
    assert result.count(b"PATHWAY-PRIORITY") == 2
    other = await listening.exchange(
        [request_.replace(b"/v1/hls/", b"/v1/other/").replace(b"/v1/dash/", b"/v1/other/") + LAST]
    )
    assert not other.startswith(b"HTTP/1.1 2")


async def test_far_beyond_the_limit_connections_are_dropped(listening: Listening) -> None:
    held = [await opened(listening) for _ in range(4)]
    await asyncio.sleep(0.01)
    reader, writer = await opened(listening)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await reader.readexactly(1)
    assert len(listening.connections.open) == 4
    for _, each in [*held, (reader, writer)]:
        each.close()


async def test_when_too_much_is_pending_steering_goes_on_with_the_fallback(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "MAX_PENDING", 0)
    assert (await listening.exchange([FALLBACK])).startswith(b"HTTP/1.1 503 ")
    result = await listening.exchange([FAST + LAST])
    assert result.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_a_request_in_flight_at_shutdown_is_answered(listening: Listening) -> None:
    reader, writer = await opened(listening)
    writer.write(FALLBACK)
    await asyncio.sleep(0.01)
    ending = asyncio.create_task(listening.stop())
    assert (await answers(reader, 1))[0][0] == 200
    assert await reader.read() == b""
    await ending
    writer.close()


@pytest.fixture
async def behind_a_proxy(state_folder: Path) -> AsyncIterator[Listening]:
    follower = Follower(state_folder, 0.1)
    follower.step()
    result = Listening(follower, Settings(proxy_protocol=True))
    await result.start()
    yield result
    await result.stop()


RELAYED = [
    ("version 1", b"PROXY TCP4 203.0.113.7 10.0.0.1 5 80\r\n", "203.0.113.7"),
    ("version 1, IPv6", b"PROXY TCP6 2001:db8::1 2001:db8::2 5 80\r\n", "2001:db8::1"),
    ("unknown", b"PROXY UNKNOWN\r\n", "0.0.0.0"),
    (
        "version 2",
        b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes([203, 0, 113, 7, 10, 0, 0, 1, 0, 5, 0, 80]),
        "203.0.113.7",
    ),
    ("no client", b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00", "127.0.0.1"),
]


@pytest.mark.parametrize(("name", "header", "client"), RELAYED, ids=[row[0] for row in RELAYED])
@pytest.mark.parametrize("parts", [1, 7])
async def test_the_client_that_a_trusted_proxy_relays_is_the_client_on_both_paths(
    behind_a_proxy: Listening, snapshot: Snapshot, name: str, header: bytes, client: str, parts: int
) -> None:
    expected = snapshot.steer(client, "t", service="video")
    for request in (PLAIN, PLAIN.replace(b"HTTP/1.1", b"HTTP/1.1\r\nConnection: close")):
        data = header + request + LAST
        step = -(-len(data) // parts)
        result = await behind_a_proxy.exchange([data[at : at + step] for at in range(0, len(data), step)])
        assert expected in result
    spoofed = header + PLAIN.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 198.51.100.1\r\n\r\n")
    result = await behind_a_proxy.exchange([spoofed + LAST])
    forwarded = snapshot.steer("198.51.100.1", "t", service="video")
    assert (forwarded if name == "no client" else expected) in result


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN 203.0.113.7 10.0.0.1 5 80\r\n",
        b"\r\n\r\n\x00\r\nQUIT\n\x21\x00\x00\x00",
        b"\r\n\r\n\x00\r\nQUIT\n\x21\x31\x00\xd8" + bytes(216),
    ],
)
async def test_a_client_that_a_proxy_does_not_know_is_not_trusted(behind_a_proxy: Listening, header: bytes) -> None:
    body = b'{"files":["a"],"ip":"203.0.113.7"}'
    for request in (
        FAST,
        FAST.replace(b"Host: x", b"Connection: close"),
        FALLBACK,
        b"GET /metrics HTTP/1.1\r\n\r\n",
        b"POST /v1/playback HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body),
    ):
        result = await behind_a_proxy.exchange([header + request + LAST])
        assert result.startswith(b"HTTP/1.1 403 "), request


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\n\r\n", b"PROXY TCP4 1.2.3 x\r\n", b"\x16\x03\x01"])
async def test_a_trusted_peer_without_a_proxy_header_is_cut_off(behind_a_proxy: Listening, start: bytes) -> None:
    assert await behind_a_proxy.exchange([start]) == b""


async def test_a_proxy_header_comes_in_time_or_the_connection_is_cut_off(behind_a_proxy: Listening) -> None:
    _, writer = await opened(behind_a_proxy)
    writer.write(b"PROXY TCP4 203.")
    await asyncio.sleep(0.01)
    await wait(behind_a_proxy.connections, HEAD_S)
    assert behind_a_proxy.connections.open
    await wait(behind_a_proxy.connections, 1)
    assert not behind_a_proxy.connections.open
    writer.close()
