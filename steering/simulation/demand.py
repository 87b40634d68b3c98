"""The simulated requests: real addresses of the serving table, titles by popularity, and a panel.

Clients with the same nearest clusters are a *group*. In quiet time a group needs the `busy` share of what its nearest
clusters can deliver, as in a planned network; each request stands for as many viewers as that needs. Half of the
requests come from the *stage*, the clusters where faults happen, so that a thousand requests a second say something
about single appliances in a fleet of 19,000. The *panel* are clients that request one title each, again and again: a
client that gets another first appliance than the last time was switched.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from steering.decision.snapshot import Snapshot
from steering.model.fleet import Fleet
from steering.simulation.concentration import weight_of_rank
from steering.state.table import read_zones

SAMPLED: Final = 40_000  # addresses, to find the groups
KEPT: Final = 2_000  # addresses of a group
IPV6_SHARE: Final = 0.2
STAGE_SHARE: Final = 0.5  # of the requests
MOST_ON_STAGE: Final = 400  # appliances; more would have too few requests each
TITLES: Final = 10_000
HIT_OF: Final = 3  # every third request is for the hot title
FIRST_TITLE: Final = 80_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """The clients with these nearest clusters; `gbps` is their demand in quiet time."""

    clusters: tuple[int, ...]
    addresses: Sequence[str]
    gbps: float


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """A request: `panel` is the client's number in the panel, -1 for others; `gbps` its load on an appliance."""

    address: str
    title: str
    group: int
    gbps: float
    panel: int = -1


def find_groups(snapshot: Snapshot, fleet: Fleet, busy: float, rnd: random.Random) -> list[Group]:
    """Return the groups of clients in a sample of the accepted prefixes, each prefix equally likely."""
    addresses: dict[tuple[int, ...], list[str]] = defaultdict(list)
    zones = read_zones(snapshot.table_file)
    for address in draw_addresses(snapshot, rnd):
        ranking_entries = list(snapshot.table_file.ranking(zones[snapshot.prefixes.lookup(address)]))
        nearest = tuple(sorted(cluster for cluster, rank, _ in ranking_entries if rank == ranking_entries[0][1]))
        if nearest and len(addresses[nearest]) < KEPT:
            addresses[nearest].append(address)
    numbers = {cluster.id: cluster.number for cluster in fleet.clusters}
    capacity: Counter[int] = Counter()
    for appliance in fleet.appliances:
        capacity[numbers[appliance.cluster]] += appliance.capacity_gbps  # type: ignore[assignment]
    wanting = Counter(cluster for clusters in addresses for cluster in clusters)
    return [
        Group(clusters, addresses[clusters], busy * sum(capacity[number] / wanting[number] for number in clusters))
        for clusters in sorted(addresses)
    ]


def draw_addresses(snapshot: Snapshot, rnd: random.Random) -> list[str]:
    """Return random addresses inside the accepted prefixes."""
    addresses: list[str] = []
    for family, count in ((6, round(IPV6_SHARE * SAMPLED)), (4, SAMPLED)):
        high, low, lengths, *_ = snapshot.routes.columns[family]
        bits = 32 if family == 4 else 128
        for _ in range(min(count, SAMPLED - len(addresses)) if len(high) else 0):
            row = rnd.randrange(len(high))
            number = high[row] >> 32 if low is None else high[row] << 64 | low[row]
            number |= rnd.getrandbits(bits) >> lengths[row]
            addresses.append(str(ipaddress.IPv4Address(number) if family == 4 else ipaddress.IPv6Address(number)))
    return addresses


def find_stage(fleet: Fleet, groups: Sequence[Group]) -> frozenset[int]:
    """Return the clusters of the stage: those of the largest partner that has clients and is not too large.

    Without such a partner it is the whole fleet.
    """
    partners = {cluster.number: cluster.partner for cluster in fleet.clusters}
    numbers = {cluster.id: cluster.number for cluster in fleet.clusters}
    sizes = Counter(partners[numbers[appliance.cluster]] for appliance in fleet.appliances)
    asked = {partners[number] for group in groups for number in group.clusters}
    fit = [(size, name) for name, size in sizes.items() if name and name in asked and size <= MOST_ON_STAGE]
    chosen = max(fit)[1] if fit else None
    return frozenset(number for number, name in partners.items() if chosen is None or name == chosen)


class Demand:
    """The requests that are due. `memory_s` is how long a viewer watches on average.

    There are as many clients as requests in that time, drawn once: each stands for thousands of viewers, and requests
    again when they have left. So chance does not decide what an appliance delivers.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        stage: AbstractSet[int],
        rate: float,
        memory_s: float,
        panel: int,
        panel_s: float,
        rnd: random.Random,
        titles: int = TITLES,
    ) -> None:
        self.groups = groups
        self.rnd = rnd
        self.rate = rate
        self.hit = ""  # a title that a third of the requests are for
        self.extra: dict[int, float] = {}  # additional requests a second, by group
        self.titles = [str(FIRST_TITLE + index) for index in range(titles)]
        self.cumulated = list(itertools.accumulate(weight_of_rank(rank, titles) for rank in range(1, titles + 1)))
        here = [not stage.isdisjoint(group.clusters) for group in groups]
        wanted = {True: 0.0, False: 0.0}
        for group, on in zip(groups, here, strict=True):
            wanted[on] += group.gbps
        share = {True: STAGE_SHARE if wanted[False] else 1.0, False: 1 - STAGE_SHARE if wanted[True] else 1.0}
        self.rates = [rate * share[on] * group.gbps / wanted[on] for group, on in zip(groups, here, strict=True)]
        self.gbps = [group.gbps / (a_second * memory_s) for group, a_second in zip(groups, self.rates, strict=True)]
        self.clients = self.of_groups(rnd.choices(range(len(groups)), self.rates, k=round(rate * memory_s)))
        self.panel = [dataclasses.replace(asked, panel=index) for index, asked in enumerate(self.clients[:panel])]
        self.panel_rate = min(panel / panel_s, rate / 2)
        self.turns = Turns(self.clients, rate - self.panel_rate)
        self.panel_turns = Turns(self.panel, self.panel_rate)

    def of_groups(self, indexes: Sequence[int]) -> list[Request]:
        """Return a client of each of these groups."""
        titles = self.rnd.choices(self.titles, cum_weights=self.cumulated, k=len(indexes))
        return [
            Request(self.rnd.choice(self.groups[index].addresses), title, index, self.gbps[index])
            for index, title in zip(indexes, titles, strict=True)
        ]

    def take(self, elapsed_s: float) -> list[Request]:
        """Return the requests of the next seconds."""
        first = self.turns.turn
        due = self.turns.take(elapsed_s)
        if self.hit:
            due = [
                dataclasses.replace(asked, title=self.hit) if turn % HIT_OF == 0 else asked
                for turn, asked in enumerate(due, first)
            ]
        for index, a_second in self.extra.items():
            count = a_second * elapsed_s
            due += self.of_groups([index] * (int(count) + (self.rnd.random() < count % 1)))
        return due + self.panel_turns.take(elapsed_s)


class Turns:
    """Clients that send requests in turn, `rate` a second."""

    def __init__(self, clients: Sequence[Request], rate: float) -> None:
        self.clients = clients
        self.rate = rate
        self.due = 0.0
        self.turn = 0

    def take(self, elapsed_s: float) -> list[Request]:
        """Return the clients whose turn it is in the next seconds."""
        self.due += elapsed_s * self.rate
        first, self.turn = self.turn, int(self.due)
        return [self.clients[turn % len(self.clients)] for turn in range(first, self.turn)]
