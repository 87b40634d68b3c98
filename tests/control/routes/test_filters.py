"""What is believed of a feed: rows and a judge that looks at one route after another."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from steering.control.routes import filters
from steering.control.routes.feeds import Feed, FeedSource, read_feed
from steering.control.routes.filters import SPECIAL, filter_feed
from steering.control.services.control import Control
from steering.decision.explain import explain
from steering.decision.snapshot import Snapshot
from steering.errors import FeedError
from steering.model.fleet import Cluster, Fleet, Partner
from steering.model.route import RouteClass
from steering.settings import Settings, read_settings
from steering.state.routes import prefix_text

HEADER = "prefix,cluster,as_path,communities\n"
PARTNERS = ("as64500", "as64511")


@pytest.fixture(scope="module")
def feed_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("feed") / "routes.csv"


def two_partners(fleet: Fleet, *changes: dict[str, Any]) -> Fleet:
    """Return the tiny fleet with a second partner, and with filters of the two."""
    partners = (*fleet.partners, Partner("as64511", "Another ISP", "GB", (64511,), 2))
    return dataclasses.replace(
        fleet,
        partners=tuple(
            dataclasses.replace(p, **change) for p, change in zip(partners, [*changes, {}, {}], strict=False)
        ),
        clusters=(*fleet.clusters, Cluster("man001-a", "lhr001", RouteClass.embedded, "as64511", number=9)),
    )


def read(path: Path, fleet: Fleet, *rows: str) -> Feed:
    path.write_text(HEADER + "".join(f"{row}\n" for row in rows))
    return read_feed(FeedSource("csv", str(path)), fleet)


Route = tuple[str, int, int, int]


def routes_of(feed: Feed) -> Counter[Route]:
    """Return every (prefix, cluster, origin, hops) of a feed, and how often."""
    found: Counter[Route] = Counter()
    for family, columns in feed.columns.items():
        for place, kind in enumerate(columns.value):
            prefix = prefix_text(family, columns.high[place] << 64 | columns.low[place], columns.length[place])
            for item in feed.sets[feed.set_of[kind]]:
                found[prefix, item.cluster, feed.origin_of[kind], item.hops] += 1
    return found


def judged(feed: Feed, fleet: Fleet, settings: Settings) -> Counter[Route]:
    """Return what is believed of a feed, looking at one route after another."""
    partners = {p.id: p for p in fleet.partners}
    owner = {c.number: partners.get(c.partner or "") for c in fleet.clusters}
    found: Counter[Route] = Counter()
    for family, columns in feed.columns.items():
        for place, kind in enumerate(columns.value):
            prefix = prefix_text(family, columns.high[place] << 64 | columns.low[place], columns.length[place])
            network = ipaddress.ip_network(prefix)
            is_special = any(network.subnet_of(ipaddress.ip_network(text)) for text in SPECIAL[family])  # type: ignore[arg-type]
            origin = feed.origin_of[kind]
            for item in feed.sets[feed.set_of[kind]]:
                partner = owner[item.cluster]
                own = (partner.accepts_v4 if family == 4 else partner.accepts_v6) if partner else ""
                text = own or (settings.accept_v4 if family == 4 else settings.accept_v6)
                low, high = map(int, text.split("-"))
                asked = {name for name in ("0", "80", "120") if f"{settings.asn}:{name}" in item.communities}
                if (
                    (is_special and settings.special_prefixes == "refuse")
                    or not low <= network.prefixlen <= high
                    or (partner and partner.allowed_asns and origin not in (*partner.asns, *partner.allowed_asns))
                    or (settings.asn and "0" in asked)
                ):
                    continue
                hops = item.hops
                if settings.asn and asked:
                    hops = hops + 3 if "80" in asked else 0
                found[prefix, item.cluster, origin, hops] += 1
    return found


RANGES = st.sampled_from(["", "8-24", "24-32", "0-32", "20-20"])
FILTERS = st.fixed_dictionaries(
    {"accepts_v4": RANGES, "accepts_v6": RANGES, "allowed_asns": st.sampled_from([(), (1,), (2, 3)])}
)
ROWS = st.lists(
    st.builds(
        "{},{},{},{}".format,
        st.one_of(
            st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)).map(
                lambda pair: str(ipaddress.ip_network(pair, strict=False))
            ),
            st.tuples(st.integers(0, 2**128 - 1), st.integers(0, 128)).map(
                lambda pair: str(ipaddress.IPv6Network(pair, strict=False))
            ),
            st.sampled_from(["10.0.0.0/8", "10.1.0.0/16", "0.0.0.0/0", "::/0", "2001:db8:1::/48", "8.0.0.0/7", "9.0.0.0/8"]),
        ),
        st.sampled_from(["bom001-a", "del001-a", "bom002-a", "man001-a"]),
        st.sampled_from(["", "1", "7 2", "64500", "64511"]),
        st.sampled_from(["", "64512:0", "64512:80", "64512:120", "64512:120 64512:80", "1:0"]),
    ),
    min_size=1,
    max_size=30,
)  # fmt: skip


@given(
    ROWS,
    FILTERS,
    FILTERS,
    st.fixed_dictionaries(
        {
            "accept_v4": st.sampled_from(["8-32", "8-24", "0-32"]),
            "accept_v6": st.sampled_from(["16-128", "16-64", "0-128"]),
            "special_prefixes": st.sampled_from(["refuse", "accept"]),
            "asn": st.sampled_from([0, 64512]),
        }
    ),
)
@hypothesis_settings(max_examples=300)
def test_a_feed_is_filtered_as_one_route_after_another_is(
    feed_file: Path, fleet: Fleet, rows: list[str], first: dict[str, Any], second: dict[str, Any], given: dict[str, Any]
) -> None:
    of_two = two_partners(fleet, first, second)
    feed = read(feed_file, of_two, *rows)
    settings = Settings(**given)
    expected = judged(feed, of_two, settings)
    found = filter_feed(feed, of_two, settings)
    assert routes_of(found) == expected
    assert found.accepted + found.refused == feed.accepted + feed.refused
    assert len(found.refusals) == found.refused


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ("0.0.0.0/0,bom001-a,64500,", "prefixes from /8 to /32 are accepted"),
        ("::/0,bom001-a,64500,", "prefixes from /16 to /128 are accepted"),
        ("10.2.0.0/16,bom001-a,64500,", "special-purpose space (RFC 6890); the setting special_prefixes can accept it"),
        ("8.8.8.0/25,bom001-a,64500,", "prefixes from /8 to /24 are accepted"),
        ("8.8.0.0/16,bom001-a,7,", "an origin is the partner's or among its allowed_asns; AS7 is neither"),
        ("8.8.0.0/16,bom001-a,64500,64512:0", "its community 64512:0 asks not to be served"),
    ],
)
def test_a_route_that_is_not_believed_is_refused_with_its_rule(
    tmp_path: Path, fleet: Fleet, row: str, rule: str
) -> None:
    strict = two_partners(fleet, {"accepts_v4": "8-24", "allowed_asns": (64500, 64501)})
    feed = read(tmp_path / "routes.csv", strict, "8.8.4.0/24,bom001-a,64501,", row)
    found = filter_feed(feed, strict, Settings(special_prefixes="refuse", asn=64512))
    assert [(refusal.row, refusal.rule) for refusal in found.refusals] == [(3, rule)]
    assert found.refusals[0].value == row.partition(",")[0]
    assert found.accepted == 1


def test_a_partner_that_announces_too_much_stops_the_publish_and_no_other_does(tmp_path: Path, fleet: Fleet) -> None:
    rows = [f"8.{number}.0.0/16,bom001-a,64500," for number in range(5)]
    others = [f"9.{number}.0.0/16,bom002-a,64500," for number in range(50)]
    for limit, limited in [({"max_prefixes": 5}, Settings()), ({}, Settings(max_prefixes=5))]:
        of_two = two_partners(fleet, limit)
        filter_feed(read(tmp_path / "routes.csv", of_two, *rows, *others), of_two, limited)
        feed = read(tmp_path / "routes.csv", of_two, *rows, "8.9.0.0/16,del001-a,64500,", *others)
        with pytest.raises(FeedError, match="partner as64500 announces 6 prefixes; max_prefixes is 5"):
            filter_feed(feed, of_two, limited)


def test_refusals_are_shown_up_to_a_number_and_all_counted(
    tmp_path: Path, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filters, "MAX_LISTED", 3)
    rows = [f"10.{number}.0.0/16,bom001-a,64500," for number in range(9)]
    feed = read(tmp_path / "routes.csv", fleet, *rows, "8.8.8.0/24,bom001-a,64500,")
    found = filter_feed(feed, fleet, Settings(special_prefixes="refuse"))
    assert (found.refused, len(found.refusals), found.accepted) == (9, 3, 1)


def test_a_community_moves_clients_to_the_site_that_asks_for_them(tmp_path: Path, fleet: Fleet) -> None:
    rows = ["8.8.8.0/24,bom001-a,64500,{}", "8.8.8.0/24,del001-a,64500,{}"]
    for first, second, site in [
        ("", "64512:120", "del001"),
        ("64512:120", "", "bom001"),
        ("64512:80", "", "del001"),
        ("", "64512:0", "bom001"),
        ("64512:0", "", "del001"),
    ]:
        path = tmp_path / "routes.csv"
        path.write_text(HEADER + "".join(f"{row}\n" for row in (rows[0].format(first), rows[1].format(second))))
        state = tmp_path / f"state{first}-{second}"
        with Control(read_settings(state=state).model_copy(update={"asn": 64512})) as control:
            control.fleet.replace(fleet, "test")
            control.tables.publish([FeedSource("csv", str(path))], "test")
        target = explain(Snapshot.map(state), "8.8.8.8", "t", service="video")["targets"][0]
        assert (target["site"], target["rank"]) == (site, 0)


# ---- not from here

AWAY = [
    # name, rows of prefix, cluster, as_path, communities and exclude; the clusters of a client, excluded clusters
    ("a route", ["198.51.100.0/24,bom001-a,64500,,"], ["bom001-a", "bom002-a", "lhr001-a"], []),
    ("an exclusion by attribute", ["198.51.100.0/24,bom001-a,64500,,yes"], ["bom002-a", "lhr001-a"], ["bom001-a"]),
    ("an exclusion by community", ["198.51.100.0/24,bom001-a,64500,64512:1,"], ["bom002-a", "lhr001-a"], ["bom001-a"]),
    ("beside do not serve", ["198.51.100.0/24,bom001-a,64500,64512:1 64512:0,"], ["bom002-a", "lhr001-a"], ["bom001-a"]),
    ("of a covering route", ["198.51.0.0/16,bom001-a,64500,,", "198.51.100.0/24,bom001-a,,,yes"], ["bom002-a", "lhr001-a"], ["bom001-a"]),
    ("a longer route", ["198.51.100.0/24,bom001-a,64500,,no", "198.51.0.0/16,bom001-a,,,yes"], ["bom001-a", "bom002-a", "lhr001-a"], []),
    ("beside a route of the prefix", ["198.51.100.0/24,bom001-a,64500,,", "198.51.100.0/24,bom001-a,64501,,yes"], ["bom002-a", "lhr001-a"], ["bom001-a"]),
    ("of a fallback", ["198.51.100.0/24,bom002-a,,,yes", "198.51.100.0/24,del001-a,64500,,"], ["del001-a", "lhr001-a"], ["bom002-a"]),
    ("of all", ["198.51.100.0/24,bom002-a,,,yes", "198.51.100.0/24,lhr001-a,,,yes"], [], ["bom002-a", "lhr001-a"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "rows", "ranking", "excluded"), AWAY, ids=[row[0] for row in AWAY])
def test_a_partner_keeps_a_cluster_away_from_a_prefix(
    tmp_path: Path, fleet: Fleet, name: str, rows: list[str], ranking: list[str], excluded: list[str]
) -> None:
    path = tmp_path / "routes.csv"
    always = "192.0.2.0/24,bom001-a,64500,,"
    path.write_text("prefix,cluster,as_path,communities,exclude\n" + "".join(f"{row}\n" for row in [always, *rows]))
    settings = Settings(state=tmp_path / "state", asn=64512, special_prefixes="accept")
    with Control(settings) as control:
        control.fleet.replace(fleet, "test")
        control.tables.publish([FeedSource("csv", str(path))], "test")
    snapshot = Snapshot.map(settings.state)
    report = explain(snapshot, "198.51.100.9", "t", service="video")
    found = report["explain"]
    assert [entry["cluster"] for entry in found["ranking"]] == ranking
    assert sorted(route["cluster"] for route in found["excluded"]) == excluded
    assert not {row["cluster"] for row in found["candidates"]} & set(excluded)
    assert all(route["excludes"] for route in found["excluded"])


def test_an_exclusion_needs_no_origin_of_the_partner(feed_file: Path, fleet: Fleet) -> None:
    fleet = two_partners(fleet, {"allowed_asns": (1,)})
    feed_file.write_text("prefix,cluster,as_path,exclude\n8.8.8.0/24,bom001-a,,yes\n9.9.9.0/24,bom001-a,7,no\n")
    feed = filter_feed(read_feed(FeedSource("csv", str(feed_file)), fleet), fleet, Settings(state=feed_file.parent))
    assert (feed.accepted, feed.refused) == (1, 1)


def test_exclude_is_yes_or_no(feed_file: Path, fleet: Fleet) -> None:
    feed_file.write_text("prefix,cluster,exclude\n8.8.8.0/24,bom001-a,yes\n9.9.9.0/24,bom001-a,maybe\n")
    feed = read_feed(FeedSource("csv", str(feed_file)), fleet)
    assert [item.rule for item in feed.refusals] == ["exclude is yes or no; not 'maybe'"]
