"""The query, read strictly: every mistake is named with its parameter, value and rule."""

from __future__ import annotations

from urllib.parse import quote_from_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steering.errors import RequestError
from steering.playback.http.query import SteerQuery, read_steer_query

GOOD = [
    (b"title=80100172", SteerQuery("80100172", "video")),
    (b"title=a+b%20c&service=games&session=s1&n=8&family=6", SteerQuery("a b c", "games", "s1", 8, 6)),
    (b"n=1&title=%C3%A9&family=4&ip=192.0.2.1", SteerQuery("é", "video", n=1, family=4, ip="192.0.2.1")),
    (b"title=t&explain=1", SteerQuery("t", "video", explain=True)),
    (b"title=t&redirect=1&explain=0", SteerQuery("t", "video", redirect=True)),
    (b"&&title=t&&", SteerQuery("t", "video")),
    (b"title=t&cachebuster=%zz&title2=x&Title=y", SteerQuery("t", "video")),
    (b"title=a%3Db%26c=d", SteerQuery("a=b&c=d", "video")),
    (b"title=", SteerQuery("", "video")),
]


@pytest.mark.parametrize(("query", "wanted"), GOOD)
def test_a_query_is_read(query: bytes, wanted: SteerQuery) -> None:
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
    with pytest.raises(RequestError) as caught:
        read_steer_query(query, "video")
    assert (caught.value.parameter, caught.value.rule, caught.value.status) == (parameter, rule, 400)
    assert str(caught.value).startswith(f"parameter {parameter} = ")


@settings(max_examples=500, deadline=None)
@given(st.text(), st.text())
def test_any_text_survives_encoding(title: str, session: str) -> None:
    try:
        raw = b"title=%s&session=%s" % tuple(
            quote_from_bytes(text.encode(), safe="").encode() for text in (title, session)
        )
    except UnicodeEncodeError:
        return
    assert read_steer_query(raw, "video") == SteerQuery(title, "video", session)


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200))
def test_no_query_fails_otherwise_than_by_name(query: bytes) -> None:
    try:
        read_steer_query(query, "video")
    except RequestError as error:
        assert error.parameter  # noqa: PT017
