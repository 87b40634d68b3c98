"""Maintenance windows: when an appliance, cluster or site takes no new clients, who planned it, and why. Pure rules.

A window begins and ends by itself. It can be cancelled before it begins and ended early while it is on; both are
`cancelled_at`. Windows may overlap: an appliance that any of them covers is out.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable
from typing import Any, Final

from steering.errors import RequestError
from steering.model.fleet import Fleet

KINDS: Final = ("appliance", "cluster", "site")
SHORTEST_S: Final = 3 * 3600.0
LONGEST_S: Final = 30 * 86_400.0
AHEAD_S: Final = 93 * 86_400.0  # three months
LATE_S: Final = 300.0  # how far the caller's clock may be behind ours
MOST_OPEN: Final = 100  # of one subject, active or planned


@dataclasses.dataclass(frozen=True, slots=True)
class Window:
    """A window, as the database has it."""

    id: int
    kind: str
    subject: str
    begins_at: float
    ends_at: float
    made_at: float
    who: str
    why: str
    cancelled_at: float | None = None

    def is_open(self, now: float) -> bool:
        """Return whether it is on, or will be."""
        return self.cancelled_at is None and now < self.ends_at

    def is_on(self, now: float) -> bool:
        """Return whether it is on now."""
        return self.begins_at <= now < self.ends_at and self.cancelled_at is None

    def state(self, now: float) -> str:
        """Return `to come`, `on`, `over`, `cancelled` (it never began) or `ended early`."""
        if self.cancelled_at is not None:
            return "cancelled" if self.cancelled_at < self.begins_at else "ended early"
        if now < self.begins_at:
            return "to come"
        return "on" if now < self.ends_at else "over"

    def describe(self, now: float) -> dict[str, Any]:
        """Return the window as the API has it."""
        return {**dataclasses.asdict(self), "state": self.state(now)}


def in_maintenance(windows: Iterable[Window], fleet: Fleet, now: float) -> dict[str, Window]:
    """Return the appliances in maintenance, each with the window that ends last of those that cover it.

    Cheap while no window is on; otherwise one pass over the fleet.
    """
    on = sorted((window for window in windows if window.is_on(now)), key=lambda window: window.ends_at)
    if not on:
        return {}
    named = {(window.kind, window.subject): window for window in on}  # the one that ends last wins
    sites = {cluster.id: cluster.site for cluster in fleet.clusters}
    result = {}
    for appliance in fleet.appliances:
        covering = [
            window
            for key in (
                ("appliance", appliance.id),
                ("cluster", appliance.cluster),
                ("site", sites[appliance.cluster]),
            )
            if (window := named.get(key))
        ]
        if covering:
            result[appliance.id] = max(covering, key=lambda window: window.ends_at)
    return result


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
