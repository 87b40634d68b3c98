"""From what is said of an appliance to the word that every pick reads. Pure: the clock is handed in.

    people override       enabled, a set weight, whom to set_health_source                  act at once
    it says itself    healthy or not, how much headroom, which families       acts at once
    others infer      silence, the checker's and monitors' observations       n up or m down in a row, then the
                                                                              ejection_limits radius (`ejection_limits.py`) lets it act
    ───────────────────────────────────────────────────────────────────────────────────────────────
    word              16 bits of weight; D disabled, H full or over its limit, U unhealthy, S stale, families

An *assumed* appliance has its capacity as weight, and nothing but overrides, and a checker where it has one, changes
that. A *reported* one is believed by its reports, and one never heard of is not usable. The weight of a reported one
is its full weight times a *level* from 0 to 1: 1 while its headroom is above a high mark, falling to 0 at a low one,
half where it is degraded. The level moves by a small step a tick, and after a recovery climbs slowly from a tenth.
Weight is not headroom itself: that would move titles from appliance to appliance all day, and empty their caches.

Times are those of a clock that never jumps (`vitals.py`); an appliance's own clock is shown, and decides nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final

from _fastpath.status_words import DISABLED, IPV4_UP, IPV6_UP, NO_HEADROOM, OVER_LIMIT, STALE, UNHEALTHY
from steering.control.records.database import Override
from steering.model.fleet import Appliance
from steering.state.status import weight_of_capacity

STATES: Final = ("ok", "degraded", "failed")  # the worst of an appliance's components is its own
DEGRADED_LEVEL: Final = 0.5
FIRST_LEVEL: Final = 0.1  # after a recovery
BACK_OF_MARKS: Final = 0.25  # of the way from the low to the high mark: where a full appliance takes clients again


@dataclasses.dataclass(frozen=True, slots=True)
class Rules:
    """The settings of health, by their names there."""

    health_source: str = "auto"
    report_s: float = 10.0
    missed_reports: int = 3
    down_after: int = 3
    up_after: int = 2
    low_headroom: float = 0.05
    high_headroom: float = 0.2
    weight_step: float = 0.1
    slow_start_s: float = 60.0

    @property
    def stale_s(self) -> float:
        """How long an appliance may be silent."""
        return self.report_s * self.missed_reports


@dataclasses.dataclass(frozen=True, slots=True)
class Health:
    """What a report says: the worst state of its components, and why. None is what it does not say."""

    state: str = "ok"
    why: str = ""
    throughput_gbps: float | None = None
    headroom_gbps: float | None = None
    connections: int | None = None
    error_rate: float | None = None
    disk_used: float | None = None
    ipv4: bool = True
    ipv6: bool = True


@dataclasses.dataclass(frozen=True, slots=True)
class RoutesHeard:
    """How many prefixes of a family an appliance hears, and their digest."""

    count: int
    digest: str


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """One report: `boot` changes when the reporter starts anew, `seq` grows; `at` is its own clock."""

    boot: str
    seq: int
    at: float | None = None
    health: Health | None = None
    routes: Mapping[int, RoutesHeard] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Condition:
    """Something that holds or not, since when and why."""

    holds: bool
    since: float
    why: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Vital:
    """What is known of one appliance.

    `fine` is what others infer of it: of the whole, of it over IPv4, over IPv6; `streaks` count equal observations in a
    row, good above 0, bad below.
    """

    healthy: Condition  # by its own word
    fine: tuple[Condition, Condition, Condition]
    heard: Condition  # not stale; never heard at all is stale
    boot: str = ""
    boot_before: str = ""
    seq: int = -1
    heard_at: float | None = None
    skew_s: float | None = None
    health: Health | None = None
    routes: Mapping[int, RoutesHeard] | None = None
    streaks: tuple[int, int, int] = (0, 0, 0)
    level: float = 1.0
    climbing: bool = False  # slowly, after a recovery
    full: bool = False

    @property
    def reports(self) -> bool:
        """Whether it ever reported."""
        return self.seq >= 0


def unheard(now: float) -> Vital:
    """Return what is known of an appliance at first: nothing."""
    good = Condition(True, now)
    return Vital(good, (good, good, good), Condition(False, now, "never heard of"))


def is_reported(vital: Vital, override: Override, rules: Rules) -> bool:
    """Tell whether an appliance is believed by its reports; if not, it is assumed to have its capacity."""
    health_source = override.health_source or rules.health_source
    return vital.reports if health_source == "auto" else health_source == "reported"


def verdict_of(vital: Vital, report: Report) -> str:
    """Return `accepted`, or `repeated` or `late` where a report says nothing new.

    Within a boot the sequence number decides. A boot that is not this one is a new start, but for the one before.
    """
    if report.boot == vital.boot and vital.reports:
        if report.seq > vital.seq:
            return "accepted"
        return "repeated" if report.seq == vital.seq else "late"
    return "late" if report.boot == vital.boot_before and vital.boot_before else "accepted"


def with_report(vital: Vital, report: Report, capacity_gbps: float, now: float, rules: Rules) -> Vital:
    """Return what is known after an appliance's own report that was accepted."""
    health = report.health or vital.health
    healthy = vital.healthy
    if health and (health.state != "failed") != healthy.holds:
        healthy = Condition(health.state != "failed", now, health.why)
    elif health and not healthy.holds and health.why != healthy.why:
        healthy = dataclasses.replace(healthy, why=health.why)
    return dataclasses.replace(
        vital,
        healthy=healthy,
        heard=vital.heard if vital.heard.holds else Condition(True, now),
        boot=report.boot,
        boot_before=vital.boot_before if report.boot == vital.boot else vital.boot,
        seq=report.seq,
        heard_at=now,
        skew_s=None if report.at is None else report.at - now,
        health=health,
        routes=report.routes if report.routes is not None else vital.routes,
        full=is_full(health, capacity_gbps, vital.full, rules),
    )


def with_observation(vital: Vital, ok: bool, why: str, now: float, rules: Rules, family: int = 0) -> Vital:
    """Return what is known after somebody else's observation: enough of them in a row turn what is inferred.

    `family` is 4 or 6 where it is of that alone.
    """
    place = (0, 4, 6).index(family)
    fine, streaks = list(vital.fine), list(vital.streaks)
    streaks[place] = max(streaks[place], 0) + 1 if ok else min(streaks[place], 0) - 1
    if ok and not fine[place].holds and streaks[place] >= rules.up_after:
        fine[place] = Condition(True, now)
    elif not ok and fine[place].holds and -streaks[place] >= rules.down_after:
        fine[place] = Condition(False, now, why)
    return dataclasses.replace(vital, fine=(fine[0], fine[1], fine[2]), streaks=(streaks[0], streaks[1], streaks[2]))


def with_silence(vital: Vital, now: float, rules: Rules) -> Vital:
    """Return what is known at a tick: who has said nothing for too long is stale."""
    if vital.heard.holds and vital.heard_at is not None and now - vital.heard_at > rules.stale_s:
        why = f"silent for {rules.missed_reports} reports of {rules.report_s:g} s"
        return dataclasses.replace(vital, heard=Condition(False, now, why))
    return vital


def with_slow_start(vital: Vital) -> Vital:
    """Return what is known of an appliance that was out, unhealthy or stale, and is back: its level climbs again."""
    return dataclasses.replace(vital, level=FIRST_LEVEL, climbing=True)


def with_step(vital: Vital, capacity_gbps: float, elapsed_s: float, rules: Rules) -> Vital:
    """Return the next level: nearer to where it should be by one step at most, and slower on the way back."""
    aim = level_aimed_at(vital.health, capacity_gbps, rules)
    up = elapsed_s / rules.slow_start_s if vital.climbing and rules.slow_start_s else 1.0
    level = min(max(aim, vital.level - rules.weight_step), vital.level + min(up, rules.weight_step))
    climbing = vital.climbing and level < aim
    if level == vital.level and climbing == vital.climbing:
        return vital
    return dataclasses.replace(vital, level=level, climbing=climbing)


def level_aimed_at(health: Health | None, capacity_gbps: float, rules: Rules) -> float:
    """Return the share of its full weight that an appliance should have by its last report."""
    if health is None:
        return 1.0
    level = DEGRADED_LEVEL if health.state == "degraded" else 1.0
    if health.headroom_gbps is not None:
        room = health.headroom_gbps / capacity_gbps
        marks = rules.high_headroom - rules.low_headroom
        level *= min(max((room - rules.low_headroom) / marks, 0.0), 1.0) if marks else room > rules.low_headroom
    return level


def is_full(health: Health | None, capacity_gbps: float, was_full: bool, rules: Rules) -> bool:
    """Tell whether an appliance takes no new clients for want of headroom: at the low mark, until well above it."""
    if health is None or health.headroom_gbps is None:
        return False
    low = rules.low_headroom + was_full * BACK_OF_MARKS * (rules.high_headroom - rules.low_headroom)
    return health.headroom_gbps <= low * capacity_gbps


def full_weight(appliance: Appliance, override: Override) -> int:
    """Return the weight at level 1: the set one, or the capacity's."""
    return weight_of_capacity(appliance.capacity_gbps) if override.weight is None else override.weight


def word_of(
    appliance: Appliance,
    override: Override,
    vital: Vital,
    rules: Rules,
    *,
    enabled: bool = True,
    out: bool = False,
    over: bool = False,
    trim: float = 1.0,
) -> int:
    """Return the word of an appliance.

    `enabled` is False in a maintenance window, `out` says that what is inferred of it may act, `over` that it is over
    its limit.
    """
    weight = full_weight(appliance, override)
    ipv4, ipv6 = appliance.ipv4, appliance.ipv6
    word = 0
    if is_reported(vital, override, rules):
        weight = max(round(weight * vital.level), min(weight, 1))
        if vital.health:
            ipv4, ipv6 = ipv4 and vital.health.ipv4, ipv6 and vital.health.ipv6
        word |= UNHEALTHY * (not vital.healthy.holds)
        word |= NO_HEADROOM * vital.full
        word |= STALE * (not vital.heard.holds and (out or not vital.reports))
    if out:
        whole, over_ipv4, over_ipv6 = vital.fine
        word |= UNHEALTHY * (not whole.holds)
        ipv4, ipv6 = ipv4 and over_ipv4.holds, ipv6 and over_ipv6.holds
    weight = max(round(weight * trim), min(weight, 1))
    word |= OVER_LIMIT * over
    word |= DISABLED * (not (enabled and override.enabled))
    return word | weight | IPV4_UP * ipv4 | IPV6_UP * ipv6


def is_suspect(vital: Vital, override: Override, rules: Rules) -> bool:
    """Tell whether something inferred speaks against an appliance, whether it may act or not."""
    silent = vital.reports and not vital.heard.holds and is_reported(vital, override, rules)
    return silent or not all(condition.holds for condition in vital.fine)


def suspicion_of(vital: Vital) -> Condition:
    """Return what others found wrong, or that it is fine."""
    return next((condition for condition in vital.fine if not condition.holds), vital.fine[0])
