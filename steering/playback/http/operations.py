"""The endpoints for operators: health, versions, metrics and the API's own description."""

from __future__ import annotations

import time
from importlib.metadata import version

import anyio.to_thread
from fastapi import FastAPI, Request, Response
from starlette.responses import JSONResponse

from steering.playback.http.context import Context
from steering.playback.http.docs_page import CONTENT_SECURITY_POLICY, docs_page
from steering.playback.http.openapi import READY_RESPONSES
from steering.playback.telemetry.metrics import CONTENT_TYPE, metrics_text


def add_health(app: FastAPI, context: Context) -> None:
    """Add the endpoints that monitors and balancers ask."""

    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz", responses={200: {"description": "this process is alive"}})
    async def healthz() -> Response:
        """Return whether this process is alive."""
        return Response("ok\n", media_type="text/plain")

    @app.head("/readyz", include_in_schema=False)
    @app.get("/readyz", responses=READY_RESPONSES)
    async def readyz() -> Response:
        """Return which table is served, and how old it is."""
        snapshot = context.served()
        age_s = round(max(time.time() - snapshot.current.published_at, 0), 1)
        holder = context.holder
        refused = holder.error.message if holder.error else None
        return JSONResponse({"ready": True, **snapshot.describe_version(), "age_s": age_s, "refused": refused})


def add_operations(app: FastAPI, context: Context) -> None:
    """Add the endpoints for trusted callers."""
    settings = context.settings

    @app.head("/version", include_in_schema=False)
    @app.get("/version", responses={200: {"description": "the versions"}})
    async def show_version(request: Request) -> Response:
        """Return the versions of the program and of what it serves. For trusted callers."""
        context.require_trust(request)
        serving = context.holder.snapshot.describe_version() if context.holder.snapshot else None
        return JSONResponse({"steering": version("steering"), "serving": serving})

    @app.head("/metrics", include_in_schema=False)
    @app.get("/metrics", responses={200: {"description": "all workers' counts, in Prometheus text"}})
    async def metrics(request: Request) -> Response:
        """Return the counts of all workers, in Prometheus text. For trusted callers."""
        context.require_trust(request)
        text = await anyio.to_thread.run_sync(
            metrics_text, settings.state, context.holder.snapshot, settings.metrics_per_appliance, time.time()
        )
        return Response(text, media_type=CONTENT_TYPE)

    @app.head("/openapi.json", include_in_schema=False)
    @app.get("/openapi.json", include_in_schema=False)
    async def openapi(request: Request) -> Response:
        context.require_trust(request)
        return JSONResponse(app.openapi())

    @app.head("/docs", include_in_schema=False)
    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        context.require_trust(request)
        example = f"curl '{request.base_url}v1/steer?title=80100172&n=3'"
        headers = {"content-security-policy": CONTENT_SECURITY_POLICY}
        return Response(docs_page(app.openapi(), example), media_type="text/html", headers=headers)
