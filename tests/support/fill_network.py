"""A fleet that fills in virtual time: event by event, with agents that die, lie, and report late. No bytes move.

`Simulation` is the `Network` that control sees (places, reports, limits), and the truth beside it (who really has
what). It checks each lease as it is granted, and each budget whenever a transfer begins.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

from steering.control.fill.failed_sources import ORIGIN
from steering.control.fill.leases import Budget, BudgetKind, Lease, Tier, Title
from steering.control.fill.sources import Sources
from steering.control.fill.tiers import Place, Wanted

DAY = 86_400.0
PART_S = 20.0  # between progress reports
POLL_S = 120.0


@dataclasses.dataclass
class Fleet:
    """Places of appliances by slot. Clusters of group "" are exchanges, on no ranking if their site is `far…`."""

    places: list[Place]
    mbps: int = 1200
    source_mbps: int = 2400
    site_mbps: int | None = None
    partner_mbps: int | None = None
    origin_mbps: int | None = None
    origin_copies: int = 2


def fleet_of(clusters: Iterable[tuple[str, str, int]], **limits: int) -> Fleet:
    """Return a fleet of clusters, each given as (group, site, how many appliances)."""
    places = [Place(number, site, group) for number, (group, site, count) in enumerate(clusters) for _ in range(count)]
    return Fleet(places, **limits)


class Simulation:
    """A fleet, its reports, the truth, and a clock."""

    def __init__(
        self,
        fleet: Fleet,
        bytes_of: dict[Title, int],
        *,
        report_s: float = 10.0,
        peer_s: float = 900,
        tier_s: float = 1800,
    ) -> None:
        self.fleet, self.bytes_of, self.report_s = fleet, bytes_of, report_s
        self.now = 0.0
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.numbers = itertools.count()
        self.truth: dict[tuple[int, Title], float] = {}  # since when a slot really holds a title
        self.reported: defaultdict[tuple[int, Title], set[int]] = defaultdict(set)  # cluster and title -> slots
        self.wanted: set[tuple[int, Title]] = set()
        self.dead: set[int] = set()
        self.stale: set[int] = set()
        self.origin_is_up = True
        self.running: dict[tuple[int, Title], tuple[Lease, int]] = {}  # lease and source of each transfer
        self.edges: list[
            tuple[Title, int, int, float]
        ] = []  # of whole transfers: title, source, receiver, when it began
        self.origin_leases: Counter[Title] = Counter()
        self.origin_losses: Counter[Title] = Counter()
        self.crossings: Counter[tuple[Title, str]] = Counter()  # completed transfers into a site
        self.by_cluster: defaultdict[int, list[int]] = defaultdict(list)
        for slot, place in enumerate(fleet.places):
            self.by_cluster[place.cluster].append(slot)
        self.group_of = {place.cluster: place.group for place in fleet.places}
        self.all_exchanges = [cluster for cluster, group in self.group_of.items() if not group]
        self.far = {place.cluster for place in fleet.places if not place.group and place.site.startswith("far")}
        self.polling: set[int] = set()
        self.sources = Sources(self, peer_s=peer_s, tier_s=tier_s)

    # ---- what control knows (Network)

    def name(self, slot: int) -> str:
        return f"c{slot:03}"

    def place(self, slot: int) -> Place:
        return self.fleet.places[slot]

    def members(self, cluster: int) -> Sequence[int]:
        return self.by_cluster[cluster]

    def siblings(self, cluster: int) -> Sequence[int]:
        return [other for other, group in self.group_of.items() if group == self.group_of[cluster] and other != cluster]

    def exchanges(self, cluster: int) -> Sequence[int]:
        return [other for other in self.all_exchanges if other not in self.far] if self.group_of[cluster] else []

    def other_exchanges(self, cluster: int) -> Sequence[int]:
        return sorted(self.far) if self.group_of[cluster] else []

    def holders(self, cluster: int, title: Title) -> Sequence[int]:
        return sorted(self.reported[cluster, title])

    def is_up(self, slot: int) -> bool:
        return slot not in self.stale

    def wants(self, slot: int, title: Title) -> bool:
        return (slot, title) in self.wanted

    def rate(self, slot: int, urgent: bool, now: float) -> tuple[int, float]:  # noqa: ARG002 (the Network's)
        return self.fleet.mbps, 1000 * DAY

    def limit(self, budget: Budget, now: float) -> int | None:  # noqa: ARG002 (the Network's)
        return {
            BudgetKind.appliance: self.fleet.mbps,
            BudgetKind.source: self.fleet.source_mbps,
            BudgetKind.site: self.fleet.site_mbps,
            BudgetKind.partner: self.fleet.partner_mbps,
            BudgetKind.origin: self.fleet.origin_mbps,
            BudgetKind.copies: self.fleet.origin_copies,
        }[budget.kind]

    # ---- the clock

    def at(self, time: float, event: Callable[[], None]) -> None:
        """Run an event at a time, or now if that is over."""
        heapq.heappush(self.events, (max(time, self.now), next(self.numbers), event))

    def run(self, until: float) -> None:
        """Run all events up to a time."""
        while self.events and self.events[0][0] <= until:
            self.now, _, event = heapq.heappop(self.events)
            event()
        self.now = until

    # ---- what happens

    def want(self, slots: Iterable[int], title: Title) -> None:
        """Let appliances poll for a title from now on, one second apart."""
        for slot in slots:
            self.wanted.add((slot, title))
            self.start(slot, 1 + slot)

    def start(self, slot: int, seconds: float) -> None:
        """Let an appliance begin to poll, if it does not yet."""
        if slot not in self.polling:
            self.polling.add(slot)
            self.at(self.now + seconds, lambda: self.poll(slot))

    def report(self, slot: int, title: Title, *, holds: bool = True) -> None:
        """Take a report of an appliance, true or not."""
        holders = self.reported[self.place(slot).cluster, title]
        if holds:
            holders.add(slot)
        else:
            holders.discard(slot)

    def give(self, slot: int, title: Title) -> None:
        """Let an appliance hold a title, and report it."""
        self.truth[slot, title] = self.now
        self.report(slot, title)

    def kill(self, slot: int, stale_after_s: float = 30.0) -> None:
        """Let an appliance die in whatever it does; its reports are stale later."""
        self.dead.add(slot)
        self.at(self.now + stale_after_s, lambda: self.stale.add(slot))

    def revive(self, slot: int) -> None:
        """Let a dead appliance start again with what lies on its disk."""
        if slot in self.dead:
            self.dead.discard(slot)
            self.at(self.now + 60, lambda: self.stale.discard(slot))
            self.start(slot, 61)

    # ---- an agent

    def missing(self, slot: int) -> list[Title]:
        """Return what an appliance wants and does not have, in order."""
        return sorted(title for other, title in self.wanted if other == slot and (slot, title) not in self.truth)

    def poll(self, slot: int) -> None:
        """Ask for sources of all that is missing and is not being fetched, and begin."""
        if slot in self.dead or not self.missing(slot):
            self.polling.discard(slot)
            return
        missing = [title for title in self.missing(slot) if (slot, title) not in self.running]
        answer = self.sources.ask(slot, [Wanted(title, self.bytes_of[title]) for title in missing], 4, self.now)
        assert answer.leases or answer.later or not missing
        for lease in answer.leases:
            self.check_lease(lease)
            self.begin(lease, (*lease.sources, ORIGIN)[0])
        self.check_budgets()
        retry_s = min([POLL_S, *(later.retry_s for later in answer.later.values())])
        self.at(self.now + retry_s, lambda: self.poll(slot))

    def begin(self, lease: Lease, source: int) -> None:
        """Begin to fetch from a source."""
        assert (lease.slot, lease.title) not in self.running
        self.running[lease.slot, lease.title] = lease, source
        self.at(self.now, lambda: self.step(lease, source, 0, self.now))

    def step(self, lease: Lease, source: int, bytes_done: int, began_at: float) -> None:
        """Fetch another part, if both ends and the lease are alive."""
        slot, title = lease.slot, lease.title
        if self.running.get((slot, title)) != (lease, source):
            return
        if slot in self.dead or self.sources.ledger.lease(slot, title) is not lease or lease.expires_at <= self.now:
            self.lose(lease)
        elif not self.delivers(source, title):
            self.lose(lease)
            self.sources.failed(slot, title, source, "not_found", self.now)
            if self.sources.ledger.lease(slot, title) is lease and source != lease.sources[-1]:
                self.begin(lease, lease.sources[-1])
        elif bytes_done >= lease.bytes:
            del self.running[slot, title]
            self.truth[slot, title] = self.now
            self.edges.append((title, source, slot, began_at))
            if lease.tier is not Tier.peer:
                self.crossings[title, self.place(slot).site] += 1
            self.sources.done(slot, title, self.now)
            self.at(self.now + self.report_s, lambda: self.report(slot, title))
        else:
            self.sources.progress(slot, title, bytes_done, self.now)
            seconds = min(PART_S, (lease.bytes - bytes_done) * 8 / (lease.mbps * 1e6))
            more = min(lease.bytes, bytes_done + round(seconds * lease.mbps * 1e6 / 8) + 1)
            self.at(self.now + seconds, lambda: self.step(lease, source, more, began_at))

    def delivers(self, source: int, title: Title) -> bool:
        """Return whether a source has a title and is alive."""
        return self.origin_is_up if source == ORIGIN else (source, title) in self.truth and source not in self.dead

    def lose(self, lease: Lease) -> None:
        """Stop a transfer."""
        del self.running[lease.slot, lease.title]
        self.origin_losses[lease.title] += lease.tier is Tier.origin

    # ---- what must hold

    def check_lease(self, lease: Lease) -> None:
        """Each source reported the title when the lease was granted, and the tier is the right one."""
        self.origin_leases[lease.title] += lease.tier is Tier.origin
        assert (lease.tier is Tier.origin) == (not lease.sources)
        own = self.place(lease.slot)
        for source in lease.sources:
            place = self.place(source)
            assert source in self.reported[place.cluster, lease.title]
            assert self.is_up(source)
            assert source != lease.slot
            assert (lease.tier is Tier.peer) == (place.cluster == own.cluster)
            assert place.group in (own.group, "")

    def check_budgets(self) -> None:
        """No budget is exceeded by what flows, added up anew."""
        flows: Counter[Budget] = Counter()
        for (slot, title), (lease, source) in self.running.items():
            own = self.place(slot)
            other = self.place(source) if source != ORIGIN else Place(-1, "", "the origin")
            flows[Budget(BudgetKind.appliance, slot)] += lease.mbps
            if source == ORIGIN:
                flows[Budget(BudgetKind.origin, title.service)] += lease.mbps
                flows[Budget(BudgetKind.copies, title)] += 1
            else:
                flows[Budget(BudgetKind.source, source)] += lease.mbps
            if own.site != other.site:
                flows[Budget(BudgetKind.site, own.site)] += lease.mbps
            if own.group and own.group != other.group:
                flows[Budget(BudgetKind.partner, own.group)] += lease.mbps
        for budget, flow in flows.items():
            limit = self.limit(budget, self.now)
            assert limit is None or flow <= limit, (budget, flow, limit)

    def check_no_cycle(self) -> None:
        """Whoever sent a title had all of it before its receiver began: by time of completion, edges go one way."""
        for title, source, slot, began_at in self.edges:
            assert source == ORIGIN or self.truth[source, title] <= began_at < self.truth[slot, title]
