"""Parity: whatever the fast_path answers, FastAPI would have answered the same, byte for byte but for the date."""

from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from _fastpath.fast_path import Peer
from _fastpath.hashing import content_key_of
from _fastpath.holdings_builder import HoldingsBuilder
from _fastpath.status_words import DISABLED, NO_HEADROOM, STALE, UNHEALTHY, StatusWords
from steering.model.fleet import Fleet
from steering.model.service import Pathway
from steering.playback.server.follower import Follower
from steering.settings import Settings
from steering.state.current import read_current, write_current
from steering.state.fleet import write_fleet
from steering.state.holdings import write_holdings
from steering.state.keys import Key, write_keys
from tests.support.playback_app import Listening, undated

LOOPBACK = bytes([127, 0, 0, 1])
LAST = b"GET /healthz HTTP/1.1\r\nHost: steer.example\r\nConnection: close\r\n\r\n"
CALLERS = {
    "a trusted proxy": Settings(),
    "a stranger": Settings(trusted=(ipaddress.ip_network("10.0.0.0/8"),)),
    "a proxy that sends Forwarded": Settings(forwarded="forwarded"),
    "a proxy in a trusted world": Settings(
        trusted=tuple(map(ipaddress.ip_network, ("127.0.0.0/8", "203.0.113.0/24", "2001:db8::/32", "64:ff9b::/96")))
    ),
}

ADDRESSES = st.sampled_from(
    [
        "203.0.113.7",
        "198.51.100.1",
        "8.8.8.8",
        "127.0.0.1",
        "2001:db8::1",
        "::ffff:203.0.113.9",
        "64:ff9b::cb00:7107",
        "2002:cb00:7107::1",
        "2001:DB8:0:0::9",
        "::1",
        "0.0.0.0",
        "255.255.255.255",
        "::",
    ]
)
ODD_ADDRESSES = st.sampled_from(
    [
        "203.0.113.07",
        "1.2.3",
        "1.2.3.4:80",
        "[2001:db8::1]:443",
        "unknown",
        "_hidden",
        "",
        "::1%eth0",
        "1.2.3.4 ",
        "2001:db8::1::2",
        "\xa0203.0.113.7",
        "203.0.113.7\t",
        '"203.0.113.7"',
        "999.1.1.1",
        "12345::",
    ]
)
TITLES = st.one_of(
    st.sampled_from(
        ["80100172", "a", "a b", "%2e", ".", "..", "...", "", "caf\xe9", "\u65e5\u672c", "x" * 256, "x" * 257]
    ),
    st.text(st.characters(max_codepoint=0x24F, exclude_categories=["Cs"]), max_size=20),
)


def percent(text: str, style: int) -> bytes:
    """Return a value percent-encoded: only what must be, everything, or not at all."""
    plain = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
    raw = text.encode()
    if style == 0:
        return b"".join(bytes([byte]) if byte in plain else b"%%%02X" % byte for byte in raw)
    if style == 1:
        return b"".join(b"%%%02x" % byte for byte in raw)
    return bytes(byte for byte in raw if 0x20 < byte < 0x7F and byte != 0x23)


def parameter(name: str, values: st.SearchStrategy[str]) -> st.SearchStrategy[bytes]:
    return st.builds(
        lambda value, style: name.encode() + b"=" + percent(value, style), values, st.sampled_from([0, 0, 0, 1, 2])
    )


HELD = ("80100172", "a", "a b", "t", "hot")
GOOD_PARAMETERS = st.one_of(
    st.sampled_from([b"service=video", b"service=games"]),
    parameter("session", st.text(st.characters(max_codepoint=0x7E), max_size=20)),
    parameter("n", st.sampled_from("12345678")),
    parameter("family", st.sampled_from("46")),
    parameter("ip", ADDRESSES),
    st.sampled_from([b"utm=a", b"x", b"", b"a/b?c", b"TITLE=a"]),
)
PARAMETERS = st.one_of(
    parameter("title", TITLES),
    parameter("service", st.sampled_from(["video", "signed", "nosuch", "", "Video", "v" * 64])),
    parameter("session", st.one_of(st.sampled_from(["", "s", "s" * 256, "s" * 257, "\xe9"]), st.text(max_size=10))),
    parameter("n", st.sampled_from(["1", "2", "3", "8", "0", "9", "99", "", "-1", "3 ", "\u0663"])),
    parameter("family", st.sampled_from(["4", "6", "5", "", "46"])),
    parameter("ip", st.one_of(ADDRESSES, ADDRESSES, ODD_ADDRESSES)),
    parameter("redirect", st.sampled_from(["0", "1", "2"])),
    parameter("explain", st.sampled_from(["0", "x"])),
    parameter("utm", st.text(max_size=6)),
    st.sampled_from(
        [b"title", b"n", b"", b"=", b"a=b=c", b"title=%zz", b"title=%4", b"title=a+b", b"title=%00", b"session=%ff"]
    ),
    st.sampled_from(
        [b"a/b?c", b"TITLE=a", b"ti%74le=a", b"title=a;b", b"x='!*()", b'q="', b"q={}", b"q=|\\^`", b"ip=1.2.3.4%00"]
    ),
)

HOPS = st.one_of(ADDRESSES, ADDRESSES, ADDRESSES, ODD_ADDRESSES)
FORWARDED_FOR = st.builds(
    lambda hops, comma: comma.join(hops), st.lists(HOPS, max_size=4), st.sampled_from([",", ", ", " ,", ",,", ",\t"])
)
NAMES = st.sampled_from(
    [
        "Host",
        "User-Agent",
        "Accept",
        "X-Forwarded-For",
        "X-Forwarded-For",
        "Forwarded",
        "Cookie",
        "Connection",
        "X-A_b.c~",
    ]
)


@st.composite
def header_lines(draw: st.DrawFn) -> bytes:
    """Return one header line, mostly as clients send them."""
    name = draw(NAMES)
    value = draw(st.sampled_from(["steer.example", "", "a, b; c", "\xe9", "x" * 300]))
    if name == "X-Forwarded-For":
        value = draw(FORWARDED_FOR)
    elif name == "Forwarded":
        value = draw(
            st.sampled_from(
                [
                    *("for=203.0.113.7", 'for="[2001:db8::1]:80";proto=https', "for=_x", "by=1", "=;"),
                    *(
                        'for="203.0.113.7:_p1"',
                        ";for=203.0.113.7;;by=_x",
                        "for=127.0.0.1, for=203.0.113.7;",
                        "for=1.2.3.4,;",
                    ),
                ]
            )
        )
    elif name == "Connection":
        value = draw(st.sampled_from(["keep-alive", "Keep-Alive", "close", "te", "keep-alive, te", "upgrade"]))
    name = draw(st.sampled_from([name, name.lower(), name.upper(), name.swapcase()]))
    space = draw(st.sampled_from([" ", " ", " ", "", "  ", "\t"]))
    return f"{name}:{space}{value}\r\n".encode("latin-1")


ODD_LINES = st.sampled_from(
    [
        b"Content-Length: 0\r\n",
        b"Expect: 100-continue\r\n",
        b"Upgrade: h2c\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Bad Name: x\r\n",
        b"Folded: a\r\n b\r\n",
        b"NoColon\r\n",
        b": empty\r\n",
        b"A: b\n",
        b"A: \x01\r\n",
        b"A: \x7f\r\n",
        b"Proxy-Connection: close\r\n",
        b"Content-Length: 3\r\n",
        b"X: a\rb\r\n",
        b"X:\r\n",
        b"X : y\r\n",
    ]
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Return one request, mostly a steering request with something odd about it now and then."""
    kind = draw(st.integers(0, 19))
    method = (
        b"HEAD"
        if kind == 1
        else draw(st.sampled_from([b"OPTIONS", b"DELETE", b"get", b"CONNECT"]))
        if kind == 2
        else b"GET"
    )
    result = draw(st.lists(GOOD_PARAMETERS, max_size=3, unique_by=lambda item: item.partition(b"=")[0]))
    title = draw(st.one_of(st.sampled_from(HELD), st.text(st.characters(max_codepoint=0x7E), min_size=1, max_size=9)))
    result.append(b"title=" + percent(title, kind % 2))
    if kind in (9, 10, 11):
        result += draw(st.lists(PARAMETERS, min_size=1, max_size=3))
    if kind == 11:
        result = [item for item in result if not item.startswith(b"title=")]
    target = b"/v1/steer?" + b"&".join(draw(st.permutations(result)))
    if kind == 3:
        target = draw(
            st.sampled_from(
                [b"/healthz", b"/healthz?x=1", b"/nosuch", b"/v1/steer", b"/v1/steer/", b"*", b"http://h/healthz"]
            )
        )
    if kind == 4:
        target += draw(st.sampled_from([b"#x", b"\xc3\xa9", b" ", b"\x00"]))
    version = draw(st.sampled_from([b"HTTP/1.0", b"HTTP/1.1 ", b"HTTP/2.0", b"http/1.1"])) if kind == 5 else b"HTTP/1.1"
    lines = [b"Host: steer.example\r\n", *draw(st.lists(header_lines(), max_size=4))]
    if kind == 6:
        lines.append(draw(ODD_LINES))
    lines = draw(st.permutations(lines))
    end = draw(st.sampled_from([b"\n", b"\r\n\r\n"])) if kind == 7 else b"\r\n"
    body = draw(st.sampled_from([b"", b"abc"])) if kind == 8 else b""
    return method + b" " + target + b" " + version + b"\r\n" + b"".join(lines) + end + body


@dataclasses.dataclass
class Apps:
    """The app with the fast path and the one without, for each caller and world, and the loop that both run in."""

    loop: asyncio.AbstractEventLoop
    pairs: dict[tuple[str, str], tuple[Listening, Listening]]


NOW = 1_767_225_600.0  # of who signs
WORLDS = (
    "nothing is known",
    "holdings are known and a title is hot",
    "nobody is well, and services fail open",
    "all are full",
)


def make_world(state: Path, world: str, fleet: Fleet) -> Path:
    """Change what is published into a world."""
    if world == WORLDS[0]:
        return state
    current = read_current(state)
    weights = StatusWords(str(state / current.status), writable=True)
    weights.set_hot({content_key_of("video", title): spread for title, spread in (("hot", 3), ("t", 2))})
    video = fleet.services[0]
    games = dataclasses.replace(video, id="games", n=5, fail_open=world == WORLDS[2])
    if world == WORLDS[2]:
        video = dataclasses.replace(video, fail_open=True)
        for slot in range(8):
            weights.set_word(slot, weights.word(slot) | (STALE, UNHEALTHY, NO_HEADROOM, DISABLED)[slot % 4])
    if world == WORLDS[3]:
        for slot in range(weights.slots):
            weights.set_word(slot, weights.word(slot) | (UNHEALTHY if slot % 5 == 1 else NO_HEADROOM))
    url = "https://{host}/v/{title}?{token}&a=b"
    keys = ("k1",)
    signed = dataclasses.replace(
        video, id="signed", url=url, token="query", token_bind=True, keys=keys, client_regions=("IN", "US")
    )
    ways = (
        Pathway("isp", classes=("embedded",)),
        Pathway("cdn", host="cdn.example"),
        Pathway("peer", clusters=("bom002-a", "lhr001-a")),
        Pathway("nobody", clusters=("gone",)),
    )
    mapped = dataclasses.replace(video, id="mapped", pathways=ways, clones=("avplayer",), steer_ttl_s=5, ttl_jitter=0.5)
    held_keys = {"k1": Key("s" * 43, 1.5)}
    write_keys(state, held_keys if world == WORLDS[1] else held_keys | {"tag-1": Key("t" * 43, 1.5)})
    builder = HoldingsBuilder(None, [("video", title) for title in HELD] + [("games", "t")])
    for number, bitmaps in enumerate([(b"\x3f", b"\x11"), (b"\x02", None), (b"\x19", b"\x19"), (None, None)]):
        slots = (2 * number, 2 * number + 1)
        builder.set_cluster(number, slots, [{"video", "games"}, {"video"}], bitmaps)
    named = dataclasses.replace(
        current,
        fleet=write_fleet(state, 2, dataclasses.replace(fleet, services=(games, mapped, signed, video))),
        holdings=write_holdings(state, 1, builder),
    )
    write_current(state, named)
    return state


@pytest.fixture(scope="module")
def apps(tmp_path_factory: pytest.TempPathFactory, publish: Callable[..., Path], fleet: Fleet) -> Iterator[Apps]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        pairs = {}
        for world in WORLDS:
            follower = Follower(make_world(publish(tmp_path_factory.mktemp("parity") / "state"), world, fleet), 0.1)
            follower.signer.clock = lambda: NOW
            follower.step()
            for caller, chosen in CALLERS.items():
                without = chosen.model_copy(update={"fast_path": False})
                pairs[caller, world] = (Listening(follower, chosen), Listening(follower, without))
                for listening in pairs[caller, world]:
                    runner.run(listening.start())
        yield Apps(runner.get_loop(), pairs)
        for pair in pairs.values():
            for listening in pair:
                runner.run(listening.stop())


def test_the_fast_path_answers_as_fastapi_does(apps: Apps, cases: int) -> None:
    answered: list[bool] = []
    opened: list[bool] = []
    worlds: set[str] = set()

    @settings(max_examples=cases, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.sampled_from(sorted(apps.pairs)),
        st.lists(requests(), min_size=1, max_size=3),
        st.lists(st.integers(0, 600), max_size=3),
    )
    def compare(pair: tuple[str, str], asked: list[bytes], splits: list[int]) -> None:
        data = b"".join([*asked, LAST])
        edges = [0, *sorted({at for at in splits if 0 < at < len(data)}), len(data)]
        parts = [data[start:end] for start, end in itertools.pairwise(edges)]
        fast, fallback = (apps.loop.run_until_complete(app.exchange(parts)) for app in apps.pairs[pair])
        assert undated(fast) == undated(fallback)
        fast_path = apps.pairs[pair][0].connections.fast_path
        result = fast_path.answer(asked[0], 0, Peer(LOOPBACK, "stranger" not in pair[0]))
        answered.append(result is not None)
        opened.append(b'"fail_open":true' in fast)
        if result is not None:
            worlds.add(pair[1])

    compare()
    assert sum(answered) > 0.2 * len(answered)  # it was the fast_path that was compared
    assert sum(opened) > 0.02 * len(opened)
    assert worlds == set(WORLDS)


PATHWAYS = st.lists(st.sampled_from(["isp", "peer", "cdn", "c001-bom001", "c002-bom001", "nobody"]), max_size=4)
LISTS = st.builds(
    lambda names, quote, comma: f"{quote}{comma.join(names)}{quote}",
    PATHWAYS,
    st.sampled_from(["", '"']),
    st.sampled_from([",", ",", ", ", ",,"]),
)
HINTS = st.one_of(
    parameter("_HLS_pathway", LISTS),
    parameter("_DASH_pathway", LISTS),
    parameter("declared", LISTS),
    parameter("failed", LISTS),
    parameter("_HLS_throughput", st.sampled_from(["5140000", "1,2", '"900"', ",", "-1", "fast", ""])),
    parameter("_DASH_throughput", st.sampled_from(["5140000", "1,,2", '"900"', "NaN"])),
    parameter("session", st.sampled_from(["s", "a b", "s" * 256, "s" * 257, "\xe9", ""])),
    parameter("player", st.sampled_from(["avplayer", "hls.js", ""])),
    parameter("family", st.sampled_from(["4", "6", "5", ""])),
    parameter("ip", st.one_of(ADDRESSES, ADDRESSES, ODD_ADDRESSES)),
    st.sampled_from([b"tag=k1~abc", b"x", b"", b"_HLS_pathway", b"_HLS_pathway=%zz", b"_hls_pathway=isp", b"a=?/"]),
    st.sampled_from([b"_HLS_pathway=" + b"a," * 17, b"_HLS_pathway=" + b"a" * 65, b"_DASH_pathway=" + b"b" * 1100]),
)


@st.composite
def polls(draw: st.DrawFn) -> bytes:
    """Return what a player asks while it plays, now and then of no title, or oddly."""
    odd = draw(st.integers(0, 9)) == 0
    service = draw(st.sampled_from([b"video", b"games", b"mapped", b"signed"] + [b"nosuch", b"", b"v%69deo"] * odd))
    title = (
        percent(draw(TITLES), draw(st.sampled_from([0, 0, 1, 2]))) if odd else draw(st.sampled_from([b"t", b"a%20b"]))
    )
    target = b"/v1/" + draw(st.sampled_from([b"hls", b"dash"])) + b"/" + service + b"/" + title
    if odd:
        target += draw(st.sampled_from([b"", b"/", b"/x", b"/master.m3u8", b"%2Fmaster.m3u8", b"/manifest.mpd"]))
    if hints := draw(st.lists(HINTS, max_size=3)):
        target += b"?" + b"&".join(hints)
    lines = draw(st.lists(header_lines(), max_size=3))
    return (
        draw(st.sampled_from([b"GET", b"GET", b"HEAD"])) + b" " + target + b" HTTP/1.1\r\n" + b"".join(lines) + b"\r\n"
    )


def test_players_are_answered_in_the_fast_path_as_by_fastapi(apps: Apps, cases: int) -> None:
    answered: dict[str, int] = {}
    kept: list[bool] = []

    @settings(max_examples=cases, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(sorted(apps.pairs)), st.lists(polls(), min_size=1, max_size=3))
    def compare(pair: tuple[str, str], asked: list[bytes]) -> None:
        fast, fallback = (
            apps.loop.run_until_complete(app.exchange([b"".join([*asked, LAST])])) for app in apps.pairs[pair]
        )
        assert undated(fast) == undated(fallback)
        result = apps.pairs[pair][0].connections.fast_path.answer(
            asked[0], 0, Peer(LOOPBACK, "stranger" not in pair[0])
        )
        service = asked[0].split(b"/")[3].decode("latin-1")
        answered[service] = answered.get(service, 0) + (result is not None)
        kept.append(result is not None)

    compare()
    assert sum(kept) > 0.3 * len(kept)
    assert all(answered[service] for service in ("video", "games", "mapped", "signed"))


PLAIN = [
    b"GET /v1/hls/video/80100172 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /v1/hls/video/t?_HLS_pathway=c001-bom001&_HLS_throughput=5140000 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"HEAD /v1/dash/video/a%20b?_DASH_pathway=%22cdn%22&_DASH_throughput=900&session=me HTTP/1.1\r\n\r\n",
    b"GET /v1/steer?title=80100172 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"HEAD /v1/steer?title=a%20b&n=8&service=video&session=me HTTP/1.1\r\n\r\n",
    b"GET /v1/steer?title=t&ip=2001%3Adb8%3A%3A1&family=6 HTTP/1.1\r\nx-forwarded-for: 127.0.0.1\r\n\r\n",
    b"GET /v1/steer?title=t&utm=1 HTTP/1.1\r\nX-Forwarded-For: 9.9.9.9, 203.0.113.7\r\nConnection: Keep-Alive\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
]


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("request_", PLAIN)
def test_plain_requests_are_answered_in_the_fast_path_and_alike(apps: Apps, request_: bytes, world: str) -> None:
    fast, fallback = apps.pairs["a trusted proxy", world]
    fast_path = fast.connections.fast_path
    result = fast_path.answer(request_, 0, Peer(LOOPBACK, True))
    assert result is not None
    assert fast_path.end == len(request_)
    answers = [apps.loop.run_until_complete(app.exchange([request_ + LAST])) for app in (fast, fallback)]
    assert undated(answers[0]) == undated(answers[1])
    assert answers[0].startswith(b"HTTP/1.1 200 OK\r\n")
