"""The endpoints of players, below /v1/hls and /v1/dash: steering manifests, and playlists."""

from __future__ import annotations

from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from starlette.convertors import PathConvertor, register_url_convertor

from _fastpath.hints import PLAYLISTS
from steering.playback.answers import players
from steering.playback.answers.players import Asked
from steering.playback.answers.playlist import MEDIA_TYPES, make_playlist
from steering.playback.answers.steering_manifests import MEDIA_TYPE
from steering.playback.http.context import PLAYER_HEADERS, STEERING_HEADERS, Context, add_preflight, peer_of
from steering.playback.http.openapi import PLAYLIST_RESPONSES, STEERING_RESPONSES, hint_parameters


class Anything(PathConvertor):
    """The rest of a path, with the line ends that `path` does not match."""

    regex = "(?s:.*)"


register_url_convertor("anything", Anything())


def asked_by(request: Request, context: Context) -> Asked:
    """Return what a player asks for, from the path as it was sent."""
    scope = request.scope
    raw_path = scope.get("raw_path") or quote(scope["path"]).encode()
    peer, forwarded = peer_of(request), context.settings.forwarded
    return players.read_request(raw_path, scope["query_string"], peer, scope["headers"], context.trust, forwarded)


def steer_player(request: Request, context: Context) -> Response:
    """Return a steering manifest, and count what happened."""
    asked = asked_by(request, context)
    context.read_cmcd(request, asked.client.packed, (asked.hints.pathways or ("",))[-1])
    steered = players.steer(context.holder.snapshot, asked, context.settings, context.counters)
    if context.counters is not None:
        for event, happened in (("moved", steered.moves), ("odd_hints", asked.hints.odd)):
            if happened:
                context.counters.note_event(event)
    return Response(steered.body, headers=STEERING_HEADERS, media_type=MEDIA_TYPE)


def answer_playlist(request: Request, context: Context) -> Response:
    """Return a playlist, or a steering manifest where the path only looks like a playlist's."""
    asked = asked_by(request, context)
    if not asked.name:
        return steer_player(request, context)
    body = make_playlist(context.served(), asked, context.settings, context.sign, context.counters, context.tag)
    return Response(body, headers=PLAYER_HEADERS, media_type=MEDIA_TYPES[asked.protocol])


def add_players(app: FastAPI, context: Context) -> None:
    """Add the endpoints to an app."""

    async def playlist(request: Request) -> Response:
        return answer_playlist(request, context)

    @app.head("/v1/hls/{service}/{title}/master.m3u8", include_in_schema=False)
    @app.get("/v1/hls/{service}/{title}/master.m3u8", responses=PLAYLIST_RESPONSES)
    async def master(request: Request) -> Response:
        """Return the title's HLS multivariant playlist, with the client's best appliances as pathways."""
        return answer_playlist(request, context)

    @app.head("/v1/dash/{service}/{title}/manifest.mpd", include_in_schema=False)
    @app.get("/v1/dash/{service}/{title}/manifest.mpd", responses=PLAYLIST_RESPONSES)
    async def mpd(request: Request) -> Response:
        """Return the title's DASH manifest, with the client's best appliances as service locations."""
        return answer_playlist(request, context)

    @app.head("/v1/hls/{service}/{title}", include_in_schema=False)
    @app.get("/v1/hls/{service}/{title}", responses=STEERING_RESPONSES, openapi_extra=hint_parameters("hls"))
    async def steer_hls(request: Request) -> Response:
        """Return the HLS steering manifest: which pathway to play from, best first. Never an error."""
        return steer_player(request, context)

    @app.head("/v1/dash/{service}/{title}", include_in_schema=False)
    @app.get("/v1/dash/{service}/{title}", responses=STEERING_RESPONSES, openapi_extra=hint_parameters("dash"))
    async def steer_dash(request: Request) -> Response:
        """Return the DASH steering manifest: which service location to play from, best first. Never an error."""
        return steer_player(request, context)

    for protocol in PLAYLISTS:
        for path in (f"/v1/{protocol}", f"/v1/{protocol}/{{rest:anything}}"):
            app.add_api_route(path, playlist, methods=["GET", "HEAD"], include_in_schema=False)
            add_preflight(app, path)
