"""Endpoints of the keys that sign URLs."""

from __future__ import annotations

from typing import Any

import pydantic
from fastapi import Response

from steering.control.api.endpoints import Api, Asking, Endpoints

endpoints = Endpoints()


class KeyRequest(pydantic.BaseModel, extra="forbid"):
    """A key to make: its id, and its secret unless control is to make one."""

    id: str = pydantic.Field(max_length=63)
    secret: pydantic.SecretStr = pydantic.SecretStr("")


@endpoints.verb("keys.list")
def list_keys(api: Api) -> list[dict[str, Any]]:
    return api.control.keys.list()


@endpoints.verb("keys.make")
def make_key(api: Api, body: KeyRequest, caller: Asking, response: Response) -> dict[str, Any]:
    response.headers["cache-control"] = "no-store"
    return api.control.keys.make(body.id, caller.who, body.secret.get_secret_value())


@endpoints.verb("keys.retire")
def retire_key(api: Api, name: str, caller: Asking) -> dict[str, Any]:
    return api.control.keys.retire(name, caller.who)
