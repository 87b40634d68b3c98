"""A table of the routes that cover one client and of proposed routes, for `steering/decision/what_if.py`."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

import msgspec

from _fastpath.prefix_rows import Columns
from steering.control.routes.build import build_table
from steering.control.routes.feeds import AttributeTable, Feed, FeedBuilder
from steering.control.routes.feeds.csv import announcement_of, fields_of
from steering.decision.snapshot import Snapshot
from steering.decision.what_if import BuildProposed
from steering.errors import RequestError
from steering.model.fleet import Fleet
from steering.settings import Settings
from steering.state.routes import aligned
from steering.state.table import BuiltTable

FIELDS = ["cluster", "as_path", "med", "class", "origin", "exclude"]
MAX_ROUTES = 100


def propose(settings: Settings, rows: Sequence[str]) -> BuildProposed | None:
    """Return what builds the table with proposed routes, for `what_if`; None without any.

    The rows are `prefix,cluster,as_path,med,class,origin,exclude`, of which the first two are required. The builder
    raises RequestError.
    """
    if not rows:
        return None

    def build(snapshot: Snapshot, address: str) -> BuiltTable:
        if len(rows) > MAX_ROUTES:
            raise RequestError(f"{len(rows)} routes; at most {MAX_ROUTES}")
        fleet = fleet_of(snapshot)
        feeds = [covering_feed(snapshot, address), proposed_feed(rows, fleet)]
        policy = settings.model_copy(update={"ranking_policy": tuple(snapshot.table_file.meta["policy"])})
        return build_table(feeds, fleet, policy)

    return build


def proposed_feed(rows: Sequence[str], fleet: Fleet) -> Feed:
    """Return the proposed routes as a feed. Raises RequestError with the row and the rule it breaks."""
    clusters = {cluster.id: cluster for cluster in fleet.clusters}
    attributes, lines = AttributeTable(), []
    for row in rows:
        prefix, _, tail = row.partition(",")
        try:
            announcement, origin = announcement_of(fields_of(tail.encode(), FIELDS), clusters, "what-if")
        except ValueError as error:
            raise RequestError.of_parameter("route", row, str(error)) from None
        lines.append(f"{prefix} {attributes.add((announcement,), origin)}")
    builder, tails = FeedBuilder.from_lines("what-if", "\n".join(lines).encode())
    if builder.refusals:
        raise RequestError.of_parameter("route", builder.refusals[0].value, builder.refusals[0].rule)
    builder.relabel(tails)
    return builder.feed("", attributes, lambda number: rows[number])


def covering_feed(snapshot: Snapshot, address: str) -> Feed:
    """Return the accepted routes that cover an address as a feed."""
    routes = snapshot.routes
    family, number = aligned(ipaddress.ip_address(address).packed)
    attributes = AttributeTable()
    columns = {4: Columns(), 6: Columns()}
    high, low, lengths, _, origins = routes.columns[family]
    for row in routes.covering_rows(family, number, 32 if family == 4 else 128):
        column = columns[family]
        column.high.append(high[row])
        column.low.append(low[row] if low is not None else 0)
        column.length.append(lengths[row])
        column.row.append(row)
        column.value.append(attributes.add(tuple(routes.announcements_at(family, row)), origins[row]))
    return FeedBuilder("routes", columns).feed("", attributes, str)


def fleet_of(snapshot: Snapshot) -> Fleet:
    """Return the numbered fleet of a fleet file, without appliances and services: no table is made from them."""
    names = snapshot.names
    nouns = {"partners": names.partners, "sites": names.sites, "clusters": names.clusters}
    rows = {noun: list(objects.values()) for noun, objects in nouns.items()}
    return msgspec.convert({**rows, "appliances": (), "services": ()}, Fleet)
