"""What the connections of one worker share: the fast path, the limits, the counters, and a clock of whole seconds."""

from __future__ import annotations

from array import array
from email.utils import formatdate
from typing import Any

from _fastpath.client import Trust
from _fastpath.counters import Counters
from _fastpath.fast_path import FastPath
from _fastpath.hashing import key_of
from steering.decision.snapshot import Snapshot
from steering.playback.answers.players import compiled
from steering.playback.server.time_limits import end_if_late
from steering.settings import Settings


class Connections:
    """The open connections of one worker, and what they share."""

    def __init__(self, settings: Settings, counters: Counters | None = None) -> None:
        self.trust = Trust(settings.trusted)
        self.counters = counters
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
        if self.counters:
            self.counters.set_gauge("generation", snapshot.current.generation)
            self.counters.set_gauge("table", snapshot.table_version)
            self.counters.set_gauge("fleet", snapshot.fleet_version)
            self.counters.set_gauge("holdings", snapshot.holdings_version or 0)
            self.counters.set_gauge("published_at", round(snapshot.current.published_at * 1000))
            self.counters.set_gauge("refused", 0)
            self.counters.set_gauge("huge_pages", snapshot.table_file.lies_in_huge_pages())

    def refuse(self) -> None:
        """Count that the newest files could not be used."""
        if self.counters:
            self.counters.set_gauge("refused", self.counters.gauges()["refused"] + 1)

    def count(self, event: str) -> None:
        """Count an event that is no answer."""
        if self.counters:
            self.counters.note_event(event)

    def set_date(self) -> None:
        """Put the present date in the fast path's answers."""
        self.fast_path.set_date(formatdate(usegmt=True).encode())

    async def tick(self) -> None:
        """Do what is due once a second: set the date, and end connections whose client is too slow."""
        self.fast_path.second += 1
        self.set_date()
        if self.counters:
            self.counters.set_gauge("connections", len(self.open))
        for connection in list(self.open):
            end_if_late(connection, self.count)
