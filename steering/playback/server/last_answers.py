"""The cheapest answer under overload, which ends the connection.

Under overload a request costs no more than its request line: a steering request gets the service's fallback, a player
its static steering manifest (players give up steering after an error), and everything else 503.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote

from _fastpath.client import UNKNOWN
from _fastpath.fast_path import FastPath, Peer
from steering.decision.snapshot import Snapshot
from steering.errors import RequestError
from steering.playback.answers.steering_manifests import MEDIA_TYPE, static_body
from steering.uvicorn_adapter import last_answer, refusal

STEER_LINE: Final = re.compile(rb"(GET|HEAD) (/v1/steer\?[!-~]+) HTTP/1\.[01]\r\n")
PLAYER_LINE: Final = re.compile(
    rb"(GET|HEAD) /v1/(?:hls|dash)/([!-.0->@-~]*)/[!-.0->@-~]*(?:\?[!-~]*)? HTTP/1\.[01]\r\n"
)
UNKNOWN_PEER: Final = Peer(UNKNOWN, False)


def cheapest_answer(
    data: bytes, peer: Peer, fast_path: FastPath, snapshot: Snapshot | None, default_service: str
) -> bytes:
    """Return the cheapest correct answer to the request that the data begin with.

    It is the same for every client and version of HTTP, so the request line is enough.
    """
    answer = fast_path.answer(data, 0, peer, True)
    if answer is None and (line := STEER_LINE.match(data)):
        answer = fast_path.answer(b"%b %b HTTP/1.1\r\n\r\n" % line.groups(), 0, UNKNOWN_PEER, True)
    if answer is None and (line := PLAYER_LINE.match(data)):
        service = unquote(line[2].decode("ascii"))
        answer = static_manifest(service, line[1] == b"HEAD", snapshot, default_service)
    return answer or refusal(RequestError("too many requests at once", status=503), "retry-after: 1")


def static_manifest(service: str, is_head: bool, snapshot: Snapshot | None, default_service: str) -> bytes:
    """Return a static steering manifest of a service, or of the default one where there is no such service."""
    rules = snapshot.rules if snapshot else {}
    body = static_body(rules.get(service) or rules.get(default_service))
    answer = last_answer(HTTPStatus.OK, MEDIA_TYPE, body, "access-control-expose-headers: Retry-After")
    return answer.removesuffix(body) if is_head else answer
