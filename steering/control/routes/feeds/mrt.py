"""The `mrt` feed: a table dump of a route collector or a router (RFC 6396, RFC 8050).

The dump names the routers that sent the routes. A cluster receives the routes of the routers among its `peers`. Routes
of other routers are skipped. A path with an AS_SET has no single origin and is refused (RFC 9774).
"""

from __future__ import annotations

import dataclasses
from array import array
from collections import defaultdict
from pathlib import Path
from typing import Final

from _fastpath import mrt, prefix_rows
from steering.control.feed_files import read_bytes
from steering.control.routes.feeds import AttributeTable, Feed, FeedBuilder
from steering.errors import FeedError
from steering.model.fleet import Cluster, Fleet
from steering.model.route import Announcement

MAX_DUMP: Final = 4 << 30  # bytes; the largest dumps of collectors unpack to some 3 GiB


def read(path: str, fleet: Fleet) -> Feed:
    """Return the routes of a dump; its refusals' rows are the offsets of records."""
    file = Path(path)
    data, digest = read_bytes(file, MAX_DUMP)
    try:
        peers, columns, routes, refusals, refused_by, skipped = mrt.read(data)
    except ValueError as error:
        raise FeedError(f"{file.name}: {error}") from error
    by_peer = clusters_by_peer(fleet)
    clusters_of = [by_peer.get(address, []) for address, _ in peers]
    if not any(clusters_of):
        named = ", ".join(f"{address} (AS{asn})" for address, asn in peers[:8]) or "none"
        raise FeedError(
            f"{file.name}: no cluster has one of its routers as a peer: {named}",
            hint="name a router among a cluster's peers",
        )
    builder = FeedBuilder(file.name, columns)
    for refusal in refusals:
        builder.refuse(*refusal)
    builder.refused_by.clear()
    builder.refused_by.update(refused_by)
    before = builder.rows
    wanted = array("B", (bool(clusters_of[peer]) for peer, _ in routes))
    for family in (4, 6):
        builder.columns[family] = prefix_rows.keep_values(builder.columns[family], wanted)
    attributes = AttributeTable()
    for peer, packed in routes:
        if clusters_of[peer]:
            add_attributes(attributes, packed, clusters_of[peer], file.name)
        else:
            attributes.add((), 0)
    feed = builder.feed(
        digest, attributes, lambda i: f"{peers[routes[i][0]][0]} {routes[i][1].hex()}", before - builder.rows
    )
    return dataclasses.replace(feed, skipped=skipped)


def add_attributes(attributes: AttributeTable, packed: bytes, clusters: list[Cluster], feed: str) -> None:
    """Add the announcements of a route with these attributes to some clusters."""
    try:
        path, sets, origin, med, communities = mrt.attributes(packed)
    except ValueError as error:
        attributes.refuse(str(error))
        return
    if sets:
        attributes.refuse("a path has no AS_SET (RFC 9774)")
        return
    via, hops = path[:-1], len(path)
    attributes.add(
        tuple(
            Announcement(cluster.number, cluster.route_class, via, hops, origin, med, communities, feed)
            for cluster in clusters
        ),
        path[-1] if path else 0,
    )


def clusters_by_peer(fleet: Fleet) -> dict[str, list[Cluster]]:
    """Return the clusters that peer with each router, by its address."""
    by_peer = defaultdict(list)
    for cluster in fleet.clusters:
        for address in cluster.peers:
            by_peer[address].append(cluster)
    return by_peer
