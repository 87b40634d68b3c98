"""The FastAPI door of the data plane: defines, documents and serves every playback endpoint, from memory only."""

from __future__ import annotations

import asyncio
import functools
import time
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Final, Protocol
from urllib.parse import quote

import anyio.to_thread
from fastapi import FastAPI, Request, Response
from starlette.background import BackgroundTask
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from _fastpath.counters import Counters
from _fastpath.ranking import Trace
from steering.decision.snapshot import Snapshot
from steering.errors import RequestError, SnapshotError
from steering.playback.answers import players
from steering.playback.answers.answer import problem, redirect, refused_in
from steering.playback.answers.players import MANIFESTS, Asked, Sign, Tag, read_request
from steering.playback.answers.steering_manifests import MEDIA_TYPE
from steering.playback.client import Trust, find_client
from steering.playback.http import request as playback_request
from steering.playback.http.docs_page import CONTENT_SECURITY_POLICY, docs_page
from steering.playback.http.query import read_steer_query
from steering.playback.signing.tags import read_tag
from steering.playback.telemetry import cmcd
from steering.playback.telemetry.decision_log import DecisionLog
from steering.playback.telemetry.metrics import CONTENT_TYPE, metrics_text
from steering.playback.telemetry.player_reports import PlayerReports
from steering.settings import Settings

# The answer is one client's, at one moment; players on any page may read it.
PLAYER_HEADERS: Final = {"cache-control": "no-store", "access-control-allow-origin": "*"}
PREFLIGHT_HEADERS: Final = {
    "access-control-allow-origin": "*",
    "access-control-allow-methods": "GET, HEAD, OPTIONS",
    "access-control-allow-headers": "*",
    "access-control-max-age": "86400",
}
POST_PREFLIGHT_HEADERS: Final = {**PREFLIGHT_HEADERS, "access-control-allow-methods": "POST, OPTIONS"}
REPORTS_AT_ONCE: Final = 32  # of a batch, before others are answered: a third of a millisecond
PROBLEM: Final = "application/problem+json"
COUNTED: Final = {
    "/v1/steer": "steer",
    "/v1/playback": "playback",
    "/v1/cmcd": "cmcd",
    "/healthz": "healthz",
    "/readyz": "readyz",
}  # others together, but players
STEERING_HEADERS: Final = {**PLAYER_HEADERS, "access-control-expose-headers": "Retry-After"}

PARAMETERS: Final[dict[str, dict[str, Any]]] = {
    "title": {"description": "what is to be played: 1 to 256 bytes of UTF-8", "type": "string"},
    "service": {"description": "the kind of traffic; where absent, the default service", "type": "string"},
    "session": {"description": "the viewer's session, at most 256 characters; never stored", "type": "string"},
    "n": {"description": "how many targets; else as the service says", "type": "integer", "minimum": 1, "maximum": 8},
    "family": {
        "description": "only appliances up on this IP version; else the client's",
        "type": "integer",
        "enum": [4, 6],
    },
    "ip": {"description": "ask for this client; trusted callers only", "type": "string"},
    "explain": {"description": "1: say why; trusted callers only", "type": "integer", "enum": [0, 1]},
    "redirect": {"description": "1: answer 302, the other targets in Link headers", "type": "integer", "enum": [0, 1]},
}


class Anything(Convertor[str]):
    """The rest of a path, also with line ends in it, which `path` does not take."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        """Return it as it is."""
        return value

    def to_string(self, value: str) -> str:
        """Return it as it is."""
        return value


register_url_convertor("anything", Anything())


class Holder(Protocol):
    """Who holds the snapshot: `follow.Follower`."""

    snapshot: Snapshot | None
    error: SnapshotError | None


class CountAnswers:
    """Counts and times what the FastAPI door answers."""

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

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noting)
        finally:
            self.counters.note(endpoint_of(scope["path"]), status, time.perf_counter() - began)


def endpoint_of(path: str) -> str:
    """Return what a request is counted as."""
    if path.startswith(("/v1/hls/", "/v1/dash/")):
        _, _, protocol, *rest = path.split("/")
        return "playlist" if len(rest) > 2 and rest[-1] == MANIFESTS[protocol] else protocol
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
    """Return the playback app, which answers from whatever snapshot the holder has at the moment.

    What it answers is counted, and recorded where the decision log wants it. Without `sign`, services that sign their
    URLs have no playlists; without `tag`, sessions have no tags; without `reports`, nobody hears what players report.
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
    trust = Trust(settings.trusted)
    if counters is not None:
        app.add_middleware(CountAnswers, counters=counters)

    def trusted(request: Request) -> bool:
        return find_client(peer_of(request), request.scope["headers"], trust, settings.forwarded).trusted

    def require_trust(request: Request) -> None:
        if not trusted(request):
            raise RequestError("for trusted callers only", status=403)

    def served() -> Snapshot:
        if holder.snapshot is None:
            raise RequestError("nothing is published yet", hint="steering serve, or steering table publish", status=503)
        return holder.snapshot

    def hear(request: Request, snapshot: Snapshot | None, packed: bytes, playing: str = "") -> None:
        if reports is not None and snapshot is not None:
            reports.count_steering(snapshot, request.scope["query_string"], request.scope["headers"], packed, playing)

    @app.head("/v1/steer", include_in_schema=False)
    @app.get("/v1/steer", responses=STEER_RESPONSES, openapi_extra=openapi_parameters())
    async def steer(request: Request) -> Response:
        """Return the appliances to play a title from, best first; the service's fallback ends a list that is short."""
        snapshot = served()
        query = read_steer_query(request.scope["query_string"], settings.default_service)
        client = find_client(peer_of(request), request.scope["headers"], trust, settings.forwarded, query.ip)
        asked: dict[str, Any] = {
            "service": query.service,
            "session": query.session,
            "n": query.n,
            "family": query.family,
        }
        hear(request, snapshot, client.packed)
        if query.explain:
            if not client.trusted:
                raise RequestError.of_parameter("explain", "1", "for callers whose every hop is trusted", 403)
            # Explaining reads files; answering others goes on meanwhile.
            explain = functools.partial(snapshot.explain, client.packed, query.title, **asked)
            return JSONResponse(await anyio.to_thread.run_sync(explain), headers=PLAYER_HEADERS)
        if (region := snapshot.refused_region(client.packed, query.service)) is not None:
            elsewhere = snapshot.rules[query.service].refused_url
            if query.redirect and elsewhere:
                return Response(status_code=302, headers={**PLAYER_HEADERS, "location": elsewhere})
            raise refused_in(region, query.service, elsewhere)
        if decisions is not None and decisions.wants(query.title):
            trace = Trace()
            body = snapshot.steer(client.packed, query.title, **asked, trace=trace, counters=counters)
            n = query.n or snapshot.services[query.service].n
            decisions.note(snapshot, client.packed, query.service, n, query.family, trace)
        else:
            body = snapshot.steer(client.packed, query.title, **asked, counters=counters)
        if query.redirect:
            location, links = redirect(body)
            response = Response(status_code=302, headers={**PLAYER_HEADERS, "location": location})
            for link in links:
                response.headers.append("link", link)
            return response
        return Response(body, media_type="application/json", headers=PLAYER_HEADERS)

    @app.options("/v1/steer", include_in_schema=False)
    async def preflight() -> Response:
        return Response(status_code=204, headers=PREFLIGHT_HEADERS)

    @app.post("/v1/cmcd", status_code=204, responses=REPORT_RESPONSES, openapi_extra=REPORT_BODY)
    async def report(request: Request) -> Response:
        """Take what players report: CMCD events, a line each, or JSON. What cannot be read is passed over."""
        client = find_client(peer_of(request), request.scope["headers"], trust, settings.forwarded)
        body = await body_of(request, cmcd.MAX_BODY)
        later = BackgroundTask(take_reports, body, client.packed, read_tag(request.scope["query_string"]))
        return Response(status_code=204, headers=PLAYER_HEADERS, background=later)

    async def take_reports(body: bytes, packed: bytes, tag: str) -> None:
        snapshot = holder.snapshot
        if reports is None or snapshot is None:
            return
        found, unread = cmcd.read_body(body)
        await reports.learn_names(snapshot)
        for at in range(0, len(found), REPORTS_AT_ONCE):
            reports.count(snapshot, found[at : at + REPORTS_AT_ONCE], packed, tag)
            await asyncio.sleep(0)
        if unread:
            reports.counters.note_event("unread_reports", unread)

    @app.options("/v1/cmcd", include_in_schema=False)
    async def report_preflight() -> Response:
        return Response(status_code=204, headers=POST_PREFLIGHT_HEADERS)

    @app.post("/v1/playback", responses=PLAYBACK_RESPONSES, openapi_extra=PLAYBACK_BODY)
    async def playback(request: Request) -> Response:
        """Return who serves each of many files, best first, with the servers listed once."""
        snapshot = served()
        body = await receive(request)
        client = find_client(peer_of(request), request.scope["headers"], trust, settings.forwarded)
        answer = playback_request.answer(snapshot, body, client, settings.default_service, counters)
        accepts = [value for name, value in request.scope["headers"] if name == b"accept-encoding"]
        sent, is_gzip = playback_request.encode(answer, accepts)
        headers = {**PLAYER_HEADERS, "vary": "accept-encoding"}
        if is_gzip:
            headers["content-encoding"] = "gzip"
        return Response(sent, media_type="application/json", headers=headers)

    @app.options("/v1/playback", include_in_schema=False)
    async def playback_preflight() -> Response:
        return Response(status_code=204, headers=POST_PREFLIGHT_HEADERS)

    def asked_by(request: Request) -> Asked:
        scope = request.scope
        raw_path = scope.get("raw_path") or quote(scope["path"]).encode()
        trusting = (trust, settings.forwarded)
        return read_request(raw_path, scope["query_string"], peer_of(request), scope["headers"], *trusting)

    def steer_player(request: Request) -> Response:
        asked = asked_by(request)
        hear(request, holder.snapshot, asked.client.packed, (asked.hints.pathways or ("",))[-1])
        found = players.steer(holder.snapshot, asked, settings, counters)
        if counters is not None:
            for event, happened in (("moved", found.moves), ("odd_hints", asked.hints.odd)):
                if happened:
                    counters.note_event(event)
        return Response(found.body, headers=STEERING_HEADERS, media_type=MEDIA_TYPE)

    def playlist(request: Request) -> Response:
        asked = asked_by(request)
        if not asked.name:  # a title whose name ends as a playlist's, or a path of another shape
            return steer_player(request)
        body = players.make_playlist(served(), asked, settings, sign, counters, tag)
        return Response(body, headers=PLAYER_HEADERS, media_type=players.MEDIA_TYPES[asked.protocol])

    @app.head("/v1/hls/{service}/{title}/master.m3u8", include_in_schema=False)
    @app.get("/v1/hls/{service}/{title}/master.m3u8", responses=PLAYLIST_RESPONSES)
    async def master(request: Request) -> Response:
        """Return the title's HLS multivariant playlist, with the client's best appliances as pathways."""
        return playlist(request)

    @app.head("/v1/dash/{service}/{title}/manifest.mpd", include_in_schema=False)
    @app.get("/v1/dash/{service}/{title}/manifest.mpd", responses=PLAYLIST_RESPONSES)
    async def mpd(request: Request) -> Response:
        """Return the title's DASH manifest, with the client's best appliances as service locations."""
        return playlist(request)

    @app.head("/v1/hls/{service}/{title}", include_in_schema=False)
    @app.get("/v1/hls/{service}/{title}", responses=STEERING_RESPONSES, openapi_extra=hint_parameters("hls"))
    async def steer_hls(request: Request) -> Response:
        """Return the HLS steering manifest: which pathway to play from, best first. Never an error."""
        return steer_player(request)

    @app.head("/v1/dash/{service}/{title}", include_in_schema=False)
    @app.get("/v1/dash/{service}/{title}", responses=STEERING_RESPONSES, openapi_extra=hint_parameters("dash"))
    async def steer_dash(request: Request) -> Response:
        """Return the DASH steering manifest: which service location to play from, best first. Never an error."""
        return steer_player(request)

    for protocol in MANIFESTS:
        for path in (f"/v1/{protocol}", f"/v1/{protocol}/{{rest:anything}}"):
            app.add_api_route(path, playlist, methods=["GET", "HEAD"], include_in_schema=False)
            app.add_api_route(path, preflight, methods=["OPTIONS"], include_in_schema=False)

    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz", responses={200: {"description": "this process is alive"}})
    async def healthz() -> Response:
        """Tell whether this process is alive."""
        return Response("ok\n", media_type="text/plain")

    @app.head("/readyz", include_in_schema=False)
    @app.get("/readyz", responses=READY_RESPONSES)
    async def readyz() -> Response:
        """Tell whether a table is being served: which, and how old it is."""
        snapshot = served()
        age_s = round(max(time.time() - snapshot.current.published_at, 0), 1)
        refused = holder.error.message if holder.error else None
        return JSONResponse({"ready": True, **snapshot.describe_version(), "age_s": age_s, "refused": refused})

    @app.head("/version", include_in_schema=False)
    @app.get("/version", responses={200: {"description": "the versions"}})
    async def show_version(request: Request) -> Response:
        """Return the versions of the program and of what it serves. For trusted callers."""
        require_trust(request)
        serving = holder.snapshot.describe_version() if holder.snapshot else None
        return JSONResponse({"steering": version("steering"), "serving": serving})

    @app.head("/metrics", include_in_schema=False)
    @app.get("/metrics", responses={200: {"description": "all workers' counts, in Prometheus text"}})
    async def metrics(request: Request) -> Response:
        """Return what all workers did, in Prometheus text. For trusted callers."""
        require_trust(request)
        text = await anyio.to_thread.run_sync(
            metrics_text, settings.state, holder.snapshot, settings.metrics_per_appliance, time.time()
        )
        return Response(text, media_type=CONTENT_TYPE)

    @app.head("/openapi.json", include_in_schema=False)
    @app.get("/openapi.json", include_in_schema=False)
    async def openapi(request: Request) -> Response:
        require_trust(request)
        return JSONResponse(app.openapi())

    @app.head("/docs", include_in_schema=False)
    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        require_trust(request)
        example = f"curl '{request.base_url}v1/steer?title=80100172&n=3'"
        headers = {"content-security-policy": CONTENT_SECURITY_POLICY}
        return Response(docs_page(app.openapi(), example), media_type="text/html", headers=headers)

    @app.exception_handler(RequestError)
    async def refuse(_: Request, error: RequestError) -> Response:
        headers = dict(PLAYER_HEADERS)
        if error.status == HTTPStatus.SERVICE_UNAVAILABLE:
            headers["retry-after"] = "1"
        return Response(problem(error), error.status, headers, PROBLEM)

    @app.exception_handler(HTTPException)
    async def refuse_route(request: Request, error: HTTPException) -> Response:
        found = RequestError(f"{request.method} {request.url.path}: {error.detail}", status=error.status_code)
        headers = dict(PLAYER_HEADERS)
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            same = (
                route.methods for route in app.routes if isinstance(route, Route) and route.path == request.url.path
            )
            headers["allow"] = ", ".join(sorted(set[str]().union(*(methods or () for methods in same))))
        return Response(problem(found), error.status_code, headers, PROBLEM)

    @app.exception_handler(ClientDisconnect)
    async def leave(_: Request, error: ClientDisconnect) -> Response:  # noqa: ARG001 (nobody reads it)
        return Response(status_code=400)

    @app.exception_handler(Exception)
    async def fail(_: Request, error: Exception) -> Response:  # noqa: ARG001 (the server logs it)
        found = RequestError("an error of ours; it is in the log", status=500)
        return Response(problem(found), 500, PLAYER_HEADERS, PROBLEM)

    return app


async def body_of(request: Request, most: int) -> bytes:
    """Return a request's body. Raises RequestError 413 as soon as it is too large."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most:
            raise RequestError(f"a body of over {most} bytes", hint="send it in parts", status=413)
    return bytes(body)


async def receive(request: Request) -> bytes:
    """Return the body of a playback request. Raises RequestError 413 or 415."""
    kind, coding = (request.headers.get(name, "") for name in ("content-type", "content-encoding"))
    if kind and not playback_request.is_json(kind):
        raise RequestError.of_parameter("content-type", kind, "application/json", 415)
    if coding:
        raise RequestError.of_parameter("content-encoding", coding, "a body as it is", 415)
    return await body_of(request, playback_request.MAX_BODY)


def peer_of(request: Request) -> str | None:
    """Return the socket's address, None on a Unix socket."""
    return request.client.host if request.client else None


def hint_parameters(protocol: str) -> dict[str, Any]:
    """Return the query of a steering manifest for the OpenAPI document; `manifests.py` reads it."""
    known = {"pathway": "what the player plays from", "throughput": "what it measured there, in bit/s"}
    named = {f"_{protocol.upper()}_{name}": meaning for name, meaning in known.items()} | HINTS
    return {
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in ("service", "title")
        ]
        + [
            {"name": name, "in": "query", "description": meaning, "required": False, "schema": {"type": "string"}}
            for name, meaning in named.items()
        ]
    }


def openapi_parameters() -> dict[str, Any]:
    """Return the query of /v1/steer for the OpenAPI document; `query.py` reads it."""
    return {
        "parameters": [
            {
                "name": name,
                "in": "query",
                "description": schema["description"],
                "required": name == "title",
                "schema": {key: value for key, value in schema.items() if key != "description"},
            }
            for name, schema in PARAMETERS.items()
        ]
    }


EXAMPLE: Final = {
    "table": 42,
    "ttl": 300,
    "targets": [
        {"url": "https://c001-bom001.cdn.example/v/80100172", "appliance": "c001-bom001", "site": "bom001", "rank": 0}
    ],
}
STEER_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "ranked targets, best first", "content": {"application/json": {"example": EXAMPLE}}},
    302: {"description": "with redirect=1: Location is the first target, Link names the others"},
    400: {"description": "a parameter is wrong; the problem document names it, its value and the rule"},
    403: {"description": "ip= or explain= from a caller that is not trusted"},
    404: {"description": "there is no such service"},
    451: {"description": "the service is not for clients in this region; the problem document names it"},
    503: {"description": "nothing is published yet"},
}
PLAYBACK_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "the servers once, and for each file its servers by their place in the list, best first",
        "content": {
            "application/json": {
                "example": {
                    "table": 42,
                    "fleet": 7,
                    "holdings": None,
                    "ttl": 300,
                    "url": "https://{host}/v/{title}",
                    "fallback": "https://cdn.example/v/{title}",
                    "servers": [
                        {
                            "host": "c001-bom001.cdn.example",
                            "appliance": "c001-bom001",
                            "site": "bom001",
                            "rank": 0,
                            "families": [4, 6],
                        }
                    ],
                    "files": {"80100172-v1": [0], "80100172-a1": [0]},
                }
            }
        },
    },
    400: {"description": "the body or a member of it is wrong; the problem document names it, its value and the rule"},
    403: {"description": "ip from a caller that is not trusted"},
    404: {"description": "there is no such service"},
    413: {"description": "a body of over 256 kB"},
    415: {"description": "a body that is not application/json, or is compressed"},
    451: {"description": "the service is not for clients in this region; the problem document names it"},
    503: {"description": "nothing is published yet"},
}
PLAYBACK_BODY: Final[dict[str, Any]] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": playback_request.schema()}}}
}
HINTS: Final = {
    "session": "the viewer's session, at most 256 characters; never stored",
    "player": "the family of players, for services that offer it clones",
    "declared": "what a playlist of ours has its pathways at, as it says itself: of those no clone is offered",
    "family": "4 or 6: only appliances up on this IP version; else the client's",
    "ip": "ask for this client; trusted callers only",
}
STEERING_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "the steering manifest",
        "content": {
            MEDIA_TYPE: {
                "example": {"VERSION": 1, "TTL": 30, "PATHWAY-PRIORITY": ["c001-bom001", "c002-bom001", "cdn"]}
            }
        },
    },
}
REPORT_BODY: Final = {
    "requestBody": {
        "content": {
            kind: {"schema": {"type": "string"}, "example": 'e=ps,sid="6e2f",sta=p,ts=1767225600000,v=2\n'}
            for kind in ("application/cmcd", "text/plain", "application/json", "application/x-ndjson")
        }
    },
    "parameters": [
        {
            "name": "tag",
            "in": "query",
            "description": "the session tag that we gave out",
            "required": False,
            "schema": {"type": "string"},
        }
    ],
}
REPORT_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    204: {"description": "taken, as far as it could be read"},
    413: {"description": f"a body of over {cmcd.MAX_BODY} bytes"},
}
PLAYLIST_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "the playlist, made for this client"},
    404: {"description": "no playlist of this title is registered"},
    503: {"description": "nothing is published yet"},
}
READY_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "the versions served, their age, and the last file refused, if any"},
    503: {"description": "nothing is published yet"},
}
