"""Targets of players with spaces or raw UTF-8 are percent-encoded; all other bytes stay as they came."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.playback.server.request_lines import encoded_line

REST = b"Host: x y\xff\r\n\r\n"
ROWS = [
    ("raw UTF-8", "GET /v1/hls/video/café HTTP/1.1\r\n".encode(), b"GET /v1/hls/video/caf%C3%A9 HTTP/1.1\r\n"),
    ("spaces", b"GET /v1/dash/video/a b  c HTTP/1.1\r\n", b"GET /v1/dash/video/a%20b%20%20c HTTP/1.1\r\n"),
    ("in the query too", b"HEAD /v1/hls/v/t?session=a b&x=\xe9 HTTP/1.0\r\n", b"HEAD /v1/hls/v/t?session=a%20b&x=%E9 HTTP/1.0\r\n"),
    ("a version in the target", b"GET /v1/hls/v/t HTTP/1.1 HTTP/1.1\r\n", b"GET /v1/hls/v/t%20HTTP/1.1 HTTP/1.1\r\n"),
    ("nothing odd", b"GET /v1/hls/video/a%20b HTTP/1.1\r\n", None),
    ("no player's", b"GET /v1/steer?title=a b HTTP/1.1\r\n", None),
    ("another method", b"POST /v1/hls/video/a b HTTP/1.1\r\n", None),
    ("another version", b"GET /v1/hls/video/a b HTTP/2.0\r\n", None),
    ("a tab", b"GET /v1/hls/video/a\tb c HTTP/1.1\r\n", None),
    ("a bare line feed", b"GET /v1/hls/video/a b HTTP/1.1\n", None),
    ("a line end in it", b"GET /v1/hls/a b\r\nx HTTP/1.1\r\n", None),
    ("a line without an end", b"GET /v1/hls/video/a b HTTP/1.1", None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "line", "expected"), ROWS, ids=[row[0] for row in ROWS])
def test_only_targets_of_players_are_encoded(name: str, line: bytes, expected: bytes | None) -> None:
    whole = None if expected is None else expected + REST
    assert encoded_line(line + REST) == whole
    assert encoded_line(b"before" + line + REST, 6) == whole


@given(st.binary(max_size=200), st.sampled_from([b"GET /v1/hls/v/", b"HEAD /v1/dash/v/"]))
def test_an_encoded_line_needs_no_more(data: bytes, start: bytes) -> None:
    once = encoded_line(start + data + b" HTTP/1.1\r\n")
    assert once is None or encoded_line(once) is None
