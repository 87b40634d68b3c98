"""Endpoints of prefix tables: check, publish, reload, compare, roll back, canary, pin, routes."""

from __future__ import annotations

import pathlib
from typing import Annotated, Any

import pydantic
from fastapi import Query

from steering.control.api.access import own_partner
from steering.control.api.endpoints import MAX_WHY, Api, Asking, Endpoints, OfPartner, Reason, Version
from steering.control.routes.feeds import FeedSource, Kind
from steering.control.routes.fetch import is_url

endpoints = Endpoints()


class Source(pydantic.BaseModel, extra="forbid"):
    """A feed to read: its kind and its absolute path or URL; kind `asn` without a path is the shipped table."""

    kind: Kind
    path: str = ""

    @pydantic.model_validator(mode="after")
    def check_path(self) -> Source:
        """Refuse a relative path: control does not run in the caller's folder."""
        if self.path and not pathlib.Path(self.path).is_absolute() and not is_url(self.path):
            raise ValueError(f"path {self.path!r} is neither absolute nor a URL")
        if not self.path and self.kind not in ("asn", "bgp"):
            raise ValueError(f"a {self.kind} feed has a path")
        return self


class PublishRequest(pydantic.BaseModel, extra="forbid"):
    """The sources to check or publish, by default the shipped table, and the reason for the audit log."""

    sources: list[Source] = pydantic.Field([Source(kind="asn")], min_length=1, max_length=100)
    why: str = pydantic.Field("", max_length=MAX_WHY)
    force: str = pydantic.Field("", max_length=MAX_WHY, description="the reason to publish although a guard refuses")
    canary: float = pydantic.Field(0.0, ge=0, lt=1, description="move only this share of the clients that would move")

    def feeds(self) -> list[FeedSource]:
        """Return the sources for the table service."""
        return [FeedSource(source.kind, source.path) for source in self.sources]


@endpoints.verb("tables.check")
def check(api: Api, body: PublishRequest) -> dict[str, Any]:
    return api.control.tables.check(body.feeds())


@endpoints.verb("tables.publish")
def publish(api: Api, body: PublishRequest, caller: Asking) -> dict[str, Any]:
    return api.control.tables.publish(body.feeds(), caller.who, body.why, force=body.force, canary=body.canary)


@endpoints.verb("tables.reload")
def reload(api: Api, caller: Asking) -> dict[str, Any]:
    return api.control.tables.reload(caller.who)


@endpoints.verb("tables.list")
def list_tables(api: Api) -> list[dict[str, Any]]:
    return api.control.tables.list()


@endpoints.verb("tables.get")
def get_table(api: Api, version: Version) -> dict[str, Any]:
    return api.control.tables.get(version)


@endpoints.verb("tables.diff")
def diff(
    api: Api, before: Version, after: Version, examples: Annotated[int, Query(ge=0, le=100_000)] = 20
) -> dict[str, Any]:
    return api.control.tables.diff(before, after, examples)


@endpoints.verb("tables.rollback")
def rollback(api: Api, version: Version, body: Reason, caller: Asking) -> dict[str, Any]:
    return api.control.tables.rollback(version, caller.who, body.why)


@endpoints.verb("tables.promote")
def promote(api: Api, body: Reason, caller: Asking) -> dict[str, Any]:
    return api.control.tables.promote(caller.who, body.why)


@endpoints.verb("tables.withdraw")
def withdraw(api: Api, body: Reason, caller: Asking) -> dict[str, Any]:
    return api.control.tables.withdraw(caller.who, body.why)


@endpoints.verb("tables.pin")
def pin(api: Api, body: Reason, caller: Asking) -> dict[str, Any]:
    return api.control.tables.pin(caller.who, body.why)


@endpoints.verb("tables.unpin")
def unpin(api: Api, caller: Asking) -> dict[str, Any]:
    return api.control.tables.unpin(caller.who)


@endpoints.verb("tables.routes")
def routes(api: Api, prefix: Annotated[str, Query(max_length=64)]) -> dict[str, Any]:
    return api.control.tables.routes(prefix)


@endpoints.verb("tables.route_report")
def route_report(api: Api, caller: Asking, partner: OfPartner = "") -> dict[str, Any]:
    return api.control.tables.route_report(own_partner(caller, partner))
