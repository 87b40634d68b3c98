"""The registered playlists on record: given by people or fetched from a service's origin, checked, and published.

A playlist is on record before it serves. An unusable playlist is refused as a whole. When one is fetched
again and unusable, the old one serves on, and `problem` says why.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from steering.control.playlists.prepare import MAX_PLAYLIST, prepare
from steering.control.records.audit import Entry
from steering.control.records.database import Records
from steering.control.records.playlists import PlaylistRow
from steering.control.routes.fetch import run_apart, update_copy
from steering.errors import FeedError, RequestError
from steering.model.fleet import Fleet
from steering.model.service import Service
from steering.state.playlists import KINDS, Playlist

MAX_PLAYLISTS: Final = 100_000
MAX_TITLE: Final = 256
FILES: Final = {"hls": "master.m3u8", "dash": "manifest.mpd", "streams": "streams.json"}
ORIGIN: Final = "origin"  # the author of playlists that were fetched again


@dataclasses.dataclass(frozen=True, slots=True)
class Arrived:
    """A playlist that was fetched, or the problem that the fetch had."""

    service: str
    title: str
    kind: str
    url: str
    body: bytes = b""
    problem: str = ""


class PlaylistService:
    """`control.playlists`. `serve` publishes what is on record."""

    def __init__(
        self,
        *,
        state: Path,
        records: Records,
        fleet: Callable[[], Fleet],
        clock: Callable[[], float],
        serve: Callable[[], None],
    ) -> None:
        self.state, self.records, self.fleet, self.clock, self.serve = state, records, fleet, clock, serve

    def put(
        self, service: str, title: str, kind: str, body: bytes | None, who: str, arrived: Arrived | None = None
    ) -> dict[str, Any]:
        """Register a playlist, or with no body fetch it from the service's origin, now and from now on."""
        owner = self.require(service, title, kind)
        if body is None:
            arrived = arrived or run_apart(bring(self.state, owner, title, kind))
            if arrived.problem:
                raise FeedError(arrived.problem)
            body = arrived.body
        url = arrived.url if arrived else ""
        before = self.records.playlists.get(service, title, kind)
        if before is None and self.records.playlists.count() >= MAX_PLAYLISTS:
            raise RequestError(f"there are {MAX_PLAYLISTS} playlists already", status=409)
        made = prepare(service, title, kind, body, url_at_origin(owner, title, kind))
        row = row_of(made, body, url, who, self.clock())
        self.keep([row], who)
        self.serve()
        return {**described(row), "made": before is None}

    def rows(self, count: int = 1000, after: str = "") -> list[dict[str, Any]]:
        """Return the next `count` playlists after `service/title/kind`, without their texts."""
        service, _, rest = after.partition("/")
        title, _, kind = rest.rpartition("/")
        with self.records.reading() as records:
            return [described(row) for row in records.playlists.after(service, title, kind, count)]

    def get(self, service: str, title: str, kind: str) -> dict[str, Any]:
        row = self.find(service, title, kind)
        return {**described(row), "playlist": row.body.decode(errors="replace")}

    def delete(self, service: str, title: str, kind: str, who: str) -> dict[str, Any]:
        row = self.find(service, title, kind)
        with self.records.transaction() as transaction:
            transaction.playlists.delete(service, title, kind)
            transaction.audit.add(Entry(self.clock(), who, "delete playlist", name_of(row), described(row)))
        self.serve()
        return described(row)

    def fetched(self) -> list[tuple[Service, str, str]]:
        """Return service, title and kind of every playlist that comes from an origin."""
        services = {item.id: item for item in self.fleet().services if item.origin}
        return [
            (services[name], title, kind) for name, title, kind in self.records.playlists.fetched() if name in services
        ]

    def take(self, arrived: Sequence[Arrived]) -> list[str]:
        """Register the playlists of a round of fetches, and return the new problems."""
        rows, problems = [], []
        for item in arrived:
            before = self.records.playlists.get(item.service, item.title, item.kind)
            if before is None:
                continue  # deleted meanwhile
            problem = item.problem
            if not problem and (item.body != before.body or before.problem):
                try:
                    made = prepare(item.service, item.title, item.kind, item.body, item.url)
                    rows.append(row_of(made, item.body, item.url, ORIGIN, self.clock()))
                except FeedError as error:
                    problem = error.message
            if problem and problem != before.problem:
                rows.append(dataclasses.replace(before, problem=problem))
                problems.append(problem)
        if rows:
            self.keep(rows, ORIGIN)
            self.serve()
        return problems

    def keep(self, rows: Sequence[PlaylistRow], who: str) -> None:
        with self.records.transaction() as transaction:
            for row in rows:
                before = self.records.playlists.get(row.service, row.title, row.kind)
                transaction.playlists.set(row)
                was = described(before) if before else None
                transaction.audit.add(Entry(self.clock(), who, "put playlist", name_of(row), was, described(row)))

    def find(self, service: str, title: str, kind: str) -> PlaylistRow:
        row = self.records.playlists.get(service, title, kind)
        if row is None:
            raise RequestError(f"{kind[:63]} playlist of {service[:63]}/{title[:64]}: none is registered", status=404)
        return row

    def require(self, name: str, title: str, kind: str) -> Service:
        """Return the service of a playlist. Raises RequestError where there can be none."""
        if kind not in KINDS:
            raise RequestError.of_parameter("kind", kind, ", ".join(KINDS))
        if not 0 < len(title.encode()) <= MAX_TITLE or title in (".", "..") or not title.isprintable():
            raise RequestError.of_parameter("title", title, f"1 to {MAX_TITLE} bytes of printable UTF-8, not . or ..")
        service = next((item for item in self.fleet().services if item.id == name), None)
        if service is None:
            raise RequestError.of_parameter("service", name, "there is no such service", 404)
        if kind != "streams" and service.token not in ("", "path"):
            raise RequestError.of_parameter(
                "service", name, f"its URLs are signed in the {service.token}, which covers no segment; path does", 409
            )
        return service


async def bring(state: Path, service: Service, title: str, kind: str) -> Arrived:
    """Return the playlist of a title at the service's origin."""
    url = url_at_origin(service, title, kind)
    try:
        if not url:
            raise FeedError(f"service {service.id} has no origin; send the playlist itself")
        copy = await update_copy(url, state, MAX_PLAYLIST, f"a playlist has at most {MAX_PLAYLIST >> 20} MiB")
        return Arrived(service.id, title, kind, url, copy.path.read_bytes())
    except FeedError as error:
        problem = error.message
    except OSError as error:
        problem = f"{error.filename}: {error.strerror}"
    return Arrived(service.id, title, kind, url, problem=problem)


def url_at_origin(service: Service, title: str, kind: str) -> str:
    """Return the URL of a playlist at the service's origin; empty without one."""
    return f"{service.origin.rstrip('/')}/{quote(title, safe='')}/{FILES[kind]}" if service.origin else ""


def row_of(made: Playlist, body: bytes, url: str, who: str, now: float) -> PlaylistRow:
    cut = json.dumps([made.head, made.pathway, made.tail, made.prefix])
    return PlaylistRow(made.service, made.title, made.kind, body, cut, url, now, who)


def described(row: PlaylistRow) -> dict[str, Any]:
    return {
        "service": row.service,
        "title": row.title,
        "kind": row.kind,
        "bytes": len(row.body),
        "sha256": hashlib.sha256(row.body).hexdigest(),
        "url": row.url,
        "changed_at": row.changed_at,
        "who": row.who,
        "problem": row.problem,
    }


def name_of(row: PlaylistRow) -> str:
    return f"{row.kind} {row.service}/{row.title}"
