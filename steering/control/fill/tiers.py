"""Tiers: for a title that an appliance lacks, the sources that it may use now, or whom it waits for.

    peer (same cluster) ─> tier (same partner, then exchanges on the cluster's ranking) ─> origin

1. **Only a holder is a source**: an appliance that reports the whole, checked recipe. A source without it answers 404
   and fetches nothing. So bytes flow only from an earlier holder to a later one, and there is no cycle.
2. **One fetches, the others wait.** For a title that nobody in the cluster holds, the least loaded appliance of those
   that want it is named first filler (`first_fillers.py`). The same holds for the clusters of a partner, and for the
   exchanges. Partners wait for exchanges that want the title.
3. **Waits end.** A first filler that fetches is waited for, and its lease does not last for ever. If it failed, ran out
   or never began within the wait, the next one that asks takes its place; after the wait for the exchanges, the origin
   opens. Running leases at the origin and exchanges that hold the title are `origin_copies` at most, so a title leaves
   the origin again only after one of them was lost, or for a partner that the exchanges cannot reach.

Appliances also wait for a holder that is full. Pure: `Network` gives the facts, times are arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol

from steering.control.fill.failed_sources import ORIGIN, FailedSources
from steering.control.fill.first_fillers import NOBODY, FirstFillers
from steering.control.fill.leases import LEAST_MBPS, Budget, BudgetKind, Ledger, Tier, Title

RETRY_S: Final = (30.0, 300.0)  # the least and the most that an appliance waits before it asks again
BUSY_S: Final = 60.0
CANDIDATES: Final = 4  # sources of a route that a lease is tried with


class Place(NamedTuple):
    """Where an appliance stands. `group` is its partner, empty for the operator's own at exchanges."""

    cluster: int
    site: str
    group: str


class Network(Protocol):
    """The facts about appliances (by slot), clusters (by number) and holdings."""

    def name(self, slot: int) -> str:
        """Return the id of an appliance."""

    def place(self, slot: int) -> Place:
        """Return where an appliance stands."""

    def members(self, cluster: int) -> Sequence[int]:
        """Return the appliances of a cluster."""

    def siblings(self, cluster: int) -> Sequence[int]:
        """Return the other clusters of its partner, or the other exchanges for one of them; best first."""

    def exchanges(self, cluster: int) -> Sequence[int]:
        """Return the exchange clusters on a partner cluster's ranking, best first; none for an exchange cluster."""

    def other_exchanges(self, cluster: int) -> Sequence[int]:
        """Return the exchange clusters that are not on a partner cluster's ranking; none for an exchange cluster."""

    def holders(self, cluster: int, title: Title) -> Sequence[int]:
        """Return the appliances of a cluster that report the whole title in this recipe."""

    def is_up(self, slot: int) -> bool:
        """Return whether an appliance is healthy, not stale, and not drained."""

    def wants(self, slot: int, title: Title) -> bool:
        """Return whether a title in this recipe is in an appliance's fill manifest."""

    def rate(self, slot: int, urgent: bool, now: float) -> tuple[int, float]:
        """Return the Mbit/s at which an appliance may fill now, and until when."""

    def limit(self, budget: Budget, now: float) -> int | None:
        """Return the limit of a budget: Mbit/s, or copies; None without one. A full source has 0."""


class Wanted(NamedTuple):
    """A title that an appliance lacks."""

    title: Title
    bytes: int
    urgent: bool = False


class Later(NamedTuple):
    """After how many seconds an appliance should ask again for a title, and why."""

    retry_s: int
    why: str


class Route(NamedTuple):
    """Sources with room, best first; none at the origin."""

    tier: Tier
    sources: tuple[int, ...]


class Tiers:
    """The decision for one appliance and title; it names first fillers on its way."""

    def __init__(
        self,
        network: Network,
        ledger: Ledger,
        in_clusters: FirstFillers,
        in_groups: FirstFillers,
        failed_sources: FailedSources,
    ) -> None:
        self.network, self.ledger = network, ledger
        self.in_clusters, self.in_groups, self.failed_sources = in_clusters, in_groups, failed_sources

    def route(self, slot: int, wanted: Wanted, now: float) -> Route | Later:
        """Return the sources that an appliance may use for a title now, or whom it waits for."""
        title, (cluster, _, group) = wanted.title, self.network.place(slot)
        free, busy = self.holders(slot, title, (cluster,), now)
        if free:
            self.in_clusters.drop(title, cluster)
            return Route(Tier.peer, free)
        if waits := self.wait_in_cluster(slot, wanted, busy, now):
            return waits
        free, busy = self.holders(slot, title, self.network.siblings(cluster), now)
        if free:
            self.in_groups.drop(title, group)
            return Route(Tier.tier, free)
        return self.wait_in_group(slot, wanted, busy, now) or self.route_outside(slot, wanted, now)

    def route_outside(self, slot: int, wanted: Wanted, now: float) -> Route | Later:
        """Return the route of a first filler whose group has no source: exchanges for a partner, then the origin."""
        title, (cluster, _, group) = wanted.title, self.network.place(slot)
        exchanges = self.network.exchanges(cluster)
        free, busy = self.holders(slot, title, exchanges, now)
        if free:
            return Route(Tier.tier, free)
        if group and (waits := self.wait_for_exchanges(title, group, exchanges, busy, now)):
            return waits
        others = self.network.other_exchanges(cluster)
        free, other_busy = self.holders(slot, title, others, now)
        if free:
            return Route(Tier.tier, free)
        return self.route_to_origin(slot, title, len(busy) + len(other_busy), now)

    def wait_for_exchanges(
        self, title: Title, group: str, exchanges: Sequence[int], busy: Sequence[int], now: float
    ) -> Later | None:
        """Return the wait of a partner for exchanges that fetch a title, or are going to; None once that is over."""
        filler = self.in_groups.get(title, group)
        left_s = self.in_groups.wait_s - (now - filler.opened_at if filler else 0.0)
        if busy:
            return wait(BUSY_S, f"{self.network.name(busy[0])} has it and is busy") if left_s > 0 else None
        upstream = self.in_groups.get(title, "")
        fetching_s = self.filling_left_s(upstream.member, title) if upstream else 0.0
        if upstream and fetching_s:
            return wait(fetching_s, f"an exchange fetches it first: {self.name_in(upstream.member, title)}")
        coming = next((other for other in exchanges if self.is_coming(other, title)), None) if left_s > 0 else None
        return (
            wait(left_s, f"an exchange fetches it first: {self.name_in(coming, title)}") if coming is not None else None
        )

    def route_to_origin(self, slot: int, title: Title, copies: int, now: float) -> Route | Later:
        """Return the origin, unless it is off, or enough copies of it are on their way or at exchanges in reach."""
        place, budget = self.network.place(slot), Budget(BudgetKind.copies, title)
        if self.failed_sources.is_off(title, ORIGIN, slot, place.group, now):
            return wait(self.failed_sources.retry_at(title) - now, "the origin failed")
        if not place.group:
            copies += len(self.network.holders(place.cluster, title))
            siblings = self.network.siblings(place.cluster)
            copies += sum(len(self.usable(slot, title, other, now)) for other in siblings)
        if self.ledger.room(budget, now) - copies < 1:
            return wait(BUSY_S, "as many copies as may be leave the origin, or have")
        return Route(Tier.origin, ())

    # ---- holders

    def holders(
        self, slot: int, title: Title, clusters: Iterable[int], now: float
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the holders with room in the first clusters that have some, most room first, and those without."""
        free: list[int] = []
        busy: list[int] = []
        for cluster in clusters:
            rooms = {
                other: self.ledger.room(Budget(BudgetKind.source, other), now)
                for other in self.usable(slot, title, cluster, now)
            }
            free += sorted(
                (other for other, room in rooms.items() if room >= LEAST_MBPS), key=lambda other: (-rooms[other], other)
            )
            busy += [other for other, room in rooms.items() if room < LEAST_MBPS]
            if len(free) >= CANDIDATES:
                break
        return tuple(free[:CANDIDATES]), tuple(busy)

    def usable(self, slot: int, title: Title, cluster: int, now: float) -> list[int]:
        """Return the holders of a cluster that are up, and did not fail for this appliance."""
        holders = self.network.holders(cluster, title)
        if not holders:
            return []
        group = self.network.place(slot).group
        return [
            other
            for other in holders
            if other != slot
            and self.network.is_up(other)
            and not self.failed_sources.is_off(title, other, slot, group, now)
        ]

    # ---- waiting

    def wait_in_cluster(self, slot: int, wanted: Wanted, busy: Sequence[int], now: float) -> Later | None:
        """Return the wait for the cluster's first filler; None for that one itself."""
        title, cluster = wanted.title, self.network.place(slot).cluster
        filler = self.in_clusters.get(title, cluster)
        if filler is None:
            member = busy[0] if busy else self.least_loaded(slot, wanted, cluster, now)
            filler = self.in_clusters.name(title, cluster, member, wanted.bytes, now)
        if filler.member == slot:
            return None
        left_s = self.lease_left_s(filler.member, title) or self.in_clusters.wait_left_s(filler, now)
        if not left_s:
            self.in_clusters.name(title, cluster, slot, wanted.bytes, now)
            return None
        if filler.member in busy:
            return wait(min(left_s, BUSY_S), f"{self.network.name(filler.member)} has it and is busy")
        return wait(left_s, f"{self.network.name(filler.member)} fetches it first")

    def wait_in_group(self, slot: int, wanted: Wanted, busy: Sequence[int], now: float) -> Later | None:
        """Return the wait for the group's first filler; None for an appliance of that cluster."""
        title, (cluster, _, group) = wanted.title, self.network.place(slot)
        filler = self.in_groups.get(title, group)
        if filler is None:
            member = self.network.place(busy[0]).cluster if busy else self.least_loaded_cluster(cluster, title)
            filler = self.in_groups.name(title, group, member, wanted.bytes, now)
        if filler.member == cluster:
            return None
        left_s = self.filling_left_s(filler.member, title) or self.in_groups.wait_left_s(filler, now)
        if not left_s:
            self.in_groups.name(title, group, cluster, wanted.bytes, now)
            return None
        if busy:
            return wait(min(left_s, BUSY_S), f"{self.network.name(busy[0])} has it and is busy")
        return wait(left_s, f"{self.name_in(filler.member, title)} fetches it first")

    def lease_left_s(self, slot: int, title: Title) -> float:
        """Return the seconds that an appliance with a lease for a title needs at most; 0 without a lease."""
        lease = self.ledger.lease(slot, title) if slot != NOBODY else None
        return max((lease.bytes - lease.bytes_done) * 8 / (lease.mbps * 1e6), RETRY_S[0]) if lease else 0.0

    def filling_left_s(self, cluster: int, title: Title) -> float:
        """Return the same for the first filler of a cluster."""
        filler = self.in_clusters.get(title, cluster) if cluster != NOBODY else None
        return self.lease_left_s(filler.member, title) if filler else 0.0

    def least_loaded(self, slot: int, wanted: Wanted, cluster: int, now: float) -> int:
        """Return the appliance of a cluster that is to fetch a title: the one with least to do that wants it."""
        assigned = self.in_clusters.assigned
        rates = {slot: self.network.rate(slot, wanted.urgent, now)[0]}
        for other in self.lacking(cluster, wanted.title):
            rates[other] = self.network.rate(other, wanted.urgent, now)[0]
        return min(
            (assigned[other] / max(rate, 1), other) for other, rate in rates.items() if rate >= 1 or other == slot
        )[1]

    def least_loaded_cluster(self, cluster: int, title: Title) -> int:
        """Return the cluster of a group that is to fetch a title."""
        others = [other for other in self.network.siblings(cluster) if self.is_coming(other, title)]
        return min([cluster, *others], key=lambda other: (self.in_groups.assigned[other], other))

    def is_coming(self, cluster: int, title: Title) -> bool:
        """Return whether an appliance of a cluster is to fetch a title, and can."""
        return next(self.lacking(cluster, title), None) is not None

    def lacking(self, cluster: int, title: Title) -> Iterator[int]:
        """Yield the appliances of a cluster that are up, and want a title that they do not report."""
        holders = self.network.holders(cluster, title)
        for slot in self.network.members(cluster):
            if slot not in holders and self.network.wants(slot, title) and self.network.is_up(slot):
                yield slot

    def name_in(self, cluster: int, title: Title) -> str:
        """Return the name of a cluster's first filler, or of its first appliance while there is none."""
        filler = self.in_clusters.get(title, cluster)
        slot = filler.member if filler and filler.member != NOBODY else self.network.members(cluster)[0]
        return self.network.name(slot)


def wait(seconds: float, why: str) -> Later:
    """Return when to ask again: after a wait, within sensible limits."""
    return Later(round(min(max(seconds, RETRY_S[0]), RETRY_S[1])), why)
