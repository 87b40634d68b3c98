"""Suppressed ejections, and the health states that the next start of control begins with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from steering.control.health.registry import Vitals
from steering.control.records.audit import Entry
from steering.control.records.database import Records
from steering.control.records.rows import Rows


class Ejections:
    """`control.ejections`."""

    def __init__(self, records: Records, registry: Vitals, clock: Callable[[], float]) -> None:
        self.records = records
        self.registry = registry
        self.clock = clock

    def list(self) -> Rows:
        """Return the appliances that others infer to be down and that serve on, because a limit suppresses ejection."""
        return [{"appliance": name, **state} for name, state in self.registry.describe_all().items() if state["held"]]

    def release(self, who: str, why: str = "") -> dict[str, Any]:
        """Eject them past the limits: a person confirms that they are down."""
        names = self.registry.release()
        if names:
            subject = f"{len(names)} appliances"
            with self.records.transaction() as transaction:
                entry = Entry(self.clock(), who, "release ejections", subject, after=names[:1000], why=why)
                transaction.audit.add(entry)
        return {"released": names}

    def keep_states(self, states: dict[str, str]) -> None:
        """Put health states on record."""
        with self.records.transaction() as transaction:
            transaction.states.set(states)
