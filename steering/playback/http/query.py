"""The query of a playback request, read strictly: a player's mistake is named, never guessed around.

Parameters are `name=value` with `&` between. Names stand as written; values are percent-encoded UTF-8 in which `+` is a
space (the WHATWG form). A parameter that is known may stand once; unknown ones are passed over, so that players may add
their own.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Final
from urllib.parse import unquote_to_bytes

from steering.errors import RequestError

NAMES: Final = ("title", "service", "session", "n", "family", "ip", "explain", "redirect")
WRONG_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")


@dataclasses.dataclass(frozen=True, slots=True)
class SteerQuery:
    """The parameters of `/v1/steer`; `n` 0 is as many as the service says.

    `family` 0 is the client's own, `ip` None is whoever asks.
    """

    title: str
    service: str
    session: str = ""
    n: int = 0
    family: int = 0
    ip: str | None = None
    explain: bool = False
    redirect: bool = False


def read_steer_query(query: bytes, default_service: str) -> SteerQuery:
    """Return the parameters of a raw query string. Raises RequestError naming the first that is wrong."""
    found: dict[str, str] = {}
    for part in query.split(b"&"):
        name, _, raw = part.partition(b"=")
        known = name.decode("latin-1")
        if known in NAMES:
            value = decode(known, raw)
            if known in found:
                raise RequestError.of_parameter(known, value, "is given twice")
            found[known] = value
    if "title" not in found:
        raise RequestError.of_parameter("title", "", "is required")
    explain, redirect = flag(found, "explain"), flag(found, "redirect")
    if explain and redirect:
        raise RequestError.of_parameter("redirect", "1", "not together with explain=1")
    return SteerQuery(
        title=found["title"],
        service=found.get("service", default_service),
        session=found.get("session", ""),
        n=one_of(found, "n", "12345678", "a number from 1 to 8"),
        family=one_of(found, "family", "46", "4 or 6"),
        ip=found.get("ip"),
        explain=explain,
        redirect=redirect,
    )


def decode(name: str, raw: bytes) -> str:
    """Return a value decoded."""
    if WRONG_ESCAPE.search(raw):
        raise RequestError.of_parameter(name, raw.decode("latin-1"), "a % is followed by two hexadecimal digits")
    try:
        return unquote_to_bytes(raw.replace(b"+", b" ")).decode()
    except UnicodeDecodeError:
        raise RequestError.of_parameter(name, raw.decode("latin-1"), "its bytes are UTF-8") from None


def one_of(found: dict[str, str], name: str, digits: str, rule: str) -> int:
    """Return a parameter of one digit, 0 where it is absent."""
    value = found.get(name)
    if value is None:
        return 0
    if len(value) != 1 or value not in digits:
        raise RequestError.of_parameter(name, value, rule)
    return int(value)


def flag(found: dict[str, str], name: str) -> bool:
    """Return a parameter that is 0 or 1."""
    value = found.get(name, "0")
    if value not in ("0", "1"):
        raise RequestError.of_parameter(name, value, "0 or 1")
    return value == "1"
