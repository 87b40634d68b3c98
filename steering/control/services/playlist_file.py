"""The file `playlists.<version>`, from which playback answers, as it is written from the playlists on record."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

from steering.control.records.database import Records
from steering.errors import SnapshotError
from steering.state.playlists import Playlist, Playlists, write_playlists


@dataclasses.dataclass(eq=False)
class PlaylistFile:
    """Writes the file, and knows which one holds what is on record."""

    state: Path
    records: Records

    def __post_init__(self) -> None:
        self.written: tuple[str, str] | None = None

    def digest(self) -> str:
        """Return a digest of the playlists on record; empty where there are none."""
        marks = self.records.playlists.marks()
        return hashlib.sha256(json.dumps(marks).encode()).hexdigest() if marks else ""

    def is_written(self, name: str, digest: str) -> bool:
        """Return whether a file has the playlists of this digest."""
        if self.written != (name, digest):
            try:
                self.written = name, Playlists(self.state / name).meta["digest"]
            except SnapshotError:
                self.written = None
        return self.written == (name, digest)

    def write(self, version: int, digest: str) -> str:
        """Write the playlists on record as `playlists.<version>`, and return its name."""
        rows = (
            Playlist(service, title, kind, *json.loads(cut))
            for service, title, kind, cut in self.records.playlists.cuts()
        )
        name = write_playlists(self.state, version, digest, rows)
        self.written = name, digest
        return name
