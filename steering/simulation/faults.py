"""The faults of the drill: what each does to the world, and what must hold during it and after it.

A fault begins, is on for a while, and ends; `during` is called at every step between. `affected` are the appliances
whose status words are watched: how many are ejected, and when they are back. `wrong` compares the measured row with
the quiet one, and returns what did not hold.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar, Final

from _fastpath.status_words import NO_HEADROOM
from steering.control.health.ejection_limits import allowance
from steering.settings import Settings
from steering.simulation.demand import Request
from steering.simulation.measure import ASK_CONTROL_S, GRACE_S, LOOK_S, OUT, Row
from steering.simulation.world import World

MOST_OVERLOAD: Final = 1.25  # an appliance's share of its cluster's answers, relative to its share by weight
MOST_MOVED: Final = 4.0  # switches a client when much is lost: the other appliances fill up, and empty again
HIT_SETTLES_S: Final = 20.0
MOST_SWITCHES: Final = 0.5  # a client in quiet time
DAYS_S: Final = 86_400.0


class Fault:
    """Quiet time: no appliance is out, hardly a client is switched, no appliance has more than 1.25 of its share."""

    name: ClassVar = "quiet"
    bits: ClassVar = OUT  # the bits of a status word of an appliance that is out
    settles_s: ClassVar = 0.0  # how long shares may take to settle

    def __init__(self, world: World, settings: Settings) -> None:
        self.world = world
        self.settings = settings
        self.affected = frozenset(self.choose())

    def choose(self) -> Iterable[int]:
        """Return the affected appliances."""
        return range(len(self.world.appliances))

    @property
    def soon_s(self) -> float:
        """How long status words may lag behind reports, as the drill sees it."""
        return 2 * self.settings.tick_s + GRACE_S + LOOK_S

    def begin(self) -> None:
        """Begin the fault."""

    def during(self, on_s: float) -> None:
        """Continue the fault, which has been on for `on_s`."""

    def end(self) -> None:
        """End the fault."""

    def notice(self, asked: Request, named: Sequence[int]) -> None:
        """Use an answer."""

    def acted_count(self) -> int:
        """Return how far steering acted, if that is not the number of appliances out."""
        return 0

    def wrong(self, row: Row, quiet: Row) -> Iterator[str]:
        """Yield the broken promises."""
        yield from self.untouched(row, quiet)
        yield from self.balanced(row)

    # ---- checks that several faults share

    def untouched(self, row: Row, quiet: Row) -> Iterator[str]:
        """Answers are as in quiet time."""
        if row.out:
            yield f"{row.out} appliances were out"
        if row.alarms:
            yield f"alarms: {', '.join(row.alarms)}"
        yield from self.calm(row, quiet)

    def balanced(self, row: Row) -> Iterator[str]:
        """No appliance has much more than its share."""
        if row.overload > MOST_OVERLOAD:
            yield f"an appliance had {row.overload:.2f} of its share, more than {MOST_OVERLOAD}"

    def calm(self, row: Row, quiet: Row, more: float = 0.0) -> Iterator[str]:
        """Clients are switched at most `more` times more than in quiet time."""
        most = quiet.switches + MOST_SWITCHES + more
        if row.switches > most:
            yield f"{row.switches:.2f} switches per client, more than {most:.2f}"

    def refused(self, row: Row) -> Iterator[str]:
        """Appliances that report that they take no clients are not named."""
        if row.to_down:
            yield f"{100 * row.to_down:.2f} % of the answers named an appliance that had reported failed or full"

    def back(self, row: Row, wait_s: float = 0.0) -> Iterator[str]:
        """All are back soon after this wait, and control reports it too."""
        within_s = wait_s + self.soon_s + ASK_CONTROL_S
        if row.recovered_s is None:
            yield "not all were back at the end"
        elif row.recovered_s > within_s:
            yield f"back after {row.recovered_s:.0f} s, not {within_s:.0f} s"

    def acted(self, row: Row, wait_s: float = 0.0) -> Iterator[str]:
        """Steering acts soon after this wait."""
        within_s = wait_s + self.soon_s
        if row.acted_s is None:
            yield "steering did not act"
        elif row.acted_s > within_s:
            yield f"acted after {row.acted_s:.0f} s, not {within_s:.0f} s"


class Clocks(Fault):
    """The clocks of all appliances jump by three days, and back, with every report interval.

    Nothing changes: order is by sequence numbers, silence by control's own steady clock.
    """

    name = "clocks"

    def during(self, on_s: float) -> None:
        self.world.skew_s = (-3, 3)[int(on_s / self.settings.report_s) % 2] * DAYS_S

    def end(self) -> None:
        self.world.skew_s = 0.0


class Monitor(Fault):
    """A monitor returns from isolation and reports every appliance down, five times in a report interval.

    At most ejection_limit_fleet are ejected, the other ejections are suppressed, and an alarm is raised.
    """

    name = "monitor"
    rounds = 0

    def during(self, on_s: float) -> None:
        wanted = min(int(5 * on_s / self.settings.report_s) + 1, self.settings.down_after + 1)
        self.world.observed += [(number, False) for number in self.affected] * (wanted - self.rounds)
        self.rounds = wanted

    def end(self) -> None:
        self.world.observed += [(number, True) for number in self.affected] * self.settings.up_after

    def wrong(self, row: Row, quiet: Row) -> Iterator[str]:
        most = allowance(self.settings.ejection_limit_fleet, len(self.affected))
        if row.out > most:
            yield f"{row.out} appliances were ejected, more than {most}"
        if row.suppressed < len(self.affected) - most or "suppressed" not in row.alarms:
            yield f"{row.suppressed} ejections were suppressed, alarms: {', '.join(row.alarms) or 'none'}"
        yield from self.calm(row, quiet)
        yield from self.back(row)


class Hit(Fault):
    """A third of all requests are for one title.

    Its clients are divided over the cluster: no appliance has more than 1.25 of its share after some seconds, in which
    the rest of the demand follows.
    """

    name = "hit"
    title: ClassVar = "hit"
    settles_s = HIT_SETTLES_S

    def __init__(self, world: World, settings: Settings) -> None:
        super().__init__(world, settings)
        self.named_first: dict[tuple[int, bool], set[int]] = defaultdict(set)

    def begin(self) -> None:
        self.world.demand.hit = self.title

    def end(self) -> None:
        self.world.demand.hit = ""

    def notice(self, asked: Request, named: Sequence[int]) -> None:
        if asked.title == self.title and named:
            self.named_first[asked.group, ":" in asked.address].add(named[0])

    def acted_count(self) -> int:
        return max(map(len, self.named_first.values()), default=0) > 1

    def wrong(self, row: Row, quiet: Row) -> Iterator[str]:
        yield from self.acted(row)
        yield from super().wrong(row, quiet)


class Overload(Fault):
    """Three times as many clients need one cluster, more than it can deliver.

    Full appliances are not named; the excess goes to equal clusters, or without those to the next rank.
    """

    name = "overload"
    bits = OUT | NO_HEADROOM
    times: ClassVar = 3.0

    def choose(self) -> Iterable[int]:
        """Return those of the stage's cluster with the most demand, if possible of clients near to it alone."""
        world, wanted = self.world, Counter[int]()
        on_stage = [
            (group.clusters, rate)
            for group, rate in zip(world.demand.groups, world.demand.rates, strict=True)
            if not world.stage.isdisjoint(group.clusters)
        ]
        fewest = min(len(clusters) for clusters, _ in on_stage)
        for clusters, rate in on_stage:
            if len(clusters) == fewest:
                wanted.update(dict.fromkeys(set(clusters) & world.stage, rate))
        self.cluster = max(wanted, key=lambda number: (len(world.members[number]), wanted[number]))
        return world.members[self.cluster]

    def begin(self) -> None:
        demand = self.world.demand
        near = (index for index, group in enumerate(demand.groups) if self.cluster in group.clusters)
        demand.extra = {index: (self.times - 1) * demand.rates[index] for index in near}

    def end(self) -> None:
        self.world.demand.extra = {}

    def wrong(self, row: Row, quiet: Row) -> Iterator[str]:
        yield from self.acted(row, row.seconds)
        yield from self.refused(row)
        alone = any(group.clusters == (self.cluster,) for group in self.world.demand.groups)
        if alone and row.ranks.get("0", 0.0) >= quiet.ranks.get("0", 0.0):
            yield "no more answers than in quiet time went to the next rank"
        if row.alarms:
            yield f"alarms: {', '.join(row.alarms)}"


class Flap(Fault):
    """A twentieth of the appliances report failed, ok, failed, ...

    Each report counts at once; their clients move away, and come back slowly.
    """

    name = "flap"
    flaps = 0

    def choose(self) -> Iterable[int]:
        count = len(self.world.appliances)
        return self.world.rnd.sample(range(count), max(1, count // 20))

    def during(self, on_s: float) -> None:
        self.flaps = int(on_s / self.settings.report_s)
        self.world.failed = set() if self.flaps % 2 else set(self.affected)

    def end(self) -> None:
        self.world.failed = set()

    def wrong(self, row: Row, quiet: Row) -> Iterator[str]:
        yield from self.acted(row, self.settings.report_s)
        yield from self.refused(row)
        # Each change may move the clients of these appliances, and of a neighbour that fills up, away and back.
        share = len(self.affected) / len(self.world.appliances)
        yield from self.calm(row, quiet, 4 * share * (self.flaps + 1))
        if "suppressed" in row.alarms:
            yield "alarm: suppressed, although the appliances reported themselves"
        yield from self.back(row, self.settings.report_s)


class Isp(Fault):
    """No report of an ISP's appliances arrives any more; they keep serving.

    They are ejected once stale; beyond ejection_limit_partner and ejection_limit_fleet the ejections are suppressed and
    they keep serving.
    """

    name = "isp"

    def choose(self) -> Iterable[int]:
        return (number for number, cluster in enumerate(self.world.cluster) if cluster.number in self.world.stage)

    def begin(self) -> None:
        self.world.silent |= self.affected

    def end(self) -> None:
        self.world.silent -= self.affected

    def wrong(self, row: Row, quiet: Row) -> Iterator[str]:
        most = self.most_out()
        if len(self.affected) > most:
            if row.out > most:
                yield f"{row.out} appliances were ejected, more than the {most} that may be at once"
            if "suppressed" not in row.alarms:
                yield "no alarm about suppressed ejections"
        else:
            if row.out < len(self.affected):
                yield f"{row.out} of {len(self.affected)} were ejected"
            yield from self.acted(row, self.settings.stale_s)
        if row.stranded:
            yield f"{row.stranded} answers named no living appliance"
        yield from self.calm(row, quiet, MOST_MOVED)
        yield from self.back(row, self.settings.report_s)

    def most_out(self) -> int:
        """Return how many of the affected appliances may be ejected, by the limits of their partner and the fleet."""
        settings, clusters = self.settings, self.world.cluster
        limits = [allowance(settings.ejection_limit_fleet, len(clusters))]
        partners = {clusters[number].partner for number in self.affected}
        if len(partners) == 1 and (partner := partners.pop()):
            members = sum(cluster.partner == partner for cluster in clusters)
            limits.append(allowance(settings.ejection_limit_partner, members))
        return min(limits)


class Site(Isp):
    """All appliances of a site die: they send no reports, and refuse their clients.

    Every answer names another appliance too, and once they are stale no answer names them.
    """

    name = "site"

    def choose(self) -> Iterable[int]:
        sizes = Counter(self.world.cluster[number].site for number in super().choose())
        site = max(sizes, key=lambda name: (sizes[name], name))
        return (number for number, cluster in enumerate(self.world.cluster) if cluster.site == site)

    def begin(self) -> None:
        super().begin()
        self.world.dead |= self.affected

    def end(self) -> None:
        super().end()
        self.world.dead -= self.affected
        for number in self.affected & self.world.followed:
            self.world.load[number] = 0.0


FAULTS: Final[tuple[type[Fault], ...]] = (Clocks, Hit, Monitor, Overload, Flap, Site, Isp)
