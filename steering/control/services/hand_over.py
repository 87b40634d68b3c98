"""What is being served and how it is replaced: prepare files, map them back, advance `current`, remove the old ones.

This is the one way to advance `current`. Whatever fails before that leaves what is serving untouched, and the error
begins with the step's name.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from steering.control.records.database import Records
from steering.control.records.versions import Published
from steering.control.routes.build import Progress, quiet
from steering.control.routes.proof import prove
from steering.control.services.fleet_on_record import FleetOnRecord
from steering.decision.snapshot import Snapshot
from steering.errors import SettingsError, SnapshotError, SteeringError
from steering.settings import Settings
from steering.state.current import Current, read_current, write_current
from steering.state.fleet import write_fleet
from steering.state.folder import number_of, remove_unneeded
from steering.state.playlists import Playlist, Playlists, write_playlists
from steering.state.sections import FORMATS, StateFile
from steering.state.status import StatusFiles
from steering.state.table import BuiltTable

LIVE: Final = "bgp"  # the author of tables that follow live sessions

logger = logging.getLogger("steering.control")

PublishedT = TypeVar("PublishedT", bound=Published)


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class HandOver:
    """The state folder's `current` and the files it names. `words` returns the status word of every slot in use."""

    settings: Settings
    records: Records
    on_record: FleetOnRecord
    status: StatusFiles
    words: Callable[[], Mapping[int, int]]
    clock: Callable[[], float]

    def __post_init__(self) -> None:
        self.state = self.settings.state
        self.playlists = PlaylistFile(self.state, self.records)
        self.previous: Current | None = None
        self.current: Current | None = None
        try:
            self.current = read_current(self.state)
        except SnapshotError as error:
            if (self.state / "current").exists():
                logger.warning("%s; publish again to write a new one", error.message)

    def serving(self) -> dict[str, Any] | None:
        """Return the generation and the versions that are served; None before the first publish."""
        if self.current is None:
            return None
        return {
            "generation": self.current.generation,
            "table": number_of(self.current.table),
            "fleet": number_of(self.current.fleet),
            "published_at": self.current.published_at,
        }

    @contextmanager
    def undone_on_error(self) -> Iterator[list[str]]:
        """Give a list for the names of new files; after any error those that `current` does not name are removed."""
        made: list[str] = []
        try:
            yield made
        except BaseException:
            # Advancing may have failed after the rename: the file decides.
            try:
                named = set(read_current(self.state).names())
            except SnapshotError:
                named = set(made) if (self.state / "current").exists() else set()
            for name in set(made) - named:
                (self.state / name).unlink(missing_ok=True)
            raise

    def prepare(self, table: str, routes: str, made: list[str], progress: Progress = quiet) -> Current:
        """Return what `current` should be to serve a table with the fleet on record; generation and time are still 0.

        The other files are written where they do not exist yet, and added to `made`.
        """
        playlists = self.prepare_playlists(made)
        version = self.on_record.version()
        fleet = f"fleet.{version}"
        if not self.is_written(fleet):
            with step("write the fleet", progress):
                made.append(fleet)
                write_fleet(self.state, version, self.on_record.fleet)
        with step("make room for weights", progress):
            status = self.status.find_room(self.words())
            if status not in self.status.names:
                made.append(status)
        holdings = self.current.holdings if self.current else ""
        return Current(0, table, routes, fleet, status, 0.0, holdings, playlists)

    def prepare_fleet(self, made: list[str]) -> Current | None:
        """Prepare to serve the fleet on record with the table that serves, and try it out; None before a publish."""
        if self.current is None:
            return None
        candidate = self.prepare(self.current.table, self.current.routes, made)
        try_out(self.state, candidate)
        return candidate

    def prepare_playlists(self, made: list[str]) -> str:
        """Return the file of the playlists on record, written where it does not exist yet; empty without playlists."""
        current, digest = self.current, self.playlists.digest()
        if not digest:
            return ""
        if current and current.playlists and self.playlists.is_written(current.playlists, digest):
            return current.playlists
        with step("write the playlists", quiet):
            version = self.next_generation()
            made.append(f"playlists.{version}")
            return self.playlists.write(version, digest)

    def serve_playlists(self) -> None:
        """Serve the playlists on record; before the first publish they wait for it."""
        if self.current is None:
            return
        with self.undone_on_error() as made:
            name = self.prepare_playlists(made)
            if name == self.current.playlists:
                return
            candidate = dataclasses.replace(self.current, playlists=name)
            try_out(self.state, candidate)
            self.switch(candidate)
        self.remove_old()

    def switch_holdings(self, name: str) -> Current:
        """Serve another file of holdings, or none, with the other files that serve now."""
        assert self.current, "the caller has checked that a table serves"
        return self.switch(dataclasses.replace(self.current, holdings=name))

    def switch(self, candidate: Current, progress: Progress = quiet) -> Current:
        """Serve what was prepared, and return `current` as it was written."""
        before = self.current
        current = dataclasses.replace(candidate, generation=self.next_generation(), published_at=self.clock())
        is_other_fleet = before is None or (before.fleet, before.status) != (current.fleet, current.status)
        with step("advance current", progress):
            if is_other_fleet:
                self.status.fill_empty(self.words())
            write_current(self.state, current)
        self.previous, self.current = before, current
        if is_other_fleet:
            self.status.use(current.status)
            self.status.clear_except(self.words())
        return current

    def next_generation(self) -> int:
        """Return a generation that was never given before."""
        with self.records.transaction() as transaction:
            return transaction.versions.next_generation(self.current.generation if self.current else 0)

    def is_written(self, fleet_name: str) -> bool:
        """Return whether this fleet is served from a file of this version's format.

        A file that `current` does not name may be left by an import that was killed, and is written again.
        """
        if self.current is None or self.current.fleet != fleet_name:
            return False
        try:
            return bool(StateFile(self.state / fleet_name, "fleet").format == FORMATS["fleet"])
        except SnapshotError:
            return False

    def remove_old(self) -> None:
        """Keep the files of the newest published tables, as many as the setting `retain` says, and of what serves.

        The files that served until a moment ago stay, for a worker that has just read their names.
        """
        kept, forgotten = kept_versions(self.records.versions.published(), self.settings.retain)
        serving = number_of(self.current.table) if self.current else None
        if tables := [version.table for version in forgotten if version.table != serving]:
            with self.records.transaction() as transaction:
                transaction.versions.forget(tables)
        served = [item for item in (self.current, self.previous) if item]
        kept_tables = {version.table for version in kept} | {number_of(item.table) for item in served}
        numbers = {
            "table": kept_tables,
            "routes": kept_tables,
            "fleet": {version.fleet for version in kept} | {number_of(item.fleet) for item in served},
            "playlists": {number_of(item.playlists) for item in served if item.playlists},
            "status": {number_of(name) for name in [*self.status.names, *(item.status for item in served)]},
            "holdings": {number_of(item.holdings) for item in served if item.holdings},
        }
        remove_unneeded(self.state, lambda kind, number: number in numbers[kind])


@dataclasses.dataclass(eq=False, repr=False)
class PlaylistFile:
    """Writes `playlists.<version>` from the playlists on record, and knows which file holds them."""

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


def try_out(state: Path, candidate: Current, table: BuiltTable | None = None, progress: Progress = quiet) -> None:
    """Map the files back, as a worker will; a table that was just built is asked as well. Raises SteeringError."""
    with step("map the files back", progress):
        snapshot = Snapshot(state, candidate)
        if table:
            prove(snapshot, table)


def kept_versions(versions: Sequence[PublishedT], retain: int) -> tuple[list[PublishedT], list[PublishedT]]:
    """Return which versions, newest first, keep their files, and which are forgotten.

    Of the tables that follow live routes, one an hour is kept, and the others are forgotten.
    """
    kept: list[PublishedT] = []
    forgotten: list[PublishedT] = []
    hours: set[int] = set()
    by_hand = 0
    for version in versions:
        if version.who != LIVE:
            by_hand += 1
            kept += [version] * (by_hand <= retain)
        elif (hour := int(version.published_at // 3600)) not in hours:
            hours.add(hour)
            kept += [version] * (len(hours) <= retain)
        else:
            forgotten.append(version)
    return kept, forgotten


@contextmanager
def step(name: str, progress: Progress) -> Iterator[None]:
    """Report that a step begins, and put its name before any error inside it."""
    progress(name)
    try:
        yield
    except SteeringError as error:
        raise type(error)(f"{name}: {error.message}", error.hint or "what is serving serves on") from error
    except OSError as error:
        about = f" {error.filename}:" if error.filename else ""
        raise SettingsError(f"{name}:{about} {error.strerror}", hint="what is serving serves on") from error
