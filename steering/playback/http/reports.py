"""The endpoint /v1/cmcd, to which players report."""

from __future__ import annotations

import asyncio
from typing import Final

from fastapi import FastAPI, Request, Response
from starlette.background import BackgroundTask

from steering.playback.http.context import PLAYER_HEADERS, Context, add_preflight, body_of
from steering.playback.http.openapi import REPORT_BODY, REPORT_RESPONSES
from steering.playback.signing.tags import read_tag
from steering.playback.telemetry import cmcd

REPORTS_AT_ONCE: Final = 32  # of a batch, before other requests are answered: a third of a millisecond


def add_reports(app: FastAPI, context: Context) -> None:
    """Add the endpoint to an app."""

    @app.post("/v1/cmcd", status_code=204, responses=REPORT_RESPONSES, openapi_extra=REPORT_BODY)
    async def report(request: Request) -> Response:
        """Take the reports of players: CMCD events, one a line, or JSON. Reports that cannot be read are ignored."""
        client = context.client_of(request)
        body = await body_of(request, cmcd.MAX_BODY)
        later = BackgroundTask(take_reports, context, body, client.packed, read_tag(request.scope["query_string"]))
        return Response(status_code=204, headers=PLAYER_HEADERS, background=later)

    add_preflight(app, "/v1/cmcd", "POST, OPTIONS")


async def take_reports(context: Context, body: bytes, packed: bytes, tag: str) -> None:
    """Take the reports in a body, some at a time, so that other requests are answered meanwhile."""
    snapshot, reports = context.holder.snapshot, context.reports
    if reports is None or snapshot is None:
        return
    received, unread = cmcd.read_body(body)
    await reports.learn_names(snapshot)
    for start in range(0, len(received), REPORTS_AT_ONCE):
        reports.count(snapshot, received[start : start + REPORTS_AT_ONCE], packed, tag)
        await asyncio.sleep(0)
    if unread:
        reports.counters.note_event("unread_reports", unread)
