"""Tokens: made, listed and revoked. The text of a token is in the report of its making, and nowhere else."""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Sequence
from typing import Any, Final

from steering.control.records import fleet_objects
from steering.control.records.audit import Entry
from steering.control.records.auth import check_role, make_secret
from steering.control.records.rows import Rows
from steering.control.services.concern import Concern
from steering.errors import RequestError

MAX_TOKEN_NAME: Final = 100
MAX_TOKEN_DAYS: Final = 36_500
TOKEN_NAME: Final = frozenset(string.ascii_letters + string.digits + "-_.@")

Texts = list[str]


class Tokens(Concern):
    """`control.tokens`. `known` is every token by id; it is replaced as a whole, and read from any thread."""

    def __post_init__(self) -> None:
        self.known = self.records.tokens.all()

    def is_good(self, number: int) -> bool:
        """Return whether a token gives access now."""
        token = self.known.get(number)
        return token is not None and token.is_good(self.clock())

    def make(self, role: str, name: str, who: str, days: float | None = None) -> dict[str, Any]:
        """Make a token for a role, good for so many days or until it is revoked."""
        check_role(role)
        if not set(name) <= TOKEN_NAME or len(name) > MAX_TOKEN_NAME:
            raise RequestError.of_parameter("name", name, f"at most {MAX_TOKEN_NAME} letters, digits, and -_.@")
        if days is not None and not 0 < days <= MAX_TOKEN_DAYS:
            raise RequestError.of_parameter("days", str(days), f"more than 0 and at most {MAX_TOKEN_DAYS}")
        kind, _, subject = role.partition(":")
        if subject:
            fleet_objects.find_row(self.fleet(), f"{kind}s", subject)
        secret, sha256 = make_secret()
        now = self.clock()
        expires_at = None if days is None else now + 86_400 * days
        with self.records.transaction() as transaction:
            number = transaction.tokens.add(role, name, sha256, who, now, expires_at)
            entry = Entry(now, who, "make token", f"token {number}", None, {"role": role, "name": name})
            transaction.audit.add(entry)
        self.known = self.known | {number: self.records.tokens.get(number)}
        return {"id": number, "role": role, "name": name, "token": f"steering-{number}-{secret}"}

    def make_many(self, roles: Sequence[str], name: str, who: str) -> Texts:
        """Make a token of one name for each role, all or none; return their texts in the same order."""
        for role in roles:
            check_role(role)
        now = self.clock()
        texts = []
        with self.records.transaction() as transaction:
            for role in roles:
                secret, sha256 = make_secret()
                texts.append(f"steering-{transaction.tokens.add(role, name, sha256, who, now)}-{secret}")
            transaction.audit.add(Entry(now, who, "make tokens", f"{len(roles)} tokens", None, {"name": name}))
        self.known = self.records.tokens.all()
        return texts

    def list(self) -> Rows:
        """Return every token ever made, without its secret or the hash of it."""
        now = self.clock()
        rows = [dataclasses.asdict(token) | {"good": token.is_good(now)} for token in self.known.values()]
        return [{name: value for name, value in row.items() if name != "sha256"} for row in rows]

    def revoke(self, number: int, who: str) -> dict[str, Any]:
        """Revoke a token, from the next request on."""
        token = self.known.get(number)
        if token is None:
            raise RequestError(f"token {number}: there is none of this id", status=404)
        now = self.clock()
        with self.records.transaction() as transaction:
            transaction.tokens.revoke(number, now)
            if token.revoked_at is None:
                transaction.audit.add(Entry(now, who, "revoke token", f"token {number}", {"role": token.role}))
        self.known = self.known | {number: self.records.tokens.get(number)}
        return {"id": number, "role": token.role, "name": token.name}
