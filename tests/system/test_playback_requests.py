"""Playback requests on both paths: the same bytes, every error named, and nothing odd answered by the fast path."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import itertools
import json
import re
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from _fastpath.body import MAX_BODY, PlaybackRequest, read_playback_body
from _fastpath.client import Trust
from _fastpath.fast_path import FastPath, Peer
from _fastpath.request import Client, Refusal
from steering.decision.snapshot import Snapshot
from steering.playback.answers.encoding import takes_gzip
from steering.playback.http.playback import answer
from steering.playback.signing import signer
from steering.playback.signing.tags import attested_viewer
from steering.playback.signing.tokens import SigningKey, token_for
from tests.support.playback_app import undated
from tests.system.test_parity import HELD, LAST, LOOPBACK, NOW, WORLDS, Apps, apps, header_lines

__all__ = ["apps"]

TRUSTED = Peer(LOOPBACK, True)


def post(body: bytes, *lines: bytes, line: bytes = b"POST /v1/playback HTTP/1.1") -> bytes:
    """Return a playback request."""
    return b"%b\r\nHost: x\r\nContent-Length: %d\r\n%b\r\n%b" % (line, len(body), b"".join(lines), body)


def asked(**members: Any) -> bytes:
    return json.dumps({"files": ["a", "b"]} | members).encode()


MEMBERS = {
    "files": st.lists(st.one_of(st.sampled_from(HELD), st.text(max_size=9)), max_size=40),
    "service": st.sampled_from(["video", "signed", "games", "nosuch", ""]),
    "title": st.one_of(st.sampled_from([*HELD, ".", "x" * 257, "\u65e5" * 86]), st.text(max_size=9)),
    "session": st.sampled_from(["", "s", "s" * 256, "s" * 257, "\xe9"]),
    "n": st.sampled_from([1, 2, 3, 8, 0, 9, 1.5, "3", None, True]),
    "family": st.sampled_from([4, 6, 5, "4"]),
    "ip": st.sampled_from(["203.0.113.7", "2001:db8::1", "64:ff9b::cb00:7107", "1.2.3", "", None]),
    "failed": st.one_of(
        st.lists(st.sampled_from(["c001-bom001", "a b", "", "x" * 253, "x" * 254, "\xe9", 7]), max_size=9),
        st.sampled_from(["c001-bom001", None, {}, [["c001-bom001"]]]),
    ),
    "extra": st.recursive(st.none() | st.text(max_size=3), st.lists, max_leaves=3),
}
GOOD = {
    "service": st.sampled_from(["video", "signed", "games"]),
    "title": st.sampled_from([*HELD, ""]),
    "session": st.text(max_size=9),
    "n": st.integers(1, 8),
    "family": st.sampled_from([4, 6]),
    "failed": st.lists(
        st.sampled_from(["c001-bom001", "c002-bom001.cdn.example", "c001-del001.0123abcd", "nobody"]),
        min_size=1,
        max_size=8,
    ),
    "extra": MEMBERS["extra"],
}
ANY_CHARACTERS = st.characters(exclude_categories=["Cs"])
PLAIN_CHARACTERS = st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters='"\\')


def names_of(characters: st.SearchStrategy[str]) -> st.SearchStrategy[list[str]]:
    names = st.one_of(st.sampled_from(HELD), st.text(characters, min_size=1, max_size=9))
    return st.lists(names, min_size=1, max_size=40, unique=True).filter(lambda files: not {".", ".."} & set(files))


PLAIN = {name: member for name, member in GOOD.items() if name not in ("extra", "failed")} | {
    "session": st.text(PLAIN_CHARACTERS, max_size=9),
    "ip": st.sampled_from(["203.0.113.7", "2001:db8::1", "64:ff9b::cb00:7107"]),
}
ENCODINGS = st.sampled_from(
    ["gzip", "gzip, deflate, br", "gzip;q=0", "*", "*;q=0, gzip", "identity", "", "GZIP;q=0.000", "gzip; q=0.5", "x"]
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Return a playback request, mostly as back ends send it."""
    kind = draw(st.integers(0, 11))
    plain = kind > 5
    names = names_of(PLAIN_CHARACTERS if plain else ANY_CHARACTERS)
    wanted: dict[str, Any] = draw(st.fixed_dictionaries({"files": names}, optional=PLAIN if plain else GOOD))
    if kind in (5, 6):
        wanted["files"] += [f"80100172-{number:03}" for number in range(150)]
    if kind == 0:
        wanted |= draw(st.fixed_dictionaries({}, optional=MEMBERS))
    wanted = dict(draw(st.permutations(list(wanted.items()))))
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t:\r\n")]))
    body = json.dumps(wanted, ensure_ascii=draw(st.booleans()), separators=separators).encode(errors="replace")
    if kind == 1:
        at = draw(st.integers(0, len(body)))
        body = body[:at] + draw(st.binary(max_size=3)) + body[at + draw(st.integers(0, 3)) :]
    lines = [line for line in draw(st.lists(header_lines(), max_size=2)) if kind == 2 or b"onnection" not in line]
    if draw(st.booleans()):
        lines.append(b"Content-Type: application/json%b\r\n" % draw(st.sampled_from([b"", b"; charset=utf-8"])))
    lines += [f"Accept-Encoding: {draw(ENCODINGS)}\r\n".encode()] * draw(st.sampled_from([0, 1, 1, 2]))
    if kind == 3:
        lines.append(
            draw(
                st.sampled_from(
                    [
                        b"Content-Type: text/plain\r\n",
                        b"Content-Type: application/jsonp\r\n",
                        b"Content-Encoding: gzip\r\n",
                        b"Expect: 100-continue\r\n",
                        b"Connection: close\r\n",
                        b"Content-Length: 3\r\n",
                    ]
                )
            )
        )
    line = b"POST /v1/playback HTTP/1.1"
    if kind == 4:
        line = draw(
            st.sampled_from(
                [b"GET /v1/playback HTTP/1.1", b"POST /v1/playback?x HTTP/1.1", b"OPTIONS /v1/playback HTTP/1.1",
                 b"POST /v1/playback HTTP/1.0", b"HEAD /v1/playback HTTP/1.1", b"POST /v1/playbacks HTTP/1.1"]
            )
        )  # fmt: skip
    return post(body, *lines, line=line)


def exchange(apps: Apps, pair: tuple[str, str], parts: list[bytes]) -> list[bytes]:
    """Return the answers of both paths, the fast one first."""
    return [undated(apps.loop.run_until_complete(app.exchange(parts))) for app in apps.pairs[pair]]


def test_both_paths_answer_the_same_bytes(apps: Apps, cases: int) -> None:
    compared: list[bytes] = []
    read: list[bool] = []

    @settings(max_examples=cases // 3, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.sampled_from(sorted(apps.pairs)),
        st.lists(requests(), min_size=1, max_size=3),
        st.lists(st.integers(0, 900), max_size=4),
    )
    def compare(pair: tuple[str, str], wanted: list[bytes], splits: list[int]) -> None:
        data = b"".join([*wanted, LAST])
        edges = [0, *sorted({at for at in splits if 0 < at < len(data)}), len(data)]
        fast, fallback = exchange(apps, pair, [data[start:end] for start, end in itertools.pairwise(edges)])
        assert fast == fallback
        compared.append(fast)
        fast_path = apps.pairs[pair][0].connections.fast_path
        result = fast_path.read_playback(wanted[0], 0, Peer(LOOPBACK, "stranger" not in pair[0]))
        read.append(result is not None and fast_path.answer_playback(wanted[0], result[0]) is not None)

    compare()
    assert sum(read) > 0.2 * len(read)
    assert sum(result.startswith(b"HTTP/1.1 200") for result in compared) > 0.3 * len(compared)
    assert any(b"content-encoding: gzip" in result for result in compared)


@settings(max_examples=1000, suppress_health_check=list(HealthCheck))
@given(st.fixed_dictionaries({"files": names_of(PLAIN_CHARACTERS)}, optional=PLAIN), st.data())
def test_what_the_fast_path_reads_in_place_is_what_the_fallback_path_reads(
    snapshot: Snapshot, wanted: dict[str, Any], data: st.DataObject
) -> None:
    body = json.dumps(wanted).encode()
    places = st.integers(0, len(body))
    start, end = sorted([data.draw(places), data.draw(places)])
    end = min(end, start + data.draw(st.integers(0, 3)))
    parts = st.sampled_from(
        [b"", b'"', b"\\", b",", b"}", b"{", b"]", b"[", b":", b" ", b"1", b"9", b".", b"e1", b"-", b"\xff"]
    )
    body = body[:start] + data.draw(parts) + body[end:]
    fast_path = FastPath(Trust([ip_network("127.0.0.0/8")]), "x-forwarded-for")
    fast_path.serve(snapshot.picker, snapshot.services, "video")
    head = post(body).removesuffix(body)
    assert fast_path.read_playback(head + body, 0, TRUSTED) == (len(head), None)
    result = fast_path.answer_playback(head + body, len(head))
    if result is not None:
        assert result == answer(snapshot, body, Client(LOOPBACK, True), "video")


@pytest.mark.parametrize(
    "body",
    [
        asked(n=1.5), asked(n=0), asked(n=9), asked(n="3"), asked(n=None), asked(family=5),
        asked(ip=""), asked(files=[]), asked(files=["a", "a"]), asked(files=["."]), asked(files=[""]), asked(files=["\""]),
        asked(files=["\xe9"]), asked(files=["x" * 257]), asked(files=[str(i) for i in range(1001)]), asked(title=".."),
        asked(title="x" * 257), asked(session="x" * 257), asked(service="nosuch"),
        b'{"files":["a"]}x', b'{"files":["a",]}', b'{"files":["a"],}', b'{"files":["a"],"n":12}', b'{"n":3}', b"{}", b"[]", b"",
        b'{"files":["a"]', b'{"files":["a', b'{"files"', b'{"files":["a"],"n":3',
        b'{"n":03,"files":["a"]}', b'{"n":30,"files":["a"]}', b'{"n":3.5,"files":["a"]}', b'{"n":3.,"files":["a"]}',
        b'{"files":["a"],"x":tru}', b'{"files":["a"],"x":[1,]}', b'{"files":["a"],"x":{"a"}}', b'{"files":["a"],"x":-}',
        b'{"files":["a"],"x":1e}', b'{"files":["a"],"x":' + b"[" * 99 + b"]" * 99 + b"}", b'{"files":["\\u0061"]}',
    ],
)  # fmt: skip
def test_what_is_odd_is_left_to_the_fallback_path(snapshot: Snapshot, body: bytes) -> None:
    fast_path = FastPath(Trust([]), "x-forwarded-for")
    fast_path.serve(snapshot.picker, snapshot.services, "video")
    for sent, answered in ((asked(), True), (body, False)):
        whole = post(sent)
        fast_path.read_playback(whole, 0, TRUSTED)
        assert (fast_path.answer_playback(whole, len(whole) - len(sent)) is not None) == answered


@pytest.mark.parametrize(
    ("body", "files"),
    [
        (asked(x=1), ["a", "b"]), (asked(ip=None), ["a", "b"]), (b'{"files":["a"],"files":["b"]}', ["b"]),
        (b'{"n":3e0,"files":["a"]}', ["a"]), (b'{"n":3.0,"files":["a"]}', ["a"]), (b' {"n" : 3 ,\r\n"files":\t[ "a" ] } ', ["a"]),
        (asked(x={"a": [1.5, -2e-3, True, False, None, {}, [], {"b": "c"}]}), ["a", "b"]),
        (b'{"files":["a"],"x":' + b"[" * 60 + b"]" * 60 + b"}", ["a"]),
    ],
)  # fmt: skip
def test_what_needs_no_words_is_answered_at_once(snapshot: Snapshot, body: bytes, files: list[str]) -> None:
    fast_path = FastPath(Trust([]), "x-forwarded-for")
    fast_path.serve(snapshot.picker, snapshot.services, "video")
    whole = post(body)
    fast_path.read_playback(whole, 0, TRUSTED)
    actual = fast_path.answer_playback(whole, len(whole) - len(body))
    assert actual == answer(snapshot, body, Client(LOOPBACK, True), "video")
    assert list(json.loads(actual)["files"]) == files


ESCAPED = [
    (b'"caf\\u00e9"', "caf\xe9"), (b'"\\ud83d\\ude00"', "\U0001f600"), (b'"\\u65E5x\\u00Df"', "\u65e5x\xdf"), ('"\xe9\\n"'.encode(), "\xe9\n"),
    (b'"\\"\\\\\\/\\b\\f\\n\\r\\t\\u0000"', "\"\\/\b\f\n\r\t\0"), (b'"a\\u007Fb\x7f"', "a\x7fb\x7f"), (b'"\\u07ff\\u0800\\uffff"', "\u07ff\u0800\uffff"),
    (b'"\\ud800"', None), (b'"\\udc00"', None), (b'"\\udc00\\ud800"', None), (b'"\\ud800x"', None), (b'"\\ud800\\u0041"', None),
    (b'"\\u12"', None), (b'"\\u12g4"', None), (b'"\\x41"', None), (b'"\\', None), (b'"\n"', None), (b'"\\u', None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), ESCAPED)
def test_escapes_are_read_as_json_has_them(text: bytes, expected: str | None) -> None:
    body = b'{"files":[%b],"title":%b}' % (text, text)
    if expected is None:
        with pytest.raises(Refusal) as caught:
            read_playback_body(body)
        assert caught.value.parameter == "body"
        return
    actual = read_playback_body(body)
    assert (actual.files, actual.title) == ([expected], expected) == ([json.loads(text)], json.loads(text))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=9,
)


@settings(max_examples=500)
@given(st.dictionaries(st.sampled_from(["x", "y", "title", "device", "session", "ip"]), JSON), st.booleans(), st.data())
def test_json_is_json_and_nothing_else_is(members: dict[str, Any], ascii_only: bool, data: st.DataObject) -> None:
    body = json.dumps({"files": ["a"]} | members, ensure_ascii=ascii_only).encode(errors="replace")
    place = data.draw(st.integers(0, len(body)))
    other = data.draw(
        st.sampled_from([b"", b'"', b"\\", b",", b"}", b"]", b":", b"0", b".", b"e", b"-", b"\n", b"\x00"])
    )
    body = body[:place] + other + body[place + data.draw(st.integers(0, 1)) :]
    try:
        whole = json.loads(body)
    except ValueError:
        whole = None
    try:
        read_playback_body(body)
    except Refusal as refusal:
        assert refusal.parameter != "body" or not isinstance(whole, dict) or "\\ud" in repr(whole)  # noqa: PT017
    else:
        assert isinstance(whole, dict)


def body_of(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2].partition(b"HTTP/1.1 ")[0]


def test_what_comes_in_pieces_is_answered_in_order_by_the_fast_path(apps: Apps) -> None:
    pair = ("a trusted proxy", WORLDS[0])
    data = post(asked(n=2), b"Content-Type: application/json\r\n") + post(asked(session="me")) + LAST
    whole = exchange(apps, pair, [data])
    assert whole[0] == whole[1]
    assert whole[0].count(b"HTTP/1.1 200 OK") == 3
    connections = apps.pairs[pair][0].connections
    handed: list[str] = []
    connections.count = handed.append  # type: ignore[method-assign]
    try:
        for at in range(data.index(b"\r\n\r\n") + 4, len(post(asked(n=2), b"Content-Type: application/json\r\n"))):
            assert exchange(apps, pair, [data[:at], data[at : at + 1], data[at + 1 :]])[0] == whole[0], at
    finally:
        del connections.count  # type: ignore[method-assign]
    assert handed == ["handed_over"] * len(handed)  # the last request alone, which closes
    assert len(handed) == len(asked(n=2))


def test_a_body_that_ends_half_way_is_answered_as_fastapi_does(apps: Apps) -> None:
    pair = ("a trusted proxy", WORLDS[0])
    data = post(asked())

    async def half(app: Any) -> bytes:
        reader, writer = await asyncio.open_connection(*app.address)
        writer.write(data[:-3])
        await writer.drain()
        writer.write_eof()
        result = await reader.read()
        writer.close()
        return undated(result)

    fast, fallback = (apps.loop.run_until_complete(half(app)) for app in apps.pairs[pair])
    assert fast == fallback
    assert fast.startswith(b"HTTP/1.1 400 ")


WRONG = [
    (b"", 400, "body"),
    (b"[]", 400, "body"),
    (b'{"files":["a"],"n":9}', 400, "n"),
    (b'{"files":["a"],"n":"3"}', 400, "n"),
    (b'{"files":["a"],"family":5}', 400, "family"),
    (b'{"files":["a",3]}', 400, "files"),
    (b'{"files":["a","a"]}', 400, "files"),
    (b'{"files":[".."]}', 400, "files"),
    (b'{"files":[""]}', 400, "files"),
    (b'{"files":["\\udc00"]}', 400, "body"),
    (b"{}", 400, "files"),
    (b'{"files":[]}', 400, "files"),
    (json.dumps({"files": [str(i) for i in range(1001)]}).encode(), 400, "files"),
    (json.dumps({"files": ["x" * 257]}).encode(), 400, "files"),
    (json.dumps({"files": ["a"], "title": "x" * 257}).encode(), 400, "title"),
    (json.dumps({"files": ["a"], "session": "x" * 257}).encode(), 400, "session"),
    (b'{"files":["a"],"ip":"1.2.3"}', 400, "ip"),
    (b'{"title":"t","device":{"max_height":1080}}', 404, "title"),
    (b'{"title":"t","device":{"max_height":"x"}}', 400, "device"),
    (b'{"title":"t","device":{},"files":["a"]}', 400, "device"),
    (b'{"device":{}}', 400, "device"),
    (b'{"files":["a"],"service":"nosuch"}', 404, "service"),
    (asked(failed="c001-bom001"), 400, "failed"),
    (asked(failed=[]), 400, "failed"),
    (asked(failed=None), 400, "failed"),
    (asked(failed={}), 400, "failed"),
    (asked(failed=["a", 7]), 400, "failed"),
    (asked(failed=["a", ""]), 400, "failed"),
    (asked(failed=["a,b"]), 400, "failed"),
    (asked(failed=["a b"]), 400, "failed"),
    (asked(failed=["\xe9"]), 400, "failed"),
    (asked(failed=["x" * 254]), 400, "failed"),
    (asked(failed=list("abcdefghi")), 400, "failed"),
    (asked(failed=["a\n"]), 400, "failed"),
    (b'{"files":["a"],"failed":["\\ud800"]}', 400, "body"),
    (b'{"files":["a"],"failed":["a"', 400, "body"),
    (b'{"x":' + b"[" * 100_000, 400, "body"),
    (b'{"files":["\xff"]}', 400, "body"),
]


@pytest.mark.parametrize(("body", "status", "parameter"), WRONG)
def test_an_error_names_the_member(apps: Apps, body: bytes, status: int, parameter: str) -> None:
    fast, fallback = exchange(apps, ("a trusted proxy", WORLDS[0]), [post(body) + LAST])
    assert fast == fallback
    assert fast.startswith(b"HTTP/1.1 %d " % status)
    result = json.loads(body_of(fast))
    assert (result["status"], result["parameter"]) == (status, parameter)
    assert len(result["value"]) < 100
    assert result["rule"]


@pytest.mark.parametrize(
    ("sent", "status", "text"),
    [
        (post(b" " * (MAX_BODY + 1)), 413, b"a body of over 262144 bytes"),
        (post(asked(), b"Content-Type: text/json\r\n"), 415, b"content-type"),
        (post(asked(), b"Content-Encoding: gzip\r\n"), 415, b"content-encoding"),
        (b"GET /v1/playback HTTP/1.1\r\nHost: x\r\n\r\n", 405, b"allow: OPTIONS, POST"),
        (b"HEAD /v1/playback HTTP/1.1\r\nHost: x\r\n\r\n", 405, b"allow: OPTIONS, POST"),
        (b"OPTIONS /v1/playback HTTP/1.1\r\nHost: x\r\n\r\n", 204, b"access-control-allow-methods: POST, OPTIONS"),
    ],
)
def test_what_is_no_playback_request_is_refused(apps: Apps, sent: bytes, status: int, text: bytes) -> None:
    fast, fallback = exchange(apps, ("a trusted proxy", WORLDS[0]), [sent + LAST])
    assert fast == fallback
    assert fast.startswith(b"HTTP/1.1 %d " % status)
    assert text in fast


def test_who_may_ask_for_others_and_who_is_refused(apps: Apps) -> None:
    stranger = exchange(apps, ("a stranger", WORLDS[0]), [post(asked(ip="203.0.113.7")) + LAST])
    assert stranger[0] == stranger[1]
    assert stranger[0].startswith(b"HTTP/1.1 403 ")
    elsewhere = post(asked(service="signed", ip="255.255.255.255"))
    refused = exchange(apps, ("a trusted proxy", WORLDS[1]), [elsewhere + LAST])
    assert refused[0] == refused[1]
    assert refused[0].startswith(b"HTTP/1.1 451 ")


def test_every_url_of_a_signed_service_is_built_by_replacing_text(apps: Apps) -> None:
    files = ["80100172", "a b", "caf\xe9"]
    wanted = post(asked(service="signed", ip="8.8.8.8", files=files, n=2, session="me"))
    fast, fallback = exchange(apps, ("a trusted proxy", WORLDS[1]), [wanted + LAST])
    assert fast == fallback
    result = json.loads(body_of(fast))
    for file in files:
        query = f"service=signed&ip=8.8.8.8&n=2&session=me&title={quote(file, safe='')}"
        get = f"GET /v1/steer?{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        steered = json.loads(body_of(exchange(apps, ("a trusted proxy", WORLDS[1]), [get + LAST])[0]))["targets"]
        path = result["url"].replace("{title}", quote(file, safe="")).replace("{token}", result["tokens"][file])
        servers = [result["servers"][place] for place in result["files"][file]]
        assert servers
        assert [
            {"url": path.replace("{host}", server["host"])}
            | {key: server[key] for key in ("appliance", "site", "rank")}
            for server in servers
        ] == [target for target in steered if "fallback" not in target]


def test_where_there_is_no_key_everybody_is_sent_to_the_fallback(apps: Apps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signer, "token_for", lambda signing, _, *of: token_for(signing, {}, *of))
    pair = ("a trusted proxy", WORLDS[1])
    fast, fallback = exchange(apps, pair, [post(asked(service="signed", ip="8.8.8.8")) + LAST])
    assert fast == fallback
    result = json.loads(body_of(fast))
    assert (result["servers"], result["files"]) == ([], {"a": [], "b": []})
    assert result["fallback"] == "https://origin.example/v/{title}"
    assert "tokens" not in result


def test_the_tag_of_an_answer_is_worth_something_to_the_viewer_alone(apps: Apps) -> None:
    key = SigningKey("tag-1", "t" * 43)
    for ip, network, other in (
        ("203.0.113.7", "203.0.113.200", "203.0.114.7"),
        ("64:ff9b::cb00:7107", "203.0.113.7", "64:ff9b::cb00:7107"),
        ("2001:db8:1:2::7", "2001:db8:1::1", "2001:db8:2::1"),
    ):
        wanted = post(asked(ip=ip, session="me")) + LAST
        fast, fallback = exchange(apps, ("a trusted proxy", WORLDS[2]), [wanted])
        assert fast == fallback
        tag = json.loads(body_of(fast))["tag"]
        worth = [attested_viewer(tag, {"tag-1": key}, ip_address(client).packed, NOW) for client in (network, other)]
        assert worth[0] is not None
        assert worth[1] is None
        nameless = exchange(apps, ("a trusted proxy", WORLDS[2]), [post(asked(ip=ip)) + LAST])[0]
        assert json.loads(body_of(nameless))["tag"] != tag
        for world in WORLDS[:2]:
            assert "tag" not in json.loads(body_of(exchange(apps, ("a trusted proxy", world), [wanted])[0]))


def test_without_a_number_the_service_decides_how_many(apps: Apps) -> None:
    pair = ("a trusted proxy", WORLDS[1])
    for service, n in (("games", 5), ("video", 3)):
        for member, query in (({}, ""), ({"n": n}, f"&n={n}")):
            steer = (
                f"GET /v1/steer?title=a&ip=203.0.113.7&service={service}{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
            )
            answers = exchange(apps, pair, [steer + LAST])
            assert answers[0] == answers[1]
            assert len(json.loads(body_of(answers[0]))["targets"]) == n
            whole = exchange(apps, pair, [post(asked(service=service, ip="203.0.113.7", **member)) + LAST])
            assert whole[0] == whole[1]
            assert {len(places) for places in json.loads(body_of(whole[0]))["files"].values()} == {n}


def test_the_back_ends_example_of_the_docs_runs(apps: Apps, capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
    (code,) = (result for result in re.findall(r"```python\n(.+?)```", page, re.DOTALL) if "/v1/playback" in result)
    host, port = apps.pairs["a trusted proxy", WORLDS[0]][0].address
    running = asyncio.to_thread(exec, code.replace("127.0.0.1:8080", f"{host}:{port}"), {})
    apps.loop.run_until_complete(running)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [name for name, *_ in rows] == ["80100172-v5", "80100172-a1"]
    for name, *urls in rows:
        query = "ip=223.144.0.10&session=5f0c&n=3&title=80100172"
        get = f"GET /v1/steer?{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        steered = body_of(exchange(apps, ("a trusted proxy", WORLDS[0]), [get + LAST])[0])
        assert urls == [target["url"].replace("80100172", name) for target in json.loads(steered)["targets"]]


def test_a_failed_appliance_is_passed_over_as_in_steering(apps: Apps) -> None:
    pair = ("a trusted proxy", WORLDS[0])

    def servers(**members: Any) -> list[str]:
        fast, fallback = exchange(apps, pair, [post(asked(ip="203.0.113.7", title="t", n=8, **members)) + LAST])
        assert fast == fallback
        result = json.loads(body_of(fast))
        assert len({tuple(places) for places in result["files"].values()}) == 1  # of all files alike
        return [result["servers"][place]["appliance"] for place in result["files"]["a"]]

    def targets(failed: str) -> list[str]:
        query = f"title=t&ip=203.0.113.7&n=8{failed and '&failed='}{failed}"
        get = f"GET /v1/steer?{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        steered = json.loads(body_of(exchange(apps, pair, [get + LAST])[0]))["targets"]
        return [target["appliance"] for target in steered if "appliance" in target]

    first, second, *_ = plain = servers()
    assert plain == targets("")
    for failed in (
        [first],
        [f"{first}.cdn.example"],
        [f"{first}.0123abcd"],  # a clone of it
        [first, second],
        ["nobody", first],
        [first] * 8,
        plain[:8],
    ):
        assert servers(failed=failed) == targets(",".join(failed)) != plain
        assert first not in servers(failed=failed)
    assert servers(failed=["nobody"]) == plain
    assert servers() == plain
    escaped = json.dumps({"files": ["a"], "ip": "203.0.113.7", "failed": [first]}).replace("-", "\\u002d").encode()
    assert read_playback_body(escaped).failed == (first,)
    assert read_playback_body(b'{"files":["a"],"failed":["a"],"failed":["b","c"]}').failed == ("b", "c")


def test_a_request_that_names_failed_appliances_is_left_to_the_fallback_path(snapshot: Snapshot) -> None:
    fast_path = FastPath(Trust([]), "x-forwarded-for")
    fast_path.serve(snapshot.picker, snapshot.services, "video")
    whole = post(asked(failed=["c001-bom001"]))
    fast_path.read_playback(whole, 0, TRUSTED)
    assert fast_path.answer_playback(whole, len(whole) - len(asked(failed=["c001-bom001"]))) is None


def test_gzip_is_the_same_body(apps: Apps) -> None:
    files = [f"80100172-{number:03}" for number in range(150)]
    plain, packed = (
        exchange(apps, ("a trusted proxy", WORLDS[0]), [post(asked(files=files), *lines) + LAST])[0]
        for lines in ([], [b"Accept-Encoding: gzip\r\n"])
    )
    assert b"content-encoding" not in plain
    assert b"\r\nvary: accept-encoding\r\n" in plain
    head, _, rest = packed.partition(b"\r\n\r\n")
    assert b"\r\ncontent-encoding: gzip\r\n" in head
    assert gzip.decompress(rest.partition(b"HTTP/1.1 ")[0]) == body_of(plain)


@pytest.mark.parametrize(
    ("accepts", "wanted"),
    [
        (b"gzip", True), (b"br, GZIP ;q=1", True), (b"*", True), (b"gzip;q=0", False), (b"*, gzip;q=0.0", False),
        (b"*;q=0, gzip", True), (b"", False), (b"gzipped", False), (b"gzip;q=0.001", True),
    ],
)  # fmt: skip
def test_gzip_is_sent_to_whom_it_is_wanted_by(accepts: bytes, wanted: bool) -> None:
    assert takes_gzip(accepts) is wanted


@given(st.binary(max_size=300))
def test_bytes_of_all_kinds_are_no_body_or_a_request(body: bytes) -> None:
    with contextlib.suppress(Refusal):
        assert isinstance(read_playback_body(body), PlaybackRequest)


@given(st.lists(st.sampled_from([b"POST /v1/playback HTTP/1.1\r\n", b"Content-Length: ", b"1", b"9" * 7, b"\r\n", b":",
    b"Content-Type: application/json", b"Accept-Encoding: gzip", b"\r\n\r\n", b"\xff", b" ", b"X-Forwarded-For: 1.2.3.4"
]), max_size=20), st.binary(max_size=9))  # fmt: skip
def test_heads_of_all_kinds_are_read_within_their_bytes(parts: list[bytes], rest: bytes) -> None:
    data = b"POST /v1/playback HTTP/1.1\r\n" + b"".join(parts) + rest
    fast_path = FastPath(Trust([]), "x-forwarded-for")
    result = fast_path.read_playback(data, 0, TRUSTED)
    if result is not None:
        assert data[: result[0]].endswith(b"\r\n\r\n")
        assert fast_path.end >= result[0]
