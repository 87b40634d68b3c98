"""What the appliance holds, and what of it control has confirmed: the rows of holdings in its reports.

A row is the full list until control has accepted one, then deltas from the confirmed set, at least one a minute. If the
answer to a delta was lost, control has either set; the next delta's base tells, and `resync` asks for the full list.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

EMPTY_DELTA_S: Final = 60.0  # docs/api.md asks for one a minute
MODULUS: Final = 1 << 64


def digest_of(titles: Iterable[str]) -> str:
    """Return the digest of a set of ids, as reports and fill manifests have it."""
    distinct = set(titles)
    total = sum(int.from_bytes(hashlib.sha256(title.encode()).digest()[:8], "big") for title in distinct)
    return f"{len(distinct)}-{total % MODULUS:016x}"


class Holdings:
    """By service the titles that are held, each with its recipe, and the set that control confirmed."""

    def __init__(self, unknown: Iterable[str] = ()) -> None:
        self.unknown = frozenset(unknown)
        self.unknown_confirmed: set[str] = set()
        self.held: dict[str, dict[str, str]] = {}
        self.confirmed: dict[str, frozenset[str]] = {}
        self.digests: dict[str, tuple[frozenset[str], str]] = {}
        self.compared_at: dict[str, float] = {}

    def add(self, service: str, title: str, recipe: str) -> None:
        self.held.setdefault(service, {})[title] = recipe

    def drop(self, service: str, title: str) -> None:
        self.held.get(service, {}).pop(title, None)

    def manage(self, services: Iterable[str]) -> None:
        """Report these services even if nothing of them is held."""
        for service in services:
            self.held.setdefault(service, {})

    def recipe(self, service: str, title: str) -> str | None:
        return self.held.get(service, {}).get(title)

    def digest(self, service: str) -> str:
        """Return the digest of what is held, computed once for each set."""
        titles = frozenset(self.held.get(service, {}))
        last = self.digests.get(service)
        if last is None or last[0] != titles:
            last = self.digests[service] = (titles, digest_of(titles))
        return last[1]

    def is_confirmed_gone(self, service: str, title: str) -> bool:
        """Return whether control has accepted a report without this title."""
        confirmed = self.confirmed.get(service)
        return confirmed is not None and title not in confirmed

    def rows(self, now: float) -> list[dict[str, Any]]:
        """Return the rows of the next report."""
        rows: list[dict[str, Any]] = [
            {"service": service, "kind": "unknown"} for service in sorted(self.unknown - self.unknown_confirmed)
        ]
        for service in sorted(self.held.keys() - self.unknown):
            titles, digest = frozenset(self.held[service]), self.digest(service)
            confirmed = self.confirmed.get(service)
            if confirmed is None:
                rows.append({"service": service, "kind": "full", "full": sorted(titles), "digest": digest})
            elif confirmed != titles or now - self.compared_at.get(service, -EMPTY_DELTA_S) >= EMPTY_DELTA_S:
                rows.append(
                    {
                        "service": service,
                        "kind": "delta",
                        "base": digest_of(confirmed),
                        "add": sorted(titles - confirmed),
                        "remove": sorted(confirmed - titles),
                        "digest": digest,
                    }
                )
        return rows

    def accepted(self, rows: Iterable[Mapping[str, Any]], resync: Iterable[str], now: float) -> None:
        """Take over that control accepted a report with these rows, but for the services of `resync`."""
        again = set(resync)
        for row in rows:
            service = row["service"]
            if row["kind"] == "unknown":
                self.unknown_confirmed.add(service)
            elif service not in again:
                self.confirmed[service] = self.after(row)
                self.compared_at[service] = now
        for service in again:
            self.confirmed.pop(service, None)

    def after(self, row: Mapping[str, Any]) -> frozenset[str]:
        """Return the set that a row leaves at control."""
        if row["kind"] == "full":
            return frozenset(row["full"])
        return (self.confirmed.get(row["service"], frozenset()) - set(row["remove"])) | set(row["add"])

    def forget(self) -> None:
        """Send full lists again: control refused the holdings."""
        self.confirmed.clear()

    def __iter__(self) -> Iterator[tuple[str, str, str]]:
        for service, titles in self.held.items():
            for title, recipe in titles.items():
                yield service, title, recipe
