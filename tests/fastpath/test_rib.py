"""Route text to columns, intervals and rankings, each step against something slower and plainer."""

from __future__ import annotations

import ipaddress
import itertools
import math
import random
from array import array
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from _fastpath import prefix_rows, rib, zone_rankings
from _fastpath.intervals import Chains, Intervals, Pairs, overlay, sweep
from steering.model.policy import RANKING_KEYS, RANKING_POLICIES
from tests.support import reference


def texts(columns: prefix_rows.Columns, family: int) -> list[tuple[str, int, int]]:
    """Return (prefix, value, row) of every row."""
    make: Any = ipaddress.IPv4Network if family == 4 else ipaddress.IPv6Network
    shift = 96 if family == 4 else 0
    return [
        (str(make(((high << 64 | low) >> shift, length))), value, row)
        for high, low, length, value, row in zip(
            columns.high, columns.low, columns.length, columns.value, columns.row, strict=True
        )
    ]


def test_lines_become_columns_and_equal_tails_share_a_value() -> None:
    text = b"# a comment\n10.0.0.0/8 64500\n\n  2001:db8::/32\t64501 \r\n10.1.0.0/16,64500\n0.0.0.0/0 64501\n::/0\n"
    columns, tails, refusals, refused_by = prefix_rows.read(text)
    assert tails == [b"64500", b"64501", b""]
    assert texts(columns[4], 4) == [("10.0.0.0/8", 0, 2), ("10.1.0.0/16", 0, 5), ("0.0.0.0/0", 1, 6)]
    assert texts(columns[6], 6) == [("2001:db8::/32", 1, 4), ("::/0", 2, 7)]
    assert (refusals, refused_by) == ([], {})


BAD_LINES = [
    ("10.0.0.1/8 1", "10.0.0.1/8", "host bits are set; write 10.0.0.0/8"),
    ("2001:db8::1/64 1", "2001:db8::1/64", "host bits are set; write 2001:db8::/64"),
    ("0.0.0.1/0 1", "0.0.0.1/0", "host bits are set; write 0.0.0.0/0"),
    ("10.0.0.0 1", "10.0.0.0", "a prefix is written address/length"),
    ("hello", "hello", "a prefix is written address/length"),
    ("10.0.0.0/33 1", "10.0.0.0/33", "an IPv4 length is at most 32"),
    ("::/129 1", "::/129", "an IPv6 length is at most 128"),
    ("10.0.0.0/08 1", "10.0.0.0/08", "the length is a decimal number without leading zeros"),
    ("10.0.0.0/ 1", "10.0.0.0/", "the length is a decimal number without leading zeros"),
    ("10.0.0.0/-1 1", "10.0.0.0/-1", "the length is a decimal number without leading zeros"),
    ("10.0.0.0/8/8 1", "10.0.0.0/8/8", "the length is a decimal number without leading zeros"),
    ("10.0.0.0/9999999 1", "10.0.0.0/9999999", "the length is a decimal number without leading zeros"),
    ("010.0.0.0/8 1", "010.0.0.0/8", "no IPv4 or IPv6 address"),
    ("10.0.0/24 1", "10.0.0/24", "no IPv4 or IPv6 address"),
    ("fe80::%1/64 1", "fe80::%1/64", "no IPv4 or IPv6 address"),
    ("/8 1", "/8", "no IPv4 or IPv6 address"),
    ("x" * 5000 + "/8 1", "x" * 80, "no IPv4 or IPv6 address"),
]


@pytest.mark.parametrize(("line", "value", "rule"), BAD_LINES, ids=[row[0][:20] for row in BAD_LINES])
def test_a_bad_line_is_refused_with_its_row_value_and_rule(line: str, value: str, rule: str) -> None:
    columns, _, refusals, refused_by = prefix_rows.read(f"192.0.2.0/24 7\n{line}\n2001:db8::/32 7\n".encode())
    assert refusals == [(2, value, rule)]
    assert refused_by == {rule.partition(";")[0]: 1}
    assert len(columns[4]) == len(columns[6]) == 1


def test_reading_may_begin_further_on() -> None:
    columns, tails, _, _ = prefix_rows.read(b"head\n10.0.0.0/8 a\n", 2, 5)
    assert (list(columns[4].row), tails) == ([2], [b"a"])
    for start in (-1, 19):
        with pytest.raises(ValueError, match=f"byte {start} lies outside of 18 bytes"):
            prefix_rows.read(b"head\n10.0.0.0/8 a\n", 2, start)


def test_refusals_beyond_a_thousand_are_counted() -> None:
    _, _, refusals, refused_by = prefix_rows.read(b"nonsense\n" * 2500 + b"10.0.0.1/8\n10.1.1.1/16\n")
    assert len(refusals) == 1000
    assert refused_by == {"a prefix is written address/length": 2500, "host bits are set": 2}


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_make_the_reader_fail(data: bytes) -> None:
    columns, tails, _, refused_by = prefix_rows.read(data)
    rows = len(columns[4]) + len(columns[6])
    assert rows + sum(refused_by.values()) <= data.count(b"\n") + 1
    assert all(value < len(tails) for family in (4, 6) for value in columns[family].value)


def prefixes(version: int) -> st.SearchStrategy[str]:
    bits = 32 if version == 4 else 128
    make: Any = ipaddress.IPv4Network if version == 4 else ipaddress.IPv6Network
    return st.builds(
        lambda length, number: str(make((number >> (bits - length) << (bits - length) if length else 0, length))),
        st.integers(0, bits),
        st.integers(0, 2**bits - 1),
    )


# Many rows of a few prefixes, as where each is announced at many sites.
FEW = st.sampled_from(["10.0.0.0/8", "10.0.0.0/9", "11.0.0.0/8", "2001:db8::/32", "2001:db8::/64", "2001:db8::1:0/112"])
ROWS = st.lists(st.tuples(st.one_of(prefixes(4), prefixes(6)), st.integers(0, 5)), max_size=40) | st.lists(
    st.tuples(FEW, st.integers(0, 5)), max_size=200
)


@settings(max_examples=300, deadline=None)
@given(ROWS)
@example([("10.0.0.0/8", row * 7 % 5) for row in range(100)] + [("10.0.0.0/9", 1), ("10.0.0.0/8", 9)])
@example([("10.0.0.0/8", row * 7 % 5) for row in range(100)] + [("10.0.0.0/9", 1), ("11.0.0.0/8", 9)])
def test_sorting_orders_as_the_standard_library_does(rows: list[tuple[str, int]]) -> None:
    columns, tails, _, _ = prefix_rows.read("".join(f"{prefix} {value}\n" for prefix, value in rows).encode())
    for family in (4, 6):
        result = [
            (ipaddress.ip_network(prefix), value, row)
            for prefix, value, row in texts(prefix_rows.sort(columns[family]), family)
        ]
        values = {int(tail): place for place, tail in enumerate(tails)}
        wanted = sorted(
            ((ipaddress.ip_network(prefix), values[value], row) for row, (prefix, value) in enumerate(rows, 1)
             if (":" in prefix) == (family == 6)),
            key=lambda item: (int(item[0].network_address), item[0].prefixlen, item[1], item[2]),
        )  # fmt: skip
        assert result == wanted
        ordered = prefix_rows.sort(columns[family])
        assert prefix_rows.sort(ordered) is ordered


@settings(max_examples=200, deadline=None)
@given(ROWS)
def test_a_prefix_has_the_set_of_its_values_and_what_repeats_is_counted(rows: list[tuple[str, int]]) -> None:
    columns, tails, _, _ = prefix_rows.read("".join(f"{prefix} {value}\n" for prefix, value in rows).encode())
    for family in (4, 6):
        grouped, combinations, (duplicates, repeated) = rib.group_by_prefix(
            prefix_rows.sort(columns[family]), len(tails)
        )
        result = {
            ipaddress.ip_network(prefix): combinations[value - len(tails)] if value >= len(tails) else (value,)
            for prefix, value, _ in texts(grouped, family)
        }
        assert all(list(values) == sorted(set(values)) for values in result.values())
        own = [(ipaddress.ip_network(prefix), value) for prefix, value in rows if (":" in prefix) == (family == 6)]
        assert {(prefix, int(tails[value])) for prefix, values in result.items() for value in values} == set(own)
        assert len(set(combinations)) == len(combinations)
        assert repeated == len(own) - len(set(own)) == len(duplicates)
        for row, like in duplicates:
            assert row > like
            assert rows[row - 1] == rows[like - 1]


LINES = ["10.0.0.0/8 a", "10.0.0.0/8 b", "10.0.0.0/8,a", "10.0.0.0/9 a", "10.0.0.1/8 a", "2001:db8::/32 a", "2001:db8::/32",
         "10.0.0.0/33 a", "# 10.0.0.0/8 a", "", "10.0.0.0 a"]  # fmt: skip


@given(st.lists(st.sampled_from(LINES), max_size=12))
def test_a_line_is_read_as_it_is_read_alone(lines: list[str]) -> None:
    columns, tails, refusals, _ = prefix_rows.read("".join(f"{line}\n" for line in lines).encode())
    refused: list[Any] = []
    taken: dict[int, list[Any]] = {4: [], 6: []}
    for row, line in enumerate(lines, 1):
        alone, its_tail, its_refusal, _ = prefix_rows.read(f"{line}\n".encode(), row)
        refused += its_refusal
        for family, result in taken.items():
            result += [(prefix, its_tail[value], place) for prefix, value, place in texts(alone[family], family)]
    assert refusals == refused
    for family, result in taken.items():
        assert [(prefix, tails[value], row) for prefix, value, row in texts(columns[family], family)] == result
        assert list(columns[family].low) == [0] * len(result)  # of these prefixes


def test_sorted_columns_are_handed_back_as_they_are() -> None:
    columns = prefix_rows.read(b"10.0.0.0/8 1\n10.0.0.0/9 1\n11.0.0.0/8 1\n")[0][4]
    assert prefix_rows.sort(columns) is columns


def test_rows_of_one_prefix_are_grouped_whatever_their_order() -> None:
    rows = [
        "10.0.0.0/8 a",
        "10.0.0.0/8 b",
        "10.0.0.0/8 a",
        "11.0.0.0/8 b",
        "12.0.0.0/8 b",
        "12.0.0.0/8 a",
        "10.0.0.0/9 a",
    ]
    for order in itertools.islice(itertools.permutations(rows), 0, 5040, 97):
        columns, tails, _, _ = prefix_rows.read(("\n".join(order) + "\n").encode())
        grouped, combinations, (duplicates, repeated) = rib.group_by_prefix(prefix_rows.sort(columns[4]), len(tails))
        announced = {
            prefix: {tails[place] for place in ((value,) if value < len(tails) else combinations[value - len(tails)])}
            for prefix, value, _ in texts(grouped, 4)
        }
        assert announced == {
            "10.0.0.0/8": {b"a", b"b"},
            "10.0.0.0/9": {b"a"},
            "11.0.0.0/8": {b"b"},
            "12.0.0.0/8": {b"a", b"b"},
        }
        assert len(combinations) == 1
        assert repeated == 1
        assert sorted(duplicates[0]) == [i for i, row in enumerate(order, 1) if row == "10.0.0.0/8 a"]


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(prefixes(6), st.integers(0, 9), max_size=30), st.lists(st.integers(0, 2**128 - 1), max_size=20))
def test_a_chain_is_every_covering_prefix_longest_first(rows: dict[str, int], asked: list[int]) -> None:
    columns, tails, _, _ = prefix_rows.read("".join(f"{prefix} {value}\n" for prefix, value in rows.items()).encode())
    chains = Chains()
    intervals = sweep(prefix_rows.sort(columns[6]), chains)
    judge = reference.Table(rows.items())
    starts = [high << 64 | low for high, low in zip(intervals.high, intervals.low, strict=True)]
    assert starts == sorted(set(starts))
    assert all(a != b for a, b in itertools.pairwise(intervals.value))
    for number in {*asked, *starts, *(start - 1 for start in starts if start)}:
        place = sum(start <= number for start in starts) - 1
        result = [int(tails[value]) for value in chains.values(intervals.value[place])]
        assert result == judge.covering(str(ipaddress.IPv6Address(number)))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(0, 15), st.integers(0, 3)), max_size=12), min_size=2, max_size=2))
def test_an_overlay_has_both_values_everywhere(cuts: list[list[tuple[int, int]]]) -> None:
    sides = []
    for side in cuts:
        starts = {0: 9, **{start << 60: value for start, value in side}}
        high = sorted(starts)
        sides.append(Intervals(array("Q", high), array("Q", [0] * len(high)), array("I", [starts[h] for h in high])))
    pairs = Pairs()
    both = overlay(sides[0], sides[1], pairs)
    for number in range(0, 16):
        at = number << 60
        left, right = (side.value[sum(h <= at for h in side.high) - 1] for side in sides)
        pair = both.value[sum(h <= at for h in both.high) - 1]
        assert (pairs.left[pair], pairs.right[pair]) == (left, right)


def test_pairs_keep_their_numbers_while_the_table_grows() -> None:
    pairs = Pairs()
    numbers = [pairs.intern(i * 7919 % 65536, i % 251) for i in range(20_000)]
    assert [pairs.intern(i * 7919 % 65536, i % 251) for i in range(20_000)] == numbers
    assert len(pairs) == len({(i * 7919 % 65536, i % 251) for i in range(20_000)}) == max(numbers) + 1


def test_rows_are_dealt_in_contiguous_runs() -> None:
    columns = prefix_rows.read("".join(f"10.{i}.0.0/16 {'ab'[i % 2]}\n" for i in range(10)).encode())[0][4]
    rib.divide(columns, array("I", [100, 200]), array("I", [2, 3]))
    assert list(columns.value)[0::2] == [100, 100, 100, 101, 101]
    assert list(columns.value)[1::2] == [200, 200, 201, 201, 202]


def test_labels_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="value 2, there are 2 labels"):
        prefix_rows.relabel(array("I", [0, 2]), array("I", [5, 6]))


# ---- rankings

SITES = {0: (0.0, 0.0), 1: (0.0, 0.5), 2: (10.0, 10.0), 3: (-33.9, 151.2), 4: (51.5, -0.1), 5: (51.4, 0.1)}


def vector(latitude: float, longitude: float) -> list[float]:
    north, east = math.radians(latitude), math.radians(longitude)
    return [math.cos(north) * math.cos(east), math.cos(north) * math.sin(east), math.sin(north)]


def distance_km(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Haversine: another formula than the one judged."""
    (north_a, east_a), (north_b, east_b) = (tuple(map(math.radians, place)) for place in (a, b))
    half = (
        math.sin((north_b - north_a) / 2) ** 2
        + math.cos(north_a) * math.cos(north_b) * math.sin((east_b - east_a) / 2) ** 2
    )
    return 2 * zone_rankings.EARTH_RADIUS_KM * math.asin(math.sqrt(half))


def build_ranking(
    chain_routes: list[list[dict[str, int]]], policy: tuple[str, ...], region: tuple[float, float], fallback: list[int]
) -> tuple[list[tuple[int, int]], list[tuple[int, int]], int]:
    """Return (route ranking_entries, fallback ranking_entries, partner) of one chain, given as sets of routes, longest prefix first."""
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
        {name: array("I", (route[name] for route in flat)) for name in ("cluster", "class", "as_path", "origin", "med")},
        array("d", itertools.chain.from_iterable(vector(*SITES[cluster]) for cluster in sorted(SITES))),
        array("I", [0, 7, 0, 8, 0, 9]), array("d", vector(*region)),
        array("I", [0, len(fallback)]), array("I", fallback), policy, 100,
    )  # fmt: skip
    steps = list(zip(result.ranking_entries[0::2], result.ranking_entries[1::2], strict=True))
    routes = [(cluster, rank) for cluster, rank in steps if not rank >> 31]
    return routes, [(cluster, rank & 0x7FFFFFFF) for cluster, rank in steps if rank >> 31], result.partner[0]


def route(cluster: int, as_path: int = 1, med: int = 0, route_class: int = 0, origin: int = 0) -> dict[str, int]:
    return {"cluster": cluster, "as_path": as_path, "med": med, "class": route_class, "origin": origin}


HERE = (0.0, 0.0)
RANKING_ROWS: list[tuple[str, list[list[dict[str, int]]], list[tuple[int, int]], list[tuple[int, int]]]] = [
    # name, routes longest prefix first, prefix_first ranking, local_first ranking
    ("the longest prefix wins over everything", [[route(2, 9, 99, 2)], [route(0)]], [(2, 0), (0, 1)], [(2, 0), (0, 1)]),
    ("equal prefix, shorter path wins", [[route(0, 3), route(1, 1)]], [(1, 0), (0, 1)], [(1, 0), (0, 1)]),
    ("equal path, lower MED wins, the other is its failover", [[route(0, med=100), route(1)]], [(1, 0), (0, 1)], [(1, 0), (0, 1)]),
    ("embedded before exchange at equal path and MED", [[route(0, route_class=2), route(1)]], [(1, 0), (0, 1)], [(1, 0), (0, 1)]),
    ("a prepended embedded route differs by policy", [[route(0, 3), route(1, 1, route_class=2)]], [(1, 0), (0, 1)], [(0, 0), (1, 1)]),
    ("all equal but distance: nearer first", [[route(2), route(0)]], [(0, 0), (2, 1)], [(0, 0), (2, 1)]),
    ("all equal within a step of 100 km: a shared rank", [[route(0), route(1)]], [(0, 0), (1, 0)], [(0, 0), (1, 0)]),
    ("a cluster with two routes keeps its longest prefix", [[route(0, 5)], [route(0, 1), route(1, 1)]], [(0, 0), (1, 1)], [(0, 0), (1, 1)]),
    ("a cluster with two paths keeps the better", [[route(0, 5), route(0, 1), route(1, 2)]], [(0, 0), (1, 1)], [(0, 0), (1, 1)]),
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


def test_where_no_route_leads_the_fallback_begins_at_rank_0() -> None:
    assert build_ranking([[]], RANKING_POLICIES["prefix_first"], (51.5, 0.0), [4, 5, 0])[1] == [(4, 0), (5, 0), (0, 1)]


routes_of_a_prefix = st.lists(
    st.builds(
        route, st.integers(0, 5), st.integers(0, 2), st.sampled_from((0, 100)), st.integers(0, 3), st.integers(0, 2)
    ),
    max_size=6,
)


@settings(max_examples=500, deadline=None)
@given(
    st.lists(routes_of_a_prefix, min_size=1, max_size=4), st.permutations(RANKING_KEYS), st.integers(1, 6), st.randoms()
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


WRONG_COLUMNS = [
    ("out of order", [(2, 16), (1, 16)], "row 1: the columns are not sorted"),
    ("a prefix twice", [(1, 16), (1, 16)], "row 1: the columns are not sorted, or hold a prefix twice"),
    ("the longer first", [(1, 24), (1, 16)], "row 1: the columns are not sorted"),
    ("too long", [(1, 129)], "row 0"),
]


@pytest.mark.parametrize(("rows", "message"), [row[1:] for row in WRONG_COLUMNS], ids=[row[0] for row in WRONG_COLUMNS])
def test_a_sweep_refuses_columns_that_are_not_sorted(rows: list[tuple[int, int]], message: str) -> None:
    columns = prefix_rows.Columns(len(rows))
    for place, (high, length) in enumerate(rows):
        columns.high[place], columns.length[place] = high << 48, length
    with pytest.raises(ValueError, match=message):
        sweep(columns, Chains())


def test_columns_of_unequal_length_are_refused_by_every_step() -> None:
    def torn() -> prefix_rows.Columns:
        columns = prefix_rows.read(b"10.0.0.0/8 a\n10.1.0.0/16 b\n11.0.0.0/8 a\n")[0][4]
        columns.value.pop()
        return columns

    for step in (
        prefix_rows.sort,
        lambda columns: sweep(columns, Chains()),
        lambda columns: rib.group_by_prefix(columns, 9),
        lambda columns: prefix_rows.keep_values(columns, array("B", [1, 1])),
    ):
        with pytest.raises((IndexError, ValueError)):
            step(torn())


def test_values_without_a_flag_or_share_are_refused() -> None:
    columns = prefix_rows.read(b"10.0.0.0/8 a\n10.1.0.0/16 b\n")[0][4]
    with pytest.raises(IndexError):
        prefix_rows.keep_values(columns, array("B", [1]))
    with pytest.raises(ValueError, match="row 1 has value 1, there are 1"):
        rib.divide(columns, array("I", [0]), array("I", [1]))


def test_rankings_refuse_clusters_and_policies_that_there_are_none_of() -> None:
    chains, wanted = Chains(), Pairs()
    wanted.intern(0, 0)
    routes = {name: array("I", [9]) for name in ("cluster", "class", "as_path", "origin", "med")}
    none, place, policy = array("I"), array("d", [1.0, 0.0, 0.0]), RANKING_POLICIES["prefix_first"]

    def make(
        routes: Any, places: array[float], fallback: array[int], policy: tuple[str, ...]
    ) -> zone_rankings.Rankings:
        first = array("I", [0, len(fallback)])
        sets = array("I", [0, 0])
        return zone_rankings.make_rankings(
            wanted, chains, sets, none, routes, places, array("I", [0]), place, first, fallback, policy, 100
        )

    empty = dict.fromkeys(routes, none)
    with pytest.raises(ValueError, match="route 0 names cluster 9, there are 1"):
        make(routes, place, none, policy)
    with pytest.raises(ValueError, match="fallback 0 names cluster 7, there are 1"):
        make(empty, place, array("I", [7]), policy)
    with pytest.raises(ValueError, match="at most 6 keys, not 7"):
        make(empty, place, none, ("med",) * 7)
    with pytest.raises(ValueError, match="three doubles each"):
        make(empty, array("d"), none, policy)
    twice = make(empty, place, array("I", [0, 0, 0, 0, 0, 0]), policy)
    assert list(twice.ranking_entries[::2]) == [0]
