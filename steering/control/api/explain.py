"""Endpoints that explain a decision, and say what it would be with changes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Depends, Query, Request

from steering.control.api.endpoints import Api, Endpoints
from steering.control.routes.proposed import propose
from steering.decision import what_if
from steering.decision.snapshot import Snapshot
from steering.decision.what_if import Question, first_address

endpoints = Endpoints()


def question_of(
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


@endpoints.verb("explain")
def explain(api: Api, question: Asked) -> dict[str, Any]:
    return question.answered_by(Snapshot.map(api.control.settings.state))


@endpoints.verb("what_if")
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
