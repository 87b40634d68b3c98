"""Players' requests: what players send is read leniently, and as the reference reader reads it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _fastpath.hints import Hints, read_player_request
from tests.support import reference_reader


def read_hints(query: bytes, protocol: str) -> Hints:
    return read_player_request(f"/v1/{protocol}".encode(), query)[4]


HINTS = [
    # what sends it, query, protocol, hints
    ("hls.js", b"_HLS_pathway=c001&_HLS_throughput=5140000", "hls", Hints(("c001",), (5140000,))),
    ("quoted", b"_HLS_pathway=%22c001%22", "hls", Hints(("c001",))),
    ("dash.js", b"_DASH_pathway=%22A%2CB%22&_DASH_throughput=137972000%2C127720000", "dash",
     Hints(("A", "B"), (137972000, 127720000))),
    ("a throughput that is unknown", b"_DASH_pathway=A,B&_DASH_throughput=,5", "dash", Hints(("A", "B"), (None, 5))),
    ("an empty one", b"_DASH_pathway=A&_DASH_throughput=", "dash", Hints(("A",))),
    ("the last of two", b"_HLS_pathway=A&_HLS_pathway=B", "hls", Hints(("B",))),
    ("the other protocol's", b"_DASH_pathway=A", "hls", Hints()),
    ("a session and what is not ours", b"session=s%201&token=%2F~", "hls", Hints(session="s 1")),
    ("family and player", b"family=6&player=shaka", "hls", Hints(family=6, player="shaka")),
    ("what its playlist declares", b"declared=0a,1b", "hls", Hints(declared=("0a", "1b"))),
    ("no id", b"_HLS_pathway=a%20b%00&_HLS_throughput=fast", "hls", Hints((), (None,), odd=2)),
    ("half an escape, and no UTF-8", b"_HLS_pathway=%zz%ff", "hls", Hints(odd=1)),
    ("a throughput beyond all", b"_HLS_throughput=" + b"9" * 5000, "hls", Hints((), (10**12,))),
    ("a negative one, an Arabic one", b"_DASH_throughput=-1,%D9%A3", "dash", Hints((), (None, None), odd=2)),
    ("too long a session", b"session=" + b"s" * 257, "hls", Hints(odd=1)),
    ("an IP version there is not", b"family=5", "hls", Hints(odd=1)),
    ("nothing", b"", "hls", Hints()),
    ("only separators", b"&&=&=&%", "hls", Hints()),
]  # fmt: skip


@pytest.mark.parametrize(("name", "query", "protocol", "expected"), HINTS, ids=[row[0] for row in HINTS])
def test_hints_are_read_as_players_send_them(name: str, query: bytes, protocol: str, expected: Hints) -> None:
    assert read_hints(query, protocol) == expected


@given(st.binary(max_size=300), st.sampled_from(["hls", "dash"]))
def test_no_query_is_an_error(query: bytes, protocol: str) -> None:
    found = read_hints(query, protocol)
    assert all(re.fullmatch("[0-9A-Za-z._-]{1,64}", name) for name in found.pathways)
    assert len(found.pathways) <= 16


VALUES = st.one_of(
    st.binary(max_size=12),
    st.sampled_from(
        [
            b"a",
            b"%22a,b%22",
            b'" a ,b"',
            b"%c3%a9",
            b"%ff",
            b"%f0%9f%98",
            b"%ed%a0%80",
            b"%",
            b"%4",
            b"6",
            b"",
            b",,",
            b"9,8",
        ]
    ),
    st.lists(st.sampled_from([b"a", b"b", b" ", b"%2C", b",", b"1", b"-1", b"%22"]), max_size=40).map(b"".join),
    st.integers(250, 260).map(lambda length: b"%C3%A9" * length),
)
NAMES = st.sampled_from(
    [b"_HLS_pathway", b"_DASH_pathway", b"_HLS_throughput", b"session", b"player", b"declared", b"family", b"ip", b"x"]
)
QUERIES = st.lists(st.builds(lambda name, value: name + b"=" + value, NAMES, VALUES), max_size=5).map(b"&".join)


@settings(max_examples=1000, deadline=None)
@given(st.one_of(QUERIES, st.binary(max_size=80)), st.sampled_from(["hls", "dash"]))
def test_hints_are_read_as_the_reference_reads_them(query: bytes, protocol: str) -> None:
    assert read_hints(query, protocol) == reference_reader.read_hints(query, protocol)


SEGMENTS = st.sampled_from([b"", b"video", b"t", b"a%2Fb", b"%FF", b"%c3%a9", b"master.m3u8", b"manifest.mpd", b"%"])


@settings(max_examples=500, deadline=None)
@given(st.sampled_from([b"hls", b"dash", b"%68ls"]), st.lists(SEGMENTS, max_size=5))
def test_a_path_is_read_as_the_reference_reads_it(protocol: bytes, segments: list[bytes]) -> None:
    path = b"/v1/" + b"/".join([protocol, *segments])
    assert read_player_request(path, b"")[:4] == reference_reader.read_path(path)
