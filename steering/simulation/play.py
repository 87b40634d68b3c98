"""The play: faults one after another, with quiet time between. Whoever drives it brings the clock and the service.

advance ──► who reports now, what a monitor says, what is asked ──► the service
answered  ◄── an answer                     look ◄── words, alarms, who is held, reasons; once a second
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from steering.control.health.rules import Rules
from steering.decision.snapshot import Snapshot
from steering.model.fleet import Fleet
from steering.simulation.demand import Asked, Demand, find_groups, find_stage
from steering.simulation.faults import Fault, Rulebook
from steering.simulation.measure import Measure, Row
from steering.simulation.world import World

WATCHED: Final = 6.0  # report intervals that a viewer watches, in the mean: overload has to be seen within a drill
ASKED: Final = 2.0  # times in a report interval that a client of the panel asks


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """How it is played: for `first_s` all report and loads settle, for `quiet_s` nothing happens; then come the faults.

    A fault is on for `on_s`, and has `off_s` to be over.
    """

    first_s: float
    quiet_s: float
    on_s: float
    off_s: float
    requests_per_s: float = 1000.0
    panel: int = 500
    busy: float = 0.6
    seed: int = 1


class Due(NamedTuple):
    """What is to be done now."""

    reports: Sequence[int]
    observed: Sequence[tuple[int, bool]]
    asked: Sequence[Asked]


def make_world(fleet: Fleet, snapshot: Snapshot, plan: Plan, rules: Rules) -> World:
    """Return the world of a fleet whose table is published."""
    memory_s, panel_s = WATCHED * rules.report_s, rules.report_s / ASKED
    rnd = random.Random(plan.seed)  # noqa: S311 (a seeded play, no secret)
    groups = find_groups(snapshot, fleet, plan.busy, rnd)
    stage = find_stage(fleet, groups)
    demand = Demand(groups, stage, plan.requests_per_s, memory_s, plan.panel, panel_s, rnd)
    return World(fleet, demand, stage, plan.busy, memory_s, rules, rnd)


class Play:
    """Plays the faults over a world. The first part is quiet, and what the others are compared with."""

    def __init__(self, world: World, plan: Plan, kinds: Sequence[type[Fault]], book: Rulebook) -> None:
        self.world = world
        self.plan = plan
        self.parts: list[Fault] = [Fault(world, book), *(kind(world, book) for kind in kinds)]
        self.part = 0
        self.rows: list[Row] = []
        self.told_before: dict[int, int] = {}
        self.is_on = False
        self.next_at = plan.first_s
        self.measure = Measure(world, frozenset(), {})

    @property
    def fault(self) -> Fault:
        """The part that is played."""
        return self.parts[min(self.part, len(self.parts) - 1)]

    @property
    def done(self) -> bool:
        """Whether all were played."""
        return self.part == len(self.parts)

    def advance(self, now: float) -> Due:
        """Go on to a time; return what is due."""
        reports, asked = self.world.advance(now)
        if not self.done and now >= self.next_at:
            self.turn()
        if self.is_on:
            self.fault.during(now - self.measure.began)
        observed, self.world.observed = self.world.observed, []
        return Due(reports, observed, asked)

    def turn(self) -> None:
        """Begin the part, end it, or take its row and begin the next one."""
        fault, now = self.fault, self.world.now
        if self.is_on:
            fault.end()
            self.is_on, self.measure.ended = False, now
            if self.part:
                self.next_at = now + self.plan.off_s
                return
        if self.measure.ended is not None:
            row = self.measure.row(fault.name)
            quiet = self.rows[0] if self.rows else row
            wrong = [f"{row.failed} requests failed"] * bool(row.failed) + list(fault.wrong(row, quiet))
            self.rows.append(dataclasses.replace(row, wrong=wrong))
            self.part += 1
            if self.done:
                return
        self.measure = Measure(self.world, self.fault.about, self.told_before, self.fault.settles_s, self.fault.bits)
        self.fault.begin()
        self.is_on = True
        self.next_at = now + (self.plan.on_s if self.part else self.plan.quiet_s)

    def answered(self, asked: Asked, body: bytes) -> list[int]:
        """Take an answer; return whom it names, best first."""
        told = self.world.play(asked, body)
        self.measure.answer(asked, body, told)
        self.fault.notice(asked, told)
        return told

    def look(self, word_of: Callable[[int], int], alarms: Sequence[str], held: int, reasons: Mapping[str, int]) -> None:
        """Look at what is served, once a second."""
        self.measure.look(word_of, alarms, held, reasons, self.fault.level())
