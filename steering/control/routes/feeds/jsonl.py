"""The native feed as JSON Lines: one route a line, with the fields of the `csv` feed.

    {"prefix": "203.0.113.0/24", "cluster": "bom001-a", "as_path": [64500, 64501], "origin": "igp", "med": 0,
     "class": "embedded", "communities": ["64500:1"]}

`prefix` and `cluster` are required. An AS path and communities are lists, or text with spaces between.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from steering.control.routes.feeds import AttributeTable, Feed, FeedBuilder, lines_of_rows, read_text
from steering.control.routes.feeds.csv import COLUMNS, announcement_of
from steering.model.fleet import Cluster, Fleet

MAX_LINE: Final = 16_384
LISTS: Final = ("as_path", "communities")
BAD_PREFIX: Final = "a prefix is written address/length"


def read(path: str, fleet: Fleet) -> Feed:
    """Return the routes of a JSON Lines feed."""
    file = Path(path)
    text, digest = read_text(file)
    clusters = {cluster.id: cluster for cluster in fleet.clusters}
    attributes, numbers, values = AttributeTable(), dict[tuple[str, ...], int](), list[str]()
    rows: list[tuple[str, int] | None] = []
    bad: list[tuple[int, str, str]] = []
    for row, line in enumerate(text.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            rows.append(None)
            continue
        try:
            prefix, fields = fields_of(line)
        except ValueError as error:
            rows.append(None)
            bad.append((row, line[:80].decode("utf-8", "replace"), str(error)))
            continue
        key = tuple(fields.get(name, "") for name in COLUMNS[1:])
        number = numbers.get(key)
        if number is None:
            number = numbers[key] = add_attributes(attributes, fields, clusters, file.name)
            values.append(",".join(key))
        rows.append((prefix, number))
    builder, tails = FeedBuilder.from_lines(file.name, lines_of_rows(rows))
    builder.relabel(tails)
    for refusal in bad:
        builder.refuse(*refusal)
    return builder.feed(digest, attributes, values.__getitem__)


def add_attributes(
    attributes: AttributeTable, fields: Mapping[str, str], clusters: Mapping[str, Cluster], feed: str
) -> int:
    """Return the number of a line's attributes, new to the feed."""
    try:
        announcement, origin = announcement_of(fields, clusters, feed)
    except ValueError as error:
        return attributes.refuse(str(error))
    return attributes.add((announcement,), origin)


def fields_of(line: bytes) -> tuple[str, dict[str, str]]:
    """Return a line's prefix, and its other fields as the `csv` feed has them. ValueError names the rule."""
    if len(line) > MAX_LINE:
        raise ValueError(f"a line has at most {MAX_LINE} bytes; this has {len(line)}")
    try:
        document = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"a line is a JSON object; {error}") from None
    if not isinstance(document, dict):
        raise ValueError("a line is a JSON object")
    prefix = document.pop("prefix", None)
    if not (isinstance(prefix, str) and prefix.isascii() and prefix.isprintable()) or {" ", ","} & set(prefix):
        raise ValueError(BAD_PREFIX)
    return prefix, {name: field_text(name, value) for name, value in document.items()}


def field_text(name: str, value: Any) -> str:
    """Return a field as the `csv` feed has it."""
    if name not in COLUMNS:
        raise ValueError(f"a field is one of {', '.join(COLUMNS)}; not {name[:40]!r}")
    if name in LISTS and isinstance(value, list):
        return " ".join(scalar_text(name, item) for item in value)
    return scalar_text(name, value)


def scalar_text(name: str, value: Any) -> str:
    """Return a number or text as text."""
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        return str(value)
    raise ValueError(f"{name} is text or a number{' or a list of them' if name in LISTS else ''}; not {value!r:.40}")
