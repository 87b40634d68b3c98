"""The native `csv` feed: one route a row, and a first line that names the columns.

    prefix,cluster,as_path,origin,med,class,communities,exclude
    203.0.113.0/24,bom001-a,64500 64501,igp,0,embedded,64500:1

`prefix` comes first and `cluster` is required; the others may be left out, in any order. The AS path is numbers with
spaces between, nearest first; a missing MED is 0; a missing class is the cluster's own. With `exclude` `yes`, the
cluster is kept away from the prefix.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from steering.control.feed_files import CSV_RULE, MAX_LINE, read_text
from steering.control.routes.feeds import AttributeTable, Feed, FeedBuilder
from steering.errors import FeedError
from steering.model.fleet import Cluster, Fleet
from steering.model.route import Announcement, RouteClass
from steering.state.routes import ORIGIN_NAMES

COLUMNS: Final = ("prefix", "cluster", "as_path", "origin", "med", "class", "communities", "exclude")
EXCLUDE: Final = {"": False, "no": False, "yes": True}
MAX_PATH: Final = 255
MAX_COMMUNITIES: Final = 256
MAX_ATTRIBUTES: Final = 2_000_000  # the routers of the whole Internet have some 100,000


def read(path: str, fleet: Fleet) -> Feed:
    file = Path(path)
    text, digest = read_text(file)
    end = text.index(b"\n")  # the rows may be a gigabyte: they are not copied
    header = text[: min(end, MAX_LINE)].removeprefix(b"\xef\xbb\xbf")
    names = [name.strip() for name in header.decode("utf-8", "replace").split(",")]
    unknown = [name for name in names if name not in COLUMNS]
    if unknown or names[:1] != ["prefix"] or "cluster" not in names or len(set(names)) != len(names):
        raise FeedError(
            f"{file.name} row 1: does not name the columns",
            hint=f"the first line begins with prefix, has cluster, and takes {', '.join(COLUMNS[2:])}",
        )
    builder, tails = FeedBuilder.from_lines(file.name, text, first_row=2, start=end + 1)
    clusters = {cluster.id: cluster for cluster in fleet.clusters}
    attributes = AttributeTable()
    if len(tails) > MAX_ATTRIBUTES:
        raise FeedError(f"{file.name}: {len(tails)} different rows after the prefix; at most {MAX_ATTRIBUTES}")
    for tail in tails:
        try:
            fields = fields_of(tail, names[1:])
        except ValueError as error:
            attributes.refuse(str(error))
        else:
            add_attributes(attributes, fields, clusters, file.name)
    return builder.feed(digest, attributes, lambda number: tails[number][:160].decode("utf-8", "replace"))


def fields_of(tail: bytes, names: list[str]) -> dict[str, str]:
    """Return the fields of a row after its prefix. ValueError names the rule."""
    if len(tail) > MAX_LINE:
        raise ValueError(f"a line has at most {MAX_LINE} bytes; this has {len(tail)} and its prefix")
    text = tail.decode("utf-8", "replace")
    try:
        values = next(csv.reader([text], strict=True), []) if '"' in text or "\r" in text else text.split(",")
    except csv.Error:
        raise ValueError(CSV_RULE) from None
    if len(values) > len(names):
        raise ValueError(f"at most as many fields as the first line names; {len(values) + 1}, not {len(names) + 1}")
    return {name: value.strip() for name, value in zip(names, values, strict=False)}


def add_attributes(
    attributes: AttributeTable, fields: Mapping[str, str], clusters: Mapping[str, Cluster], feed: str
) -> int:
    """Return the number of a row's attributes, new to the feed."""
    try:
        announcement, origin = announcement_of(fields, clusters, feed)
    except ValueError as error:
        return attributes.refuse(str(error))
    return attributes.add((announcement,), origin)


def announcement_of(fields: Mapping[str, str], clusters: Mapping[str, Cluster], feed: str) -> tuple[Announcement, int]:
    """Return a row's announcement and its origin AS (0 for an empty path). ValueError names the rule."""
    cluster = clusters.get(fields.get("cluster", ""))
    if cluster is None:
        raise ValueError(f"a cluster is one of the fleet; there is no {fields.get('cluster', '')[:63]!r}")
    path = [number(asn, "as_path", 2**32 - 1, 1) for asn in fields.get("as_path", "").split()]
    if len(path) > MAX_PATH:
        raise ValueError(f"an as_path has at most {MAX_PATH} ASNs; this has {len(path)}")
    origin = fields.get("origin") or ORIGIN_NAMES[0]
    if origin not in ORIGIN_NAMES:
        raise ValueError(f"origin is one of {', '.join(ORIGIN_NAMES)}; not {origin[:40]!r}")
    route_class = fields.get("class") or cluster.route_class.name
    if route_class not in RouteClass.__members__:
        raise ValueError(f"class is one of {', '.join(RouteClass.__members__)}; not {route_class[:40]!r}")
    if (exclude := fields.get("exclude", "")) not in EXCLUDE:
        raise ValueError(f"exclude is yes or no; not {exclude[:40]!r}")
    communities = tuple(fields.get("communities", "").split())
    if len(communities) > MAX_COMMUNITIES:
        raise ValueError(f"a route has at most {MAX_COMMUNITIES} communities; this has {len(communities)}")
    announcement = Announcement(
        cluster=cluster.number,
        route_class=RouteClass[route_class],
        via=tuple(path[:-1]),
        hops=len(path),
        origin=ORIGIN_NAMES.index(origin),
        med=number(fields.get("med") or "0", "med", 2**32 - 1),
        communities=communities,
        feed=feed,
        excludes=EXCLUDE[exclude],
    )
    return announcement, path[-1] if path else 0


def number(text: str, name: str, most: int, least: int = 0) -> int:
    """Return a decimal number from `least` to `most`, or raise ValueError naming the field."""
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and least <= int(text) <= most):
        raise ValueError(f"{name} has numbers from {least} to {most}; not {text[:40]!r}")
    return int(text)
