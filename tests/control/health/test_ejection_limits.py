"""Inference never ejects more than the limits allow: rows, then the property against an obvious count."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.control.health.appliance_state import Location
from steering.control.health.ejection_limits import Sizes, allowance, decide
from steering.settings import Settings

SETTINGS = Settings(ejection_limit_cluster=0.5, ejection_limit_partner=0.5, ejection_limit_fleet=0.05)
Locations = dict[str, Location]


def location_of(name: str) -> Location:
    """`s1a3`: appliance 3 of cluster a at site s1, of an exchange; at a site `p1` or `p2` of the partner p."""
    return Location(name[:3], name[:2], name[0] if name[0] in "pqr" else "")


def fleet(**clusters: int) -> Locations:
    return {f"{cluster}{i}": location_of(f"{cluster}{i}") for cluster, count in clusters.items() for i in range(count)}


def sizes_of(locations: Locations) -> Sizes:
    places = locations.values()
    return Sizes(*(Counter(getattr(at, place) for at in places) for place in ("cluster", "site", "partner")))


# An exchange of one cluster of four, one of two clusters; the partners p of two sites, q of one and r of one appliance;
# and many other exchanges.
FLEET = fleet(
    **{"s1a": 4, "s2a": 2, "s2b": 2, "p1a": 4, "p2a": 2, "q1a": 4, "r1a": 1},
    **{f"t{i}a": 1 for i in range(10)},
    **{f"u{i}a": 10 for i in range(9)},
)


def names(*groups: str) -> list[str]:
    """`s1a012`: three appliances of cluster s1a."""
    return [f"{group[:3]}{digit}" for group in groups for digit in group[3:]]


TOO_MANY = [f"t{i}a0" for i in range(6)]
ROWS: list[tuple[str, list[str], list[str], list[str], list[str], list[str], list[str]]] = [
    # name, suspect, out already, recent, confirmed, ejected, suppressed by which limit
    ("none", [], [], [], [], [], []),
    ("one of four", names("s1a0"), [], [], [], names("s1a0"), []),
    ("half of a cluster", names("s1a01"), [], [], [], names("s1a01"), []),
    ("three of four: the first two", names("s1a012"), [], [], [], names("s1a01"), ["s1a2 cluster s1a"]),
    ("the third later", names("s1a012"), names("s1a01"), names("s1a01"), [], [], ["s1a2 cluster s1a"]),
    ("a whole site", names("s1a0123"), [], [], [], names("s1a0123"), []),
    ("the rest of a site", names("s1a0123"), names("s1a0"), names("s1a0"), [], names("s1a123"), []),
    ("a cluster of a site of two", names("s2a01"), [], [], [], names("s2a0"), ["s2a1 cluster s2a"]),
    ("both clusters of a site", names("s2a01", "s2b01"), [], [], [], names("s2a01", "s2b01"), []),
    ("a site of one", names("t0a0"), [], [], [], names("t0a0"), []),
    ("too many of the fleet: none", TOO_MANY, [], [], [], [], [f"{name} fleet" for name in TOO_MANY]),
    ("too many with recent ejections", names("t0a0"), [], names("u0a01234"), [], [], ["t0a0 fleet"]),
    ("a flapping appliance counts once", names("u0a0"), [], names("u0a01234"), [], names("u0a0"), []),
    # partners
    ("half of a partner", names("p1a0123"), [], [], [], names("p1a012"), ["p1a3 partner p"]),
    ("the rest, after the interval", names("p1a0123"), names("p1a012"), [], [], [], ["p1a3 partner p"]),
    ("a small site of a partner", names("p2a01"), [], [], [], names("p2a01"), []),
    ("a partner's only site", names("q1a0123"), [], [], [], names("q1a01"), ["q1a2 partner q", "q1a3 partner q"]),
    ("a partner's only appliance", names("r1a0"), [], [], [], names("r1a0"), []),
    (
        "what a partner's limit keeps leaves room for others",
        names("p1a0123", "p2a01", "t0a0"),
        [],
        [],
        [],
        names("p1a012", "t0a0"),
        ["p1a3 partner p", "p2a0 partner p", "p2a1 partner p"],
    ),
    # confirmed by players
    ("a confirmed partner", names("q1a0123"), [], [], names("q1a0123"), names("q1a0123"), []),
    ("more than the fleet's share, confirmed", TOO_MANY, [], [], TOO_MANY, TOO_MANY, []),
    ("confirmed ones leave room", [*TOO_MANY, "u0a0"], [], [], TOO_MANY, [*TOO_MANY, "u0a0"], []),
    ("confirmed when long out", names("q1a012"), names("q1a01"), names("q1a01"), names("q1a01"), names("q1a2"), []),
    ("the others still have the limit", names("q1a0123"), [], [], names("q1a3"), names("q1a013"), ["q1a2 partner q"]),
    (
        "a confirmed one goes when none may",
        [*TOO_MANY, "u0a0"],
        [],
        [],
        ["u0a0"],
        ["u0a0"],
        [f"{name} fleet" for name in TOO_MANY],
    ),
]


@pytest.mark.parametrize(
    ("name", "suspect", "out", "recent", "confirmed", "ejected", "suppressed"), ROWS, ids=[row[0] for row in ROWS]
)
def test_ejections_beyond_the_limits_are_suppressed(
    name: str,
    suspect: list[str],
    out: list[str],
    recent: list[str],
    confirmed: list[str],
    ejected: list[str],
    suppressed: list[str],
) -> None:
    assert allowance(0.05, len(FLEET)) == 5
    sets = frozenset(out), frozenset(recent), frozenset(confirmed)
    limits = decide(suspect, *sets, FLEET, sizes_of(FLEET), SETTINGS)
    assert sorted(name for name, limit in limits.items() if not limit) == sorted(ejected)
    assert {f"{name} {limit}" for name, limit in limits.items() if limit} == set(suppressed)


@pytest.mark.parametrize(("appliances", "ejected"), [(1, 1), (2, 1), (3, 1), (4, 2), (13, 6)])
def test_of_a_partner_one_and_at_most_half_go_without_a_witness(appliances: int, ejected: int) -> None:
    locations = fleet(q1a=appliances) | fleet(u0a=1000)
    dark = [name for name in locations if name.startswith("q")]
    limits = decide(dark, *[frozenset[str]()] * 3, locations, sizes_of(locations), SETTINGS)
    assert sum(not limit for limit in limits.values()) == ejected


@dataclasses.dataclass(frozen=True)
class Case:
    """A small fleet in which some are suspect, out, recently ejected, and confirmed."""

    locations: Locations
    suspect: list[str]
    out: frozenset[str]
    recent: frozenset[str]
    confirmed: frozenset[str]
    settings: Settings

    def decide(self, confirmed: frozenset[str] | None = None) -> dict[str, str]:
        confirmed = self.confirmed if confirmed is None else confirmed
        sizes = sizes_of(self.locations)
        return decide(self.suspect, self.out, self.recent, confirmed, self.locations, sizes, self.settings)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    clusters = ("s1a", "s1b", "s2a", "s3a", "p1a", "p1b", "p2a", "q1a")
    locations = fleet(**{name: draw(st.integers(1, 5)) for name in clusters})
    some = st.lists(st.sampled_from(sorted(locations)), unique=True)
    suspect = draw(some)
    of_suspect = st.frozensets(st.sampled_from(suspect)) if suspect else st.just(frozenset[str]())
    share = st.sampled_from([0.0, 0.1, 0.3, 0.5, 1.0])
    settings = Settings(
        ejection_limit_cluster=draw(share), ejection_limit_partner=draw(share), ejection_limit_fleet=draw(share)
    )
    confirmed = draw(of_suspect)
    recent = frozenset(draw(some)) - confirmed
    return Case(locations, suspect, draw(of_suspect), recent, confirmed, settings)


def gone(limits: dict[str, str]) -> set[str]:
    return {name for name, limit in limits.items() if not limit}


@given(cases())
def test_what_has_no_witness_goes_within_every_limit(case: Case) -> None:
    limits, sizes = case.decide(), sizes_of(case.locations)
    assert limits.keys() == set(case.suspect) - case.out
    assert case.confirmed - case.out <= gone(limits)
    ejected = gone(limits) - case.confirmed
    if ejected:
        assert len((case.recent - case.confirmed) | ejected) <= allowance(
            case.settings.ejection_limit_fleet, len(case.locations)
        )
    before = (case.out | case.recent) - case.confirmed
    for name in ejected - case.recent:
        at = case.locations[name]
        of_partner = sum(case.locations[other].partner == at.partner for other in before | ejected)
        of_cluster = sum(case.locations[other].cluster == at.cluster for other in before | ejected)
        site = {other for other, place in case.locations.items() if place.site == at.site}
        is_dark = site <= case.recent | case.out | set(case.suspect)
        if at.partner:
            assert of_partner <= allowance(case.settings.ejection_limit_partner, sizes.partners[at.partner])
        assert is_dark or of_cluster <= allowance(case.settings.ejection_limit_cluster, sizes.clusters[at.cluster])


@given(cases(), st.data())
def test_a_witness_never_keeps_the_appliance_that_it_confirms(case: Case, data: st.DataObject) -> None:
    more = data.draw(st.frozensets(st.sampled_from(sorted(case.locations)))) & frozenset(case.suspect)
    before, after = gone(case.decide()), gone(case.decide(case.confirmed | more))
    assert more - case.out <= after
    assert len(after) >= len(before)


@given(cases())
def test_one_alone_may_always_go(case: Case) -> None:
    for name in case.suspect:
        alone = dataclasses.replace(case, suspect=[name], out=frozenset(), recent=frozenset(), confirmed=frozenset())
        assert alone.decide() == {name: ""}


def test_in_an_empty_fleet_nothing_is_ejected() -> None:
    assert decide([], *[frozenset[str]()] * 3, {}, sizes_of({}), SETTINGS) == {}
