"""A session tag is worth something to the network that it was made for, until it expires, and to nobody else."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.playback.signing.tags import TAG, TAG_TTL_S, VIEWERS_PER_NETWORK, attested_viewer, read_tag, tag_for
from steering.playback.signing.tokens import SigningKey

NOW = 1_767_225_600.0
KEYS = {name: SigningKey(name, f"{name}-{'s' * 40}") for name in ("k1", "tag-1", "tag-2", "k2")}
HOME = ipaddress.ip_address("203.0.113.7").packed
TAG_OF_HOME = tag_for(KEYS, "video", "a session", HOME, NOW)


def test_the_newest_key_makes_tags_and_every_key_verifies_them() -> None:
    assert TAG.fullmatch(TAG_OF_HOME)
    assert TAG_OF_HOME.startswith("tag-2~")
    old = tag_for({"tag-1": KEYS["tag-1"]}, "video", "a session", HOME, NOW)
    assert attested_viewer(old, KEYS, HOME, NOW)
    assert attested_viewer(old, {"tag-2": KEYS["tag-2"]}, HOME, NOW) is None


def test_without_a_key_for_tags_there_are_none() -> None:
    assert tag_for({"k1": KEYS["k1"]}, "video", "a session", HOME, NOW) == ""


def test_a_tag_does_not_reveal_the_session() -> None:
    assert "session" not in TAG_OF_HOME
    other = {"tag-2": SigningKey("tag-2", "x" * 40)}
    assert tag_for(other, "video", "a session", HOME, NOW).split("~")[2] != TAG_OF_HOME.split("~")[2]


ROWS = [
    ("its own network", TAG_OF_HOME, "203.0.113.7", NOW, True),
    ("another address of it", TAG_OF_HOME, "203.0.113.200", NOW, True),
    ("another network", TAG_OF_HOME, "203.0.114.7", NOW, False),
    ("the same bytes as IPv6", TAG_OF_HOME, "cb00:7107::", NOW, False),
    ("in time", TAG_OF_HOME, "203.0.113.7", NOW + TAG_TTL_S, True),
    ("expired", TAG_OF_HOME, "203.0.113.7", NOW + TAG_TTL_S + 301, False),
    ("nothing", "", "203.0.113.7", NOW, False),
    ("a later expiry", TAG_OF_HOME.replace("~17", "~18"), "203.0.113.7", NOW, False),
    ("a token of a URL", f"~k1~1767225600~0b~{'A' * 24}", "203.0.113.7", NOW, False),
    ("another key", TAG_OF_HOME.replace("tag-2", "tag-1"), "203.0.113.7", NOW, False),
    ("a key that appliances have", TAG_OF_HOME.replace("tag-2", "k1"), "203.0.113.7", NOW, False),
]


@pytest.mark.parametrize(("tag", "client", "now", "good"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_what_a_tag_is_worth(tag: str, client: str, now: float, good: bool) -> None:
    assert (attested_viewer(tag, KEYS, ipaddress.ip_address(client).packed, now) is not None) == good


@given(st.integers(0, len(TAG_OF_HOME) - 1), st.characters(codec="ascii"))
def test_an_altered_tag_is_worth_nothing(place: int, character: str) -> None:
    altered = TAG_OF_HOME[:place] + character + TAG_OF_HOME[place + 1 :]
    assert (attested_viewer(altered, KEYS, HOME, NOW) is None) == (altered != TAG_OF_HOME)


@given(st.text(max_size=80))
def test_any_text_is_read(text: str) -> None:
    assert attested_viewer(text, KEYS, HOME, NOW) is None
    assert read_tag(text.encode()) == "" or "tag=" in text


def test_a_thousand_sessions_of_a_network_count_as_a_few() -> None:
    for client in (HOME, ipaddress.ip_address("2001:db8::1").packed):
        tags = {tag_for(KEYS, "video", str(number), client, NOW) for number in range(1000)}
        assert len(tags) == 1000
        assert len({attested_viewer(tag, KEYS, client, NOW) for tag in tags}) == VIEWERS_PER_NETWORK


def test_a_tag_is_found_in_a_query() -> None:
    assert read_tag(f"session=x&tag={TAG_OF_HOME}&CMCD=br%3D1".encode()) == TAG_OF_HOME
    assert read_tag(b"nottag=x&tags=y") == ""
    assert read_tag(b"tag=%7E") == ""
