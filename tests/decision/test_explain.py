"""Explain shows where a client is assumed to be, what that comes from, and which near sites it does not get, and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from steering.decision.explain import explain
from steering.decision.snapshot import Snapshot
from steering.model.fleet import Fleet, Site

Publish = Callable[..., Path]
BRITISH = "198.51.100.7"
CLOSED = "no route, and no cluster there accepts off-net clients"


def why_of(state: Path, address: str) -> dict[str, Any]:
    why: dict[str, Any] = explain(Snapshot.map(state), address, "t", service="video")["explain"]
    return why


@pytest.fixture
def located(tmp_path: Path, publish: Publish, write_mmdb: Callable[..., Path]) -> Path:
    """Return a folder with a map of three prefixes and two geofeeds over it."""
    first, second = tmp_path / "isp.csv", tmp_path / "other.csv"
    first.write_text("192.0.2.128/25,IN,IN-MH,Mumbai,\n2001:db8:9::/48,GB,,London,\n")
    second.write_text("192.0.2.128/25,GB,,,\n192.0.2.240/28,IN,,,\n203.0.113.128/25,,,,\n")
    countries = {"192.0.2.0/24": "GB", "203.0.113.0/24": "IN", "198.51.100.0/24": "GB"}
    mmdb = write_mmdb({prefix: {"country_code": code} for prefix, code in countries.items()})
    return publish(tmp_path / "state", country_mmdb=mmdb, geofeeds=(first, second))


SOURCES = [
    # address, source, prefix, region, about where
    ("192.0.2.1", "map", None, "GB", (51, 0)),
    ("192.0.2.129", "isp.csv", "192.0.2.128/25", "IN-MH", (19, 73)),  # the first of two geofeeds counts
    ("192.0.2.241", "other.csv", "192.0.2.240/28", "IN", (22, 74)),  # the longest prefix counts, of whichever geofeed
    ("203.0.113.129", "other.csv", "203.0.113.128/25", None, None),  # a geofeed takes a location away
    ("203.0.113.1", "map", None, "IN", (22, 74)),
    ("2001:db8:9::1", "isp.csv", "2001:db8:9::/48", "GB", (51, 0)),
    ("2001:db8:a::1", "map", None, None, None),
]


@pytest.mark.parametrize(("address", "name", "prefix", "region", "about"), SOURCES)
def test_explain_names_the_geofeed_that_overrode_the_map(
    located: Path, address: str, name: str, prefix: str | None, region: str | None, about: tuple[int, int] | None
) -> None:
    why = why_of(located, address)
    location = why["location"]
    assert why["region"] == region
    assert (location["source"], location["prefix"]) == ("map" if name == "map" else "geofeed", prefix)
    assert location["name"] == (name if prefix else why_of(located, BRITISH)["location"]["name"])
    if about:
        assert (round(location["latitude"]), round(location["longitude"])) == about


def test_without_geofeeds_the_location_is_of_the_country(tmp_path: Path, publish: Publish) -> None:
    location = why_of(publish(tmp_path / "state"), "49.32.0.1")["location"]
    assert (location["source"], location["name"], location["prefix"]) == ("map", "country-prefixes.txt.xz", None)
    assert (round(location["latitude"]), round(location["longitude"])) == (22, 74)


SITES = [
    # settings, address, the sites that are not used with their reasons
    ("a client of the ISP gets all", {}, "203.0.113.9", {}),
    ("no route and closed", {}, "49.32.0.1", {"bom001": CLOSED, "del001": CLOSED}),
    (
        "beyond the ceiling",
        {"fallback_max_km": 1000},
        "49.32.0.1",
        {"bom001": CLOSED, "del001": CLOSED, "lhr001": "no route, and farther than fallback_max_km = 1000"},
    ),
    (
        "beyond the number of sites",
        {"fallback_sites": 1},
        "49.32.0.1",
        {
            "bom001": CLOSED,
            "del001": CLOSED,
            "lhr001": "no route, and 1 sites that accept off-net clients are nearer",
        },
    ),
]


@pytest.mark.parametrize(("name", "settings", "address", "expected"), SITES, ids=[row[0] for row in SITES])
def test_near_sites_that_a_client_does_not_get_are_listed_with_the_reason(
    tmp_path: Path, publish: Publish, name: str, settings: dict[str, Any], address: str, expected: dict[str, str]
) -> None:
    why = why_of(publish(tmp_path / "state", **settings), address)
    rows = why["sites_not_used"]
    assert {row["site"]: row["reason"] for row in rows} == expected
    assert [row["distance_km"] for row in rows] == sorted(row["distance_km"] for row in rows)
    assert not {row["site"] for row in rows} & {entry["site"] for entry in why["ranking"]}


def test_a_site_that_a_route_excludes_is_listed_as_such(tmp_path: Path, publish: Publish) -> None:
    routes = "prefix,cluster,as_path,exclude\n49.32.0.0/16,bom001-a,64500,no\n49.32.0.0/24,bom002-a,64500,yes\n"
    rows = why_of(publish(tmp_path / "state", routes), "49.32.0.1")["sites_not_used"]
    assert {row["site"]: row["reason"] for row in rows} == {"bom002": "a route excludes its clusters", "del001": CLOSED}


def test_only_the_nearest_of_many_sites_are_listed(tmp_path: Path, publish: Publish, fleet: Fleet) -> None:
    closed = next(cluster for cluster in fleet.clusters if cluster.site == "bom001")
    sites = [Site(f"x{i}", "IN", "Mumbai", 19.0 + i, 72.9) for i in range(20)]
    clusters = [dataclasses.replace(closed, id=f"x{i}-a", site=f"x{i}", number=4 + i) for i in range(20)]
    larger = dataclasses.replace(fleet, sites=(*fleet.sites, *sites), clusters=(*fleet.clusters, *clusters))
    rows = why_of(publish(tmp_path / "state", fleet=larger), "49.32.0.1")["sites_not_used"]
    assert len(rows) == 5
    assert rows[0]["distance_km"] < 100


CEILINGS = [
    # a client in India, or of nowhere; the ceiling; the sites of the ranking
    ("203.0.113.9", None, {"bom001", "bom002", "del001", "lhr001"}),
    ("203.0.113.9", 2000, {"bom001", "bom002", "del001"}),  # a route counts at any distance
    ("198.51.100.7", 1, {"lhr001"}),
    ("49.32.0.1", None, {"bom002", "lhr001"}),
    ("49.32.0.1", 500, {"bom002"}),
    ("49.32.0.1", 1, set()),
    ("49.32.0.1", 100_000, {"bom002", "lhr001"}),
]


@pytest.mark.parametrize(("address", "most_km", "expected"), CEILINGS)
def test_clients_without_a_route_get_no_site_beyond_the_ceiling(
    tmp_path: Path, publish: Publish, address: str, most_km: float | None, expected: set[str]
) -> None:
    state = publish(tmp_path / "state", fallback_max_km=most_km)
    assert {entry["site"] for entry in why_of(state, address)["ranking"]} == expected
    answer = explain(Snapshot.map(state), address, "t", service="video", n=8)
    assert {target.get("site") for target in answer["targets"]} - {None} == expected
    assert answer["targets"][-1].get("fallback") or len(answer["targets"]) == 8
