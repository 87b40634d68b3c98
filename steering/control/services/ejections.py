"""Suppressed ejections, and the health states that the next start of control begins with."""

from __future__ import annotations

from typing import Any

from steering.control.health.presenter import suppressed_ejections
from steering.control.records.audit import Entry
from steering.control.records.rows import Rows
from steering.control.services.concern import Concern


class Ejections(Concern):
    """`control.ejections`."""

    def list(self) -> Rows:
        """Return the appliances that others infer to be down and that serve on, because a limit suppresses ejection."""
        return sorted(suppressed_ejections(self.registry), key=lambda row: str(row["appliance"]))

    def release(self, who: str, why: str = "") -> dict[str, Any]:
        """Eject them past the limits: a person confirms that they are down."""
        names = self.registry.release_ejections()
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
