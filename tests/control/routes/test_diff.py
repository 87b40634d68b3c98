"""What a table changes beside another, by a judge that asks every address in both, and the guards that read it."""

from __future__ import annotations

import ipaddress
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steering.control.routes.diff import compare, side_of
from steering.control.routes.feeds import Feed, FeedSource, read_feed
from steering.control.routes.guards import UNKNOWN, broken_guards
from steering.control.routes.traffic import read_traffic
from steering.decision.explain import describe
from steering.decision.snapshot import Snapshot
from steering.errors import FeedError
from steering.model.fleet import Fleet
from steering.settings import Settings
from steering.state.table import BuiltTable, read_table, write_table

HEADER = "prefix,cluster,as_path,med\n"
CLUSTERS = ("bom001-a", "bom002-a", "del001-a", "lhr001-a")

# Two small worlds: all of 198.51.100.0/24 by address, and 2001:db8::/44 by /48.
V4 = st.tuples(st.integers(24, 32), st.integers(0, 255)).map(
    lambda drawn: str(ipaddress.ip_network((0xC6336400 | drawn[1], drawn[0]), strict=False))
)
V6 = st.tuples(st.integers(44, 48), st.integers(0, 15)).map(
    lambda drawn: str(ipaddress.ip_network((0x20010DB8 << 96 | drawn[1] << 80, drawn[0]), strict=False))
)
ROWS = st.lists(
    st.tuples(st.one_of(V4, V6), st.sampled_from(CLUSTERS), st.sampled_from([64500, 64501]), st.integers(0, 2)).map(
        lambda row: ",".join(map(str, row))
    ),
    max_size=8,
)
WORLDS = {
    "v4": [str(ipaddress.IPv4Address(0xC6336400 | last)) for last in range(256)],
    "v6": [str(ipaddress.IPv6Address(0x20010DB8 << 96 | last << 80)) for last in range(16)],
}
ALWAYS = "198.51.100.0/25,bom001-a,64500,1\n2001:db8::/46,bom001-a,64500,1\n"


def nearest(snapshot: Snapshot, address: str) -> tuple[frozenset[str], bool]:
    """Return the clusters of rank 0, and if a route leads there."""
    ranking = describe(snapshot, address)["ranking"]
    return (
        frozenset(ranking_entry["cluster"] for ranking_entry in ranking if ranking_entry["rank"] == 0),
        any(not ranking_entry["fallback"] for ranking_entry in ranking),
    )


def announced(rows: str, family: int) -> dict[str, set[str]]:
    """Return what is said of each prefix of a family."""
    found: dict[str, set[str]] = {}
    for row in rows.splitlines():
        prefix, _, said = row.partition(",")
        if ipaddress.ip_network(prefix).version == family:
            found.setdefault(prefix, set()).add(said)
    return found


@settings(max_examples=60, deadline=None)
@given(before=ROWS, after=ROWS)
def test_moves_and_prefixes_are_what_asking_every_address_finds(
    before: list[str],
    after: list[str],
    build: Callable[..., BuiltTable],
    publish: Callable[..., Path],
    fleet: Fleet,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    texts = [ALWAYS + "".join(f"{row}\n" for row in rows) for rows in (before, after)]
    folders = [publish(tmp_path_factory.mktemp("state") / "s", HEADER + text) for text in texts]
    sides = [side_of(read_table(folder, 1), 1) for folder in folders]
    report = compare(sides[0], sides[1], fleet, examples=1000)
    assert {**report, "after": None} == {
        **compare(sides[0], side_of(build(HEADER + texts[1])), fleet, examples=1000),
        "after": None,
    }
    snapshots = [Snapshot.map(folder) for folder in folders]
    for family, world in WORLDS.items():
        moved = routed = 0
        gained: dict[str, int] = {}
        lost: dict[str, int] = {}
        for address in world:
            (old, old_routed), (new, new_routed) = (nearest(snapshot, address) for snapshot in snapshots)
            if old_routed or new_routed:
                routed += 1
                moved += old != new
                for cluster in new - old:
                    gained[cluster] = gained.get(cluster, 0) + 1
                for cluster in old - new:
                    lost[cluster] = lost.get(cluster, 0) + 1
        assert report["moved"][family] == round(moved / routed, 6)
        assert report["routed"][family] == routed
        rows = {row["cluster"]: row for row in report["clusters"]}
        for verb, counted in (("gained", gained), ("lost", lost)):
            reported = {name: row[f"{verb}_{family}"] for name, row in rows.items() if row[f"{verb}_{family}"]}
            assert reported == {name: round(count / routed, 6) for name, count in counted.items()}

        said = [announced(text, int(family[1])) for text in texts]
        prefixes = report["prefixes"][family]
        assert (prefixes["before"], prefixes["after"]) == (len(said[0]), len(said[1]))
        assert set(prefixes["first"]["added"]) == said[1].keys() - said[0].keys()
        assert set(prefixes["first"]["removed"]) == said[0].keys() - said[1].keys()
        changed = {prefix for prefix in said[0].keys() & said[1].keys() if said[0][prefix] != said[1][prefix]}
        assert set(prefixes["first"]["changed"]) == changed
        for name in ("added", "removed", "changed"):
            assert prefixes[name] == len(prefixes["first"][name])


def test_moves_are_told_by_partner(build: Callable[..., BuiltTable], fleet: Fleet) -> None:
    before = side_of(build(HEADER + "198.51.100.0/24,bom001-a,64500,0\n192.0.2.0/24,lhr001-a,64511,0\n"))
    after = side_of(build(HEADER + "198.51.100.0/24,del001-a,64500,0\n192.0.2.0/24,bom002-a,64511,0\n"))
    report = compare(before, after, fleet)
    assert report["moved"] == {"v4": 1.0, "v6": 0.0}
    assert report["partners"] == [
        {"partner": None, "v4": 0.5, "v6": 0.0},
        {"partner": "as64500", "v4": 0.5, "v6": 0.0},
    ]


def test_the_same_table_under_another_file_name_changes_nothing(
    build: Callable[..., BuiltTable], fleet: Fleet, tmp_path: Path
) -> None:
    table = build()
    write_table(tmp_path, 3, table)
    report = compare(side_of(read_table(tmp_path, 3), 3), side_of(build()), fleet)
    assert report["moved"] == {"v4": 0.0, "v6": 0.0}
    assert report["partners"] == report["clusters"] == []
    for family in ("v4", "v6"):
        assert [report["prefixes"][family][name] for name in ("added", "removed", "changed")] == [0, 0, 0]


# ---- guards


def changes(moved: float = 0.0, before: int = 1000, after: int = 1000, no_ranking_entry: int = 0) -> dict[str, Any]:
    """Return a comparison as the guards read it: IPv4 as said, IPv6 unchanged."""
    same = {"before": 2000, "after": 2000}
    return {
        "prefixes": {"v4": {"before": before, "after": after}, "v6": same},
        "moved": {"v4": moved, "v6": 0.0},
        "no_ranking_entry": no_ranking_entry,
    }


GUARDS = [
    # what changes, what the guards say
    ({"moved": 0.25}, []),
    ({"moved": 0.26}, ["26.0 % of IPv4 clients would move (guard_moved 25.0 %)"]),
    ({"moved": 1.0, "before": 999, "after": 1}, []),  # too small a table
    ({"after": 800}, []),
    ({"after": 799}, ["IPv4 shrinks from 1,000 to 799 prefixes, by 20.1 % (guard_shrink 20.0 %)"]),
    ({"after": 5000}, []),
    (
        {"no_ranking_entry": 3},
        ["3 zones would have no cluster, and every zone has one now (guard_no_cluster 0)"],
    ),
]


@pytest.mark.parametrize(("given_changes", "said"), GUARDS, ids=[str(row[0]) for row in GUARDS])
def test_each_guard_stops_what_goes_beyond_it(given_changes: dict[str, Any], said: list[str]) -> None:
    assert broken_guards([], changes(**given_changes), Settings()) == said


@pytest.mark.parametrize(("refused", "accepted", "stops"), [(100, 900, False), (101, 899, True), (500, 499, False)])
def test_the_guard_on_refused_rows_needs_nothing_to_compare_with(
    feed_of_rows: Callable[[int, int], Feed], refused: int, accepted: int, stops: bool
) -> None:
    found = broken_guards([feed_of_rows(accepted, refused)], None, Settings())
    assert found == ["101 of 1,000 rows are refused, 10.1 % (guard_refused 10.0 %)"] * stops


@pytest.mark.parametrize(("unknown", "stops"), [(10, False), (11, True)])
def test_the_guard_on_unknown_clusters(fleet: Fleet, tmp_path: Path, unknown: int, stops: bool) -> None:
    path = tmp_path / "routes.csv"
    good = "".join(f"10.{row >> 8}.{row & 255}.0/24,bom001-a\n" for row in range(1000 - unknown))
    path.write_text("prefix,cluster\n" + good + "11.0.0.0/8,nosuch\n" * (unknown - 1) + "12.0.0.0/8,other\n")
    found = broken_guards([read_feed(FeedSource("csv", str(path)), fleet)], None, Settings())
    said = "11 of 1,000 rows name clusters that are not in the fleet, 1.1 % (guard_unknown 1.0 %)"
    assert found == [said] * stops


TRAFFIC = "198.51.100.0/24 100\n198.51.100.128/25 300\n2001:db8::/32 7\n"


def test_moves_are_weighed_by_traffic(build: Callable[..., BuiltTable], fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "traffic.txt").write_text(TRAFFIC)
    traffic = read_traffic(tmp_path / "traffic.txt")
    before = side_of(build(HEADER + "198.51.100.0/24,bom001-a,64500,0\n2001:db8::/32,bom001-a,64500,0\n"))
    half = (
        HEADER
        + "198.51.100.0/24,bom001-a,64500,0\n198.51.100.192/26,del001-a,64500,0\n2001:db8::/32,bom001-a,64500,0\n"
    )
    after = side_of(build(half))
    assert compare(before, after, fleet)["moved"] == {"v4": 0.25, "v6": 0.0}
    report = compare(before, after, fleet, traffic=traffic)
    # The amount of the /24 lies in its lower half: of 400, half of the upper half's 300 moves.
    assert (report["weighed_by"], report["moved"]) == ("traffic.txt", {"v4": 0.375, "v6": 0.0})
    assert [row["gained_v4"] for row in report["clusters"] if row["cluster"] == "del001-a"] == [0.375]


@given(
    amounts=st.dictionaries(V4, st.integers(0, 9), min_size=1, max_size=5),
    rows=st.lists(st.tuples(V4, st.sampled_from(CLUSTERS)), min_size=1, max_size=5),
)
@settings(max_examples=40, deadline=None)
def test_weighed_moves_are_what_asking_every_address_finds(
    amounts: dict[str, int],
    rows: list[tuple[str, str]],
    build: Callable[..., BuiltTable],
    publish: Callable[..., Path],
    fleet: Fleet,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("traffic")
    (folder / "t").write_text("".join(f"{prefix} {amount}\n" for prefix, amount in amounts.items()))
    texts = [HEADER + ALWAYS, HEADER + ALWAYS + "".join(f"{prefix},{cluster},64500,0\n" for prefix, cluster in rows)]
    snapshots = [Snapshot.map(publish(folder / name, text)) for name, text in zip("ab", texts, strict=True)]
    owners = {address: longest(amounts, address) for address in WORLDS["v4"]}
    sizes = Counter(owners.values())
    moved = routed = 0.0
    for address, owner in owners.items():
        (old, old_routed), (new, new_routed) = (nearest(snapshot, address) for snapshot in snapshots)
        if owner is not None and (old_routed or new_routed):
            routed += amounts[owner] / sizes[owner]
            moved += amounts[owner] / sizes[owner] * (old != new)
    report = compare(*(side_of(build(text)) for text in texts), fleet, traffic=read_traffic(folder / "t"))
    assert report["moved"]["v4"] == pytest.approx(moved / routed if routed else 0.0, abs=1e-6)


def longest(prefixes: dict[str, int], address: str) -> str | None:
    covering = [prefix for prefix in prefixes if ipaddress.ip_address(address) in ipaddress.ip_network(prefix)]
    return max(covering, key=lambda prefix: ipaddress.ip_network(prefix).prefixlen, default=None)


BAD_TRAFFIC = [
    ("10.0.0.1/8 7\n", "t row 1: 10.0.0.1/8: host bits are set"),
    ("10.0.0.0/8 -1\n", "'-1': an amount is a number, 0 or more"),
    ("10.0.0.0/8 nan\n", "'nan': an amount is a number, 0 or more"),
    ("10.0.0.0/8 much\n", "'much': an amount is a number, 0 or more"),
    ("10.0.0.0/8 1\n10.0.0.0/8 2\n", "a prefix is given twice"),
    ("10.0.0.0/8 1", "cut off"),
]


@pytest.mark.parametrize(("text", "rule"), BAD_TRAFFIC)
def test_a_bad_traffic_file_is_refused_whole(tmp_path: Path, text: str, rule: str) -> None:
    (tmp_path / "t").write_text(text)
    with pytest.raises(FeedError, match=rule):
        read_traffic(tmp_path / "t")


def test_rows_of_caches_and_zones_that_the_fleet_has_not_are_unknown_too(fleet: Fleet, tmp_path: Path) -> None:
    path = tmp_path / "zones.json"
    zones = {
        "bom001-a": {"network": [f"10.{row >> 8}.{row & 255}.0/24" for row in range(990)]},
        "nosuch": {"network": ["11.0.0.0/8"] * 5},
        "lhr001-a": {"network": ["12.0.0.0/8"] * 5, "caches": ["nosuch"]},
    }
    path.write_text(json.dumps({"deepCoverageZones": zones}))
    feed = read_feed(FeedSource("zones", str(path)), fleet)
    assert [feed.refused_by[rule] for rule in UNKNOWN] == [0, 5, 5]
    assert not broken_guards([feed], None, Settings())
    found = broken_guards([feed], None, Settings(guard_unknown=0.009))
    assert found == ["10 of 1,000 rows name clusters that are not in the fleet, 1.0 % (guard_unknown 0.9 %)"]


GUARD_NAMES = ["guard_moved", "guard_shrink", "guard_refused", "guard_unknown", "guard_no_cluster"]


@pytest.mark.parametrize("name", GUARD_NAMES)
def test_a_guard_of_one_is_none(feed_of_rows: Callable[[int, int], Feed], name: str) -> None:
    everything = changes(moved=1.0, after=1, no_ranking_entry=1)
    feeds = [feed_of_rows(1, 9999)]
    feeds[0].refused_by[UNKNOWN[0]] = 500
    found = broken_guards(feeds, everything, Settings())
    assert [guard for guard in GUARD_NAMES if not any(guard in said for said in found)] == []
    assert len(found) == 5
    assert len(broken_guards(feeds, everything, Settings(**{name: 1}))) == 4  # type: ignore[arg-type]


@pytest.fixture
def feed_of_rows(fleet: Fleet, tmp_path: Path) -> Callable[[int, int], Feed]:
    """Return a function that reads a feed of so many good and bad rows."""

    def make(accepted: int, refused: int) -> Feed:
        path = tmp_path / "routes.csv"
        good = "".join(f"10.{row >> 8}.{row & 255}.0/24,bom001-a\n" for row in range(accepted))
        path.write_text("prefix,cluster\n" + good + "bad,bom001-a\n" * refused)
        return read_feed(FeedSource("csv", str(path)), fleet)

    return make
