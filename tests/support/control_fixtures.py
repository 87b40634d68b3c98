"""A control over an empty state folder, and small feeds to publish."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from steering.control.routes.feeds import FeedSource, regions
from steering.control.services.control import Control
from steering.model.fleet import Fleet
from steering.settings import Settings, read_settings
from tests.support.questions import HOME

HEADER = "prefix,cluster,as_path,med\n"

WriteFeed = Callable[..., FeedSource]


@pytest.fixture(scope="session", autouse=True)
def country_map_read_once() -> Iterator[None]:
    """Read the shipped country map once for all tests: a quarter of a second for each publish adds up."""
    shipped, read_map = regions.read_map(), regions.read_map
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regions, "read_map", lambda mmdb=None: read_map(mmdb) if mmdb else shipped)
        yield


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
