"""Why a client gets its answer: what its address resolves to, its routes, its ranking and each candidate's reason.

The answer is made by the code that makes it for clients, with the reasons kept. Explaining reads files.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import itertools
import json
import math
import time
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final

from _fastpath.ranking import Trace
from _fastpath.status_words import MOST_PRESSURE, REASONS, pressure_in
from steering.decision.snapshot import Snapshot, reading
from steering.model.policy import RANKING_KEYS
from steering.model.prefix import parse_address
from steering.model.route import Announcement
from steering.state.routes import Routes
from steering.state.table import Zone

EARTH_RADIUS_KM: Final = 6371.0
MOST_SITES: Final = 5  # of the sites that a client does not get


def describe(snapshot: Snapshot, address: str | bytes) -> dict[str, Any]:
    """Return what an address resolves to: matched prefix, origins, partner, region, zone, scope, and its ranking.

    Raises ValueError for a wrong address, and SnapshotError.
    """
    packed = parse_address(address if isinstance(address, str) else str(ipaddress.ip_address(address)))
    with reading(snapshot):
        number = snapshot.prefixes.lookup(packed)
        zone = snapshot.table_file.zone(number)
        matched = routes_of(snapshot, number).matched(packed)
        canary = snapshot.table_file.meta.get("canary")
        return {
            "address": str(ipaddress.ip_address(packed)),
            "prefix": matched[0] if matched else None,
            "origins": matched[1] if matched else [],
            "partner": snapshot.names.partner(zone.partner),
            "region": zone.region or None,
            "zone": number,
            "canary": ("before" if number < canary["zones"] else "after") if canary else None,
            "scope": snapshot.routes.scope(packed),
            "ranking": ranking_of(snapshot, zone),
        }


def ranking_of(snapshot: Snapshot, zone: Zone) -> list[dict[str, Any]]:
    """Return a zone's ranking, with the price and the pressure of each cluster in shares of the fallback's price."""
    rows = []
    for (cluster, rank, fallback), price in zip(
        snapshot.table_file.ranking(zone), snapshot.table_file.prices(zone), strict=True
    ):
        members = snapshot.fleet_file.members_of(cluster)
        word = snapshot.status.word(snapshot.fleet_file.slots[members[0]]) if members else 0
        costs = {"price": round(price, 3), "pressure": round(pressure_in(word) / MOST_PRESSURE, 3)}
        rows.append({"rank": rank, **snapshot.names.cluster(cluster), "fallback": fallback, **costs})
    return rows


def routes_of(snapshot: Snapshot, zone: int) -> Routes:
    """Return the accepted routes that a zone was made from: during a canary, those of one of two tables."""
    canary = snapshot.table_file.meta.get("canary")
    return snapshot.routes_before if canary and zone < canary["zones"] else snapshot.routes


def explain(
    snapshot: Snapshot,
    address: str | bytes,
    title: str,
    *,
    service: str,
    session: str = "",
    n: int = 0,
    family: int = 0,
    failed: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the answer that `Snapshot.steer` gives, as a dict, with its reasons under `explain`."""
    trace = Trace()
    resolved = describe(snapshot, address)
    packed = ipaddress.ip_address(resolved["address"]).packed
    with reading(snapshot):
        body = snapshot.steer(
            packed, title, service=service, session=session, n=n, family=family, failed=failed, trace=trace
        )
        if not session and (trace.fan_out > 1 or any(held for *_, held in trace.candidates)):
            resolved["scope"] = narrowed(resolved["scope"], packed)
        accepted = routes_of(snapshot, resolved["zone"])
        routes = [{**snapshot.names.cluster(route.pop("cluster")), **route} for route in accepted.covering(packed)]
        policy = snapshot.table_file.meta["policy"]
        name_deciding_keys(resolved["ranking"], routes, accepted.announcements_covering(packed), policy)
        candidates = candidates_of(snapshot, trace)
        used = sorted({candidate["reason"] for candidate in candidates if candidate["reason"]})
        answer: dict[str, Any] = json.loads(body)
        answer["explain"] = {
            **resolved,
            "refused_region": snapshot.refused_region(packed, service),
            "policy": policy,
            "routes": routes,
            "excluded": excluded_by(routes),
            "refused": [dataclasses.asdict(refusal) for refusal in accepted.refused_for(packed)],
            **location_of(snapshot, accepted, packed, resolved, {route["site"] for route in excluded_by(routes)}),
            "candidates": candidates,
            "fan_out": trace.fan_out,
            "failed_open": trace.failed_open,
            "by_price": trace.by_price,
            "reasons": {letter: REASONS[letter] for letter in used},
            "versions": snapshot.describe_version() | {"age_s": round(time.time() - snapshot.current.published_at, 3)},
        }
        return answer


def location_of(
    snapshot: Snapshot, routes: Routes, packed: bytes, resolved: Mapping[str, Any], excluded: AbstractSet[str | None]
) -> dict[str, dict[str, Any] | list[dict[str, Any]]]:
    """Return where the client is assumed to be and the source of that, and the nearest sites that it does not get."""
    row = routes.geofeed_of(packed)
    country = (resolved["region"] or "")[:2]
    place = (row and row[3]) or routes.locations.countries.get(country)
    source = {"source": "map", "name": routes.meta["regions"], "prefix": None}
    if row:
        source = {"source": "geofeed", "name": row[0], "prefix": row[1]}
    latitude, longitude = place or (None, None)
    return {
        "location": {"latitude": latitude, "longitude": longitude, **source},
        "sites_not_used": sites_not_used(snapshot, routes.meta, resolved["ranking"], place, excluded) if place else [],
    }


def sites_not_used(
    snapshot: Snapshot,
    meta: Mapping[str, Any],
    ranking: Sequence[Mapping[str, Any]],
    place: Sequence[float],
    excluded: AbstractSet[str | None],
) -> list[dict[str, Any]]:
    """Return the nearest sites without a cluster in a ranking, each with its distance and the reason."""
    used = {entry["site"] for entry in ranking}
    clusters: dict[str, list[dict[str, Any]]] = {}
    for cluster in snapshot.names.clusters.values():
        if cluster["site"] not in used:
            clusters.setdefault(cluster["site"], []).append(cluster)
    distances = {name: distance_km(place, snapshot.names.sites[name]) for name in clusters}
    most_km = meta.get("fallback_max_km")
    rows = []
    for name in sorted(distances, key=lambda name: (distances[name], name))[:MOST_SITES]:
        site, reason = snapshot.names.sites[name], "no route, and no cluster there accepts off-net clients"
        if name in excluded:
            reason = "a route excludes its clusters"
        elif any(cluster["accepts_off_net"] for cluster in clusters[name]):
            reason = f"no route, and {meta['fallback_sites']} sites that accept off-net clients are nearer"
            if most_km is not None and distances[name] > most_km:
                reason = f"no route, and farther than fallback_max_km = {most_km:g}"
        shown = {key: site[key] for key in ("city", "country")}
        rows.append({"site": name, **shown, "distance_km": round(distances[name]), "reason": reason})
    return rows


def distance_km(place: Sequence[float], site: Mapping[str, Any]) -> float:
    """Return the great-circle distance of a site from degrees north and east."""
    (north, east), (site_north, site_east) = (
        map(math.radians, pair) for pair in (place, (site["latitude"], site["longitude"]))
    )
    cosine = math.sin(north) * math.sin(site_north)
    cosine += math.cos(north) * math.cos(site_north) * math.cos(east - site_east)
    return EARTH_RADIUS_KM * math.acos(max(-1.0, min(1.0, cosine)))


def candidates_of(snapshot: Snapshot, trace: Trace) -> list[dict[str, Any]]:
    """Return each candidate of an answer, with its weight, holdings and reason, and its place among the picks."""
    return [
        {
            **snapshot.names.appliance(appliance),
            "rank": rank,
            "weight": word & 0xFFFF,
            "holds": held,
            "reason": None if reason == "-" else reason,
            "pick": None if pick is None else pick + 1,
        }
        for appliance, rank, word, reason, pick, held in trace.candidates
    ]


def narrowed(scope: str, packed: bytes) -> str:
    """Return a scope, or the /24 or /48 of an address within it, which is the viewer where a client has no session."""
    network = ipaddress.ip_network(scope)
    if network.prefixlen >= (length := 24 if len(packed) == 4 else 48):
        return scope
    return str(ipaddress.ip_network((packed, length), strict=False))


def excluded_by(routes: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the routes that keep their clusters away: no longer prefix announces the cluster. Longest prefix first."""
    decided: set[str] = set()
    excluded = []
    for _, same_prefix in itertools.groupby(routes, key=lambda route: str(route["prefix"])):
        own = sorted(same_prefix, key=lambda route: not route["excludes"])
        excluded += [route for route in own if route["excludes"] and route["cluster"] not in decided]
        decided |= {route["cluster"] for route in own}
    return excluded


def name_deciding_keys(
    ranking: list[dict[str, Any]],
    routes: list[dict[str, Any]],
    announcements: list[Announcement],
    policy: Sequence[str],
) -> None:
    """Set `behind` of each ranking entry: the first key of the policy by which it differs from the entry above.

    None where they are equal. A table does not keep distances, so `distance` is named where no other key differs, or
    where it comes first. `announcements` are those of the routes.
    """
    prefixes = list(dict.fromkeys(route["prefix"] for route in routes))
    best: dict[str, tuple[int, ...]] = {}
    known = [key for key in policy if key != "distance"]
    for route, announcement in zip(routes, announcements, strict=True):
        if announcement.excludes:
            continue
        key = tuple(
            prefixes.index(route["prefix"]) if name == "prefix" else getattr(announcement, RANKING_KEYS[name])
            for name in known
        )
        best[route["cluster"]] = min(best.get(route["cluster"], key), key)
    above: dict[str, Any] | None = None
    for entry in ranking:
        entry["behind"] = None
        if entry["fallback"]:
            entry["behind"] = "no route"
        elif above is not None and above["rank"] != entry["rank"]:
            pairs = zip(known, best[above["cluster"]], best[entry["cluster"]], strict=True)
            differing = next((name for name, left, right in pairs if left != right), "distance")
            earlier = "distance" in policy and policy.index("distance") < policy.index(differing)
            entry["behind"] = f"distance or {differing}" if earlier else differing
        above = entry
