"""Endpoints of registered playlists. A title may contain slashes."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query, Response

from steering.control.api.endpoints import Api, Asking, Body, Count, Endpoints
from steering.control.services.playlists import bring

endpoints = Endpoints()


@endpoints.verb("playlists.rows")
def list_playlists(
    api: Api,
    count: Count = 1000,
    after: Annotated[str, Query(max_length=400, description="begin after this service/title/kind")] = "",
) -> list[dict[str, Any]]:
    return api.control.playlists.rows(count, after)


@endpoints.verb("playlists.get")
def get_playlist(api: Api, service: str, title: str, kind: str) -> dict[str, Any]:
    return api.control.playlists.get(service, title, kind)


@endpoints.verb("playlists.put")
async def put_playlist(
    api: Api, service: str, title: str, kind: str, body: Body, caller: Asking, response: Response
) -> dict[str, Any]:
    playlists, name = api.control.playlists, "playlists.put"
    fetched = None
    if not body:  # the origin may be slow: it is asked in a thread of its own
        described = await api.run(name, lambda: playlists.require(service, title, kind))
        fetched = await bring(api.control.settings.state, described, title, kind)
    report = await api.run(name, lambda: playlists.put(service, title, kind, body or None, caller.who, fetched))
    response.status_code = 201 if report["made"] else 200
    return report


@endpoints.verb("playlists.delete")
def delete_playlist(api: Api, service: str, title: str, kind: str, caller: Asking) -> dict[str, Any]:
    return api.control.playlists.delete(service, title, kind, caller.who)
