"""Whole playback requests, `POST /v1/playback`: one JSON body in, one answer for up to a thousand files out.

FastAPI's door reads any body, and words every error. The compiled door reads in place what back ends mostly send, known
members and plain ASCII (`_fastpath/fast_path.pyx: read_playback_body`); both answer with `Picker.answer_files` and `encode`,
so their bytes are the same. Members that are not known are passed over.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import msgspec

from _fastpath.counters import Counters
from _fastpath.playback_json import MAX_FILES
from steering.decision.snapshot import Snapshot
from steering.errors import RequestError
from steering.model.streams import Device, files_for, read_catalogue
from steering.playback.answers.answer import refused_in
from steering.playback.client import Client, asked_for

MAX_BODY: Final = 256 * 1024
GZIP_FROM: Final = 1024  # bytes; below, the head costs more than is won
GZIP_LEVEL: Final = 1

RULES: Final = {
    "service": "the name of a service",
    "title": "1 to 256 bytes of UTF-8, and not . or ..",
    "session": "at most 256 characters",
    "files": f"1 to {MAX_FILES} names, each of 1 to 256 bytes of UTF-8, none twice",
    "device": "what it plays: codecs and protocols, lists of names, max_height, a number, and hdr, true or false",
    "n": "a number from 1 to 8",
    "family": "4 or 6",
    "ip": "an IPv4 or IPv6 address without a zone id",
}
PLACE: Final = re.compile(r" - at `\$\.(\w+)")
QUALITY: Final = re.compile(rb"0(\.0{0,3})?")


class PlaybackRequest(msgspec.Struct, frozen=True):
    """What a back end asks for; `n` 0 is as many as the service says, `family` 0 the client's own.

    With a device and no files, they are those of the title's catalogue that it plays.
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


def read(body: bytes) -> PlaybackRequest:
    """Return what a body asks for. Raises RequestError naming the member that is wrong."""
    try:
        return DECODER.decode(body)
    except msgspec.ValidationError as error:
        place = PLACE.search(str(error))
        name = place[1] if place else "body"
        raise RequestError.of_parameter(name, shown(body, name), RULES.get(name, "a JSON object")) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError.of_parameter("body", body[:64].decode("latin-1"), f"JSON in UTF-8: {error}") from None


def shown(body: bytes, name: str) -> str:
    """Return a member of a body as text."""
    try:
        found: Any = msgspec.json.decode(body)
        return msgspec.json.encode(found[name] if name in RULES else found).decode()
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return ""


def answer(
    snapshot: Snapshot, body: bytes, client: Client, default_service: str, counters: Counters | None = None
) -> bytes:
    """Return the answer to a body, and count it. Raises RequestError."""
    asked = read(body)
    service = asked.service or default_service
    if asked.ip is not None:
        client = asked_for(client, asked.ip)
    if (region := snapshot.refused_region(client.packed, service)) is not None:
        raise refused_in(region, service, snapshot.rules[service].refused_url)
    return snapshot.playback(
        client.packed,
        files_of(snapshot, asked, service),
        service=service,
        title=asked.title,
        session=asked.session,
        n=asked.n,
        family=asked.family,
        counters=counters,
    )


def files_of(snapshot: Snapshot, asked: PlaybackRequest, service: str) -> list[str]:
    """Return the files that are asked for. Raises RequestError."""
    if asked.device is None:
        return asked.files
    if asked.files or not asked.title:
        raise RequestError.of_parameter("device", "an object", "comes with a title, and in the place of files")
    found = snapshot.playlists.find(service, asked.title, "streams") if snapshot.playlists else None
    if service not in snapshot.services or found is None:
        raise RequestError.of_parameter(
            "title", asked.title, f"service {service[:63]!r} has no catalogue of its streams", 404
        )
    if files := files_for(read_catalogue(found.head), asked.device):
        return files
    raise RequestError.of_parameter("device", "an object", "it plays none of the title's streams", 404)


def encode(body: bytes, accepts: Sequence[bytes]) -> tuple[bytes, bool]:
    """Return the body as it is sent, and if that is gzip; `accepts` are the lines of Accept-Encoding."""
    if len(body) < GZIP_FROM or not accepts or not takes_gzip(b",".join(accepts)):
        return body, False
    return zlib.compress(body, GZIP_LEVEL, zlib.MAX_WBITS | 16), True  # with a time of 0


def takes_gzip(accepts: bytes) -> bool:
    """Tell whether Accept-Encoding asks for gzip (RFC 9110, 12.5.3): by its name, or else by `*`, and not with q=0."""
    found: dict[bytes, bool] = {}
    for part in accepts.lower().split(b","):
        coding, _, weight = part.partition(b";")
        name, _, value = weight.partition(b"=")
        found[coding.strip()] = name.strip() != b"q" or not QUALITY.fullmatch(value.strip())
    return found.get(b"gzip", found.get(b"*", False))


def is_json(content_type: str) -> bool:
    """Tell whether a Content-Type is JSON's."""
    return content_type.partition(";")[0].strip().lower() == "application/json"


def schema() -> dict[str, Any]:
    """Return the body's schema for the OpenAPI document."""
    parts: dict[str, Any] = msgspec.json.schema_components([PlaybackRequest])[1]
    found: dict[str, Any] = parts["PlaybackRequest"]
    found["properties"]["device"] = parts["Device"]
    for name, about in found["properties"].items():
        about["description"] = RULES[name]
        about.pop("default", None)
    return found
