"""Maintenance windows: planned, listed, cancelled."""

from __future__ import annotations

import dataclasses
from typing import Any

from steering.control.health.appliance_state import Maintenance
from steering.control.health.windows import MOST_OPEN, check_window, in_maintenance
from steering.control.records.audit import Entry
from steering.control.records.rows import Rows
from steering.control.records.windows import Window
from steering.control.services.concern import Concern
from steering.errors import RequestError


class MaintenanceWindows(Concern):
    """`control.maintenance`. The windows that are on or to come are in memory, and read from any thread."""

    def __post_init__(self) -> None:
        self.load()

    def load(self) -> None:
        """Read the windows that are on or to come."""
        now = self.clock()
        self.open = {window.id: window for window in self.records.windows.all(now) if window.is_open(now)}

    def covered(self) -> dict[str, Maintenance]:
        """Return the appliances that a window covers now."""
        windows = in_maintenance(self.open.values(), self.fleet(), self.clock())
        return {name: Maintenance(window.ends_at, window.why) for name, window in windows.items()}

    def count_on(self) -> int:
        """Return how many windows are on."""
        now = self.clock()
        return sum(window.is_on(now) for window in self.open.values())

    def add(
        self, kind: str, subject: str, begins_at: float | None, ends_at: float, who: str, why: str
    ) -> dict[str, Any]:
        """Plan maintenance of an appliance, a cluster or a site; `begins_at` None is now."""
        now = self.clock()
        begins_at = now if begins_at is None else begins_at
        check_window(kind, subject, begins_at, ends_at, self.fleet(), now)
        same = [window for window in self.open.values() if (window.kind, window.subject) == (kind, subject)]
        if sum(window.is_open(now) for window in same) >= MOST_OPEN:
            raise RequestError(f"{kind} {subject}: has {MOST_OPEN} windows already", hint="cancel some", status=409)
        with self.records.transaction() as transaction:
            window = transaction.windows.add(Window(0, kind, subject, begins_at, ends_at, now, who, why))
            entry = Entry(now, who, "add window", f"{kind} {subject}", None, window.describe(now), why)
            transaction.audit.add(entry)
        self.load()
        return window.describe(now)

    def cancel(self, number: int, who: str, why: str = "") -> dict[str, Any]:
        """Cancel a window that is to come, or end early one that is on."""
        now = self.clock()
        window = self.get(number)
        if not window.is_open(now):
            raise RequestError(f"window {number}: is {window.state(now)} already", status=409)
        after = dataclasses.replace(window, cancelled_at=now)
        subject = f"{window.kind} {window.subject}"
        entry = Entry(now, who, "cancel window", subject, window.describe(now), after.describe(now), why)
        with self.records.transaction() as transaction:
            transaction.windows.cancel(number, now)
            transaction.audit.add(entry)
        self.load()
        return after.describe(now)

    def list(self, ended: bool = False) -> Rows:
        """Return the windows that are on or to come, the first to begin first; with `ended`, all there ever were."""
        now = self.clock()
        if ended:
            with self.records.reading() as records:
                windows = records.windows.all()
        else:
            windows = [window for window in self.open.values() if window.is_open(now)]
        return [window.describe(now) for window in sorted(windows, key=lambda window: (window.begins_at, window.id))]

    def get(self, number: int) -> Window:
        """Return a window on record. Raises RequestError 404."""
        window = self.records.windows.get(number)
        if window is None:
            raise no_window(number)
        return window


def no_window(number: int) -> RequestError:
    """Return the error for a window that does not exist, or that the caller may not know of."""
    return RequestError(f"window {number}: there is none of this id", status=404)
