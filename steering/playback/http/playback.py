"""The endpoint /v1/playback: one JSON body in, one answer for up to a thousand files out.

The fast path answers most bodies; this endpoint words every mistake, and answers for devices. Both read with
`_fastpath/body.pyx` and answer with the compiled `Picker` and `encode`, so their bytes are the same.
"""

from __future__ import annotations

from typing import Final

import msgspec
from fastapi import FastAPI, Request, Response

from _fastpath.body import MAX_BODY, PlaybackRequest, read_playback_body
from _fastpath.counters import Counters
from _fastpath.request import DEVICE_RULE, Client, find_other
from steering.decision.snapshot import Snapshot
from steering.errors import RequestError
from steering.model.streams import Device, files_for, read_catalogue
from steering.playback.answers.encoding import encode
from steering.playback.answers.problem import region_error
from steering.playback.http.context import PLAYER_HEADERS, Context, add_preflight, body_of
from steering.playback.http.openapi import PLAYBACK_BODY, PLAYBACK_RESPONSES

DEVICES: Final = msgspec.json.Decoder(Device)


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

    add_preflight(app, "/v1/playback", "POST, OPTIONS")


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
        failed=asked.failed,
        counters=counters,
    )


async def receive(request: Request) -> bytes:
    """Return the body of a playback request. Raises RequestError 413 or 415."""
    media_type, coding = (request.headers.get(name, "") for name in ("content-type", "content-encoding"))
    if media_type and media_type.partition(";")[0].strip().lower() != "application/json":
        raise RequestError.of_parameter("content-type", media_type, "application/json", 415)
    if coding:
        raise RequestError.of_parameter("content-encoding", coding, "a body as it is", 415)
    return await body_of(request, MAX_BODY)


def files_of(snapshot: Snapshot, asked: PlaybackRequest, service: str) -> list[str]:
    """Return the files that a request asks for: for a device, those of the title that it plays. Raises RequestError."""
    if asked.device is None:
        return asked.files
    try:
        device = DEVICES.decode(asked.device)
    except (msgspec.DecodeError, UnicodeError):
        raise RequestError.of_parameter("device", asked.device.decode(), DEVICE_RULE) from None
    streams = snapshot.playlists.find(service, asked.title, "streams") if snapshot.playlists else None
    if service not in snapshot.services or streams is None:
        raise RequestError.of_parameter(
            "title", asked.title, f"service {service[:63]!r} has no catalogue of its streams", 404
        )
    if files := files_for(read_catalogue(streams.head), device):
        return files
    raise RequestError.of_parameter("device", asked.device.decode(), "it plays none of the title's streams", 404)
