"""Geofeeds (RFC 8805): where the holder of address space says that its clients are.

    203.0.113.0/24,IN,IN-MH,Mumbai,

A prefix or a single address, then country (ISO 3166-1), region (ISO 3166-2), city and a postal code, which is not read.
Each may be empty; a prefix with all of them empty has no known location, whatever the country map says. `#` outside
quotes begins a comment, like the lines of a signature. Codes are read in either case. An unknown region, or one of
another country, is a warning, and the country is used.
"""

from __future__ import annotations

import csv
import dataclasses
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from _fastpath import prefix_rows
from steering.control.routes.feeds import MAX_LISTED, FeedBuilder, lines_of_rows, read_text
from steering.model.route import Refusal, Region

MAX_LINE: Final = 1000
Places = Mapping[tuple[str, str], tuple[float, float]]


@dataclasses.dataclass(frozen=True, slots=True)
class Geofeed:
    """A geofeed's rows, one a prefix; their values are indices into `regions`."""

    name: str
    sha256: str
    columns: dict[int, prefix_rows.Columns]
    regions: list[Region]
    refusals: list[Refusal]
    refused: int
    warnings: list[Refusal]

    def describe(self) -> dict[str, Any]:
        """Return its name, hash and counts, its refusals and its warnings."""
        return {
            "feed": self.name,
            "sha256": self.sha256,
            "accepted": len(self.columns[4]) + len(self.columns[6]),
            "refused": self.refused,
            **{
                name: [{"row": item.row, "value": item.value, "rule": item.rule} for item in items]
                for name, items in (("refusals", self.refusals), ("warnings", self.warnings))
            },
        }


def read_geofeed(path: Path, codes: frozenset[str], places: Places) -> Geofeed:
    """Return a geofeed, given all region codes and the locations of cities. Raises FeedError if it cannot be read."""
    text, digest = read_text(path)
    numbers: dict[Region, int] = {}
    rows: list[tuple[str, int] | None] = []
    bad: list[tuple[int, str, str]] = []
    warnings: list[Refusal] = []
    for row, line in enumerate(text.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        rows.append(None)
        content = line if b"#" not in line else without_comment(line)
        shown = content[:80].decode("utf-8", "replace").strip()
        if not shown:
            continue
        try:
            prefix, region, warning = read_line(content, codes, places)
        except (ValueError, csv.Error) as error:
            bad.append((row, shown, str(error)))
            continue
        rows[-1] = prefix, numbers.setdefault(region, len(numbers))
        if warning and len(warnings) < MAX_LISTED:
            warnings.append(Refusal(path.name, row, shown, warning))
    builder, tails = FeedBuilder.from_lines(path.name, lines_of_rows(rows))
    builder.relabel(tails)
    for refusal in bad:
        builder.refuse(*refusal)
    for family in (4, 6):
        builder.columns[family] = first_of_each_prefix(builder, family)
    refusals = sorted(builder.refusals, key=lambda refusal: refusal.row)[:MAX_LISTED]
    return Geofeed(path.name, digest, builder.columns, list(numbers), refusals, builder.refused_by.total(), warnings)


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
    prefix, country, part, city = (*fields, "", "", "", "")[:4]
    if not prefix or not prefix.isascii() or not prefix.isprintable() or {" ", ","} & set(prefix):
        raise ValueError("a prefix is written address/length, or is an address")
    if "/" not in prefix:
        prefix += "/128" if ":" in prefix else "/32"
    country, part = country.upper(), part.upper()
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
            builder.refuse(row, "", "a prefix is given once; the first of its lines counts")
        before = prefix
    return prefix_rows.sort(prefix_rows.keep_rows(columns, chosen))
