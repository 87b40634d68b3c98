"""Geofeeds (RFC 8805): where the holder of address space says that its clients are.

    203.0.113.0/24,IN,IN-MH,Mumbai,

A prefix or a single address, then country (ISO 3166-1), region (ISO 3166-2), city and a postal code, which is not read.
Each may be empty; a prefix with all of them empty, or of the country ZZ, has no known location, whatever the map says.
`#` outside quotes begins a comment, like the lines of a signature. Codes are read in either case. An unknown region, or
one of another country, is a warning, and the country is used.
"""

from __future__ import annotations

import csv
import dataclasses
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from _fastpath import prefix_rows
from steering.control.feed_files import CSV_RULE, MAX_LISTED, lines_of, listed, read_text, rule_of
from steering.control.routes.feeds import CheckedRows, FeedBuilder, RowCollector
from steering.errors import FeedError
from steering.model.route import Refusal, Region
from steering.state.routes import prefix_at

MAX_LINE: Final = 1000
NO_COUNTRY: Final = "ZZ"  # as an empty one (RFC 8805, 2.1.2)
Places = Mapping[tuple[str, str], tuple[float, float]]


@dataclasses.dataclass(frozen=True)
class Geofeed(CheckedRows):
    """A geofeed's rows, one a prefix; their values are indices into `regions`."""

    regions: list[Region]
    warnings: list[Refusal]

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "refusals": listed(self.refusals), "warnings": listed(self.warnings)}


def read_geofeed(path: Path, codes: frozenset[str], places: Places) -> Geofeed:
    """Return a geofeed, given all region codes and the locations of cities.

    Raises FeedError if it cannot be read, or has rows and none of a geofeed.
    """
    text, digest = read_text(path, ends_in_line_end=False)
    numbers: dict[Region, int] = {}
    rows = RowCollector()
    warnings: list[Refusal] = []
    for row, line in enumerate(lines_of(text), 1):
        content = without_comment(line) if b"#" in line and len(line) <= MAX_LINE else line
        shown = content[:80].decode("utf-8", "replace").strip()
        if not shown:
            rows.skip()
            continue
        try:
            prefix, region, warning = read_line(content, codes, places)
            rows.add(prefix, numbers.setdefault(region, len(numbers)))
        except ValueError as error:
            rows.refuse(shown, str(error))
            continue
        if warning and len(warnings) < MAX_LISTED:
            warnings.append(Refusal(path.name, row, shown, warning))
    builder = rows.builder(path.name)
    if not builder.rows and (refused := builder.refused_by.total()):  # such as a page that says 404
        first = min(builder.refusals, key=lambda refusal: refusal.row)
        rule = rule_of(first.rule)
        raise FeedError(f"{path.name}: has no row of a geofeed; the first of {refused} rows, {first.row}: {rule}")
    for family in (4, 6):
        builder.columns[family] = first_of_each_prefix(builder, family)
    return Geofeed(*builder.checked(digest), list(numbers), warnings)


def without_comment(line: bytes) -> bytes:
    """Return a line up to the first `#` outside quotes."""
    quoted = False
    for i, byte in enumerate(line):
        quoted ^= byte == ord('"')
        if byte == ord("#") and not quoted:
            return line[:i]
    return line


def read_line(line: bytes, codes: frozenset[str], places: Places) -> tuple[str, Region, str]:
    """Return a line's prefix, region, and warning (or ""). ValueError names the rule that the line breaks."""
    if len(line) > MAX_LINE:
        raise ValueError(f"a line has at most {MAX_LINE} bytes; this has {len(line)}")
    try:
        fields = [field.strip() for field in next(csv.reader([line.decode().strip()], strict=True))]
    except UnicodeDecodeError:
        raise ValueError("a geofeed is UTF-8") from None
    except csv.Error:
        raise ValueError(CSV_RULE) from None
    prefix, country, part, city = (*fields, "", "", "", "")[:4]
    if prefix and "/" not in prefix:
        prefix += "/128" if ":" in prefix else "/32"
    country, part = country.upper(), part.upper()
    if country == NO_COUNTRY:
        country = part = city = ""
    if country and (len(country) != 2 or country not in codes):
        raise ValueError(f"a country is an ISO 3166-1 alpha-2 code, or empty; there is no {country[:20]!r}")
    warning = ""
    if part and (part not in codes or "-" not in part):
        warning, part = f"a region is an ISO 3166-2 code; there is no {part[:20]!r}, so the country is used", ""
    elif part and country and part[:2] != country:
        warning, part = f"a region lies in its country; {part} does not lie in {country}, so the country is used", ""
    code = part or country
    return prefix, Region(code, places.get((code[:2], city.casefold()))), warning


def first_of_each_prefix(builder: FeedBuilder, family: int) -> prefix_rows.Columns:
    """Return the first row of each prefix of a family, sorted; the others are refused."""
    columns = builder.columns[family]
    chosen = array("B", bytes(len(columns)))
    before = None
    for *prefix, row, i in sorted(
        zip(columns.high, columns.low, columns.length, columns.row, range(len(columns)), strict=True)
    ):
        chosen[i] = prefix != before
        if prefix == before:
            rule = "a prefix is given once; the first of its lines counts"
            builder.refuse(row, prefix_at(family, columns, i), rule)
        before = prefix
    return prefix_rows.sort(prefix_rows.keep_rows(columns, chosen))
