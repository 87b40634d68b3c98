"""The state of one appliance: the overrides, its health record, its load, the status word that follows, and its name.

The status words themselves are made by `rules.py`; the registry holds one `ApplianceState` for each appliance. The name
of a state and its reason are as people, the API and the events have them.
"""

from __future__ import annotations

import dataclasses
from typing import Final

from _fastpath.status_words import (
    DISABLED,
    IPV4_UP,
    IPV6_UP,
    NO_HEADROOM,
    OVER_LIMIT,
    PACE,
    STALE,
    UNHEALTHY,
)
from steering.control.health import rules as health
from steering.control.health.player_witness import ViewerCounts
from steering.control.health.rules import Health, HealthRecord
from steering.control.records.overrides import Override
from steering.model.fleet import Appliance
from steering.settings import Settings

NO_OVERRIDE: Final = Override()
WEIGHT: Final = 0xFFFF
PACED: Final = WEIGHT | PACE  # the bits of a word that move in small steps
OUT: Final = UNHEALTHY | STALE
FAMILIES: Final = IPV4_UP | IPV6_UP


@dataclasses.dataclass(frozen=True, slots=True)
class Location:
    """The ids of an appliance's cluster, site and partner; at an exchange `partner` is empty."""

    cluster: str
    site: str
    partner: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Maintenance:
    """The maintenance window that an appliance is in: its end and its reason."""

    until: float
    why: str


@dataclasses.dataclass(frozen=True, slots=True)
class OverrideOrigin:
    """Who set the last override of an appliance, and when."""

    at: float
    who: str


@dataclasses.dataclass(slots=True, eq=False)
class ApplianceState:
    """One appliance. Its weight is its full weight times the ramp, `load_factor` and `player_factor`."""

    appliance: Appliance
    location: Location
    record: HealthRecord
    changed_at: float
    override: Override = NO_OVERRIDE
    overridden: OverrideOrigin | None = None
    maintenance: Maintenance | None = None
    ejected: bool = False  # inference counts
    suppressed: str = ""  # the limit that suppresses its ejection: `fleet`, `partner <id>` or `cluster <id>`
    confirmed: bool = False  # the suspicion, by the players: its ejection counts against no limit
    viewers: ViewerCounts = dataclasses.field(default_factory=ViewerCounts)
    overloaded: bool = False
    requests: float = 0.0  # answers that named it first; fades
    steady_requests: float = 0.0  # the same, fading more slowly, since the last correction
    load_factor: float = 1.0  # evens out the load of its cluster
    attested: float = 0.0  # attested reports of players, and the failing ones among them; both fade
    failing: float = 0.0
    player_factor: float = 1.0
    room_gbps: float = 0.0  # its headroom and what it can deliver, by its last report; 0 for both where it has none
    able_gbps: float = 0.0
    pressure: int = 0  # of its cluster
    is_short: bool = False  # its cluster has no room for viewers who come back
    busy: float = 0.0  # reported throughput as a share of capacity
    status: int = 0
    name: str = ""  # of the state, as people read it
    why: str = ""

    @property
    def id(self) -> str:
        return self.appliance.id

    @property
    def wanted(self) -> bool:
        """Whether operators let it serve."""
        return self.override.enabled and self.maintenance is None

    @property
    def out(self) -> bool:
        """Whether it can serve no client, whatever operators set."""
        return is_out(self.status)

    @property
    def usable(self) -> bool:
        """Whether it takes clients, or would if it were not overloaded."""
        return not (self.status & (DISABLED | NO_HEADROOM) or self.out) and bool(self.status & WEIGHT)

    @property
    def full_share(self) -> int:
        """Its weight without its load factor: what its share of its cluster's load is measured by."""
        return round((self.status & WEIGHT) / self.load_factor)

    @property
    def health(self) -> Health:
        """The last reported health; without a report, one without figures."""
        return self.record.health or Health()


def is_out(status: int) -> bool:
    """Return whether an appliance with this status word can serve no client, whatever operators set."""
    return bool(status & OUT) or not status & FAMILIES


def name_of(state: ApplianceState, settings: Settings) -> tuple[str, str]:
    """Return the name of an appliance's state, and its reason."""
    record, status = state.record, state.status
    reported = health.is_reported(record, state.override, settings)
    if state.maintenance:
        return "maintenance", state.maintenance.why
    if not state.override.enabled:
        connected = reported and bool(state.health.connections)
        return "draining" if connected else "drained", state.overridden.who if state.overridden else ""
    too = "; its players fail too" if state.confirmed else ""
    if status & UNHEALTHY or not status & FAMILIES:
        return "unhealthy", health.suspicion_of(record).why + too if record.healthy.holds else record.healthy.why
    if status & STALE:
        return ("stale" if record.reports else "unknown"), record.fresh.why + too
    if status & NO_HEADROOM:
        if (learned := record.delivery.learned_gbps) is not None:
            return "full", f"it delivers {learned:.4g} of its {state.appliance.capacity_gbps:g} Gbps when more is asked"
        return "full", f"headroom {state.health.headroom_gbps:g} Gbps"
    if status & OVER_LIMIT:
        return "overloaded", "far above its share of its cluster's load"
    if not status & WEIGHT:
        return "weightless", "its weight is 0"
    if state.suppressed:
        suspicion = record.fresh.why if reported and not record.fresh.holds else health.suspicion_of(record).why
        return "suppressed", f"{suspicion}; ejection suppressed by the limit of {state.suppressed}"
    if lost := lost_families(state):
        reason = health.suspicion_of(record)
        return "partial", f"not up over {' and '.join(lost)}" + ("" if reason.holds else f": {reason.why}")
    if reported and record.ramping:
        return "ramping", "slow start"
    if (factor := state.player_factor) < 1.0:
        return "serving", f"players fail on it: it keeps {factor:.0%} of its weight"
    if state.pressure:
        return "serving", "little room in its cluster: new viewers go where it costs little more"
    return "serving", "its viewers come back a share at a time" if record.returned < 1.0 else ""


def lost_families(state: ApplianceState) -> list[str]:
    """Return the address families that an appliance should serve and does not."""
    families = ((IPV4_UP, "IPv4", state.appliance.ipv4), (IPV6_UP, "IPv6", state.appliance.ipv6))
    return [version for bit, version, expected in families if expected and not state.status & bit]
