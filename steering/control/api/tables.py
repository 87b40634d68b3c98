"""Endpoints that check and publish prefix tables, explain a decision, and say what it would be with changes."""

from __future__ import annotations

import pathlib
from typing import Annotated, Any, Literal

import pydantic
from fastapi import Depends, Query, Request

from steering.control.api.endpoints import MAX_WHY, Api, Asking, answers
from steering.control.routes.feeds import FeedSource, Kind
from steering.control.routes.fetch import is_url
from steering.control.routes.proposed import propose
from steering.decision import what_if
from steering.decision.snapshot import Snapshot
from steering.decision.what_if import Question, first_address


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


@answers("tables.check")
def check(api: Api, body: PublishRequest) -> dict[str, Any]:
    return api.control.tables.check(body.feeds())


@answers("tables.publish")
def publish(api: Api, body: PublishRequest, caller: Asking) -> dict[str, Any]:
    return api.control.tables.publish(body.feeds(), caller.who, body.why, force=body.force, canary=body.canary)


async def question_of(
    request: Request,
    ip: Annotated[str, Query(max_length=64, description="an address, or a prefix: its first address")],
    title: Annotated[str, Query(max_length=256)] = "a title",
    service: Annotated[str, Query(max_length=63)] = "",
    session: Annotated[str, Query(max_length=256)] = "",
    n: Annotated[int | None, Query(ge=1, le=8)] = None,
    family: Annotated[Literal["4", "6", ""], Query()] = "",
) -> Question:
    """Return the question in a request."""
    default: str = request.app.state.default_service
    return Question(first_address(ip), title, service or default, session, n or 0, int(family or 0))


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
