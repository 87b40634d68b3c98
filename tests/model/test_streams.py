"""Catalogues of streams: what is refused is named, and a device gets what it plays."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.model.streams import MAX_STREAMS, Catalogue, Device, Stream, files_for, plays, read_catalogue

V5 = Stream("v5", "hvc1.2.4.L153, mp4a.40.2", 2160, True, ["dash"])
V4 = Stream("v4", "avc1.640028", 1080)
A1 = Stream("a1", "mp4a.40.2", 0, False, ["hls", "dash"])
TITLE = Catalogue([V5, V4, A1])


@pytest.mark.parametrize(
    ("device", "files"),
    [
        (Device(), ["v5", "v4", "a1"]),
        (Device(max_height=1080), ["v4", "a1"]),
        (Device(max_height=0), ["a1"]),
        (Device(hdr=False), ["v4", "a1"]),
        (Device(protocols=["hls"]), ["v4", "a1"]),
        (Device(protocols=[]), ["v4"]),
        (Device(codecs=["avc1", "mp4a"]), ["v4", "a1"]),
        (Device(codecs=["hvc1"]), []),
        (Device(codecs=["hvc1", "mp4a.40.2"]), ["v5", "a1"]),
        (Device(codecs=["avc1.640028", "avc1.64"]), ["v4"]),
        (Device(codecs=["avc1.64"]), []),
    ],
)
def test_a_device_gets_what_it_plays(device: Device, files: list[str]) -> None:
    assert files_for(TITLE, device) == files


WRONG = [
    (b"", "no JSON"),
    (b'{"streams":[{"file":"\xff"}]}', "no JSON"),
    (b"[]", "the whole: Expected `object`"),
    (b"{}", "streams"),
    (b'{"streams":[]}', "streams: Expected `array` of length >= 1"),
    (b'{"streams":[{"file":"a"},{"file":"a"}]}', r"streams\[1\]\.file: a is named twice"),
    (b'{"streams":[{"file":".."}]}', r"streams\[0\]\.file: 1 to 256 bytes"),
    (b'{"streams":[{"file":"a\\n"}]}', r"streams\[0\]\.file: 1 to 256 bytes"),
    (json.dumps({"streams": [{"file": "\u65e5" * 86}]}).encode(), r"streams\[0\]\.file: 1 to 256 bytes"),
    (b'{"streams":[{"file":""}]}', r"streams\[0\]\.file"),
    (b'{"streams":[{"file":"a","height":-1}]}', r"streams\[0\]\.height"),
    (b'{"streams":[{"file":"a","bitrate":1}]}', "bitrate"),
    (json.dumps({"streams": [{"file": str(at)} for at in range(MAX_STREAMS + 1)]}).encode(), "length <= 1000"),
]


@pytest.mark.parametrize(("body", "message"), WRONG)
def test_what_is_wrong_is_named(body: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_catalogue(body)


@given(st.binary(max_size=200))
def test_bytes_of_all_kinds_are_a_catalogue_or_refused(body: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert read_catalogue(body).streams


DEVICES = st.fixed_dictionaries(
    {},
    optional={
        "codecs": st.lists(st.sampled_from(["hvc1", "avc1", "mp4a.40.2"])),
        "max_height": st.integers(0, 4320),
        "hdr": st.booleans(),
        "protocols": st.lists(st.sampled_from(["hls", "dash"])),
    },
)


@given(DEVICES, DEVICES)
def test_what_plays_more_plays_all_that_plays_less(one: dict[str, Any], other: dict[str, Any]) -> None:
    """A device that says more of what it cannot do gets no more: the files of both limits are those of each."""
    both = one | {key: value for key, value in other.items() if key not in one}
    for stream in TITLE.streams:
        assert plays(Device(**both), stream) <= plays(Device(**one), stream)
