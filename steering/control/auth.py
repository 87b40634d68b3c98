"""Who asks at the control door, and as what.

A token is `steering-<id>-<secret>`, the secret 256 random bits. On record is its SHA-256 alone: who reads the database
can open no door with it. The id finds the record, so that exactly one comparison is made, in constant time.
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

from steering.control.records.documents import ID
from steering.errors import RequestError

ROLE_RULE: Final = "ops, partner:<id> or appliance:<id>"
TOKEN = re.compile(r"steering-([1-9][0-9]{0,17})-([A-Za-z0-9_-]{43})")
NO_DIGEST: Final = bytes(32)


@dataclasses.dataclass(frozen=True, slots=True)
class Token:
    """A token on record; `revoked_at` and `expires_at` are None where they are not."""

    id: int
    role: str
    name: str
    sha256: bytes
    made_at: float
    who: str
    expires_at: float | None
    revoked_at: float | None

    def is_good(self, now: float) -> bool:
        """Tell whether it opens the door now."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclasses.dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: `role` is ops, partner or appliance, `subject` which of them, `who` what goes on record.

    `token` is the id of the one that opened the door, 0 for who came over `control.sock`.
    """

    role: str
    subject: str
    who: str
    token: int = 0

    def sees_partner(self, partner: str | None) -> bool:
        """Tell whether what belongs to this partner is the caller's business."""
        return self.role == "ops" or (self.role == "partner" and partner == self.subject)


def check_role(text: str) -> str:
    """Return a role that there can be. Raises RequestError naming it and the rule."""
    role, _, subject = text.partition(":")
    if text != "ops" and not (role in ("partner", "appliance") and ID.fullmatch(subject)):
        raise RequestError.of_parameter("role", text, ROLE_RULE)
    return text


def make_secret() -> tuple[str, bytes]:
    """Return a new secret and its SHA-256."""
    secret = base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
    return secret, digest_of(secret)


def digest_of(secret: str) -> bytes:
    """Return what is kept of a secret."""
    return hashlib.sha256(secret.encode()).digest()


def caller_of(authorization: str, tokens: Mapping[int, Token], now: float) -> Caller | None:
    """Return who has the token in an `Authorization` header (RFC 6750, 2.1), or None where it opens no door."""
    scheme, _, given = authorization.partition(" ")
    found = TOKEN.fullmatch(given.strip())
    if scheme.lower() != "bearer" or not found:
        return None
    token = tokens.get(int(found[1]))
    is_same = hmac.compare_digest(digest_of(found[2]), token.sha256 if token else NO_DIGEST)
    if token is None or not is_same or not token.is_good(now):
        return None
    role, _, subject = token.role.partition(":")
    who = f"token {token.id} ({token.name})" if token.name else f"token {token.id}"
    return Caller(role, subject, who, token.id)
