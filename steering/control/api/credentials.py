"""Endpoints that make tokens and keys, and the audit log."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query, Response
from msgspec import Meta, Struct

from steering.control.api.endpoints import Api, Asking, Count, answers
from steering.control.services.tokens import MAX_TOKEN_NAME


class TokenRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A token to make: its role, its name for the audit log, and its days (null: until it is revoked)."""

    role: Annotated[str, Meta(max_length=100)]
    name: Annotated[str, Meta(max_length=MAX_TOKEN_NAME)] = ""
    days: float | None = None


class KeyRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A key to make: its id, and its secret unless control is to make one."""

    id: Annotated[str, Meta(max_length=63)]
    secret: str = ""


@answers("tokens.make")
def make_token(api: Api, body: TokenRequest, caller: Asking, response: Response) -> dict[str, Any]:
    response.headers["cache-control"] = "no-store"
    return api.control.tokens.make(body.role, body.name, caller.who, body.days)


@answers("keys.make")
def make_key(api: Api, body: KeyRequest, caller: Asking, response: Response) -> dict[str, Any]:
    response.headers["cache-control"] = "no-store"
    return api.control.keys.make(body.id, caller.who, body.secret)


@answers("audit.list")
def list_audit(
    api: Api, count: Count = 100, below: Annotated[int | None, Query(ge=1, lt=1 << 62)] = None
) -> list[dict[str, Any]]:
    return api.control.audit.list(count, below)
