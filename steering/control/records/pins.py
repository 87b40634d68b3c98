"""The pin: the table that no reload may replace."""

from __future__ import annotations

import dataclasses
import sqlite3

from steering.control.records.rows import insert


@dataclasses.dataclass(frozen=True, slots=True)
class Pin:
    """The pinned table, since when, by whom, and why."""

    table: int
    at: float
    who: str
    why: str


class PinRepository:
    """The table `pin`, of at most one row."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def get(self) -> Pin | None:
        """Return the pin, None where no table is pinned."""
        row = self.connection.execute("SELECT * FROM pin").fetchone()
        return Pin(row["version"], row["at"], row["who"], row["why"]) if row else None

    def set(self, pin: Pin | None) -> None:
        """Replace the pin, or remove it with None."""
        self.connection.execute("DELETE FROM pin")
        if pin:
            insert(self.connection, "pin", {"version": pin.table, "at": pin.at, "who": pin.who, "why": pin.why})
