"""The API of control: each verb of `verbs.py` is answered by a service, or by one function of a module here."""

from __future__ import annotations

from fastapi import APIRouter

from steering.control.api import appliances, credentials, events, fill, fleet, tables
from steering.control.api.endpoints import Api, add_endpoint
from steering.control.verbs import VERBS

MODULES = (appliances, credentials, events, fill, fleet, tables)  # whose functions are noted when they are imported
OF_THEIR_OWN = ("reports",)  # answered without FastAPI, by `report_endpoint.py`


def make_router(api: Api) -> APIRouter:
    """Return all endpoints."""
    router = APIRouter()

    @router.get("/healthz", summary="Whether control answers; for everybody")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    for verb in VERBS:
        if verb.name not in OF_THEIR_OWN:
            add_endpoint(router, api, verb)
    return router
