"""The bodies of `POST /v1/playback` that the compiled reader leaves: any JSON, with every mistake worded.

The compiled reader (`_fastpath/body.pyx`) reads in place what back ends mostly send: known members and plain ASCII.
Members that are not known are ignored.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

import msgspec

from _fastpath.playback_json import MAX_FILES
from _fastpath.ranking import MAX_SESSION
from _fastpath.request import FAMILY_RULE, IP_RULE, N_RULE
from steering.decision.snapshot import Snapshot
from steering.errors import RequestError
from steering.model.streams import Device, files_for, read_catalogue

MAX_BODY: Final = 256 * 1024

RULES: Final = {
    "service": "the name of a service",
    "title": "1 to 256 bytes of UTF-8, and not . or ..",
    "session": f"at most {MAX_SESSION} characters",
    "files": f"1 to {MAX_FILES} names, each of 1 to 256 bytes of UTF-8, none twice",
    "device": "what it plays: codecs and protocols, lists of names, max_height, a number, and hdr, true or false",
    "n": N_RULE,
    "family": FAMILY_RULE,
    "ip": IP_RULE,
}
MEMBER: Final = re.compile(r" - at `\$\.(\w+)")


class PlaybackRequest(msgspec.Struct, frozen=True):
    """The members of a body; `n` 0 is the service's number, `family` 0 the client's own.

    With a device and no files, the files are those of the title's catalogue that the device plays.
    """

    service: str = ""
    title: str = ""
    session: str = ""
    files: list[str] = msgspec.field(default_factory=list)
    device: Device | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=8)] = 0
    family: Literal[4, 6] = 0  # type: ignore[assignment]  # a default is not checked
    ip: str | None = None


DECODER: Final = msgspec.json.Decoder(PlaybackRequest)


def read_playback_body(body: bytes) -> PlaybackRequest:
    """Return the members of a body. Raises RequestError naming the member that is wrong."""
    try:
        return DECODER.decode(body)
    except msgspec.ValidationError as error:
        match = MEMBER.search(str(error))
        name = match[1] if match else "body"
        raise RequestError.of_parameter(name, shown(body, name), RULES.get(name, "a JSON object")) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError.of_parameter("body", body[:64].decode("latin-1"), f"JSON in UTF-8: {error}") from None


def shown(body: bytes, name: str) -> str:
    """Return a member of a body as text."""
    try:
        members: Any = msgspec.json.decode(body)
        return msgspec.json.encode(members[name] if name in RULES else members).decode()
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return ""


def files_of(snapshot: Snapshot, asked: PlaybackRequest, service: str) -> list[str]:
    """Return the files that a request asks for. Raises RequestError."""
    if asked.device is None:
        return asked.files
    if asked.files or not asked.title:
        raise RequestError.of_parameter("device", "an object", "comes with a title, and in the place of files")
    streams = snapshot.playlists.find(service, asked.title, "streams") if snapshot.playlists else None
    if service not in snapshot.services or streams is None:
        raise RequestError.of_parameter(
            "title", asked.title, f"service {service[:63]!r} has no catalogue of its streams", 404
        )
    if files := files_for(read_catalogue(streams.head), asked.device):
        return files
    raise RequestError.of_parameter("device", "an object", "it plays none of the title's streams", 404)


def is_json(content_type: str) -> bool:
    """Return whether a Content-Type is JSON's."""
    return content_type.partition(";")[0].strip().lower() == "application/json"


def body_schema() -> dict[str, Any]:
    """Return the body's schema for the OpenAPI document."""
    parts: dict[str, Any] = msgspec.json.schema_components([PlaybackRequest])[1]
    schema: dict[str, Any] = parts["PlaybackRequest"]
    schema["properties"]["device"] = parts["Device"]
    for name, about in schema["properties"].items():
        about["description"] = RULES[name]
        about.pop("default", None)
    return schema
