"""The rules that turn reports, observations and overrides into an appliance's status word. Pure: time is an argument.

    operators      enabled, a set weight, the health source              used at once
    the appliance  healthy or not, headroom, address families            used at once
    inference      silence; observations of the checker and of monitors  after several in a row, and only as far as
                                                                         the ejection limits allow (ejection_limits.py)
    ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
    status word    16 bits of weight; D disabled, H full or overloaded, U unhealthy, S stale, address families;
                   how many of the viewers who play elsewhere are held back from moving up to it, and the pressure of
                   its cluster (pressure.py)

An *assumed* appliance has the weight of its capacity; only overrides and the checker change its status word. A
*reported* appliance follows its own reports, and is not usable before its first one. Its weight is its full weight
times a *ramp* from 0 to 1: 1 while its headroom is above the high mark, falling to 0 at the low mark, halved while it
is degraded. The ramp moves by one small step a tick; after a recovery it rises slowly, from a tenth. Weight is not
headroom itself: that would move titles between appliances all day, and empty their caches.

All times are of a clock that never jumps (`registry.steady_clock`). An appliance's own clock is shown and decides
nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from _fastpath.status_words import (
    DISABLED,
    HELD_BACK,
    IPV4_UP,
    IPV6_UP,
    MOST_HELD_BACK,
    NO_HEADROOM,
    OVER_LIMIT,
    PACE,
    STALE,
    UNHEALTHY,
)
from steering.control.health.learned_capacity import NOTHING_LEARNED, Delivery, learn
from steering.control.records.overrides import Override
from steering.model.fleet import Appliance
from steering.model.route import RoutesHeard
from steering.settings import Settings
from steering.state.status import weight_of_capacity

STATES: Final = ("ok", "degraded", "failed")  # of a component; the worst one is the appliance's
DEGRADED_RAMP: Final = 0.5
FIRST_RAMP: Final = 0.1  # after a recovery
MOST_OBSERVERS: Final = 8  # boots of monitors whose last reports about an appliance are kept
MOST_SENT: Final = 8  # times of one boot that are kept
REFILL_MARK: Final = 0.25  # of the way from the low to the high mark: a full appliance takes clients again from here


class Health(msgspec.Struct, frozen=True):
    """The health in a report: the worst state of the components and the reason. None is a figure not reported."""

    state: str = "ok"
    why: str = ""
    throughput_gbps: float | None = None
    headroom_gbps: float | None = None
    connections: int | None = None
    error_rate: float | None = None
    disk_used: float | None = None
    ipv4: bool = True
    ipv6: bool = True


class Report(msgspec.Struct, frozen=True):
    """One report. `boot` changes when the reporter restarts, `seq` grows, `sent_at` is the reporter's own clock."""

    boot: str
    seq: int
    sent_at: float | None = None
    health: Health | None = None
    routes: Mapping[int, RoutesHeard] | None = None


class Condition(msgspec.Struct, frozen=True):
    """A condition: whether it holds, since when and why."""

    holds: bool
    since: float
    why: str = ""


class Observer(NamedTuple):
    """The last reports of a monitor about an appliance: the newest number, and their times by the monitor's clock."""

    seq: int
    sent: tuple[float, ...] = ()


class HealthRecord(msgspec.Struct, frozen=True):
    """What control knows of one appliance's health.

    `inferred` are the conclusions from observations: of the appliance as a whole, over IPv4 and over IPv6. `streaks`
    count equal observations in a row, above 0 for good ones, below 0 for bad ones.
    """

    healthy: Condition  # by the appliance's own reports
    inferred: tuple[Condition, Condition, Condition]
    fresh: Condition  # not stale; an appliance that never reported is stale
    boot: str = ""
    boot_before: str = ""
    seq: int = -1
    reported_at: float | None = None
    skew_s: float | None = None
    health: Health | None = None
    routes: Mapping[int, RoutesHeard] | None = None
    observers: Mapping[str, Observer] = msgspec.field(default_factory=dict)  # by token and boot, newest last
    streaks: tuple[int, int, int] = (0, 0, 0)
    ramp: float = 1.0
    ramping: bool = False  # slowly, after a recovery
    full: bool = False
    returned: float = 1.0  # the share of the viewers who play elsewhere that may come back
    delivery: Delivery = NOTHING_LEARNED

    @property
    def reports(self) -> bool:
        """Whether the appliance ever reported."""
        return self.seq >= 0


def new_record(now: float) -> HealthRecord:
    """Return the record of an appliance that never reported and was never observed."""
    good = Condition(True, now)
    return HealthRecord(good, (good, good, good), Condition(False, now, "no report yet"))


def is_reported(record: HealthRecord, override: Override, settings: Settings) -> bool:
    """Return whether the health source is the appliance's reports; otherwise it is assumed to have its capacity."""
    health_source = override.health_source or settings.health_source
    return record.reports if health_source == "auto" else health_source == "reported"


def verdict_of(record: HealthRecord, report: Report) -> str:
    """Return `accepted`, or `repeated` or `late` for a report that is not newer than the record.

    Within a boot the sequence number decides. Another boot is a restart, except the boot before this one.
    """
    if report.boot == record.boot and record.reports:
        if report.seq > record.seq:
            return "accepted"
        return "repeated" if report.seq == record.seq else "late"
    return "late" if report.boot == record.boot_before and record.boot_before else "accepted"


def heard_from(record: HealthRecord, report: Report, monitor: int) -> tuple[HealthRecord, str]:
    """Return the record after a monitor's report, and the verdict on it, as `verdict_of` has them.

    Each boot of each monitor has its own order, because several may share a token. A report with a new `seq` and a
    `sent_at` that was received before is an old observation, sent again.
    """
    name = f"{monitor} {report.boot}"
    last = record.observers.get(name)
    if last and report.seq < last.seq:
        return record, "late"
    if last and (report.seq == last.seq or report.sent_at in last.sent):
        return record, "repeated"
    sent = () if report.sent_at is None else (report.sent_at,)
    observers = {other: seen for other, seen in record.observers.items() if other != name}
    while len(observers) >= MOST_OBSERVERS:
        del observers[next(iter(observers))]
    observers[name] = Observer(report.seq, ((last.sent if last else ()) + sent)[-MOST_SENT:])
    return msgspec.structs.replace(record, observers=observers), "accepted"


def with_report(
    record: HealthRecord, report: Report, capacity_gbps: float, now: float, settings: Settings
) -> HealthRecord:
    """Return the record after an accepted report of the appliance itself."""
    health = report.health or record.health
    healthy = record.healthy
    if health and (health.state != "failed") != healthy.holds:
        healthy = Condition(health.state != "failed", now, health.why)
    elif health and not healthy.holds and health.why != healthy.why:
        healthy = msgspec.structs.replace(healthy, why=health.why)
    delivery = record.delivery
    if report.health and health and health.throughput_gbps is not None and health.connections is not None:
        elapsed_s = now - record.reported_at if record.reported_at is not None else 0.0
        delivery = learn(delivery, health.throughput_gbps, health.connections, capacity_gbps, elapsed_s)
    full = is_full(*known(health, delivery, capacity_gbps), record.full, settings)
    return msgspec.structs.replace(
        record,
        delivery=delivery,
        healthy=healthy,
        fresh=record.fresh if record.fresh.holds else Condition(True, now),
        boot=report.boot,
        boot_before=record.boot_before if report.boot == record.boot else record.boot,
        seq=report.seq,
        reported_at=now,
        skew_s=None if report.sent_at is None else report.sent_at - now,
        health=health,
        routes=report.routes if report.routes is not None else record.routes,
        full=full,
        returned=0.0 if full else record.returned,
    )


def with_observation(
    record: HealthRecord, ok: bool, why: str, now: float, settings: Settings, family: int = 0
) -> HealthRecord:
    """Return the record after an observation by the checker or a monitor; enough of them in a row change `inferred`.

    `family` is 4 or 6 for an observation over that family alone.
    """
    index = (0, 4, 6).index(family)
    inferred, streaks = list(record.inferred), list(record.streaks)
    streaks[index] = max(streaks[index], 0) + 1 if ok else min(streaks[index], 0) - 1
    if ok and not inferred[index].holds and streaks[index] >= settings.up_after:
        inferred[index] = Condition(True, now)
    elif not ok and inferred[index].holds and -streaks[index] >= settings.down_after:
        inferred[index] = Condition(False, now, why)
    return msgspec.structs.replace(
        record, inferred=(inferred[0], inferred[1], inferred[2]), streaks=(streaks[0], streaks[1], streaks[2])
    )


def with_silence(record: HealthRecord, now: float, settings: Settings) -> HealthRecord:
    """Return the record at a tick: an appliance that was silent for too long is stale."""
    if record.fresh.holds and record.reported_at is not None and now - record.reported_at > settings.stale_s:
        why = f"silent for {settings.missed_reports} reports of {settings.report_s:g} s"
        return msgspec.structs.replace(record, fresh=Condition(False, now, why))
    return record


def with_slow_start(record: HealthRecord) -> HealthRecord:
    """Return the record of an appliance that was unhealthy or stale and recovered: its ramp starts low."""
    return msgspec.structs.replace(record, ramp=FIRST_RAMP, ramping=True, returned=0.0)


def with_slow_return(record: HealthRecord) -> HealthRecord:
    """Return the record of an appliance that operators let serve again: its viewers come back a share at a time."""
    return msgspec.structs.replace(record, returned=0.0)


def with_step(
    record: HealthRecord, capacity_gbps: float, elapsed_s: float, settings: Settings, *, is_short: bool = False
) -> HealthRecord:
    """Return the record with its ramp one step nearer to its target, and more viewers let back as there is room.

    After a recovery the steps up are smaller. `is_short`: its cluster has no room for viewers who come back.
    """
    target = target_of(record, capacity_gbps, settings)
    up = elapsed_s / settings.slow_start_s if record.ramping and settings.slow_start_s else 1.0
    ramp = min(max(target, record.ramp - settings.weight_step), record.ramp + min(up, settings.weight_step))
    ramping = record.ramping and ramp < target
    returned = record.returned
    if returned < 1.0 and not record.full and not is_short:
        returned = min(returned + elapsed_s * target / settings.return_s, 1.0) if settings.return_s else 1.0
    if (ramp, ramping, returned) == (record.ramp, record.ramping, record.returned):
        return record
    return msgspec.structs.replace(record, ramp=ramp, ramping=ramping, returned=returned)


def known(health: Health | None, delivery: Delivery, capacity_gbps: float) -> tuple[Health | None, float]:
    """Return the health and the capacity to judge by: headroom ends at the learned capacity."""
    learned = delivery.learned_gbps
    if health is None or learned is None or learned >= capacity_gbps:
        return health, capacity_gbps
    left = max(learned - (health.throughput_gbps or 0.0), 0.0)
    claimed = left if health.headroom_gbps is None else health.headroom_gbps
    return msgspec.structs.replace(health, headroom_gbps=min(claimed, left)), learned


def target_of(record: HealthRecord, capacity_gbps: float, settings: Settings) -> float:
    """Return the target of the ramp, a share of the full weight, by the last report and the learned capacity."""
    return target_ramp(*known(record.health, record.delivery, capacity_gbps), settings)


def target_ramp(health: Health | None, capacity_gbps: float, settings: Settings) -> float:
    """Return the share of its full weight that an appliance should have by its last report."""
    if health is None:
        return 1.0
    ramp = DEGRADED_RAMP if health.state == "degraded" else 1.0
    if health.headroom_gbps is not None:
        room = health.headroom_gbps / capacity_gbps
        marks = settings.high_headroom - settings.low_headroom
        ramp *= min(max((room - settings.low_headroom) / marks, 0.0), 1.0) if marks else room > settings.low_headroom
    return ramp


def is_full(health: Health | None, capacity_gbps: float, was_full: bool, settings: Settings) -> bool:
    """Return whether headroom is at the low mark; a full appliance stays full until well above it (hysteresis)."""
    if health is None or health.headroom_gbps is None:
        return False
    low = settings.low_headroom + was_full * REFILL_MARK * (settings.high_headroom - settings.low_headroom)
    return health.headroom_gbps <= low * capacity_gbps


def full_weight(appliance: Appliance, override: Override, learned_gbps: float | None = None) -> int:
    """Return the weight at ramp 1: the weight that an operator set, or that of the claimed or the learned capacity."""
    if override.weight is not None:
        return override.weight
    return weight_of_capacity(min(appliance.capacity_gbps, learned_gbps or appliance.capacity_gbps))


def status_of(
    appliance: Appliance,
    override: Override,
    record: HealthRecord,
    settings: Settings,
    *,
    enabled: bool = True,
    ejected: bool = False,
    overloaded: bool = False,
    load_factor: float = 1.0,
    pressure: int = 0,
) -> int:
    """Return the status word of an appliance.

    `enabled` is False in a maintenance window. `ejected` lets inference count. `load_factor` multiplies the weight.
    `pressure` is that of its cluster.
    """
    is_of_reports = is_reported(record, override, settings)
    weight = full_weight(appliance, override, record.delivery.learned_gbps if is_of_reports else None)
    ipv4, ipv6 = appliance.ipv4, appliance.ipv6
    status = 0
    if is_of_reports:
        weight = max(round(weight * record.ramp), min(weight, 1))
        if record.health:
            ipv4, ipv6 = ipv4 and record.health.ipv4, ipv6 and record.health.ipv6
        status |= UNHEALTHY * (not record.healthy.holds)
        status |= NO_HEADROOM * record.full
        status |= STALE * (not record.fresh.holds and (ejected or not record.reports))
    if ejected:
        whole, over_ipv4, over_ipv6 = record.inferred
        status |= UNHEALTHY * (not whole.holds)
        ipv4, ipv6 = ipv4 and over_ipv4.holds, ipv6 and over_ipv6.holds
    weight = max(round(weight * load_factor), min(weight, 1))
    status |= OVER_LIMIT * overloaded
    status |= DISABLED * (not (enabled and override.enabled))
    pace = MOST_HELD_BACK + pressure if pressure else math.ceil(MOST_HELD_BACK * (1.0 - record.returned))
    status |= pace * HELD_BACK
    return status | weight | IPV4_UP * ipv4 | IPV6_UP * ipv6


def returned_by(status: int) -> float:
    """Return the share of the viewers who play elsewhere that a status word lets come back."""
    return 1.0 - min((status & PACE) // HELD_BACK, MOST_HELD_BACK) / MOST_HELD_BACK


def is_suspect(record: HealthRecord, override: Override, settings: Settings) -> bool:
    """Return whether inference speaks against an appliance, whether or not it may be ejected."""
    silent = record.reports and not record.fresh.holds and is_reported(record, override, settings)
    return silent or not all(condition.holds for condition in record.inferred)


def suspicion_of(record: HealthRecord) -> Condition:
    """Return the first inferred condition that does not hold, or one that holds."""
    return next((condition for condition in record.inferred if not condition.holds), record.inferred[0])
