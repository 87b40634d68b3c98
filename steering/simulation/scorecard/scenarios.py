"""The scenarios of the scorecard, as data. Times are in seconds from the end of the warm-up.

Demand is a share of the fleet's capacity. All time zones are at the same local hour: that is the hardest case, because
no region has room for another.
"""

from __future__ import annotations

import dataclasses
from typing import Final

from steering.simulation.popularity import level_of_day

WARM_UP_S: Final = 300  # demand rises for WARM_RISE_S of it, then loads settle
WARM_RISE_S: Final = 200
LENGTH_S: Final = 900
FOREVER: Final = float("inf")
Levels = tuple[tuple[float, float], ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with some appliances from a time to another.

    `effect` is dead (no report, no byte), delivers (a `factor` of the capacity), claims (a `factor` of the capacity, in
    reports), maintenance (a window), or no_ipv6. `where` is a name of `places.CHOICES`. With `gradual` the factor is
    reached at the end; with `period_s` the fault is on in the first half of each period.
    """

    effect: str
    where: str
    begins_s: float = -FOREVER
    ends_s: float = FOREVER
    factor: float = 0.0
    gradual: bool = False
    period_s: float = 0.0

    def strength(self, now: float) -> float:
        """Return how far the fault is on: 0 is not at all, 1 is wholly."""
        if not self.begins_s <= now < self.ends_s:
            return 0.0
        if self.gradual:
            return (now - self.begins_s) / (self.ends_s - self.begins_s)
        return float(not self.period_s or (now - self.begins_s) % self.period_s < self.period_s / 2)


@dataclasses.dataclass(frozen=True, slots=True)
class Rise:
    """What grows linearly from a time on: `amount` is reached after `ramp_s`."""

    amount: float
    begins_s: float
    ramp_s: float

    def at(self, now: float) -> float:
        return self.amount * min(max((now - self.begins_s) / self.ramp_s, 0.0), 1.0)


@dataclasses.dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario. `levels` are times with the demand at each, linear between them.

    With `surge` one country's demand grows by so many times its usual demand; with `flash` one title grows to this
    share of all session starts. `event_s` is when the event begins from which loads must settle.
    """

    name: str
    text: str
    levels: Levels
    faults: tuple[Fault, ...] = ()
    surge: Rise | None = None
    flash: Rise | None = None
    event_s: float | None = None

    def level(self, now: float) -> float:
        """Return the demand at a time as a share of capacity, without the surge."""
        before = self.levels[0]
        if now <= before[0]:
            return before[1] * min((now + WARM_UP_S + 1) / WARM_RISE_S, 1.0)
        for after in self.levels[1:]:
            if now < after[0]:
                share = (now - before[0]) / (after[0] - before[0])
                return before[1] + share * (after[1] - before[1])
            before = after
        return before[1]


def friday_evening(busiest: float) -> Levels:
    """Return the rise from 16:30 to 21:30, in the time of a scenario."""
    peak = level_of_day(21.5)
    hours = [16.5 + index / 2 for index in range(11)]
    return tuple((LENGTH_S * index / 10, busiest * level_of_day(hour) / peak) for index, hour in enumerate(hours))


def flat(level: float) -> Levels:
    return ((0.0, level),)


USUAL: Final = 0.75
SCENARIOS: Final = (
    Scenario("friday", "Friday peak: 70 to 90 % of capacity", friday_evening(0.9)),
    Scenario(
        "live_event",
        "live event: one country's demand triples within five minutes",
        flat(USUAL),
        surge=Rise(2.0, 60, 300),
        event_s=60,
    ),
    Scenario(
        "sites_lost",
        "the largest sites of ten countries are lost",
        flat(USUAL),
        (Fault("dead", "largest_sites", 120),),
        event_s=120,
    ),
    Scenario(
        "isp_lost",
        "all appliances of one ISP are lost",
        flat(USUAL),
        (Fault("dead", "largest_isp", 120),),
        event_s=120,
    ),
    Scenario("overload", "1.15 times more demand than capacity", flat(1.15)),
    Scenario(
        "half_delivers",
        "a tenth of the appliances deliver half of what they claim",
        flat(USUAL),
        (Fault("delivers", "tenth", factor=0.5),),
    ),
    Scenario(
        "misreports",
        "a twentieth delivers half of what it claims, another claims half of what it delivers",
        flat(USUAL),
        (Fault("delivers", "twentieth", factor=0.5), Fault("claims", "other_twentieth", factor=0.5)),
    ),
    Scenario(
        "flapping",
        "the largest exchange fails for 45 s of every 90 s",
        flat(USUAL),
        (Fault("dead", "largest_exchange", 120, period_s=90),),
        event_s=120,
    ),
    Scenario(
        "mass_return",
        "the largest sites of ten countries return after an outage",
        flat(USUAL),
        (Fault("dead", "largest_sites", -FOREVER, 240),),
        event_s=240,
    ),
    Scenario(
        "slow_leak",
        "a twentieth of the appliances slowly loses 70 % of its capacity",
        flat(USUAL),
        (Fault("delivers", "twentieth", 60, LENGTH_S, factor=0.3, gradual=True),),
        event_s=60,
    ),
    Scenario(
        "flash_title",
        "one title grows to a third of all session starts within five minutes",
        flat(USUAL),
        flash=Rise(1 / 3, 60, 300),
        event_s=60,
    ),
    Scenario(
        "maintenance",
        "night-time maintenance of a tenth of the appliances",
        ((0.0, 0.35), (LENGTH_S, 0.3)),
        (Fault("maintenance", "tenth", 120),),
        event_s=120,
    ),
    Scenario(
        "ipv6_lost",
        "the appliances of ten ISPs lose IPv6 alone",
        flat(USUAL),
        (Fault("no_ipv6", "ten_isps", 120),),
        event_s=120,
    ),
)
BY_NAME: Final = {scenario.name: scenario for scenario in SCENARIOS}
