"""Registered playlists: one row a service, title and kind."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from steering.control.records.rows import Repository, upsert

KEY = ("service", "title", "kind")


@dataclasses.dataclass(frozen=True, slots=True)
class PlaylistRow:
    """A registered playlist: as it was given (`body`), and as playback reads it (`cut`, JSON).

    `url` is where it is fetched from, empty for one given by a person; `problem` is why the last fetch was refused.
    """

    service: str
    title: str
    kind: str
    body: bytes
    cut: str
    url: str
    changed_at: float
    who: str
    problem: str = ""


class PlaylistRepository(Repository):
    """The table `playlists`."""

    def get(self, service: str, title: str, kind: str) -> PlaylistRow | None:
        """Return one playlist, None where none is registered."""
        row = self.connection.execute(
            "SELECT * FROM playlists WHERE service = ? AND title = ? AND kind = ?", (service, title, kind)
        ).fetchone()
        return PlaylistRow(**row) if row else None

    def after(self, service: str, title: str, kind: str, count: int) -> Iterator[PlaylistRow]:
        """Yield the next so many playlists after that one, in the order of their keys."""
        rows = self.connection.execute(
            "SELECT * FROM playlists WHERE (service, title, kind) > (?, ?, ?) ORDER BY service, title, kind LIMIT ?",
            (service, title, kind, count),
        )
        for row in rows:  # one at a time: a body may have 1 MiB
            yield PlaylistRow(**row)

    def any(self) -> bool:
        """Return whether any playlist is registered."""
        return self.connection.execute("SELECT 1 FROM playlists LIMIT 1").fetchone() is not None

    def count(self) -> int:
        """Return how many playlists are registered."""
        return int(self.connection.execute("SELECT count(*) FROM playlists").fetchone()[0])

    def fetched(self) -> list[tuple[str, str, str]]:
        """Return service, title and kind of the playlists that are fetched from an origin."""
        return [
            tuple(row) for row in self.connection.execute("SELECT service, title, kind FROM playlists WHERE url <> ''")
        ]

    def marks(self) -> list[tuple[str, str, str, float]]:
        """Return service, title, kind and time of each playlist: another list when any playlist changes."""
        rows = self.connection.execute(
            "SELECT service, title, kind, changed_at FROM playlists ORDER BY service, title, kind"
        )
        return [tuple(row) for row in rows]

    def cuts(self) -> Iterator[tuple[str, str, str, str]]:
        """Yield service, title, kind and `cut` of every playlist."""
        for row in self.connection.execute("SELECT service, title, kind, cut FROM playlists ORDER BY 1, 2, 3"):
            yield tuple(row)

    def set(self, row: PlaylistRow) -> None:
        """Record a playlist in the place of another."""
        upsert(self.connection, "playlists", KEY, [dataclasses.asdict(row)])

    def delete(self, service: str, title: str, kind: str) -> None:
        """Delete a playlist."""
        self.connection.execute(
            "DELETE FROM playlists WHERE service = ? AND title = ? AND kind = ?", (service, title, kind)
        )
