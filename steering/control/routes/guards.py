"""What stops a publish, although the feeds could be read: too much would change at once. Limits are settings.

Guards that compare need a table that serves; a first publish passes them. Small tables are for trying things out: the
guards on shares apply from `guard_from` routes on. Whoever means it gives a reason, which goes on record.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from steering.control.routes.feeds import Feed
from steering.settings import Settings

UNKNOWN: Final = (
    "a cluster is one of the fleet",
    "a cache is an appliance of the fleet",
    "a zone is named as a cluster or site is, or has coordinates",
)


def broken_guards(feeds: Sequence[Feed], changes: dict[str, Any] | None, settings: Settings) -> list[str]:
    """Return what each guard has to say that stops this publish; `changes` is None where nothing serves."""
    found = []
    accepted, refused = sum(feed.accepted for feed in feeds), sum(feed.refused for feed in feeds)
    if accepted + refused >= settings.guard_from and refused > settings.guard_refused * (accepted + refused):
        found.append(
            f"{refused:,} of {accepted + refused:,} rows are refused, {percent(refused / (accepted + refused))} "
            f"(guard_refused {percent(settings.guard_refused)})"
        )
    unknown = sum(feed.refused_by[rule] for feed in feeds for rule in UNKNOWN)
    if accepted + refused >= settings.guard_from and unknown > settings.guard_unknown * (accepted + refused):
        found.append(
            f"{unknown:,} of {accepted + refused:,} rows name clusters that the fleet has not, "
            f"{percent(unknown / (accepted + refused))} (guard_unknown {percent(settings.guard_unknown)})"
        )
    if changes is None:
        return found
    for family in ("v4", "v6"):
        prefixes, moved = changes["prefixes"][family], changes["moved"][family]
        before, after = prefixes["before"], prefixes["after"]
        if before >= settings.guard_from and after < before * (1 - settings.guard_shrink):
            found.append(
                f"IP{family} shrinks from {before:,} to {after:,} prefixes, by {percent(1 - after / before)} "
                f"(guard_shrink {percent(settings.guard_shrink)})"
            )
        if before >= settings.guard_from and moved > settings.guard_moved:
            found.append(
                f"{percent(moved)} of IP{family} clients would move (guard_moved {percent(settings.guard_moved)})"
            )
    if changes["no_ranking_entry"] > settings.guard_no_cluster:
        found.append(
            f"{changes['no_ranking_entry']:,} zones would have no cluster at all, and none is without one now "
            f"(guard_no_cluster {settings.guard_no_cluster:,})"
        )
    return found


def percent(share: float) -> str:
    """Return a share for people."""
    return f"{100 * share:.1f} %"
