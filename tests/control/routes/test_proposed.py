"""A proposed route does what publishing it would do, and one that cannot be is refused by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from steering.control.routes.feeds import FeedSource
from steering.control.services.control import Control
from steering.decision.snapshot import Snapshot
from steering.errors import RequestError
from steering.settings import Settings
from tests.support.questions import CLIENT, HOME, sites, what_if

WriteFeed = Callable[..., FeedSource]


def test_a_route_more(rich: Control, settings: Settings) -> None:
    report = what_if(settings, CLIENT, routes=["203.0.113.0/25,del001-a,64500"])
    assert (sites(report["now"])[0], sites(report["then"])[0]) == ("bom001", "del001")
    why = report["then"]["explain"]
    assert [(item["prefix"], item["cluster"], item["feed"]) for item in why["routes"]][:2] == [
        ("203.0.113.0/25", "del001-a", "what-if"),
        ("203.0.113.0/24", "bom001-a", "routes.csv"),
    ]
    # Elsewhere, it changes nothing.
    assert not what_if(settings, CLIENT, routes=["198.51.100.0/24,del001-a,64500"])["changed"]


def test_what_a_route_more_does_is_what_publishing_it_does(
    rich: Control, settings: Settings, write_feed: WriteFeed
) -> None:
    rows = ["203.0.112.0/23,lhr001-a,,0", "203.0.113.0/24,lhr001-a,64500,0,embedded", "203.0.113.8/29,bom002-a,1 2 3,5"]
    for row in rows:
        then = what_if(settings, CLIENT, routes=[row])["then"]
        feed = write_feed(
            HOME,
            "203.0.113.0/24,del001-a,64500,100\n",
            "203.0.113.0/24,bom002-a,64510 64500,0\n",
            "203.0.0.0/16,lhr001-a,64511,0\n",
        )
        more = settings.state.parent / "more.csv"
        more.write_text(f"prefix,cluster,as_path,med,class\n{row}\n")
        rich.tables.publish([feed, FeedSource("csv", str(more))], "test")
        real = CLIENT.answered_by(Snapshot.map(settings.state))
        assert real["targets"] == then["targets"]
        assert real["explain"]["ranking"] == then["explain"]["ranking"]
        rich.tables.rollback(1, "test")


BAD = [
    (["10.0.0.0/8"], "parameter route = '10.0.0.0/8'"),
    (["10.0.0.1/8,bom001-a"], "host bits are set"),
    (["10.0.0.0/8,bom001-a,x"], "as_path has numbers"),
    (['10.0.0.0/8,"bom001-a'], "a quoted field ends with a quote"),
    (["10.0.0.0/8,bom001-a"] * 101, "101 routes; at most 100"),
]


@pytest.mark.parametrize(("routes", "rule"), BAD, ids=[rule[:30] for _, rule in BAD])
def test_a_route_that_cannot_be_is_refused_by_name(
    rich: Control, settings: Settings, routes: list[str], rule: str
) -> None:
    with pytest.raises(RequestError, match=rule):
        what_if(settings, CLIENT, routes=routes)
