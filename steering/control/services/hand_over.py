"""What is being served and how it is replaced: prepare files, map them back, advance `current`, remove the old ones.

Whatever fails before `current` advances leaves what is serving untouched, and the error begins with the step's name.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from steering.control.records.database import Store, Version
from steering.control.routes.build import Progress, quiet
from steering.control.routes.proof import prove
from steering.decision.snapshot import Snapshot
from steering.errors import SettingsError, SnapshotError, SteeringError
from steering.model.fleet import Fleet
from steering.state.current import Current, read_current, write_current
from steering.state.fleet import write_fleet
from steering.state.folder import number_of, remove_unneeded
from steering.state.sections import FORMATS, StateFile
from steering.state.status import StatusFiles
from steering.state.table import BuiltTable

logger = logging.getLogger("steering.control")


@dataclasses.dataclass(frozen=True, slots=True)
class Versions:
    """What is to be served: the files of a written table, the fleet on record and its version, a word for each slot."""

    table: str
    routes: str
    fleet: Fleet
    fleet_version: int
    words: Mapping[int, int]
    playlists: str = ""


class HandOver:
    """The state folder's `current` and the files it names, in the hands of the one writer."""

    def __init__(self, state: Path, status: StatusFiles) -> None:
        self.state = state
        self.status = status
        self.previous: Current | None = None
        self.current: Current | None = None
        try:
            self.current = read_current(state)
        except SnapshotError as error:
            if (state / "current").exists():
                logger.warning("%s; publish again to write a new one", error.message)

    def serving(self) -> dict[str, Any] | None:
        """Return what is served: generation and versions; None before the first publish."""
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
            # Advancing may have failed after the rename: what the file says is what counts.
            try:
                now = read_current(self.state)
                named = {now.table, now.routes, now.fleet, now.status, now.holdings, now.playlists}
            except SnapshotError:
                named = set(made) if (self.state / "current").exists() else set()
            for name in set(made) - named:
                (self.state / name).unlink(missing_ok=True)
            raise

    def prepare(self, versions: Versions, made: list[str], progress: Progress = quiet) -> Current:
        """Return what `current` should say to serve these versions; generation and time are still 0.

        Fleet and weights are written where they are not there yet, and noted in `made`.
        """
        fleet_name = f"fleet.{versions.fleet_version}"
        if not self.is_written(fleet_name):
            with step("write the fleet", progress):
                made.append(fleet_name)
                write_fleet(self.state, versions.fleet_version, versions.fleet)
        with step("make room for weights", progress):
            status_name = self.status.find_room(versions.words)
            if status_name not in self.status.names:
                made.append(status_name)
        holdings = self.current.holdings if self.current else ""
        names = (versions.table, versions.routes, fleet_name, status_name)
        return Current(0, *names, 0.0, holdings, versions.playlists)

    def try_out(self, candidate: Current, table: BuiltTable | None = None, progress: Progress = quiet) -> None:
        """Map the files back, as a worker will; a table just built is asked as well. Raises SteeringError."""
        with step("map the files back", progress):
            snapshot = Snapshot(self.state, candidate)
            if table:
                prove(snapshot, table)

    def switch(
        self, candidate: Current, words: Mapping[int, int], store: Store, now: float, progress: Progress
    ) -> Current:
        """Serve what was prepared, from here on, and return `current` as it was written."""
        before = self.current
        generation = store.next_generation(before.generation if before else 0)
        current = dataclasses.replace(candidate, generation=generation, published_at=now)
        is_other_fleet = before is None or (before.fleet, before.status) != (current.fleet, current.status)
        with step("advance current", progress):
            if is_other_fleet:
                self.status.fill_empty(words)
            write_current(self.state, current)
        self.previous, self.current = before, current
        if is_other_fleet:
            self.status.use(current.status)
            self.status.clear_except(words)
        return current

    def is_written(self, fleet_name: str) -> bool:
        """Tell whether this fleet is being served from a file of this version's format.

        A file that `current` does not name may be the leaving of an import that was killed, and is written anew.
        """
        if self.current is None or self.current.fleet != fleet_name:
            return False
        try:
            return bool(StateFile(self.state / fleet_name, "fleet").format == FORMATS["fleet"])
        except SnapshotError:
            return False

    def remove_old(self, kept: list[Version]) -> None:
        """Remove the tables that are not to be kept, and the fleets and weights that go with none of the others.

        What was served until a moment ago stays, for a worker that has just read its name.
        """
        served = [item for item in (self.current, self.previous) if item]
        tables = {version.table for version in kept} | {number_of(item.table) for item in served}
        numbers = {
            "table": tables,
            "routes": tables,
            "fleet": {version.fleet for version in kept} | {number_of(item.fleet) for item in served},
            "playlists": {number_of(item.playlists) for item in served if item.playlists},
            "status": {number_of(name) for name in [*self.status.names, *(item.status for item in served)]},
            "holdings": {number_of(item.holdings) for item in served if item.holdings},
        }
        remove_unneeded(self.state, lambda kind, number: number in numbers[kind])


@contextmanager
def step(name: str, progress: Progress) -> Iterator[None]:
    """Tell that a step begins, and put its name before any error inside it."""
    progress(name)
    try:
        yield
    except SteeringError as error:
        raise type(error)(f"{name}: {error.message}", error.hint or "what is serving serves on") from error
    except OSError as error:
        about = f" {error.filename}:" if error.filename else ""
        raise SettingsError(f"{name}:{about} {error.strerror}", hint="what is serving serves on") from error
