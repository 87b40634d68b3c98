"""The catalogue of a service: the titles that appliances may hold.

    title,bytes,recipe,kind,available_from,available_until,regions
    80100172,28311552000,sha256-6f0e…,series,2026-02-06T08:00:00Z,,IN LK

`title` and `bytes` are required. A title without a recipe cannot be filled. `kind` is film, series or other, for the
fall of a launch. `regions` are the countries, or parts of them, where it may lie and be played; none means all.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any, Final

from steering.control.fill.feed_rows import Refused, read_rows, time_of, title_of, whole_of
from steering.control.fill.recipes import NAME

COLUMNS: Final = ("title", "bytes", "recipe", "kind", "available_from", "available_until", "regions")
TITLE_KINDS: Final = ("film", "series", "other")
MOST_TITLES: Final = 1_000_000
MOST_REGIONS: Final = 1000
REGION: Final = re.compile(r"[A-Z]{2}(-[A-Z0-9]{1,3})?")


@dataclasses.dataclass(frozen=True, slots=True)
class CatalogueTitle:
    """A title. `available_from` and `available_until` are Unix seconds, None where there is no limit."""

    title: str
    bytes: int
    recipe: str = ""
    kind: str = "other"
    available_from: float | None = None
    available_until: float | None = None
    regions: tuple[str, ...] = ()

    def is_available(self, now: float) -> bool:
        """Return whether the title may be played at a time."""
        begun = self.available_from is None or self.available_from <= now
        return begun and (self.available_until is None or now < self.available_until)


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """The titles of a document, one row each."""

    name: str
    sha256: str
    titles: list[CatalogueTitle]
    refused: Refused

    def describe(self) -> dict[str, Any]:
        """Return what a report says of the document."""
        total = sum(title.bytes for title in self.titles)
        about = {"feed": self.name, "sha256": self.sha256, "accepted": len(self.titles), "bytes": total}
        return about | self.refused.describe()


def read_catalogue(path: Path) -> Catalogue:
    """Return a catalogue. Wrong rows are refused. FeedError: the file is unreadable, or has no right row."""
    refused = Refused(path.name)
    rows, digest = read_rows(path, COLUMNS, COLUMNS[:2], refused)
    titles: dict[str, CatalogueTitle] = {}
    for number, fields in rows:
        try:
            title = title_row(fields)
            if title.title in titles:
                raise ValueError("a title has one row; this one stands in an earlier row")
            if len(titles) >= MOST_TITLES:
                raise ValueError(f"a catalogue has at most {MOST_TITLES} titles")
        except ValueError as error:
            refused.add(number, ",".join(fields.values()), str(error))
        else:
            titles[title.title] = title
    if not titles:
        raise refused.no_row_left()
    return Catalogue(path.name, digest, list(titles.values()), refused)


def title_row(fields: dict[str, str]) -> CatalogueTitle:
    """Return the title of a row. ValueError names the rule."""
    recipe, kind = fields["recipe"], fields["kind"] or "other"
    if recipe and not NAME.fullmatch(recipe):
        raise ValueError(f"a recipe is sha256- and 64 lower-case hexadecimal digits; not {recipe[:40]!r}")
    if kind not in TITLE_KINDS:
        raise ValueError(f"kind is one of {', '.join(TITLE_KINDS)}; not {kind[:40]!r}")
    regions = tuple(dict.fromkeys(fields["regions"].split()))
    if wrong := next((region for region in regions if not REGION.fullmatch(region)), ""):
        raise ValueError(f"a region is a country or a part of one, such as IN or IN-MH; not {wrong[:40]!r}")
    if len(regions) > MOST_REGIONS:
        raise ValueError(f"a title has at most {MOST_REGIONS} regions; this has {len(regions)}")
    begins, ends = (time_of(text) if text else None for text in (fields["available_from"], fields["available_until"]))
    if begins is not None and ends is not None and ends <= begins:
        raise ValueError("available_until is after available_from")
    size = whole_of(fields["bytes"], "bytes")
    if not size:
        raise ValueError("a title has bytes; this has 0")
    return CatalogueTitle(title_of(fields["title"]), size, recipe, kind, begins, ends, regions)
