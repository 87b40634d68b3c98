"""Players' requests while they play, read and answered with steering manifests. From memory only.

    /v1/hls/{service}/{title}     /v1/hls/{service}/{title}/master.m3u8
    /v1/dash/{service}/{title}    /v1/dash/{service}/{title}/manifest.mpd

Service and title are percent-encoded segments; a path of another shape is one of an unknown title. A request for a
steering manifest is never refused; one for a playlist that is not registered is (`playlist.py`).
"""

from __future__ import annotations

import dataclasses
from array import array
from collections.abc import Sequence
from typing import Final
from weakref import WeakKeyDictionary

from _fastpath.client import Trust
from _fastpath.counters import Counters
from _fastpath.hashing import viewer_of
from _fastpath.hints import Hints, read_player_request
from _fastpath.ranking import Trace
from _fastpath.request import Client, Refusal, find_client
from _fastpath.status_words import DISABLED, IPV4_UP, IPV6_UP, STALE, UNHEALTHY
from _fastpath.steering_manifest import Manifest
from steering.decision.snapshot import Pick, Snapshot
from steering.errors import RequestError
from steering.model.service import Service, jitter_s
from steering.playback.answers import pathways
from steering.playback.answers import steering_manifests as manifests
from steering.playback.answers.pathways import Order
from steering.settings import Settings

Headers = Sequence[tuple[bytes, bytes]]
UNFIT: Final = DISABLED | UNHEALTHY | STALE
UP: Final = {0: IPV4_UP | IPV6_UP, 4: IPV4_UP, 6: IPV6_UP}  # by the family that a player asks for
MANIFESTS: Final[WeakKeyDictionary[Snapshot, tuple[float, dict[str, Manifest]]]] = WeakKeyDictionary()


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """A request of a player and its client. `name` is the playlist asked for, empty for steering."""

    protocol: str
    service: str
    title: str
    name: str
    hints: Hints
    client: Client


@dataclasses.dataclass(frozen=True, slots=True)
class Steered:
    """A steering manifest, and whether the player is to leave the pathway that it uses."""

    body: bytes
    moves: bool = False


def read_request(
    raw_path: bytes, query: bytes, peer: str | None, headers: Headers, trust: Trust, forwarded: str
) -> Asked:
    """Return what a request below `/v1/hls` or `/v1/dash` asks for. It refuses nothing."""
    protocol, service, title, name, hints = read_player_request(raw_path, query)
    try:
        client = find_client(peer, headers, trust, forwarded, hints.ip)
    except Refusal:  # ignored by choice: players give up over an error
        hints = hints._replace(ip=None, odd=hints.odd + 1)
        client = find_client(peer, headers, trust, forwarded)
    return Asked(protocol, service, title, name, hints, client)


def steer(snapshot: Snapshot | None, asked: Asked, settings: Settings, counters: Counters | None = None) -> Steered:
    """Return the steering manifest for a request, and count it; the static one where no appliance can be picked."""
    hints = asked.hints
    viewer = viewer_of(hints.session, asked.client.packed)
    service = snapshot.rules.get(asked.service) if snapshot else None
    picks: list[Pick] | None = None
    trace = Trace()
    if snapshot and service:
        picks = pick(snapshot, service, asked, counters, trace)
    if snapshot is None or service is None or picks is None:
        return Steered(static_answer(snapshot, asked.service, hints, viewer, asked.title, settings.default_service))
    current: Sequence[str] = hints.pathways
    offers = takes_clones(service, hints)
    if offers:
        fit = [(index, rank) for index, rank, _, reason, *_ in trace.candidates if reason in "-H"]
        near = [snapshot.pick_of(index, 0, rank, 0.0) for index, rank in fit]
        current = pathways.appliances_of(service, near, current, hints.declared)
    ids, kept = compiled(snapshot, settings.steer_gain)[service.id].order(
        snapshot.picker,
        asked.client.packed,
        asked.title,
        hints.session,
        hints.family,
        current,
        () if offers else hints.declared,
        hints.failed,
    )
    ordered = Order(ids, moves=bool(hints.pathways) and ids[0] not in hints.pathways)
    if offers:
        stays = None if kept is None else hints.pathways[current.index(kept)]
        ordered = pathways.with_clones(ids, service, picks, hints.pathways, stays, hints.declared)
    body = manifests.steering_body(service, ordered, viewer, asked.title)
    return Steered(body, ordered.moves)


def compiled(snapshot: Snapshot, gain: float) -> dict[str, Manifest]:
    """Return what makes the manifests of each service, by its id; made once for a snapshot."""
    made = MANIFESTS.get(snapshot)
    if made is None or made[0] != gain:
        made = MANIFESTS[snapshot] = gain, {name: compile_one(snapshot, name, gain) for name in snapshot.rules}
    return made[1]


def compile_one(snapshot: Snapshot, name: str, gain: float) -> Manifest:
    """Return what makes the manifests of a service."""
    service = snapshot.rules[name]
    return Manifest(
        snapshot.services[name],
        service.steer_ttl_s,
        jitter_s(service.steer_ttl_s, service.ttl_jitter),
        gain,
        pathways.most(service),
        [(pathway.id, bool(pathway.host)) for pathway in service.pathways],
        stands_of(snapshot, service) if service.pathways else None,
        bool(service.clones),
        *manifests.long_ttl(service),
    )


def stands_of(snapshot: Snapshot, service: Service) -> array[int]:
    """Return for each appliance of the fleet file the pathways that stand for it, a bit each."""
    bits_of = array("I", bytes(4 * len(snapshot.fleet_file.slots)))
    ends = [*(first for first, *_ in snapshot.fleet_file.spans[1:]), len(bits_of)]
    for (first, cluster, route_class, _), end in zip(snapshot.fleet_file.spans, ends, strict=False):
        bits = 0
        for number, pathway in enumerate(service.pathways):
            bits |= (route_class in pathway.classes or cluster in pathway.clusters) << number
        bits_of[first:end] = array("I", [bits]) * (end - first)
    return bits_of


def static_answer(
    snapshot: Snapshot | None, service: str, hints: Hints, viewer: int, title: str, default_service: str
) -> bytes:
    """Return the static body of a service, for an unknown one with the pathways of the default one.

    What the player uses or declares stays in its place unless it is known to be unfit, by its status word.
    """
    if snapshot is None:
        return manifests.static_body(None, hints, viewer, title)
    unfit = [name for name in (*hints.pathways, *hints.declared) if is_unfit(snapshot, name, hints.family)]
    rules = snapshot.rules.get(service) or snapshot.rules.get(default_service)
    return manifests.static_body(rules, hints, viewer, title, unfit)


def is_unfit(snapshot: Snapshot, pathway: str, family: int) -> bool:
    """Return whether a pathway is an appliance, or a clone for one, that cannot serve on a family (0: on any)."""
    slot = snapshot.picker.slot_of(pathway)
    if slot < 0 and (appliance := pathways.appliance_of_clone(pathway)):
        slot = snapshot.picker.slot_of(appliance)
    if slot < 0:
        return False
    word = snapshot.status.word(slot)
    return bool(word & UNFIT) or not word & UP[family]


def pick(
    snapshot: Snapshot, service: Service, asked: Asked, counters: Counters | None, trace: Trace | None = None
) -> list[Pick] | None:
    """Return the picks for a client, best first; None where the title is not valid. `trace` is filled."""
    try:
        return snapshot.picks(
            asked.client.packed,
            asked.title,
            service=service.id,
            session=asked.hints.session,
            n=pathways.most(service),
            family=asked.hints.family,
            failed=asked.hints.failed,
            counters=counters,
            trace=trace,
        )
    except RequestError:
        return None


def takes_clones(service: Service, hints: Hints) -> bool:
    """Return whether a player is offered clones: appliances in the place of a declared pathway's host."""
    return bool(service.pathways and hints.player and hints.player in service.clones)
