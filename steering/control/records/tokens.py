"""Tokens on record: only the SHA-256 of a secret, so that reading the database gives no access."""

from __future__ import annotations

import dataclasses
import sqlite3

from steering.control.records.rows import insert


@dataclasses.dataclass(frozen=True, slots=True)
class Token:
    """A token; `expires_at` is None where it does not expire, `revoked_at` where it is not revoked."""

    id: int
    role: str
    name: str
    sha256: bytes
    made_at: float
    who: str
    expires_at: float | None
    revoked_at: float | None

    def is_good(self, now: float) -> bool:
        """Return whether it gives access now."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


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
