"""Changes of the fleet: a whole document, or one object. Each is on record before it serves."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from steering.control.records import fleet_objects
from steering.control.records.audit import Entry
from steering.control.services import keys
from steering.control.services.concern import Concern
from steering.errors import FeedError, SnapshotError
from steering.model.fleet import UNNUMBERED, Fleet
from steering.settings import Settings
from steering.state.keys import read_keys


class FleetService(Concern):
    """`control.fleet`. Routes are not touched by it: new clusters serve clients from the next publish on."""

    def current(self) -> Fleet:
        """Return the fleet on record, numbered."""
        return self.fleet()

    def replace(self, fleet: Fleet, who: str) -> dict[str, Any]:
        """Make a fleet the one on record and, where a table serves, the one served; report what changed."""
        return self.change(fleet, Entry(self.clock(), who, "import fleet", ""))

    def put(
        self, kind: str, name: str, row: dict[str, Any], who: str, if_match: str = "", if_none_match: str = ""
    ) -> dict[str, Any]:
        """Make or replace one object, where the caller has seen what it changes; report `made` and `row`."""
        before = fleet_objects.rows_by_id(self.current(), kind).get(name)
        subject = f"{fleet_objects.SINGULAR[kind]} {name}"
        fleet_objects.require_match(before, if_match, if_none_match, subject)
        fleet = fleet_objects.with_row(self.current(), kind, name, row)
        after = fleet_objects.find_row(fleet, kind, name)
        report = self.change(fleet, Entry(self.clock(), who, "put", subject, before, after))
        return {"made": before is None, "row": after, "serving": report["serving"]}

    def delete(self, kind: str, name: str, who: str, if_match: str = "") -> dict[str, Any]:
        """Delete one object, where the caller has seen it and no other object points at it."""
        before = fleet_objects.find_row(self.current(), kind, name)
        subject = f"{fleet_objects.SINGULAR[kind]} {name}"
        fleet_objects.require_match(before, if_match, "", subject)
        fleet = fleet_objects.without_row(self.current(), kind, name)
        return self.change(fleet, Entry(self.clock(), who, "delete", subject, before))

    def change(self, fleet: Fleet, entry: Entry) -> dict[str, Any]:
        """Make a fleet the one on record. An entry without `before` and `after` gets the counts of what changed."""
        before = self.current()
        changed = unnumbered(fleet) != unnumbered(before)
        if changed and self.hand_over.current and not fleet.appliances:
            raise FeedError("the fleet has no appliance", hint="nothing was changed; what is serving serves on")
        if changed:
            self.hand_over.serve_playlists()  # so that nothing but the fleet is written inside the transaction below
            with self.hand_over.undone_on_error() as made:
                try:
                    with self.records.transaction() as transaction:
                        transaction.fleet.replace(fleet, entry.who, self.clock())
                        self.on_record.load()
                        if entry.before is entry.after is None:
                            entry = dataclasses.replace(entry, after=changes_between(before, self.current()))
                        transaction.audit.add(entry)
                        candidate = self.hand_over.prepare_fleet(made)
                except BaseException:
                    self.on_record.load()
                    raise
                if candidate:
                    self.hand_over.switch(candidate)
            self.hand_over.remove_old()
        return {
            "fleet": self.on_record.version(),
            "changed": changed,
            **changes_between(before, self.current()),
            "warnings": warnings_of(self.settings, self.current()),
            "serving": self.hand_over.serving(),
        }


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


def unnumbered(fleet: Fleet) -> Fleet:
    """Return the fleet without the numbers of the database, to be compared."""
    return dataclasses.replace(
        fleet,
        partners=tuple(dataclasses.replace(item, number=UNNUMBERED) for item in fleet.partners),
        clusters=tuple(dataclasses.replace(item, number=UNNUMBERED) for item in fleet.clusters),
        appliances=tuple(dataclasses.replace(item, slot=UNNUMBERED) for item in fleet.appliances),
    )
