"""The API of control: one module a concern, each verb of `verbs.py` answered by one function."""

from __future__ import annotations

from fastapi import APIRouter

from steering.control.api import (
    ejections,
    events,
    explain,
    fleet,
    keys,
    maintenance,
    overrides,
    playlists,
    reports,
    tables,
    tokens,
)
from steering.control.api.endpoints import Api

MODULES = (tables, explain, fleet, overrides, maintenance, ejections, reports, events, tokens, keys, playlists)


def make_router(api: Api) -> APIRouter:
    """Return all endpoints."""
    router = APIRouter()

    @router.get("/healthz", summary="Whether control answers; for everybody")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    for module in MODULES:
        module.endpoints.register(router, api)
    return router
