"""Endpoints of records: the fleet as one document and object by object, and playlists (titles may have slashes)."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from fastapi import Header, Query, Response

from steering.control.api.access import find_visible, visible_ids
from steering.control.api.endpoints import Api, Asking, Body, Count, answers
from steering.control.health.presenter import describe, describe_cluster
from steering.control.records import fleet_objects
from steering.control.records.documents import format_fleet
from steering.control.services.control import Control
from steering.control.services.playlists import bring
from steering.errors import FeedError, RequestError
from steering.escape import escaped_json

WITH_STATE = ("appliances", "clusters")
OBJECT: Final = msgspec.json.Decoder(dict[str, Any])
IfMatch = Annotated[str, Header(max_length=1000, description="the ETag of the object that the caller read")]
IfNoneMatch = Annotated[str, Header(max_length=1000, description="* to make an object that must not exist yet")]


@answers("fleet.current")
def export_fleet(api: Api) -> Response:
    return Response(escaped_json(format_fleet(api.control.fleet.current()).encode()), media_type="application/json")


@answers("fleet.replace")
def import_fleet(api: Api, document: Body, caller: Asking) -> dict[str, Any]:
    return api.control.fleet.replace(document, caller.who)


def with_state(control: Control, kind: str, row: dict[str, Any]) -> dict[str, Any]:
    """Return an object with its present state; null for an appliance that the registry does not have yet."""
    if kind == "clusters":
        return {**row, "state": describe_cluster(control.registry, row["id"])}
    if kind == "appliances":
        try:
            return {**row, "state": describe(control.registry, row["id"])}
        except RequestError:
            return {**row, "state": None}
    return row


def add_fleet_objects(kind: str) -> None:
    """Add the endpoints of one kind of fleet object."""

    @answers(f"{kind}.list")
    def list_rows(
        api: Api,
        caller: Asking,
        count: Count = 1000,
        after: Annotated[str, Query(max_length=63, description="begin after this id")] = "",
    ) -> dict[str, Any]:
        fleet = api.control.fleet.current()
        own = visible_ids(caller, fleet, kind)
        rows = [
            row
            for name, row in fleet_objects.rows_by_id(fleet, kind).items()
            if name > after and (own is None or name in own)
        ]
        following = rows[count - 1]["id"] if len(rows) > count else None
        return {kind: [with_state(api.control, kind, row) for row in rows[:count]], "next": following}

    @answers(f"{kind}.get")
    def get_row(api: Api, name: str, caller: Asking, response: Response) -> dict[str, Any]:
        row = find_visible(caller, api.control.fleet.current(), kind, name)
        response.headers["etag"] = fleet_objects.etag_of(row)
        return with_state(api.control, kind, row)

    @answers(f"{kind}.put")
    def put_row(
        api: Api,
        name: str,
        caller: Asking,
        body: Body,
        response: Response,
        if_match: IfMatch = "",
        if_none_match: IfNoneMatch = "",
    ) -> dict[str, Any]:
        try:
            row = OBJECT.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise FeedError(f"{fleet_objects.SINGULAR[kind]} {name}: the body is no JSON object: {error}") from None
        if kind in WITH_STATE:
            row.pop("state", None)  # a caller sends back the object as it was read
        report = api.control.fleet.put(kind, name, row, caller.who, if_match, if_none_match)
        response.status_code = 201 if report["made"] else 200
        response.headers["etag"] = fleet_objects.etag_of(report["row"])
        return with_state(api.control, kind, report["row"])

    @answers(f"{kind}.delete")
    def delete_row(api: Api, name: str, caller: Asking, if_match: IfMatch = "") -> None:
        api.control.fleet.delete(kind, name, caller.who, if_match)


for kind in fleet_objects.SINGULAR:
    add_fleet_objects(kind)


@answers("playlists.rows")
def list_playlists(
    api: Api,
    count: Count = 1000,
    after: Annotated[str, Query(max_length=400, description="begin after this service/title/kind")] = "",
) -> list[dict[str, Any]]:
    return api.control.playlists.rows(count, after)


@answers("playlists.put")
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
