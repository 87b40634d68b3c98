"""The playback app: every endpoint of the data plane in FastAPI, which answers from memory only.

It is the fallback path: it documents the API, and answers what the fast path leaves (`_fastpath/fast_path.pyx`).
"""

from __future__ import annotations

import re
import time
from http import HTTPStatus
from importlib.metadata import version
from typing import Final
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from _fastpath.client import Trust
from _fastpath.counters import Counters
from _fastpath.hints import PLAYLISTS
from _fastpath.request import Refusal
from steering.decision.refusals import error_of
from steering.errors import RequestError, SnapshotError, problem_body, status_of
from steering.playback.answers.playlist import Sign, Tag
from steering.playback.answers.problem import MEDIA_TYPE
from steering.playback.http.context import PLAYER_HEADERS, Context, Holder
from steering.playback.http.operations import add_health, add_operations
from steering.playback.http.playback import add_playback
from steering.playback.http.players import add_players
from steering.playback.http.reports import add_reports
from steering.playback.http.steer import add_steer
from steering.playback.telemetry.decision_log import DecisionLog
from steering.playback.telemetry.player_reports import PlayerReports
from steering.settings import Settings

COUNTED: Final = {
    "/v1/steer": "steer",
    "/v1/playback": "playback",
    "/v1/cmcd": "cmcd",
    "/healthz": "healthz",
    "/readyz": "readyz",
}  # other paths are counted together, except those of players


# The escapes of characters that need none: letters, digits, "-", ".", "_", "~" (RFC 3986, 2.3).
NEEDLESS: Final = re.compile(rb"%(2[DEde]|3[0-9]|4[1-9A-Fa-f]|5[0-9AFaf]|6[1-9A-Fa-f]|7[0-9AEae])")


class MatchPathsAsSent:
    """Matches paths as they are sent, without needless escapes: `%2F` is a part of a title and never divides a path."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with its path as it was sent."""
        if scope["type"] == "http":
            raw_path = scope.get("raw_path") or quote(scope["path"]).encode()
            path = NEEDLESS.sub(lambda match: bytes.fromhex(match[1].decode()), raw_path)
            scope["path"] = path.decode("latin-1")
        await self.app(scope, receive, send)


class CountAnswers:
    """Counts and times the answers of the fallback path."""

    def __init__(self, app: ASGIApp, counters: Counters) -> None:
        self.app = app
        self.counters = counters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and count its answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 500

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, note_status)
        finally:
            self.counters.note(endpoint_of(scope["path"]), status, time.perf_counter() - began)


def endpoint_of(path: str) -> str:
    """Return the endpoint that a request is counted under."""
    if path.startswith(("/v1/hls/", "/v1/dash/")):
        _, _, protocol, *rest = path.split("/")
        return "playlist" if len(rest) > 2 and rest[-1] == PLAYLISTS[protocol] else protocol
    return COUNTED.get(path, "other")


def make_app(
    holder: Holder,
    settings: Settings,
    counters: Counters | None = None,
    decisions: DecisionLog | None = None,
    sign: Sign | None = None,
    tag: Tag | None = None,
    reports: PlayerReports | None = None,
) -> FastAPI:
    """Return the playback app, which answers from the snapshot that the holder has at the moment.

    Answers are counted, and recorded where the decision log wants it. Without `sign`, services that sign their URLs
    have no playlists; without `tag`, sessions have no tags; without `reports`, the reports of players are ignored.
    """
    app = FastAPI(
        title="steering: playback",
        version=version("steering"),
        description="Which few appliances should serve this client, best first?",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,  # it would send players to whatever Host says
    )
    if counters is not None:
        app.add_middleware(CountAnswers, counters=counters)
    app.add_middleware(MatchPathsAsSent)
    context = Context(holder, settings, Trust(settings.trusted), counters, decisions, sign, tag, reports)
    for add in (add_steer, add_reports, add_playback, add_players, add_health, add_operations):
        add(app, context)
    add_error_answers(app)
    return app


def leads_to(route: Route, scope: Scope) -> bool:
    """Return whether a route is for the path of a request, whatever its method."""
    return route.matches(scope)[0] is not Match.NONE


def add_error_answers(app: FastAPI) -> None:
    """Answer every error with a problem document."""

    @app.exception_handler(RequestError)
    async def answer_error(_: Request, error: RequestError) -> Response:
        headers = dict(PLAYER_HEADERS)
        if error.status == HTTPStatus.SERVICE_UNAVAILABLE:
            headers["retry-after"] = "1"
        return Response(problem_body(error), error.status, headers, MEDIA_TYPE)

    @app.exception_handler(SnapshotError)
    async def answer_unusable(_: Request, error: SnapshotError) -> Response:
        return Response(problem_body(error), status_of(error), PLAYER_HEADERS, MEDIA_TYPE)

    @app.exception_handler(Refusal)
    async def answer_refusal(request: Request, refusal: Refusal) -> Response:
        return await answer_error(request, error_of(refusal))

    @app.exception_handler(HTTPException)
    async def answer_wrong_route(request: Request, error: HTTPException) -> Response:
        headers = dict(PLAYER_HEADERS)
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            same = [route for route in app.routes if isinstance(route, Route) and leads_to(route, request.scope)]
            headers["allow"] = ", ".join(sorted({method for route in same for method in route.methods or ()}))
        worded = RequestError(
            f"{request.method} {request.url.path}: {error.detail}",
            hint=f"allowed: {headers['allow']}" if "allow" in headers else "",
            status=error.status_code,
        )
        return Response(problem_body(worded), error.status_code, headers, MEDIA_TYPE)

    @app.exception_handler(ClientDisconnect)
    async def answer_disconnect(_: Request, error: ClientDisconnect) -> Response:  # noqa: ARG001 (the client is gone)
        return Response(status_code=400)

    @app.exception_handler(Exception)
    async def answer_failure(_: Request, error: Exception) -> Response:  # noqa: ARG001 (the server logs it)
        worded = RequestError("an error of ours; it is in the log", status=500)
        return Response(problem_body(worded), 500, PLAYER_HEADERS, MEDIA_TYPE)
