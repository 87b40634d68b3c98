"""Endpoints that check and publish prefix tables, explain a decision, and say what it would be with changes."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import Depends, Query, Request
from msgspec import Meta, Struct

from steering.control.api.endpoints import Api, Asking, Why, answers
from steering.control.records.auth import Caller
from steering.control.routes.feeds import FeedSource, Kind
from steering.control.routes.fetch import is_below, is_url
from steering.control.routes.proposed import propose
from steering.decision import what_if
from steering.decision.snapshot import Snapshot
from steering.decision.what_if import Question, failed_appliances, first_address
from steering.errors import RequestError


class Source(Struct, frozen=True, forbid_unknown_fields=True):
    """A feed to read: its kind and its absolute path or URL; kind `asn` without a path is the shipped table."""

    kind: Kind
    path: Annotated[str, Meta(max_length=4096)] = ""

    def __post_init__(self) -> None:
        """Refuse a relative path: control does not run in the caller's folder."""
        if self.path and not pathlib.Path(self.path).is_absolute() and not is_url(self.path):
            raise ValueError(f"path {self.path!r} is neither absolute nor a URL")
        if "\0" in self.path:
            raise ValueError(f"path {self.path!r} has a zero byte")
        if not self.path and self.kind not in ("asn", "bgp"):
            raise ValueError(f"a {self.kind} feed has a path")


class PublishRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """The sources to check or publish, by default the shipped table, and the reason for the audit log.

    `force` is the reason to publish although a guard refuses; with `canary`, only this share of the clients that would
    move do.
    """

    sources: Annotated[tuple[Source, ...], Meta(min_length=1, max_length=100)] = (Source("asn"),)
    why: Why = ""
    force: Why = ""
    canary: Annotated[float, Meta(ge=0, lt=1)] = 0.0

    def feeds(self, caller: Caller, allowed: Sequence[str]) -> list[FeedSource]:
        """Return the sources for the table service. Raises RequestError 403 for one that a token may not name."""
        for source in self.sources:
            if caller.token and source.path and not is_below(source.path, allowed):
                rule = "a feed named with a token is below one of the setting feed_sources"
                raise RequestError.of_parameter("path", source.path, rule, status=403)
        return [FeedSource(source.kind, source.path) for source in self.sources]


@answers("tables.check")
def check(api: Api, body: PublishRequest, caller: Asking) -> dict[str, Any]:
    return api.control.tables.check(body.feeds(caller, api.control.settings.feed_sources))


@answers("tables.publish")
def publish(api: Api, body: PublishRequest, caller: Asking) -> dict[str, Any]:
    feeds = body.feeds(caller, api.control.settings.feed_sources)
    return api.control.tables.publish(feeds, caller.who, body.why, force=body.force, canary=body.canary)


async def question_of(
    request: Request,
    ip: Annotated[str, Query(max_length=64, description="an address, or a prefix: its first address")],
    title: Annotated[str, Query(max_length=256)] = "a title",
    service: Annotated[str, Query(max_length=63)] = "",
    session: Annotated[str, Query(max_length=256)] = "",
    n: Annotated[int | None, Query(ge=1, le=8)] = None,
    family: Annotated[Literal["4", "6", ""], Query()] = "",
    failed: Annotated[str | None, Query(description="appliances to pass over, as in /v1/steer")] = None,
) -> Question:
    """Return the question in a request."""
    default: str = request.app.state.default_service
    name, names = service or default, failed_appliances(failed)
    return Question(first_address(ip), title, name, session, n or 0, int(family or 0), names)


Asked = Annotated[Question, Depends(question_of)]


@answers("explain")
def explain(api: Api, question: Asked) -> dict[str, Any]:
    return question.answered_by(Snapshot.map(api.control.settings.state))


@answers("what_if")
def explain_with_changes(
    api: Api,
    question: Asked,
    table: Annotated[int | None, Query(ge=1, lt=1 << 32)] = None,
    off: Annotated[list[str] | None, Query(max_length=1000)] = None,
    route: Annotated[list[str] | None, Query(max_length=100)] = None,
) -> dict[str, Any]:
    return what_if.what_if(
        api.control.settings.state,
        question,
        table=table,
        off=off or (),
        proposed=propose(api.control.settings, route or ()),
    )
