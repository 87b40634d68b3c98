"""The renderer of playlists: a title's registered playlist, filled in for one client. From memory only."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from html import escape
from typing import Final
from urllib.parse import quote

from _fastpath.counters import Counters
from steering.decision.snapshot import Pick, Snapshot
from steering.errors import RequestError
from steering.model.service import Service
from steering.playback.answers import pathways
from steering.playback.answers.players import Asked, pick, takes_clones
from steering.settings import Settings
from steering.state.playlists import BASE, PATHWAY, Playlist

MEDIA_TYPES: Final = {"hls": "application/vnd.apple.mpegurl", "dash": "application/dash+xml"}
FEWEST_FOR_OUTSIDER: Final = 2  # failures that show a partner to be lost
SIGNED: Final = ("", "path")  # only a token in the path covers the segments too

# Given service, host, the path that is covered and the client, returns the value of `{token}`; None without a key.
Sign = Callable[[Service, str, str, bytes], str | None]
# Given service, session and client, returns the session's tag; empty without a key.
Tag = Callable[[str, str, bytes], str]


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
    registered = None
    if service and snapshot.playlists and service.token in SIGNED and (sign or not service.token):
        registered = snapshot.playlists.find(service.id, asked.title, asked.protocol)
    picks = pick(snapshot, service, asked, counters) if service and registered else None
    if service is None or registered is None or picks is None:
        raise RequestError.of_parameter(
            "title", asked.title, f"service {asked.service[:63]!r} has no {asked.protocol} playlist of it", 404
        )
    hosts = pathways.hosts(service, picks, outsider(snapshot, service, asked, picks))
    declared = [(name, base_of(service, host, asked.title, asked.client.packed, sign)) for name, host in hosts]
    first = hosts[0][0]
    brought: list[str] = []
    if not service.pathways:
        brought = [name for name, host in hosts if host]
    elif takes_clones(service, asked.hints):
        brought = [pathways.digest_of(name, host) for name, host in hosts if host]
    url = steering_url(asked, settings, tag, brought)
    return filled(registered, declared, first, url, settings.query_before_start).encode()


def outsider(snapshot: Snapshot, service: Service, asked: Asked, picks: list[Pick]) -> Pick | None:
    """Return an appliance to declare besides those of one partner, one that is not; None if none can serve.

    A player keeps what its playlist declares, so it needs one that still serves when the partner is lost. That one is
    picked as for a player at which all the others have failed.
    """
    declared = pathways.declared_of(service, picks)
    partners = {pick.partner for pick in declared}
    if service.pathways or len(declared) < FEWEST_FOR_OUTSIDER or len(partners) > 1 or "" in partners:
        return None
    failed = (*(pick.appliance for pick in declared), *asked.hints.failed)
    others = pick(snapshot, service, dataclasses.replace(asked, hints=asked.hints._replace(failed=failed)), None)
    return next((other for other in others or () if other.partner not in partners), None)


def base_of(service: Service, host: str | None, title: str, packed: bytes, sign: Sign | None) -> str:
    """Return the URL that a title's files lie below: at an appliance or, where host is None, at the fallback.

    It is the service's template as far as the title, which counts as a folder. Where there is no key to sign with, it
    is the fallback's.
    """
    template = service.url if host is not None else service.fallback
    base = template.partition("{title}")[0].replace("{host}", host or "") + quote(title, safe="") + "/"
    before, mark, path = base.partition("{token}")
    if not mark:
        return base
    token = sign(service, host or "", path, packed) if sign else None
    return base_of(service, None, title, packed, sign) if token is None else f"{before}{token}{path}"


def steering_url(asked: Asked, settings: Settings, tag: Tag | None = None, declared: Sequence[str] = ()) -> str:
    """Return the URL at which a player of this playlist asks for steering; empty where no public URL is known.

    It carries the hints of this request, which players do not repeat by themselves, the session's tag, and what the
    playlist declares: appliances by their ids, so that a static body can name them, or digests of mapped pathways.
    """
    if not settings.public_url:
        return ""
    hints = asked.hints
    parameters = {
        "session": hints.session,
        "player": hints.player,
        "family": str(hints.family or ""),
        "declared": ",".join(declared),
    }
    if tag:
        parameters["tag"] = tag(asked.service, hints.session, asked.client.packed)
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters.items() if value)
    path = f"/v1/{asked.protocol}/{quote(asked.service, safe='')}/{quote(asked.title, safe='')}"
    return f"{settings.public_url}{path}{'?' if query else ''}{query}"


def filled(
    registered: Playlist, declared: Sequence[tuple[str, str]], first: str, steering_url: str, query_before_start: bool
) -> str:
    """Return a playlist that declares these pathways, ids and base URLs; the player begins with `first`."""
    if registered.kind == "hls":
        steering = f'#EXT-X-CONTENT-STEERING:SERVER-URI="{steering_url}",PATHWAY-ID="{first}"\n' if steering_url else ""
        sets = (registered.pathway.replace(PATHWAY, name).replace(BASE, base) for name, base in declared)
        base_of_first = next((base for name, base in declared if name == first), declared[-1][1])
        return "".join((registered.head.replace(BASE, base_of_first), steering, *sets, registered.tail))
    tag = f"{registered.prefix}ContentSteering"
    before = str(query_before_start).lower()
    steering = (
        f'<{tag} defaultServiceLocation="{first}" queryBeforeStart="{before}">{escape(steering_url)}</{tag}>\n'
        if steering_url
        else ""
    )
    sets = (registered.pathway.replace(PATHWAY, name).replace(BASE, escape(base)) for name, base in declared)
    return "".join((registered.head, *sets, steering, registered.tail))
