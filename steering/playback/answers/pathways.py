"""The pathways that a player should use, best first. Pure: picks in, ids out.

A *pathway* (HLS) or *service location* (DASH) is one way to the content that a playlist declares. A service names them
in one of two ways:

    mapped       the service lists its pathways; each stands for appliances of some classes or clusters, or is the
                 host of another network. Playlists may come from anywhere.
    appliances   it lists none: our own playlists declare the client's best appliances by their ids, and `cdn`, the
                 service's fallback.

The order is that of the ranking, and within a rank that of the pick. A player that already plays from a pathway of the
best rank keeps it unless another is better by the share `gain`: a small change moves no player, and an appliance that
recovers gets its viewers back one after another.

Without picks, a player keeps its pathway where that is only full: moving all viewers of full appliances at once helps
nobody. Without a decision (an unknown title, overload) it keeps any that is not known to be unfit. Both then list what
the player's playlist declared, because a list of one turns off a player's own failover.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
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


def order(
    service: Service,
    picks: Sequence[Pick],
    walked_out: bool,
    current: Sequence[str],
    gain: float,
    full: Sequence[Pick] = (),
    declared: Sequence[str] = (),
    failed: Collection[str] = (),
) -> Order:
    """Return the pathways of a service for these picks, best first.

    With `walked_out` there is no other appliance to pick; `full` are those passed over for their load alone. `current`
    are the pathways that the player reports to use, `declared` those that its playlist declares; they may be any text.
    Those that `failed` come last.
    """
    usable = [name for name in current if name not in failed]
    if service.pathways:
        names = mapped_order(service.pathways, picks, walked_out, usable, gain)
    else:
        ids = with_sticky([(pick.appliance, pick) for pick in picks], usable, gain)
        names = (*ids, FALLBACK, *(() if ids else (*current, *declared)))
    if not picks:
        stays = (name for name in usable if any(name in names_of(service, pick) for pick in full))
        names = (*itertools.islice(stays, 1), *names)
    ordered = failed_last(names, failed)
    return Order(ordered, moves=bool(current) and ordered[0] not in current)


def failed_last(names: Iterable[str], failed: Collection[str]) -> tuple[str, ...]:
    """Return names, each once, those that failed behind the others."""
    return tuple(sorted(dict.fromkeys(names), key=lambda name: name in failed))


def names_of(service: Service, pick: Pick) -> list[str]:
    """Return the ids of the pathways that stand for an appliance."""
    if not service.pathways:
        return [pick.appliance]
    return [pathway.id for pathway in service.pathways if stands_for(pathway, pick)]


def mapped_order(
    pathways: Sequence[Pathway], picks: Sequence[Pick], walked_out: bool, current: Collection[str], gain: float
) -> tuple[str, ...]:
    """Return all declared pathways: by the best pick of each, then those that other appliances may still stand for.

    Other networks come next. With `walked_out` they come before the pathways without a pick, which cannot serve.
    """
    best = [(pathway.id, pick) for pathway in pathways if (pick := best_of(pathway, picks)) is not None]
    number = {id(pick): i for i, pick in enumerate(picks)}
    best.sort(key=lambda item: (item[1].rank, number[id(item[1])]))
    used = with_sticky(best, current, gain)
    others = [pathway.id for pathway in pathways if pathway.host]
    unused = [pathway.id for pathway in pathways if not pathway.host and pathway.id not in used]
    return (*used, *others, *unused) if walked_out else (*used, *unused, *others)


def best_of(pathway: Pathway, picks: Sequence[Pick]) -> Pick | None:
    """Return the best pick that a pathway stands for, the first of those of the lowest rank."""
    fitting = [pick for pick in picks if stands_for(pathway, pick)]
    return min(fitting, key=lambda pick: pick.rank) if fitting else None


def stands_for(pathway: Pathway, pick: Pick) -> bool:
    """Return whether a pathway stands for an appliance."""
    return pick.route_class in pathway.classes or pick.cluster in pathway.clusters


def with_sticky(best: Sequence[tuple[str, Pick]], current: Collection[str], gain: float) -> list[str]:
    """Return ids in their order, with the one that the player uses first unless the best is better by `gain`."""
    ids = [name for name, _ in best]
    for name, pick in best:
        if name in current:
            first = best[0][1]
            if pick.rank == first.rank and pick.draw <= first.draw * (1 + gain):
                ids.remove(name)
                ids.insert(0, name)
            break
    return ids


def with_clones(
    ordered: Order,
    service: Service,
    picks: Sequence[Pick],
    current: Collection[str],
    gain: float,
    declared: Collection[str] = (),
) -> Order:
    """Return an order of mapped pathways with a clone before them for each of the first `service.n` picks.

    Only for players that take clones. A pick that no declared pathway stands for gets none. The id of a clone is made
    from what it stands for, because players keep the first definition of an id. What the player's playlist has
    `declared` (digests) needs no clone: a clone would make the player start again for the same URLs.
    """
    clones: dict[str, Clone] = {}
    best: list[tuple[str, Pick]] = []
    for pick in picks:
        base = next((pathway.id for pathway in service.pathways if stands_for(pathway, pick)), None)
        if base is None:
            continue
        name, digest = base, digest_of(base, pick.host)
        if digest not in declared:
            name = f"{pick.appliance}.{digest}"
            clones[name] = Clone(name, base, pick.host)
        best.append((name, pick))
    offered = with_sticky(best, current, gain)[: service.n]
    ids = tuple(dict.fromkeys((*offered, *ordered.ids)))
    cloned = tuple(clones[name] for name in offered if name in clones)
    return Order(ids, cloned, bool(current) and ids[0] not in current)


def digest_of(pathway: str, host: str) -> str:
    """Return the digest of a pathway with this host, as the ids of clones and the URLs of our playlists have it."""
    return hashlib.sha256(f"{pathway}\n{host}".encode()).hexdigest()[:DIGEST]


def hosts(service: Service, picks: Sequence[Pick]) -> list[tuple[str, str | None]]:
    """Return the pathways that one of our playlists declares for a client, best first, each with its host.

    None for a host is the service's fallback, which serves a declared pathway that has no pick.
    """
    if not service.pathways:
        own = ((pick.appliance, pick.host) for pick in picks[: service.n] if pick.appliance != FALLBACK)
        return [*own, (FALLBACK, None)]
    best = {pathway.id: best_of(pathway, picks) for pathway in service.pathways}
    declared = {pathway.id: pathway for pathway in service.pathways}
    hosts_of: list[tuple[str, str | None]] = []
    for name in mapped_order(service.pathways, picks, walked_out=True, current=(), gain=0.0):
        pick = best[name]
        hosts_of.append((name, declared[name].host or (pick.host if pick else None)))
    return hosts_of


def order_without_picks(
    service: Service | None, current: Sequence[str] = (), declared: Sequence[str] = (), unfit: Collection[str] = ()
) -> tuple[str, ...]:
    """Return the order where nothing is decided: the current pathway, what is declared, the fallback.

    `unfit` are the pathways that are known to be unfit; they come last. Without a service, or where it lists no
    pathways, the playlist's are those that the player brings.
    """
    known = [pathway.id for pathway in service.pathways] if service else []
    return failed_last((*current, *(known or (*declared, FALLBACK))), unfit)
