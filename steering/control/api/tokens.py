"""Endpoints of tokens, which let a caller in over TCP."""

from __future__ import annotations

from typing import Any

import pydantic
from fastapi import Response

from steering.control.api.endpoints import Api, Asking, Endpoints, Number
from steering.control.services.tokens import MAX_TOKEN_NAME

endpoints = Endpoints()


class TokenRequest(pydantic.BaseModel, extra="forbid"):
    """A token to make: its role, its name for the audit log, and its days (null: until it is revoked)."""

    role: str = pydantic.Field(max_length=100)
    name: str = pydantic.Field("", max_length=MAX_TOKEN_NAME)
    days: float | None = None


@endpoints.verb("tokens.list")
def list_tokens(api: Api) -> list[dict[str, Any]]:
    return api.control.tokens.list()


@endpoints.verb("tokens.make")
def make_token(api: Api, body: TokenRequest, caller: Asking, response: Response) -> dict[str, Any]:
    response.headers["cache-control"] = "no-store"
    return api.control.tokens.make(body.role, body.name, caller.who, body.days)


@endpoints.verb("tokens.revoke")
def revoke_token(api: Api, number: Number, caller: Asking) -> dict[str, Any]:
    return api.control.tokens.revoke(number, caller.who)
