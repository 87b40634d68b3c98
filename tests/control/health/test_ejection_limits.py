"""Inference never ejects more than the limits allow: rows, then the property against an obvious count."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.control.health.appliance_state import Location
from steering.control.health.ejection_limits import allowance, decide
from steering.settings import Settings

SETTINGS = Settings(ejection_limit_cluster=0.5, ejection_limit_fleet=0.05)


def location_of(name: str) -> Location:
    """`s1a3`: appliance 3 of cluster a at site s1."""
    return Location(name[:3], name[:2])


def fleet(**clusters: int) -> dict[str, Location]:
    return {f"{cluster}{i}": location_of(f"{cluster}{i}") for cluster, count in clusters.items() for i in range(count)}


def sizes_of(locations: dict[str, Location]) -> tuple[Counter[str], Counter[str]]:
    """Return the number of appliances of each cluster and of each site."""
    return Counter(at.cluster for at in locations.values()), Counter(at.site for at in locations.values())


# A site of one cluster of four, one of two clusters, and many others.
FLEET = fleet(s1a=4, s2a=2, s2b=2, **{f"t{i}a": 1 for i in range(10)}, **{f"u{i}a": 10 for i in range(10)})

ROWS: list[tuple[str, list[str], list[str], list[str], list[str], list[str]]] = [
    # name, suspect, out already, recent, ejected, suppressed by which limit
    ("nobody", [], [], [], [], []),
    ("one of four", ["s1a0"], [], [], ["s1a0"], []),
    ("half of a cluster", ["s1a0", "s1a1"], [], [], ["s1a0", "s1a1"], []),
    ("three of four: the first two", ["s1a0", "s1a1", "s1a2"], [], [], ["s1a0", "s1a1"], ["s1a2 s1a"]),
    ("the third later", ["s1a0", "s1a1", "s1a2"], ["s1a0", "s1a1"], ["s1a0", "s1a1"], [], ["s1a2 s1a"]),
    ("a whole site", ["s1a0", "s1a1", "s1a2", "s1a3"], [], [], ["s1a0", "s1a1", "s1a2", "s1a3"], []),
    ("the rest of a site", ["s1a0", "s1a1", "s1a2", "s1a3"], ["s1a0"], ["s1a0"], ["s1a1", "s1a2", "s1a3"], []),
    ("a cluster of a site of two", ["s2a0", "s2a1"], [], [], ["s2a0"], ["s2a1 s2a"]),
    ("both clusters of a site", ["s2a0", "s2a1", "s2b0", "s2b1"], [], [], ["s2a0", "s2a1", "s2b0", "s2b1"], []),
    ("a site of one", ["t0a0"], [], [], ["t0a0"], []),
    ("too many of the fleet: nobody", [f"t{i}a0" for i in range(6)], [], [], [], [f"t{i}a0 fleet" for i in range(6)]),
    ("too many with recent ejections", ["t0a0"], [], [f"u0a{i}" for i in range(5)], [], ["t0a0 fleet"]),
    ("a flapping appliance counts once", ["u0a0"], [], [f"u0a{i}" for i in range(5)], ["u0a0"], []),
]


@pytest.mark.parametrize(
    ("name", "suspect", "out", "recent", "ejected", "suppressed"), ROWS, ids=[row[0] for row in ROWS]
)
def test_ejections_beyond_the_limits_are_suppressed(
    name: str, suspect: list[str], out: list[str], recent: list[str], ejected: list[str], suppressed: list[str]
) -> None:
    assert allowance(0.05, len(FLEET)) == 5
    limits = decide(suspect, frozenset(out), frozenset(recent), FLEET, *sizes_of(FLEET), SETTINGS)
    assert sorted(name for name, limit in limits.items() if not limit) == sorted(ejected)
    assert {f"{name} {limit}" for name, limit in limits.items() if limit} == set(suppressed)


@given(st.data())
def test_a_cluster_keeps_its_share_unless_its_site_is_gone(data: st.DataObject) -> None:
    locations = fleet(**{name: data.draw(st.integers(1, 6)) for name in ("s1a", "s1b", "s2a", "s3a")})
    some = st.lists(st.sampled_from(sorted(locations)), unique=True)
    suspect = data.draw(some)
    out = frozenset(name for name in suspect if data.draw(st.booleans()))
    recent = frozenset(data.draw(some)) | out
    of_cluster, of_fleet = data.draw(st.sampled_from([0.0, 0.3, 0.5, 1.0])), data.draw(st.sampled_from([0.1, 0.5, 1.0]))
    settings = Settings(ejection_limit_cluster=of_cluster, ejection_limit_fleet=of_fleet)
    clusters, sites = sizes_of(locations)
    limits = decide(suspect, out, recent, locations, clusters, sites, settings)
    ejected = {name for name, limit in limits.items() if not limit}
    assert limits.keys() == set(suspect) - out
    if ejected:
        assert len(recent | ejected) <= allowance(of_fleet, len(locations))
    gone = Counter(locations[name].cluster for name in recent | out | ejected)
    for cluster in {locations[name].cluster for name in ejected - recent}:
        site = cluster[:2]
        whole = {name for name in locations if locations[name].site == site} <= recent | out | set(suspect)
        assert whole or gone[cluster] <= max(
            allowance(of_cluster, clusters[cluster]),
            sum(locations[name].cluster == cluster for name in recent | out),
        )


def test_in_an_empty_fleet_nothing_is_ejected() -> None:
    assert decide([], frozenset(), frozenset(), {}, *sizes_of({}), SETTINGS) == {}
