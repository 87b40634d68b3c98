"""Sources: the leases that an appliance gets for the titles that it lacks, each with sources in order.

    ask ─> a route for each title (`tiers.py`) ─> a lease within all budgets (`leases.py`) ─> progress, done or failed

A lease names one source or two, and its rate is charged to both, so that the appliance may go on with the second one.
The second one is left out where its budget has no room for the rate. What crosses an uplink is charged to the site and
the partner that it enters; what a peer or a cluster of the same site sends is not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Final

from steering.control.fill.failed_sources import ORIGIN, OWN_FAULTS, FailedSources, Failure
from steering.control.fill.first_fillers import FirstFillers
from steering.control.fill.leases import MOST_BY_APPLIANCE, Budget, BudgetKind, Lease, Ledger, Request, Tier, Title
from steering.control.fill.tiers import BUSY_S, Later, Network, Route, Tiers, Wanted, wait

MOST_IN_CLUSTERS: Final = 300_000
MOST_IN_GROUPS: Final = 100_000
IN_TURN: Final = 50
TURN_S: Final = 60.0
KEPT: Final = 4  # times a wait: for so long an unfinished first filler is kept


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """The answer to an appliance: leases, and the titles without one."""

    leases: list[Lease] = dataclasses.field(default_factory=list)
    later: dict[Title, Later] = dataclasses.field(default_factory=dict)
    refused: dict[Title, str] = dataclasses.field(default_factory=dict)


class Sources:
    """Leases, first fillers and failed sources of the whole fleet. Not thread-safe."""

    def __init__(self, network: Network, *, ttl_s: float = 300, peer_s: float = 900, tier_s: float = 1800) -> None:
        self.network = network
        self.ledger = Ledger(network.limit, ttl_s)
        self.in_clusters = FirstFillers(peer_s, MOST_IN_CLUSTERS)
        self.in_groups = FirstFillers(tier_s, MOST_IN_GROUPS)
        self.failed_sources = FailedSources()
        self.tiers = Tiers(network, self.ledger, self.in_clusters, self.in_groups, self.failed_sources)

    def use(self, network: Network) -> None:
        """Use another fleet, plan or table; leases and waits stay."""
        self.network = self.tiers.network = network
        self.ledger.limit_of = network.limit

    # ---- what appliances report

    def tick(self, now: float) -> None:
        """End the leases that ran out, and forget old waits. Call it before anything else, and every few seconds."""
        for lease in self.ledger.expire(now):
            self.lose(lease, now)
        self.in_clusters.forget(now, KEPT, lambda title, slot: self.tiers.lease_left_s(slot, title) > 0)
        self.in_groups.forget(now, KEPT, lambda title, cluster: self.tiers.filling_left_s(cluster, title) > 0)

    def lose(self, lease: Lease, now: float) -> None:
        """Let the next one take the place of a first filler whose lease ended without the title."""
        place = self.network.place(lease.slot)
        if lease.tier is not Tier.peer:
            self.in_clusters.fail(lease.title, place.cluster, lease.slot, now)
            self.in_groups.fail(lease.title, place.group, place.cluster, now)
        if lease.tier is Tier.origin:
            self.failed_sources.add(lease.title, ORIGIN, Failure(lease.slot, place.group, now, "lost"))

    def progress(self, slot: int, title: Title, bytes_done: int, now: float) -> None:
        """Renew the lease of a title that an appliance is fetching."""
        if lease := self.ledger.lease(slot, title):
            self.ledger.progress(lease, bytes_done, now)

    def done(self, slot: int, title: Title, now: float) -> None:
        """End the lease of a title that an appliance has; others wait until its holdings say so too."""
        lease = self.ledger.end(slot, title)
        place = self.network.place(slot)
        self.in_clusters.finish(title, place.cluster, slot, now)
        if lease and lease.tier is not Tier.peer:
            self.in_groups.finish(title, place.group, place.cluster, now)
        if lease and lease.tier is Tier.origin:
            self.failed_sources.clear(title, ORIGIN)

    def failed(self, slot: int, title: Title, source: int, why: str, now: float) -> None:
        """Use a report that a source failed; the lease goes on while it names another source."""
        lease = self.ledger.lease(slot, title)
        is_named = lease is not None and source in (lease.sources or (ORIGIN,))
        group = self.network.place(slot).group
        if is_named and source != ORIGIN and why not in OWN_FAULTS:
            self.failed_sources.add(title, source, Failure(slot, group, now, why))
        if lease and (why in OWN_FAULTS or not any(self.is_good(slot, title, other, now) for other in lease.sources)):
            self.ledger.end(slot, title)
            self.lose(lease, now)

    # ---- what appliances ask for

    def ask(self, slot: int, wanted: Iterable[Wanted], most: int, now: float) -> Answer:
        """Return leases for at most `most` of the wanted titles, the first ones first.

        The appliance's rate is shared evenly by the new leases. Titles beyond them are for later, and so are those
        beyond the ones that `in_turn` has.
        """
        self.tick(now)
        answer = Answer()
        routes: dict[Wanted, Route] = {}
        distinct = {one.title: one for one in wanted}
        for title in distinct:
            if not self.network.wants(slot, title):
                answer.refused[title] = "not in your fill manifest"
            elif lease := self.renewed(slot, title, now):
                answer.leases.append(lease)
        unanswered = distinct.keys() - answer.refused.keys() - {lease.title for lease in answer.leases}
        left = min(most - len(answer.leases), MOST_BY_APPLIANCE - self.ledger.count(slot))
        rows = [one for title, one in distinct.items() if title in unanswered]
        answer.later.update(dict.fromkeys([one.title for one in rows], wait(BUSY_S, "other titles come first")))
        for one in in_turn(rows, now):
            title = one.title
            rate, until = self.network.rate(slot, one.urgent, now)
            if rate < 1:
                answer.later[title] = wait(until - now, "your fill window is closed")
            elif len(routes) >= left:
                break
            elif isinstance(route := self.tiers.route(slot, one, now), Route):
                routes[one] = route
            else:
                answer.later[title] = route
        for number, (one, route) in enumerate(routes.items()):
            granted = self.grant(slot, one, route, len(routes) - number, now)
            if isinstance(granted, Lease):
                answer.leases.append(granted)
                del answer.later[one.title]
            else:
                answer.later[one.title] = granted
        return answer

    def renewed(self, slot: int, title: Title, now: float) -> Lease | None:
        """Return the lease that an appliance has for a title, renewed; end it if a source is no longer good."""
        lease = self.ledger.lease(slot, title)
        if lease is None:
            return None
        if all(self.is_good(slot, title, source, now) for source in lease.sources):
            self.ledger.renew(lease, now)
            return lease
        self.ledger.end(slot, title)
        return None

    def is_good(self, slot: int, title: Title, source: int, now: float) -> bool:
        """Return whether a source of a lease still holds the title, is up, and did not fail."""
        return source in self.tiers.usable(slot, title, self.network.place(source).cluster, now)

    def grant(self, slot: int, wanted: Wanted, route: Route, shares: int, now: float) -> Lease | Later:
        """Return the lease of a route, at an even share of the appliance's rate; Later if a budget has no room."""
        own = Budget(BudgetKind.appliance, slot)
        allowed, until = self.network.rate(slot, wanted.urgent, now)
        rate = min(max(self.ledger.room(own, now) // shares, 1), allowed)
        uplinks = self.uplinks(slot, route.tier, route.sources[:1])
        path = [own, *uplinks]
        if route.tier is Tier.origin:
            path += [Budget(BudgetKind.origin, wanted.title.service), Budget(BudgetKind.copies, wanted.title)]
        path += [Budget(BudgetKind.source, source) for source in route.sources[:1]]
        if tight := self.ledger.tight(path, rate, now):
            return wait(BUSY_S, f"no room: {tight.kind}")
        rate = min(rate, *(self.ledger.room(budget, now) for budget in path if budget.kind is not BudgetKind.copies))
        second = [
            source
            for source in route.sources[1:]
            if self.ledger.room(Budget(BudgetKind.source, source), now) >= rate
            and self.uplinks(slot, route.tier, (source,)) == uplinks
        ][:1]
        path += [Budget(BudgetKind.source, source) for source in second]
        sources = (*route.sources[:1], *second)
        request = Request(slot, wanted.title, wanted.bytes, route.tier, sources, tuple(path), rate, until)
        return self.ledger.grant(request, now) or wait(BUSY_S, "other titles come first")

    def uplinks(self, slot: int, tier: Tier, sources: Iterable[int]) -> list[Budget]:
        """Return the budgets of the uplinks that bytes from sources, or from the origin without any, enter by."""
        if tier is Tier.peer:
            return []
        _, site, group = self.network.place(slot)
        others = [self.network.place(source) for source in sources]
        charged = []
        if not others or any(other.site != site for other in others):
            charged.append(Budget(BudgetKind.site, site))
        if group and (not others or any(other.group != group for other in others)):
            charged.append(Budget(BudgetKind.partner, group))
        return charged


def in_turn(rows: Sequence[Wanted], now: float) -> Sequence[Wanted]:
    """Return the titles to decide on now: the first ones always, and of the others as many, others each minute.

    So an ask of a thousand titles that all wait costs a tenth, and no title waits behind others for ever.
    """
    if len(rows) <= 2 * IN_TURN:
        return rows
    first, others = rows[:IN_TURN], rows[IN_TURN:]
    start = int(now // TURN_S) * IN_TURN % len(others)
    return [*first, *others[start : start + IN_TURN], *others[: max(start + IN_TURN - len(others), 0)]]
