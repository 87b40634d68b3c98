"""The names of an appliance's states, as people, the API and the events have them, with their reasons."""

from __future__ import annotations

from _fastpath.ranking import IPV4_UP, IPV6_UP, NO_HEADROOM, OVER_LIMIT, STALE, UNHEALTHY
from steering.control.health import rules as health
from steering.control.health.appliance_state import FAMILIES, WEIGHT, ApplianceState
from steering.control.health.rules import Rules


def name_of(state: ApplianceState, rules: Rules) -> tuple[str, str]:
    """Return the name of an appliance's state, and its reason."""
    record, status = state.record, state.status
    reported = health.is_reported(record, state.override, rules)
    if state.maintenance:
        return "maintenance", state.maintenance.why
    if not state.override.enabled:
        connected = reported and bool(state.health.connections)
        return "draining" if connected else "drained", state.overridden.who if state.overridden else ""
    if status & UNHEALTHY or not status & FAMILIES:
        return "unhealthy", health.suspicion_of(record).why if record.healthy.holds else record.healthy.why
    if status & STALE:
        return ("stale" if record.reports else "unknown"), record.fresh.why
    if status & NO_HEADROOM:
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
    factor = state.player_factor
    return "serving", f"players fail on it: it keeps {factor:.0%} of its weight" if factor < 1.0 else ""


def lost_families(state: ApplianceState) -> list[str]:
    """Return the address families that an appliance should serve and does not."""
    families = ((IPV4_UP, "IPv4", state.appliance.ipv4), (IPV6_UP, "IPv6", state.appliance.ipv6))
    return [version for bit, version, expected in families if expected and not state.status & bit]
