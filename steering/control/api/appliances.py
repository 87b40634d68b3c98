"""Endpoints of appliances at work: overrides, maintenance windows, the fleet at a glance, alarms."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from typing import Annotated, Any, Final, Literal

from fastapi import Query
from msgspec import UNSET, Meta, Struct, UnsetType

from steering.control.api.access import event_filter, require_own_subject, visible_ids
from steering.control.api.endpoints import MAX_WHY, Api, Asking, Number, answers
from steering.control.health.presenter import overview
from steering.control.health.windows import KINDS
from steering.control.records import fleet_objects
from steering.control.services.events import subject_of
from steering.control.services.maintenance import no_window

AT_ONCE: Final = 100  # appliances that are changed in one transaction: some 5 ms


class OverrideRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """An override: `enabled`, `weight` (null: by capacity) or `health_source` (empty: by the setting)."""

    appliances: Annotated[list[str], Meta(min_length=1, max_length=1_000_000)]
    enabled: bool | UnsetType = UNSET
    weight: int | UnsetType | None = UNSET
    health_source: Literal["", "assumed", "reported"] | UnsetType = UNSET

    def __post_init__(self) -> None:
        """Refuse a body that changes nothing."""
        if not self.changes():
            raise ValueError("give at least one of enabled, weight and health_source")

    def changes(self) -> dict[str, Any]:
        """Return the overrides that are given."""
        given = {"enabled": self.enabled, "weight": self.weight, "health_source": self.health_source}
        return {name: value for name, value in given.items() if value is not UNSET}


@answers("overrides.list")
def list_overrides(api: Api, caller: Asking) -> list[dict[str, Any]]:
    own = visible_ids(caller, api.control.fleet.current(), "appliances")
    return [row for row in api.control.overrides.list() if own is None or row["appliance"] in own]


@answers("overrides.change")
async def change(api: Api, body: OverrideRequest, caller: Asking) -> dict[str, Any]:
    """Change very many appliances some at a time: drains of others run between. All ids are checked first."""
    control, changes = api.control, body.changes()
    own = visible_ids(caller, control.fleet.current(), "appliances")
    for name in body.appliances:
        if own is not None and name not in own:
            raise fleet_objects.missing("appliances", name)
    ids = [appliance.id for appliance in control.overrides.appliances(body.appliances, changes)]
    report: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    async with api.of_many if len(ids) > AT_ONCE else contextlib.nullcontext():
        for first in range(0, len(ids), AT_ONCE):
            some = functools.partial(control.overrides.change, ids[first : first + AT_ONCE], caller.who, **changes)
            report = await api.run("overrides.change", some)
            rows += report["appliances"]
    return {**report, "appliances": rows}


class WindowRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Maintenance of an appliance, a cluster or a site; times in seconds since 1970, no `begins_at` means now."""

    kind: Literal["appliance", "cluster", "site"]
    subject: Annotated[str, Meta(max_length=63)]
    ends_at: float
    why: Annotated[str, Meta(min_length=1, max_length=MAX_WHY)]
    begins_at: float | None = None


@answers("maintenance.list")
def list_windows(api: Api, caller: Asking, ended: bool = False) -> list[dict[str, Any]]:
    fleet = api.control.fleet.current()
    own = {kind: visible_ids(caller, fleet, f"{kind}s") for kind in KINDS}
    rows = api.control.maintenance.list(ended)
    return [row for row in rows if (ids := own[row["kind"]]) is None or row["subject"] in ids]


@answers("maintenance.add")
def add_window(api: Api, body: WindowRequest, caller: Asking) -> dict[str, Any]:
    missing = fleet_objects.missing(f"{body.kind}s", body.subject)
    require_own_subject(caller, api.control.fleet.current(), body.kind, body.subject, missing)
    return api.control.maintenance.add(body.kind, body.subject, body.begins_at, body.ends_at, caller.who, body.why)


@answers("maintenance.cancel")
def cancel_window(
    api: Api, number: Number, caller: Asking, why: Annotated[str, Query(max_length=MAX_WHY)] = ""
) -> dict[str, Any]:
    window = api.control.maintenance.get(number)
    require_own_subject(caller, api.control.fleet.current(), window.kind, window.subject, no_window(number))
    return api.control.maintenance.cancel(number, caller.who, why)


@answers("overview")
def show_overview(api: Api, count: Annotated[int, Query(ge=0, le=1000)] = 20) -> dict[str, Any]:
    control = api.control
    return {
        "at": control.clock(),
        "serving": control.hand_over.serving(),
        **overview(control.registry, control.fleet.current(), count),
        "windows_on": control.maintenance.count_on(),
        "alarms": [dataclasses.asdict(alarm) for alarm in control.registry.alarms()],
        "changes": api.hub.recent(count),
    }


@answers("alarms")
def list_alarms(api: Api, caller: Asking, resolved: bool = False) -> list[dict[str, Any]]:
    may_see = event_filter(caller, api.control)
    raised = [dataclasses.asdict(alarm) for alarm in api.control.registry.alarms() if may_see(subject_of(alarm))]
    ended = [row for row in api.hub.alarms(may_see) if row["resolved"]] if resolved else []
    return raised + ended
