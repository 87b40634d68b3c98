"""Endpoints that report: the fleet at a glance, alarms, BGP sessions, missing titles, quality, the audit log."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

from fastapi import Query

from steering.control.api.access import event_filter, own_partner
from steering.control.api.endpoints import Api, Asking, Count, Endpoints, OfPartner
from steering.control.health.presenter import overview
from steering.control.health.quality import By
from steering.control.services.events import subject_of

endpoints = Endpoints()


@endpoints.verb("overview")
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


@endpoints.verb("alarms")
def list_alarms(api: Api, caller: Asking, resolved: bool = False) -> list[dict[str, Any]]:
    may_see = event_filter(caller, api.control)
    raised = [dataclasses.asdict(alarm) for alarm in api.control.registry.alarms() if may_see(subject_of(alarm))]
    ended = [row for row in api.hub.alarms(may_see) if row["resolved"]] if resolved else []
    return raised + ended


@endpoints.verb("sessions")
def list_sessions(api: Api) -> list[dict[str, Any]]:
    return api.control.sessions()


@endpoints.verb("holdings.missing")
def list_missing(api: Api, caller: Asking, partner: OfPartner = "", count: Count = 1000) -> list[dict[str, Any]]:
    return api.control.holdings.missing(own_partner(caller, partner), count)


@endpoints.verb("quality.list")
def list_quality(
    api: Api, caller: Asking, by: By = "partner", partner: OfPartner = "", count: Count = 1000
) -> list[dict[str, Any]]:
    return api.control.quality.list(by, own_partner(caller, partner), count)


@endpoints.verb("audit.list")
def list_audit(
    api: Api, count: Count = 100, below: Annotated[int | None, Query(ge=1, lt=1 << 62)] = None
) -> list[dict[str, Any]]:
    return api.control.audit.list(count, below)
