"""What the endpoints share: the snapshot at hand, the settings, and the client of a request."""

from __future__ import annotations

import dataclasses
from typing import Final, Protocol

from fastapi import FastAPI, Request, Response

from _fastpath.client import Trust
from _fastpath.counters import Counters
from _fastpath.request import Client, find_client
from steering.decision.snapshot import Snapshot
from steering.errors import RequestError, SnapshotError
from steering.playback.answers.playlist import Sign, Tag
from steering.playback.telemetry.decision_log import DecisionLog
from steering.playback.telemetry.player_reports import PlayerReports
from steering.settings import Settings

# An answer is for one client at one moment; players on any page may read it.
PLAYER_HEADERS: Final = {"cache-control": "no-store", "access-control-allow-origin": "*"}
STEERING_HEADERS: Final = {**PLAYER_HEADERS, "access-control-expose-headers": "Retry-After"}


class Holder(Protocol):
    """The owner of the snapshot: `server/follower.py`."""

    snapshot: Snapshot | None
    error: SnapshotError | None


@dataclasses.dataclass(frozen=True)
class Context:
    """The parts that the endpoints of one app share; each optional one turns its feature off where it is None."""

    holder: Holder
    settings: Settings
    trust: Trust
    counters: Counters | None
    decisions: DecisionLog | None
    sign: Sign | None
    tag: Tag | None
    reports: PlayerReports | None

    def client_of(self, request: Request, ip: str | None = None) -> Client:
        """Return the client of a request. Raises Refusal where it may not ask for `ip`."""
        return find_client(peer_of(request), request.scope["headers"], self.trust, self.settings.forwarded, ip)

    def require_trust(self, request: Request) -> None:
        """Raise RequestError 403 unless every hop of a request is trusted."""
        if not self.client_of(request).trusted:
            raise RequestError("for trusted callers only", status=403)

    def served(self) -> Snapshot:
        """Return the snapshot. Raises RequestError 503 before the first publish."""
        if self.holder.snapshot is None:
            raise RequestError("nothing is published yet", hint="steering serve, or steering table publish", status=503)
        return self.holder.snapshot

    def read_cmcd(self, request: Request, packed: bytes, playing: str = "") -> None:
        """Take the CMCD that a request brings."""
        snapshot = self.holder.snapshot
        if self.reports is not None and snapshot is not None:
            self.reports.count_steering(
                snapshot, request.scope["query_string"], request.scope["headers"], packed, playing
            )


def add_preflight(app: FastAPI, path: str, methods: str = "GET, HEAD, OPTIONS") -> None:
    """Let pages of any origin send requests with these methods, any header lines, and remember it for a day."""
    headers = {
        "access-control-allow-origin": "*",
        "access-control-allow-methods": methods,
        "access-control-allow-headers": "*",
        "access-control-max-age": "86400",
    }

    async def preflight() -> Response:
        return Response(status_code=204, headers=headers)

    app.add_api_route(path, preflight, methods=["OPTIONS"], include_in_schema=False)


def peer_of(request: Request) -> str | None:
    """Return the socket's address, None on a Unix socket."""
    return request.client.host if request.client else None


async def body_of(request: Request, most: int) -> bytes:
    """Return a request's body. Raises RequestError 413 as soon as it is too large."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most:
            raise RequestError(f"a body of over {most} bytes", hint="send it in parts", status=413)
    return bytes(body)
