"""Changes of the fleet: a whole document, or one object. Each is on record before it serves.

What takes long is done in a child process against the fleet on record, which no other verb changes meanwhile:

    wanted ─> read and checked ─> numbered ─> the parts that differ, and the file `fleet.<version>`, tried out
           ─> on record ─> registry and holdings, some at a time ─> `current` ─> rows in their tables, part by part
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from steering.control.records import fleet_objects
from steering.control.records.audit import Entry
from steering.control.records.database import NAME, reading
from steering.control.records.documents import parse_fleet
from steering.control.records.fleet import numbered, parts_between
from steering.control.routes.build import Progress, quiet
from steering.control.services import keys
from steering.control.services.candidate import Candidate, OverFleet, try_out
from steering.control.services.concern import Concern
from steering.errors import FeedError, SnapshotError
from steering.model.fleet import Fleet
from steering.settings import Settings
from steering.state.keys import read_keys
from steering.state.status import room_for

Change = Callable[[Fleet], Fleet]  # returns what the fleet on record is to become


@dataclasses.dataclass(frozen=True, slots=True)
class Prepared:
    """What a change of the fleet is: packed parts, none where nothing differs, and how many objects changed.

    `row` is the object that was asked for, `status` the file of weights that has room for all slots.
    """

    parts: Sequence[bytes]
    counts: dict[str, dict[str, int]]
    row: dict[str, Any] | None
    status: str = ""


@dataclasses.dataclass(frozen=True)
class PrepareFleet(OverFleet):
    """Work out what a change of the fleet on record is; with a candidate, write the files for it and try them out.

    `subject` is the kind and the id of the object that is changed, empty for a whole fleet.
    """

    state: Path
    fleet: Fleet
    change: Change
    subject: tuple[str, ...]
    candidate: Candidate | None

    def __call__(self, progress: Progress) -> Prepared:
        """Return the parts that differ. Raises FeedError for a broken rule."""
        wanted = self.change(self.fleet)
        with reading(self.state / NAME) as records:
            after = numbered(wanted, records.fleet.numbers)
        parts = [part.pack() for part in parts_between(self.fleet, after)]
        row = fleet_objects.find(after, *self.subject) if self.subject else None
        prepared = Prepared(parts, changes_between(self.fleet, after), row)
        if not parts or self.candidate is None:
            return prepared
        if not after.appliances:
            raise FeedError("the fleet has no appliance", hint="nothing was changed; what is serving serves on")
        current = self.candidate.current
        self.candidate.write_files(self.state, after, progress)
        slots = max(appliance.slot for appliance in after.appliances) + 1
        current = dataclasses.replace(current, status=room_for(self.state, current.status, slots))
        try_out(self.state, current, progress=progress)
        return dataclasses.replace(prepared, status=current.status)


def read_document(_: Fleet, *, document: bytes) -> Fleet:
    """Return the fleet of a document; with `functools.partial` the change to it."""
    return parse_fleet(document)


def use_fleet(_: Fleet, *, fleet: Fleet) -> Fleet:
    """Return a fleet; with `functools.partial` the change to it."""
    return fleet


class FleetService(Concern):
    """`control.fleet`. Routes are not touched by it: new clusters serve clients from the next publish on."""

    def current(self) -> Fleet:
        """Return the fleet on record, numbered."""
        return self.fleet()

    def replace(self, fleet: Fleet | bytes, who: str) -> dict[str, Any]:
        """Make a fleet, or its document, the one on record and, where a table serves, the one served.

        Reports what changed.
        """
        if isinstance(fleet, bytes):
            change: Change = functools.partial(read_document, document=fleet)
        else:
            change = functools.partial(use_fleet, fleet=fleet)
        report, _ = self.change(change, Entry(self.clock(), who, "import fleet", ""))
        return report

    def put(
        self, kind: str, name: str, row: dict[str, Any], who: str, if_match: str = "", if_none_match: str = ""
    ) -> dict[str, Any]:
        """Make or replace one object, where the caller has seen what it changes; report `made` and `row`."""
        before = fleet_objects.find(self.current(), kind, name)
        subject = f"{fleet_objects.SINGULAR[kind]} {name}"
        fleet_objects.require_match(before, if_match, if_none_match, subject)
        change = functools.partial(fleet_objects.with_row, kind=kind, name=name, row=row)
        report, after = self.change(change, Entry(self.clock(), who, "put", subject, before), kind, name)
        return {"made": before is None, "row": after, "serving": report["serving"]}

    def delete(self, kind: str, name: str, who: str, if_match: str = "") -> dict[str, Any]:
        """Delete one object, where the caller has seen it and no other object points at it."""
        before = fleet_objects.find_row(self.current(), kind, name)
        subject = f"{fleet_objects.SINGULAR[kind]} {name}"
        fleet_objects.require_match(before, if_match, "", subject)
        change = functools.partial(fleet_objects.without_row, kind=kind, name=name)
        report, _ = self.change(change, Entry(self.clock(), who, "delete", subject, before), kind, name)
        return report

    def change(self, change: Change, entry: Entry, *subject: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Change the fleet on record; return the report, and the object `subject` (kind and id) as it is then.

        The entry of the audit log gets that object, or without a subject the counts of what changed.
        """
        self.on_record.settle()  # so that the task reads all numbers
        with self.hand_over.undone_on_error() as made:
            candidate = self.hand_over.prepare_fleet(made)
            task = PrepareFleet(self.state, self.current(), change, subject, candidate)
            prepared = self.run("prepare the fleet", task, quiet, gently=False)
            if prepared.parts:
                entry = dataclasses.replace(entry, after=prepared.row if subject else prepared.counts)
                self.on_record.change(prepared.parts, entry)
                self.give_way()
                if candidate:
                    made.append(prepared.status)
                    self.hand_over.switch(dataclasses.replace(candidate.current, status=prepared.status))
        if not prepared.parts and self.hand_over.is_behind:
            self.hand_over.serve_fleet()  # the change that could not be served is asked for again
        self.give_way()
        self.on_record.settle()
        self.hand_over.remove_old()
        self.give_way()
        report = {
            "fleet": self.on_record.version(),
            "changed": bool(prepared.parts),
            **prepared.counts,
            "warnings": warnings_of(self.settings, self.current()),
            "serving": self.hand_over.serving(),
        }
        return report, prepared.row


def warnings_of(settings: Settings, fleet: Fleet) -> list[str]:
    """Return what an operator should mend in a fleet."""
    warnings = []
    if all(service.id != settings.default_service for service in fleet.services):
        warnings.append(
            f"the fleet has no service {settings.default_service!r}: requests that name no service are refused"
            " (setting default_service)"
        )
    try:
        return warnings + keys.warnings_of(read_keys(settings.state), fleet.services)
    except SnapshotError as error:
        return [*warnings, error.message]


def changes_between(before: Fleet, after: Fleet) -> dict[str, dict[str, int]]:
    """Return how many objects of each kind there are, and how many were added, removed and changed."""
    return {
        field.name: change_of(getattr(before, field.name), getattr(after, field.name))
        for field in dataclasses.fields(Fleet)
    }


def change_of(before: Sequence[Any], after: Sequence[Any]) -> dict[str, int]:
    """Return how many objects there are now, and how many were added, removed and changed."""
    old, new = {item.id: item for item in before}, {item.id: item for item in after}
    return {
        "count": len(new),
        "added": len(new.keys() - old.keys()),
        "removed": len(old.keys() - new.keys()),
        "changed": sum(old[name] != new[name] for name in new.keys() & old.keys()),
    }
