"""A verifier of signed URLs, as an appliance that runs Python may have it: docs/formats.md, "Tokens in URLs"."""

from __future__ import annotations

import dataclasses
import enum
import hmac
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote_to_bytes

from _fastpath.client import pack, unwrap
from steering.playback.signing.tokens import ANY_CLIENT, SigningKey, network_of, nginx_network, prefix_of, uri_of

NO_CLIENT: Final = b" 0"  # nothing is ever signed for it
PATH_TOKEN: Final = re.compile(r"~([a-z0-9][a-z0-9-]*)~([1-9][0-9]{0,11})~(0|[1-9][0-9]?)(b?)~([A-Za-z0-9_-]{24})")
EXPIRY: Final = re.compile(r"[1-9][0-9]{0,11}")
CODE: Final = re.compile(r"[A-Za-z0-9_-]{22,24}")
PARAMETERS: Final = {"query": ("k", "e", "b", "t"), "secure_link": ("k", "expires", "b", "md5")}
TARGET: Final = re.compile(r"(?:https?://[^/?#]*)?(/[!-~]*)")


class Verdict(enum.StrEnum):
    """Whether a token is valid, and why not."""

    good = "good"
    missing = "no token of this form"
    unknown_key = "signed with a key that is not known"
    altered = "altered, or another client's"
    expired = "expired"


@dataclasses.dataclass(frozen=True, slots=True)
class Token:
    """A token of a URL, and the path that it has to cover."""

    key: str
    expiry: int
    bound: bool
    code: str
    path: str
    parts: int = 0


def verify(form: str, url: str, client: str, keys: Mapping[str, str], now: float) -> Verdict:
    """Return whether the token in a URL is valid for a client, and why not.

    `url` is a whole URL or the target of a request. `client` is a text address, empty where there is none.
    `keys` are secrets by id. Codes are compared in constant time; only a token with the right code can be expired.
    """
    token = read_token(form, url)
    if token is None:
        return Verdict.missing
    if token.key not in keys:
        return Verdict.unknown_key
    wanted = code_of(form, token, SigningKey(token.key, keys[token.key]), pack(client))
    has_dots = not {b".", b".."}.isdisjoint(unquote_to_bytes(token.path).split(b"/"))
    if not hmac.compare_digest(wanted, token.code) or has_dots:
        return Verdict.altered
    return Verdict.expired if now > token.expiry else Verdict.good


def code_of(form: str, token: Token, key: SigningKey, packed: bytes | None) -> str:
    """Return the code that a token should have."""
    client = unwrap(packed) if packed else None
    if form == "secure_link":
        network = (nginx_network(client) if client else NO_CLIENT) if token.bound else b""
        return key.nginx_code(token.expiry, network, uri_of(token.path))
    network = (network_of(client) if client else NO_CLIENT) if token.bound else ANY_CLIENT
    covered = token.path if form == "query" else prefix_of(token.path, token.parts)
    return key.code(form.encode(), token.expiry, network, covered.encode())


def read_token(form: str, url: str) -> Token | None:
    """Return the token in a URL or a request's target, None where there is none, or more than one."""
    target = TARGET.fullmatch(url)
    if target is None:
        return None
    path, _, query = target[1].partition("#")[0].partition("?")
    if form == "path":
        first, slash, rest = path[1:].partition("/")
        found = PATH_TOKEN.fullmatch(first)
        if found is None or (slash + rest).count("/") < int(found[3]):
            return None
        return Token(found[1], int(found[2]), found[4] == "b", found[5], slash + rest, int(found[3]))
    values: dict[str, list[str]] = {name: [] for name in PARAMETERS[form]}
    for name, _, value in (part.partition("=") for part in query.split("&")):
        values.get(name, []).append(value)
    if form == "secure_link" and not values["b"]:
        values["b"].append("0")
    if any(len(found) != 1 for found in values.values()):
        return None
    key, expiry, bound, code = (found[0] for found in values.values())
    if not EXPIRY.fullmatch(expiry) or bound not in ("0", "1") or not CODE.fullmatch(code):
        return None
    return Token(key, int(expiry), bound == "1", code, path)
