"""The shipped data is what its README says, and the rebuild makes it from its packages, judged range by range."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import ipaddress
import lzma
import re
import tarfile
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import geo_data
from _fastpath import prefix_rows
from geo_data import rebuild

README = (geo_data.FOLDER / "README.md").read_text()


def lines_of(path: Path) -> list[str]:
    return lzma.decompress(path.read_bytes()).decode().splitlines()


@pytest.mark.parametrize("path", [geo_data.ASN_PREFIXES, geo_data.COUNTRY_PREFIXES], ids=lambda path: path.name)
def test_shipped_prefixes_are_exact_sorted_and_as_many_as_the_readme_says(path: Path) -> None:
    columns, _, result, refused = prefix_rows.read(lzma.decompress(path.read_bytes()))
    assert [value for _, value, _ in result] == (["2002::/16"] if path == geo_data.ASN_PREFIXES else [])
    assert sum(refused.values()) == len(result)
    assert f"| {len(columns[4]):,} IPv4, {len(columns[6]) + len(result):,} IPv6 | {path.stat().st_size:,} |" in README
    texts = [line.split()[0] for line in lines_of(path)]
    spans = []
    for text in texts:
        network = ipaddress.ip_network(text)  # ValueError for host bits
        spans.append((network.version, int(network.network_address), network.num_addresses))
    overlapping = [
        after
        for after, (version, begin, size), (after_version, after_begin, _) in zip(
            texts[1:], spans, spans[1:], strict=False
        )
        if version == after_version and after_begin < begin + size
    ]
    assert overlapping == (["215.0.0.0/16"] if path == geo_data.ASN_PREFIXES else [])
    assert [version for version, _, _ in spans] == sorted(version for version, _, _ in spans)


def test_every_origin_is_a_network_and_its_address_space_is_the_sum_of_its_prefixes() -> None:
    space: Counter[int] = Counter()
    origins = set()
    for line in lines_of(geo_data.ASN_PREFIXES):
        prefix, asn = line.split(" ")
        origins.add(int(asn))
        if ":" not in prefix:
            space[int(asn)] += 2 ** (32 - int(prefix.partition("/")[2]))
    networks = geo_data.read_networks()
    assert f"| {len(networks):,} |" in README
    assert {network.asn for network in networks} == origins
    assert all(network.addresses_v4 == space[network.asn] for network in networks)
    assert [network.asn for network in networks] == sorted(origins)
    assert geo_data.read_home_countries() == {network.asn: network.country for network in networks if network.country}


def test_home_countries_are_where_everybody_knows_these_networks_are() -> None:
    homes = geo_data.read_home_countries()
    known = "55836 IN, 7922 US, 3320 DE, 3215 FR, 28573 BR, 4134 CN, 17676 JP, 1221 AU, 37457 ZA"
    assert ", ".join(f"{asn} {homes[int(asn)]}" for asn in re.findall("[0-9]+", known)) == known


def test_places_lie_on_the_earth_once_a_country_and_every_large_country_has_some() -> None:
    places = geo_data.read_places()
    assert f"| {len(places)} |" in README
    assert all(re.fullmatch("[A-Z]{3}", place.iata) and re.fullmatch("[A-Z]{2}", place.country) for place in places)
    assert all(abs(place.latitude) <= 90 and abs(place.longitude) <= 180 and place.city for place in places)
    assert len({(place.iata, place.country) for place in places}) == len(places)
    countries = Counter(line.split(" ")[1] for line in lines_of(geo_data.COUNTRY_PREFIXES))
    without = {code for code, count in countries.items() if count > 20} - {place.country for place in places}
    assert without == {"AP"}  # a registry's "somewhere in Asia and the Pacific", no country


def test_the_readme_pins_and_attributes_what_the_rebuild_fetches() -> None:
    for package in (rebuild.ASN, rebuild.COUNTRY, rebuild.AIRPORTS, rebuild.CODES):
        assert f"`{package.name}` | {package.version} |" in README
        assert re.fullmatch("[0-9a-f]{64}", package.sha256)
    assert "[IP Geolocation by DB-IP](https://db-ip.com)" in README
    assert "Copyright (c) 2020- Mike Borsetti" in README
    shipped = {path.name for path in geo_data.FOLDER.iterdir() if path.suffix in {".xz", ".csv"}}
    assert all(f"| `{name}` |" in README for name in shipped)
    assert not any("geolite" in name.lower() for name in shipped)


@given(st.sampled_from([4, 6]), st.data())
def test_a_range_expands_to_the_same_prefixes_as_the_standard_library_gives(family: int, data: st.DataObject) -> None:
    bits, address = (32, ipaddress.IPv4Address) if family == 4 else (128, ipaddress.IPv6Address)
    ends = st.one_of(st.integers(0, 2**bits - 1), st.integers(0, 70), st.integers(2**bits - 70, 2**bits - 1))
    first, last = sorted((data.draw(ends), data.draw(ends)))
    expected = ipaddress.summarize_address_range(address(first), address(last))
    assert list(rebuild.expand(first, last, bits)) == [
        (int(network.network_address), network.prefixlen) for network in expected
    ]


@given(st.lists(st.integers(0, 40), unique=True), st.lists(st.integers(0, 40), unique=True))
def test_overlaps_are_what_counting_address_by_address_gives(some: list[int], others: list[int]) -> None:
    networks, countries = (
        [(first, last - 1, f"{name}{first % 3}") for first, last in zip(edges[::2], edges[1::2], strict=False)]
        for name, edges in (("n", sorted(some)), ("c", sorted(others)))
    )
    expected: Counter[tuple[str, str]] = Counter()
    for address in range(41):
        for first, last, asn in networks:
            for start, end, code in countries:
                if first <= address <= last and start <= address <= end:
                    expected[asn, code] += 1
    result: Counter[tuple[str, str]] = Counter()
    for asn, code, size in rebuild.overlaps(networks, countries):
        result[asn, code] += size
    assert result == expected


AIRPORT_COLUMNS = ["icao", "iata", "name", "city", "subd", "country", "elevation", "lat", "lon", "tz", "lid"]
WriteMmdb = Callable[..., Path]


@pytest.fixture
def packages(tmp_path: Path, write_mmdb: WriteMmdb, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Return tiny archives in the shape of the four packages, pinned in their place."""
    listed = [code for item in rebuild.MAIN_AIRPORTS.split() for code in item.partition(":")[2].split(",")]
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(AIRPORT_COLUMNS)
    for code in dict.fromkeys(listed):
        writer.writerow(
            ["", code, f"{code} Airport", f"City of {code} / Old Town", "", "XX", 0, "10.123456", -20, "", ""]
        )
    writer.writerow(["", "ZZA", "Small Field", "", "", "ZZ", 0, 1, 2, "", ""])
    writer.writerow(["", "ZZB", "Big International", "", "", "ZZ", 0, 3, 4, "", ""])
    writer.writerow(["", "", "No Code International", "", "", "ZZ", 0, 5, 6, "", ""])
    content = {
        "ASN": {
            "asn-ipv4.csv": '1.0.2.0,1.0.4.255,64497,"B, ""quoted""\tInc."\n1.0.0.0,1.0.1.255,64496,A\n',
            "asn-ipv6.csv": "2001:db8::,2001:db8:2:ffff:ffff:ffff:ffff:ffff,64496,Another name of A\n",
        },
        "COUNTRY": {
            "iptoasn-country-ipv4.mmdb": write_mmdb(
                {
                    "1.0.0.0/24": {"country_code": "ZZ"},
                    "1.0.1.0/24": {"country_code": "ZZ"},
                    "1.0.2.0/23": {"country_code": "IN"},
                    "1.0.4.0/24": {"country_code": "none"},
                },
                version=4,
            ).read_bytes(),
            "iptoasn-country-ipv6.mmdb": write_mmdb({"2001:db8::/32": {"country_code": "FR"}}).read_bytes(),
        },
        "AIRPORTS": {"airports.csv": table.getvalue()},
        "CODES": {
            "1.js": "{state: 'assigned',\n alpha2: 'IN',\n},{ alpha2: 'FR', }",
            "2.js": "/** (example: `'GB-BFS'`) */ {\n code: 'IN-MH',\n parent: 'IN' }, { code: 'FR-75C', parent: 'FR-IDF' }",
        },
    }
    archives = {}
    for constant, files in content.items():
        packed = {name: data.encode() if isinstance(data, str) else data for name, data in files.items()}
        if constant == "AIRPORTS":
            path = tmp_path / "airportsdata.whl"
            with zipfile.ZipFile(path, "w") as wheel:
                for name, data in packed.items():
                    wheel.writestr(f"airportsdata/{name}", data)
        else:
            path = tmp_path / f"{constant.lower()}.tgz"
            with tarfile.open(path, "w:gz") as tar:
                for name, data in packed.items():
                    info = tarfile.TarInfo(f"package/{name}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        pinned = dataclasses.replace(getattr(rebuild, constant), sha256=sha256)
        monkeypatch.setattr(rebuild, constant, pinned)
        archives[pinned.name] = path
    return archives


def test_the_rebuild_expands_joins_and_names_and_equal_input_gives_equal_bytes(
    packages: dict[str, Path], tmp_path: Path
) -> None:
    written = []
    for name in ("first", "second"):
        (folder := tmp_path / name).mkdir()
        lines: list[str] = []
        rebuild.rebuild(folder, lambda package, _: packages[package.name], lines.append)
        written.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert written[0] == written[1]
    assert lines[0] == f"fetch {rebuild.ASN.name} {rebuild.ASN.version}"
    folder = tmp_path / "first"
    assert lines_of(folder / "asn-prefixes.txt.xz") == [
        "1.0.0.0/23 64496",
        "1.0.2.0/23 64497",
        "1.0.4.0/24 64497",
        "2001:db8::/47 64496",
        "2001:db8:2::/48 64496",
    ]
    assert lines_of(folder / "country-prefixes.txt.xz") == ["1.0.0.0/23 ZZ", "1.0.2.0/23 IN", "2001:db8::/32 FR"]
    assert lines_of(folder / "networks.csv.xz") == [
        "asn,country,addresses_v4,prefixes48_v6,name",
        "64496,ZZ,512,3,A",
        '64497,IN,768,0,"B, ""quoted"" Inc."',
    ]
    places = defaultdict(list)
    for row in csv.DictReader((folder / "places.csv").read_text().splitlines()):
        places[row["country"]].append((row["iata"], row["city"], row["latitude"], row["longitude"]))
    assert places["ZZ"] == [("ZZB", "Big International", "3.0000", "4.0000")]
    assert places["CH"] == [(code, f"City of {code}", "10.1235", "-20.0000") for code in ("ZRH", "GVA")]


def test_the_codes_are_of_countries_and_their_subdivisions(packages: dict[str, Path], tmp_path: Path) -> None:
    rebuild.rebuild(tmp_path, lambda package, _: packages[package.name], lambda _: None)
    assert lines_of(tmp_path / "regions.txt.xz") == ["FR", "FR-75C", "IN", "IN-MH"]
    codes = geo_data.read_region_codes()
    assert {"IN", "IN-MH", "US-CA", "GB-BFS", "FR-IDF"} <= codes
    assert {code[:2] for code in codes} == {code for code in codes if len(code) == 2}
    assert f"| {len(codes):,} | {geo_data.REGIONS.stat().st_size:,} |" in README


def test_a_package_that_is_not_the_pinned_one_is_refused_by_name_and_both_hashes(
    packages: dict[str, Path], tmp_path: Path
) -> None:
    path = packages[rebuild.ASN.name]
    path.write_bytes(path.read_bytes() + b"\0")
    result = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder := tmp_path / "out").mkdir()
    with pytest.raises(SystemExit, match=f"{result}, {rebuild.ASN.name} .* has {rebuild.ASN.sha256}"):
        rebuild.rebuild(folder, lambda package, _: packages[package.name], print)
    assert list(folder.iterdir()) == []


def test_without_its_client_a_package_is_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="npm is not on PATH; @ip-location-db/asn is fetched with it"):
        rebuild.fetch(rebuild.ASN, tmp_path)
