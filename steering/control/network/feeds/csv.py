"""The native `csv` feed: one route a row, and a first line that names the columns.

    prefix,cluster,as_path,origin,med,class,communities
    203.0.113.0/24,bom001-a,64500 64501,igp,0,embedded,64500:1

`prefix` comes first and `cluster` is required; the others may be left out, in any order. The AS path is numbers with
spaces between, nearest first; a missing MED is 0; a missing class is the cluster's own.
"""

from __future__ import annotations

import csv
from array import array
from pathlib import Path
from typing import Final

from _fastpath import rib
from steering.control.network.feeds import Feed, read_text, refusals_of
from steering.errors import FeedError
from steering.model import Announcement, Cluster, Fleet, Refusal, RouteClass
from steering.routes import ORIGIN_NAMES

COLUMNS: Final = ("prefix", "cluster", "as_path", "origin", "med", "class", "communities")
MAX_PATH: Final = 255
MAX_COMMUNITIES: Final = 64


def read(path: str, fleet: Fleet) -> Feed:
    """Return the routes of a CSV feed."""
    file = Path(path)
    text, digest = read_text(file)
    header, _, rows = text.removeprefix(b"\xef\xbb\xbf").partition(b"\n")
    names = [name.strip() for name in header.decode("utf-8", "replace").split(",")]
    unknown = [name for name in names if name not in COLUMNS]
    if unknown or names[:1] != ["prefix"] or "cluster" not in names or len(set(names)) != len(names):
        raise FeedError(
            f"{file.name} row 1: {header.decode('utf-8', 'replace').strip()[:80]!r} does not name the columns",
            hint=f"the first line begins with prefix, has cluster, and takes {', '.join(COLUMNS[2:])}",
        )
    columns, tails, found, refused = rib.read(rows, first_row=2)
    refusals = refusals_of(file.name, found)

    clusters = {cluster.id: cluster for cluster in fleet.clusters}
    places: dict[Announcement, int] = {}
    set_of, origin_of, heard = array("I"), array("I"), array("B")
    rules: dict[int, str] = {}
    for kind, tail in enumerate(tails):
        try:
            announcement, origin = read_announcement(tail, names[1:], clusters, file.name)
        except (ValueError, csv.Error) as error:
            rules[kind] = str(error)
            set_of.append(0)
            origin_of.append(0)
            heard.append(0)
        else:
            set_of.append(places.setdefault(announcement, len(places)))
            origin_of.append(origin)
            heard.append(1)
    for family in (4, 6) if rules else ():
        before = len(columns[family])
        for place in rib.rows_with(columns[family], rules):
            kind = columns[family].value[place]
            value = tails[kind].decode("utf-8", "replace")[:80]
            refusals.append(Refusal(file.name, columns[family].row[place], value, rules[kind]))
        columns[family] = rib.keep(columns[family], heard)
        refused += before - len(columns[family])
    refusals.sort(key=lambda refusal: refusal.row)
    sets: list[tuple[Announcement, ...]] = [(announcement,) for announcement in places]
    return Feed(file.name, digest, columns, sets, set_of, origin_of, refusals, refused)


def read_announcement(
    tail: bytes, names: list[str], clusters: dict[str, Cluster], feed: str
) -> tuple[Announcement, int]:
    """Return what a row says behind its prefix, and its origin AS (0 for an empty path). ValueError names the rule."""
    values = next(csv.reader([tail.decode("utf-8", "replace")], strict=True), [])
    if len(values) > len(names):
        raise ValueError(f"{len(values) + 1} fields, the first line names {len(names) + 1}")
    fields = {name: value.strip() for name, value in zip(names, values, strict=False)}
    cluster = clusters.get(fields.get("cluster", ""))
    if cluster is None:
        raise ValueError(f"cluster {fields.get('cluster', '')!r}: the fleet has no such cluster")
    path = [number(asn, "as_path", 2**32 - 1) for asn in fields.get("as_path", "").split()]
    if len(path) > MAX_PATH:
        raise ValueError(f"as_path: {len(path)} ASNs; at most {MAX_PATH}")
    origin = fields.get("origin") or ORIGIN_NAMES[0]
    if origin not in ORIGIN_NAMES:
        raise ValueError(f"origin {origin!r}: one of {', '.join(ORIGIN_NAMES)}")
    route_class = fields.get("class") or cluster.route_class.name
    if route_class not in RouteClass.__members__:
        raise ValueError(f"class {route_class!r}: one of {', '.join(RouteClass.__members__)}")
    communities = tuple(fields.get("communities", "").split())
    if len(communities) > MAX_COMMUNITIES:
        raise ValueError(f"communities: {len(communities)} of them; at most {MAX_COMMUNITIES}")
    announcement = Announcement(
        cluster=cluster.number,
        route_class=RouteClass[route_class],
        via=tuple(path[:-1]),
        hops=len(path),
        origin=ORIGIN_NAMES.index(origin),
        med=number(fields.get("med") or "0", "med", 2**32 - 1),
        communities=communities,
        feed=feed,
    )
    return announcement, path[-1] if path else 0


def number(text: str, name: str, most: int) -> int:
    """Return a decimal number from 0 to `most`, or raise ValueError naming the field."""
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= most):
        raise ValueError(f"{name} {text[:40]!r}: a number from 0 to {most}")
    return int(text)
