"""The pathways that a player should use, best first. Pure: picks in, ids out.

A *pathway* (HLS) or *service location* (DASH) is one way to the content that a playlist declares. A service names them
in one of two ways:

    mapped       the service lists its pathways; each stands for appliances of some classes or clusters, or is the
                 host of another network. Playlists may come from anywhere.
    appliances   it lists none: our own playlists declare the client's best appliances by their ids, and `cdn`, the
                 service's fallback.

Which of them a player should use is decided in `_fastpath/steering_manifest.pyx`; here stand what a playlist declares,
the clones, and the order where nothing is decided (an unknown title, overload): a player keeps any pathway that is not
known to be unfit, and gets what its playlist declared, because a list of one turns off a player's own failover.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from steering.decision.snapshot import Pick
from steering.model.service import Pathway, Service

FALLBACK: Final = "cdn"
MOST: Final = 8
DIGEST: Final = 8  # hexadecimal digits: a clone's id is another where what it stands for is


@dataclasses.dataclass(frozen=True, slots=True)
class Clone:
    """A pathway that no playlist declares: `base` with another host."""

    id: str
    base: str
    host: str


@dataclasses.dataclass(frozen=True, slots=True)
class Order:
    """Pathway ids, best first, each once; the clones among them; and whether the player is to leave its pathway."""

    ids: tuple[str, ...]
    clones: tuple[Clone, ...] = ()
    moves: bool = False


def most(service: Service) -> int:
    """Return how many appliances to pick: twice as many as a playlist declares, or the most for mapped pathways.

    So the declared ones are still ranked when others have passed them since.
    """
    return MOST if service.pathways else min(2 * service.n, MOST)


def failed_last(names: Iterable[str], failed: Collection[str]) -> tuple[str, ...]:
    """Return names, each once, those that failed behind the others."""
    return tuple(sorted(dict.fromkeys(names), key=lambda name: name in failed))


def best_of(pathway: Pathway, picks: Sequence[Pick]) -> Pick | None:
    """Return the best pick that a pathway stands for, the first of those of the lowest rank."""
    fitting = [pick for pick in picks if stands_for(pathway, pick)]
    return min(fitting, key=lambda pick: pick.rank) if fitting else None


def stands_for(pathway: Pathway, pick: Pick) -> bool:
    """Return whether a pathway stands for an appliance."""
    return pick.route_class in pathway.classes or pick.cluster in pathway.clusters


def appliances_of(
    service: Service, near: Sequence[Pick], current: Sequence[str], declared: Collection[str]
) -> list[str]:
    """Return what stands for each pathway that a player with clones uses: an appliance's id where it is a clone's, or
    that of a pathway which the player's playlist has `declared` (digests) for this appliance.

    A mapped pathway whose appliance is not near any more is none; the others are as they are.
    """
    names = {pathway.id: "" for pathway in service.pathways if not pathway.host}
    for pick in reversed(near):
        if base := base_of(service, pick):
            digest = digest_of(base, pick.host)
            names[base if digest in declared else f"{pick.appliance}.{digest}"] = pick.appliance
    return [names.get(name, name) for name in current]


def with_clones(
    ids: Sequence[str],
    service: Service,
    picks: Sequence[Pick],
    current: Collection[str],
    stays: str | None,
    declared: Collection[str] = (),
) -> Order:
    """Return an order with a clone before the mapped pathways for each of the first `service.n` picks.

    Only for players that take clones. A pick that no declared pathway stands for gets none. The id of a clone is made
    from what it stands for, because players keep the first definition of an id. What the player's playlist has
    `declared` (digests) needs no clone: a clone would make the player start again for the same URLs. `stays` is the
    one of `current` that the player keeps.
    """
    clones: dict[str, Clone] = {}
    best: list[str] = []
    for pick in picks:
        if base := base_of(service, pick):
            name, digest = base, digest_of(base, pick.host)
            if digest not in declared:
                name = f"{pick.appliance}.{digest}"
                clones[name] = Clone(name, base, pick.host)
            best.append(name)
    if stays is not None:
        best = [stays, *(name for name in best if name != stays)]
    offered = best[: service.n]
    mapped = [name for name in ids if any(name == pathway.id for pathway in service.pathways)]
    names = tuple(dict.fromkeys((*offered, *mapped)))
    cloned = tuple(clones[name] for name in offered if name in clones)
    return Order(names, cloned, bool(current) and names[0] not in current)


def base_of(service: Service, pick: Pick) -> str | None:
    """Return the first pathway that stands for an appliance."""
    return next((pathway.id for pathway in service.pathways if stands_for(pathway, pick)), None)


def digest_of(pathway: str, host: str) -> str:
    """Return the digest of a pathway with this host, as the ids of clones and the URLs of our playlists have it."""
    return hashlib.sha256(f"{pathway}\n{host}".encode()).hexdigest()[:DIGEST]


def appliance_of_clone(name: str) -> str:
    """Return the appliance that a clone's id names, empty if it is no clone's."""
    appliance, dot, digest = name.rpartition(".")
    return appliance if dot and len(digest) == DIGEST else ""


def declared_of(service: Service, picks: Sequence[Pick]) -> list[Pick]:
    """Return the picks that a playlist declares: the best `n`; of two, the second is at another site if it can be."""
    others = [pick for pick in picks[1:] if pick.site != picks[0].site] if service.n == 2 else []
    return [picks[0], others[0]] if others else list(picks[: service.n])


def hosts(service: Service, picks: Sequence[Pick], outsider: Pick | None = None) -> list[tuple[str, str | None]]:
    """Return the pathways that one of our playlists declares for a client, best first, each with its host.

    `outsider` is declared besides the best `n`. Mapped pathways come by their best picks, then those of other networks.
    None for a host is the service's fallback, which serves a declared pathway that has no pick.
    """
    if not service.pathways:
        declared = (*declared_of(service, picks), *([outsider] if outsider else []))
        own = ((pick.appliance, pick.host) for pick in declared if pick.appliance != FALLBACK)
        return [*own, (FALLBACK, None)]
    best = {pathway.id: best_of(pathway, picks) for pathway in service.pathways}
    place = {id(pick): (pick.rank, number) for number, pick in enumerate(picks)}
    last = len(picks)

    def place_of(pathway: Pathway) -> tuple[bool, bool, int, int]:
        pick = best[pathway.id]
        return pick is None, not pathway.host, *(place[id(pick)] if pick else (0, last))

    return [
        (pathway.id, pathway.host or (pick.host if (pick := best[pathway.id]) else None))
        for pathway in sorted(service.pathways, key=place_of)
    ]


def order_without_picks(
    service: Service | None, current: Sequence[str] = (), declared: Sequence[str] = (), unfit: Collection[str] = ()
) -> tuple[str, ...]:
    """Return the order where nothing is decided: the current pathway, what is declared, the fallback.

    `unfit` are the pathways that are known to be unfit; they come last. Without a service, or where it lists no
    pathways, the playlist's are those that the player brings.
    """
    known = [pathway.id for pathway in service.pathways] if service else []
    return failed_last((*current, *(known or (*declared, FALLBACK))), unfit)
