"""The region of each address: a country or a part of one, and its location if known.

Regions come from the shipped country map or from an MMDB of countries or cities. The operator's geofeeds (`geofeed.py`)
replace them inside their prefixes.
"""

from __future__ import annotations

import dataclasses
import functools
from array import array
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import geo_data
from _fastpath import prefix_rows, rib
from _fastpath.intervals import Chains, Intervals, Pairs, overlay, relabel_intervals, sweep
from steering.control.feed_files import read_text, sha256_of
from steering.control.routes.feeds.geofeed import Geofeed, read_geofeed
from steering.control.routes.feeds.mmdb import read_networks
from steering.errors import FeedError
from steering.model.route import NOWHERE, Region

T = TypeVar("T")

LOCATION_STEP: Final = 0.5  # degrees; rankings use distance in steps of 100 km


@dataclasses.dataclass(frozen=True, slots=True)
class RegionMap:
    """Intervals of all address space by family; values are indices into `regions`, whose first is NOWHERE."""

    name: str
    sha256: str
    intervals: dict[int, Intervals]
    regions: list[Region]
    geofeeds: tuple[Geofeed, ...] = ()
    geofeed_rows: Mapping[int, prefix_rows.Columns] = dataclasses.field(default_factory=dict)  # one a prefix


class Read(Protocol):
    """Returns what a reader makes of a file, or None where it does without the file."""

    def __call__(self, kind: str, path: Path, reader: Callable[[Path], T]) -> T | None: ...


def read_strictly(kind: str, path: Path, reader: Callable[[Path], T]) -> T | None:  # noqa: ARG001
    """Return what a reader makes of a file. Raises its FeedError."""
    return reader(path)


def read_regions(mmdb: Path | None = None, geofeeds: Sequence[Path] = (), read: Read = read_strictly) -> RegionMap:
    """Return the regions of the shipped country map, or of an MMDB, replaced by geofeeds inside their prefixes.

    Raises FeedError if one of them cannot be used and `read` does not do without it.
    """
    regions = read("regions", mmdb, read_map) if mmdb else None
    regions = regions or read_map()
    if not geofeeds:
        return regions
    places = {
        (place.country, place.city.casefold()): (place.latitude, place.longitude) for place in geo_data.read_places()
    }
    reader = functools.partial(read_geofeed, codes=geo_data.read_region_codes(), places=places)
    feeds = [feed for path in geofeeds if (feed := read("geofeed", path, reader))]
    intervals, named, rows = apply_geofeeds(regions.intervals, regions.regions, feeds)
    return dataclasses.replace(regions, intervals=intervals, regions=named, geofeeds=tuple(feeds), geofeed_rows=rows)


def read_map(mmdb: Path | None = None) -> RegionMap:
    """Return the regions of an MMDB, or of the shipped country map. Raises FeedError if it cannot be used."""
    if mmdb is not None:
        text, name, digest = mmdb_text(mmdb), mmdb.name, sha256_of(mmdb)
    else:
        text, digest = read_text(geo_data.COUNTRY_PREFIXES)
        name = geo_data.COUNTRY_PREFIXES.name
    columns, tails, refusals, refused_by = prefix_rows.read(text)
    if refused_by:
        row, value, rule = refusals[0]
        raise FeedError(f"{name} row {row}: {value}: {rule}")
    regions = [NOWHERE, *(region_of(tail.decode("ascii", "replace")) for tail in tails)]
    if wrong := next((region.code for region in regions[1:] if not is_country(region.code[:2])), None):
        raise FeedError(f"{name}: {wrong!r} is no ISO 3166-1 alpha-2 code")
    chains = Chains()
    swept = {family: sweep(one_row_each(columns[family], tails, name), chains) for family in (4, 6)}
    # A chain has its longest prefix's region.
    label = array("I", [0, *(chains.value[chain] + 1 for chain in range(1, len(chains)))])
    intervals = {family: relabel_intervals(cut, label) for family, cut in swept.items()}
    return RegionMap(name, digest, intervals, regions)


def one_row_each(columns: prefix_rows.Columns, tails: list[bytes], name: str) -> prefix_rows.Columns:
    """Return sorted columns with one row a prefix. Raises FeedError if a prefix lies in several regions."""
    grouped, twice, _ = rib.group_by_prefix(prefix_rows.sort(columns), len(tails))
    if twice:
        both = ", ".join(tails[tail].decode("ascii", "replace") for tail in twice[0])
        raise FeedError(f"{name}: one prefix lies in several regions ({both})")
    return grouped


def apply_geofeeds(
    intervals: dict[int, Intervals], regions: list[Region], feeds: Sequence[Geofeed]
) -> tuple[dict[int, Intervals], list[Region], dict[int, prefix_rows.Columns]]:
    """Return intervals and regions with geofeeds applied, and the geofeeds' rows, one a prefix.

    For a prefix in several geofeeds, the first is used.
    """
    regions = list(regions)
    chains, pairs = Chains(), Pairs()
    merged = {4: prefix_rows.Columns(), 6: prefix_rows.Columns()}
    for feed in feeds:
        labels = array("I", range(len(regions), len(regions) + len(feed.regions)))
        regions += feed.regions
        for family, columns in feed.columns.items():
            shifted = columns.alias()
            shifted.value = prefix_rows.relabel(columns.value, labels)
            merged[family].extend(shifted)
    both, rows = {}, {}
    for family in (4, 6):
        grouped, several, _ = rib.group_by_prefix(prefix_rows.sort(merged[family]), len(regions))
        # Values of one prefix ascend in the order of the feeds.
        first = array("I", [*range(len(regions)), *(values[0] for values in several)])
        grouped.value = prefix_rows.relabel(grouped.value, first)
        rows[family] = grouped
        both[family] = overlay(intervals[family], sweep(grouped, chains), pairs)
    chosen = array(
        "I",
        (chains.value[over] if over else under for under, over in zip(pairs.left, pairs.right, strict=True)),
    )
    return {family: relabel_intervals(cut, chosen) for family, cut in both.items()}, regions, rows


def region_of(text: str) -> Region:
    """Parse a region as `mmdb_text` writes it: its code, then degrees north and east if known."""
    code, *degrees = text.split()
    return Region(code, (float(degrees[0]), float(degrees[1])) if degrees else None)


def mmdb_text(path: Path) -> bytes:
    """Return an MMDB's networks and their regions as feed lines. Networks without a country are left out."""
    codes = geo_data.read_region_codes()

    def region(record: Any) -> str:
        country = country_code(record)
        code = subdivision_code(record, country) if country else ""
        return f"{code if code in codes else country}{location_text(record)}" if country else ""

    lines = bytearray()
    for network, text in read_networks(path, region):
        if text:
            lines += f"{network} {text}\n".encode()
    if not lines:
        raise FeedError(f"{path}: names no country")
    return bytes(lines)


def country_code(record: object) -> str | None:
    """Return the ISO code of a record of the usual shapes: `country_code`, `country.iso_code` or `country`."""
    if not isinstance(record, dict):
        return None
    country = record.get("country_code") or record.get("country")
    code = country.get("iso_code") if isinstance(country, dict) else country
    return code if isinstance(code, str) and is_country(code) else None


def is_country(code: str) -> bool:
    return len(code) == 2 and code.isascii() and code.isalpha() and code.isupper()


def subdivision_code(record: dict[str, Any], country: str) -> str:
    """Return the code of the largest part of the country that a record names, empty if it names none."""
    listed = record.get("subdivisions")
    first = listed[0] if isinstance(listed, list) and listed else None
    part = first.get("iso_code") if isinstance(first, dict) else None
    return f"{country}-{part}" if isinstance(part, str) else ""


def location_text(record: dict[str, Any]) -> str:
    """Return a record's location, rounded, as text to follow a code; empty if it has none."""
    location = record.get("location")
    location = location if isinstance(location, dict) else record
    north: Any = location.get("latitude")
    east: Any = location.get("longitude")
    if not (type(north) in (int, float) and type(east) in (int, float) and abs(north) <= 90 and abs(east) <= 180):
        return ""
    return "".join(f" {round(value / LOCATION_STEP) * LOCATION_STEP:g}" for value in (north, east))
