"""Endpoints of overrides: drained appliances, weights and health sources that an operator set."""

from __future__ import annotations

from typing import Any, Literal

import pydantic

from steering.control.api.access import visible_ids
from steering.control.api.endpoints import Api, Asking, Endpoints
from steering.control.records import fleet_objects

endpoints = Endpoints()

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


@endpoints.verb("overrides.list")
def list_overrides(api: Api, caller: Asking) -> list[dict[str, Any]]:
    own = visible_ids(caller, api.control.fleet.current(), "appliances")
    return [row for row in api.control.overrides.list() if own is None or row["appliance"] in own]


@endpoints.verb("overrides.change")
def change(api: Api, body: OverrideRequest, caller: Asking) -> dict[str, Any]:
    own = visible_ids(caller, api.control.fleet.current(), "appliances")
    for name in body.appliances:
        if own is not None and name not in own:
            raise fleet_objects.missing("appliances", name)
    changes = {name: getattr(body, name) for name in sorted(SETTABLE & body.model_fields_set)}
    return api.control.overrides.change(body.appliances, caller.who, **changes)
