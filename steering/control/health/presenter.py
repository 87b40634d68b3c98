"""The rows that people and the API read of the registry: appliances, clusters and suppressed ejections."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

from _fastpath.ranking import IPV4_UP, IPV6_UP
from steering.control.health import rules as health
from steering.control.health.appliance_state import WEIGHT, ApplianceState
from steering.control.health.registry import Registry
from steering.control.health.rules import Condition, Rules


def describe(registry: Registry, name: str) -> dict[str, Any]:
    """Return the state of an appliance, since when and why, and the figures behind it. Raises RequestError 404."""
    with registry.lock:
        return describe_state(registry.find(name), registry.rules, registry.balancer.total)


def suppressed_ejections(registry: Registry) -> list[dict[str, Any]]:
    """Return the appliances that seem to be down and keep serving, because a limit suppresses their ejection."""
    with registry.lock:
        total = registry.balancer.total
        return [
            {"appliance": name, **describe_state(state, registry.rules, total)}
            for name, state in registry.states.items()
            if state.suppressed
        ]


def describe_cluster(registry: Registry, name: str) -> dict[str, Any]:
    """Return the appliances of a cluster by state, their weight and capacity, and its share of the answers."""
    with registry.lock:
        members, total = registry.clusters.get(name, []), registry.balancer.total
        return {
            "appliances": len(members),
            "states": dict(sorted(Counter(state.name for state in members).items())),
            "weight": sum(state.status & WEIGHT for state in members if state.usable),
            "capacity_gbps": sum(state.appliance.capacity_gbps for state in members),
            "throughput_gbps": sum((state.health.throughput_gbps or 0.0) for state in members),
            "share": sum(state.requests for state in members) / total if total else 0.0,
        }


def describe_state(state: ApplianceState, rules: Rules, total: float) -> dict[str, Any]:
    """Return an appliance's state as the API has it; `total` is the faded count of all answers."""
    record, status, last = state.record, state.status, state.health
    reported = health.is_reported(record, state.override, rules)
    return {
        "state": state.name,
        "since": state.changed_at,
        "why": state.why,
        "health_source": "reported" if reported else "assumed",
        "enabled": state.wanted,
        "overridden": dataclasses.asdict(state.overridden) if state.overridden else None,
        "maintenance": dataclasses.asdict(state.maintenance) if state.maintenance else None,
        "healthy": describe_condition(record.healthy if not record.healthy.holds else health.suspicion_of(record)),
        "stale": describe_condition(dataclasses.replace(record.fresh, holds=reported and not record.fresh.holds)),
        "suppressed": state.suppressed or None,
        "weight": status & WEIGHT,
        "ramp": round(record.ramp, 3) if reported else 1.0,
        "load_factor": round(state.load_factor, 3),
        "players": {
            "attested": round(state.attested, 1),
            "failing": round(state.failing, 1),
            "factor": round(state.player_factor, 3),
        },
        "families": [family for family, bit in ((4, IPV4_UP), (6, IPV6_UP)) if status & bit],
        "throughput_gbps": last.throughput_gbps,
        "headroom_gbps": last.headroom_gbps,
        "connections": last.connections,
        "error_rate": last.error_rate,
        "disk_used": last.disk_used,
        "reported_at": record.reported_at,
        "clock_skew_s": None if record.skew_s is None else round(record.skew_s, 3),
        "share": state.requests / total if total else 0.0,
    }


def describe_condition(condition: Condition) -> dict[str, Any]:
    """Return a condition as the API has it."""
    return {"holds": condition.holds, "since": condition.since, "why": condition.why}
