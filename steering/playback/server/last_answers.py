"""The cheapest answer under overload, which ends the connection.

Under overload a steering request gets the service's fallback, and everything that the fast path does not answer 503. A
player keeps its appliances (players give up steering after an error, and moving them helps nobody): the fast path's
answer with a long TTL, or where that has none, the static steering manifest, for which the request line is enough.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

from _fastpath.client import UNKNOWN
from _fastpath.fast_path import FastPath, Peer
from _fastpath.hashing import viewer_of
from _fastpath.hints import read_player_request
from steering.decision.snapshot import Snapshot
from steering.errors import RequestError
from steering.playback.answers.players import static_answer
from steering.playback.answers.steering_manifests import MEDIA_TYPE
from steering.playback.server.request_lines import encoded_line
from steering.uvicorn_adapter import last_answer, refusal

STEER_LINE: Final = re.compile(rb"(GET|HEAD) (/v1/steer\?[!-~]+) HTTP/1\.[01]\r\n")
PLAYER_LINE: Final = re.compile(rb"(GET|HEAD) (/v1/(?:hls|dash)/[!->@-~]*)(?:\?([!-~]*))? HTTP/1\.[01]\r\n")
UNKNOWN_PEER: Final = Peer(UNKNOWN, False)


def cheapest_answer(
    data: bytes, peer: Peer, fast_path: FastPath, snapshot: Snapshot | None, default_service: str
) -> bytes:
    """Return the cheapest correct answer to the request that the data begin with.

    For all but players of the fast path it is the same for every client and version of HTTP.
    """
    data = encoded_line(data) or data
    answer = fast_path.answer(data, 0, peer, True)
    if answer is None and (line := STEER_LINE.match(data)):
        answer = fast_path.answer(*plain_request(line, data, peer, fast_path.header), True)
    if answer is None and (line := PLAYER_LINE.match(data)):
        answer = static_manifest(line[2], line[3] or b"", line[1] == b"HEAD", snapshot, default_service)
    return answer or refusal(RequestError("too many requests at once", status=503), "retry-after: 1")


def plain_request(line: re.Match[bytes], data: bytes, peer: Peer, header: bytes) -> tuple[bytes, int, Peer]:
    """Return a steering request in HTTP/1.1 with the lines that name other hops alone, its offset, and its peer.

    Before the head is whole, nobody is trusted: such a line may follow.
    """
    head, empty_line, _ = data[line.end() - 2 :].partition(b"\r\n\r\n")
    rows = (row.partition(b":") for row in head.split(b"\r\n"))
    hops = b",".join(value.strip() for name, _, value in rows if name.lower() == header)
    named = b"%b: %b\r\n" % (header, hops) if hops else b""
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (*line.groups(), named), 0, peer if empty_line else UNKNOWN_PEER


def static_manifest(
    path: bytes, query: bytes, is_head: bool, snapshot: Snapshot | None, default_service: str
) -> bytes | None:
    """Return the static steering manifest for a player's request, None for one of a playlist."""
    _, service, title, name, hints = read_player_request(path, query)
    if name:
        return None
    body = static_answer(snapshot, service, hints, viewer_of(hints.session, UNKNOWN), title, default_service)
    answer = last_answer(HTTPStatus.OK, MEDIA_TYPE, body, "access-control-expose-headers: Retry-After")
    return answer.removesuffix(body) if is_head else answer
