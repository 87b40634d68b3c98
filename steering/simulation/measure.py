"""Measurements of the answers during a fault and its recovery: counted answer by answer, and once a second.

The load of an appliance is compared with its share by weight of its cluster's answers in that second, by the status
words of that second. A thousand requests a second are few for one appliance, so the part of its load that chance
explains is subtracted before the rest counts as an overload.
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
from steering.control.health.load_balancer import FEWEST_LOAD, LEAST_LOAD_FACTOR, STEADY_S
from steering.model.fleet import Appliance
from steering.simulation.demand import Request
from steering.simulation.world import World
from steering.state.status import weight_of_capacity

WEIGHT: Final = 0xFFFF
OUT: Final = DISABLED | UNHEALTHY | STALE
RANK: Final = re.compile(rb'"rank":([0-9]+)')
CHANCE: Final = 3.0  # standard deviations
BUSY: Final = FEWEST_LOAD * math.log(2) / STEADY_S  # answers a second
LOW_WEIGHT: Final = 0.6 * LEAST_LOAD_FACTOR  # of the full weight; below it, an appliance is low on headroom or ramping
GRACE_S: Final = 2.0  # from a report to answers
# An effect is seen at most this much later: between two looks at all status words, and two requests to control.
LOOK_S: Final = 1.0
ASK_CONTROL_S: Final = 2.0


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One line of the drill. Shares are of the answers; a time is None if the event did not happen."""

    fault: str
    seconds: float
    answers: int
    failed: int
    ranks: Mapping[str, float]  # of the first target: 0, 1, ..., fallback
    reasons: Mapping[str, float]  # answers for which a candidate was passed over, by the reason's letter
    to_down: float  # named an appliance first that had reported failed or full, or is dead
    stranded: int  # named no living appliance
    overload: float  # the largest share of an appliance relative to its share by weight, less chance
    busiest: float  # the most that an appliance delivered, as a share of its capacity
    switches: float  # mean of the panel's clients
    most_switches: int
    out: int  # of the fault's appliances, at once
    suppressed: int
    alarms: Sequence[str]  # kinds
    acted_s: float | None  # from the begin until steering had acted on it
    recovered_s: float | None  # from the end until all serve as before
    wrong: Sequence[str] = ()


class Measure:
    """Counts from now on. `affected` are the numbers of the fault's appliances; one with any of `bits` is out.

    `status_of` returns the status word of a slot now, before the fault.
    """

    def __init__(
        self,
        world: World,
        affected: AbstractSet[int],
        named_before: dict[int, int],
        status_of: Callable[[int], int],
        settles_s: float = 0.0,
        bits: int = OUT,
    ) -> None:
        self.world, self.affected, self.bits, self.named_before = world, affected, bits, named_before
        self.began, self.settled = world.now, world.now + settles_s
        self.ended: float | None = None
        self.compared_at: float | None = None
        self.acted_at: float | None = None
        self.recovered_at: float | None = None
        self.answers = self.failed = self.to_down = self.stranded = 0
        self.out = self.suppressed = self.most_acted = 0
        self.compared_s = self.busiest = 0.0
        self.ranks: Counter[str] = Counter()
        self.switches: Counter[int] = Counter()
        self.asked: set[int] = set()
        self.tick: Counter[int] = Counter()
        self.given: Counter[int] = Counter()
        self.fair: dict[int, float] = {}
        self.usable_before = self.usable(status_of)
        self.alarms: list[str] = []
        self.reasons: Mapping[str, int] = {}
        self.reasons_before: Mapping[str, int] | None = None

    def answer(self, asked: Request, body: bytes, named: Sequence[int]) -> None:
        """Count an answer and the appliances that it named."""
        world = self.world
        self.answers += 1
        rank = RANK.search(body)
        if not named or not rank:
            self.ranks["fallback"] += 1
            return
        first = named[0]
        self.ranks[rank[1].decode()] += 1
        self.tick[first] += 1
        if first in world.dead or world.now - world.refusing.get(first, world.now) > GRACE_S:
            self.to_down += 1
            self.stranded += all(number in world.dead for number in named)
        if asked.panel >= 0:
            self.asked.add(asked.panel)
            before = self.named_before.get(asked.panel, first)
            self.switches[asked.panel] += before != first
            self.named_before[asked.panel] = first

    def look(
        self,
        status_of: Callable[[int], int],
        alarms: Sequence[str],
        suppressed: int,
        reasons: Mapping[str, int],
        acted: int,
    ) -> None:
        """Look at all status words and at control's state, once a second; `acted` is how far steering acted."""
        world = self.world
        self.reasons = reasons
        if self.reasons_before is None:
            self.reasons_before = reasons
        self.compare(status_of)
        out = len(self.usable_before - self.usable(status_of))
        self.suppressed = max(self.suppressed, suppressed)
        self.alarms += [alarm for alarm in alarms if alarm not in self.alarms]
        if self.ended is None:
            self.out = max(self.out, out)
            acted = acted or out
            if acted > self.most_acted:
                self.most_acted, self.acted_at = acted, world.now
        elif self.recovered_at is None and not out and not alarms and not suppressed:
            self.recovered_at = world.now

    def usable(self, status_of: Callable[[int], int]) -> set[int]:
        """Return the affected appliances that are not out."""
        appliances = self.world.appliances
        return {number for number in self.affected if not status_of(appliances[number].slot) & self.bits}

    def compare(self, status_of: Callable[[int], int]) -> None:
        """Compare the answers of each appliance since the last look with its share of its cluster's."""
        world = self.world
        judged = self.ended is None and world.now >= self.settled
        if judged and self.compared_at is not None:
            self.compared_s += world.now - self.compared_at
        self.compared_at = world.now
        for members in world.followed_clusters:
            busy = max(world.delivers(number) / world.appliances[number].capacity_gbps for number in members)
            self.busiest = max(self.busiest, busy)
            total = sum(self.tick[number] for number in members)
            weights = [
                fair_weight(status_of(world.appliances[number].slot), world.appliances[number]) for number in members
            ]
            if judged and total and any(weights):
                for number, weight in zip(members, weights, strict=True):
                    self.given[number] += self.tick[number]
                    self.fair[number] = self.fair.get(number, 0.0) + total * weight / sum(weights)
        self.tick.clear()

    def overload(self) -> float:
        """Return the largest share relative to the share by weight; 0 if no appliance had enough requests."""
        least = BUSY * self.compared_s
        ratios = (
            (self.given[number] - CHANCE * math.sqrt(fair)) / fair for number, fair in self.fair.items() if fair > least
        )
        return max(ratios, default=0.0)

    def row(self, fault: str) -> Row:
        """Return the row of a fault."""
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
            suppressed=self.suppressed,
            alarms=self.alarms,
            acted_s=None if self.acted_at is None else self.acted_at - self.began,
            recovered_s=None if self.recovered_at is None else self.recovered_at - ended,
        )


def fair_weight(status: int, appliance: Appliance) -> int:
    """Return the weight for an appliance's fair share: its capacity, unless it is out, low on headroom or ramping.

    An overloaded appliance counts: it soon takes clients again.
    """
    full, weight = weight_of_capacity(appliance.capacity_gbps), status & WEIGHT
    return 0 if status & (OUT | NO_HEADROOM) else full if weight >= LOW_WEIGHT * full else weight
