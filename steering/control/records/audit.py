"""The audit log: who changed what, when and why."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Final

import msgspec

from steering.control.records.rows import Repository, Rows, insert

AUDIT_KEPT: Final = 1_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A line of the audit log: who did what to which subject, the subject before and after (as JSON), and why."""

    at: float
    who: str
    what: str
    subject: str
    before: Any = None
    after: Any = None
    why: str = ""


class AuditRepository(Repository):
    """The table `audit`."""

    def add(self, entry: Entry) -> None:
        """Add an entry, and drop the oldest beyond AUDIT_KEPT."""
        row = {field.name: getattr(entry, field.name) for field in dataclasses.fields(entry)}
        for name in ("before", "after"):
            row[name] = msgspec.json.encode(row[name]).decode()
        number = insert(self.connection, "audit", row)
        self.connection.execute("DELETE FROM audit WHERE number <= ?", (number - AUDIT_KEPT,))

    def newest(self, count: int, below: int | None = None) -> Rows:
        """Return the newest entries, newest first; with `below`, those of a smaller number."""
        rows = self.connection.execute(
            "SELECT * FROM audit WHERE number < ? ORDER BY number DESC LIMIT ?", (below or 1 << 62, count)
        )
        return [{**row, "before": json.loads(row["before"]), "after": json.loads(row["after"])} for row in rows]
