"""The descriptions of the endpoints for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from _fastpath.body import MAX_BODY, MEMBERS
from _fastpath.ranking import MAX_PICKS
from steering.model.streams import Device
from steering.playback.answers.steering_manifests import MEDIA_TYPE
from steering.playback.telemetry import cmcd

Responses = dict[int | str, dict[str, Any]]
TEXT: Final = {"type": "string"}
NUMBER: Final = {"type": "integer", "minimum": 1, "maximum": MAX_PICKS}
FAMILY: Final = {"type": "integer", "enum": [4, 6]}
NOT_PUBLISHED: Final[Responses] = {503: {"description": "nothing is published yet"}}
REFUSED: Final[Responses] = {
    404: {"description": "there is no such service"},
    451: {"description": "the service is not for clients in this region; the problem document names it"},
    **NOT_PUBLISHED,
}


def parameter(
    name: str, meaning: str, schema: Mapping[str, Any] = TEXT, where: str = "query", required: bool = False
) -> dict[str, Any]:
    """Return the description of a parameter."""
    return {"name": name, "in": where, "description": meaning, "required": required, "schema": schema}


def hint_parameters(protocol: str) -> dict[str, Any]:
    """Return the parameters of a steering manifest; `_fastpath/hints.pyx` reads them."""
    known = {"pathway": "what the player plays from", "throughput": "what it measured there, in bit/s"}
    named = {f"_{protocol.upper()}_{name}": meaning for name, meaning in known.items()} | HINTS
    path = [parameter(name, f"the {name}'s id", where="path", required=True) for name in ("service", "title")]
    return {"parameters": [*path, *(parameter(name, meaning) for name, meaning in named.items())]}


EXAMPLE: Final = {
    "table": 42,
    "ttl": 300,
    "targets": [
        {"url": "https://c001-bom001.cdn.example/v/80100172", "appliance": "c001-bom001", "site": "bom001", "rank": 0}
    ],
}
STEER_RESPONSES: Final[Responses] = {
    200: {"description": "ranked targets, best first", "content": {"application/json": {"example": EXAMPLE}}},
    302: {"description": "with redirect=1: Location is the first target, Link names the others"},
    400: {"description": "a parameter is wrong; the problem document names it, its value and the rule"},
    403: {"description": "ip= or explain= from a caller that is not trusted"},
    **REFUSED,
}
SERVER: Final = {"host": "c001-bom001.cdn.example", "appliance": "c001-bom001", "site": "bom001", "rank": 0}
PLAYED: Final = {
    "table": 42,
    "fleet": 7,
    "holdings": None,
    "ttl": 300,
    "url": "https://{host}/v/{title}",
    "fallback": "https://cdn.example/v/{title}",
    "servers": [{**SERVER, "families": [4, 6]}],
    "files": {"80100172-v1": [0], "80100172-a1": [0]},
}
PLAYBACK_RESPONSES: Final[Responses] = {
    200: {
        "description": "the servers once, and for each file its servers by their place in the list, best first",
        "content": {"application/json": {"example": PLAYED}},
    },
    400: {"description": "the body or a member of it is wrong; the problem document names it, its value and the rule"},
    403: {"description": "ip from a caller that is not trusted"},
    413: {"description": f"a body of over {MAX_BODY} bytes"},
    415: {"description": "a body that is not application/json, or is compressed"},
    **REFUSED,
}
MEMBER_TYPES: Final[dict[str, Any]] = {
    "files": {"type": "array", "items": TEXT},
    "device": msgspec.json.schema_components([Device])[1]["Device"],
    "n": NUMBER,
    "family": FAMILY,
    "failed": {"type": "array", "items": TEXT},
}  # the others are strings
BODY_SCHEMA: Final = {
    "title": "PlaybackRequest",
    "type": "object",
    "properties": {name: {**MEMBER_TYPES.get(name, TEXT), "description": rule} for name, rule in MEMBERS.items()},
}
PLAYBACK_BODY: Final[dict[str, Any]] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": BODY_SCHEMA}}}
}
HINTS: Final = {
    "session": "the viewer's session, at most 256 characters; never stored",
    "player": "the family of players, for services that offer it clones",
    "declared": "digests of the pathways that the playlist declares, from its steering URL; these get no clone",
    "family": "4 or 6: only appliances up on this IP version; else the client's",
    "ip": "ask for this client; trusted callers only",
    "failed": "appliances or pathways to pass over, up to 8: ids or hosts with commas between",
}
STEERING_RESPONSES: Final[Responses] = {
    200: {
        "description": "the steering manifest",
        "content": {
            MEDIA_TYPE: {
                "example": {"VERSION": 1, "TTL": 30, "PATHWAY-PRIORITY": ["c001-bom001", "c002-bom001", "cdn"]}
            }
        },
    },
}
REPORT_BODY: Final = {
    "requestBody": {
        "content": {
            media_type: {"schema": TEXT, "example": 'e=ps,sid="6e2f",sta=p,ts=1767225600000,v=2\n'}
            for media_type in ("application/cmcd", "text/plain", "application/json", "application/x-ndjson")
        }
    },
    "parameters": [parameter("tag", "the session tag that we gave out")],
}
REPORT_RESPONSES: Final[Responses] = {
    204: {"description": "taken, as far as it could be read"},
    413: {"description": f"a body of over {cmcd.MAX_BODY} bytes"},
}
PLAYLIST_RESPONSES: Final[Responses] = {
    200: {"description": "the playlist, made for this client"},
    404: {"description": "no playlist of this title is registered"},
    **NOT_PUBLISHED,
}
READY_RESPONSES: Final[Responses] = {
    200: {"description": "the versions served, their age, and the last file refused, if any"},
    **NOT_PUBLISHED,
}
