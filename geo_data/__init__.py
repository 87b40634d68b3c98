"""Real data, small enough to ship: who originates which prefix, which country it lies in, and where cities are.

Each file's source, licence and attribution is in README.md beside them; `make geo-data` rebuilds them.
"""

from __future__ import annotations

import csv
import lzma
from pathlib import Path
from typing import Final, NamedTuple

FOLDER: Final = Path(__file__).parent
ASN_PREFIXES: Final = FOLDER / "asn-prefixes.txt.xz"
COUNTRY_PREFIXES: Final = FOLDER / "country-prefixes.txt.xz"
NETWORKS: Final = FOLDER / "networks.csv.xz"
PLACES: Final = FOLDER / "places.csv"
REGIONS: Final = FOLDER / "regions.txt.xz"


class Network(NamedTuple):
    """An autonomous system: its home country ("" where unknown), its address space, and its holder's name."""

    asn: int
    country: str
    addresses_v4: int
    prefixes48_v6: int
    name: str


class Place(NamedTuple):
    """A city by its airport: IATA code, ISO country, and degrees north and east."""

    iata: str
    country: str
    city: str
    latitude: float
    longitude: float


def read_networks() -> list[Network]:
    """Return every network of the table, by ASN."""
    with lzma.open(NETWORKS, "rt", encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        next(rows)
        return [Network(int(asn), country, int(v4), int(v6), name) for asn, country, v4, v6, name in rows]


def read_home_countries() -> dict[int, str]:
    """Return the home country of each ASN that has one."""
    lines = lzma.decompress(NETWORKS.read_bytes()).split(b"\n")[1:-1]
    pairs = (line.split(b",", 2) for line in lines)
    return {int(asn): country.decode() for asn, country, _ in pairs if country}


def read_places() -> list[Place]:
    """Return the places, by country, its main one first."""
    with PLACES.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        next(rows)
        return [Place(iata, country, city, float(north), float(east)) for iata, country, city, north, east in rows]


def read_region_codes() -> frozenset[str]:
    """Return the codes of all countries (ISO 3166-1 alpha-2) and their subdivisions (ISO 3166-2)."""
    return frozenset(lzma.decompress(REGIONS.read_bytes()).decode().split())
