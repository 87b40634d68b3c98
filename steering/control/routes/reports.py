"""What an ISP or an operator would mend in the routes of a table, by partner.

- *stolen*: address space that a partner's cluster hears inside a prefix, and a longer prefix that none of the partner's
  clusters hears takes away;
- *single site*: prefixes that one site of the partner hears and no other, so nothing of its own is behind it;
- *uneven*: prefixes that some of the clusters at one site hear and others there do not;
- *one family*: clusters that hear only IPv4 or only IPv6, with appliances that are up on both;
- *heard apart*: clusters whose appliances hear different prefixes, by what they report themselves;
- *refused*: rows that were not taken.
"""

from __future__ import annotations

import dataclasses
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from _fastpath import prefix_rows, rib
from _fastpath.intervals import Chains, measure, sweep
from steering.control.health.rules import RoutesHeard
from steering.control.routes.feeds import rule_of
from steering.errors import RequestError
from steering.model.fleet import Cluster, Fleet
from steering.model.route import RouteClass
from steering.state.routes import Routes, prefix_text

SHOWN: Final = 10  # examples of a finding
MOST: Final = 1000  # findings of a kind
LOCAL: Final = (RouteClass.embedded, RouteClass.private)

Heard = Mapping[str, Mapping[int, RoutesHeard]]  # by appliance and family


@dataclasses.dataclass(slots=True)
class Finding:
    """How much of something there is, by family, and some of it by name."""

    amount: Counter[str] = dataclasses.field(default_factory=Counter)
    first: list[str] = dataclasses.field(default_factory=list)

    def add(self, family: int, amount: int, examples: Iterable[str]) -> None:
        """Add to it."""
        self.amount[f"v{family}"] += amount
        self.first += list(examples)[: SHOWN - len(self.first)]


def route_report(routes: Routes, fleet: Fleet, heard: Heard, partner: str = "") -> dict[str, Any]:
    """Return the findings, of one partner or all; `heard` is what appliances report that they hear.

    Raises RequestError 404 for a partner that there is not.
    """
    if partner and partner not in {item.id for item in fleet.partners}:
        raise RequestError(f"partner {partner!r}: the fleet has none of this id", status=404)
    looking = Looking(routes, fleet, partner)
    for family in (4, 6):
        looking.look(family)
    return {
        "stolen": looking.rows(looking.stolen, ("partner", "cluster")),
        "single_site": looking.rows(looking.single, ("partner", "site")),
        "uneven": looking.rows(looking.uneven, ("partner", "site")),
        "one_family": looking.one_family(),
        "heard_apart": heard_apart(fleet, heard, partner),
        "refused": [] if partner else refused(routes),
    }


def heard_apart(fleet: Fleet, heard: Heard, partner: str) -> list[dict[str, Any]]:
    """Return the clusters whose appliances hear different prefixes of a family: how many sets, and who is apart.

    Those who hear what most of the cluster hear are not named.
    """
    sets: dict[tuple[str, int], dict[RoutesHeard, list[str]]] = defaultdict(lambda: defaultdict(list))
    for appliance in fleet.appliances:
        for family, said in heard.get(appliance.id, {}).items():
            sets[appliance.cluster, family][said].append(appliance.id)
    rows = []
    for cluster in fleet.clusters:
        for family in (4, 6):
            apart = sorted(sets[cluster.id, family].items(), key=lambda item: -len(item[1]))[1:]
            if apart and partner in ("", cluster.partner):
                names = [f"{name}: {said.count}" for said, members in apart for name in members]
                row = {"partner": cluster.partner, "cluster": cluster.id, "family": f"v{family}"}
                rows.append({**row, "sets": len(apart) + 1, "apart": len(names), "first": names[:SHOWN]})
    return rows[:MOST]


def refused(routes: Routes) -> list[dict[str, Any]]:
    """Return what was refused by feed and rule, as far as it is kept."""
    found: dict[tuple[str, str], Finding] = defaultdict(Finding)
    for refusal in routes.refusals:
        found[refusal.feed, rule_of(refusal.rule)].add(0, 1, [f"row {refusal.row}: {refusal.value}"])
    return [
        {"feed": feed, "rule": rule, "rows": int(finding.amount.total()), "first": finding.first}
        for (feed, rule), finding in found.items()
    ]


class Looking:
    """One look at a table's routes."""

    def __init__(self, routes: Routes, fleet: Fleet, partner: str) -> None:
        self.routes = routes
        self.fleet = fleet
        self.partner = partner
        self.clusters = {cluster.number: cluster for cluster in fleet.clusters}
        self.at: dict[tuple[str, str], list[int]] = defaultdict(list)
        for cluster in fleet.clusters:
            if self.is_ours(cluster):
                self.at[str(cluster.partner), cluster.site].append(cluster.number)
        self.stolen: dict[tuple[str, str], Finding] = defaultdict(Finding)
        self.single: dict[tuple[str, str], Finding] = defaultdict(Finding)
        self.uneven: dict[tuple[str, str], Finding] = defaultdict(Finding)
        self.heard: Counter[tuple[int, int]] = Counter()

    def is_ours(self, cluster: Cluster | None) -> bool:
        """Tell whether a cluster is of a partner that is asked for."""
        return (
            cluster is not None
            and cluster.partner is not None
            and cluster.route_class in LOCAL
            and self.partner in ("", cluster.partner)
        )

    def look(self, family: int) -> None:
        """Add the findings of one family."""
        high, low, lengths, sets, _ = self.routes.columns[family]
        columns = prefix_rows.Columns()
        columns.high, columns.length, columns.value = array("Q", high), array("B", lengths), array("I", sets)
        columns.low = array("Q", low) if low is not None else array("Q", bytes(8 * len(high)))
        columns.row = array("I", bytes(4 * len(high)))
        own = len(self.routes.set_first) - 1
        grouped, several, _ = rib.group_by_prefix(prefix_rows.sort(columns), own)
        hearing = [self.hearing([place]) for place in range(own)] + [self.hearing(places) for places in several]
        self.look_at_sets(family, grouped, hearing)
        self.look_at_chains(family, grouped, hearing)

    def hearing(self, sets: Sequence[int]) -> frozenset[int]:
        """Return the numbers of the clusters that hear any of some sets."""
        routes = self.routes
        return frozenset(
            routes.announcements[member].cluster
            for place in sets
            for member in routes.set_members[routes.set_first[place] : routes.set_first[place + 1]]
        )

    def look_at_sets(self, family: int, grouped: prefix_rows.Columns, hearing: list[frozenset[int]]) -> None:
        """Look at who hears one prefix."""
        for value, count in enumerate(prefix_rows.count_values(grouped, len(hearing))):
            if not count:
                continue
            for number in hearing[value]:
                self.heard[number, family] += count
            sites: dict[str, set[str]] = defaultdict(set)
            for number in hearing[value]:
                cluster = self.clusters.get(number)
                if cluster is not None and self.is_ours(cluster):
                    sites[str(cluster.partner)].add(cluster.site)
            for partner, heard_at in sites.items():
                if len(heard_at) == 1:
                    (site,) = heard_at
                    self.single[partner, site].add(family, count, self.named(family, grouped, value))
                for site in heard_at:
                    if not hearing[value].issuperset(self.at[partner, site]):
                        self.uneven[partner, site].add(family, count, self.named(family, grouped, value))

    def named(self, family: int, grouped: prefix_rows.Columns, value: int) -> list[str]:
        """Return the first prefixes with a value."""
        return [
            prefix_text(family, grouped.high[at] << 64 | grouped.low[at], grouped.length[at])
            for at in prefix_rows.rows_with_values(grouped, {value}, SHOWN)
        ]

    def look_at_chains(self, family: int, grouped: prefix_rows.Columns, hearing: list[frozenset[int]]) -> None:
        """Look at who hears the prefixes around one another."""
        chains = Chains()
        intervals = sweep(grouped, chains)
        thefts: dict[int, list[int]] = {}
        for chain in range(1, len(chains)):
            nearest, *around = (hearing[value] for value in chains.values(chain))
            partners = {self.clusters[number].partner for number in nearest if number in self.clusters}
            losing = sorted(
                number
                for number in frozenset().union(*around) - nearest
                if self.is_ours(self.clusters.get(number)) and self.clusters[number].partner not in partners
            )
            if losing:
                thefts[chain] = losing
        extents = measure(intervals, family, len(chains))
        for chain, losing in thefts.items():
            place = intervals.value.index(chain) if extents[chain] else -1
            example = [] if place < 0 else [self.longest(family, intervals.high[place], intervals.low[place])]
            for number in losing:
                cluster = self.clusters[number]
                self.stolen[str(cluster.partner), cluster.id].add(family, int(extents[chain]), example)

    def longest(self, family: int, high: int, low: int) -> str:
        """Return the longest prefix that covers an address."""
        packed = (high << 64 | low).to_bytes(16, "big")[: 4 if family == 4 else 16]
        found = self.routes.matched(packed)
        return found[0] if found else ""

    def one_family(self) -> list[dict[str, Any]]:
        """Return the clusters that hear one family and could serve both."""
        both = {item.cluster for item in self.fleet.appliances if item.ipv4 and item.ipv6}
        return [
            {
                "partner": cluster.partner,
                "cluster": cluster.id,
                "v4": self.heard[number, 4],
                "v6": self.heard[number, 6],
            }
            for number, cluster in sorted(self.clusters.items())
            if cluster.id in both
            and self.partner in ("", cluster.partner)
            and bool(self.heard[number, 4]) != bool(self.heard[number, 6])
        ][:MOST]

    def rows(self, found: dict[tuple[str, str], Finding], names: tuple[str, str]) -> list[dict[str, Any]]:
        """Return findings as rows, the largest first."""
        ordered = sorted(found.items(), key=lambda item: (-max(item[1].amount.values()), item[0]))
        return [
            {
                **dict(zip(names, key, strict=True)),
                "v4": found.amount["v4"],
                "v6": found.amount["v6"],
                "first": found.first,
            }
            for key, found in ordered[:MOST]
        ]
