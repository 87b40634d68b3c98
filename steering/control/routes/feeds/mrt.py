"""The `mrt` feed: a table dump of a route collector or a router (RFC 6396, RFC 8050), heard by the clusters it feeds.

The dump names the routers that it heard; a cluster hears those that stand among its `peers`. Routes of a router that
no cluster names are passed over. A path with an AS_SET has no single origin and is refused (RFC 9774).
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from pathlib import Path

from _fastpath import mrt, prefix_rows
from steering.control.routes.feeds import Feed, Kinds, Reading, read_bytes
from steering.errors import FeedError
from steering.model.fleet import Cluster, Fleet
from steering.model.route import Announcement


def read(path: str, fleet: Fleet) -> Feed:
    """Return the routes of a dump; its refusals' rows are the offsets of records."""
    file = Path(path)
    data, digest = read_bytes(file)
    try:
        peers, rows, kinds, refusals, refused_by, _ = mrt.read(data)
    except ValueError as error:
        raise FeedError(f"{file.name}: {error}") from error
    heard_by = clusters_by_peer(fleet)
    listening = [heard_by.get(address, []) for address, _ in peers]
    if not any(listening):
        named = ", ".join(f"{address} (AS{asn})" for address, asn in peers[:8]) or "none"
        raise FeedError(
            f"{file.name}: no cluster hears its routers: {named}", hint="name a router among a cluster's peers"
        )
    reading = Reading(file.name, {family: columns_of(found) for family, found in rows.items()})
    for refusal in refusals:
        reading.refuse(*refusal)
    reading.refused_by.clear()
    reading.refused_by.update(refused_by)
    before = reading.rows
    wanted = array("B", (bool(listening[peer]) for peer, _ in kinds))
    for family in (4, 6):
        reading.columns[family] = prefix_rows.keep_values(reading.columns[family], wanted)
    made = Kinds()
    for peer, packed in kinds:
        if listening[peer]:
            add_kind(made, packed, listening[peer], file.name)
        else:
            made.add((), 0)
    return reading.feed(
        digest, made, lambda kind: f"{peers[kinds[kind][0]][0]} {kinds[kind][1].hex()}", before - reading.rows
    )


def add_kind(kinds: Kinds, packed: bytes, clusters: list[Cluster], feed: str) -> None:
    """Add what a route with these attributes says to the clusters that hear it."""
    try:
        path, sets, origin, med, communities = mrt.attributes(packed)
    except ValueError as error:
        kinds.refuse(str(error))
        return
    if sets:
        kinds.refuse("a path has no AS_SET (RFC 9774)")
        return
    via, hops = path[:-1], len(path)
    kinds.add(
        tuple(
            Announcement(cluster.number, cluster.route_class, via, hops, origin, med, communities, feed)
            for cluster in clusters
        ),
        path[-1] if path else 0,
    )


def clusters_by_peer(fleet: Fleet) -> dict[str, list[Cluster]]:
    """Return the clusters that hear each router, by its address."""
    found = defaultdict(list)
    for cluster in fleet.clusters:
        for address in cluster.peers:
            found[address].append(cluster)
    return found


def columns_of(rows: mrt.Rows) -> prefix_rows.Columns:
    """Return rows as columns."""
    columns = prefix_rows.Columns()
    columns.high, columns.low, columns.length, columns.value, columns.row = rows
    return columns
