"""What players ask for while they play: steering manifests, and playlists made for one client. From memory only.

    /v1/hls/{service}/{title}     /v1/hls/{service}/{title}/master.m3u8
    /v1/dash/{service}/{title}    /v1/dash/{service}/{title}/manifest.mpd

Service and title are percent-encoded segments; a path of another shape is one of an unknown title. A steering manifest
is never refused; a playlist that is not registered is.
"""

from __future__ import annotations

import dataclasses
from array import array
from collections.abc import Callable, Sequence
from html import escape
from typing import Final
from urllib.parse import quote, unquote

from _fastpath.counters import Counters
from _fastpath.hashing import viewer_of
from _fastpath.steering_manifest import Manifest
from steering.decision.snapshot import Pick, Snapshot
from steering.errors import RequestError
from steering.model.service import Service, jitter_s
from steering.playback.answers import pathways
from steering.playback.answers import steering_manifests as manifests
from steering.playback.answers.steering_manifests import Hints
from steering.playback.client import Client, Trust, find_client
from steering.settings import Settings
from steering.state.playlists import BASE, PATHWAY, Playlist

MANIFESTS: Final = {"hls": "master.m3u8", "dash": "manifest.mpd"}
MEDIA_TYPES: Final = {"hls": "application/vnd.apple.mpegurl", "dash": "application/dash+xml"}
SIGNED: Final = ("", "path")  # only a token in the path covers the segments too

# Given service, host, the path that is covered and the client, returns what `{token}` stands for; None without a key.
Sign = Callable[[Service, str, str, bytes], str | None]
# Given service, session and client, returns the session's tag; empty without a key.
Tag = Callable[[str, str, bytes], str]
Headers = Sequence[tuple[bytes, bytes]]


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """A request: for whom, what, and what the player says. `name` is the file asked for, empty for steering."""

    protocol: str
    service: str
    title: str
    name: str
    hints: Hints
    client: Client


@dataclasses.dataclass(frozen=True, slots=True)
class Steered:
    """A steering manifest, and if the player is to leave what it plays from."""

    body: bytes
    moves: bool = False


def read_request(
    raw_path: bytes, query: bytes, peer: str | None, headers: Headers, trust: Trust, forwarded: str
) -> Asked:
    """Return what a request below `/v1/hls` or `/v1/dash` asks for. Raises nothing."""
    protocol, *segments = (unquote(part.decode("latin-1"), errors="replace") for part in raw_path.split(b"/")[2:])
    name = ""
    if len(segments) == 3 and segments[2] == MANIFESTS[protocol]:
        name = segments.pop()
    service, title = segments if len(segments) == 2 else (segments[0] if segments else "", "")
    hints = manifests.read_hints(query, protocol)
    try:
        client = find_client(peer, headers, trust, forwarded, hints.ip)
    except RequestError:
        hints = dataclasses.replace(hints, ip=None, odd=hints.odd + 1)
        client = find_client(peer, headers, trust, forwarded)
    return Asked(protocol, service, title, name, hints, client)


def steer(snapshot: Snapshot | None, asked: Asked, settings: Settings, counters: Counters | None = None) -> Steered:
    """Return the steering manifest for a request, the static one where nobody can be picked; and count it."""
    hints = asked.hints
    viewer = viewer_of(hints.session, asked.client.packed)
    rules = snapshot.rules if snapshot else {}
    service = rules.get(asked.service)
    picks: list[Pick] | None = None
    if snapshot and service:
        picks = pick(snapshot, service, asked, counters)
    if service is None or picks is None:
        service = service or rules.get(settings.default_service)
        return Steered(manifests.static_body(service, hints.pathways, viewer, asked.title))
    walked_out = len(picks) < pathways.most(service)
    found = pathways.order(service, picks, walked_out, hints.pathways, settings.steer_gain)
    if takes_clones(service, hints):
        found = pathways.with_clones(found, service, picks, hints.pathways, settings.steer_gain, hints.declared)
    body = manifests.steering_body(service, found, viewer, asked.title)
    return Steered(body, found.moves)


def compiled(snapshot: Snapshot, gain: float) -> list[Manifest]:
    """Return how the fast_path makes the same manifests as `steer`, for each service."""
    return [
        Manifest(
            snapshot.services[service.id],
            service.steer_ttl_s,
            jitter_s(service.steer_ttl_s, service.ttl_jitter),
            gain,
            pathways.most(service),
            [(pathway.id, bool(pathway.host)) for pathway in service.pathways],
            stands_of(snapshot, service) if service.pathways else None,
            bool(service.clones),
        )
        for service in snapshot.rules.values()
    ]


def stands_of(snapshot: Snapshot, service: Service) -> array[int]:
    """Return for each appliance of the fleet file the pathways that stand for it, a bit each."""
    found = array("I", bytes(4 * len(snapshot.fleet_file.slots)))
    ends = [*(first for first, *_ in snapshot.fleet_file.spans[1:]), len(found)]
    for (first, cluster, route_class), end in zip(snapshot.fleet_file.spans, ends, strict=False):
        bits = 0
        for place, pathway in enumerate(service.pathways):
            bits |= (route_class in pathway.classes or cluster in pathway.clusters) << place
        found[first:end] = array("I", [bits]) * (end - first)
    return found


def pick(snapshot: Snapshot, service: Service, asked: Asked, counters: Counters | None) -> list[Pick] | None:
    """Return whom the client is sent to, best first; None for what is no title."""
    try:
        return snapshot.picks(
            asked.client.packed,
            asked.title,
            service=service.id,
            session=asked.hints.session,
            n=pathways.most(service),
            family=asked.hints.family,
            counters=counters,
        )
    except RequestError:
        return None


def make_playlist(
    snapshot: Snapshot,
    asked: Asked,
    settings: Settings,
    sign: Sign | None,
    counters: Counters | None = None,
    tag: Tag | None = None,
) -> bytes:
    """Return the registered playlist of a title for one client. Raises RequestError 404 where there is none."""
    service = snapshot.rules.get(asked.service)
    found = None
    if service and snapshot.playlists and service.token in SIGNED and (sign or not service.token):
        found = snapshot.playlists.find(service.id, asked.title, asked.protocol)
    picks = pick(snapshot, service, asked, counters) if service and found else None
    if service is None or found is None or picks is None:
        raise RequestError.of_parameter(
            "title", asked.title, f"service {asked.service[:63]!r} has no {asked.protocol} playlist of it", 404
        )
    hosts = pathways.hosts(service, picks)
    declared = [(name, base_of(service, host, asked.title, asked.client.packed, sign)) for name, host in hosts]
    first = pathways.order(service, picks, len(picks) < pathways.most(service), (), 0.0).ids[0]
    digests: list[str] = []
    if takes_clones(service, asked.hints):
        digests = [pathways.digest_of(name, host) for name, host in hosts if host]
    url = steering_url(asked, settings, tag, digests)
    return filled(found, declared, first, url, settings.query_before_start).encode()


def takes_clones(service: Service, hints: Hints) -> bool:
    """Tell whether a player is offered appliances in the place of a declared pathway's host."""
    return bool(service.pathways and hints.player and hints.player in service.clones)


def base_of(service: Service, host: str | None, title: str, packed: bytes, sign: Sign | None) -> str:
    """Return the URL that a title's files lie below: at an appliance or, where host is None, at the fallback.

    It is the service's template as far as the title, which is taken for a folder. Who cannot sign a URL gives the
    fallback's.
    """
    template = service.url if host is not None else service.fallback
    base = template.partition("{title}")[0].replace("{host}", host or "") + quote(title, safe="") + "/"
    before, mark, path = base.partition("{token}")
    if not mark:
        return base
    token = sign(service, host or "", path, packed) if sign else None
    return base_of(service, None, title, packed, sign) if token is None else f"{before}{token}{path}"


def steering_url(asked: Asked, settings: Settings, tag: Tag | None = None, declared: Sequence[str] = ()) -> str:
    """Return where a player of this playlist asks for steering; empty where no public URL is known.

    What the player said for the playlist it cannot say again by itself, so it stands in the URL; and its session's tag,
    and what the playlist declares.
    """
    if not settings.public_url:
        return ""
    hints = asked.hints
    said = {
        "session": hints.session,
        "player": hints.player,
        "family": str(hints.family or ""),
        "declared": ",".join(declared),
    }
    if tag:
        said["tag"] = tag(asked.service, hints.session, asked.client.packed)
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in said.items() if value)
    path = f"/v1/{asked.protocol}/{quote(asked.service, safe='')}/{quote(asked.title, safe='')}"
    return f"{settings.public_url}{path}{'?' if query else ''}{query}"


def filled(
    found: Playlist, declared: Sequence[tuple[str, str]], first: str, steering_url: str, query_before_start: bool
) -> str:
    """Return a playlist with these pathways, ids and base URLs, of which the player begins with `first`."""
    if found.kind == "hls":
        steering = f'#EXT-X-CONTENT-STEERING:SERVER-URI="{steering_url}",PATHWAY-ID="{first}"\n' if steering_url else ""
        sets = (found.pathway.replace(PATHWAY, name).replace(BASE, base) for name, base in declared)
        return "".join((found.head, steering, *sets, found.tail))
    tag = f"{found.prefix}ContentSteering"
    before = str(query_before_start).lower()
    steering = (
        f'<{tag} defaultServiceLocation="{first}" queryBeforeStart="{before}">{escape(steering_url)}</{tag}>\n'
        if steering_url
        else ""
    )
    sets = (found.pathway.replace(PATHWAY, name).replace(BASE, escape(base)) for name, base in declared)
    return "".join((found.head, *sets, steering, found.tail))
