"""The faults of the drill: what each does to the world, and what must hold while it is on and when it is over.

A fault begins, is on for a while, and ends; `during` is called with every step in between. `about` are the appliances
whose words are watched: how many steering takes out, and when they are back. What must hold is said by `wrong`, of the
row that was measured and of the quiet one.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import ClassVar, Final

from _fastpath.status_words import NO_HEADROOM
from steering.control.health.ejection_limits import Limits, allowance
from steering.control.health.rules import Rules
from steering.settings import Settings
from steering.simulation.demand import Asked, Group
from steering.simulation.measure import ASK_CONTROL_S, GRACE_S, LOOK_S, OUT, Row
from steering.simulation.world import World

MOST_OVERLOAD: Final = 1.25  # an appliance's share of its cluster's answers, beside its weighted share
MOST_MOVED: Final = 4.0  # switches of a client where much is lost: those that are left fill up, and empty again
HIT_SETTLES_S: Final = 20.0
MOST_SWITCHES: Final = 0.5  # of a client in quiet time
DAYS_S: Final = 86_400.0


@dataclasses.dataclass(frozen=True, slots=True)
class Rulebook:
    """The settings that faults are judged by."""

    rules: Rules
    limits: Limits
    tick_s: float = 1.0

    @property
    def soon_s(self) -> float:
        """How long words may be seen not to follow what is known."""
        return 2 * self.tick_s + GRACE_S + LOOK_S


def book_of(settings: Settings) -> Rulebook:
    """Return the rules that settings make."""
    rules = Rules(**{field.name: getattr(settings, field.name) for field in dataclasses.fields(Rules)})
    limits = Limits(**{field.name: getattr(settings, field.name) for field in dataclasses.fields(Limits)})
    return Rulebook(rules, limits, settings.tick_s)


class Fault:
    """Quiet time: nothing is done, and nothing happens."""

    name: ClassVar = "quiet"
    does: ClassVar = "nothing"
    bits: ClassVar = OUT  # those of a word that say that an appliance is out
    must: ClassVar = "nobody is taken out, hardly a client is switched, no appliance has more than 1.25 its share"

    def __init__(self, world: World, book: Rulebook) -> None:
        self.world = world
        self.book = book
        self.about: frozenset[int] = frozenset(range(len(world.appliances)))

    def begin(self) -> None:
        """Let it begin."""

    def during(self, on_s: float) -> None:
        """Go on; it has been on for so long."""

    def end(self) -> None:
        """Let it be over."""

    def notice(self, asked: Asked, told: Sequence[int]) -> None:
        """See an answer."""

    def level(self) -> int:
        """Return how far steering has acted, where that is not how many it took out."""
        return 0

    @property
    def settles_s(self) -> float:
        """How long shares may take to be what they should be."""
        return 0.0

    def wrong(self, row: Row, quiet: Row) -> Iterator[str]:
        """Yield what did not hold."""
        yield from self.untouched(row, quiet)
        yield from self.balanced(row)

    # ---- what must hold of several

    def untouched(self, row: Row, quiet: Row) -> Iterator[str]:
        """Yield what is wrong where answers should be as in quiet time."""
        if row.out:
            yield f"{row.out} appliances were taken out"
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

    def believed(self, row: Row) -> Iterator[str]:
        """Yield what is wrong where appliances say themselves that they take nobody."""
        if row.to_down:
            yield f"{100 * row.to_down:.2f} % of the answers named one that had said it failed or is full"

    def back(self, row: Row, within_s: float) -> Iterator[str]:
        """Yield what is wrong with the recovery, which control too must call one."""
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
    """All clocks jump, half of a report interval forth and back again."""

    name = "clocks"
    does = "the clocks of all appliances jump by three days, and back, again and again"
    must = "nothing changes: order goes by sequence numbers, silence by control's own steady clock"

    def during(self, on_s: float) -> None:
        """Jump with every report interval."""
        self.world.skew_s = (-3, 3)[int(on_s / self.book.rules.report_s) % 2] * DAYS_S

    def end(self) -> None:
        """Set them right."""
        self.world.skew_s = 0.0


class Monitor(Fault):
    """A monitor returns from isolation."""

    name = "monitor"
    does = "a monitor returns from isolation and says of every appliance, again and again, that it is down"
    must = "no more than ejection_limit_fleet are taken out, the others are held and serve on, and an alarm says so"

    def __init__(self, world: World, book: Rulebook) -> None:
        super().__init__(world, book)
        self.rounds = 0

    def during(self, on_s: float) -> None:
        """Say it so often that it would count, at a fifth of the report interval."""
        wanted = min(int(5 * on_s / self.book.rules.report_s) + 1, self.book.rules.down_after + 1)
        while self.rounds < wanted:
            self.rounds += 1
            self.world.observed += [(number, False) for number in self.about]

    def end(self) -> None:
        """See clearly again."""
        self.world.observed += [(number, True) for _ in range(self.book.rules.up_after) for number in self.about]

    def wrong(self, row: Row, quiet: Row) -> Iterator[str]:
        """Yield what did not hold."""
        most = allowance(self.book.limits.ejection_limit_fleet, len(self.about))
        if row.out > most:
            yield f"{row.out} appliances were taken out, more than {most}"
        if row.held < len(self.about) - most or "held" not in row.alarms:
            yield f"{row.held} were held, alarms: {', '.join(row.alarms) or 'none'}"
        yield from self.calm(row, quiet.switches + MOST_SWITCHES)
        yield from self.back(row, self.book.soon_s)


class Hit(Fault):
    """A title becomes a hit."""

    name = "hit"
    does = "a third of all requests are for one title"
    must = "its clients are dealt over the cluster: no appliance has more than 1.25 its share after some seconds"
    title: ClassVar = "hit"

    def __init__(self, world: World, book: Rulebook) -> None:
        super().__init__(world, book)
        self.named: dict[tuple[int, int], set[int]] = defaultdict(set)
        self.is_on = False

    def begin(self) -> None:
        """Let a third ask for it."""
        self.world.demand.hit = self.title
        self.is_on = True

    def end(self) -> None:
        """Let nobody ask for it."""
        self.world.demand.hit = ""
        self.is_on = False

    def notice(self, asked: Asked, told: Sequence[int]) -> None:
        """See whom clients of a group are told for it."""
        if asked.title == self.title and told:
            self.named[asked.group, ":" in asked.address].add(told[0])

    def level(self) -> int:
        """Tell whether clients of a group are told several."""
        return max(map(len, self.named.values()), default=0) > 1

    @property
    def settles_s(self) -> float:
        """A third of the demand is even now, so the rest has to be evened anew."""
        return HIT_SETTLES_S

    def wrong(self, row: Row, quiet: Row) -> Iterator[str]:
        """Yield what did not hold."""
        yield from self.acted(row, self.book.soon_s)
        yield from self.balanced(row)
        yield from self.untouched(row, quiet)


class Overload(Fault):
    """A cluster is wanted three times as much."""

    name = "overload"
    does = "thrice as many clients want one cluster, more than it can deliver"
    must = (
        "who is full is told to nobody, and what is too much goes to its equals, or where it has none to the next rank"
    )
    bits = OUT | NO_HEADROOM
    times: ClassVar = 3.0

    def __init__(self, world: World, book: Rulebook) -> None:
        super().__init__(world, book)
        self.cluster = self.pick()
        self.about = frozenset(world.members[self.cluster])
        self.places = [place for place, group in enumerate(world.demand.groups) if self.cluster in group.clusters]

    def pick(self) -> int:
        """Return the cluster of the stage that is wanted most; by those of it alone, where there are such."""
        wanted: Counter[int] = Counter()
        fewest = min(len(group.clusters) for group in self.on_stage())
        for group, rate in zip(self.world.demand.groups, self.world.demand.rates, strict=True):
            if len(group.clusters) == fewest and not self.world.stage.isdisjoint(group.clusters):
                for number in set(group.clusters) & self.world.stage:
                    wanted[number] += rate  # type: ignore[assignment]
        return max(wanted, key=lambda number: (len(self.world.members[number]), wanted[number]))

    def on_stage(self) -> Iterator[Group]:
        """Yield the groups of clients that clusters of the stage are nearest to."""
        return (group for group in self.world.demand.groups if not self.world.stage.isdisjoint(group.clusters))

    def begin(self) -> None:
        """Let more come."""
        demand = self.world.demand
        demand.extra = {place: (self.times - 1) * demand.rates[place] for place in self.places}

    def end(self) -> None:
        """Let them go."""
        self.world.demand.extra = {}

    def wrong(self, row: Row, quiet: Row) -> Iterator[str]:
        """Yield what did not hold."""
        yield from self.acted(row, row.seconds)
        yield from self.believed(row)
        alone = any(len(self.world.demand.groups[place].clusters) == 1 for place in self.places)
        if alone and row.ranks.get("0", 0.0) >= quiet.ranks.get("0", 0.0):
            yield "no more answers than in quiet time went to the next rank"
        if row.alarms:
            yield f"alarms: {', '.join(row.alarms)}"


class Flap(Fault):
    """A twentieth of the fleet fails and recovers with every report."""

    name = "flap"
    does = "5 % of the appliances say failed, ok, failed, ... with every report"
    must = "each word of theirs counts at once; their clients move away, and come back slowly"

    def __init__(self, world: World, book: Rulebook) -> None:
        super().__init__(world, book)
        count = max(1, len(world.appliances) // 20)
        self.about = frozenset(world.rnd.sample(range(len(world.appliances)), count))
        self.flaps = 0

    def during(self, on_s: float) -> None:
        """Turn with every report interval."""
        self.flaps = int(on_s / self.book.rules.report_s)
        self.world.failed = set() if self.flaps % 2 else set(self.about)

    def end(self) -> None:
        """All are well."""
        self.world.failed = set()

    def wrong(self, row: Row, quiet: Row) -> Iterator[str]:
        """Yield what did not hold."""
        yield from self.acted(row, self.book.rules.report_s + self.book.soon_s)
        yield from self.believed(row)
        # Each turn may move the clients of those, and of a neighbour that fills up, away and back.
        share = len(self.about) / len(self.world.appliances)
        yield from self.calm(row, quiet.switches + MOST_SWITCHES + 4 * share * (self.flaps + 1))
        if "held" in row.alarms:
            yield "alarm: held, of what they said themselves"
        yield from self.back(row, self.book.rules.report_s + self.book.soon_s)


class Silence(Fault):
    """Some appliances fall silent."""

    def begin(self) -> None:
        """Let them fall silent."""
        self.world.silent |= self.about

    def end(self) -> None:
        """Let them report again."""
        self.world.silent -= self.about

    def wrong(self, row: Row, quiet: Row) -> Iterator[str]:
        """Yield what did not hold."""
        most = allowance(self.book.limits.ejection_limit_fleet, len(self.world.appliances))
        if len(self.about) > most:
            if row.out > most:
                yield f"{row.out} appliances were taken out, more than ejection_limit_fleet at once"
            if "held" not in row.alarms:
                yield "no alarm says that they are held"
        else:
            if row.out < len(self.about):
                yield f"{row.out} of {len(self.about)} were taken out"
            yield from self.acted(row, self.book.rules.stale_s + self.book.soon_s)
        if row.stranded:
            yield f"{row.stranded} answers named nobody who lives"
        yield from self.calm(row, quiet.switches + MOST_SWITCHES + MOST_MOVED)
        yield from self.back(row, self.book.rules.report_s + self.book.soon_s)


class Site(Silence):
    """A site dies."""

    name = "site"
    does = "all appliances of a site die: they report nothing, and refuse their clients"
    must = "every answer names somebody else too, and after the silence that is allowed none names them"

    def __init__(self, world: World, book: Rulebook) -> None:
        super().__init__(world, book)
        sizes = Counter(
            cluster.site for number, cluster in enumerate(world.cluster) if world.cluster[number].number in world.stage
        )
        site = max(sizes, key=lambda name: (sizes[name], name))
        self.about = frozenset(number for number, cluster in enumerate(world.cluster) if cluster.site == site)

    def begin(self) -> None:
        """Let them die."""
        super().begin()
        self.world.dead |= self.about

    def end(self) -> None:
        """Let them live, with nobody there."""
        super().end()
        self.world.dead -= self.about
        for number in self.about & self.world.followed:
            self.world.load[number] = 0.0


class Isp(Silence):
    """An ISP loses its way to us."""

    name = "isp"
    does = "no report of an ISP's appliances reaches us any more; they serve on"
    must = "they go once they are stale, or, where that is more than ejection_limit_fleet, are held and serve on"

    def __init__(self, world: World, book: Rulebook) -> None:
        super().__init__(world, book)
        self.about = frozenset(number for number, cluster in enumerate(world.cluster) if cluster.number in world.stage)


FAULTS: Final[tuple[type[Fault], ...]] = (Clocks, Hit, Monitor, Overload, Flap, Site, Isp)
