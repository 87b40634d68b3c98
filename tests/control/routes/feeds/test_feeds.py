"""Each feed reads the same as another format of the same routes, and refuses with row, value and rule."""

from __future__ import annotations

import bz2
import csv
import dataclasses
import gzip
import io
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.control.routes.build import build_table
from steering.control.routes.feeds import Feed, FeedSource, Kind, kind_of, read_feed
from steering.control.services.control import Control
from steering.decision.snapshot import Snapshot
from steering.errors import FeedError
from steering.model.fleet import Fleet
from steering.model.route import RouteClass
from steering.settings import Settings
from steering.state.table import BuiltTable, ranking_entries_of
from tests.support import dumps


def read(path: Path, fleet: Fleet, kind: Kind | None = None) -> Feed:
    return read_feed(FeedSource(kind or kind_of(path), str(path)), fleet)


def routes_of(feed: Feed) -> list[tuple[Any, ...]]:
    """Return a feed's rows as plain values, without the name of the file they stand in."""
    result = []
    for family in (4, 6):
        columns = feed.columns[family]
        for place in range(len(columns)):
            kind = columns.value[place]
            members = [
                (
                    item.cluster,
                    item.route_class,
                    item.via,
                    item.hops,
                    item.origin,
                    item.med,
                    item.communities,
                    item.excludes,
                )
                for item in feed.sets[feed.set_of[kind]]
            ]
            where = (family, columns.high[place], columns.low[place], columns.length[place])
            result.append((*where, sorted(members), feed.origin_of[kind]))
    return sorted(result)


# ---- what holds of every format

MAPPED = """prefix,cluster,as_path
203.0.113.0/24,bom001-a,64500
::ffff:198.51.100.0/120,bom001-a,64500
64:ff9b::192.0.2.0/120,bom001-a,64500
2002:6442::/32,bom001-a,64500
2002:cb00:7109:1::/64,bom001-a,64500
2002::/16,bom001-a,64500
64:ff9b::/96,bom001-a,64500
2001:db8::/32,bom001-a,64500
"""


def test_prefixes_of_translated_addresses_are_those_inside_or_refused(tmp_path: Path, fleet: Fleet) -> None:
    (tmp_path / "mapped.csv").write_text(MAPPED)
    plain = ["203.0.113.0/24", "198.51.100.0/24", "192.0.2.0/24", "100.66.0.0/16", "2001:db8::/32"]
    (tmp_path / "plain.csv").write_text(
        "prefix,cluster,as_path\n" + "".join(f"{prefix},bom001-a,64500\n" for prefix in plain)
    )
    mapped = read(tmp_path / "mapped.csv", fleet)
    assert routes_of(mapped) == routes_of(read(tmp_path / "plain.csv", fleet))
    assert [(refusal.row, refusal.value) for refusal in mapped.refusals] == [
        (6, "2002:cb00:7109:1::/64"),
        (7, "2002::/16"),
        (8, "64:ff9b::/96"),
    ]
    assert mapped.refused == 3


@pytest.mark.parametrize("path", ["0", "0 64500", "64500 0", "64500 0 64501"])
def test_as_0_is_in_no_path(tmp_path: Path, fleet: Fleet, path: str) -> None:
    (tmp_path / "r.csv").write_text(f"prefix,cluster,as_path\n10.0.0.0/8,bom001-a,64500\n11.0.0.0/8,bom001-a,{path}\n")
    feed = read(tmp_path / "r.csv", fleet)
    assert (feed.accepted, feed.refused) == (1, 1)
    assert feed.refusals[0].rule.startswith("as_path has numbers from 1 to 4294967295")


def test_skipped_records_of_a_dump_are_counted(tmp_path: Path, fleet: Fleet) -> None:
    listening = dataclasses.replace(
        fleet, clusters=(dataclasses.replace(fleet.clusters[0], peers=("192.0.2.1",)), *fleet.clusters[1:])
    )
    dump = dumps.peer_index([("192.0.2.1", 64500)]) + dumps.record(4, b"\0" * 20, kind=16) * 2
    (tmp_path / "d.mrt").write_bytes(dump + dumps.rib("10.0.0.0/8", [(0, dumps.attributes([64500]))]))
    assert read(tmp_path / "d.mrt", listening).describe()["skipped"] == {"records of type 16, subtype 4": 2}


# ---- JSON Lines

ROUTES = st.fixed_dictionaries(
    {
        "prefix": st.sampled_from(["10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32", "2001:db8::/48", "10.0.0.1/8", "x"]),
        "cluster": st.sampled_from(["bom001-a", "del001-a", "lhr001-a", "nowhere"]),
    },
    optional={
        "as_path": st.lists(st.integers(0, 2**32), max_size=4),
        "origin": st.sampled_from(["igp", "egp", "incomplete", "", "bgp"]),
        "med": st.integers(0, 2**32),
        "class": st.sampled_from(["embedded", "transit", ""]),
        "communities": st.lists(st.sampled_from(["64500:1", "64500:0"]), max_size=2),
        "exclude": st.sampled_from(["yes", "no", "", "maybe", True, False]),
    },
)


@given(routes=st.lists(ROUTES, max_size=12))
def test_json_lines_equal_csv(
    routes: list[dict[str, Any]], fleet: Fleet, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("feeds")
    good = {"prefix": "192.0.2.0/24", "cluster": "bom001-a"}
    columns = ["prefix", "cluster", "as_path", "origin", "med", "class", "communities", "exclude"]
    text = io.StringIO()
    table = csv.DictWriter(text, columns)
    table.writeheader()
    for route in (good, *routes):
        words = {True: "yes", False: "no"}
        fields = {name: words[v] if isinstance(v, bool) else v for name, v in route.items()}
        table.writerow({name: " ".join(map(str, v)) if isinstance(v, list) else v for name, v in fields.items()})
    (folder / "routes.csv").write_text(text.getvalue())
    (folder / "routes.jsonl").write_text("".join(json.dumps(route) + "\n" for route in (good, *routes)))
    one, other = read(folder / "routes.csv", fleet), read(folder / "routes.jsonl", fleet)
    assert routes_of(one) == routes_of(other)
    assert one.refused_by == other.refused_by
    assert [(item.row - 1, item.rule) for item in one.refusals] == [(item.row, item.rule) for item in other.refusals]


GOOD = '{"prefix": "192.0.2.0/24", "cluster": "bom001-a"}\n'
LINE_RULE = "a line is a JSON object with the fields of a route"
BAD_LINES = [
    ("[]", f"{LINE_RULE}; Expected `object`, got `array`"),
    ("{", f"{LINE_RULE}; Input data was truncated"),
    ("[" * 9000, f"{LINE_RULE}; Expected `object`, got `array`"),
    ('{"prefix": ' + "[" * 9000, f"{LINE_RULE}; Expected `str`, got `array` - at `$.prefix`"),
    ('{"cluster": "bom001-a"}', f"{LINE_RULE}; Object missing required field `prefix`"),
    ('{"prefix": 7, "cluster": "bom001-a"}', f"{LINE_RULE}; Expected `str`, got `int` - at `$.prefix`"),
    ('{"prefix": "10.0.0.0/8 7", "cluster": "bom001-a"}', "a prefix is written address/length"),
    ('{"prefix": "10.0.0.0/8\\n10.0.0.0/9", "cluster": "bom001-a"}', "a prefix is written address/length"),
    ('{"prefix": "# 10.0.0.0/8", "cluster": "bom001-a"}', "a prefix is written address/length"),
    ('{"prefix": "", "cluster": "bom001-a"}', "a prefix is written address/length"),
    ('{"prefix": "10.0.0.0/8"}', f"{LINE_RULE}; Object missing required field `cluster`"),
    ('{"prefix": "10.0.0.0/8", "cluster": ""}', "a cluster is one of the fleet; there is no ''"),
    (
        '{"prefix": "10.0.0.0/8", "cluster": "bom001-a", "colour": 1}',
        f"{LINE_RULE}; Object contains unknown field `colour`",
    ),
    (
        '{"prefix": "10.0.0.0/8", "cluster": "bom001-a", "med": true}',
        f"{LINE_RULE}; Expected `int | str`, got `bool` - at `$.med`",
    ),
    (
        '{"prefix": "10.0.0.0/8", "cluster": "bom001-a", "med": 1.5}',
        f"{LINE_RULE}; Expected `int | str`, got `float` - at `$.med`",
    ),
    (
        '{"prefix": "10.0.0.0/8", "cluster": "bom001-a", "as_path": [[1]]}',
        f"{LINE_RULE}; Expected `int | str`, got `array` - at `$.as_path[0]`",
    ),
    (
        '{"prefix": "10.0.0.0/8", "cluster": "bom001-a", "as_path": [' + "1," * 255 + "1]}",
        "an as_path has at most 255 ASNs; this has 256",
    ),
    ('{"prefix": "10.0.0.0/8", "cluster": "' + "x" * 20_000 + '"}', "a line has at most 16384 bytes; this has 20039"),
]


@pytest.mark.parametrize(("line", "rule"), BAD_LINES, ids=[f"{line[:60]} {rule[:40]}" for line, rule in BAD_LINES])
def test_a_bad_line_is_refused_and_the_others_are_taken(tmp_path: Path, fleet: Fleet, line: str, rule: str) -> None:
    path = tmp_path / "routes.jsonl"
    path.write_text(f"{GOOD}\n{line}\n{GOOD}")
    feed = read(path, fleet)
    assert (feed.accepted, feed.refused) == (2, 1)
    assert [(item.row, item.rule) for item in feed.refusals] == [(3, rule)]
    assert feed.refused_by == {rule.partition(";")[0]: 1}


# ---- table dumps

ROUTER = ("192.0.2.1", 64500)


@pytest.fixture
def listening(fleet: Fleet) -> Fleet:
    """The tiny fleet, whose clusters in Mumbai each peer with one router; London peers with both."""
    announced = {"bom001-a": ("192.0.2.1",), "bom002-a": ("2001:db8::2",), "lhr001-a": ("192.0.2.1", "2001:db8::2")}
    clusters = tuple(dataclasses.replace(item, peers=announced.get(item.id, ())) for item in fleet.clusters)
    return dataclasses.replace(fleet, clusters=clusters)


def dump_of(*parts: bytes) -> bytes:
    """Return a dump of three routers, the last of which is no peer of a cluster."""
    return dumps.peer_index([ROUTER, ("2001:db8::2", 64511), ("192.0.2.3", 64512)]) + b"".join(parts)


@pytest.mark.parametrize(("ending", "pack"), [("", bytes), (".gz", gzip.compress), (".bz2", bz2.compress)])
def test_a_dump_gives_routes_to_the_clusters_of_its_routers(
    tmp_path: Path, listening: Fleet, ending: str, pack: Any
) -> None:
    path = tmp_path / f"rib.20261124{ending}"
    sent = dumps.attributes([64500, 64501], origin=1, med=20, communities=["64500:120"])
    entries = [(0, sent), (1, dumps.attributes([64511])), (2, dumps.attributes([64512]))]
    path.write_bytes(
        pack(dump_of(dumps.rib("10.0.0.0/8", entries), dumps.rib("2001:db8::/32", [(1, sent, 7)], paths=True)))
    )
    feed = read(path, listening)
    assert (feed.accepted, feed.unheard, feed.refused) == (3, 1, 0)
    both = (RouteClass.embedded, (64500,), 2, 1, 20, ("64500:120",), False)
    exchange = (RouteClass.exchange, *both[1:])
    ten, doc = 10 << 56, 0x20010DB8 << 32
    assert routes_of(feed) == [
        (4, ten, 0, 8, [(0, *both), (3, *exchange)], 64501),
        (
            4,
            ten,
            0,
            8,
            [(1, RouteClass.exchange, (), 1, 0, 0, (), False), (3, RouteClass.exchange, (), 1, 0, 0, (), False)],
            64511,
        ),
        (6, doc, 0, 32, [(1, *exchange), (3, *exchange)], 64501),
    ]


def test_bad_attributes_and_sets_are_refused_with_the_offset_of_their_record(tmp_path: Path, listening: Fleet) -> None:
    path = tmp_path / "dump.mrt"
    bad = [
        dumps.rib("10.0.0.0/8", [(0, dumps.attributes([1], as_set=[7, 8]))]),
        dumps.rib("11.0.0.0/8", [(0, b"garbage!")]),
        dumps.rib("12.0.0.0/8", [(9, dumps.attributes([1]))]),
        dumps.rib("13.0.0.0/8", [(0, dumps.attribute(2, 2 * (b"\2\x80" + b"\0\0\0\1" * 128)))]),
    ]
    path.write_bytes(dump_of(*bad, dumps.rib("14.0.0.0/8", [(0, dumps.attributes([1]))])))
    feed = read(path, listening)
    offsets = [len(dump_of(*bad[:place])) for place in range(4)]
    assert [(item.row, item.rule) for item in feed.refusals] == [
        (offsets[0], "a path has no AS_SET (RFC 9774)"),
        (offsets[1], "an attribute ends within the attributes; attribute 97 has 114 bytes"),
        (offsets[2], "an entry's peer is in the peer index; it has 3, not 9"),
        (offsets[3], "an AS path has at most 255 ASNs"),
    ]
    assert (feed.accepted, feed.refused_by.total()) == (1, 4)
    assert feed.refusals[0].value.startswith("192.0.2.1 400101")


def test_a_dump_of_unknown_routers_names_them(tmp_path: Path, fleet: Fleet) -> None:
    path = tmp_path / "dump.mrt"
    path.write_bytes(dump_of(dumps.rib("10.0.0.0/8", [(0, b"")])))
    with pytest.raises(
        FeedError, match=r"no cluster has one of its routers as a peer: 192\.0\.2\.1 \(AS64500\), 2001:db8::2"
    ) as caught:
        read(path, fleet)
    assert "among a cluster's peers" in caught.value.hint


@pytest.mark.parametrize(
    ("cut", "rule"), [(-1, "cut off: the record at byte"), (-300, "cut off"), (0, "holds no table dump")]
)
def test_half_a_dump_is_refused_whole(tmp_path: Path, listening: Fleet, cut: int, rule: str) -> None:
    path = tmp_path / "dump.mrt"
    path.write_bytes(dump_of(*(dumps.rib(f"{i}.0.0.0/8", [(0, dumps.attributes([1]))]) for i in range(1, 30)))[:cut])
    with pytest.raises(FeedError, match=f"^dump.mrt: {rule}"):
        read(path, listening)


# ---- coverage zones


def write_zones(tmp_path: Path, zones: Any, top: str = "coverageZones") -> Path:
    path = tmp_path / "czf.json"
    path.write_text(json.dumps({"revision": "2026-11-24", "customerName": "example", top: zones}))
    return path


def clusters_in_order(feed: Feed) -> dict[int, list[tuple[int, ...]]]:
    """Return by the first byte of each IPv4 prefix the clusters of each MED, lowest first."""
    result = {}
    for row in routes_of(feed):
        meds: dict[int, list[int]] = {}
        for cluster, *_, med, _, _ in row[4]:
            meds.setdefault(med, []).append(cluster)
        if row[0] == 4:
            result[row[1] >> 56] = [tuple(meds[med]) for med in sorted(meds)]
    return result


def test_a_zone_is_routed_by_its_name_then_by_its_coordinates(tmp_path: Path, fleet: Fleet) -> None:
    zones = {
        "del001-a": {"network": ["10.0.0.0/8"], "network6": ["2001:db8::/32"]},
        "lhr001": {"network": ["11.0.0.0/8"], "coordinates": {"latitude": 0, "longitude": 0}},
        "us-ny-newyork": {"network": ["12.0.0.0/8"], "coordinates": {"latitude": "40.7", "longitude": "-74.0"}},
        "sg": {"network": ["13.0.0.0/8"], "coordinates": {"latitude": "1.3", "longitude": 103.8}},
    }
    feed = read(write_zones(tmp_path, zones), fleet)
    assert feed.refused == 0
    assert [[member[0] for member in row[4]] for row in routes_of(feed) if row[0] == 6] == [[2]]
    # New York is nearest to London's exchange, Singapore to Mumbai's; Mumbai's embedded cluster is not open to them.
    assert clusters_in_order(feed) == {10: [(2,)], 11: [(3,), (1,)], 12: [(3,), (1,)], 13: [(1,), (3,)]}


def test_a_deep_zone_is_routed_to_the_clusters_of_its_caches(tmp_path: Path, fleet: Fleet) -> None:
    caches = ["c001-bom001", "c002-bom001.cdn.example", "c001-del001"]
    path = write_zones(tmp_path, {"any": {"network": ["10.0.0.0/8"], "caches": caches}}, "deepCoverageZones")
    assert clusters_in_order(read(path, fleet)) == {10: [(0, 2)]}


CACHES = ["c001-bom001", "c002-bom001.cdn.example", "c001-lhr001", "c001-del001"]
NEARNESS = [  # coordinates, and the order of the caches' clusters
    (None, [(0, 2, 3)]),
    ({"latitude": "28.6", "longitude": "77.2"}, [(2,), (0,), (3,)]),
    ({"latitude": 51, "longitude": 0}, [(3,), (2,), (0,)]),
    ({"latitude": "-33.9", "longitude": "151.2"}, [(0,), (2,), (3,)]),
    ({"latitude": 51.47, "longitude": 179.55}, [(2,), (3,), (0,)]),  # London over the pole
]


@pytest.mark.parametrize(("coordinates", "order"), NEARNESS, ids=repr)
def test_the_caches_of_a_deep_zone_are_ordered_by_distance_and_before_all_others(
    tmp_path: Path, fleet: Fleet, coordinates: Any, order: list[tuple[int, ...]]
) -> None:
    zone = {"network": ["10.0.0.0/8"], "caches": CACHES, "coordinates": coordinates}
    feed = read(write_zones(tmp_path, {"any": zone}, "deepCoverageZones"), fleet)
    deep = clusters_in_order(feed)[10]
    assert deep[: len(order)] == order
    assert max(item.med for item in feed.sets[0] if item.cluster in (0, 2, 3)) < 201, "a plain zone's"


def test_deep_zones_are_before_plain_ones(tmp_path: Path, fleet: Fleet, build: Callable[..., BuiltTable]) -> None:
    at = {"latitude": "51.5", "longitude": "-0.1"}
    deep = {"x": {"network": ["198.51.100.0/24"], "caches": ["c001-del001"], "coordinates": at}}
    plain = {"bom001-a": {"network": ["198.51.100.0/24"], "coordinates": at}}
    (tmp_path / "deep").mkdir()
    feeds = [
        read(write_zones(tmp_path / "deep", deep, "deepCoverageZones"), fleet),
        read(write_zones(tmp_path, plain), fleet),
    ]
    table = build_table(feeds, fleet, Settings(state=tmp_path))
    zone = max(table.zones, key=lambda zone: zone.count)
    ranking = list(ranking_entries_of(zone, table.ranking_entries))
    assert [(cluster, rank) for cluster, rank, _ in ranking] == [(2, 0), (0, 1), (3, 2), (1, 3)]
    assert not any(fallback for *_, fallback in ranking)


def test_unknown_caches_are_refused_and_the_others_taken(tmp_path: Path, fleet: Fleet) -> None:
    zones = {
        "a": {"network": ["10.0.0.0/8"], "caches": ["x", "c001-del001", "y"]},
        "b": {"network": ["11.0.0.0/8"], "caches": ["x"]},
        "c": {"network": ["12.0.0.0/8"], "caches": ["z"], "coordinates": {"latitude": 51, "longitude": 0}},
    }
    feed = read(write_zones(tmp_path, zones, "deepCoverageZones"), fleet)
    assert clusters_in_order(feed) == {10: [(2,)], 12: [(3,), (1,)]}
    rule = "a cache is an appliance of the fleet; there is no"
    assert [(item.row, item.value, item.rule) for item in feed.refusals] == [
        (1, "a", f"{rule} 'x'"),
        (1, "a", f"{rule} 'y'"),
        (2, "b", f"{rule} 'x'"),
        (3, "c", f"{rule} 'z'"),
    ]


NETWORKS = [
    # as it is written, and the prefix
    ("203.0.113.7/24", (4, 0xCB007100, 24)),
    ("203.0.113.7", (4, 0xCB007107, 32)),
    (" 203.0.113.0/24 ", (4, 0xCB007100, 24)),
    ("203.0.113.0/255.255.255.0", (4, 0xCB007100, 24)),
    ("2001:db8:1::9/48", (6, 0x20010DB80001, 48)),
    ("2001:DB8:1:0::", (6, 0x20010DB80001, 128)),
    ("::ffff:203.0.113.7/120", (4, 0xCB007100, 24)),
    ("64:ff9b::203.0.113.7", (4, 0xCB007107, 32)),
    ("2002:cb00:7107::/48", (4, 0xCB007107, 32)),
]


@pytest.mark.parametrize(("text", "prefix"), NETWORKS, ids=[row[0] for row in NETWORKS])
def test_networks_are_read_as_their_owners_read_them(
    tmp_path: Path, fleet: Fleet, text: str, prefix: tuple[int, int, int]
) -> None:
    feed = read(write_zones(tmp_path, {"del001-a": {"network": [text]}}), fleet)
    (row,) = routes_of(feed)
    assert (row[0], row[1] >> (32 if prefix[0] == 4 else 16), row[3]) == prefix
    assert not feed.refusals


DEGREES = [19.09, "19.09", " +19.09 ", "1.909e1", "019.09", 1909e-2]


@pytest.mark.parametrize("latitude", DEGREES, ids=repr)
def test_coordinates_are_numbers_or_their_text(tmp_path: Path, fleet: Fleet, latitude: Any) -> None:
    zone = {"network": ["10.0.0.0/8"], "coordinates": {"latitude": latitude, "longitude": 72.87}}
    feed = read(write_zones(tmp_path, {"x": zone}), fleet)
    assert clusters_in_order(feed) == {10: [(1,), (3,)]}
    assert [item.med for item in feed.sets[0]] == [202, 202 + 72]  # Mumbai, and some 7,200 km to London


ABSENT: list[dict[str, Any]] = [
    {"network6": None},
    {"network6": [], "caches": None, "coordinates": None},
    {"coordinates": {}},
    {"caches": []},
]


@pytest.mark.parametrize("parts", ABSENT, ids=repr)
def test_an_empty_part_of_a_zone_is_absent(tmp_path: Path, fleet: Fleet, parts: dict[str, Any]) -> None:
    feed = read(write_zones(tmp_path, {"del001-a": {"network": ["10.0.0.0/8"], **parts}}), fleet)
    assert (clusters_in_order(feed), feed.refused) == ({10: [(2,)]}, 0)


def test_a_prefix_in_several_zones_is_the_first_ones(tmp_path: Path, fleet: Fleet) -> None:
    zones = {
        "nowhere": {"network": ["10.0.0.0/8"]},  # refused, so it wins nothing
        "del001-a": {"network": ["10.0.0.0/8", "11.0.0.0/8", "11.0.0.0/8"]},
        "bom001-a": {"network": ["12.0.0.0/8", "11.0.0.0/8", "10.0.0.0/8"]},
    }
    feed = read(write_zones(tmp_path, zones), fleet)
    rule = "a prefix lies in one zone, the first that names it; del001-a does"
    assert [(item.row, item.value, item.rule) for item in feed.refusals] == [
        (1, "nowhere", "a zone is named as a cluster or site is, or has coordinates"),
        (6, "bom001-a", rule),
        (7, "bom001-a", rule),
    ]
    assert [(row[1] >> 56, row[4][0][0]) for row in routes_of(feed)] == [(10, 2), (11, 2), (11, 2), (12, 0)]


BAD_ZONES = [
    (["10.0.0.0/8"], "a zone is an object"),
    ({"networks": ["10.0.0.0/8"]}, "a zone has caches, coordinates, network, network6; not 'networks'"),
    ({"network": ["10.0.0.1/8.1"]}, "the length is a decimal number without leading zeros"),
    ({"network": [7]}, "a prefix is written address/length"),
    ({"network": "10.0.0.0/8 0"}, "a prefix is written address/length"),
    ({"network": ["10.0.0.0/8\n"]}, "a prefix is written address/length"),
    ({"network": [None]}, "a prefix is written address/length"),
    ({"network": ["10.0.0.0/8"], "colour": 1}, "a zone has caches, coordinates, network, network6; not 'colour'"),
    ({"network": ["10.0.0.0/8"], "caches": "c001-bom001"}, "caches are a list of names"),
    ({"network": ["10.0.0.0/8"], "caches": ["nosuch"]}, "a cache is an appliance of the fleet; there is no 'nosuch'"),
    ({"network": {"10.0.0.0/8": 1}}, "a prefix is written address/length"),
    (
        {"network": ["2002::/16"]},
        "a prefix is no whole range of translated addresses; for IPv4 clients write 0.0.0.0/0",
    ),
    (
        {"network": ["2002:cb00:7100:1::/64"]},
        "a 6to4 prefix has a length up to 48, where the IPv4 address inside it ends",
    ),
]
PLACES: list[Any] = [
    [], "x", {"latitude": 1}, {"latitude": "1e2", "longitude": 1}, {"latitude": 91, "longitude": 1},
    {"latitude": "1e", "longitude": 1}, {"latitude": ".", "longitude": 1}, {"latitude": "0x1", "longitude": 1},
    {"latitude": "1,5", "longitude": 1}, {"latitude": "\u0661", "longitude": 1}, {"latitude": "inf", "longitude": 1},
    {"latitude": "91", "longitude": 1}, {"latitude": "nan", "longitude": 1}, {"latitude": "1_0", "longitude": 1},
    {"latitude": "", "longitude": 1}, {"latitude": "1" * 9999, "longitude": 1}, {"latitude": "1", "longitude": [1]},
    {"latitude": 10**400, "longitude": 1}, {"latitude": True, "longitude": 1}, {"latitude": float("nan"), "longitude": 1},
]  # fmt: skip
PLACE_RULE = "coordinates have a latitude from -90 to 90 and a longitude from -180 to 180"


@pytest.mark.parametrize(
    ("zone", "rule", "name"),
    [(zone, rule, "del001-a") for zone, rule in BAD_ZONES]
    + [({"network": ["10.0.0.0/8"], "coordinates": place}, PLACE_RULE, "elsewhere") for place in PLACES],
    ids=lambda value: str(value)[:40],
)
def test_a_bad_zone_is_refused_and_the_others_are_taken(
    tmp_path: Path, fleet: Fleet, zone: Any, rule: str, name: str
) -> None:
    feed = read(write_zones(tmp_path, {name: zone, "bom001-a": {"network": ["192.0.2.0/24"]}}), fleet)
    assert feed.accepted == 1
    assert [(item.row, item.rule) for item in feed.refusals] == [(1, rule)]


BAD_FILES = [
    "", "{", "[]", "{}", '{"coverageZones": []}', '{"coverageZones": {}, "deepCoverageZones": {}}', "[" * 99_999,
    '{"coverageZones": {"a": {}, "a": {}}}', '{"coverageZones": {"bom001-a": {"network": []}}}',
]  # fmt: skip


@pytest.mark.parametrize("text", BAD_FILES, ids=lambda text: text[:40])
def test_what_is_no_coverage_zone_file_is_refused_whole(tmp_path: Path, fleet: Fleet, text: str) -> None:
    path = tmp_path / "czf.json"
    path.write_text(text)
    with pytest.raises(FeedError, match=r"^czf\.json: (not JSON|is no coverage-zone file|holds no route)"):
        read(path, fleet)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("10.0.0.0/8"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["network", "network6", "coordinates", "caches", "latitude", "longitude", "bom001-a", "x"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@given(zones=JSON)
def test_whatever_stands_in_a_zone_file_is_read_or_refused(
    zones: Any, fleet: Fleet, tmp_path_factory: pytest.TempPathFactory
) -> None:
    try:
        feed = read(write_zones(tmp_path_factory.mktemp("zones"), zones), fleet)
    except FeedError:
        return
    assert feed.accepted


# ---- to the answer

# As in the documentation of Apache Traffic Control, for other networks.
ZONES = """{"coverageZones": {
    "location-01": {
        "coordinates": {"latitude": 51.5, "longitude": -0.1},
        "network6": ["2001:db8::/32"],
        "network": ["198.51.100.0/24", "203.0.113.0/24"]
    }
}}"""
DEEP_ZONES = """{"deepCoverageZones": {
    "location-01": {
        "coordinates": {"latitude": 5.5, "longitude": 6.6},
        "network6": ["2001:db8::/32"],
        "network": ["203.0.113.0/24"],
        "caches": ["c001-del001", "c002-del001"]
    }
}}"""
CSV = b"prefix,cluster,as_path\n203.0.113.0/24,del001-a,64500\n2001:db8::/32,del001-a,64500\n"
JSON_LINE = b'{"prefix": "%b", "cluster": "del001-a", "as_path": [64500]}\n'
JSON_LINES = JSON_LINE % b"203.0.113.0/24" + JSON_LINE % b"2001:db8::/32"
SAMPLES = [
    # a file, what it holds, the site that its clients are sent to
    ("routes.csv", CSV, "del001"),
    ("routes.csv.xz", lzma.compress(CSV), "del001"),
    ("routes.jsonl.gz", gzip.compress(JSON_LINES), "del001"),
    ("table.txt.bz2", bz2.compress(b"203.0.113.0/24 64500\n2001:db8::/32 64500\n"), "bom001"),
    ("czf.json", ZONES.encode(), "lhr001"),
    ("dczf.json", DEEP_ZONES.encode(), "del001"),
    ("rib.20261124", dump_of(dumps.rib("203.0.113.0/24", [(0, dumps.attributes([64500]))]),
                             dumps.rib("2001:db8::/32", [(0, dumps.attributes([64500]))])), "bom001"),
    ("asn.mmdb", b"", "bom001"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "data", "site"), SAMPLES, ids=[row[0] for row in SAMPLES])
def test_every_feed_is_read_to_the_answer(
    tmp_path: Path, listening: Fleet, write_mmdb: Any, name: str, data: bytes, site: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    if name.endswith(".mmdb"):
        record = {"autonomous_system_number": [4, 64500]}
        path = write_mmdb({"203.0.113.0/24": record, "2001:db8::/32": record}, name)
    settings = Settings(state=tmp_path / "state")
    with Control(settings) as control:
        control.fleet.replace(listening, "test")
        report = control.tables.publish([FeedSource(kind_of(path), str(path))], "test")
    assert report["counts"]["refused"] == 0
    snapshot = Snapshot.map(settings.state)
    for address in ("203.0.113.9", "2001:db8::9"):
        answer = json.loads(snapshot.steer(address, "80100172", service="video"))
        assert answer["targets"][0]["site"] == site


# ---- packing


@pytest.mark.parametrize(("ending", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)])
def test_a_packed_feed_is_read_whole_or_not_at_all(tmp_path: Path, fleet: Fleet, ending: str, pack: Any) -> None:
    path = tmp_path / f"routes.jsonl.{ending}"
    packed = pack("".join(f'{{"prefix": "10.{i}.0.0/16", "cluster": "bom001-a"}}\n' for i in range(200)).encode())
    path.write_bytes(packed)
    assert read(path, fleet).accepted == 200
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(FeedError, match=r"^routes\.jsonl\..*: (cut off or )?damaged: "):
        read(path, fleet)
    path.write_bytes(packed[:20] + b"garbage" + packed[27:])
    with pytest.raises(FeedError, match=r"^routes\.jsonl\..*: (cut off or )?damaged: "):
        read(path, fleet)


NAMES = [
    ("routes.csv", "csv"), ("a.csv.gz", "csv"), ("r.jsonl", "jsonl"), ("r.ndjson.xz", "jsonl"), ("table.txt", "asn"),
    ("nothing", "asn"), ("a.mrt.bz2", "mrt"), ("rib.20261124.0000.bz2", "mrt"), ("bview.20261124.0000.gz", "mrt"),
    ("czf.json", "zones"), ("GeoLite2-ASN.mmdb", "mmdb"), ("latest-bview.gz", "mrt"), ("rib.csv.mrt", "mrt"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "kind"), NAMES)
def test_a_file_name_gives_its_format(name: str, kind: str) -> None:
    assert kind_of(Path(name)) == kind
