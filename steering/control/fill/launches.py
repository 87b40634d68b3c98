"""The feed of launches: titles that will be played from a time on, and what is expected of them.

    title,at,areas,plays_first_week,like,percentile
    80100174,2026-02-06T08:00:00Z,*,1200000,,
    80100175,2026-02-07,DE FR,,80100022,

A row has one of `plays_first_week` (in all of `areas`, `*` for everywhere, together), `like` (a title with a launch
that was counted) and `percentile` (of the launches that were counted, 0 to 1).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Final

from steering.control.fill.feed_rows import Refused, area_of, number_of, read_rows, time_of, title_of

COLUMNS: Final = ("title", "at", "areas", "plays_first_week", "like", "percentile")
EXPECTED: Final = COLUMNS[3:]
MOST_LAUNCHES: Final = 100_000
MOST_AREAS: Final = 1000  # of a launch
MOST_PLAYS: Final = 1e12


@dataclasses.dataclass(frozen=True, slots=True)
class Launch:
    """A launch; one of `plays_first_week`, `like` and `percentile` is not None."""

    title: str
    at: float
    areas: tuple[str, ...] = ("*",)
    plays_first_week: float | None = None
    like: str | None = None
    percentile: float | None = None


@dataclasses.dataclass(frozen=True)
class Launches:
    """The launches of a feed, one a title."""

    sha256: str
    launches: list[Launch]
    refused: Refused


def read_launches(path: Path) -> Launches:
    """Return a feed of launches. Wrong rows are refused. FeedError: the file is unreadable, or has no right row."""
    refused = Refused(path.name)
    rows, digest = read_rows(path, COLUMNS, ("title", "at"), refused)
    launches: dict[str, Launch] = {}
    for number, fields in rows:
        try:
            launch = launch_of(fields)
            if launch.title in launches:
                raise ValueError("a title has one launch; this one stands in an earlier row")
            if len(launches) >= MOST_LAUNCHES:
                raise ValueError(f"a feed has at most {MOST_LAUNCHES} launches")
        except ValueError as error:
            refused.add(number, ",".join(fields.values()), str(error))
        else:
            launches[launch.title] = launch
    if not launches:
        raise refused.no_row_left()
    return Launches(digest, list(launches.values()), refused)


def launch_of(fields: dict[str, str]) -> Launch:
    """Return the launch of a row. ValueError names the rule."""
    given = [name for name in EXPECTED if fields[name]]
    if len(given) != 1:
        raise ValueError(f"a launch has one of {', '.join(EXPECTED)}; this has {' and '.join(given) or 'none'}")
    areas = tuple(dict.fromkeys(map(area_of, fields["areas"].split()))) or ("*",)
    if len(areas) > MOST_AREAS:
        raise ValueError(f"a launch has at most {MOST_AREAS} areas; this has {len(areas)}")
    plays, like, percentile = (fields[name] for name in EXPECTED)
    return Launch(
        title=title_of(fields["title"]),
        at=time_of(fields["at"]),
        areas=areas,
        plays_first_week=number_of(plays, "plays_first_week", MOST_PLAYS) if plays else None,
        like=title_of(like) if like else None,
        percentile=number_of(percentile, "percentile", 1.0) if percentile else None,
    )
