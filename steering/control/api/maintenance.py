"""Endpoints of maintenance windows."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic
from fastapi import Query

from steering.control.api.access import require_own_subject, visible_ids
from steering.control.api.endpoints import MAX_WHY, Api, Asking, Endpoints, Number
from steering.control.health.windows import KINDS
from steering.control.records import fleet_objects
from steering.control.services.maintenance import no_window

endpoints = Endpoints()


class WindowRequest(pydantic.BaseModel, extra="forbid"):
    """Maintenance of an appliance, a cluster or a site; times in seconds since 1970, no `begins_at` means now."""

    kind: Literal["appliance", "cluster", "site"]
    subject: str = pydantic.Field(max_length=63)
    begins_at: float | None = None
    ends_at: float
    why: str = pydantic.Field(min_length=1, max_length=MAX_WHY)


@endpoints.verb("maintenance.list")
def list_windows(api: Api, caller: Asking, ended: bool = False) -> list[dict[str, Any]]:
    fleet = api.control.fleet.current()
    own = {kind: visible_ids(caller, fleet, f"{kind}s") for kind in KINDS}
    rows = api.control.maintenance.list(ended)
    return [row for row in rows if (ids := own[row["kind"]]) is None or row["subject"] in ids]


@endpoints.verb("maintenance.add")
def add_window(api: Api, body: WindowRequest, caller: Asking) -> dict[str, Any]:
    missing = fleet_objects.missing(f"{body.kind}s", body.subject)
    require_own_subject(caller, api.control.fleet.current(), body.kind, body.subject, missing)
    return api.control.maintenance.add(body.kind, body.subject, body.begins_at, body.ends_at, caller.who, body.why)


@endpoints.verb("maintenance.cancel")
def cancel_window(
    api: Api, number: Number, caller: Asking, why: Annotated[str, Query(max_length=MAX_WHY)] = ""
) -> dict[str, Any]:
    window = api.control.maintenance.get(number)
    require_own_subject(caller, api.control.fleet.current(), window.kind, window.subject, no_window(number))
    return api.control.maintenance.cancel(number, caller.who, why)
