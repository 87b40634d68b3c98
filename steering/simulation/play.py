"""The play: faults one after another, with quiet time between. Its driver brings the clock and the service.

advance ──► the reports, observations and requests that are due ──► the service
answered ◄── an answer
look ◄── status words, alarms, suppressed ejections, reasons; once a second
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from steering.decision.snapshot import Snapshot
from steering.model.fleet import Fleet
from steering.settings import Settings
from steering.simulation.demand import Demand, Request, find_groups, find_stage
from steering.simulation.faults import Fault
from steering.simulation.measure import Measure, Row
from steering.simulation.world import World

WATCHED: Final = 6.0  # report intervals that a viewer watches, on average; short, so that overload shows within a drill
PANEL_REQUESTS: Final = 2.0  # times in a report interval that a client of the panel asks


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """The times of a play: `first_s` to settle, `quiet_s` without a fault, then the faults.

    A fault is on for `on_s`, and has `off_s` to recover.
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
    """What the driver must do now."""

    reports: Sequence[int]
    observed: Sequence[tuple[int, bool]]
    asked: Sequence[Request]


def make_world(fleet: Fleet, snapshot: Snapshot, plan: Plan, settings: Settings) -> World:
    """Return the world of a fleet whose table is published."""
    memory_s, panel_s = WATCHED * settings.report_s, settings.report_s / PANEL_REQUESTS
    rnd = random.Random(plan.seed)  # noqa: S311 (a seeded play, no secret)
    groups = find_groups(snapshot, fleet, plan.busy, rnd)
    stage = find_stage(fleet, groups)
    demand = Demand(groups, stage, plan.requests_per_s, memory_s, plan.panel, panel_s, rnd)
    return World(fleet, demand, stage, plan.busy, memory_s, settings, rnd)


class Play:
    """Plays the faults over a world. The first part is quiet; the others are compared with it."""

    def __init__(self, world: World, plan: Plan, fault_types: Sequence[type[Fault]], settings: Settings) -> None:
        self.world = world
        self.plan = plan
        self.parts: list[Fault] = [Fault(world, settings), *(fault(world, settings) for fault in fault_types)]
        self.part = 0
        self.rows: list[Row] = []
        self.named_before: dict[int, int] = {}
        self.is_on = False
        self.next_at = plan.first_s
        self.status_of: Callable[[int], int] = lambda _: 0  # at the last look
        self.measure = Measure(world, frozenset(), {}, self.status_of)

    @property
    def fault(self) -> Fault:
        return self.parts[min(self.part, len(self.parts) - 1)]

    @property
    def done(self) -> bool:
        return self.part == len(self.parts)

    def advance(self, now: float) -> Due:
        """Advance to a time; return what is due."""
        reports, asked = self.world.advance(now)
        if not self.done and now >= self.next_at:
            self.turn()
        if self.is_on:
            self.fault.during(now - self.measure.began)
        observed, self.world.observed = self.world.observed, []
        return Due(reports, observed, asked)

    def turn(self) -> None:
        """Begin the part, end it, or store its row and begin the next one."""
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
        fault = self.fault
        self.measure = Measure(
            self.world, fault.affected, self.named_before, self.status_of, fault.settles_s, fault.bits
        )
        fault.begin()
        self.is_on = True
        self.next_at = now + (self.plan.on_s if self.part else self.plan.quiet_s)

    def answered(self, asked: Request, body: bytes) -> list[int]:
        """Use an answer; return the appliances that it names, best first."""
        named = self.world.play(asked, body)
        self.measure.answer(asked, body, named)
        self.fault.notice(asked, named)
        return named

    def look(
        self, status_of: Callable[[int], int], alarms: Sequence[str], suppressed: int, reasons: Mapping[str, int]
    ) -> None:
        """Look at the state of the service, once a second."""
        self.status_of = status_of
        self.measure.look(status_of, alarms, suppressed, reasons, self.fault.acted_count())
