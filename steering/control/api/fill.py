"""Endpoints of fill: the catalogue, plans, and what appliances ask for."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Header, Query, Response
from msgspec import Meta, Struct

from steering.control.api.endpoints import MAX_WHY, Api, Asking, Body, Why, answers
from steering.control.fill.fill_manifest import read_have
from steering.control.records.auth import Caller
from steering.control.services.fill_answers import MOST_TITLES
from steering.errors import RequestError

IMMUTABLE = "max-age=31536000, immutable"
Short = Annotated[str, Query(max_length=256)]


class PlanRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A reason for the audit log; `force` uses a plan that breaks guards, and says why."""

    why: Why = ""
    force: Annotated[str, Meta(max_length=MAX_WHY)] = ""


class SourcesRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Titles of a service that an appliance lacks, and how many leases it wants at most."""

    service: Annotated[str, Meta(min_length=1, max_length=63)]
    titles: Annotated[list[Annotated[str, Meta(min_length=1, max_length=256)]], Meta(max_length=MOST_TITLES)]
    most: Annotated[int, Meta(ge=1, le=64)] = 8


@answers("catalogue.put")
def put_catalogue(api: Api, service: str, body: Body, caller: Asking) -> dict[str, Any]:
    return api.control.catalogue.put(service, body, caller.who)


@answers("catalogue.rows")
def list_catalogue(
    api: Api, service: str, count: Annotated[int, Query(ge=1, le=10_000)] = 1000, after: Short = ""
) -> list[dict[str, Any]]:
    return api.control.catalogue.rows(service, count, after)


@answers("catalogue.recipe")
def get_recipe(api: Api, service: str, recipe: str) -> Response:
    body = api.control.catalogue.recipe(service, recipe)
    headers = {"etag": f'"{recipe}"', "cache-control": IMMUTABLE}
    return Response(body, 200, headers, "application/json")


@answers("catalogue.put_recipe")
def put_recipe(api: Api, service: str, recipe: str, body: Body, caller: Asking) -> dict[str, Any]:
    return api.control.catalogue.put_recipe(service, recipe, body, caller.who)


@answers("fill.count_plays")
def count_plays(api: Api, service: str, body: Body, caller: Asking) -> dict[str, Any]:
    return api.control.fill.count_plays(service, body, caller.who)


@answers("fill.use_launches")
def use_launches(api: Api, service: str, body: Body, caller: Asking) -> dict[str, Any]:
    return api.control.fill.use_launches(service, body, caller.who)


@answers("fill.plan")
def make_plan(api: Api, body: PlanRequest, caller: Asking) -> dict[str, Any]:
    return api.control.fill.plan(caller.who, body.why, body.force)


@answers("fill.explain")
def explain_fill(api: Api, service: Short, title: Short, cluster: Short) -> dict[str, Any]:
    return api.control.fill.explain(service, title, cluster)


@answers("fill.manifest")
def fill_manifest(
    api: Api,
    caller: Asking,
    appliance: Annotated[str, Query(max_length=63)] = "",
    have: Annotated[list[str] | None, Query(max_length=64)] = None,
    if_none_match: Annotated[str, Header(max_length=1024)] = "",
) -> Response:
    name = own_appliance(caller, appliance)
    etag, body = api.control.fill_answers.manifest(name, read_have(have or []), if_none_match)
    headers = {"etag": etag, "cache-control": "no-cache"}
    return (
        Response(status_code=304, headers=headers) if body is None else Response(body, 200, headers, "application/json")
    )


@answers("fill.sources")
def fill_sources(api: Api, body: SourcesRequest, caller: Asking) -> dict[str, Any]:
    return api.control.fill_answers.ask(caller.subject, body.service, body.titles, body.most)


def own_appliance(caller: Caller, appliance: str) -> str:
    """Return the appliance that is asked for. Raises RequestError 403 for another one's token, 422 for none."""
    if caller.role == "appliance":
        if appliance not in ("", caller.subject):
            raise RequestError.of_parameter("appliance", appliance, f"{caller.subject}, as the token says", 403)
        return caller.subject
    if not appliance:
        raise RequestError.of_parameter("appliance", "", "the id of an appliance", 422)
    return appliance
