"""One object of the fleet at a time: a partner, site, cluster, appliance or service, as its object in a fleet document.

A change makes a whole new fleet and checks it by every rule of a document, so that there is one set of rules.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

from steering.control.records.documents import KINDS, parse_fleet, row_of, rows_of
from steering.errors import FeedError, RequestError
from steering.model.fleet import Fleet

SINGULAR: Final = {kind: kind.removesuffix("s") for kind in KINDS}
MAX_NAMED: Final = 5
# (kind, field) of what points at a kind.
USED_BY: Final = {
    "partners": [("clusters", "partner")],
    "sites": [("clusters", "site")],
    "clusters": [("appliances", "cluster")],
}

Row = dict[str, Any]


def rows_by_id(fleet: Fleet, kind: str) -> dict[str, Row]:
    """Return all objects of a kind by id, in the order of ids."""
    return {item.id: row_of(item) for item in getattr(fleet, kind)}


def find(fleet: Fleet, kind: str, name: str) -> Row | None:
    """Return one object, None where the fleet has none of this id."""
    return next((row_of(item) for item in getattr(fleet, kind) if item.id == name), None)


def find_row(fleet: Fleet, kind: str, name: str) -> Row:
    """Return one object. Raises RequestError 404 where the fleet has none of this id."""
    row = find(fleet, kind, name)
    if row is None:
        raise missing(kind, name)
    return row


def missing(kind: str, name: str) -> RequestError:
    """Return the error for an id that does not exist, or that the caller may not know of."""
    return RequestError(
        f"{SINGULAR[kind]} {name[:64]!r}: the fleet has none of this id",
        status=404,
        parameter=SINGULAR[kind],
        value=name[:64],
        rule=f"the id of one of the fleet's {kind}",
    )


def etag_of(row: Row) -> str:
    """Return the entity tag of an object (RFC 9110, 8.8.3): another one when anything of it changes."""
    text = json.dumps(row, sort_keys=True, ensure_ascii=False).encode()
    return f'"{hashlib.sha256(text).hexdigest()[:32]}"'


def require_match(row: Row | None, if_match: str, if_none_match: str, what: str) -> None:
    """Raise RequestError unless the caller has read what it changes: 428 without a condition, 412 where it fails."""
    if not if_match and not if_none_match:
        raise RequestError(
            f"{what}: name the version that you have read",
            hint="If-Match with the ETag of a GET to change it, If-None-Match: * to make it",
            status=428,
        )
    if if_none_match and (if_none_match.strip() != "*" or if_match):
        raise RequestError.of_parameter("If-None-Match", if_none_match, "* alone, without If-Match")
    if if_none_match and row is not None:
        raise RequestError(f"{what}: is there already", status=412)
    if if_match:
        tags = {tag.strip() for tag in if_match.split(",")}
        if row is None or not tags & {"*", etag_of(row)}:
            raise RequestError(
                f"{what}: changed since you read it" if row else f"{what}: is not there",
                hint="GET it again and look",
                status=412,
            )


def with_row(fleet: Fleet, kind: str, name: str, row: Row) -> Fleet:
    """Return the fleet with an object made or replaced. Raises FeedError naming each rule that is broken."""
    if row.setdefault("id", name) != name:
        raise RequestError.of_parameter("id", str(row["id"]), f"{name}, as in the path")
    rows = rows_of(fleet)
    index = next((number for number, item in enumerate(rows[kind]) if item["id"] == name), len(rows[kind]))
    rows[kind][index : index + 1] = [row]
    return checked(rows)


def without_row(fleet: Fleet, kind: str, name: str) -> Fleet:
    """Return the fleet without an object. Raises RequestError 409 where others point at it."""
    rows = rows_of(fleet)
    for other, field in USED_BY.get(kind, []):
        users = [item["id"] for item in rows[other] if item.get(field) == name]
        if users:
            rest = f" and {len(users) - MAX_NAMED} more" if len(users) > MAX_NAMED else ""
            raise RequestError(
                f"{SINGULAR[kind]} {name}: {other} {', '.join(users[:MAX_NAMED])}{rest} point at it",
                hint="change or delete those first",
                status=409,
            )
    rows[kind] = [item for item in rows[kind] if item["id"] != name]
    return checked(rows)


def checked(rows: dict[str, list[Row]]) -> Fleet:
    """Return the fleet of these objects. A broken rule names its object by id."""
    try:
        return parse_fleet(json.dumps(rows).encode())
    except FeedError as error:
        message = error.message
        for kind, items in rows.items():
            for index in {int(part.partition("]")[0]) for part in message.split(f"{kind}[")[1:]}:
                message = message.replace(f"{kind}[{index}]", f"{SINGULAR[kind]} {items[index].get('id')}")
        raise FeedError(message, error.hint) from None


def ids_of_partner(fleet: Fleet, kind: str, partner: str) -> set[str]:
    """Return which of a kind are a partner's: itself, its clusters, their sites and appliances; no service is."""
    if kind == "partners":
        return {partner}
    clusters = [cluster for cluster in fleet.clusters if cluster.partner == partner]
    if kind == "sites":
        return {cluster.site for cluster in clusters}
    names = {cluster.id for cluster in clusters}
    if kind == "appliances":
        return {appliance.id for appliance in fleet.appliances if appliance.cluster in names}
    return names if kind == "clusters" else set()
