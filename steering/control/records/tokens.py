"""Tokens on record: only the SHA-256 of a secret, so that reading the database gives no access."""

from __future__ import annotations

import sqlite3

from steering.control.records.auth import Token
from steering.control.records.rows import insert


class TokenRepository:
    """The table `tokens`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def all(self) -> dict[int, Token]:
        """Return every token ever made, by id."""
        rows = self.connection.execute("SELECT * FROM tokens ORDER BY id")
        return {row["id"]: Token(**row) for row in rows}

    def add(self, role: str, name: str, sha256: bytes, who: str, now: float, expires_at: float | None = None) -> int:
        """Record a token, and return its id."""
        row = {"role": role, "name": name, "sha256": sha256, "made_at": now, "who": who, "expires_at": expires_at}
        return insert(self.connection, "tokens", row)

    def revoke(self, number: int, now: float) -> None:
        """Record that a token is revoked."""
        self.connection.execute("UPDATE tokens SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL", (now, number))
