"""The `mmdb` feed: an ASN database (GeoLite2 ASN, DB-IP ASN and their like), read like an `asn` feed."""

from __future__ import annotations

from pathlib import Path

from steering.control.routes.feeds import Feed, sha256_of
from steering.control.routes.feeds.asn import parse_asn, read_lines
from steering.control.routes.feeds.regions import read_mmdb, unmapped
from steering.errors import FeedError
from steering.model.fleet import Fleet


def read(path: str, fleet: Fleet) -> Feed:
    """Return the routes of an ASN database. Networks without an ASN are left out."""
    file = Path(path)
    lines = []
    for network, record in read_mmdb(file):
        asn = asn_of(record)
        if asn is not None:
            lines.append(f"{unmapped(network)} {asn}\n")
    if not lines:
        raise FeedError(
            f"{file.name}: names no ASN", hint="a database of countries or cities is the setting country_mmdb"
        )
    return read_lines(file.name, "".join(lines).encode(), sha256_of(file), fleet)


def asn_of(record: object) -> int | None:
    """Return the ASN of a record of the usual shapes: `autonomous_system_number`, or `asn` as a number or `AS64500`."""
    fields = record if isinstance(record, dict) else {}
    return parse_asn(fields.get("autonomous_system_number", fields.get("asn")))
