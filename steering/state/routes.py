"""`routes.<version>`: the accepted routes of a table and its refused rows, for explain, scope and diff.

Prefixes are left-aligned 128-bit numbers (`_fastpath/rib.pyx`), sorted by (prefix, length): one row for each prefix,
announcement set and origin AS. The zone intervals stand beside them, so that the scope of an answer is exact.
"""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import json
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from _fastpath.intervals import Intervals
from _fastpath.prefix_rows import Columns
from steering.model.prefix import UNWRAPPED, unwrap_prefix
from steering.model.route import Announcement, Refusal, RouteClass, Rpki
from steering.state.sections import Data, StateFile, written_by_us

ORIGIN_NAMES = ("igp", "egp", "incomplete")
ALL_ONES = (1 << 128) - 1
LOW = (1 << 64) - 1


@dataclasses.dataclass(frozen=True, slots=True)
class RouteRows:
    """The accepted routes of one family, sorted by (prefix, length), each with its set, origin and RPKI state."""

    high: array[int]
    low: array[int]
    lengths: array[int]
    sets: array[int]
    origins: array[int]
    states: array[int]


@dataclasses.dataclass(frozen=True, slots=True)
class Locations:
    """Where clients are assumed to be, for explain: the rows of geofeeds, and one location for all others of a country.

    A row's value is an index into `regions`: the name of the geofeed, the code, and the location if it gives one.
    """

    countries: Mapping[str, tuple[float, float]]  # degrees north and east
    regions: Sequence[tuple[str, str, tuple[float, float] | None]] = ()
    rows: Mapping[int, Columns] = dataclasses.field(default_factory=dict)  # by family, sorted, one a prefix


def routes_sections(
    meta: dict[str, Any],
    rows: dict[int, RouteRows],
    zones: Mapping[int, Intervals],
    announcements: Sequence[Announcement],
    set_first: array[int],
    set_members: array[int],
    refusals: Sequence[Refusal] = (),
    locations: Locations | None = None,
) -> dict[str, Data]:
    """Return the sections of `routes.<version>`.

    Set s is `announcements[m] for m in set_members[set_first[s]:set_first[s + 1]]`.
    """
    sections: dict[str, Data] = {"meta": json.dumps(meta).encode()}
    for family in (4, 6):
        columns, intervals = rows[family], zones[family]
        sections |= {
            f"v{family}_high": columns.high,
            f"v{family}_length": columns.lengths,
            f"v{family}_set": columns.sets,
            f"v{family}_origin": columns.origins,
            f"v{family}_rpki": columns.states,
            f"v{family}_zone_high": intervals.high,
            f"v{family}_zone": intervals.value,
        }
        if family == 6:  # an IPv4 prefix ends within the upper half
            sections |= {"v6_low": columns.low, "v6_zone_low": intervals.low}
    sections["announcements"] = json.dumps([dataclasses.astuple(item) for item in announcements]).encode()
    sections["set_first"] = set_first
    sections["set_members"] = set_members
    sections["refusals"] = json.dumps([dataclasses.astuple(item) for item in refusals]).encode()
    locations = locations or Locations({})
    sections["locations"] = json.dumps({"countries": locations.countries, "regions": locations.regions}).encode()
    for family, located in locations.rows.items():
        sections |= {f"v{family}_geo_high": located.high, f"v{family}_geo_low": located.low}
        sections |= {f"v{family}_geo_length": located.length, f"v{family}_geo": located.value}
    return sections


def aligned(address: bytes) -> tuple[int, int]:
    """Return (family, left-aligned number) of a packed address."""
    family = 4 if len(address) == 4 else 6
    return family, int.from_bytes(address, "big") << (96 if family == 4 else 0)


def prefix_text(family: int, number: int, length: int) -> str:
    """Return a left-aligned prefix as CIDR text."""
    if family == 4:
        return f"{ipaddress.IPv4Address(number >> 96)}/{length}"
    return f"{ipaddress.IPv6Address(number)}/{length}"


def prefix_at(family: int, columns: Columns, row: int) -> str:
    """Return the prefix of a row as CIDR text."""
    return prefix_text(family, columns.high[row] << 64 | columns.low[row], columns.length[row])


def exact_rows(high: Any, low: Any, lengths: Any, number: int, length: int) -> Iterator[int]:
    """Yield the rows of exactly this prefix in sorted columns; `low` may be None for IPv4."""
    row, end = bisect_left(high, number >> 64), bisect_right(high, number >> 64)
    if low is not None:
        wanted = number & LOW
        row, end = bisect_left(low, wanted, row, end), bisect_right(low, wanted, row, end)
    row = bisect_left(lengths, length, row, end)
    while row < end and lengths[row] == length:
        yield row
        row += 1


class Routes:
    """A mapped routes file."""

    def __init__(self, path: Path) -> None:
        self.file = StateFile(path, "routes")
        with written_by_us(path.name):
            self.read(self.file)

    def read(self, file: StateFile) -> None:
        """Read the sections. ValueError and the like: they do not belong together."""
        self.meta: dict[str, Any] = json.loads(bytes(file["meta"]))
        self.announcements = [self.announcement(item) for item in json.loads(bytes(file["announcements"]))]
        self.set_first = file["set_first"].cast("I")
        self.set_members = file["set_members"].cast("I")
        self.columns = {
            family: (
                file[f"v{family}_high"].cast("Q"),
                file["v6_low"].cast("Q") if family == 6 else None,
                file[f"v{family}_length"],
                file[f"v{family}_set"].cast("I"),
                file[f"v{family}_origin"].cast("I"),
            )
            for family in (4, 6)
        }
        self.zones = {
            family: (file[f"v{family}_zone_high"].cast("Q"), file["v6_zone_low"].cast("Q") if family == 6 else None)
            for family in (4, 6)
        }
        self.states = {family: file[f"v{family}_rpki"] for family in (4, 6)}
        self.refusals = [Refusal(*item) for item in json.loads(bytes(file["refusals"]))]
        self.zone_of = {family: file[f"v{family}_zone"].cast("I") for family in (4, 6)}
        for family in (4, 6):
            of_rows = (*self.columns[family], self.states[family])
            if len({len(column) for column in of_rows if column is not None}) > 1:
                raise ValueError(f"its IPv{family} rows have columns of several lengths")
            high, low = self.zones[family]
            if not len(high) == len(self.zone_of[family]) == len(high if low is None else low):
                raise ValueError(f"its IPv{family} zones have columns of several lengths")

    @cached_property
    def locations(self) -> Locations:
        """The locations that the table was made with, read on first use. Raises SnapshotError."""
        with written_by_us(self.file.path.name):
            return self.read_locations()

    def read_locations(self) -> Locations:
        """Return the locations. ValueError and the like: they do not belong together."""
        if "locations" not in self.file.sections:
            return Locations({})
        known = json.loads(bytes(self.file["locations"]))
        rows = {}
        for family in (4, 6):
            if f"v{family}_geo" in self.file.sections:
                rows[family] = located = Columns()
                mapped: Any = [self.file[f"v{family}_geo{name}"] for name in ("_high", "_low", "_length", "")]
                located.high, located.low = mapped[0].cast("Q"), mapped[1].cast("Q")
                located.length, located.value = mapped[2], mapped[3].cast("I")
                if len({len(column) for column in (located.high, located.low, located.length, located.value)}) > 1:
                    raise ValueError(f"its IPv{family} geofeed rows have columns of several lengths")
        return Locations(known["countries"], known["regions"], rows)

    def geofeed_of(self, address: bytes) -> tuple[str, str, str, tuple[float, float] | None] | None:
        """Return name, prefix, code and location of the geofeed row that decides about an address; None without one."""
        family, number = aligned(address)
        rows = self.locations.rows.get(family)
        for length in range(len(address) * 8, -1, -1) if rows else ():
            network = number & ~(ALL_ONES >> length)
            for row in exact_rows(rows.high, rows.low, rows.length, network, length):  # type: ignore[union-attr]
                name, code, place = self.locations.regions[rows.value[row]]  # type: ignore[union-attr]
                return name, prefix_text(family, network, length), code, place
        return None

    def rows(self, family: int, first: int = 0, end: int | None = None) -> Columns:
        """Return the mapped rows of a family from `first` to `end`, not copied; a row's value is its set."""
        mapped: Any = self.columns[family]
        high, low, length, value = (column and column[first:end] for column in mapped[:4])
        rows = Columns()
        rows.high, rows.length, rows.value, rows.row = high, length, value, array("I", bytes(4 * len(high)))
        rows.low = low if low is not None else array("Q", bytes(8 * len(high)))
        return rows

    @staticmethod
    def announcement(item: list[Any]) -> Announcement:
        """Return an announcement read back from JSON."""
        cluster, route_class, via, hops, origin, med, communities, *rest = item
        return Announcement(cluster, RouteClass(route_class), tuple(via), hops, origin, med, tuple(communities), *rest)

    def rows_of(self, family: int, number: int, length: int) -> Iterator[int]:
        """Yield the rows of exactly this prefix."""
        return exact_rows(*self.columns[family][:3], number, length)

    def covering(self, address: bytes) -> list[dict[str, Any]]:
        """Return every accepted route that covers a packed address, longest prefix first, one dict a cluster."""
        family, number = aligned(address)
        return self.routes_of(family, self.covering_rows(family, number, len(address) * 8))

    def announcements_covering(self, address: bytes) -> list[Announcement]:
        """Return the announcement of each route of `covering`, in its order."""
        family, number = aligned(address)
        rows = self.covering_rows(family, number, len(address) * 8)
        return [item for row in rows for item in self.announcements_at(family, row)]

    def rows_inside(self, family: int, number: int, length: int) -> tuple[int, int]:
        """Return the first row of the prefixes inside a prefix, itself not among them, and the row after the last."""
        high, low, lengths = self.columns[family][:3]
        last = number | ALL_ONES >> length
        row, end = bisect_left(high, number >> 64), bisect_right(high, last >> 64)
        if low is not None:
            row = bisect_left(low, number & LOW, row, bisect_right(high, number >> 64))
            end = bisect_right(low, last & LOW, bisect_left(high, last >> 64), end)
        while row < end and lengths[row] <= length:  # rows of this prefix, and of shorter ones with the same start
            row += 1
        return row, end

    def covering_rows(self, family: int, number: int, longest: int) -> Iterator[int]:
        """Yield the rows whose prefixes, no longer than `longest`, cover a left-aligned address, longest first."""
        for length in range(longest, -1, -1):
            yield from self.rows_of(family, number & ~(ALL_ONES >> length), length)

    def refused_for(self, address: bytes) -> list[Refusal]:
        """Return the kept refusals whose value is a prefix that covers a packed address."""
        parsed = ipaddress.ip_address(address)
        covering = []
        for refusal in self.refusals:
            with contextlib.suppress(ValueError):
                if parsed in unwrap_prefix(ipaddress.ip_network(refusal.value.partition(" ")[0], strict=False)):
                    covering.append(refusal)
        return covering

    def routes_of(self, family: int, rows: Iterable[int]) -> list[dict[str, Any]]:
        """Return the routes of some rows, one dict a cluster; `cluster` is its number."""
        return [route for row in rows for route in self.routes_at(family, row)]

    def announcements_at(self, family: int, row: int) -> Iterator[Announcement]:
        """Yield the announcements of one row."""
        number = self.columns[family][3][row]
        for member in self.set_members[self.set_first[number] : self.set_first[number + 1]]:
            yield self.announcements[member]

    def routes_at(self, family: int, row: int) -> list[dict[str, Any]]:
        """Return the routes of one row, one dict a cluster; `cluster` is its number."""
        high, low, lengths, _, origins = self.columns[family]
        state = Rpki(self.states[family][row]).name if self.meta.get("rpki") else None
        number = high[row] << 64 | (low[row] if low is not None else 0)
        return [
            {
                "prefix": prefix_text(family, number, lengths[row]),
                "cluster": item.cluster,
                "class": item.route_class.name,
                "as_path": [*item.via, *([origins[row]] if origins[row] else [])],
                "hops": item.hops,
                "origin": ORIGIN_NAMES[item.origin],
                "med": item.med,
                "communities": list(item.communities),
                "excludes": item.excludes,
                "feed": item.feed,
                "rpki": state,
            }
            for item in self.announcements_at(family, row)
        ]

    def matched(self, address: bytes) -> tuple[str, list[int]] | None:
        """Return the longest covering prefix and its origin ASNs, or None where no route covers the address."""
        family, number = aligned(address)
        origins = self.columns[family][4]
        for length in range(len(address) * 8, -1, -1):
            network = number & ~(ALL_ONES >> length)
            rows = list(self.rows_of(family, network, length))
            if rows:
                return prefix_text(family, network, length), sorted({origins[row] for row in rows} - {0})
        return None

    def scope(self, address: bytes) -> str:
        """Return the widest prefix around the address that lies in one zone: all its addresses get the same targets."""
        family, number = aligned(address)
        high, low = self.zones[family]
        after = bisect_right(high, number >> 64)
        if low is not None:
            first = bisect_left(high, number >> 64, 0, after)
            after = bisect_right(low, number & LOW, first, after)
        start = high[after - 1] << 64 | (low[after - 1] if low is not None else 0)
        end = high[after] << 64 | (low[after] if low is not None else 0) if after < len(high) else ALL_ONES + 1
        for around in UNWRAPPED if family == 6 else ():  # whose clients are answered as IPv4
            first, last = int(around.network_address), int(around.broadcast_address)
            start = last + 1 if start <= last < number else start
            end = first if number < first < end else end
        for length in range(len(address) * 8 + 1):
            network = number & ~(ALL_ONES >> length)
            if network >= start and (network | ALL_ONES >> length) < end:
                return prefix_text(family, network, length)
        raise ValueError("its zones are not in the order of addresses")
