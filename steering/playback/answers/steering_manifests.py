"""The renderer of steering manifests, which players ask for while they play; the same body for HLS and DASH.

    GET /v1/hls/video/80100172?_HLS_pathway=c001-bom001&_HLS_throughput=5140000
    {"VERSION":1,"TTL":28,"PATHWAY-PRIORITY":["c001-bom001","c002-bom001","cdn"]}

Every answer is a whole body with status 200: players give up steering, some for good, over anything else
(draft-pantos-content-steering; ETSI TS 103 998; what players do besides: docs/api.md). Where no appliance can be
picked, the answer is `static_body`.

Nothing in a body needs escaping: ids and hosts have letters, digits, `.`, `-` and `_` only. The TTL is a sum and a
remainder of the keys of title and viewer. `_fastpath/steering_manifest.pyx` writes the same bytes for the fast path,
from the same picks; clones, static bodies and players with odd hints are answered here only.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from _fastpath.hashing import ttl_of
from _fastpath.hints import Hints
from steering.model.service import Service, jitter_s
from steering.playback.answers.pathways import Clone, Order, order_without_picks

MEDIA_TYPE: Final = "application/vnd.apple.steering-list"
STATIC_TIMES: Final = 5  # the TTL of a static body is so many times longer, and at least STATIC_S
STATIC_S: Final = 300  # what the drafts recommend
MAX_TTL_S: Final = 86_400
DEFAULT_TTL_S: Final = 30
DEFAULT_JITTER: Final = 0.1
NO_HINTS: Final = Hints()


def steering_body(service: Service, ordered: Order, viewer: int, title: str) -> bytes:
    """Return the body for a viewer, by its number.

    The TTL is a whole number, at least 1: without one, hls.js asks 140 times a second.
    """
    ttl = ttl_of(service.steer_ttl_s, jitter_s(service.steer_ttl_s, service.ttl_jitter), title, viewer)
    return body_of(ttl, ordered.ids, ordered.clones)


def static_body(
    service: Service | None, hints: Hints = NO_HINTS, viewer: int = 0, title: str = "", unfit: Collection[str] = ()
) -> bytes:
    """Return the body for an unknown title or service, for overload, and where nothing is published.

    It lists the declared pathways, has a longer TTL, and leaves a player where it is, unless that is `unfit`.
    """
    ttl = ttl_of(*long_ttl(service), title, viewer)
    return body_of(ttl, order_without_picks(service, hints.pathways, hints.declared, {*unfit, *hints.failed}))


def long_ttl(service: Service | None) -> tuple[int, int]:
    """Return the TTL of static bodies and its jitter, in seconds."""
    ttl_s, jitter = (service.steer_ttl_s, service.ttl_jitter) if service else (DEFAULT_TTL_S, DEFAULT_JITTER)
    ttl_s = min(max(ttl_s * STATIC_TIMES, STATIC_S), MAX_TTL_S)
    return ttl_s, jitter_s(ttl_s, jitter)


def body_of(ttl: int, ids: Sequence[str], clones: Sequence[Clone] = ()) -> bytes:
    """Return a steering manifest. Without clones it has no key for them, because Media3 refuses an empty list."""
    cloned = ""
    if clones:
        rows = (
            f'{{"BASE-ID":"{clone.base}","ID":"{clone.id}","URI-REPLACEMENT":{{"HOST":"{clone.host}"}}}}'
            for clone in clones
        )
        cloned = f',"PATHWAY-CLONES":[{",".join(rows)}]'
    quoted = ",".join(f'"{name}"' for name in ids)
    return f'{{"VERSION":1,"TTL":{ttl},"PATHWAY-PRIORITY":[{quoted}]{cloned}}}'.encode()
