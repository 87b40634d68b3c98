"""The endpoint /v1/steer: a request as the compiled reader reads it, and the answer in its form."""

from __future__ import annotations

from typing import Any, Final

import anyio.to_thread
from fastapi import FastAPI, Request, Response

from _fastpath.ranking import Trace
from _fastpath.request import Client, SteerRequest, read_steer_query
from steering.decision.explain import explain
from steering.decision.snapshot import Snapshot
from steering.errors import RequestError
from steering.escape import for_json
from steering.playback.answers.problem import region_error
from steering.playback.answers.redirect import redirect
from steering.playback.http.context import PLAYER_HEADERS, Context, add_preflight
from steering.playback.http.openapi import FAMILY, NUMBER, STEER_RESPONSES, parameter

FLAG: Final = {"type": "integer", "enum": [0, 1]}
PARAMETERS: Final = {
    "title": parameter("title", "what is to be played: 1 to 256 bytes of UTF-8", required=True),
    "service": parameter("service", "the kind of traffic; where absent, the default service"),
    "session": parameter("session", "the viewer's session, at most 256 characters; never stored"),
    "n": parameter("n", "how many targets; else as the service says", NUMBER),
    "family": parameter("family", "only appliances up on this IP version; else the client's", FAMILY),
    "ip": parameter("ip", "ask for this client; trusted callers only"),
    "explain": parameter("explain", "1: say why; trusted callers only", FLAG),
    "redirect": parameter("redirect", "1: answer 302, the other targets in Link headers", FLAG),
}  # `_fastpath/request.pyx` reads them


def add_steer(app: FastAPI, context: Context) -> None:
    """Add the endpoint to an app."""

    @app.head("/v1/steer", include_in_schema=False)
    @app.get("/v1/steer", responses=STEER_RESPONSES, openapi_extra={"parameters": list(PARAMETERS.values())})
    async def steer(request: Request) -> Response:
        """Return the appliances to play a title from, best first; the service's fallback ends a list that is short."""
        snapshot = context.served()
        asked = read_steer_query(request.scope["query_string"], context.settings.default_service)
        client = context.client_of(request, asked.ip)
        context.read_cmcd(request, client.packed)
        if asked.explain:
            return await explained(snapshot, client, asked)
        if (region := snapshot.refused_region(client.packed, asked.service)) is not None:
            refused_url = snapshot.rules[asked.service].refused_url
            if asked.redirect and refused_url:
                return redirected([refused_url])
            raise region_error(region, asked.service, refused_url)
        return answer(context, snapshot, client, asked)

    add_preflight(app, "/v1/steer")


def answer(context: Context, snapshot: Snapshot, client: Client, asked: SteerRequest) -> Response:
    """Return the answer as JSON or as a redirect, counted, and recorded where the decision log wants it."""
    decisions = context.decisions
    trace = Trace() if decisions is not None and decisions.wants(asked.title) else None
    options = {**options_of(asked), "trace": trace, "counters": context.counters}
    response = (
        redirected(snapshot.target_urls(client.packed, asked.title, **options))
        if asked.redirect
        else Response(
            snapshot.steer(client.packed, asked.title, **options),
            media_type="application/json",
            headers=PLAYER_HEADERS,
        )
    )
    if decisions is not None and trace is not None:
        n = asked.n or snapshot.services[asked.service].n
        decisions.note(snapshot, client.packed, asked.service, n, asked.family, trace)
    return response


async def explained(snapshot: Snapshot, client: Client, asked: SteerRequest) -> Response:
    """Return the answer with its reasons. Raises RequestError 403 unless every hop is trusted."""
    if not client.trusted:
        raise RequestError.of_parameter("explain", "1", "for callers whose every hop is trusted", 403)
    # Explaining reads files, so it runs in a thread, and other requests are answered meanwhile.
    content = await anyio.to_thread.run_sync(
        lambda: for_json(explain(snapshot, client.packed, asked.title, **options_of(asked)))
    )
    return Response(content, media_type="application/json", headers=PLAYER_HEADERS)


def redirected(urls: list[str]) -> Response:
    """Return a 302 to the first of these URLs; Link headers name the others."""
    location, links = redirect(urls)
    response = Response(status_code=302, headers={**PLAYER_HEADERS, "location": location})
    for link in links:
        response.headers.append("link", link)
    return response


def options_of(asked: SteerRequest) -> dict[str, Any]:
    """Return the parameters of a request that the decision takes by name."""
    return {"service": asked.service, "session": asked.session, "n": asked.n, "family": asked.family}
