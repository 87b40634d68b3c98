"""The fleet as sources of fill see it: the plan in force, reported holdings, status words, rates and budgets."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Final

from _fastpath.status_words import DISABLED, NO_HEADROOM, OVER_LIMIT, STALE, UNHEALTHY
from steering.control.fill.fill_windows import FillRule, FillWindow, rate_now, windows_ahead, zone_of
from steering.control.fill.holdings import HoldingsReported
from steering.control.fill.leases import Budget, BudgetKind, Title
from steering.control.fill.tiers import Place
from steering.model.fleet import Appliance, Cluster, Fleet, Site
from steering.settings import Settings
from steering.state.plan import PlanFile
from steering.state.table import TableFile, read_zones

DOWN: Final = DISABLED | UNHEALTHY | STALE
FULL: Final = NO_HEADROOM | OVER_LIMIT
MBPS: Final = 1000  # of a Gbit/s


@dataclasses.dataclass(frozen=True)
class FillNetwork:
    """One fleet, plan and table; made anew when one of them changes. It is a `tiers.Network`."""

    settings: Settings
    fleet: Fleet
    plan: PlanFile
    table: TableFile
    intake: HoldingsReported
    word: Callable[[int], int]

    # ---- the fleet

    @cached_property
    def appliances(self) -> dict[int, Appliance]:
        """The appliances by slot."""
        return {appliance.slot: appliance for appliance in self.fleet.appliances}

    @cached_property
    def slots(self) -> dict[str, int]:
        """The slots of appliances by id."""
        return {appliance.id: appliance.slot for appliance in self.fleet.appliances}

    @cached_property
    def clusters(self) -> dict[str, Cluster]:
        """The clusters by id."""
        return {cluster.id: cluster for cluster in self.fleet.clusters}

    @cached_property
    def sites(self) -> dict[str, Site]:
        """The sites by id."""
        return {site.id: site for site in self.fleet.sites}

    @cached_property
    def by_cluster(self) -> dict[int, list[int]]:
        """The slots of each cluster by its number."""
        members: dict[int, list[int]] = {cluster.number: [] for cluster in self.fleet.clusters}
        for appliance in self.fleet.appliances:
            members[self.clusters[appliance.cluster].number].append(appliance.slot)
        return members

    @cached_property
    def rankings(self) -> dict[int, list[int]]:
        """The exchanges on the ranking of each partner's cluster: of the first zone that it serves."""
        partner_of = {cluster.number: cluster.partner for cluster in self.fleet.clusters}
        found: dict[int, list[int]] = {}
        for zone in read_zones(self.table):
            ranking = [cluster for cluster, _, is_fallback in self.table.ranking(zone) if not is_fallback]
            exchanges = [cluster for cluster in ranking if not partner_of.get(cluster)]
            for cluster in ranking:
                if partner_of.get(cluster):
                    found.setdefault(cluster, exchanges)
        return found

    @cached_property
    def all_exchanges(self) -> list[int]:
        """The clusters that stand at no partner."""
        return [cluster.number for cluster in self.fleet.clusters if not cluster.partner]

    # ---- what `tiers.Network` asks for

    def name(self, slot: int) -> str:
        return self.appliances[slot].id

    def place(self, slot: int) -> Place:
        cluster = self.clusters[self.appliances[slot].cluster]
        return Place(cluster.number, cluster.site, cluster.partner or "")

    def members(self, cluster: int) -> Sequence[int]:
        return self.by_cluster.get(cluster, [])

    def siblings(self, cluster: int) -> Sequence[int]:
        partner = next((item.partner for item in self.fleet.clusters if item.number == cluster), None)
        return [item.number for item in self.fleet.clusters if item.partner == partner and item.number != cluster]

    def exchanges(self, cluster: int) -> Sequence[int]:
        return self.rankings.get(cluster, [])

    def other_exchanges(self, cluster: int) -> Sequence[int]:
        if cluster in self.all_exchanges:
            return []
        near = set(self.exchanges(cluster))
        return [other for other in self.all_exchanges if other not in near]

    def holders(self, cluster: int, title: Title) -> Sequence[int]:
        index = self.intake.index_of(title.service, title.id)
        if index is None:
            return []
        return [slot for slot in self.members(cluster) if self.intake.bits((cluster, slot)) >> index & 1]

    def is_up(self, slot: int) -> bool:
        word = self.word(slot)
        return not word & DOWN

    def wants(self, slot: int, title: Title) -> bool:
        index = self.index_of(title)
        if index is None or (bits := self.plan.bits(self.place(slot).cluster, slot)) is None:
            return False
        return bool(bits >> index & 1)

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
            return int(self.appliances[budget.subject].capacity_gbps * self.settings.fill_share * MBPS)
        if budget.kind is BudgetKind.origin:
            return int(self.settings.fill_origin_gbps * MBPS)
        return self.settings.fill_origin_copies if budget.kind is BudgetKind.copies else None

    # ---- titles and windows

    @cached_property
    def indexes(self) -> dict[tuple[str, str], int]:
        """The index of each title in the plan."""
        holdings = self.plan.holdings
        return {holdings.title(index): index for index in range(holdings.titles)}

    def index_of(self, title: Title) -> int | None:
        """Return the index of a title in the plan, None for another recipe than the plan's."""
        index = self.indexes.get((title.service, title.id))
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
        return zone_of(self.rule, self.sites[self.place(slot).site].longitude)

    def windows(self, slot: int, now: float) -> tuple[FillWindow, ...]:
        """Return an appliance's windows of the next two days."""
        return windows_ahead(self.rule, self.zone(slot), now)
