"""The faults of the drill: what each does to the world, and what must hold during it and after it.

A fault begins, is on for a while, and ends; `during` is called at every step between. `affected` are the appliances
whose status words are watched: how many are ejected, and when they are back. `wrong` compares the measured row with
the quiet one, and returns what did not hold.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import ClassVar, Final

from _fastpath.status_words import NO_HEADROOM
from steering.control.health.ejection_limits import allowance
from steering.settings import Settings
from steering.simulation.demand import Group, Request
from steering.simulation.measure import ASK_CONTROL_S, GRACE_S, LOOK_S, OUT, Row
from steering.simulation.world import World

MOST_OVERLOAD: Final = 1.25  # an appliance's share of its cluster's answers, relative to its share by weight
MOST_MOVED: Final = 4.0  # switches a client when much is lost: the other appliances fill up, and empty again
HIT_SETTLES_S: Final = 20.0
MOST_SWITCHES: Final = 0.5  # a client in quiet time
DAYS_S: Final = 86_400.0


class Fault:
    """Quiet time: no fault."""

    name: ClassVar = "quiet"
    does: ClassVar = "nothing"
    bits: ClassVar = OUT  # the bits of a status word of an appliance that is out
    must: ClassVar = "no appliance is out, hardly a client is switched, no appliance has more than 1.25 its share"

    def __init__(self, world: World, settings: Settings) -> None:
        self.world = world
        self.settings = settings
        self.affected: frozenset[int] = frozenset(range(len(world.appliances)))

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

    @property
    def settles_s(self) -> float:
        """How long shares may take to settle."""
        return 0.0

    def wrong(self, row: Row, quiet: Row) -> Iterator[str]:
        """Yield what did not hold."""
        yield from self.untouched(row, quiet)
        yield from self.balanced(row)

    # ---- checks that several faults share

    def untouched(self, row: Row, quiet: Row) -> Iterator[str]:
        """Yield what is wrong if answers should be as in quiet time."""
        if row.out:
            yield f"{row.out} appliances were out"
        if row.alarms:
            yield f"alarms: {', '.join(row.alarms)}"
        yield from self.calm(row, quiet.switches + MOST_SWITCHES)

    def balanced(self, row: Row) -> Iterator[str]:
        """Yield what is wrong with the shares."""
        if row.overload > MOST_OVERLOAD:
            yield f"an appliance had {row.overload:.2f} of its share, more than {MOST_OVERLOAD}"

    def calm(self, row: Row, most: float) -> Iterator[str]:
        """Yield what is wrong with how often clients were switched."""
        if row.switches > most:
            yield f"{row.switches:.2f} switches per client, more than {most:.2f}"

    def refused(self, row: Row) -> Iterator[str]:
        """Yield what is wrong if appliances report themselves that they take no clients."""
        if row.to_down:
            yield f"{100 * row.to_down:.2f} % of the answers named an appliance that had reported failed or full"

    def back(self, row: Row, within_s: float) -> Iterator[str]:
        """Yield what is wrong with the recovery, which control must report too."""
        within_s += ASK_CONTROL_S
        if row.recovered_s is None:
            yield "not all were back at the end"
        elif row.recovered_s > within_s:
            yield f"back after {row.recovered_s:.0f} s, not {within_s:.0f} s"

    def acted(self, row: Row, within_s: float) -> Iterator[str]:
        """Yield what is wrong with how soon steering acted."""
        if row.acted_s is None:
            yield "steering did not act"
        elif row.acted_s > within_s:
            yield f"acted after {row.acted_s:.0f} s, not {within_s:.0f} s"


class Clocks(Fault):
    """All clocks jump, forth and back, with every report interval."""

    name = "clocks"
    does = "the clocks of all appliances jump by three days, and back, again and again"
    must = "nothing changes: order is by sequence numbers, silence by control's own steady clock"

    def during(self, on_s: float) -> None:
        """Jump with every report interval."""
        self.world.skew_s = (-3, 3)[int(on_s / self.settings.report_s) % 2] * DAYS_S

    def end(self) -> None:
        """Correct the clocks."""
        self.world.skew_s = 0.0


class Monitor(Fault):
    """A monitor returns from isolation."""

    name = "monitor"
    does = "a monitor returns from isolation and reports every appliance down, again and again"
    must = "at most ejection_limit_fleet are ejected, the other ejections are suppressed, and an alarm is raised"

    def __init__(self, world: World, settings: Settings) -> None:
        super().__init__(world, settings)
        self.rounds = 0

    def during(self, on_s: float) -> None:
        """Report often enough for inference, five times in a report interval."""
        wanted = min(int(5 * on_s / self.settings.report_s) + 1, self.settings.down_after + 1)
        while self.rounds < wanted:
            self.rounds += 1
            self.world.observed += [(number, False) for number in self.affected]

    def end(self) -> None:
        """Report that all are well."""
        self.world.observed += [(number, True) for _ in range(self.settings.up_after) for number in self.affected]

    def wrong(self, row: Row, quiet: Row) -> Iterator[str]:
        """Yield what did not hold."""
        most = allowance(self.settings.ejection_limit_fleet, len(self.affected))
        if row.out > most:
            yield f"{row.out} appliances were ejected, more than {most}"
        if row.suppressed < len(self.affected) - most or "suppressed" not in row.alarms:
            yield f"{row.suppressed} ejections were suppressed, alarms: {', '.join(row.alarms) or 'none'}"
        yield from self.calm(row, quiet.switches + MOST_SWITCHES)
        yield from self.back(row, self.soon_s)


class Hit(Fault):
    """A title becomes hot."""

    name = "hit"
    does = "a third of all requests are for one title"
    must = "its clients are divided over the cluster: no appliance has more than 1.25 its share after some seconds"
    title: ClassVar = "hit"

    def __init__(self, world: World, settings: Settings) -> None:
        super().__init__(world, settings)
        self.named_first: dict[tuple[int, int], set[int]] = defaultdict(set)
        self.is_on = False

    def begin(self) -> None:
        """Let a third of the requests be for the title."""
        self.world.demand.hit = self.title
        self.is_on = True

    def end(self) -> None:
        """Let no request be for the title."""
        self.world.demand.hit = ""
        self.is_on = False

    def notice(self, asked: Request, named: Sequence[int]) -> None:
        """Note the appliance that a client of a group gets for the title."""
        if asked.title == self.title and named:
            self.named_first[asked.group, ":" in asked.address].add(named[0])

    def acted_count(self) -> int:
        """Return 1 if clients of a group get several appliances."""
        return max(map(len, self.named_first.values()), default=0) > 1

    @property
    def settles_s(self) -> float:
        """How long shares may take to settle: a third of the demand is divided anew, and the rest follows."""
        return HIT_SETTLES_S

    def wrong(self, row: Row, quiet: Row) -> Iterator[str]:
        """Yield what did not hold."""
        yield from self.acted(row, self.soon_s)
        yield from self.balanced(row)
        yield from self.untouched(row, quiet)


class Overload(Fault):
    """The demand for a cluster triples."""

    name = "overload"
    does = "three times as many clients need one cluster, more than it can deliver"
    must = "full appliances are not named; the excess goes to equal clusters, or without those to the next rank"
    bits = OUT | NO_HEADROOM
    times: ClassVar = 3.0

    def __init__(self, world: World, settings: Settings) -> None:
        super().__init__(world, settings)
        self.cluster = self.pick()
        self.affected = frozenset(world.members[self.cluster])
        self.groups = [index for index, group in enumerate(world.demand.groups) if self.cluster in group.clusters]

    def pick(self) -> int:
        """Return the cluster of the stage with the most demand, if possible of clients near to it alone."""
        wanted: Counter[int] = Counter()
        fewest = min(len(group.clusters) for group in self.on_stage())
        for group, rate in zip(self.world.demand.groups, self.world.demand.rates, strict=True):
            if len(group.clusters) == fewest and not self.world.stage.isdisjoint(group.clusters):
                for number in set(group.clusters) & self.world.stage:
                    wanted[number] += rate  # type: ignore[assignment]
        return max(wanted, key=lambda number: (len(self.world.members[number]), wanted[number]))

    def on_stage(self) -> Iterator[Group]:
        """Yield the groups of clients with a nearest cluster on the stage."""
        return (group for group in self.world.demand.groups if not self.world.stage.isdisjoint(group.clusters))

    def begin(self) -> None:
        """Add clients."""
        demand = self.world.demand
        demand.extra = {index: (self.times - 1) * demand.rates[index] for index in self.groups}

    def end(self) -> None:
        """Remove the added clients."""
        self.world.demand.extra = {}

    def wrong(self, row: Row, quiet: Row) -> Iterator[str]:
        """Yield what did not hold."""
        yield from self.acted(row, row.seconds)
        yield from self.refused(row)
        alone = any(len(self.world.demand.groups[index].clusters) == 1 for index in self.groups)
        if alone and row.ranks.get("0", 0.0) >= quiet.ranks.get("0", 0.0):
            yield "no more answers than in quiet time went to the next rank"
        if row.alarms:
            yield f"alarms: {', '.join(row.alarms)}"


class Flap(Fault):
    """A twentieth of the fleet fails and recovers with every report."""

    name = "flap"
    does = "5 % of the appliances report failed, ok, failed, ..."
    must = "each report counts at once; their clients move away, and come back slowly"

    def __init__(self, world: World, settings: Settings) -> None:
        super().__init__(world, settings)
        count = max(1, len(world.appliances) // 20)
        self.affected = frozenset(world.rnd.sample(range(len(world.appliances)), count))
        self.flaps = 0

    def during(self, on_s: float) -> None:
        """Change with every report interval."""
        self.flaps = int(on_s / self.settings.report_s)
        self.world.failed = set() if self.flaps % 2 else set(self.affected)

    def end(self) -> None:
        """Let all be well."""
        self.world.failed = set()

    def wrong(self, row: Row, quiet: Row) -> Iterator[str]:
        """Yield what did not hold."""
        yield from self.acted(row, self.settings.report_s + self.soon_s)
        yield from self.refused(row)
        # Each change may move the clients of these appliances, and of a neighbour that fills up, away and back.
        share = len(self.affected) / len(self.world.appliances)
        yield from self.calm(row, quiet.switches + MOST_SWITCHES + 4 * share * (self.flaps + 1))
        if "suppressed" in row.alarms:
            yield "alarm: suppressed, although the appliances reported themselves"
        yield from self.back(row, self.settings.report_s + self.soon_s)


class Silence(Fault):
    """Some appliances fall silent."""

    def begin(self) -> None:
        """Stop their reports."""
        self.world.silent |= self.affected

    def end(self) -> None:
        """Let them report again."""
        self.world.silent -= self.affected

    def wrong(self, row: Row, quiet: Row) -> Iterator[str]:
        """Yield what did not hold."""
        most = allowance(self.settings.ejection_limit_fleet, len(self.world.appliances))
        if len(self.affected) > most:
            if row.out > most:
                yield f"{row.out} appliances were ejected, more than ejection_limit_fleet at once"
            if "suppressed" not in row.alarms:
                yield "no alarm about suppressed ejections"
        else:
            if row.out < len(self.affected):
                yield f"{row.out} of {len(self.affected)} were ejected"
            yield from self.acted(row, self.settings.stale_s + self.soon_s)
        if row.stranded:
            yield f"{row.stranded} answers named no living appliance"
        yield from self.calm(row, quiet.switches + MOST_SWITCHES + MOST_MOVED)
        yield from self.back(row, self.settings.report_s + self.soon_s)


class Site(Silence):
    """A site dies."""

    name = "site"
    does = "all appliances of a site die: they send no reports, and refuse their clients"
    must = "every answer names another appliance too, and once they are stale no answer names them"

    def __init__(self, world: World, settings: Settings) -> None:
        super().__init__(world, settings)
        sizes = Counter(
            cluster.site for number, cluster in enumerate(world.cluster) if world.cluster[number].number in world.stage
        )
        site = max(sizes, key=lambda name: (sizes[name], name))
        self.affected = frozenset(number for number, cluster in enumerate(world.cluster) if cluster.site == site)

    def begin(self) -> None:
        """Kill them."""
        super().begin()
        self.world.dead |= self.affected

    def end(self) -> None:
        """Let them live, without clients."""
        super().end()
        self.world.dead -= self.affected
        for number in self.affected & self.world.followed:
            self.world.load[number] = 0.0


class Isp(Silence):
    """Control loses the connection to an ISP."""

    name = "isp"
    does = "no report of an ISP's appliances arrives any more; they keep serving"
    must = "they are ejected once stale; beyond ejection_limit_fleet the ejections are suppressed and they keep serving"

    def __init__(self, world: World, settings: Settings) -> None:
        super().__init__(world, settings)
        self.affected = frozenset(
            number for number, cluster in enumerate(world.cluster) if cluster.number in world.stage
        )


FAULTS: Final[tuple[type[Fault], ...]] = (Clocks, Hit, Monitor, Overload, Flap, Site, Isp)
