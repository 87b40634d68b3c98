"""The last known health state of each appliance, as JSON, for the next start of control."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from steering.control.records.rows import upsert


class StateRepository:
    """The table `states`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def all(self) -> dict[str, str]:
        """Return the state of each appliance, as JSON."""
        rows = self.connection.execute("SELECT appliance, state FROM states")
        return {row["appliance"]: row["state"] for row in rows}

    def set(self, states: Mapping[str, str]) -> None:
        """Record the states of appliances."""
        rows = ({"appliance": name, "state": state} for name, state in states.items())
        upsert(self.connection, "states", ("appliance",), rows)
