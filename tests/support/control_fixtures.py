"""A control over an empty state folder, and small feeds to publish."""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
import lzma
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import geo_data
from steering.control.feed_files import read_text
from steering.control.routes.feeds import FeedSource, regions
from steering.control.services.control import Control
from steering.model.fleet import Fleet
from steering.process import child
from steering.settings import Settings, read_settings
from tests.support.questions import HOME

HEADER = "prefix,cluster,as_path,med\n"

read_map_of = regions.read_map
read_whole = functools.cache(regions.read_map)

WriteFeed = Callable[..., FeedSource]


THINNED = 50
# Addresses of the real Internet that tests ask for.
ASKED = (
    *("8.0.0.0", "8.8.4.0", "8.8.8.8", "8.9.0.0", "9.9.9.9", "11.0.0.0", "12.0.0.0", "20.0.0.1", "49.32.0.1"),
    *("49.36.1.1", "49.36.2.1", "81.2.69.142", "192.0.3.1", "198.51.0.0", "223.144.0.10"),
    *("2003::1", "2600::1", "2600:3c00::1", "2a00::1", "2a00:1:2::3"),
)


def thinned(text: bytes) -> bytes:
    """Return every fiftieth line of a country map, and those whose prefixes have an address that tests ask for."""
    addresses = [ipaddress.ip_address(address) for address in ASKED]
    beginnings = tuple({re.split("(?<=[.:])", address)[0].encode() for address in ASKED})
    kept = []
    for number, line in enumerate(text.splitlines(keepends=True)):
        if number % THINNED == 0:
            kept.append(line)
        elif line.startswith(beginnings):
            network = ipaddress.ip_network(line.split()[0].decode())
            if any(address in network for address in addresses):
                kept.append(line)
    return b"".join(kept)


@pytest.fixture(scope="session", autouse=True)
def thin_country_map(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give the tests' own process a fiftieth of the shipped country map, read once.

    A publish of the tiny fleet costs a tenth with it. Real services and children read the whole map, and so do tests
    that ask for `whole_country_map`.
    """
    text, digest = read_text(geo_data.COUNTRY_PREFIXES)
    path = tmp_path_factory.mktemp("geo_data") / geo_data.COUNTRY_PREFIXES.name
    path.write_bytes(lzma.compress(thinned(text)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(geo_data, "COUNTRY_PREFIXES", path)
        thin = dataclasses.replace(regions.read_map(), sha256=digest)
        patch.undo()
        patch.setattr(regions, "read_map", lambda mmdb=None: read_map_of(mmdb) if mmdb else thin)
        yield


@pytest.fixture(scope="session", autouse=True)
def waits_are_short() -> Iterator[None]:
    """Let the tests' own process not wait for the disk, as no test cuts the power, and a second for an idle core."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        patch.setattr(child, "PATIENCE_S", 1.0)
        yield


@pytest.fixture
def whole_country_map(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a test the shipped country map as it is, also read once."""
    monkeypatch.setattr(regions, "read_map", lambda mmdb=None: read_map_of(mmdb) if mmdb else read_whole())


@pytest.fixture
def write_feed(tmp_path: Path) -> WriteFeed:
    """Return a function that writes rows as a CSV feed and returns its source."""

    def make(*rows: str, name: str = "routes.csv") -> FeedSource:
        path = tmp_path / name
        path.write_text(HEADER + "".join(rows))
        return FeedSource("csv", str(path))

    return make


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return the settings of a state folder that is not there yet."""
    return read_settings(state=tmp_path / "state")


class Clock:
    """The time, which a test may set or move."""

    def __init__(self) -> None:
        self.now: float | None = None
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s if self.now is None else self.now


@pytest.fixture
def clock() -> Clock:
    """Return the clock of the control under test."""
    return Clock()


@pytest.fixture
def control(settings: Settings, clock: Clock) -> Iterator[Control]:
    """Return a control over an empty state folder."""
    with Control(settings, clock) as control:
        yield control


@pytest.fixture
def serving(control: Control, fleet: Fleet, write_feed: WriteFeed) -> Control:
    """Return a control that serves the tiny fleet, with one prefix at home in Mumbai."""
    control.fleet.replace(fleet, "test")
    control.tables.publish([write_feed("203.0.113.0/24,bom001-a,64500,0\n")], "test", "first")
    return control


@pytest.fixture
def rich(control: Control, fleet: Fleet, write_feed: WriteFeed) -> Control:
    """A control that serves a prefix announced at three clusters, inside one announced at the fourth."""
    control.fleet.replace(fleet, "test")
    feed = write_feed(
        HOME,
        "203.0.113.0/24,del001-a,64500,100\n",
        "203.0.113.0/24,bom002-a,64510 64500,0\n",
        "203.0.0.0/16,lhr001-a,64511,0\n",
        "203.0.113.0/33,lhr001-a,64511,0\n",
        "203.0.113.128/25,nowhere,64511,0\n",
    )
    control.tables.publish([feed], "test")
    return control
