"""Maintenance windows on record. A window begins and ends by itself; `cancelled_at` cancels it, or ends it early."""

from __future__ import annotations

import dataclasses
from typing import Any

from steering.control.records.rows import Repository, insert


@dataclasses.dataclass(frozen=True, slots=True)
class Window:
    """One window, as it is on record."""

    id: int
    kind: str
    subject: str
    begins_at: float
    ends_at: float
    made_at: float
    who: str
    why: str
    cancelled_at: float | None = None

    def is_open(self, now: float) -> bool:
        """Return whether it is on or to come."""
        return self.cancelled_at is None and now < self.ends_at

    def is_on(self, now: float) -> bool:
        """Return whether what it covers is out now."""
        return self.begins_at <= now < self.ends_at and self.cancelled_at is None

    def state(self, now: float) -> str:
        """Return `to come`, `on`, `over`, `cancelled` (it never began) or `ended early`."""
        if self.cancelled_at is not None:
            return "cancelled" if self.cancelled_at < self.begins_at else "ended early"
        if now < self.begins_at:
            return "to come"
        return "on" if now < self.ends_at else "over"

    def describe(self, now: float) -> dict[str, Any]:
        """Return it as reports have it."""
        return {**dataclasses.asdict(self), "state": self.state(now)}


class WindowRepository(Repository):
    """The table `windows`."""

    def all(self, ends_after: float = 0.0) -> list[Window]:
        """Return the windows that end after a time, in the order in which they were made."""
        rows = self.connection.execute("SELECT * FROM windows WHERE ends_at > ? ORDER BY id", (ends_after,))
        return [Window(**row) for row in rows]

    def get(self, number: int) -> Window | None:
        """Return one window, None where there is none of this id."""
        row = self.connection.execute("SELECT * FROM windows WHERE id = ?", (number,)).fetchone()
        return Window(**row) if row else None

    def add(self, window: Window) -> Window:
        """Record a window, and return it with its id."""
        row = dataclasses.asdict(window)
        del row["id"]
        return dataclasses.replace(window, id=insert(self.connection, "windows", row))

    def cancel(self, number: int, now: float) -> None:
        """Record that a window is cancelled or ended early."""
        self.connection.execute(
            "UPDATE windows SET cancelled_at = ? WHERE id = ? AND cancelled_at IS NULL", (now, number)
        )
