"""The state of one appliance: the overrides, its health record, its load, and the status word that follows.

The status words themselves are made by `rules.py`; the registry holds one `ApplianceState` for each appliance.
"""

from __future__ import annotations

import dataclasses
from typing import Final

from _fastpath.ranking import DISABLED, IPV4_UP, IPV6_UP, NO_HEADROOM, STALE, UNHEALTHY
from steering.control.health.rules import Health, HealthRecord
from steering.control.records.database import Override
from steering.model.fleet import Appliance

NO_OVERRIDE: Final = Override()
WEIGHT: Final = 0xFFFF
OUT: Final = UNHEALTHY | STALE
FAMILIES: Final = IPV4_UP | IPV6_UP


@dataclasses.dataclass(frozen=True, slots=True)
class Location:
    """The ids of an appliance's cluster and site."""

    cluster: str
    site: str


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
    suppressed: str = ""  # the limit that suppresses its ejection: `fleet`, or the id of its cluster
    overloaded: bool = False
    requests: float = 0.0  # answers that named it first; fades
    steady_requests: float = 0.0  # the same, fading more slowly
    next_load_factor: float = 1.0  # the load balancer's newest value
    load_factor: float = 1.0  # the value in the status word; follows in steps
    attested: float = 0.0  # attested reports of players, and the failing ones among them; both fade
    failing: float = 0.0
    player_factor: float = 1.0
    busy: float = 0.0  # reported throughput as a share of capacity
    status: int = 0
    name: str = ""  # of the state, as people read it
    why: str = ""

    @property
    def id(self) -> str:
        """The appliance's id."""
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
    def health(self) -> Health:
        """The last reported health; without a report, one without figures."""
        return self.record.health or Health()


def is_out(status: int) -> bool:
    """Return whether an appliance with this status word can serve no client, whatever operators set."""
    return bool(status & OUT) or not status & FAMILIES
