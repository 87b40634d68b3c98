"""What happened to the answers while a fault was on and until it was over: counted answer by answer, and once a second.

The load of an appliance is compared with its share by weight of what its cluster got in that second, by the words of
that second. A thousand requests a second are few for one appliance: from its answers so many are taken off as chance
explains, before they are called an overload.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from _fastpath.status_words import DISABLED, NO_HEADROOM, STALE, UNHEALTHY
from steering.control.health.load import FEWEST_LOAD, LEAST_TRIM, STEADY_S
from steering.model.fleet import Appliance
from steering.simulation.demand import Asked
from steering.simulation.world import World
from steering.state.status import weight_of_capacity

WEIGHT: Final = 0xFFFF
OUT: Final = DISABLED | UNHEALTHY | STALE
RANK: Final = re.compile(rb'"rank":([0-9]+)')
CHANCE: Final = 3.0  # standard deviations
BUSY: Final = FEWEST_LOAD * math.log(2) / STEADY_S  # answers a second
SHEDS: Final = 0.6 * LEAST_TRIM  # of its full weight; below, an appliance is shed or climbs, and is not only trimmed
GRACE_S: Final = 2.0  # from a report to answers
# What comes to pass is seen so much later at most: between two looks at all words, and at what control says.
LOOK_S: Final = 1.0
ASK_CONTROL_S: Final = 2.0


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One line of the drill. Shares are of the answers; times are None where nothing came to pass."""

    fault: str
    seconds: float
    answers: int
    failed: int
    ranks: Mapping[str, float]  # of the first target: 0, 1, ..., fallback
    reasons: Mapping[str, float]  # answers for which a candidate was passed over, by the reason's letter
    to_down: float  # named one first that had said it failed or is full, or is dead
    stranded: int  # named nobody who lives
    overload: float  # the largest share of an appliance beside its weighted share, less what is chance
    busiest: float  # what an appliance delivered, as a share of its capacity
    switches: float  # of a client of the panel, in the mean
    most_switches: int
    out: int  # of the appliances the fault is about, taken out at once
    held: int
    alarms: Sequence[str]  # kinds
    acted_s: float | None  # from its begin until steering had done what it does about it
    recovered_s: float | None  # from its end until all serve as before
    wrong: Sequence[str] = ()


class Measure:
    """Counts from now on. `about` are the appliances that the fault is about, by number; any of `bits` is out."""

    def __init__(
        self,
        world: World,
        about: AbstractSet[int],
        told_before: dict[int, int],
        settles_s: float = 0.0,
        bits: int = OUT,
    ) -> None:
        self.world = world
        self.about = about
        self.bits = bits
        self.told_before = told_before
        self.began = world.now
        self.settled = world.now + settles_s
        self.ended: float | None = None
        self.answers = 0
        self.failed = 0
        self.to_down = 0
        self.stranded = 0
        self.ranks: Counter[str] = Counter()
        self.switches: Counter[int] = Counter()
        self.asked: set[int] = set()
        self.tick: Counter[int] = Counter()
        self.given: Counter[int] = Counter()
        self.fair: dict[int, float] = {}
        self.compared_at: float | None = None
        self.compared_s = 0.0
        self.busiest = 0.0
        self.usable: set[int] | None = None  # of those it is about, when it began
        self.out = 0
        self.held = 0
        self.alarms: list[str] = []
        self.level = 0
        self.acted_at: float | None = None
        self.recovered_at: float | None = None
        self.reasons: Mapping[str, int] = {}
        self.reasons_before: Mapping[str, int] | None = None

    def answer(self, asked: Asked, body: bytes, told: Sequence[int]) -> None:
        """Count an answer, and whom it named."""
        world = self.world
        self.answers += 1
        rank = RANK.search(body)
        if not told or not rank:
            self.ranks["fallback"] += 1
            return
        first = told[0]
        self.ranks[rank[1].decode()] += 1
        self.tick[first] += 1
        if first in world.dead or world.now - world.refusing.get(first, world.now) > GRACE_S:
            self.to_down += 1
            self.stranded += all(number in world.dead for number in told)
        if asked.panel >= 0:
            self.asked.add(asked.panel)
            before = self.told_before.get(asked.panel, first)
            self.switches[asked.panel] += before != first
            self.told_before[asked.panel] = first

    def look(
        self, word_of: Callable[[int], int], alarms: Sequence[str], held: int, reasons: Mapping[str, int], level: int
    ) -> None:
        """Look at all words, and at what control says, once a second; `level` is how far steering acted."""
        world = self.world
        self.reasons = reasons
        if self.reasons_before is None:
            self.reasons_before = reasons
        self.compare(word_of)
        usable = {number for number in self.about if not word_of(world.appliances[number].slot) & self.bits}
        if self.usable is None:
            self.usable = usable
        out = len(self.usable - usable)
        self.held = max(self.held, held)
        self.alarms += [alarm for alarm in alarms if alarm not in self.alarms]
        if self.ended is None:
            self.out = max(self.out, out)
            level = level or out
            if level > self.level:
                self.level, self.acted_at = level, world.now
        elif self.recovered_at is None and not out and not alarms and not held:
            self.recovered_at = world.now

    def compare(self, word_of: Callable[[int], int]) -> None:
        """Compare what each appliance got since the last look with its share of its cluster's."""
        world = self.world
        judged = self.ended is None and world.now >= self.settled
        if judged and self.compared_at is not None:
            self.compared_s += world.now - self.compared_at
        self.compared_at = world.now
        for members in world.followed_clusters:
            busy = max(world.delivers(number) / world.appliances[number].capacity_gbps for number in members)
            self.busiest = max(self.busiest, busy)
            total = sum(self.tick[number] for number in members)
            words = [word_of(world.appliances[number].slot) for number in members]
            weights = [fair_weight(word, world.appliances[number]) for number, word in zip(members, words, strict=True)]
            if judged and total and any(weights):
                for number, weight in zip(members, weights, strict=True):
                    self.given[number] += self.tick[number]
                    self.fair[number] = self.fair.get(number, 0.0) + total * weight / sum(weights)
        self.tick.clear()

    def overload(self) -> float:
        """Return the largest share beside the weighted one; 0 where nobody was asked so much that steering evens it."""
        least = BUSY * self.compared_s
        ratios = (
            (self.given[number] - CHANCE * math.sqrt(fair)) / fair for number, fair in self.fair.items() if fair > least
        )
        return max(ratios, default=0.0)

    def row(self, fault: str) -> Row:
        """Return what it came to."""
        answers = max(self.answers, 1)
        before = self.reasons_before or {}
        ended = self.world.now if self.ended is None else self.ended
        return Row(
            fault=fault,
            seconds=self.world.now - self.began,
            answers=self.answers,
            failed=self.failed,
            ranks={rank: count / answers for rank, count in sorted(self.ranks.items())},
            reasons={
                letter: (count - before.get(letter, 0)) / answers
                for letter, count in sorted(self.reasons.items())
                if count > before.get(letter, 0)
            },
            to_down=self.to_down / answers,
            stranded=self.stranded,
            overload=self.overload(),
            busiest=self.busiest,
            switches=sum(self.switches.values()) / max(len(self.asked), 1),
            most_switches=max(self.switches.values(), default=0),
            out=self.out,
            held=self.held,
            alarms=self.alarms,
            acted_s=None if self.acted_at is None else self.acted_at - self.began,
            recovered_s=None if self.recovered_at is None else self.recovered_at - ended,
        )


def is_usable(word: int) -> bool:
    """Tell whether an appliance takes clients by its word; one over its limit will again in a moment."""
    return bool(word & WEIGHT) and not word & (OUT | NO_HEADROOM)


def fair_weight(word: int, appliance: Appliance) -> int:
    """Return what an appliance's share goes by: its capacity, unless it is out, shed, or climbs."""
    full, weight = weight_of_capacity(appliance.capacity_gbps), word & WEIGHT
    return 0 if not is_usable(word) else full if weight >= SHEDS * full else weight
