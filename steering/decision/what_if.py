"""What a client would be answered with another table, with appliances or sites switched off, or with a route more.

The same code answers as for a real client, from files made for the question in a scratch folder: weights with the
switched-off ones disabled, and for proposed routes a table of what covers this one client. Nothing serves them.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _fastpath import prefix_rows
from _fastpath.ranking import DISABLED
from steering.control.routes.build import build_table
from steering.control.routes.feeds import AttributeTable, Feed, FeedBuilder
from steering.control.routes.feeds.csv import announcement_of, fields_of
from steering.control.routes.index import parse_prefix
from steering.decision.snapshot import Snapshot
from steering.errors import RequestError
from steering.model.fleet import Cluster, Fleet, Partner, Site
from steering.model.route import RouteClass
from steering.settings import Settings
from steering.state.current import Current, read_current
from steering.state.routes import aligned
from steering.state.status import write_status
from steering.state.table import write_table

FIELDS = ["cluster", "as_path", "med", "class", "origin"]
MAX_ROUTES = 100


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """Who asks, as `Snapshot.explain` takes it."""

    address: str
    title: str
    service: str
    session: str = ""
    n: int = 0
    family: int = 0

    def asked_of(self, snapshot: Snapshot) -> dict[str, Any]:
        """Return the answer with its reasons."""
        asked = {"service": self.service, "session": self.session, "n": self.n, "family": self.family}
        return snapshot.explain(self.address, self.title, **asked)  # type: ignore[arg-type]


def first_address(text: str) -> str:
    """Return an address, or the first one of a prefix. Raises RequestError for what is neither."""
    if "/" in text:
        return str(parse_prefix(text).network_address)
    try:
        if "%" not in text:
            return str(ipaddress.ip_address(text))
    except ValueError:
        pass
    raise RequestError.of_parameter("ip", text, "an IPv4 or IPv6 address without a zone id, or a prefix")


def what_if(
    settings: Settings,
    question: Question,
    *,
    table: int | None = None,
    off: Sequence[str] = (),
    routes: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the answer `now`, the one `then`, and whether its targets are others.

    `table` is another version; `off` are ids of appliances or sites; `routes` are rows
    `prefix,cluster,as_path,med,class,origin`, the last four optional. Raises RequestError and SnapshotError.
    """
    state = settings.state
    current = read_current(state)
    served = Snapshot(state, current)
    now = question.asked_of(served)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        other = current
        if table is not None:
            if not (state / f"table.{table}").exists():
                raise RequestError(f"table {table}: its files are not kept", hint="steering table list", status=404)
            other = dataclasses.replace(other, table=f"table.{table}", routes=f"routes.{table}")
        if off:
            other = dataclasses.replace(other, status=str(folder / switched_off(served, off, folder)))
        if routes:
            other = with_routes(settings, Snapshot(state, other, served), question.address, routes, folder)
        then = question.asked_of(Snapshot(state, other, served))
        if routes:  # the table was made for this client alone
            then["explain"] |= {"scope": None, "zone": None}
    return {"now": now, "then": then, "changed": now["targets"] != then["targets"]}


def switched_off(snapshot: Snapshot, names: Sequence[str], folder: Path) -> str:
    """Write the weights with appliances, or all those of a site, disabled; return the file's name."""
    weights = snapshot.status
    words = [weights.word(slot) for slot in range(weights.slots)]
    for name in names:
        found = [slot for slot, both in snapshot.appliances_by_slot.items() if name in both]
        if not found:
            raise RequestError.of_parameter("off", name, "the id of an appliance or a site of the fleet", status=404)
        for slot in found:
            words[slot] |= DISABLED
    return write_status(folder, 1, words, weights.hot())


def with_routes(settings: Settings, snapshot: Snapshot, address: str, rows: Sequence[str], folder: Path) -> Current:
    """Write a table of the routes that cover an address and the proposed ones; return what to serve with it."""
    if len(rows) > MAX_ROUTES:
        raise RequestError(f"{len(rows)} routes; at most {MAX_ROUTES}")
    fleet = fleet_of(snapshot)
    feeds = [covering(snapshot, address), proposed(rows, fleet)]
    policy = settings.model_copy(update={"ranking": tuple(snapshot.meta["policy"])})
    write_table(folder, 1, build_table(feeds, fleet, policy))
    # Names of files are joined to the state folder; absolute ones stand for themselves.
    return dataclasses.replace(snapshot.current, table=str(folder / "table.1"), routes=str(folder / "routes.1"))


def proposed(rows: Sequence[str], fleet: Fleet) -> Feed:
    """Return the proposed routes as a feed. Raises RequestError with the row and the rule it breaks."""
    clusters = {cluster.id: cluster for cluster in fleet.clusters}
    kinds, lines = AttributeTable(), []
    for row in rows:
        prefix, _, tail = row.partition(",")
        try:
            announcement, origin = announcement_of(fields_of(tail.encode(), FIELDS), clusters, "what-if")
        except ValueError as error:
            raise RequestError.of_parameter("route", row, str(error)) from None
        lines.append(f"{prefix} {kinds.add((announcement,), origin)}")
    builder, tails = FeedBuilder.from_lines("what-if", "\n".join(lines).encode())
    if builder.refusals:
        raise RequestError.of_parameter("route", builder.refusals[0].value, builder.refusals[0].rule)
    builder.relabel(tails)
    return builder.feed("", kinds, lambda kind: rows[kind])


def covering(snapshot: Snapshot, address: str) -> Feed:
    """Return the accepted routes that cover an address as a feed."""
    routes = snapshot.routes
    family, number = aligned(ipaddress.ip_address(address).packed)
    kinds = AttributeTable()
    columns = {4: prefix_rows.Columns(), 6: prefix_rows.Columns()}
    high, low, lengths, sets, origins = routes.columns[family]
    for row in routes.covering_rows(family, number):
        members = routes.set_members[routes.set_first[sets[row]] : routes.set_first[sets[row] + 1]]
        found = columns[family]
        found.high.append(high[row])
        found.low.append(low[row] if low is not None else 0)
        found.length.append(lengths[row])
        found.row.append(row)
        found.value.append(kinds.add(tuple(routes.announcements[member] for member in members), origins[row]))
    return FeedBuilder("routes", columns).feed("", kinds, str)


def fleet_of(snapshot: Snapshot) -> Fleet:
    """Return the numbered fleet of a fleet file, as far as tables are made from it."""
    names = snapshot.names
    return Fleet(
        partners=tuple(Partner(**lists_to_tuples(row)) for row in names.partners.values()),
        sites=tuple(Site(**row) for row in names.sites.values()),
        clusters=tuple(
            Cluster(**lists_to_tuples(row) | {"route_class": RouteClass(row["route_class"])})
            for row in names.clusters.values()
        ),
        appliances=(),
        services=(),
    )


def lists_to_tuples(row: dict[str, Any]) -> dict[str, Any]:
    """Return an object of a fleet file with its lists as tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
