"""Endpoints of appliances at work: overrides, maintenance windows, the fleet at a glance, alarms."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

import pydantic
from fastapi import Query

from steering.control.api.access import event_filter, require_own_subject, visible_ids
from steering.control.api.endpoints import MAX_WHY, Api, Asking, Number, answers
from steering.control.health.overview import overview
from steering.control.health.windows import KINDS
from steering.control.records import fleet_objects
from steering.control.services.events import subject_of
from steering.control.services.maintenance import no_window

SETTABLE = {"enabled", "weight", "health_source"}


class OverrideRequest(pydantic.BaseModel, extra="forbid"):
    """An override: `enabled`, `weight` (null: by capacity) or `health_source` (empty: by the setting)."""

    appliances: list[str] = pydantic.Field(min_length=1, max_length=1_000_000)
    enabled: bool = True
    weight: pydantic.StrictInt | None = None
    health_source: Literal["", "assumed", "reported"] = ""

    @pydantic.model_validator(mode="after")
    def check_given(self) -> OverrideRequest:
        """Refuse a body that changes nothing."""
        if not self.model_fields_set & SETTABLE:
            raise ValueError("give at least one of enabled, weight and health_source")
        return self


@answers("overrides.list")
def list_overrides(api: Api, caller: Asking) -> list[dict[str, Any]]:
    own = visible_ids(caller, api.control.fleet.current(), "appliances")
    return [row for row in api.control.overrides.list() if own is None or row["appliance"] in own]


@answers("overrides.change")
def change(api: Api, body: OverrideRequest, caller: Asking) -> dict[str, Any]:
    own = visible_ids(caller, api.control.fleet.current(), "appliances")
    for name in body.appliances:
        if own is not None and name not in own:
            raise fleet_objects.missing("appliances", name)
    changes = {name: getattr(body, name) for name in sorted(SETTABLE & body.model_fields_set)}
    return api.control.overrides.change(body.appliances, caller.who, **changes)


class WindowRequest(pydantic.BaseModel, extra="forbid"):
    """Maintenance of an appliance, a cluster or a site; times in seconds since 1970, no `begins_at` means now."""

    kind: Literal["appliance", "cluster", "site"]
    subject: str = pydantic.Field(max_length=63)
    begins_at: float | None = None
    ends_at: float
    why: str = pydantic.Field(min_length=1, max_length=MAX_WHY)


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
