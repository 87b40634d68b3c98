"""Maintenance windows: when an appliance, cluster or site takes no new clients, who planned it, and why. Pure rules.

A window begins and ends by itself. It can be cancelled before it begins and ended early while it is on; both are
`cancelled_at`. Windows may overlap: an appliance that any of them covers is out.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

from steering.control.records.windows import Window
from steering.errors import RequestError
from steering.model.fleet import Fleet

KINDS: Final = ("appliance", "cluster", "site")
SHORTEST_S: Final = 3 * 3600.0
LONGEST_S: Final = 30 * 86_400.0
AHEAD_S: Final = 93 * 86_400.0  # three months
LATE_S: Final = 300.0  # how far the caller's clock may be behind ours
MOST_OPEN: Final = 100  # of one subject, active or planned


def in_maintenance(planned: Iterable[Window], fleet: Fleet, now: float) -> dict[str, Window]:
    """Return the appliances in maintenance, each with the window that ends last of those that cover it.

    Cheap while no window is on; otherwise one pass over the fleet.
    """
    on = sorted((window for window in planned if window.is_on(now)), key=lambda window: window.ends_at)
    if not on:
        return {}
    # The window that ends last wins.
    named: dict[str, dict[str, Window]] = {kind: {} for kind in KINDS}
    for window in on:
        named[window.kind][window.subject] = window
    of_cluster = {
        cluster.id: last_of(named["cluster"].get(cluster.id), named["site"].get(cluster.site))
        for cluster in fleet.clusters
    }
    windows = (
        (appliance.id, last_of(named["appliance"].get(appliance.id), of_cluster[appliance.cluster]))
        for appliance in fleet.appliances
    )
    return {name: window for name, window in windows if window}


def last_of(first: Window | None, second: Window | None) -> Window | None:
    """Return the window that ends last of two that there may be."""
    if first is None or second is None:
        return first or second
    return max(first, second, key=lambda window: window.ends_at)


def check_window(kind: str, subject: str, begins_at: float, ends_at: float, fleet: Fleet, now: float) -> None:
    """Raise RequestError if a requested window breaks a rule."""
    if kind not in KINDS:
        raise RequestError.of_parameter("kind", kind, f"one of {', '.join(KINDS)}")
    if not any(item.id == subject for item in getattr(fleet, f"{kind}s")):
        raise RequestError.of_parameter("subject", subject, f"the id of one of the fleet's {kind}s", 404)
    if not now - LATE_S <= begins_at <= now + AHEAD_S:
        raise RequestError.of_parameter(
            "begins_at", time_of(begins_at), f"from now on, and at most {AHEAD_S / 86_400:.0f} days ahead"
        )
    if not SHORTEST_S <= ends_at - begins_at <= LONGEST_S:
        raise RequestError.of_parameter(
            "ends_at",
            time_of(ends_at),
            f"{SHORTEST_S / 3600:.0f} hours to {LONGEST_S / 86_400:.0f} days after it begins",
        )


def time_of(seconds: float) -> str:
    """Return a time in UTC for error messages; the bare number if no calendar has it."""
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
    except (OverflowError, ValueError, OSError):
        return str(seconds)


def covers_only(window_kind: str, subject: str, fleet: Fleet, clusters: set[str]) -> bool:
    """Return whether a window covers appliances of these clusters only; a site may also have clusters of others."""
    if window_kind != "site":
        return True
    return all(cluster.id in clusters for cluster in fleet.clusters if cluster.site == subject)
