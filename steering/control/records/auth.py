"""Tokens and callers: which role a request has.

A token is `steering-<id>-<secret>`; the secret has 256 random bits. The database keeps only its SHA-256, so that a copy
of the database lets nobody in. The id finds the record, so that one comparison is made, in constant time.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from typing import Final

from steering.control.records.rows import Repository, insert
from steering.errors import RequestError
from steering.model.fields import ID

ROLE_RULE: Final = "ops, partner:<id> or appliance:<id>"
TOKEN = re.compile(r"steering-([1-9][0-9]{0,17})-([A-Za-z0-9_-]{43})")
NO_DIGEST: Final = bytes(32)


@dataclasses.dataclass(frozen=True, slots=True)
class Token:
    """A token on record. `expires_at` None: it does not expire. `revoked_at` None: it is not revoked."""

    id: int
    role: str
    name: str
    sha256: bytes
    made_at: float
    who: str
    expires_at: float | None
    revoked_at: float | None

    def is_good(self, now: float) -> bool:
        """Return whether the token lets its holder in at this time."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclasses.dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request: `role` is ops, partner or appliance, `subject` its id, `who` its name in the audit log.

    `token` is the id of its token, 0 for a caller over `control.sock`.
    """

    role: str
    subject: str
    who: str
    token: int = 0


class TokenRepository(Repository):
    """The table `tokens`."""

    def all(self) -> dict[int, Token]:
        """Return every token ever made, by id."""
        rows = self.connection.execute("SELECT * FROM tokens ORDER BY id")
        return {row["id"]: Token(**row) for row in rows}

    def get(self, number: int) -> Token:
        """Return one token that was made."""
        return Token(**self.connection.execute("SELECT * FROM tokens WHERE id = ?", (number,)).fetchone())

    def add(self, role: str, name: str, sha256: bytes, who: str, now: float, expires_at: float | None = None) -> int:
        """Record a token, and return its id."""
        row = {"role": role, "name": name, "sha256": sha256, "made_at": now, "who": who, "expires_at": expires_at}
        return insert(self.connection, "tokens", row)

    def revoke(self, number: int, now: float) -> None:
        """Record that a token is revoked."""
        self.connection.execute("UPDATE tokens SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL", (now, number))


def check_role(text: str) -> str:
    """Return the role when it is well formed. Raises RequestError naming it and the rule."""
    role, _, subject = text.partition(":")
    if text != "ops" and not (role in ("partner", "appliance") and ID.fullmatch(subject)):
        raise RequestError.of_parameter("role", text, ROLE_RULE)
    return text


def make_secret() -> tuple[str, bytes]:
    """Return a new secret and its SHA-256."""
    secret = base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
    return secret, digest_of(secret)


def digest_of(secret: str) -> bytes:
    """Return the SHA-256 of a secret, which is kept in its place."""
    return hashlib.sha256(secret.encode()).digest()


def caller_of(authorization: str, tokens: Mapping[int, Token], now: float) -> Caller | None:
    """Return the holder of the token in an `Authorization` header (RFC 6750, 2.1); None unless the token is good."""
    scheme, _, text = authorization.partition(" ")
    match = TOKEN.fullmatch(text.strip())
    if scheme.lower() != "bearer" or not match:
        return None
    token = tokens.get(int(match[1]))
    is_same = hmac.compare_digest(digest_of(match[2]), token.sha256 if token else NO_DIGEST)
    if token is None or not is_same or not token.is_good(now):
        return None
    role, _, subject = token.role.partition(":")
    who = f"token {token.id} ({token.name})" if token.name else f"token {token.id}"
    return Caller(role, subject, who, token.id)
