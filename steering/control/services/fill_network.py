"""The fleet as sources of fill see it: the plan in force, reported holdings, status words, rates and budgets."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Sequence, Set
from functools import cached_property
from typing import Final

from _fastpath.status_words import DISABLED, NO_HEADROOM, OVER_LIMIT, STALE, UNHEALTHY
from steering.control.fill.fill_windows import FillRule, FillWindow, rate_now, windows_ahead, zone_of
from steering.control.fill.holdings import HoldingsReported
from steering.control.fill.leases import Budget, BudgetKind, Title
from steering.control.fill.tiers import Place
from steering.model.fleet import Fleet, Site
from steering.settings import Settings
from steering.state.plan import PlanFile
from steering.state.table import TableFile, read_zones

DOWN: Final = DISABLED | UNHEALTHY | STALE
FULL: Final = NO_HEADROOM | OVER_LIMIT
MBPS: Final = 1000  # in a Gbit/s


class FleetIndex:
    """The objects of a fleet by slot, number and id."""

    def __init__(self, fleet: Fleet) -> None:
        self.appliances = {appliance.slot: appliance for appliance in fleet.appliances}
        self.slots = {appliance.id: appliance.slot for appliance in fleet.appliances}
        self.clusters = {cluster.id: cluster for cluster in fleet.clusters}
        self.partners = {cluster.number: cluster.partner for cluster in fleet.clusters}
        self.exchanges = [cluster.number for cluster in fleet.clusters if not cluster.partner]
        self.sites: dict[str, Site] = {site.id: site for site in fleet.sites}
        self.members: dict[int, list[int]] = {cluster.number: [] for cluster in fleet.clusters}
        self.siblings: dict[str | None, list[int]] = {}  # by partner
        for cluster in fleet.clusters:
            self.siblings.setdefault(cluster.partner, []).append(cluster.number)
        for appliance in fleet.appliances:
            self.members[self.clusters[appliance.cluster].number].append(appliance.slot)


@dataclasses.dataclass(frozen=True)
class FillNetwork:
    """One fleet, plan and table; made anew when one of them changes. It is a `tiers.Network`."""

    settings: Settings
    fleet: Fleet
    plan: PlanFile
    table: TableFile
    intake: HoldingsReported
    word: Callable[[int], int]
    fetched: Callable[[Title], Set[int] | None]  # who reported that it fetched a new recipe; None for an older one

    @cached_property
    def index(self) -> FleetIndex:
        """The fleet's objects by slot, number and id."""
        return FleetIndex(self.fleet)

    @cached_property
    def rankings(self) -> dict[int, list[int]]:
        """The exchanges on the ranking of each partner's cluster: of the first zone that it serves."""
        partner_of = self.index.partners
        found: dict[int, list[int]] = {}
        for zone in read_zones(self.table):
            ranking = [cluster for cluster, _, is_fallback in self.table.ranking(zone) if not is_fallback]
            exchanges = [cluster for cluster in ranking if not partner_of.get(cluster)]
            for cluster in ranking:
                if partner_of.get(cluster):
                    found.setdefault(cluster, exchanges)
        return found

    # ---- what `tiers.Network` asks for

    def name(self, slot: int) -> str:
        return self.index.appliances[slot].id

    def place(self, slot: int) -> Place:
        cluster = self.index.clusters[self.index.appliances[slot].cluster]
        return Place(cluster.number, cluster.site, cluster.partner or "")

    def members(self, cluster: int) -> Sequence[int]:
        return self.index.members.get(cluster, [])

    def siblings(self, cluster: int) -> Sequence[int]:
        siblings = self.index.siblings.get(self.index.partners.get(cluster), [])
        return [other for other in siblings if other != cluster]

    def exchanges(self, cluster: int) -> Sequence[int]:
        return self.rankings.get(cluster, [])

    def other_exchanges(self, cluster: int) -> Sequence[int]:
        if cluster in self.index.exchanges:
            return []
        near = set(self.exchanges(cluster))
        return [other for other in self.index.exchanges if other not in near]

    def holders(self, cluster: int, title: Title) -> Sequence[int]:
        index = self.intake.titles.of(title.service).get(title.id)
        if index is None:
            return []
        fetched = self.fetched(title)
        return [slot for slot in self.intake.holders(cluster, index) if fetched is None or slot in fetched]

    def is_up(self, slot: int) -> bool:
        return not self.word(slot) & DOWN

    def wants(self, slot: int, title: Title) -> bool:
        index = self.index_of(title)
        return index is not None and slot in self.plan.holdings.holders(self.place(slot).cluster, index)

    def rate(self, slot: int, urgent: bool, now: float) -> tuple[int, float]:
        rate, until = rate_now(self.rule, self.windows(slot, now), now, urgent=urgent)
        return int(rate * MBPS), until

    def limit(self, budget: Budget, now: float) -> int | None:
        if budget.kind is BudgetKind.appliance:
            assert isinstance(budget.subject, int), "an appliance's budget is of a slot"
            return max(self.rate(budget.subject, False, now)[0], int(self.rule.urgent_gbps * MBPS))
        if budget.kind is BudgetKind.source:
            assert isinstance(budget.subject, int), "a source's budget is of a slot"
            if self.word(budget.subject) & FULL:
                return 0
            return int(self.index.appliances[budget.subject].capacity_gbps * self.settings.fill_share * MBPS)
        if budget.kind is BudgetKind.origin:
            return int(self.settings.fill_origin_gbps * MBPS)
        return self.settings.fill_origin_copies if budget.kind is BudgetKind.copies else None

    # ---- titles and windows

    def index_of(self, title: Title) -> int | None:
        """Return the index of a title in the plan, None for another recipe than the plan's."""
        index = self.plan.indexes.get((title.service, title.id))
        return index if index is not None and self.plan.recipes[index] == title.recipe else None

    @cached_property
    def rule(self) -> FillRule:
        """When and how fast appliances may fill."""
        settings = self.settings
        return FillRule(
            window=settings.fill_window,
            gbps=settings.fill_gbps,
            tb=settings.fill_tb,
            urgent_gbps=settings.fill_urgent_gbps,
            timezone=settings.fill_timezone,
        )

    def zone(self, slot: int) -> datetime.tzinfo:
        """Return the time zone of an appliance's site."""
        return zone_of(self.rule, self.index.sites[self.place(slot).site].longitude)

    def windows(self, slot: int, now: float) -> tuple[FillWindow, ...]:
        """Return an appliance's windows of the next two days."""
        return windows_ahead(self.rule, self.zone(slot), now)
