"""Rankings of a (chain, region) by any policy, against the slow reference."""

from __future__ import annotations

import itertools
import math
import random
from array import array
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _fastpath import prefix_rows, zone_rankings
from _fastpath.intervals import Chains, Pairs, sweep
from _fastpath.ranking import FALLBACK, PRICE, RANK
from steering.model.policy import RANKING_KEYS, RANKING_POLICIES
from tests.support import reference

SITES = {0: (0.0, 0.0), 1: (0.0, 0.5), 2: (10.0, 10.0), 3: (-33.9, 151.2), 4: (51.5, -0.1), 5: (51.4, 0.1)}


def vector(latitude: float, longitude: float) -> list[float]:
    north, east = math.radians(latitude), math.radians(longitude)
    return [math.cos(north) * math.cos(east), math.cos(north) * math.sin(east), math.sin(north)]


COLUMNS = ("cluster", "class", "as_path", "origin", "med", "excludes")
FREE = array("d", [0.0, 0.0, 0.0])
PRICES = array("d", [16.0, 16.0, 32.0, 32.0, 48.0, 96.0, 96.0, 6.4])  # by cluster; without a route; of 1000 km


def distance_km(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Haversine: another formula than the one judged."""
    (north_a, east_a), (north_b, east_b) = (tuple(map(math.radians, place)) for place in (a, b))
    half = (
        math.sin((north_b - north_a) / 2) ** 2
        + math.cos(north_a) * math.cos(north_b) * math.sin((east_b - east_a) / 2) ** 2
    )
    return 2 * zone_rankings.EARTH_RADIUS_KM * math.asin(math.sqrt(half))


def ranking_words(
    chain_routes: list[list[dict[str, int]]], policy: tuple[str, ...], region: tuple[float, float], fallback: list[int]
) -> tuple[list[tuple[int, int]], int]:
    """Return the (cluster, rank word) and the partner of one chain, given as sets of routes, longest prefix first."""
    flat = list(itertools.chain.from_iterable(chain_routes))
    first = array("I", [0, *itertools.accumulate(len(routes) for routes in chain_routes)])
    # Sets nest longest first: sweep them as prefixes of one address.
    text = "".join(f"0.0.0.0/{32 - place} {place}\n" for place in range(len(chain_routes)))
    columns, tails, _, _ = prefix_rows.read(text.encode())
    chains = Chains()
    labels = array("I", (int(tail) for tail in tails))
    columns[4].value = prefix_rows.relabel(columns[4].value, labels)
    intervals = sweep(prefix_rows.sort(columns[4]), chains)
    wanted = Pairs()
    wanted.intern(intervals.value[0], 0)
    result = zone_rankings.make_rankings(
        wanted, chains, first, array("I", range(len(flat))),
        {name: array("I", (route[name] for route in flat)) for name in COLUMNS},
        array("d", itertools.chain.from_iterable(vector(*SITES[cluster]) for cluster in sorted(SITES))),
        array("I", [0, 7, 0, 8, 0, 9]), array("d", vector(*region)),
        array("I", [0, len(fallback)]), array("I", fallback), PRICES, policy, 100,
    )  # fmt: skip
    return list(zip(result.ranking_entries[0::2], result.ranking_entries[1::2], strict=True)), result.partner[0]


def build_ranking(
    chain_routes: list[list[dict[str, int]]], policy: tuple[str, ...], region: tuple[float, float], fallback: list[int]
) -> tuple[list[tuple[int, int]], list[tuple[int, int]], int]:
    """Return (route ranking_entries, fallback ranking_entries, partner) of one chain, without prices."""
    steps, partner = ranking_words(chain_routes, policy, region, fallback)
    routes = [(cluster, word & RANK) for cluster, word in steps if not word & FALLBACK]
    return routes, [(cluster, word & RANK) for cluster, word in steps if word & FALLBACK], partner


def route(
    cluster: int, as_path: int = 1, med: int = 0, route_class: int = 0, origin: int = 0, excludes: int = 0
) -> dict[str, int]:
    return dict(zip(COLUMNS, (cluster, route_class, as_path, origin, med, excludes), strict=True))


HERE = (0.0, 0.0)
AWAY = route(0, excludes=1)
RANKING_ROWS: list[tuple[str, list[list[dict[str, int]]], list[tuple[int, int]], list[tuple[int, int]]]] = [
    # name, routes longest prefix first, prefix_first ranking, local_first ranking
    ("the longest prefix wins over everything", [[route(2, 9, 99, 2)], [route(0)]], [(2, 0), (0, 1)], [(2, 0), (0, 1)]),
    ("equal prefix, shorter path wins", [[route(0, 3), route(1, 1)]], [(1, 0), (0, 1)], [(1, 0), (0, 1)]),
    ("equal path, lower MED wins, the other is its failover", [[route(0, med=100), route(1)]], [(1, 0), (0, 1)], [(1, 0), (0, 1)]),
    ("embedded before exchange at equal path and MED", [[route(0, route_class=2), route(1)]], [(1, 0), (0, 1)], [(1, 0), (0, 1)]),
    ("a prepended embedded route differs by policy", [[route(0, 3), route(1, 1, route_class=2)]], [(1, 0), (0, 1)], [(0, 0), (1, 1)]),
    ("all equal but distance: nearer first", [[route(2), route(0)]], [(0, 0), (2, 1)], [(0, 0), (2, 1)]),
    ("all equal within a step of 100 km: a shared rank", [[route(0), route(1)]], [(0, 0), (1, 0)], [(0, 0), (1, 0)]),
    ("a cluster heard twice keeps its longest prefix", [[route(0, 5)], [route(0, 1), route(1, 1)]], [(0, 0), (1, 1)], [(0, 0), (1, 1)]),
    ("an exclusion keeps a cluster away", [[AWAY, route(1)]], [(1, 0)], [(1, 0)]),
    ("an exclusion counts for shorter prefixes", [[AWAY], [route(0), route(1)]], [(1, 0)], [(1, 0)]),
    ("a longer prefix announces an excluded cluster", [[route(0)], [AWAY, route(1)]], [(0, 0), (1, 1)], [(0, 0), (1, 1)]),
    ("an exclusion wins over a route of its prefix", [[route(0), AWAY, route(1)]], [(1, 0)], [(1, 0)]),
    ("only exclusions", [[AWAY], [route(1, excludes=1)]], [], []),
    ("a cluster heard in two ways keeps the better", [[route(0, 5), route(0, 1), route(1, 2)]], [(0, 0), (1, 1)], [(0, 0), (1, 1)]),
]  # fmt: skip


@pytest.mark.parametrize("row", RANKING_ROWS, ids=[row[0] for row in RANKING_ROWS])
def test_rankings_of_both_presets(row: tuple[str, list[list[dict[str, int]]], list[Any], list[Any]]) -> None:
    _, routes, prefix_first, local_first = row
    assert build_ranking(routes, RANKING_POLICIES["prefix_first"], HERE, [])[0] == prefix_first
    assert build_ranking(routes, RANKING_POLICIES["local_first"], HERE, [])[0] == local_first


def test_fallback_ranking_entries_follow_by_distance_and_no_cluster_stands_twice() -> None:
    routes, fallback, partner = build_ranking(
        [[route(1)]], RANKING_POLICIES["prefix_first"], (51.5, 0.0), [4, 5, 1, 0, 3]
    )
    assert routes == [(1, 0)]
    assert fallback == [(4, 1), (5, 1), (0, 2), (3, 3)]
    assert partner == 7


def test_an_excluded_cluster_is_no_fallback_and_no_partner() -> None:
    routes, fallback, partner = build_ranking(
        [[route(3, excludes=1)], [route(1), route(3)]], RANKING_POLICIES["prefix_first"], HERE, [3, 5]
    )
    assert (routes, fallback, partner) == ([(1, 0)], [(5, 1)], 7)


def test_where_no_route_leads_the_fallback_begins_at_rank_0() -> None:
    assert build_ranking([[]], RANKING_POLICIES["prefix_first"], (51.5, 0.0), [4, 5, 0])[1] == [(4, 0), (5, 0), (0, 1)]


routes_of_a_prefix = st.lists(
    st.builds(
        route,
        st.integers(0, 5),
        st.integers(0, 2),
        st.sampled_from((0, 100)),
        st.integers(0, 3),
        st.integers(0, 2),
        st.sampled_from((0, 0, 0, 1)),
    ),
    max_size=6,
)


@settings(max_examples=500, deadline=None)
@given(
    st.lists(routes_of_a_prefix, min_size=1, max_size=4),
    st.permutations(list(RANKING_KEYS)),
    st.integers(1, 6),
    st.randoms(),
)
def test_rankings_match_the_reference_for_any_policy_and_any_order(
    chain_routes: list[list[dict[str, int]]], keys: list[str], count: int, order: random.Random
) -> None:
    policy = tuple(keys[:count])
    steps = {cluster: int(distance_km(HERE, place) / 100) for cluster, place in SITES.items()}
    wanted = reference.ranking(chain_routes, policy, steps)
    assert build_ranking(chain_routes, policy, HERE, [])[0] == wanted
    for routes in chain_routes:
        order.shuffle(routes)
    assert build_ranking(chain_routes, policy, HERE, [])[0] == wanted


def test_rankings_refuse_clusters_and_policies_that_there_are_none_of() -> None:
    chains, wanted = Chains(), Pairs()
    wanted.intern(0, 0)
    routes = {name: array("I", [9]) for name in COLUMNS}
    none, place, policy = array("I"), array("d", [1.0, 0.0, 0.0]), RANKING_POLICIES["prefix_first"]

    def make(
        routes: Any,
        places: array[float],
        fallback: array[int],
        policy: tuple[str, ...],
        prices: Any = FREE,
    ) -> zone_rankings.Rankings:
        first = array("I", [0, len(fallback)])
        sets = array("I", [0, 0])
        return zone_rankings.make_rankings(
            wanted, chains, sets, none, routes, places, array("I", [0]), place, first, fallback, prices, policy, 100
        )

    empty = dict.fromkeys(routes, none)
    with pytest.raises(ValueError, match="route 0 names cluster 9, there are 1"):
        make(routes, place, none, policy)
    with pytest.raises(ValueError, match="fallback 0 names cluster 7, there are 1"):
        make(empty, place, array("I", [7]), policy)
    with pytest.raises(ValueError, match="at most 8 keys, not 9"):
        make(empty, place, none, ("med",) * 9)
    with pytest.raises(ValueError, match="three doubles each"):
        make(empty, array("d"), none, policy)
    with pytest.raises(ValueError, match="2 prices; 1 clusters and two more have one"):
        make(empty, place, none, policy, array("d", [0, 0]))
    twice = make(empty, place, array("I", [0, 0, 0, 0, 0, 0]), policy)
    assert list(twice.ranking_entries[::2]) == [0]


def test_a_rank_costs_what_its_cheapest_cluster_costs_and_no_less_than_the_one_before() -> None:
    # Of 192: clusters 0 and 1 cost 16, 2 and 3 cost 32, 4 costs 48; without a route 96; 1000 km 6.4.
    words = prices_of([[route(4)], [route(0), route(1)], [route(2, as_path=2)]], [3])
    assert words == [(4, 0, 48 + 37), (0, 1, 85), (1, 1, 85), (2, 2, 85), (3, 3, 96 + 95)]
    assert prices_of([[route(0), route(2, as_path=2)]], []) == [(0, 0, 16), (2, 1, 32 + 10)]


def prices_of(chain_routes: list[list[dict[str, int]]], fallback: list[int]) -> list[tuple[int, int, int]]:
    """Return (cluster, rank, price) of each entry of the ranking of a client at 0 N 0 E."""
    steps = ranking_words(chain_routes, RANKING_POLICIES["prefix_first"], HERE, fallback)[0]
    return [(cluster, word & RANK, word // PRICE) for cluster, word in steps]
