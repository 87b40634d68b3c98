"""What is being served and how it is replaced: name the files, complete them, advance `current`, remove the old ones.

This is the one way to advance `current`. Files are written and tried out in a child process (`candidate.py`), so that
no drain waits for it. Whatever fails before `current` is advanced leaves what is serving untouched.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from steering.control.records.database import Records
from steering.control.records.versions import Published
from steering.control.routes.build import Progress, quiet
from steering.control.services.candidate import NO_FLEET, Candidate, Complete, digest_of_registered, step
from steering.control.services.fleet_on_record import FleetOnRecord
from steering.control.services.run import Run
from steering.errors import SnapshotError
from steering.settings import Settings
from steering.state.current import Current, read_current, write_current
from steering.state.folder import number_of, remove_unneeded
from steering.state.playlists import Playlists
from steering.state.sections import FORMATS, StateFile
from steering.state.status import StatusFiles, room_for

LIVE: Final = "bgp"  # the author of tables that follow live sessions

logger = logging.getLogger("steering.control")

PublishedT = TypeVar("PublishedT", bound=Published)


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class HandOver:
    """The state folder's `current` and the files it names. `store_words` stores every status word."""

    settings: Settings
    records: Records
    on_record: FleetOnRecord
    status: StatusFiles
    store_words: Callable[[], None]
    clock: Callable[[], float]
    run: Run

    def __post_init__(self) -> None:
        self.state = self.settings.state
        self.previous: Current | None = None
        self.current: Current | None = None
        try:
            self.current = read_current(self.state)
        except SnapshotError as error:
            if (self.state / "current").exists():
                logger.warning("%s; publish again to write a new one", error.message)
        self.serves_registered = self.are_served()  # by the file of playlists that `current` names

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

    @property
    def is_behind(self) -> bool:
        """Whether another fleet is served than the one on record."""
        return self.current is not None and number_of(self.current.fleet) != self.on_record.version()

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

    def prepare(self, table: str, routes: str, made: list[str]) -> Candidate:
        """Return what is to serve a table with the fleet and the playlists on record.

        The files that it lacks are added to `made`; `complete`, or a task of the caller, writes them.
        """
        version = self.on_record.version()
        fleet, status = f"fleet.{version}", self.find_room(made)
        lacks_fleet = not self.is_written(fleet)
        playlists, lacks_playlists = self.name_playlists()
        made += [fleet] * lacks_fleet + [playlists] * lacks_playlists
        holdings = self.current.holdings if self.current else ""
        plan = self.current.plan if self.current else ""
        current = Current(0, table, routes, fleet, status, 0.0, holdings, playlists, plan)
        return Candidate(current, lacks_fleet, lacks_playlists)

    def prepare_fleet(self, made: list[str]) -> Candidate | None:
        """Return what is to serve the next fleet with the table that serves; None before the first publish.

        All of its files but that of the fleet are there; its status file may lack room.
        """
        if self.current is None:
            return None
        fleet = f"fleet.{self.on_record.version() + 1}"
        made.append(fleet)
        current = dataclasses.replace(self.current, fleet=fleet, status=self.status.in_force)
        return Candidate(current, lacks_fleet=True)

    def complete(self, candidate: Candidate) -> None:
        """Write the files that a candidate lacks, and try all of them out, in a child process."""
        fleet = self.on_record.fleet if candidate.lacks_fleet else NO_FLEET
        self.run("try the files out", Complete(self.state, candidate, fleet), quiet, gently=False)

    def find_room(self, made: list[str]) -> str:
        """Return the name of a status file with room for every appliance: the one in force, or a new one."""
        with step("make room for weights", quiet):
            slots = max((appliance.slot for appliance in self.on_record.fleet.appliances), default=-1) + 1
            status = room_for(self.state, self.status.in_force, slots)
        if status not in self.status.names:
            made.append(status)
        return status

    # ---- playlists

    def name_playlists(self) -> tuple[str, bool]:
        """Return the file of the playlists on record, empty without playlists, and whether it is to be written."""
        if not self.records.playlists.any():
            return "", False
        if self.current and self.serves_registered:
            return self.current.playlists, False
        return f"playlists.{self.next_generation()}", True

    def are_served(self) -> bool:
        """Return whether the playlists on record are the ones that serve."""
        digest = digest_of_registered(self.records)
        if self.current is None or not self.current.playlists:
            return not digest
        try:
            return bool(Playlists(self.state / self.current.playlists).meta["digest"] == digest)
        except SnapshotError:
            return False

    def change_playlists(self) -> None:
        """Note that the playlists on record are about to change; `serve_playlists` follows."""
        self.serves_registered = False

    def serve_playlists(self) -> None:
        """Serve the playlists on record; before the first publish they wait for it."""
        if self.current is None or self.serves_registered:
            return
        with self.undone_on_error() as made:
            name, lacks = self.name_playlists()
            made.extend([name] * lacks)
            candidate = Candidate(dataclasses.replace(self.current, playlists=name), lacks_playlists=lacks)
            self.complete(candidate)
            self.switch(candidate.current)
        self.remove_old()

    # ---- serve

    def serve_fleet(self) -> None:
        """Serve the fleet on record with the table that serves."""
        assert self.current, "the caller has checked that a table serves"
        with self.undone_on_error() as made:
            candidate = self.prepare(self.current.table, self.current.routes, made)
            self.complete(candidate)
            self.switch(candidate.current)

    def switch_holdings(self, name: str) -> Current:
        """Serve another file of holdings, or none, with the other files that serve now."""
        assert self.current, "the caller has checked that a table serves"
        return self.switch(dataclasses.replace(self.current, holdings=name))

    def switch_plan(self, name: str) -> Current:
        """Let another fill plan be in force, or none, with the other files that serve now."""
        assert self.current, "the caller has checked that a table serves"
        return self.switch(dataclasses.replace(self.current, plan=name))

    def switch(self, candidate: Current, progress: Progress = quiet) -> Current:
        """Serve what was prepared, and return `current` as it was written.

        The status words are those of now before a worker can read them: a drain during the preparation counts.
        """
        before = self.current
        current = dataclasses.replace(candidate, generation=self.next_generation(), published_at=self.clock())
        with step("advance current", progress), self.status.using(current.status):
            if before is None or (before.fleet, before.status) != (current.fleet, current.status):
                self.store_words()
            write_current(self.state, current)
        self.previous, self.current = before, current
        if before is None or before.playlists != current.playlists:
            self.serves_registered = True
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

        The files that served until a moment ago stay, for a worker that has just read their names. Appliances that
        left the fleet are forgotten, once it is the one that serves.
        """
        if not self.is_behind:
            self.on_record.drop_absent()
        kept, forgotten = kept_versions(self.records.versions.published(), self.settings.retain)
        serving = number_of(self.current.table) if self.current else None
        if tables := [version.table for version in forgotten if version.table != serving]:
            with self.records.transaction() as transaction:
                transaction.versions.forget(tables)
        served = [item for item in (self.current, self.previous) if item]
        kept_tables = {version.table for version in kept} | {number_of(item.table) for item in served}
        plans = kept_versions(self.records.plan_versions.published(), self.settings.retain)[0]
        numbers = {
            "table": kept_tables,
            "routes": kept_tables,
            "fleet": {version.fleet for version in kept} | {number_of(item.fleet) for item in served},
            "playlists": {number_of(item.playlists) for item in served if item.playlists},
            "status": {number_of(name) for name in [*self.status.names, *(item.status for item in served)]},
            "holdings": {number_of(item.holdings) for item in served if item.holdings},
            "plan": {plan.table for plan in plans} | {number_of(item.plan) for item in served if item.plan},
        }
        # Whoever writes files of another kind removes the older ones.
        remove_unneeded(self.state, lambda kind, number: kind not in numbers or number in numbers[kind])


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
