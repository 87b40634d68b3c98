"""The endpoint /v1/playback: one JSON body in, one answer for up to a thousand files out.

The fast path answers most bodies; this endpoint reads any body and words every mistake. Both answer with the compiled
`Picker` and `encode`, so their bytes are the same.
"""

from __future__ import annotations

from fastapi import FastAPI, Request, Response

from _fastpath.counters import Counters
from _fastpath.request import Client, find_other
from steering.decision.snapshot import Snapshot
from steering.errors import RequestError
from steering.playback.answers.encoding import encode
from steering.playback.answers.problem import region_error
from steering.playback.http.context import PLAYER_HEADERS, POST_PREFLIGHT_HEADERS, Context, body_of
from steering.playback.http.openapi import PLAYBACK_BODY, PLAYBACK_RESPONSES
from steering.playback.http.playback_body import MAX_BODY, files_of, is_json, read_playback_body


def add_playback(app: FastAPI, context: Context) -> None:
    """Add the endpoint to an app."""

    @app.post("/v1/playback", responses=PLAYBACK_RESPONSES, openapi_extra=PLAYBACK_BODY)
    async def playback(request: Request) -> Response:
        """Return the appliances for each of many files, best first, with the servers listed once."""
        snapshot = context.served()
        body = await receive(request)
        client = context.client_of(request)
        answered = answer(snapshot, body, client, context.settings.default_service, context.counters)
        accepts = [value for name, value in request.scope["headers"] if name == b"accept-encoding"]
        sent, is_gzip = encode(answered, accepts)
        headers = {**PLAYER_HEADERS, "vary": "accept-encoding"}
        if is_gzip:
            headers["content-encoding"] = "gzip"
        return Response(sent, media_type="application/json", headers=headers)

    @app.options("/v1/playback", include_in_schema=False)
    async def playback_preflight() -> Response:
        return Response(status_code=204, headers=POST_PREFLIGHT_HEADERS)


def answer(
    snapshot: Snapshot, body: bytes, client: Client, default_service: str, counters: Counters | None = None
) -> bytes:
    """Return the answer to a body, and count it. Raises RequestError or Refusal."""
    asked = read_playback_body(body)
    service = asked.service or default_service
    if asked.ip is not None:
        client = find_other(client, asked.ip)
    if (region := snapshot.refused_region(client.packed, service)) is not None:
        raise region_error(region, service, snapshot.rules[service].refused_url)
    return snapshot.playback(
        client.packed,
        files_of(snapshot, asked, service),
        service=service,
        title=asked.title,
        session=asked.session,
        n=asked.n,
        family=asked.family,
        counters=counters,
    )


async def receive(request: Request) -> bytes:
    """Return the body of a playback request. Raises RequestError 413 or 415."""
    media_type, coding = (request.headers.get(name, "") for name in ("content-type", "content-encoding"))
    if media_type and not is_json(media_type):
        raise RequestError.of_parameter("content-type", media_type, "application/json", 415)
    if coding:
        raise RequestError.of_parameter("content-encoding", coding, "a body as it is", 415)
    return await body_of(request, MAX_BODY)
