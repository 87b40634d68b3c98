"""Feeds to a table: refusals with row, value and rule; conflicts and duplicates reported; order of input without effect."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from steering.control.feed_files import CSV_RULE
from steering.control.routes.build import build_table, mean, unit_vector
from steering.control.routes.feeds import FeedSource, read_feed
from steering.control.routes.feeds.mmdb import network_at
from steering.control.routes.feeds.regions import country_code, read_regions
from steering.errors import FeedError
from steering.model.fleet import Fleet
from steering.settings import Settings
from steering.state.table import BuiltTable


def feed_of(tmp_path: Path, fleet: Fleet, text: str, name: str = "routes.csv"):  # type: ignore[no-untyped-def]
    path = tmp_path / name
    path.write_text(text)
    return read_feed(FeedSource("asn" if name.endswith(".txt") else "csv", str(path)), fleet)


CSV_ROWS = [
    # a row, what is refused, the rule
    ("10.0.0.1/8,bom001-a,64500", "10.0.0.1/8", "host bits are set; write 10.0.0.0/8"),
    ("10.0.0.0/33,bom001-a,64500", "10.0.0.0/33", "an IPv4 length is at most 32"),
    ("banana,bom001-a,64500", "banana", "a prefix is written address/length"),
    ("10.0.0.0/8,bom999-a,64500", "bom999-a,64500", "a cluster is one of the fleet; there is no 'bom999-a'"),
    ("10.0.0.0/8", "", "a cluster is one of the fleet; there is no ''"),
    ("10.0.0.0/8,bom001-a,sixty", "bom001-a,sixty", "as_path has numbers from 1 to 4294967295; not 'sixty'"),
    (
        "10.0.0.0/8,bom001-a,4294967296",
        "bom001-a,4294967296",
        "as_path has numbers from 1 to 4294967295; not '4294967296'",
    ),
    (
        "10.0.0.0/8,bom001-a," + "1 " * 256,
        "bom001-a," + "1 " * 35 + "1",
        "an as_path has at most 255 ASNs; this has 256",
    ),
    ("10.0.0.0/8,bom001-a,1,-5", "bom001-a,1,-5", "med has numbers from 0 to 4294967295; not '-5'"),
    (
        "10.0.0.0/8,bom001-a,1,5,fast",
        "bom001-a,1,5,fast",
        "class is one of embedded, private, exchange, transit; not 'fast'",
    ),
    (
        "10.0.0.0/8,bom001-a,1,5,embedded,bgp",
        "bom001-a,1,5,embedded,bgp",
        "origin is one of igp, egp, incomplete; not 'bgp'",
    ),
    (
        "10.0.0.0/8,bom001-a,1,5,embedded,igp,a,b",
        "bom001-a,1,5,embedded,igp,a,b",
        "at most as many fields as the first line names; 8, not 7",
    ),
    ('10.0.0.0/8,"bom001-a,1', '"bom001-a,1', CSV_RULE),
]


@pytest.mark.parametrize(("row", "value", "rule"), CSV_ROWS, ids=[row[0][:30] for row in CSV_ROWS])
def test_a_bad_row_is_refused_and_the_others_are_taken(
    tmp_path: Path, fleet: Fleet, row: str, value: str, rule: str
) -> None:
    header = "prefix,cluster,as_path,med,class,origin,communities"
    feed = feed_of(tmp_path, fleet, f"{header}\n192.0.2.0/24,bom001-a,64500\n{row}\n2001:db8::/32,bom001-a,64500\n")
    assert (feed.accepted, feed.refused) == (2, 1)
    refusal = feed.refusals[0]
    assert (refusal.feed, refusal.row, refusal.value.rstrip(), refusal.rule) == ("routes.csv", 3, value, rule)
    assert str(refusal).startswith("routes.csv row 3: ")


HEADERS = ["", "cluster,prefix", "prefix", "prefix,cluster,colour", "prefix,cluster,cluster", "10.0.0.0/8,bom001-a"]


@pytest.mark.parametrize("header", HEADERS)
def test_a_csv_must_name_its_columns(tmp_path: Path, fleet: Fleet, header: str) -> None:
    with pytest.raises(FeedError, match=r"row 1: does not name the columns") as caught:
        feed_of(tmp_path, fleet, f"{header}\n10.0.0.0/8,bom001-a\n")
    assert caught.value.hint.startswith("the first line begins with prefix, has cluster")


def test_a_csv_may_come_from_a_spreadsheet(tmp_path: Path, fleet: Fleet) -> None:
    feed = feed_of(
        tmp_path, fleet, '\ufeffprefix,cluster,communities\r\n10.0.0.0/8,"bom001-a","64500:1 64500:2"\r\n\r\n'
    )
    assert feed.accepted == 1
    assert feed.sets[0][0].communities == ("64500:1", "64500:2")


EMPTY = [
    ("nothing", ""),
    ("only white space", "\n\n"),
    ("only a header", "prefix,cluster\n"),
    ("only bad rows", "prefix,cluster\nx,y\n"),
]


@pytest.mark.parametrize(("name", "text"), EMPTY, ids=[row[0] for row in EMPTY])
def test_a_feed_without_a_route_is_an_error(tmp_path: Path, fleet: Fleet, name: str, text: str) -> None:
    with pytest.raises(FeedError, match=r"routes\.csv: (is empty|holds no route)"):
        feed_of(tmp_path, fleet, text)


def test_a_feed_cut_off_in_the_middle_is_an_error(tmp_path: Path, fleet: Fleet) -> None:
    text = b"prefix,cluster\n" + b"".join(b"10.%d.0.0/16,bom001-a\n" % i for i in range(200))
    for name, data in (
        ("routes.csv", text[:-5]),
        ("routes.csv.xz", lzma.compress(text)[:-20]),
        ("routes.csv.gz", gzip.compress(text)[:-20]),
        ("routes.csv.gz", b"not gzip at all\n"),
        ("routes.csv.xz", b"not xz at all\n"),
    ):
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(FeedError, match="cut off"):
            read_feed(FeedSource("csv", str(path)), fleet)


def test_packed_feeds_are_unpacked_by_their_ending(tmp_path: Path, fleet: Fleet) -> None:
    text = b"prefix,cluster\n10.0.0.0/8,bom001-a\n"
    for name, data in (("r.csv", text), ("r.csv.gz", gzip.compress(text)), ("r.csv.xz", lzma.compress(text))):
        (tmp_path / name).write_bytes(data)
        assert read_feed(FeedSource("csv", str(tmp_path / name)), fleet).accepted == 1


def test_an_absent_feed_is_an_error(tmp_path: Path, fleet: Fleet) -> None:
    with pytest.raises(FeedError, match="No such file"):
        read_feed(FeedSource("csv", str(tmp_path / "nosuch.csv")), fleet)


def test_duplicates_are_counted_and_conflicts_named(build: Callable[..., BuiltTable]) -> None:
    table = build(
        "prefix,cluster,med\n"
        "10.0.0.0/8,bom001-a,5\n10.0.0.0/8,bom001-a,5\n10.0.0.0/8,bom001-a,7\n10.0.0.0/8,del001-a,0\n11.0.0.0/8,del001-a,0\n"
    )
    assert table.duplicates == 1
    assert table.conflicts == ("10.0.0.0/8: different routes at bom001-a; the best is used",)
    assert table.counts["prefixes_v4"] == 2
    assert table.counts["routes_v4"] == 5


def test_the_asn_feed_deals_a_partners_prefixes_among_its_sites(tmp_path: Path, fleet: Fleet) -> None:
    text = "".join(f"10.{i}.0.0/16 64500\n" for i in range(4)) + "11.0.0.0/8 4200000000\n"
    feed = feed_of(tmp_path, fleet, text, "table.txt")
    assert (feed.accepted, feed.unheard, feed.refused) == (4, 1, 0)
    meds = [{item.cluster: item.med for item in feed.sets[feed.set_of[kind]]} for kind in feed.columns[4].value]
    assert meds == [{0: 0, 2: 100}, {0: 0, 2: 100}, {0: 100, 2: 0}, {0: 100, 2: 0}]
    assert {feed.origin_of[kind] for kind in feed.columns[4].value} == {64500}


def test_an_asn_that_is_no_number_is_refused(tmp_path: Path, fleet: Fleet) -> None:
    feed = feed_of(
        tmp_path, fleet, "10.0.0.0/8 64500\n11.0.0.0/8 AS64500\n12.0.0.0/8\n13.0.0.0/8 4294967295\n", "table.txt"
    )
    assert feed.accepted == 1
    assert [(refusal.row, refusal.value) for refusal in feed.refusals] == [(2, "AS64500"), (3, ""), (4, "4294967295")]
    assert (feed.refused, feed.unheard) == (3, 0)


def test_a_fleet_without_clusters_cannot_have_a_table(tmp_path: Path, fleet: Fleet) -> None:
    feed = feed_of(tmp_path, fleet, "prefix,cluster\n10.0.0.0/8,bom001-a\n")
    with pytest.raises(FeedError, match="no cluster to steer to"):
        build_table([feed], Fleet((), (), (), (), ()), Settings())


def test_two_feeds_are_one_table_whatever_their_order(tmp_path: Path, fleet: Fleet) -> None:
    texts = (
        "prefix,cluster\n10.0.0.0/8,bom001-a\n10.1.0.0/16,del001-a\n",
        "prefix,cluster\n10.0.0.0/8,bom002-a\n2001:db8::/32,lhr001-a\n",
    )
    built = []
    for order in ((0, 1), (1, 0)):
        feeds = [feed_of(tmp_path, fleet, texts[place], f"feed{place}.csv") for place in order]
        built.append(build_table(feeds, fleet, Settings()))
    for family in (4, 6):
        first, second = (table.intervals[family] for table in built)
        assert (first.high, first.low, first.value) == (second.high, second.low, second.value)
    assert built[0].zones == built[1].zones
    assert built[0].ranking_entries == built[1].ranking_entries


@pytest.mark.usefixtures("whole_country_map")
def test_the_shipped_country_map_is_read() -> None:
    regions = read_regions()
    assert len(regions.intervals[4]) > 100_000
    assert {"IN", "US", "BR", "DE", "NG"} <= {region.code for region in regions.regions}


RECORDS = [
    ({"country_code": "IN"}, "IN"), ({"country": {"iso_code": "BR"}}, "BR"), ({"country": "DE"}, "DE"), ({"country_code": "in"}, None),
    ({"country_code": "INX"}, None), ({}, None), (None, None), ("IN", None), ({"country": {"iso_code": 7}}, None),
]  # fmt: skip


@pytest.mark.parametrize(("record", "code"), RECORDS)
def test_country_codes_are_found_in_records_of_the_usual_shapes(record: object, code: str | None) -> None:
    assert country_code(record) == code


def test_ipv4_inside_an_mmdb_of_both_families_is_ipv4() -> None:

    assert network_at(0x010203, 120, 6)[1] == "1.2.3.0/24"
    assert network_at(0x20010DB8, 32, 6)[1] == "2001:db8::/32"
    assert network_at(0x010203, 24, 4)[1] == "1.2.3.0/24"


def test_countries_come_from_an_mmdb_of_the_operators_own(
    write_mmdb: Callable[..., Path], build: Callable[..., BuiltTable]
) -> None:
    records = {
        "192.0.2.0/25": {"country": {"iso_code": "IN"}},
        "192.0.2.128/25": {"continent": "AS"},
        "2001:db8:1::/48": {"country_code": "GB"},
    }
    path = write_mmdb(records)
    regions = read_regions(path)
    assert [regions.regions[number].code for number in regions.intervals[4].value] == ["", "IN", ""]
    assert [regions.regions[number].code for number in regions.intervals[6].value] == ["", "GB", ""]
    assert list(regions.intervals[4].high) == [0, 0xC0000200 << 32, 0xC0000280 << 32]
    assert {zone.region for zone in build(country_mmdb=path).zones} == {"", "IN", "GB"}


def test_an_mmdb_without_countries_is_an_error(write_mmdb: Callable[..., Path]) -> None:
    with pytest.raises(FeedError, match=r"networks\.mmdb: names no country"):
        read_regions(write_mmdb({"192.0.2.0/25": {"asn": "64496"}}, "networks.mmdb"))


def test_an_mmdb_cut_off_in_the_middle_is_an_error(write_mmdb: Callable[..., Path]) -> None:
    path = write_mmdb({f"2001:db8:{at:x}::/48": {"country_code": "GB"} for at in range(64)})
    whole = path.read_bytes()
    for size in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(FeedError, match=r"countries\.mmdb"):
            read_regions(path)


def test_a_file_that_is_no_mmdb_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.mmdb"
    path.write_bytes(b"not a database")
    with pytest.raises(FeedError, match=r"x\.mmdb"):
        read_regions(path)
    with pytest.raises(FeedError, match=r"nosuch\.mmdb"):
        read_regions(tmp_path / "nosuch.mmdb")


def test_the_mean_of_places_is_on_the_sphere() -> None:
    assert mean([unit_vector(0, 0), unit_vector(0, 90)]) == pytest.approx(unit_vector(0, 45))
    assert mean([unit_vector(0, 179), unit_vector(0, -179)]) == pytest.approx(unit_vector(0, 180))
    assert mean([unit_vector(90, 0), unit_vector(-90, 0)]) == pytest.approx(unit_vector(90, 0))
