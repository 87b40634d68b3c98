"""The scenarios of the scorecard, as data. Times are in seconds from the end of the warm-up.

Demand is a share of the fleet's capacity. All time zones are at the same local hour: that is the hardest case, because
no region has room for another.
"""

from __future__ import annotations

import dataclasses
from typing import Final

WARM_UP_S: Final = 480
# The share of the demand at the end of the warm-up: fast while all have room, then slowly, as on an evening.
WARM_RISE: Final = ((0.0, 0.0), (100.0, 0.6), (400.0, 1.0))
LENGTH_S: Final = 480
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

    The countries' levels differ from that by up to `spread`. With `surge` one country's demand grows by so many times
    its usual demand; with `flash` one title grows to this share of all session starts. `event_s` is when the event
    begins from which loads must settle.
    """

    name: str
    text: str
    levels: Levels
    faults: tuple[Fault, ...] = ()
    surge: Rise | None = None
    flash: Rise | None = None
    event_s: float | None = None
    spread: float = 0.0

    def level(self, now: float) -> float:
        """Return the demand at a time as a share of capacity, without the surge."""
        level = between(self.levels, now)
        return level * between(WARM_RISE, now + WARM_UP_S + 1) if now < 0 else level

    def warm_up(self) -> Scenario:
        """Return the scenario as it is until time 0; equal ones need one warm-up."""
        faults = tuple(fault for fault in self.faults if fault.begins_s < 0)
        return Scenario("", "", flat(self.level(0)), faults, spread=self.spread)


def between(levels: Levels, now: float) -> float:
    """Return the level at a time, linear between the times of `levels`."""
    before = levels[0]
    for after in levels[1:]:
        if now < after[0]:
            return before[1] + max(now - before[0], 0.0) / (after[0] - before[0]) * (after[1] - before[1])
        before = after
    return before[1]


def flat(level: float) -> Levels:
    return ((0.0, level),)


USUAL: Final = 0.75
SCENARIOS: Final = (
    Scenario("friday", "Friday peak: 70 to 90 % of capacity, by country", flat(0.8), spread=0.1),
    Scenario(
        "live_event",
        "live event: one country's demand triples within five minutes",
        flat(USUAL),
        surge=Rise(2.0, 30, 300),
        event_s=30,
    ),
    Scenario(
        "sites_lost",
        "the largest sites of ten countries are lost",
        flat(USUAL),
        (Fault("dead", "largest_sites", 30),),
        event_s=30,
    ),
    Scenario(
        "isp_lost",
        "all appliances of one ISP are lost",
        flat(USUAL),
        (Fault("dead", "largest_isp", 30),),
        event_s=30,
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
        (Fault("dead", "largest_exchange", 30, period_s=90),),
        event_s=30,
    ),
    Scenario(
        "mass_return",
        "the largest sites of ten countries return after an outage",
        flat(USUAL),
        (Fault("dead", "largest_sites", -FOREVER, 30),),
        event_s=30,
    ),
    Scenario(
        "slow_leak",
        "a twentieth of the appliances slowly loses 70 % of its capacity",
        flat(USUAL),
        (Fault("delivers", "twentieth", 30, LENGTH_S, factor=0.3, gradual=True),),
        event_s=30,
    ),
    Scenario(
        "flash_title",
        "one title grows to a third of all session starts within five minutes",
        flat(USUAL),
        flash=Rise(1 / 3, 30, 300),
        event_s=30,
    ),
    Scenario(
        "maintenance",
        "night-time maintenance of a tenth of the appliances",
        ((0.0, 0.35), (LENGTH_S, 0.3)),
        (Fault("maintenance", "tenth", 30),),
        event_s=30,
    ),
    Scenario(
        "ipv6_lost",
        "the appliances of ten ISPs lose IPv6 alone",
        flat(USUAL),
        (Fault("no_ipv6", "ten_isps", 30),),
        event_s=30,
    ),
)
BY_NAME: Final = {scenario.name: scenario for scenario in SCENARIOS}
