"""Findings in the routes of a table that an ISP or an operator should correct, by partner.

- *stolen*: address space inside a prefix that a partner's cluster receives, and inside a longer prefix that none of the
  partner's clusters receives, which wins;
- *single site*: prefixes that only one site of the partner receives, so no other site of its own can replace it;
- *uneven*: prefixes that some clusters of a site receive and others of the same site do not;
- *one family*: clusters that receive only IPv4 or only IPv6 routes, and have appliances for both families;
- *heard apart*: clusters whose appliances report different routes;
- *refused*: rows of feeds that were refused.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from _fastpath import prefix_rows, rib
from _fastpath.intervals import Chains, measure, sweep
from steering.control.feed_files import rule_of
from steering.errors import RequestError
from steering.model.fleet import Cluster, Fleet
from steering.model.prefix import parse_prefix
from steering.model.route import RouteClass, RoutesHeard
from steering.state.routes import Routes, aligned, prefix_at

SHOWN: Final = 10  # examples of a finding
MOST: Final = 1000  # rows of one report
PREFIXES_SHOWN: Final = 100  # of those inside a requested prefix; all are counted
LOCAL: Final = (RouteClass.embedded, RouteClass.private)

Heard = Mapping[str, Mapping[int, RoutesHeard]]  # by appliance and family


@dataclasses.dataclass(slots=True)
class Finding:
    """An amount by family, and the first few prefixes."""

    amount: Counter[str] = dataclasses.field(default_factory=Counter)
    first: list[str] = dataclasses.field(default_factory=list)

    def add(self, family: int, amount: int, examples: Iterable[str]) -> None:
        self.amount[f"v{family}"] += amount
        self.first += list(examples)[: SHOWN - len(self.first)]


def route_report(routes: Routes, fleet: Fleet, heard: Heard, partner: str = "") -> dict[str, Any]:
    """Return the findings of one partner or all; `heard` has the routes that appliances report.

    Raises RequestError 404 for an unknown partner.
    """
    if partner and partner not in {item.id for item in fleet.partners}:
        raise RequestError(f"partner {partner!r}: the fleet has none of this id", status=404)
    findings = RouteFindings(routes, fleet, partner)
    for family in (4, 6):
        findings.add_family(family)
    return {
        "stolen": findings.rows(findings.stolen, ("partner", "cluster")),
        "single_site": findings.rows(findings.single, ("partner", "site")),
        "uneven": findings.rows(findings.uneven, ("partner", "site")),
        "one_family": findings.one_family(),
        "heard_apart": heard_apart(fleet, heard, partner),
        "refused": [] if partner else refused(routes),
    }


def about_prefix(routes: Routes, prefix: str) -> dict[str, Any]:
    """Return the routes of a prefix, the routes of prefixes that cover it, and the announced prefixes inside it.

    Routes have cluster numbers. Raises RequestError if the text is no prefix.
    """
    network = parse_prefix(prefix)
    family, number = aligned(network.network_address.packed)
    inside = routes.rows(family, *routes.rows_inside(family, number, network.prefixlen))
    inside, _, _ = rib.group_by_prefix(inside, len(routes.set_first))
    return {
        "prefix": str(network),
        "exact": routes.routes_of(family, routes.rows_of(family, number, network.prefixlen)),
        "covering": routes.routes_of(family, routes.covering_rows(family, number, network.prefixlen - 1)),
        "inside": [prefix_at(family, inside, row) for row in range(min(len(inside), PREFIXES_SHOWN))],
        "inside_count": len(inside),
    }


def heard_apart(fleet: Fleet, heard: Heard, partner: str) -> list[dict[str, Any]]:
    """Return the clusters whose appliances report different routes of a family, and the appliances that differ.

    Appliances that report the same routes as most of their cluster are not named.
    """
    sets: dict[tuple[str, int], dict[RoutesHeard, list[str]]] = defaultdict(lambda: defaultdict(list))
    for appliance in fleet.appliances:
        for family, routes in heard.get(appliance.id, {}).items():
            sets[appliance.cluster, family][routes].append(appliance.id)
    rows = []
    for cluster in fleet.clusters:
        for family in (4, 6):
            apart = sorted(sets[cluster.id, family].items(), key=lambda item: -len(item[1]))[1:]
            if apart and partner in ("", cluster.partner):
                names = [f"{name}: {routes.count}" for routes, members in apart for name in members]
                row = {"partner": cluster.partner, "cluster": cluster.id, "family": f"v{family}"}
                rows.append({**row, "sets": len(apart) + 1, "apart": len(names), "first": names[:SHOWN]})
    return rows[:MOST]


def refused(routes: Routes) -> list[dict[str, Any]]:
    """Return the listed refusals by feed and rule."""
    findings: dict[tuple[str, str], Finding] = defaultdict(Finding)
    for refusal in routes.refusals:
        findings[refusal.feed, rule_of(refusal.rule)].add(0, 1, [f"row {refusal.row}: {refusal.value}"])
    return [
        {"feed": feed, "rule": rule, "rows": int(finding.amount.total()), "first": finding.first}
        for (feed, rule), finding in findings.items()
    ]


class RouteFindings:
    """The findings in the routes of one table."""

    def __init__(self, routes: Routes, fleet: Fleet, partner: str) -> None:
        self.routes, self.fleet, self.partner = routes, fleet, partner
        self.clusters = {cluster.number: cluster for cluster in fleet.clusters}
        self.clusters_at: dict[tuple[str, str], list[int]] = defaultdict(list)
        for cluster in fleet.clusters:
            if self.is_ours(cluster):
                self.clusters_at[str(cluster.partner), cluster.site].append(cluster.number)
        self.stolen: dict[tuple[str, str], Finding] = defaultdict(Finding)
        self.single: dict[tuple[str, str], Finding] = defaultdict(Finding)
        self.uneven: dict[tuple[str, str], Finding] = defaultdict(Finding)
        self.prefix_counts: Counter[tuple[int, int]] = Counter()

    def is_ours(self, cluster: Cluster | None) -> bool:
        return (
            cluster is not None
            and cluster.partner is not None
            and cluster.route_class in LOCAL
            and self.partner in ("", cluster.partner)
        )

    def add_family(self, family: int) -> None:
        own = len(self.routes.set_first) - 1
        grouped, several, _ = rib.group_by_prefix(prefix_rows.sort(self.routes.rows(family)), own)
        clusters_of = [self.clusters_of([i]) for i in range(own)] + [self.clusters_of(sets) for sets in several]
        self.add_sets(family, grouped, clusters_of)
        self.add_chains(family, grouped, clusters_of)

    def clusters_of(self, sets: Sequence[int]) -> frozenset[int]:
        """Return the numbers of the clusters that have a route of any of some sets."""
        routes = self.routes
        return frozenset(
            routes.announcements[member].cluster
            for i in sets
            for member in routes.set_members[routes.set_first[i] : routes.set_first[i + 1]]
            if not routes.announcements[member].excludes
        )

    def add_sets(self, family: int, grouped: prefix_rows.Columns, clusters_of: list[frozenset[int]]) -> None:
        """Add the findings about the clusters of single prefixes."""
        for value, count in enumerate(prefix_rows.count_values(grouped, len(clusters_of))):
            if not count:
                continue
            for number in clusters_of[value]:
                self.prefix_counts[number, family] += count
            sites: dict[str, set[str]] = defaultdict(set)
            for number in clusters_of[value]:
                cluster = self.clusters.get(number)
                if cluster is not None and self.is_ours(cluster):
                    sites[str(cluster.partner)].add(cluster.site)
            for partner, own_sites in sites.items():
                if len(own_sites) == 1:
                    (site,) = own_sites
                    self.single[partner, site].add(family, count, self.first_prefixes(family, grouped, value))
                for site in own_sites:
                    if not clusters_of[value].issuperset(self.clusters_at[partner, site]):
                        self.uneven[partner, site].add(family, count, self.first_prefixes(family, grouped, value))

    def first_prefixes(self, family: int, grouped: prefix_rows.Columns, value: int) -> list[str]:
        return [prefix_at(family, grouped, i) for i in prefix_rows.rows_with_values(grouped, {value}, SHOWN)]

    def add_chains(self, family: int, grouped: prefix_rows.Columns, clusters_of: list[frozenset[int]]) -> None:
        """Add the findings about nested prefixes."""
        chains = Chains()
        intervals = sweep(grouped, chains)
        losers: dict[int, list[int]] = {}
        for chain in range(1, len(chains)):
            longest, *shorter = (clusters_of[value] for value in chains.values(chain))
            partners = {self.clusters[number].partner for number in longest if number in self.clusters}
            losing = sorted(
                number
                for number in frozenset().union(*shorter) - longest
                if self.is_ours(self.clusters.get(number)) and self.clusters[number].partner not in partners
            )
            if losing:
                losers[chain] = losing
        extents = measure(intervals, family, len(chains))
        for chain, losing in losers.items():
            i = intervals.value.index(chain) if extents[chain] else -1
            example = [] if i < 0 else [self.longest_prefix(family, intervals.high[i], intervals.low[i])]
            for number in losing:
                cluster = self.clusters[number]
                self.stolen[str(cluster.partner), cluster.id].add(family, int(extents[chain]), example)

    def longest_prefix(self, family: int, high: int, low: int) -> str:
        """Return the longest prefix that covers an address."""
        packed = (high << 64 | low).to_bytes(16, "big")[: 4 if family == 4 else 16]
        matched = self.routes.matched(packed)
        return matched[0] if matched else ""

    def one_family(self) -> list[dict[str, Any]]:
        """Return the clusters that have routes of one family and appliances for both."""
        both = {item.cluster for item in self.fleet.appliances if item.ipv4 and item.ipv6}
        return [
            {
                "partner": cluster.partner,
                "cluster": cluster.id,
                "v4": self.prefix_counts[number, 4],
                "v6": self.prefix_counts[number, 6],
            }
            for number, cluster in sorted(self.clusters.items())
            if cluster.id in both
            and self.partner in ("", cluster.partner)
            and bool(self.prefix_counts[number, 4]) != bool(self.prefix_counts[number, 6])
        ][:MOST]

    def rows(self, findings: dict[tuple[str, str], Finding], names: tuple[str, str]) -> list[dict[str, Any]]:
        ordered = sorted(findings.items(), key=lambda item: (-max(item[1].amount.values()), item[0]))
        return [
            {
                **dict(zip(names, key, strict=True)),
                "v4": finding.amount["v4"],
                "v6": finding.amount["v6"],
                "first": finding.first,
            }
            for key, finding in ordered[:MOST]
        ]
