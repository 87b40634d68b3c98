"""What is to serve next: its files are written and tried out here, by tasks that run in a child process.

A candidate that is complete is served by `HandOver.switch`. Whatever fails before that leaves what is serving
untouched, and the error begins with the step's name.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from steering.control.records.database import NAME, Transaction, reading
from steering.control.routes.build import Progress
from steering.control.routes.proof import prove
from steering.decision.snapshot import Snapshot
from steering.errors import SettingsError, SteeringError
from steering.model.fleet import Fleet
from steering.state.current import Current
from steering.state.fleet import write_fleet
from steering.state.folder import number_of
from steering.state.playlists import Playlist, write_playlists
from steering.state.table import BuiltTable

NO_FLEET: Final = Fleet((), (), (), (), ())


@dataclasses.dataclass(frozen=True, slots=True)
class Candidate:
    """What `current` is to be, but for its generation and time, and which of its files are still to be written."""

    current: Current
    lacks_fleet: bool = False
    lacks_playlists: bool = False

    def write_files(self, state: Path, fleet: Fleet, progress: Progress) -> None:
        """Write the files that are not there yet, from this fleet and the playlists on record."""
        if self.lacks_fleet:
            with step("write the fleet", progress):
                write_fleet(state, number_of(self.current.fleet), fleet)
        if self.lacks_playlists:
            with step("write the playlists", progress):
                write_registered(state, number_of(self.current.playlists))


class OverFleet:
    """A task that takes the fleet along, packed: 19,000 appliances are packed in 20 ms and pickled in 300."""

    fleet: Fleet

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "fleet": msgspec.msgpack.encode(self.fleet)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, fleet=msgspec.msgpack.decode(state["fleet"], type=Fleet))


@dataclasses.dataclass(frozen=True)
class Complete(OverFleet):
    """Write the files that a candidate lacks, and map all of them back."""

    state: Path
    candidate: Candidate
    fleet: Fleet

    def __call__(self, progress: Progress) -> None:
        """Do it; nothing else is changed."""
        self.candidate.write_files(self.state, self.fleet, progress)
        try_out(self.state, self.candidate.current, progress=progress)


def write_registered(state: Path, version: int) -> None:
    """Write the playlists on record as `playlists.<version>`."""
    with reading(state / NAME) as records:
        rows = (Playlist(*key, *msgspec.json.decode(cut)) for *key, cut in records.playlists.cuts())
        write_playlists(state, version, digest_of_registered(records), rows)


def digest_of_registered(records: Transaction) -> str:
    """Return a digest of the playlists on record; empty where there are none."""
    marks = records.playlists.marks()
    return hashlib.sha256(msgspec.json.encode(marks)).hexdigest() if marks else ""


def try_out(state: Path, current: Current, table: BuiltTable | None = None, *, progress: Progress) -> None:
    """Map the files back, as a worker will; a table that was just built is asked as well. Raises SteeringError."""
    with step("map the files back", progress):
        snapshot = Snapshot.of(state, current)
        if table:
            prove(snapshot, table)


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
