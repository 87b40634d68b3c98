"""What was counted and recorded: the quality of playback, and the audit log."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from steering.control.fill.missing import counters_in
from steering.control.health.quality import By, quality
from steering.control.records.database import Records
from steering.control.records.rows import Rows
from steering.model.fleet import Fleet


class Quality:
    """`control.quality`. It reads workers' counters alone, from any thread."""

    def __init__(self, state: Path, fleet: Callable[[], Fleet]) -> None:
        self.state = state
        self.fleet = fleet

    def list(self, by: By = "partner", partner: str = "", count: int = 1000) -> Rows:
        """Return how playback goes by players' reports, the worst first, of one partner or all."""
        return quality(counters_in(self.state), self.fleet(), by, partner, count)


class Audit:
    """`control.audit`."""

    def __init__(self, records: Records) -> None:
        self.records = records

    def list(self, count: int = 100, below: int | None = None) -> Rows:
        """Return the newest entries of the audit log, newest first; with `below`, those of a smaller number."""
        with self.records.reading() as records:
            return records.audit.newest(count, below)
