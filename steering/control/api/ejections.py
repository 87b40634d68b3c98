"""Endpoints of suppressed ejections."""

from __future__ import annotations

from typing import Any

from steering.control.api.endpoints import Api, Asking, Endpoints, Reason

endpoints = Endpoints()


@endpoints.verb("ejections.list")
def list_suppressed(api: Api) -> list[dict[str, Any]]:
    return api.control.ejections.list()


@endpoints.verb("ejections.release")
def release(api: Api, body: Reason, caller: Asking) -> dict[str, Any]:
    return api.control.ejections.release(caller.who, body.why)
