"""Where address space lies: countries, cities and networks by MMDB, and geofeeds over them, judged address by address."""

from __future__ import annotations

import ipaddress
import random
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path
from typing import Any

import maxminddb
import pytest
from geofeed_tools.parsing import iter_records  # type: ignore[import-untyped]
from hypothesis import example, given
from hypothesis import strategies as st

import geo_data
from steering.control.feed_files import CSV_RULE
from steering.control.routes.feeds import FeedSource, read_feed
from steering.control.routes.feeds.geofeed import Geofeed, read_geofeed
from steering.control.routes.feeds.mmdb import asn_of
from steering.control.routes.feeds.regions import RegionMap, read_regions
from steering.errors import FeedError
from steering.model.fleet import Fleet
from steering.model.route import Region
from steering.state.table import BuiltTable

CODES = geo_data.read_region_codes()
PLACES = {("IN", "mumbai"): (19.09, 72.87)}

WriteMmdb = Callable[..., Path]


def region_at(regions: RegionMap, address: str) -> Region:
    """Return the region of an address, by its interval."""
    parsed = ipaddress.ip_address(address)
    result = regions.intervals[parsed.version]
    number = int(parsed) << (96 if parsed.version == 4 else 0)
    starts = [high << 64 | low for high, low in zip(result.high, result.low, strict=True)]
    return regions.regions[result.value[bisect_right(starts, number) - 1]]


def rows_of(feed: Geofeed) -> dict[str, Region]:
    """Return what a geofeed says of each prefix."""
    result = {}
    for family, columns in feed.columns.items():
        for place in range(len(columns)):
            number = columns.high[place] << 64 | columns.low[place]
            address = ipaddress.IPv4Address(number >> 96) if family == 4 else ipaddress.IPv6Address(number)
            result[f"{address}/{columns.length[place]}"] = feed.regions[columns.value[place]]
    return result


# ---- geofeeds

FIELDS = st.sampled_from(
    ["", "IN", "in", "GB", "ZZ", "IN-MH", "in-mh", "GB-LND", "IN-99", "Mumbai", ' "Mumbai" ', "x,y", '"a""b"', "#"]
)
PREFIXES = st.sampled_from(
    [
        "192.0.2.0/24",
        "192.0.2.0/25",
        "192.0.2.7",
        "192.0.2.7/24",
        "2001:db8::/32",
        "2001:db8::1",
        "",
        "banana",
        "10.0.0.0/8 ",
        "192.0.2.0/33",
    ]
)
LINES = st.one_of(
    st.tuples(PREFIXES, st.lists(FIELDS, max_size=6)).map(lambda drawn: ",".join([drawn[0], *drawn[1]])),
    st.sampled_from(["", "  ", "# a comment", "192.0.2.0/24,IN # said", "# RPKI Signature: 192.0.2.0/24", "# MIIG"]),
)


@given(lines=st.lists(LINES, max_size=12), end=st.sampled_from(["\n", "\r\n"]), mark=st.booleans())
@example(lines=['192.0.2.0/24,IN,IN-MH,"Mum # bai",'], end="\n", mark=True)
def test_geofeeds_are_read_as_geofeed_tools_reads_them(
    lines: list[str], end: str, mark: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("geofeed") / "geofeed.csv"
    text = "".join(line + end for line in ["198.51.100.0/24,DE,,,", *lines])
    path.write_text(text, encoding="utf-8-sig" if mark else "utf-8", newline="")
    expected: dict[str, tuple[str, str]] = {}
    refused = 0
    for line in iter_records(text, strict=True):
        country, part = line.country.upper(), line.region.upper()
        country, part, city = ("", "", "") if country == "ZZ" else (country, part, line.city)
        if not line.ok or (country and (country not in CODES or len(country) != 2)) or str(line.network) in expected:
            refused += 1
            continue
        good = part in CODES and "-" in part and part[:2] == (country or part[:2])
        expected[str(line.network)] = (part if good else country, city)
    feed = read_geofeed(path, CODES, PLACES)
    assert feed.refused == len(feed.refusals) == refused
    assert {prefix: region.code for prefix, region in rows_of(feed).items()} == {
        prefix: code for prefix, (code, _) in expected.items()
    }
    for prefix, region in rows_of(feed).items():
        code, city = expected[prefix]
        assert region.place == PLACES.get((code[:2], city.casefold()))


BAD_LINES = [
    ("192.0.2.7/24,IN", "host bits are set; write 192.0.2.0/24"),
    ("192.0.2.0/24,UK", "a country is an ISO 3166-1 alpha-2 code, or empty; there is no 'UK'"),
    ("192.0.2.0/24,XZ", "a country is an ISO 3166-1 alpha-2 code, or empty; there is no 'XZ'"),
    ("192.0.2.0/24,IN-MH", "a country is an ISO 3166-1 alpha-2 code, or empty; there is no 'IN-MH'"),
    (",IN", "a prefix is written address/length"),
    ("198.51.100.0/24,IN", "a prefix is given once; the first of its lines counts"),
    ('192.0.2.0/24,IN,"', CSV_RULE),
    ('192.0.2.0/24,IN,"IN-MH"x,', CSV_RULE),
    ("192.0.2.0/24,IN\r198.18.0.0/15,IN", CSV_RULE),
    ("192.0.2.0/24," + "x" * 1000, "a line has at most 1000 bytes; this has 1013"),
]


@pytest.mark.parametrize(("line", "rule"), BAD_LINES, ids=[row[0][:30] for row in BAD_LINES])
def test_a_bad_line_is_refused_and_the_file_is_not(tmp_path: Path, line: str, rule: str) -> None:
    path = tmp_path / "geofeed.csv"
    path.write_text(f"198.51.100.0/24,DE,,,\n{line}\n203.0.113.0/24,FR\n")
    feed = read_geofeed(path, CODES, PLACES)
    assert [(item.row, item.rule) for item in feed.refusals] == [(2, rule)]
    assert {region.code for region in rows_of(feed).values()} == {"DE", "FR"}


def test_a_prefix_that_is_given_twice_is_named(tmp_path: Path) -> None:
    path = tmp_path / "geofeed.csv"
    path.write_text("198.51.100.0/24,DE\n2001:db8::/32,IN\n198.51.100.0/24,FR\n2001:db8:0::/32,IN\n")
    assert [(item.row, item.value) for item in read_geofeed(path, CODES, PLACES).refusals] == [
        (3, "198.51.100.0/24"),
        (4, "2001:db8::/32"),
    ]


FORMS = [
    "203.0.113.0/24",
    "::ffff:203.0.113.0/120",
    "::FFFF:cb00:7100/120",
    "64:ff9b::203.0.113.0/120",
    "2002:cb00:7100::/40",
]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_an_ipv4_prefix_in_a_geofeed_is_the_same_prefix(tmp_path: Path, form: str) -> None:
    path = tmp_path / "geofeed.csv"
    path.write_text(f"{form},IN,IN-MH,Mumbai\n198.51.100.0/24,DE\n" + "".join(f'"{other}",FR\n' for other in FORMS))
    feed = read_geofeed(path, CODES, PLACES)
    assert rows_of(feed)["203.0.113.0/24"] == Region("IN-MH", PLACES["IN", "mumbai"])
    assert (feed.accepted, [item.row for item in feed.refusals]) == (2, [3, 4, 5, 6, 7])


ADDRESSES = [
    # a bare address, and as what it is read
    ("203.0.113.9", "203.0.113.9/32"),
    ("::ffff:203.0.113.9", "203.0.113.9/32"),
    ("64:ff9b::cb00:7109", "203.0.113.9/32"),
    ("2001:DB8::9", "2001:db8::9/128"),
    ("2002:cb00:7109::1", None),
    ("fe80::1%eth0", None),
    ("203.0.113.9/", None),
    ("203.0.113.009", None),
]


@pytest.mark.parametrize(("address", "prefix"), ADDRESSES)
def test_an_address_in_a_geofeed_is_a_prefix_of_one(tmp_path: Path, address: str, prefix: str | None) -> None:
    path = tmp_path / "geofeed.csv"
    path.write_text(f"198.51.100.0/24,DE\n{address},IN")
    feed = read_geofeed(path, CODES, PLACES)
    assert set(rows_of(feed)) == {"198.51.100.0/24", prefix} - {None}
    assert feed.refused == (prefix is None)


@pytest.mark.parametrize("text", ["# no row yet", "#\n\n# RPKI Signature: 192.0.2.0/24\n"])
def test_a_geofeed_of_comments_has_no_row(tmp_path: Path, text: str) -> None:
    path = tmp_path / "geofeed.csv"
    path.write_text(text)
    assert (read_geofeed(path, CODES, PLACES).accepted, read_geofeed(path, CODES, PLACES).refused) == (0, 0)


def test_what_is_no_geofeed_is_refused_whole(tmp_path: Path) -> None:
    path = tmp_path / "geofeed.csv"
    path.write_text("# a page\n<html>\n<title>404\n")
    with pytest.raises(FeedError, match=r"has no row of a geofeed; the first of 2 rows, 2: no IPv4 or IPv6 address$"):
        read_geofeed(path, CODES, PLACES)


def test_a_geofeed_that_is_no_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "geofeed.csv"
    path.write_bytes(b"198.51.100.0/24,DE\n192.0.2.0/24,IN,,M\xfcnchen\n")
    assert [item.rule for item in read_geofeed(path, CODES, PLACES).refusals] == ["a geofeed is UTF-8"]


SUSPICIOUS = [
    ("192.0.2.0/24,IN,IN-99", "IN", "a region is an ISO 3166-2 code; there is no 'IN-99', so the country is used"),
    (
        "192.0.2.0/24,IN,Maharashtra",
        "IN",
        "a region is an ISO 3166-2 code; there is no 'MAHARASHTRA', so the country is used",
    ),
    ("192.0.2.0/24,IN,GB-LND", "IN", "a region lies in its country; GB-LND does not lie in IN, so the country is used"),
    ("192.0.2.0/24,,GB-LND", "GB-LND", None),
    ("192.0.2.0/24", "", None),
    ("192.0.2.0/24,ZZ", "", None),
    ("192.0.2.0/24,zz,zz-zz,Mumbai,", "", None),
]


@pytest.mark.parametrize(("line", "code", "suspicion"), SUSPICIOUS)
def test_a_region_that_there_is_none_of_is_a_warning(
    tmp_path: Path, line: str, code: str, suspicion: str | None
) -> None:
    path = tmp_path / "geofeed.csv"
    path.write_text(line + "\n")
    feed = read_geofeed(path, CODES, PLACES)
    assert rows_of(feed) == {"192.0.2.0/24": Region(code)}
    assert [item.rule for item in feed.warnings] == ([suspicion] if suspicion else [])
    assert feed.describe()["accepted"] == 1


def test_a_geofeeds_word_counts_before_the_maps_inside_its_prefixes(tmp_path: Path, write_mmdb: WriteMmdb) -> None:
    records = {"192.0.2.0/24": {"country_code": "DE"}, "192.0.2.16/28": {"country_code": "FR"}}
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    first.write_text("192.0.2.0/25,IN,IN-MH,Mumbai\n192.0.2.64/26,,,\n")
    second.write_text("192.0.2.0/25,US\n192.0.2.32/27,GB\n")
    regions = read_regions(write_mmdb(records), (first, second))
    expected = {
        "192.0.2.1": ("IN-MH", True),  # of one prefix, the first feed's
        "192.0.2.17": ("IN-MH", True),  # whatever the map says inside
        "192.0.2.33": ("GB", False),  # the longest prefix of all feeds
        "192.0.2.65": ("", False),  # not to be guessed
        "192.0.2.129": ("DE", False),
        "192.0.3.1": ("", False),
    }
    for address, (code, placed) in expected.items():
        region = region_at(regions, address)
        assert (region.code, region.place is not None) == (code, placed), address


def test_a_geofeed_reaches_the_rankings(
    tmp_path: Path, write_mmdb: WriteMmdb, build: Callable[..., BuiltTable], fleet: Fleet
) -> None:
    """Clients that no route covers are served from the nearest site: London by the map, Mumbai by the geofeed."""
    path = tmp_path / "geofeed.csv"
    path.write_text("192.0.2.128/25,GB,,\n192.0.2.0/25,IN,IN-MH,Mumbai\n")
    table = build(country_mmdb=write_mmdb({"192.0.2.0/24": {"country_code": "GB"}}), geofeeds=(path,))
    result = {zone.region: table.ranking_entries[2 * zone.first] for zone in table.zones if zone.region}
    assert result["GB"] == 3
    assert result["IN-MH"] == 1
    assert [(item["kind"], item.get("accepted")) for item in table.other_sources] == [("regions", None), ("geofeed", 2)]


# ---- databases


def test_a_city_database_gives_subdivisions_and_places(write_mmdb: WriteMmdb) -> None:
    records = {
        "192.0.2.0/25": {
            "country": {"iso_code": "IN"},
            "subdivisions": [{"iso_code": "MH"}, {"iso_code": "X"}],
            "location": {"latitude": 19.07, "longitude": 72.88},
        },
        "192.0.2.128/25": {"country": {"iso_code": "IN"}, "subdivisions": [{"iso_code": "99"}]},
        "198.51.100.0/24": {"country_code": "GB", "latitude": 51.4, "longitude": -0.2},
        "203.0.113.0/24": {"country_code": "GB", "latitude": 99.0, "longitude": 0.0},
    }
    regions = read_regions(write_mmdb(records))
    assert region_at(regions, "192.0.2.1") == Region("IN-MH", (19.0, 73.0))
    assert region_at(regions, "192.0.2.129") == Region("IN")
    assert region_at(regions, "198.51.100.1") == Region("GB", (51.5, 0.0))
    assert region_at(regions, "203.0.113.1") == Region("GB")


@pytest.mark.parametrize("version", [4, 6])
def test_every_address_has_the_country_that_a_lookup_in_the_database_finds(write_mmdb: WriteMmdb, version: int) -> None:
    rnd = random.Random(version)
    nets = {
        ipaddress.ip_network((0xC0000000 | rnd.getrandbits(20), rnd.randint(14, 32)), strict=False) for _ in range(60)
    }
    apart = [net for net in nets if not any(net != other and net.overlaps(other) for other in nets)]
    records = {str(net): {"country_code": rnd.choice(["IN", "GB", "US"])} for net in apart}
    path = write_mmdb(records, version=version)
    regions = read_regions(path)
    with maxminddb.open_database(path) as reader:
        edges = [int(net[at]) + off for net in apart for at, off in ((0, -1), (0, 0), (-1, 0), (-1, 1))]
        for number in edges:
            address = str(ipaddress.IPv4Address(number))
            record = reader.get(address)
            expected = record["country_code"] if isinstance(record, dict) else ""
            assert region_at(regions, address).code == expected, address


ASNS = [
    ({"autonomous_system_number": 64500}, 64500), ({"asn": "AS64500"}, 64500), ({"asn": "64500"}, 64500), ({"asn": 64500}, 64500),
    ({"asn": "ASx"}, None), ({"asn": 2**32}, None), ({"asn": True}, None), ({}, None), (None, None), ({"asn": -1}, None),
]  # fmt: skip


@pytest.mark.parametrize(("record", "asn"), ASNS)
def test_asns_are_found_in_records_of_the_usual_shapes(record: object, asn: int | None) -> None:
    assert asn_of(record) == asn


def test_an_asn_database_is_read_as_a_table_of_prefixes_and_asns(
    tmp_path: Path, fleet: Fleet, write_mmdb: WriteMmdb
) -> None:
    records = {
        "192.0.2.0/24": {"autonomous_system_number": [4, 64500]},
        "2001:db8::/32": {"autonomous_system_number": [4, 64500]},
        "198.51.100.0/24": {"autonomous_system_organization": "nobody"},
    }
    feed = read_feed(FeedSource("mmdb", str(write_mmdb(records, "asn.mmdb"))), fleet)
    text = tmp_path / "asn.txt"
    text.write_text("192.0.2.0/24 64500\n2001:db8::/32 64500\n")
    same = read_feed(FeedSource("asn", str(text)), fleet)
    assert (feed.accepted, feed.refused) == (same.accepted, same.refused) == (2, 0)
    assert [list(feed.columns[family].high) for family in (4, 6)] == [
        list(same.columns[family].high) for family in (4, 6)
    ]
    with maxminddb.open_database(tmp_path / "asn.mmdb") as reader:
        record: Any = reader.get("192.0.2.9")
    assert feed.origin_of[feed.columns[4].value[0]] == record["autonomous_system_number"]


def test_a_database_without_asns_names_the_right_setting(fleet: Fleet, write_mmdb: WriteMmdb) -> None:
    path = write_mmdb({"192.0.2.0/24": {"country_code": "IN"}})
    with pytest.raises(FeedError, match=r"countries\.mmdb: names no ASN") as caught:
        read_feed(FeedSource("mmdb", str(path)), fleet)
    assert "country_mmdb" in caught.value.hint
