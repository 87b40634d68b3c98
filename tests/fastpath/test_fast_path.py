"""The fast_path on its own: what it takes, what it leaves, and that no bytes can upset it. Parity has a test of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _fastpath.client import Trust
from _fastpath.fast_path import MAX_HEAD, FastPath, Peer
from steering.decision.snapshot import Snapshot
from steering.playback.answers.players import compiled

LOOPBACK = Peer(bytes([127, 0, 0, 1]), True)
STRANGER = Peer(bytes([203, 0, 113, 7]), False)
TRUSTED = Trust([ip_network("127.0.0.0/8"), ip_network("::1/128")])
REQUEST = b"GET /v1/steer?title=80100172&n=2&ip=203.0.113.7 HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 127.0.0.1\r\n\r\n"


@pytest.fixture
def fast_path(snapshot: Snapshot) -> FastPath:
    result = FastPath(TRUSTED, "x-forwarded-for")
    result.serve(snapshot.picker, snapshot.services, "video", compiled(snapshot, 0.25))
    return result


def body_of(answer: bytes | None) -> bytes:
    assert answer is not None
    head, _, body = answer.partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head
    return body


def test_an_answer_is_the_snapshots_with_its_head_before_it(fast_path: FastPath, snapshot: Snapshot) -> None:
    fast_path.set_date(b"Mon, 23 Nov 2026 00:00:00 GMT")
    result = fast_path.answer(REQUEST, 0, LOOPBACK)
    expected = snapshot.steer("203.0.113.7", "80100172", service="video", n=2)
    assert (
        result
        == (
            b"HTTP/1.1 200 OK\r\ndate: Mon, 23 Nov 2026 00:00:00 GMT\r\ncache-control: no-store\r\n"
            b"access-control-allow-origin: *\r\ncontent-length: %d\r\ncontent-type: application/json\r\n\r\n"
            % len(expected)
        )
        + expected
    )
    assert fast_path.end == len(REQUEST)


def test_requests_in_one_packet_are_answered_one_after_another(fast_path: FastPath) -> None:
    data = REQUEST + b"GET /healthz HTTP/1.1\r\n\r\n" + REQUEST[:-1]
    assert body_of(fast_path.answer(data, 0, LOOPBACK))
    assert body_of(fast_path.answer(data, fast_path.end, LOOPBACK)) == b"ok\n"
    at = fast_path.end
    assert fast_path.answer(data, at, LOOPBACK) is None
    assert data[at:] == REQUEST[:-1]


def test_nothing_is_answered_before_the_last_byte_of_a_head(fast_path: FastPath) -> None:
    for end in range(len(REQUEST)):
        assert fast_path.answer(REQUEST[:end], 0, LOOPBACK) is None
    assert fast_path.answer(REQUEST, len(REQUEST), LOOPBACK) is None
    assert fast_path.answer(REQUEST, len(REQUEST) + 99, LOOPBACK) is None
    assert fast_path.answer(REQUEST, -1, LOOPBACK) is None


def test_only_trusted_proxies_name_the_client(fast_path: FastPath, snapshot: Snapshot) -> None:
    spoofed = b"GET /v1/steer?title=t HTTP/1.1\r\nX-Forwarded-For: 198.51.100.1\r\n\r\n"
    own = snapshot.steer("203.0.113.7", "t", service="video")
    assert body_of(fast_path.answer(spoofed, 0, STRANGER)) == own
    assert (
        body_of(fast_path.answer(spoofed, 0, LOOPBACK)) == snapshot.steer("198.51.100.1", "t", service="video") != own
    )
    assert fast_path.answer(REQUEST, 0, STRANGER) is None  # ip= is refused, on the fallback path


NOT_MINE = [
    ("another path", REQUEST.replace(b"/v1/steer", b"/v1/steep")),
    ("another method", REQUEST.replace(b"GET", b"PUT")),
    ("HTTP/1.0", REQUEST.replace(b"HTTP/1.1", b"HTTP/1.0")),
    ("explain", REQUEST.replace(b"&n=2", b"&explain=1")),
    ("redirect", REQUEST.replace(b"&n=2", b"&redirect=0")),
    ("n out of range", REQUEST.replace(b"n=2", b"n=9")),
    ("a title twice", REQUEST.replace(b"n=2", b"title=2")),
    ("no title", REQUEST.replace(b"title=", b"tilte=")),
    ("a title not ASCII", REQUEST.replace(b"80100172", b"%C3%A9")),
    ("a wrong escape", REQUEST.replace(b"80100172", b"%4")),
    ("a title too long", REQUEST.replace(b"80100172", b"x" * 257)),
    ("an unknown service", REQUEST.replace(b"n=2", b"service=nosuch")),
    ("an address that is none", REQUEST.replace(b"ip=203", b"ip=x03")),
    ("a hop that is none", REQUEST.replace(b"127.0.0.1", b"unknown")),
    ("a body", REQUEST.replace(b"Host: x", b"Content-Length: 1")),
    ("Expect", REQUEST.replace(b"Host: x", b"expect: 100-continue")),
    ("Upgrade", REQUEST.replace(b"Host: x", b"UPGRADE: h2c")),
    ("Connection: close", REQUEST.replace(b"Host: x", b"Connection: close")),
    ("a folded line", REQUEST.replace(b"Host: x", b"Host: x\r\n y")),
    ("a bare line feed", REQUEST.replace(b"Host: x\r\n", b"Host: x\n")),
    ("a space before a colon", REQUEST.replace(b"Host:", b"Host :")),
    ("a control character", REQUEST.replace(b"Host: x", b"Host: \x00")),
    ("a fragment", REQUEST.replace(b"&n=2", b"#n=2")),
    ("a head over 16 kB", REQUEST.replace(b"Host: x", b"Host: " + b"x" * MAX_HEAD)),
]  # fmt: skip


POLL = b"GET /v1/hls/video/80100172?_HLS_pathway=c001-bom001&_HLS_throughput=5&session=s HTTP/1.1\r\nHost: x\r\n\r\n"
NOT_MINE += [
    ("a player's playlist", POLL.replace(b"80100172", b"80100172/master.m3u8")),
    ("a player without a title", POLL.replace(b"/80100172", b"")),
    ("a player's empty title", POLL.replace(b"80100172", b"")),
    ("a player's title that is dots", POLL.replace(b"80100172", b"%2e.")),
    ("a player's title not ASCII", POLL.replace(b"80100172", b"%C3%A9")),
    ("a player of an unknown service", POLL.replace(b"video", b"nosuch")),
    ("a throughput that is none", POLL.replace(b"=5", b"=fast")),
    ("a pathway that is none", POLL.replace(b"c001-bom001", b"a/b")),
    ("a pathway too long", POLL.replace(b"c001-bom001", b"c" * 65)),
    ("too many pathways", POLL.replace(b"c001-bom001", b",".join([b"c"] * 17))),
    ("a family that is none", POLL.replace(b"session=s", b"family=5")),
    ("an address that is none", POLL.replace(b"session=s", b"ip=1.2.3")),
    ("a session too long", POLL.replace(b"session=s", b"session=" + b"s" * 257)),
]


def test_a_player_is_answered_and_under_overload_likewise_for_longer(fast_path: FastPath) -> None:
    result = fast_path.answer(POLL, 0, LOOPBACK)
    plain = json.loads(body_of(result))
    assert plain["PATHWAY-PRIORITY"][-1] == "cdn"
    assert fast_path.end == len(POLL)
    shed = fast_path.answer(POLL, 0, LOOPBACK, True)
    assert shed is not None
    assert b"\r\nconnection: close\r\n" in shed
    assert json.loads(body_of(shed))["PATHWAY-PRIORITY"] == plain["PATHWAY-PRIORITY"]
    assert plain["TTL"] < 60 < 270 <= json.loads(body_of(shed))["TTL"] <= 330
    for left in (POLL.replace(b"session=s", b"failed=c001-bom001"), POLL.replace(b"_HLS_throughput=5", b"failed=a")):
        assert fast_path.answer(left, 0, LOOPBACK) is None


@pytest.mark.parametrize(("name", "data"), NOT_MINE, ids=[row[0] for row in NOT_MINE])
def test_what_it_does_not_know_it_leaves(fast_path: FastPath, name: str, data: bytes) -> None:
    assert fast_path.answer(data, 0, LOOPBACK) is None


def test_before_the_first_publish_only_health_is_answered(fast_path: FastPath) -> None:
    fast_path.serve(None, {}, "video")
    assert fast_path.answer(REQUEST, 0, LOOPBACK) is None
    assert body_of(fast_path.answer(b"GET /healthz HTTP/1.1\r\n\r\n", 0, LOOPBACK)) == b"ok\n"


def test_a_shed_request_gets_the_fallback_and_connection_close(fast_path: FastPath) -> None:
    result = fast_path.answer(REQUEST, 0, LOOPBACK, True)
    assert json.loads(body_of(result))["targets"] == [{"url": "https://origin.example/v/80100172", "fallback": True}]
    assert b"\r\nconnection: close\r\n" in (result or b"")


@settings(max_examples=2000)
@given(st.binary(max_size=400), st.integers(0, 400), st.integers(0, 400), st.booleans())
def test_no_bytes_upset_it(junk: bytes, at: int, cut: int, trusted: bool) -> None:
    """Whatever stands in a request, the fast_path answers whole or not at all, and never past the data."""
    fast_path = FAST_PATH
    data = REQUEST[:at] + junk + REQUEST[cut:] if trusted else POLL[:at] + junk + POLL[cut:]
    result = fast_path.answer(data, 0, Peer(bytes([127, 0, 0, 1]), trusted))
    if result is not None:
        assert result.startswith(b"HTTP/1.1 200 OK\r\n")
        assert 0 < fast_path.end <= len(data)
        assert data[: fast_path.end].endswith(b"\r\n\r\n")
        assert data.startswith(b"HEAD") or body_of(result)


@pytest.fixture(autouse=True, scope="module")
def fast_path_for_properties(tmp_path_factory: pytest.TempPathFactory, publish: Callable[..., Path]) -> None:
    global FAST_PATH
    result = Snapshot.map(publish(tmp_path_factory.mktemp("fast_path") / "state"))
    FAST_PATH = FastPath(TRUSTED, "x-forwarded-for")
    FAST_PATH.serve(result.picker, result.services, "video", compiled(result, 0.25))


FAST_PATH: FastPath


WITH_CMCD = [
    ("query", REQUEST.replace(b"&n=2", b"&CMCD=bs%2Csid%3D%22x%22&n=2")),
    ("query, at its end", REQUEST.replace(b" HTTP", b"&CMCD=bs HTTP")),
    *[
        (name, REQUEST.replace(b"Host: x", f"Host: x\r\n{name}: bs".encode()))
        for name in ("CMCD-Request", "cmcd-object", "Cmcd-Session", "CMCD-STATUS")
    ],
]
WITHOUT = [
    ("nothing", REQUEST),
    ("another parameter", REQUEST.replace(b"&n=2", b"&XCMCD=bs&cmcd=bs&n=2")),
    (
        "other headers",
        REQUEST.replace(b"Host: x", b"Host: x\r\ncmcd-objects: bs\r\ncmcd-xxxxxx: bs\r\nX-CMCD-Status: bs"),
    ),
]


@pytest.mark.parametrize("request_bytes", [row[1] for row in WITH_CMCD], ids=[row[0] for row in WITH_CMCD])
def test_of_requests_with_cmcd_one_in_so_many_is_left_and_the_others_answered_as_without(
    snapshot: Snapshot, request_bytes: bytes
) -> None:
    fast_path = FastPath(TRUSTED, "x-forwarded-for", cmcd_sample=3)
    fast_path.serve(snapshot.picker, snapshot.services, "video")
    plain = fast_path.answer(REQUEST, 0, LOOPBACK)
    for _ in range(4):
        assert [fast_path.answer(request_bytes, 0, LOOPBACK) for _ in range(3)] == [plain, plain, None]
        assert fast_path.is_cmcd_drawn()
    assert [fast_path.is_cmcd_drawn() for _ in range(6)] == [False, False, True] * 2  # that came another way
    assert all(
        fast_path.answer(request_bytes, 0, LOOPBACK, True) for _ in range(9)
    )  # nothing is drawn where all is shed
    never = FastPath(TRUSTED, "x-forwarded-for")
    never.serve(snapshot.picker, snapshot.services, "video")
    assert [never.answer(request_bytes, 0, LOOPBACK) for _ in range(3)] == [plain] * 3
    assert not never.is_cmcd_drawn()


@pytest.mark.parametrize("request_bytes", [row[1] for row in WITHOUT], ids=[row[0] for row in WITHOUT])
def test_without_cmcd_nothing_is_drawn(snapshot: Snapshot, request_bytes: bytes) -> None:
    fast_path = FastPath(TRUSTED, "x-forwarded-for", cmcd_sample=1)
    fast_path.serve(snapshot.picker, snapshot.services, "video")
    assert all(fast_path.answer(request_bytes, 0, LOOPBACK) for _ in range(3))
