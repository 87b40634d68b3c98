"""The native feed as JSON Lines: one route a line, with the fields of the `csv` feed.

    {"prefix": "203.0.113.0/24", "cluster": "bom001-a", "as_path": [64500, 64501], "origin": "igp", "med": 0,
     "class": "embedded", "communities": ["64500:1"]}

`prefix` and `cluster` are required. An AS path and communities are lists, or text with spaces between.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from steering.control.feed_files import MAX_LINE, lines_of, read_text
from steering.control.routes.feeds import AttributeTable, Feed, RowCollector
from steering.control.routes.feeds.csv import COLUMNS, add_attributes
from steering.model.fleet import Fleet


class Line(msgspec.Struct, forbid_unknown_fields=True):
    """A line as it is written; the values of routes are checked as those of the `csv` feed."""

    prefix: str
    cluster: str
    as_path: str | int | list[str | int] = ""
    origin: str = ""
    med: str | int = ""
    route_class: str = msgspec.field(name="class", default="")
    communities: str | int | list[str | int] = ""
    exclude: str | bool = ""


DECODER: Final = msgspec.json.Decoder(Line)


def read(path: str, fleet: Fleet) -> Feed:
    file = Path(path)
    text, digest = read_text(file)
    clusters = {cluster.id: cluster for cluster in fleet.clusters}
    attributes, numbers, values = AttributeTable(), dict[tuple[str, ...], int](), list[str]()
    rows = RowCollector()
    for line in lines_of(text):
        if not line.strip():
            rows.skip()
            continue
        try:
            prefix, fields = fields_of(line)
            key = tuple(fields.get(name, "") for name in COLUMNS[1:])
            number = numbers.get(key)
            if number is None:
                number = numbers[key] = add_attributes(attributes, fields, clusters, file.name)
                values.append(",".join(key))
            rows.add(prefix, number)
        except ValueError as error:
            rows.refuse(line[:80].decode("utf-8", "replace"), str(error))
    return rows.builder(file.name).feed(digest, attributes, values.__getitem__)


def fields_of(line: bytes) -> tuple[str, dict[str, str]]:
    """Return a line's prefix, and its other fields as the `csv` feed has them. ValueError names the rule."""
    if len(line) > MAX_LINE:
        raise ValueError(f"a line has at most {MAX_LINE} bytes; this has {len(line)}")
    try:
        fields = msgspec.structs.asdict(DECODER.decode(line))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"a line is a JSON object with the fields of a route; {error}") from None
    prefix = fields.pop("prefix")
    fields["class"] = fields.pop("route_class")
    if isinstance(fields["exclude"], bool):
        fields["exclude"] = "yes" if fields["exclude"] else "no"
    return prefix, {
        name: " ".join(map(str, value)) if isinstance(value, list) else str(value) for name, value in fields.items()
    }
