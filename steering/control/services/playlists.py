"""The registered playlists on record: given by people or fetched from a service's origin, checked, and published.

A playlist is on record before it serves. An unusable playlist is refused as a whole. When one is fetched
again and unusable, the old one serves on, and `problem` says why.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec

from steering.control.playlists.prepare import MAX_PLAYLIST, prepare
from steering.control.records.audit import Entry
from steering.control.records.database import Transaction
from steering.control.records.playlists import PlaylistRow
from steering.control.routes.build import Progress, quiet
from steering.control.routes.fetch import run_apart, update_copy
from steering.control.services.concern import Concern
from steering.control.services.run import in_pieces
from steering.errors import FeedError, RequestError
from steering.model.service import Service
from steering.state.playlists import KINDS

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

    @property
    def key(self) -> tuple[str, str, str]:
        return self.service, self.title, self.kind


@dataclasses.dataclass(frozen=True)
class Prepare:
    """The task that reads playlists: by each the text that playback reads, or why it is refused."""

    arrived: Sequence[Arrived]

    def __call__(self, progress: Progress) -> list[str | FeedError]:
        """Read them one after another."""
        progress("read the playlists")
        return [self.cut(item) for item in self.arrived]

    def cut(self, item: Arrived) -> str | FeedError:
        try:
            made = prepare(item.service, item.title, item.kind, item.body, item.url)
        except FeedError as error:
            return error
        return msgspec.json.encode([made.head, made.pathway, made.tail, made.prefix]).decode()


class PlaylistService(Concern):
    """`control.playlists`. Playlists are read, and the file of all of them is written, in child processes."""

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
        given = Arrived(service, title, kind, url_at_origin(owner, title, kind), body)
        (cut,) = self.run("read the playlist", Prepare([given]), quiet, gently=False)
        if isinstance(cut, FeedError):
            raise cut
        row = PlaylistRow(service, title, kind, body, cut, url, self.clock(), who)
        self.keep(row, who)
        self.hand_over.serve_playlists()
        return {**described(row), "made": before is None}

    def rows(self, count: int = 1000, after: str = "") -> list[dict[str, Any]]:
        """Return the next `count` playlists after `service/title/kind`, without their texts."""
        service, _, rest = after.partition("/")
        title, _, kind = rest.rpartition("/")
        with self.records.reading() as records:
            return [described(row) for row in records.playlists.after(service, title, kind, count)]

    def get(self, service: str, title: str, kind: str) -> dict[str, Any]:
        with self.records.reading() as records:
            row = find(records, service, title, kind)
        return {**described(row), "playlist": row.body.decode(errors="replace")}

    def delete(self, service: str, title: str, kind: str, who: str) -> dict[str, Any]:
        row = find(self.records, service, title, kind)
        self.hand_over.change_playlists()
        with self.records.transaction() as transaction:
            transaction.playlists.delete(service, title, kind)
            transaction.audit.add(Entry(self.clock(), who, "delete playlist", name_of(row), described(row)))
        self.hand_over.serve_playlists()
        return described(row)

    def fetched(self) -> list[tuple[Service, str, str]]:
        """Return service, title and kind of every playlist that comes from an origin; safe from any thread."""
        services = {item.id: item for item in self.fleet().services if item.origin}
        if not services:
            return []
        with self.records.reading() as records:
            rows = records.playlists.fetched()
        return [(services[name], title, kind) for name, title, kind in rows if name in services]

    def take(self, arrived: Sequence[Arrived]) -> list[str]:
        """Register the playlists of a round of fetches, and return the new problems."""
        fresh: list[Arrived] = []
        refused: list[tuple[Arrived, str]] = []
        for (item,) in in_pieces(arrived, 1, self.give_way):
            before = self.records.playlists.get(*item.key)
            if before and item.problem:
                refused.append((item, item.problem))
            elif before and (item.body != before.body or before.problem):
                fresh.append(item)
        cuts = self.run("read the playlists", Prepare(fresh), quiet) if fresh else []
        for item, cut in zip(fresh, cuts, strict=True):
            if isinstance(cut, FeedError):
                refused.append((item, cut.message))
            else:
                self.keep(PlaylistRow(*item.key, item.body, cut, item.url, self.clock(), ORIGIN), ORIGIN)
                self.give_way()
        problems = []
        for item, problem in refused:
            before = find(self.records, *item.key)
            if before.problem != problem:
                self.keep(dataclasses.replace(before, problem=problem), ORIGIN)
                problems.append(problem)
                self.give_way()
        self.hand_over.serve_playlists()
        return problems

    def keep(self, row: PlaylistRow, who: str) -> None:
        """Put a playlist on record; `serve_playlists` follows."""
        before = self.records.playlists.get(row.service, row.title, row.kind)
        was = described(before) if before else None
        self.hand_over.change_playlists()
        with self.records.transaction() as transaction:
            transaction.playlists.set(row)
            transaction.audit.add(Entry(self.clock(), who, "put playlist", name_of(row), was, described(row)))

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


def find(records: Transaction, service: str, title: str, kind: str) -> PlaylistRow:
    """Return a registered playlist. Raises RequestError 404 where there is none."""
    row = records.playlists.get(service, title, kind)
    if row is None:
        raise RequestError(f"{kind[:63]} playlist of {service[:63]}/{title[:64]}: none is registered", status=404)
    return row


def described(row: PlaylistRow) -> dict[str, Any]:
    """Return a playlist as reports have it, without its text."""
    fields = dataclasses.asdict(row)
    del fields["body"], fields["cut"]
    return fields | {"bytes": len(row.body), "sha256": hashlib.sha256(row.body).hexdigest()}


def name_of(row: PlaylistRow) -> str:
    return f"{row.kind} {row.service}/{row.title}"
