"""Guards: reasons to stop a publish because too much would change at once. Limits are settings.

Guards that compare with the serving table do not apply to a first publish. Guards on shares apply from `guard_from`
rows on, so that small tables can be tried. An operator overrides a guard with a reason, which is recorded.
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
    """Return a message for each guard that stops this publish; `changes` is None if no table is serving."""
    broken = []
    refused = sum(feed.refused for feed in feeds)
    unknown = sum(feed.refused_by[rule] for feed in feeds for rule in UNKNOWN)
    total = sum(feed.accepted for feed in feeds) + refused
    for count, verb, guard, limit in (
        (refused, "are refused", "guard_refused", settings.guard_refused),
        (unknown, "name clusters that are not in the fleet", "guard_unknown", settings.guard_unknown),
    ):
        if total >= settings.guard_from and count > limit * total:
            broken.append(f"{count:,} of {total:,} rows {verb}, {percent(count / total)} ({guard} {percent(limit)})")
    if changes is None:
        return broken
    for family in ("v4", "v6"):
        prefixes, moved = changes["prefixes"][family], changes["moved"][family]
        before, after = prefixes["before"], prefixes["after"]
        if before >= settings.guard_from and after < before * (1 - settings.guard_shrink):
            broken.append(
                f"IP{family} shrinks from {before:,} to {after:,} prefixes, by {percent(1 - after / before)} "
                f"(guard_shrink {percent(settings.guard_shrink)})"
            )
        if before >= settings.guard_from and moved > settings.guard_moved:
            broken.append(
                f"{percent(moved)} of IP{family} clients would move (guard_moved {percent(settings.guard_moved)})"
            )
    if changes["no_ranking_entry"] > settings.guard_no_cluster:
        broken.append(
            f"{changes['no_ranking_entry']:,} zones would have no cluster, and every zone has one now "
            f"(guard_no_cluster {settings.guard_no_cluster:,})"
        )
    return broken


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"
