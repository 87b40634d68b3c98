"""The region of address space: ISO 3166-1 countries by prefix, from the shipped map or any MMDB with countries."""

from __future__ import annotations

import dataclasses
import ipaddress
from pathlib import Path

import maxminddb

import geo_data
from _fastpath import rib
from steering.control.network.feeds import read_text
from steering.errors import FeedError


@dataclasses.dataclass(frozen=True, slots=True)
class RegionMap:
    """Sorted columns, one row a prefix, by family; values are places in `codes`."""

    name: str
    columns: dict[int, rib.Columns]
    codes: list[str]


def read_regions(mmdb: Path | None = None) -> RegionMap:
    """Return the shipped country map, or the countries of an MMDB, read through once. Raises FeedError."""
    if mmdb is not None:
        text, name = mmdb_text(mmdb), mmdb.name
    else:
        text, name = read_text(geo_data.COUNTRY_PREFIXES)[0], geo_data.COUNTRY_PREFIXES.name
    columns, tails, found, refused = rib.read(text)
    if refused:
        row, value, rule = found[0]
        raise FeedError(f"{name} row {row}: {value}: {rule}")
    codes = [tail.decode("ascii", "replace") for tail in tails]
    for code in codes:
        if not (len(code) == 2 and code.isalpha() and code.isupper()):
            raise FeedError(f"{name}: {code!r} is no ISO 3166-1 alpha-2 code")
    prefixes = {}
    for family in (4, 6):
        prefixes[family], twice, _ = rib.group(rib.sort(columns[family]), len(codes))
        if twice:
            both = ", ".join(codes[code] for code in twice[0])
            raise FeedError(f"{name}: one prefix lies in several countries ({both})")
    return RegionMap(name, prefixes, codes)


def mmdb_text(path: Path) -> bytes:
    """Return an MMDB's networks and their country codes as feed lines. Networks without a country are left out."""
    lines = []
    try:
        with maxminddb.open_database(path) as reader:
            for network, record in reader:
                code = country_code(record)
                if code is not None:
                    lines.append(f"{unmapped(network)} {code}\n")
    except (OSError, maxminddb.InvalidDatabaseError) as error:
        raise FeedError(f"{path}: {error}") from error
    if not lines:
        raise FeedError(f"{path}: names no country")
    return "".join(lines).encode()


def country_code(record: object) -> str | None:
    """Return the ISO code of a record of the usual shapes: `country_code`, `country.iso_code` or `country`."""
    if not isinstance(record, dict):
        return None
    country = record.get("country_code") or record.get("country")
    code = country.get("iso_code") if isinstance(country, dict) else country
    return code if isinstance(code, str) and len(code) == 2 and code.isalpha() and code.isupper() else None


def unmapped(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> str:
    """Return a network as text; one inside ::/96, where an MMDB of both families keeps IPv4, as IPv4."""
    if network.version == 6 and network.prefixlen >= 96 and int(network.network_address) < 1 << 32:
        return f"{ipaddress.IPv4Address(int(network.network_address))}/{network.prefixlen - 96}"
    return str(network)
