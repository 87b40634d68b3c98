"""The query, read strictly: every mistake is named with its parameter, value and rule."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _fastpath.request import Refusal, SteerRequest, read_steer_query
from steering.decision.refusals import error_of
from tests.support import reference_reader

GOOD = [
    (b"title=80100172", SteerRequest("80100172", "video")),
    (b"title=a+b%20c&service=games&session=s1&n=8&family=6", SteerRequest("a b c", "games", "s1", 8, 6)),
    (b"n=1&title=%C3%A9&family=4&ip=192.0.2.1", SteerRequest("é", "video", n=1, family=4, ip="192.0.2.1")),
    (b"title=t&explain=1", SteerRequest("t", "video", explain=True)),
    (b"title=t&redirect=1&explain=0", SteerRequest("t", "video", redirect=True)),
    (b"&&title=t&&", SteerRequest("t", "video")),
    (b"title=t&cachebuster=%zz&title2=x&Title=y", SteerRequest("t", "video")),
    (b"title=a%3Db%26c=d", SteerRequest("a=b&c=d", "video")),
    (b"title=", SteerRequest("", "video")),
]


@pytest.mark.parametrize(("query", "wanted"), GOOD)
def test_a_query_is_read(query: bytes, wanted: SteerRequest) -> None:
    assert read_steer_query(query, "video") == wanted


BAD = [
    (b"", "title", "is required"),
    (b"service=video", "title", "is required"),
    (b"Title=t", "title", "is required"),
    (b"t%69tle=t", "title", "is required"),
    (b"title=a&title=b", "title", "is given twice"),
    (b"title=a&title=a", "title", "is given twice"),
    (b"title=%", "title", "a % is followed by two hexadecimal digits"),
    (b"title=%4", "title", "a % is followed by two hexadecimal digits"),
    (b"title=%zz", "title", "a % is followed by two hexadecimal digits"),
    (b"title=a&session=%u0041", "session", "a % is followed by two hexadecimal digits"),
    (b"title=%ff", "title", "its bytes are UTF-8"),
    (b"title=\xff", "title", "its bytes are UTF-8"),
    (b"title=%ed%a0%80", "title", "its bytes are UTF-8"),
    (b"title=t&n=0", "n", "a number from 1 to 8"),
    (b"title=t&n=9", "n", "a number from 1 to 8"),
    (b"title=t&n=99", "n", "a number from 1 to 8"),
    (b"title=t&n=", "n", "a number from 1 to 8"),
    (b"title=t&n=+3", "n", "a number from 1 to 8"),
    (b"title=t&n=03", "n", "a number from 1 to 8"),
    ("title=t&n=٣".encode(), "n", "a number from 1 to 8"),
    (b"title=t&n", "n", "a number from 1 to 8"),
    (b"title=t&family=5", "family", "4 or 6"),
    (b"title=t&family=46", "family", "4 or 6"),
    (b"title=t&explain=yes", "explain", "0 or 1"),
    (b"title=t&redirect=", "redirect", "0 or 1"),
    (b"title=t&redirect=1&explain=1", "redirect", "not together with explain=1"),
]


@pytest.mark.parametrize(("query", "parameter", "rule"), BAD)
def test_a_mistake_is_named(query: bytes, parameter: str, rule: str) -> None:
    with pytest.raises(Refusal) as caught:
        read_steer_query(query, "video")
    assert (caught.value.parameter, caught.value.rule, caught.value.status) == (parameter, rule, 400)
    assert str(error_of(caught.value)).startswith(f"parameter {parameter} = ")


@settings(max_examples=500, deadline=None)
@given(st.text(), st.text())
def test_any_text_survives_encoding(title: str, session: str) -> None:
    try:
        raw = b"title=%s&session=%s" % tuple(
            quote_from_bytes(text.encode(), safe="").encode() for text in (title, session)
        )
    except UnicodeEncodeError:
        return
    assert read_steer_query(raw, "video") == SteerRequest(title, "video", session)


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200))
def test_no_query_fails_otherwise_than_by_name(query: bytes) -> None:
    try:
        read_steer_query(query, "video")
    except Refusal as refusal:
        assert refusal.parameter  # noqa: PT017


VALUES = st.one_of(
    st.binary(max_size=12),
    st.sampled_from(
        [
            b"1",
            b"8",
            b"0",
            b"9",
            b"4",
            b"6",
            b"",
            b"a+b",
            b"%20",
            b"%zz",
            b"%4",
            b"%",
            b"%ff",
            b"%c3%a9",
            b"%e2%82",
            b"\xe9",
        ]
    ),
)
NAMES = st.sampled_from([name.encode() for name in (*reference_reader.NAMES, "x", "CMCD", "t%69tle")])
QUERIES = st.lists(st.builds(lambda name, value: name + b"=" + value, NAMES, VALUES), max_size=6).map(b"&".join)


def outcome(read: Callable[[], object]) -> object:
    """Return what a reader returns, or what it refuses."""
    try:
        return read()
    except reference_reader.Refused as refused:
        return refused.args
    except Refusal as refusal:
        return refusal.parameter, refusal.value, refusal.rule, refusal.status


@settings(max_examples=1000, deadline=None)
@given(st.one_of(QUERIES, QUERIES.map(lambda query: b"title=t&" + query), st.binary(max_size=60)))
def test_a_query_is_read_as_the_reference_reads_it(query: bytes) -> None:
    assert outcome(lambda: read_steer_query(query, "video")) == outcome(
        lambda: reference_reader.read_steer_query(query, "video")
    )
