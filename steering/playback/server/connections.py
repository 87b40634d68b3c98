"""What the connections of one worker share: the fast path, the limits, the counters, and a clock of whole seconds."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from email.utils import formatdate
from typing import Any, Final

from _fastpath.client import Trust
from _fastpath.counters import Counters
from _fastpath.fast_path import FastPath
from _fastpath.hashing import key_of
from steering.decision.snapshot import Snapshot
from steering.playback.answers.players import compiled
from steering.playback.server.states import BODY_S, HEAD_S, IDLE_S, LIMITS, Event, State
from steering.settings import Settings
from steering.tls.certificates import Certificates
from steering.uvicorn_adapter import Position

# LIMITS of the fallback path, by the position in a request, counted from the request's first byte.
FALLBACK_LIMITS: Final = {Position.HEAD: (HEAD_S, True), Position.BODY: (BODY_S, False)}


class Connections:
    """The open connections of one worker, and what they share."""

    def __init__(
        self, settings: Settings, counters: Counters | None = None, certificates: Certificates | None = None
    ) -> None:
        self.trust = Trust(settings.trusted)
        self.counters = counters
        self.certificates = certificates
        if certificates:
            certificates.refused = lambda: self.count("refused_certificates")
        logs = settings.decision_log is not None
        self.fast_path = FastPath(
            self.trust,
            settings.forwarded,
            counters,
            settings.decision_sample if logs else 0,
            array("Q", map(key_of, settings.decision_titles)) if logs and settings.decision_titles else None,
            settings.cmcd_sample,
        )
        self.fast_path_enabled = settings.fast_path
        self.steer_gain = settings.steer_gain
        self.default_service = settings.default_service
        self.max_connections = settings.max_connections
        self.proxy_protocol = settings.proxy_protocol
        self.snapshot: Snapshot | None = None
        self.open: set[Any] = set()  # of `protocol.HttpProtocol`, which imports this module
        self.set_date()

    def serve(self, snapshot: Snapshot) -> None:
        """Answer from this snapshot from now on. Any thread may call it."""
        self.snapshot = snapshot
        manifests = compiled(snapshot, self.steer_gain)
        self.fast_path.serve(snapshot.picker, snapshot.services, self.default_service, manifests)
        for name, value in (
            ("generation", snapshot.current.generation),
            ("table", snapshot.table_version),
            ("fleet", snapshot.fleet_version),
            ("holdings", snapshot.holdings_version or 0),
            ("published_at", round(snapshot.current.published_at * 1000)),
            ("refused", 0),
            ("huge_pages", snapshot.table_file.lies_in_huge_pages()),
        ):
            self.set_gauge(name, value)

    def set_gauge(self, name: str, value: int) -> None:
        """Set a gauge of the worker."""
        if self.counters:
            self.counters.set_gauge(name, value)

    def refuse(self) -> None:
        """Count that the newest files could not be used."""
        if self.counters:
            self.set_gauge("refused", self.counters.gauges()["refused"] + 1)

    def count(self, event: str) -> None:
        """Count an event that is no answer."""
        if self.counters:
            self.counters.note_event(event)

    def set_date(self) -> None:
        """Put the present date in the fast path's answers."""
        self.fast_path.set_date(formatdate(usegmt=True).encode())

    async def tick(self) -> None:
        """Do what is due once a second: set the date, follow the certificates, end connections whose client is slow."""
        self.fast_path.second += 1
        self.set_date()
        self.set_gauge("connections", len(self.open))
        if self.certificates:
            self.certificates.step()
            self.set_gauge("certificate_expires_at", round(self.certificates.expires_at()))
        for connection in list(self.open):
            end_if_late(connection, self.count)


def end_if_late(connection: Any, count: Callable[[str], None]) -> None:
    """End a connection whose client takes too long; one that is cut off is counted."""
    if connection.transport.is_closing() and connection.state is not State.CLOSING:
        connection.move(Event.CLOSE)  # uvicorn has closed it
    since, fallback = connection.since, connection.fallback
    if connection.state is State.FALLBACK:
        if fallback.unparsed or fallback.position is Position.BETWEEN:
            return  # it is the service's turn
        since = fallback.began_at
        limit_s, is_cut_off = FALLBACK_LIMITS[fallback.position]
    elif connection.state in LIMITS:
        limit_s, is_cut_off = LIMITS[connection.state]
    else:
        since, limit_s, is_cut_off = connection.active_at, IDLE_S, False
    if connection.clock.second - since <= limit_s:
        return
    if is_cut_off:
        count("cut_off")
        connection.transport.abort()
    else:
        connection.close()
