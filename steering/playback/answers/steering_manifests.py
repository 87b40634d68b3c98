"""Steering manifests: what a player asks for and gets while it plays, the same body for HLS and for DASH.

    GET /v1/hls/video/80100172?_HLS_pathway=c001-bom001&_HLS_throughput=5140000
    {"VERSION":1,"TTL":28,"PATHWAY-PRIORITY":["c001-bom001","c002-bom001","cdn"]}

Every answer is a whole body with status 200: players give up steering, some for good, over anything else
(draft-pantos-content-steering; ETSI TS 103 998; what players do beside them: docs/api.md). So nothing in a request is
an error here. What cannot be read is passed over, and whom nobody can be found for gets `static_body`.

A body (`body_of`) is the opening with the TTL, the ids, each in quotes, with commas between, `]`, the clones where
there are any, and `}`. Nothing in it needs escaping: ids and hosts are of letters, digits, `.`, `-` and `_`. The TTL
is a sum and a remainder of the keys of title and viewer. The fast_path makes the same bytes from the same picks, in
`_fastpath/manifest.pyx`, for what most players ask; clones, odd hints and bodies for nobody are made here alone.
"""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote_to_bytes

from _fastpath.hashing import ttl_of
from steering.model.service import Service, jitter_s
from steering.playback.answers.pathways import Clone, Order, first_declared

MEDIA_TYPE: Final = "application/vnd.apple.steering-list"
ID_CHARACTERS: Final = frozenset(string.ascii_letters + string.digits + "._-")
MAX_ID: Final = 64
MAX_REPORTED: Final = 16
MAX_SESSION: Final = 256
MAX_BPS: Final = 10**12
STATIC_TIMES: Final = 5  # a static body lives so much longer than another, and at least STATIC_S
STATIC_S: Final = 300  # what the drafts recommend
MAX_TTL_S: Final = 86_400
DEFAULT_TTL_S: Final = 30
DEFAULT_JITTER: Final = 0.1


@dataclasses.dataclass(frozen=True, slots=True)
class Hints:
    """What a player says of itself, as far as it could be read; `odd` counts what could not.

    `pathways` are those it used since it asked last, `throughputs` what it measured there in bit/s, None where it has
    not; `player` is the family of players that clones are offered to, `declared` what its playlist has already, as
    digests (`pathways.digest_of`); `ip` and `family` as in `/v1/steer`.
    """

    pathways: tuple[str, ...] = ()
    throughputs: tuple[int | None, ...] = ()
    session: str = ""
    player: str = ""
    declared: tuple[str, ...] = ()
    ip: str | None = None
    family: int = 0
    odd: int = 0


def read_hints(query: bytes, protocol: str) -> Hints:
    """Return the hints of a raw query string for `hls` or `dash`. Nothing in it is an error.

    The last of a parameter that is repeated counts; values are percent-encoded, may stand in one pair of quotes, and
    may be lists with commas.
    """
    found: dict[str, str] = {}
    odd = 0
    for part in query.split(b"&"):
        name, _, raw = part.partition(b"=")
        found[name.decode("latin-1")] = unquote_to_bytes(raw.replace(b"+", b" ")).decode(errors="replace")
    prefix = f"_{protocol.upper()}_"
    names = listed(found.get(f"{prefix}pathway", ""))
    pathways = tuple(dict.fromkeys(name for name in names if is_id(name)))[:MAX_REPORTED]
    odd += any(name and not is_id(name) for name in names) + (len(names) > MAX_REPORTED)
    throughputs = []
    for value in listed(found.get(f"{prefix}throughput", ""))[:MAX_REPORTED]:
        known = value.isascii() and value.isdigit()
        throughputs.append(min(int(value[:20]), MAX_BPS) if known else None)
        odd += bool(value) and not known
    declared = tuple(listed(found.get("declared", ""))[:MAX_REPORTED])
    session, player, family = found.get("session", ""), found.get("player", ""), found.get("family", "")
    if len(session) > MAX_SESSION:
        session, odd = "", odd + 1
    if family not in ("", "4", "6"):
        family, odd = "", odd + 1
    return Hints(pathways, tuple(throughputs), session, player, declared, found.get("ip"), int(family or 0), odd)


def listed(value: str) -> list[str]:
    """Return the items of a list with commas, which may stand in quotes; none of an empty text."""
    value = value.strip()
    if len(value) >= 2 and value[0] == value[-1] == '"':
        value = value[1:-1]
    return [item.strip() for item in value.split(",")] if value else []


def is_id(text: str) -> bool:
    """Tell whether a text can be a pathway's id."""
    return 0 < len(text) <= MAX_ID and ID_CHARACTERS.issuperset(text)


def steering_body(service: Service, found: Order, viewer: int, title: str) -> bytes:
    """Return the body of an answer to a viewer, by its number.

    The TTL is a whole number, at least 1: without one, hls.js asks 140 times a second.
    """
    ttl = ttl_of(service.steer_ttl_s, jitter_s(service.steer_ttl_s, service.ttl_jitter), title, viewer)
    return body_of(ttl, found.ids, found.clones)


def static_body(
    service: Service | None, current: Sequence[str] = (), viewer: int | None = None, title: str = ""
) -> bytes:
    """Return the body for an unknown title or service, for overload, and where nothing is published.

    It says what is declared, lives longer, and leaves a player where it is. Without a viewer it is the same for all
    and can be made ahead.
    """
    ttl_s = service.steer_ttl_s if service else DEFAULT_TTL_S
    ttl_s = min(max(ttl_s * STATIC_TIMES, STATIC_S), MAX_TTL_S)
    if viewer is not None:
        jitter = service.ttl_jitter if service else DEFAULT_JITTER
        ttl_s = ttl_of(ttl_s, jitter_s(ttl_s, jitter), title, viewer)
    return body_of(ttl_s, first_declared(service, current))


def body_of(ttl: int, ids: Sequence[str], clones: Sequence[Clone] = ()) -> bytes:
    """Return a steering manifest. Where there are no clones it has no such key: Media3 refuses an empty list."""
    more = ""
    if clones:
        rows = (
            f'{{"BASE-ID":"{clone.base}","ID":"{clone.id}","URI-REPLACEMENT":{{"HOST":"{clone.host}"}}}}'
            for clone in clones
        )
        more = f',"PATHWAY-CLONES":[{",".join(rows)}]'
    quoted = ",".join(f'"{name}"' for name in ids)
    return f'{{"VERSION":1,"TTL":{ttl},"PATHWAY-PRIORITY":[{quoted}]{more}}}'.encode()
