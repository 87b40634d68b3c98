"""The hand-over: a folder of files that control publishes and playback answers from. Write, map, steer, explain.

`current` names the files that belong together:

    table.7     prefix table, zones, rankings        routes.7   every accepted route, for explain
    fleet.3     clusters, appliances, services      status.1  one mutable word for each appliance slot, and hot titles
    holdings.9  who holds what; none where nobody reports it

Control writes a file beside its place, syncs and renames it, and never touches it again; then it advances `current`.
A worker that sees `current` change maps the named files, checks them whole, and swaps its snapshot with one
assignment. A snapshot is frozen but for the weights it reads, so the same request on the same snapshot and
weights gives the same bytes. Tables, fleets and holdings go by the store's numbers, so they change apart.
"""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
import json
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from _fastpath.counters import Counters
from _fastpath.holdings import Holdings
from _fastpath.lpm import PrefixTable
from _fastpath.ranking import (
    APPLIANCE,
    CLUSTER,
    FALLBACK,
    MAX_FILES,
    MAX_PICKS,
    MAX_TITLE,
    ZONE,
    Picker,
    Service,
    StatusWords,
    Trace,
    cost,
)
from steering.errors import RequestError, SnapshotError
from steering.model import service as service_row
from steering.model.residency import lies_in
from steering.model.route import RouteClass
from steering.model.service import jitter_s, service_of
from steering.state.current import Current, read_current
from steering.state.playlists import Playlists
from steering.state.routes import ORIGIN_NAMES, Routes
from steering.state.sections import FORMATS, StateFile
from steering.state.table import Zone, ranking_entries_of

Sign = Callable[[bytes, int, int], bytes | None]  # as `pick.Service` says


MAX_SESSION: Final = 256


REASONS: Final = {
    "C": "does not hold the title",
    "D": "disabled or draining",
    "F": "not up in the client's address family",
    "H": "no headroom, over its limit, or of weight 0",
    "R": "its region may not serve this service",
    "S": "its last report is too old",
    "U": "unhealthy",
}


class Signs(Protocol):
    """Who signs what a service answers."""

    def sign_of(self, row: Mapping[str, Any]) -> Sign | None:
        """Return what makes the tokens of a service as a fleet file has it, None where its URLs are not signed."""

    def tag_of(self, service: str) -> Sign | None:
        """Return what makes the tags of a service's sessions."""


@dataclasses.dataclass(frozen=True, slots=True)
class Chosen:
    """One appliance of an answer; `draw` is what it was ordered by within its rank, the lowest first."""

    appliance: str
    host: str
    rank: int
    draw: float
    cluster: str
    route_class: str


class Snapshot:
    """One consistent set of mapped files. Frozen but for the weights, which another process changes.

    From the snapshot `before` it takes over what is the same: holdings, which are the most to check, and names.
    """

    def __init__(
        self, state: Path, current: Current, before: Snapshot | None = None, signer: Signs | None = None
    ) -> None:
        self.state = state
        self.current = current
        self.loaded_at = time.time()
        self.table_file = table = StateFile(state / current.table, "table")
        self.fleet_file = StateFile(state / current.fleet, "fleet")
        self.meta: dict[str, Any] = json.loads(bytes(table["meta"]))
        served = json.loads(bytes(self.fleet_file["services"]))
        self.table_version: int = self.meta["version"]
        self.fleet_version: int = served["version"]
        self.zones = table["zones"]
        self.ranking_entries = table["ranking_entries"].cast("I")
        self.holdings: Holdings | None = None
        self.holdings_version: int | None = None
        try:
            if before is not None and (before.state, before.current.holdings) == (state, current.holdings):
                self.holdings, self.holdings_version = before.holdings, before.holdings_version
            elif current.holdings:
                file = StateFile(state / current.holdings, "holdings")
                self.holdings = Holdings(file.sections)
                self.holdings_version = json.loads(bytes(file["meta"]))["version"]
            self.status = StatusWords(str(state / current.status))
            self.prefixes = PrefixTable(table["prefixes"])
            self.picker = Picker(
                self.prefixes,
                self.zones,
                table["ranking_entries"],
                self.fleet_file["clusters"],
                self.fleet_file["appliances"],
                self.fleet_file["text"],
                self.status,
                self.holdings,
            )
        except (OSError, ValueError) as error:
            names = ", ".join(filter(None, (current.table, current.fleet, current.status, current.holdings)))
            raise SnapshotError(f"{names}: {error}") from error
        if before is not None and (before.state, before.current.fleet) == (state, current.fleet) and before.knows_names:
            self.appliances_by_name = before.appliances_by_name
        self.playlists = Playlists(state / current.playlists) if current.playlists else None
        numbers = {region: number for number, region in enumerate(served["regions"])}
        self.services = {
            item["id"]: Service(
                item["id"],
                item["url"],
                item["fallback"],
                item["ttl_s"],
                self.table_version,
                [number for region, number in numbers.items() if lies_in(region, item["regions"])]
                if item["regions"]
                else None,
                self.holdings,
                item.get("fail_open", False),  # fleets of the format before say nothing of these
                signer.sign_of(item) if signer else None,
                item.get("client_regions", ()),
                item.get("n", 3),
                item.get("token_covers") == "service",
                self.fleet_version,
                self.holdings_version,
                item.get("holdings") == "file",
                signer.tag_of(item["id"]) if signer else None,
                jitter_s(item["ttl_s"], item.get("ttl_jitter", 0.0)),
            )
            for item in served["services"]
        }

    @classmethod
    def map(cls, state: Path, before: Snapshot | None = None, signer: Signs | None = None) -> Snapshot:
        """Return the snapshot that `current` names, checked and read into memory. Raises SnapshotError.

        Where nobody signs, URLs of services with tokens have `{token}`, and sessions have no tags.
        """
        return cls(state, read_current(state), before, signer)

    def steer(
        self,
        address: str | bytes,
        title: str,
        *,
        service: str,
        session: str = "",
        n: int = 0,
        family: int = 0,
        trace: Trace | None = None,
        counters: Counters | None = None,
    ) -> bytes:
        """Return the answer as compact JSON: table version, ttl, targets best first; and count it.

        `address` is text, or packed in 4 or 16 bytes; `n` 0 is the service's, `family` 0 the address's. `session`
        fan_outs viewers over the appliances that are known to hold a title, and over those of a hot one; without one
        the client's /24 or /48 does. Why is told to `trace`. Raises RequestError naming the parameter at fault.
        """
        return self.ask(address, title, service, session, n, family, trace, counters)

    def ask(
        self,
        address: str | bytes,
        title: str,
        service: str,
        session: str,
        n: int,
        family: int,
        trace: Trace | None,
        counters: Counters | None,
        body: bool = True,
    ) -> bytes:
        """Do as `steer`; without a body, which only `trace` is then told, nothing is signed."""
        try:
            if len(session) > MAX_SESSION:
                raise ValueError
            found = self.services[service]
            return self.picker.answer(address, title, found, n or found.n, family, session, trace, counters, body)
        except (KeyError, ValueError):
            raise self.refusal(address, title, service, session, n) from None

    def target_urls(self, address: str | bytes, title: str, **options: Any) -> list[str]:
        """Return the URLs of the targets that `steer` answers with; it counts and raises as `steer`."""
        return [target["url"] for target in json.loads(self.steer(address, title, **options))["targets"]]

    def refused_region(self, packed: bytes, service: str) -> str | None:
        """Return the region of a client that a service does not serve there, empty where it is unknown; else None."""
        rule = self.rules.get(service)
        if rule is None or not rule.client_regions:
            return None
        region = self.zone_of(packed).region
        return None if lies_in(region, rule.client_regions) else region

    def zone_of(self, packed: bytes) -> Zone:
        """Return the zone that an address falls in."""
        first, count, partner, region = ZONE.unpack_from(self.zones, self.prefixes.lookup(packed) * ZONE.size)
        return Zone(first, count, partner, region.rstrip(b"\0").decode())

    # ---- for what players report

    def clusters_of(self, zone: Zone) -> frozenset[int]:
        """Return the clusters on a zone's ranking."""
        return frozenset(cluster for cluster, *_ in ranking_entries_of(zone, self.ranking_entries))

    @property
    def knows_names(self) -> bool:
        """Whether `appliances_by_name` has been read: that takes 40 ms for 19,000 appliances, and any thread may."""
        return "appliances_by_name" in self.__dict__

    @functools.cached_property
    def appliances_by_name(self) -> dict[str, tuple[int, int]]:
        """The slot and cluster of each appliance, by its id and by its host in lower case; read on first use."""
        text = bytes(self.fleet_file["text"])
        records = self.fleet_file["appliances"]
        found: dict[str, tuple[int, int]] = {}
        for cluster, (first, count, *_) in enumerate(CLUSTER.iter_unpack(self.fleet_file["clusters"])):
            for place in range(first, first + count):
                slot, at, behind, length, more = APPLIANCE.unpack_from(records, place * APPLIANCE.size)
                where = slot, cluster
                found[text[behind : behind + more].split(b'"', 5)[4].decode()] = where
                found[text[at : at + length].decode().lower()] = where
        return found

    # ---- for players: what pathways are made of

    @functools.cached_property
    def rules(self) -> dict[str, service_row.Service]:
        """Every service as the fleet document has it, by id, read on first use."""
        rows = json.loads(bytes(self.fleet_file["services"]))["services"]
        return {row["id"]: service_of(row) for row in rows}

    @functools.cached_property
    def kinds(self) -> list[tuple[int, str, str]]:
        """The first appliance, id and class of each cluster, in the order of appliances, read on first use."""
        section = self.fleet_file.sections.get("kinds")
        if section is not None:
            return [(first, name, kind) for first, name, kind in json.loads(bytes(section))]
        spans = enumerate(CLUSTER.iter_unpack(self.fleet_file["clusters"]))  # a file from before that section
        named = ((first, self.names.cluster(number)) for number, (first, count, *_) in spans if count)
        return sorted((first, about["cluster"], about["class"]) for first, about in named)

    def chosen(
        self,
        address: str | bytes,
        title: str,
        *,
        service: str,
        session: str = "",
        n: int = MAX_PICKS,
        family: int = 0,
        counters: Counters | None = None,
    ) -> list[Chosen]:
        """Return the appliances that `steer` answers with, best first, without the fallback; raise and count as it."""
        trace = Trace()
        self.ask(address, title, service, session, n, family, trace, counters, body=False)
        records, text = self.fleet_file["appliances"], self.fleet_file["text"]
        found: dict[int, Chosen] = {}
        for place, rank, word, _, pick, holds in trace.candidates:
            if pick is None:
                continue
            key = trace.session_key if holds else trace.title_key
            slot, at, behind, length, more = APPLIANCE.unpack_from(records, place * APPLIANCE.size)
            tail = bytes(text[behind : behind + more]).decode()  # ","appliance":"ID","site":…
            span = bisect_right(self.kinds, place, key=lambda kind: kind[0]) - 1
            _, cluster, route_class = self.kinds[span] if span >= 0 else (0, "", "")
            host = bytes(text[at : at + length]).decode()
            draw = cost(key, slot) / max(word & 0xFFFF, 1)
            found[pick] = Chosen(tail.split('"')[4], host, rank, draw, cluster, route_class)
        return [found[pick] for pick in sorted(found)]

    def playback(
        self,
        address: str | bytes,
        files: list[str],
        *,
        service: str,
        title: str = "",
        session: str = "",
        n: int = 0,
        family: int = 0,
        counters: Counters | None = None,
    ) -> bytes:
        """Return who serves each of the files of a title, as compact JSON; and count it.

        `{"table":…,"ttl":…,"url":"https://{host}/v/{title}","fallback":"…",
        "servers":[{"host","appliance","site","rank","families"},…],"files":{"a":[0,3,1],…}}`: servers by their place in
        the list, best first, and the fallback where there are fewer than n. They are those that `steer` gives the
        title, or without one the file; where holdings are of files, of those that hold the file. Where URLs are signed,
        `tokens` has what stands for `{token}` of each file that has picks; a token that covers the service stands in
        `url`. Where there is a key for tags, `tag` is the session's.
        Raises RequestError.
        """
        try:
            if len(session) > MAX_SESSION:
                raise ValueError
            found = self.services[service]
            return self.picker.playback(address, files, found, n or found.n, family, session, title, counters)
        except (KeyError, ValueError):
            error = self.refusal(address, title or "a title", service, session, n)
            is_title = error.parameter == "title" and is_title_wrong(title)
            raise (error if error.parameter != "title" or is_title else refused_files(files)) from None

    def refusal(self, address: str | bytes, title: str, service: str, session: str, n: int) -> RequestError:
        """Return the error that names which of the parameters `steer` refused."""
        if service not in self.services:
            return RequestError.of_parameter("service", service, "there is no such service", status=404)
        if len(session) > MAX_SESSION:
            return RequestError.of_parameter("session", session, f"at most {MAX_SESSION} characters")
        if not 0 <= n <= MAX_PICKS:
            return RequestError.of_parameter("n", str(n), f"a number from 1 to {MAX_PICKS}")
        try:
            self.prefixes.lookup(address)
        except ValueError:
            return RequestError.of_parameter("ip", str(address), "an IPv4 or IPv6 address without a zone id")
        return RequestError.of_parameter("title", title, f"1 to {MAX_TITLE} bytes of UTF-8, and not . or ..")

    def describe_version(self) -> dict[str, Any]:
        """Return which versions are served, for people and monitors."""
        return {
            "generation": self.current.generation,
            "table": self.table_version,
            "fleet": self.fleet_version,
            "holdings": self.holdings_version,
            "published_at": self.current.published_at,
            "formats": FORMATS,
        }

    # ---- explaining: off the hot path, and it reads files

    @functools.cached_property
    def routes(self) -> Routes:
        """The accepted routes, mapped on first use."""
        return Routes(self.state / self.current.routes)

    def canary_side(self, zone: int) -> str | None:
        """Return on which side of a canary a zone is, `before` or `after`; None where none serves."""
        canary = self.meta.get("canary")
        return ("before" if zone < canary["zones"] else "after") if canary else None

    def routes_for(self, zone: int) -> Routes:
        """Return the accepted routes that a zone was made from: in a canary, one of two tables'."""
        canary = self.meta.get("canary")
        return self.routes_before if canary and zone < canary["zones"] else self.routes

    @functools.cached_property
    def routes_before(self) -> Routes:
        """The accepted routes of the table that served before a canary, mapped on first use."""
        return Routes(self.state / f"routes.{self.meta['canary']['before']}")

    @functools.cached_property
    def names(self) -> FleetNames:
        """The fleet's names, read on first use."""
        return FleetNames(json.loads(bytes(self.fleet_file["meta"])))

    @functools.cached_property
    def appliances_by_slot(self) -> dict[int, tuple[str, str]]:
        """The (id, site) of each appliance by its slot, read on first use."""
        named = (self.names.appliance(place) for place in range(len(self.slots)))
        return {slot: (name["appliance"], name["site"]) for slot, name in zip(self.slots, named, strict=True)}

    @functools.cached_property
    def slots(self) -> list[int]:
        """The slot of each appliance, in the order of the fleet file, read on first use."""
        return [slot for slot, *_ in APPLIANCE.iter_unpack(self.fleet_file["appliances"])]

    @functools.cached_property
    def clusters_by_slot(self) -> dict[int, tuple[str, str]]:
        """The (cluster, site) of each appliance by its slot, read on first use."""
        named = (self.names.appliance(place) for place in range(len(self.slots)))
        return {slot: (name["cluster"], name["site"]) for slot, name in zip(self.slots, named, strict=True)}

    def picks(
        self, address: str, keys: tuple[int, int, int], *, service: str, n: int, family: int
    ) -> list[tuple[int, int]]:
        """Return who is picked for keys, a trace's for title, session and content: best first, as (slot, rank).

        Raises RequestError.
        """
        try:
            found = self.picker.picks_of_keys(address, *keys, self.services[service], n, family)
        except (KeyError, ValueError):
            raise self.refusal(address, "a title", service, "", n) from None
        return [(self.slots[appliance], rank) for appliance, rank in found]

    def describe(self, address: str | bytes) -> dict[str, Any]:
        """Return what an address resolves to: matched prefix, origin, partner, region, scope, and its ranking.

        Raises ValueError for what is no address.
        """
        number = self.prefixes.lookup(address)
        packed = address if isinstance(address, bytes) else ipaddress.ip_address(address).packed
        first, count, partner, region = ZONE.unpack_from(self.zones, number * ZONE.size)
        matched = self.routes_for(number).matched(packed)
        return {
            "address": str(ipaddress.ip_address(packed)),
            "prefix": matched[0] if matched else None,
            "origins": matched[1] if matched else [],
            "partner": self.names.partner(partner),
            "region": region.rstrip(b"\0").decode() or None,
            "zone": number,
            "canary": self.canary_side(number),
            "scope": self.routes.scope(packed),
            "ranking": [
                {
                    "rank": self.ranking_entries[2 * place + 1] & ~FALLBACK,
                    **self.names.cluster(self.ranking_entries[2 * place]),
                    "fallback": bool(self.ranking_entries[2 * place + 1] & FALLBACK),
                }
                for place in range(first, first + count)
            ],
        }

    def explain(
        self, address: str | bytes, title: str, *, service: str, session: str = "", n: int = 0, family: int = 0
    ) -> dict[str, Any]:
        """Return the answer that `steer` gives, as a dict, with the reasons it was made for under `explain`."""
        trace = Trace()
        body = self.steer(address, title, service=service, session=session, n=n, family=family, trace=trace)
        place = self.describe(address)
        packed = ipaddress.ip_address(place["address"]).packed
        if not session and (trace.fan_out > 1 or any(held for *_, held in trace.candidates)):
            place["scope"] = narrowed(place["scope"], packed)
        accepted = self.routes_for(place["zone"])
        routes = [{**self.names.cluster(route.pop("cluster")), **route} for route in accepted.covering(packed)]
        tell_steps(place["ranking"], routes, self.meta["policy"])
        candidates = [
            {
                **self.names.appliance(appliance),
                "rank": rank,
                "weight": word & 0xFFFF,
                "holds": held,
                "reason": None if reason == "-" else reason,
                "pick": None if pick is None else pick + 1,
            }
            for appliance, rank, word, reason, pick, held in trace.candidates
        ]
        used = sorted({candidate["reason"] for candidate in candidates if candidate["reason"]})
        answer: dict[str, Any] = json.loads(body)
        answer["explain"] = {
            **place,
            "refused_region": self.refused_region(packed, service),
            "policy": self.meta["policy"],
            "routes": routes,
            "refused": [dataclasses.asdict(refusal) for refusal in accepted.refused_for(packed)],
            "candidates": candidates,
            "fan_out": trace.fan_out,
            "failed_open": trace.failed_open,
            "reasons": {letter: REASONS[letter] for letter in used},
            "versions": self.describe_version() | {"age_s": round(time.time() - self.current.published_at, 3)},
        }
        return answer


def is_title_wrong(title: str) -> bool:
    """Tell whether a name cannot be a title's, or a file's."""
    return title in (".", "..") or len(title.encode()) > MAX_TITLE


def refused_files(files: Sequence[str]) -> RequestError:
    """Return the error that names what is wrong with the files of a playback."""
    if not 1 <= len(files) <= MAX_FILES:
        return RequestError.of_parameter("files", f"{len(files)} files", f"1 to {MAX_FILES} files")
    seen: set[str] = set()
    for file in files:
        if not file or is_title_wrong(file):
            rule = f"each has 1 to {MAX_TITLE} bytes of UTF-8, and is not . or .."
            return RequestError.of_parameter("files", file, rule)
        if file in seen:
            return RequestError.of_parameter("files", file, "no file is named twice")
        seen.add(file)
    raise AssertionError("somebody else's error")


def narrowed(scope: str, packed: bytes) -> str:
    """Return a scope, or within it the /24 or /48 of an address: whom a client without a session is taken for."""
    network = ipaddress.ip_network(scope)
    if network.prefixlen >= (length := 24 if len(packed) == 4 else 48):
        return scope
    return str(ipaddress.ip_network((packed, length), strict=False))


def tell_steps(ranking: list[dict[str, Any]], routes: list[dict[str, Any]], policy: Sequence[str]) -> None:
    """Tell each ranking_entry `behind`: the first key of the policy by which it stands behind the ranking_entry above; None for equals.

    Distance is not kept in a table, so it is named where nothing else is different, or where it comes first.
    """
    prefixes = list(dict.fromkeys(route["prefix"] for route in routes))
    best: dict[str, tuple[int, ...]] = {}
    known = [key for key in policy if key != "distance"]
    for route in routes:
        values = {
            "prefix": prefixes.index(route["prefix"]),
            "as_path": route["hops"],
            "origin": ORIGIN_NAMES.index(route["origin"]),
            "med": route["med"],
            "class": RouteClass[route["class"]].value,
        }
        key = tuple(values[name] for name in known)
        best[route["cluster"]] = min(best.get(route["cluster"], key), key)
    above: dict[str, Any] | None = None
    for ranking_entry in ranking:
        ranking_entry["behind"] = None
        if ranking_entry["fallback"]:
            ranking_entry["behind"] = "no route"
        elif above is not None and above["rank"] != ranking_entry["rank"]:
            pairs = zip(known, best[above["cluster"]], best[ranking_entry["cluster"]], strict=True)
            step = next((name for name, left, right in pairs if left != right), "distance")
            earlier = "distance" in policy and policy.index("distance") < policy.index(step)
            ranking_entry["behind"] = f"distance or {step}" if earlier else step
        above = ranking_entry


class FleetNames:
    """The names behind the numbers of a fleet file."""

    def __init__(self, meta: dict[str, Any]) -> None:
        self.appliances: list[tuple[str, int]] = meta["appliances"]
        self.partners = {partner["number"]: partner for partner in meta["partners"]}
        self.sites = {site["id"]: site for site in meta["sites"]}
        self.clusters = {cluster["number"]: cluster for cluster in meta["clusters"]}

    def appliance(self, place: int) -> dict[str, Any]:
        """Return the id, cluster and site of the appliance at a place of the fleet file."""
        name, number = self.appliances[place]
        cluster = self.clusters[number]
        return {"appliance": name, "cluster": cluster["id"], "site": cluster["site"]}

    def partner(self, number: int) -> dict[str, Any] | None:
        """Return a partner's id, name and country; None for number 0 or one that left."""
        partner = self.partners.get(number)
        return {key: partner[key] for key in ("id", "name", "country")} if partner else None

    def cluster(self, number: int) -> dict[str, Any]:
        """Return a cluster's id, site, class and place; a cluster that left the fleet shows its number."""
        cluster = self.clusters.get(number)
        if cluster is None:
            return {"cluster": f"#{number}", "site": None, "class": None, "city": None, "country": None}
        site = self.sites[cluster["site"]]
        return {
            "cluster": cluster["id"],
            "site": site["id"],
            "class": RouteClass(cluster["route_class"]).name,
            "city": site["city"],
            "country": site["country"],
        }
