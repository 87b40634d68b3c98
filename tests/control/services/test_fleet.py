"""A change of the fleet is made as a whole or not at all, and loses nothing that other verbs do meanwhile."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from _fastpath.status_words import DISABLED
from steering.control.records import fleet as fleet_records
from steering.control.services import fleet_on_record, hand_over
from steering.control.services.control import Control
from steering.decision.snapshot import Snapshot
from steering.errors import SettingsError
from steering.model.fleet import Appliance, Fleet, Partner
from steering.settings import Settings, read_settings
from tests.support.control_fixtures import WriteFeed

HOME = "203.0.113.0/24,bom001-a,64500,0\n"


class Moments:
    """What is done whenever a long verb gives way, once there is something to do."""

    def __init__(self) -> None:
        self.do: Callable[[], Any] | None = None
        self.count = 0

    def __call__(self) -> None:
        if self.do:
            self.count += 1
            self.do()


@pytest.fixture
def moments() -> Moments:
    return Moments()


@pytest.fixture
def giving_way(
    settings: Settings, fleet: Fleet, write_feed: WriteFeed, moments: Moments, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Control]:
    """Return a control that serves the tiny fleet, and for which three objects are many."""
    monkeypatch.setattr(fleet_records, "PART", 3)
    monkeypatch.setattr(fleet_on_record, "AT_ONCE", 2)
    with Control(settings, give_way=moments) as control:
        control.fleet.replace(fleet, "test")
        control.tables.publish([write_feed(HOME)], "test", "first")
        yield control


def another(fleet: Fleet) -> Fleet:
    """Return a fleet in which hosts change, an appliance and a service leave, and partners and appliances arrive."""
    moved = tuple(dataclasses.replace(item, host=f"new-{item.host}") for item in fleet.appliances[1:])
    arriving = tuple(Appliance(f"z{i}", "bom001-a", f"z{i}.example", 10.0) for i in range(5))
    partners = (*fleet.partners, *(Partner(f"as{i}", "Other", "IN", (i,)) for i in range(1, 5)))
    return dataclasses.replace(fleet, partners=partners, appliances=(*moved, *arriving))


def hosts(fleet: Fleet) -> dict[str, str]:
    return {item.id: item.host for item in fleet.appliances}


def full_disk(*_: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def served_hosts(state: Path) -> dict[str, str]:
    """Return the hosts in the fleet file that serves."""
    file = Snapshot.map(state).fleet_file
    return {name: host for _, name, host in map(file.appliance, range(len(file.slots)))}


def test_a_control_that_is_killed_at_any_moment_leaves_the_old_fleet_or_the_new_one(
    giving_way: Control, fleet: Fleet, moments: Moments, tmp_path: Path
) -> None:
    state = giving_way.settings.state
    drained = fleet.appliances[3].id
    copies: list[Path] = []

    def copy() -> None:
        copies.append(tmp_path / f"killed-{len(copies)}")
        shutil.copytree(state, copies[-1])
        if len(copies) == 1:
            moments.do = None
            giving_way.overrides.drain([drained], "bob")
            moments.do = copy

    moments.do = copy
    giving_way.fleet.replace(another(fleet), "alice")
    moments.do = None
    old, new = hosts(fleet), hosts(another(fleet))
    left = []
    for number, folder in enumerate(copies):
        with Control(read_settings(state=folder)) as successor:
            current = successor.fleet.current()
            assert hosts(current) in (old, new)
            assert served_hosts(folder) == hosts(current)
            assert successor.on_record.version() == (2 if hosts(current) == new else 1)
            assert successor.records.fleet.first_note() is None
            numbers = [item.slot for item in current.appliances]
            assert sorted(numbers) == sorted(set(numbers))
            overridden = [row["appliance"] for row in successor.overrides.list()]
            assert overridden == ([drained] if number else [])
            left.append(hosts(current) == new)
            assert successor.fleet.replace(another(fleet), "alice")["fleet"] == 2
    assert left == sorted(left), "first the old fleet, then the new one"
    assert {False, True} == set(left)


def test_a_drain_during_a_change_counts_whenever_it_comes(
    giving_way: Control, fleet: Fleet, moments: Moments, settings: Settings
) -> None:
    tries = iter((*[item.id for item in fleet.appliances[1:]], *(f"z{i}" for i in range(5))) * 5)
    drained: set[str] = set()

    def drain() -> None:
        name = next(tries)
        moments.do = None
        if giving_way.on_record.has(name):
            giving_way.overrides.drain([name], "bob")
            drained.add(name)
        moments.do = drain

    moments.do = drain
    giving_way.fleet.replace(another(fleet), "alice")
    moments.do = None
    assert moments.count > 12
    assert {name[0] for name in drained} == {"c", "z"}, "known ones, and ones that arrive"
    snapshot = Snapshot.map(settings.state)
    words = {item.id: snapshot.status.word(item.slot) for item in giving_way.fleet.current().appliances}
    assert {name for name, word in words.items() if word & DISABLED} == drained
    assert all(words.values()), "those that arrived may serve"


def test_a_change_that_cannot_be_recorded_leaves_the_fleet_as_it_was_and_can_be_made_later(
    giving_way: Control, fleet: Fleet, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(fleet_records.FleetRepository, "note", full_disk)
        with pytest.raises(OSError, match="No space left"):
            giving_way.fleet.replace(another(fleet), "alice")
    assert hosts(giving_way.fleet.current()) == hosts(fleet) == served_hosts(settings.state)
    assert giving_way.records.fleet.read() == giving_way.fleet.current()
    assert not (settings.state / "fleet.2").exists()
    other = dataclasses.replace(fleet, appliances=fleet.appliances[:4])
    giving_way.fleet.replace(other, "alice")
    assert giving_way.records.fleet.read() == giving_way.fleet.current()
    assert hosts(giving_way.fleet.current()) == hosts(other) == served_hosts(settings.state)


def test_rows_that_could_not_be_settled_are_settled_by_the_next_change(
    giving_way: Control, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(fleet_records.FleetRepository, "settle", full_disk)
        with pytest.raises(OSError, match="No space left"):
            giving_way.fleet.replace(another(fleet), "alice")
    assert hosts(giving_way.fleet.current()) == hosts(another(fleet)), "it is on record"
    assert giving_way.records.fleet.read() != giving_way.fleet.current()
    added = dataclasses.replace(fleet.appliances[0], id="zz", host="zz.example")
    after = dataclasses.replace(another(fleet), appliances=(*another(fleet).appliances, added))
    giving_way.fleet.replace(after, "alice")
    assert giving_way.records.fleet.read() == giving_way.fleet.current()
    slots = [item.slot for item in giving_way.fleet.current().appliances]
    assert len(slots) == len(set(slots))


def test_a_change_that_could_not_be_served_is_served_when_it_is_asked_for_again(
    giving_way: Control, fleet: Fleet, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaving = giving_way.fleet.current().appliances[0]
    with monkeypatch.context() as patch:
        patch.setattr(hand_over, "write_current", full_disk)
        with pytest.raises(SettingsError, match="advance current: No space left"):
            giving_way.fleet.replace(another(fleet), "alice")
    assert served_hosts(settings.state) == hosts(fleet)
    assert Snapshot.map(settings.state).status.word(leaving.slot), "what is serving serves on"
    report = giving_way.fleet.replace(another(fleet), "alice")
    assert (report["changed"], report["serving"]["fleet"]) == (False, 2)
    assert served_hosts(settings.state) == hosts(another(fleet))
    assert Snapshot.map(settings.state).status.word(leaving.slot) == 0


def test_a_larger_file_of_weights_that_could_not_be_served_is_forgotten(
    giving_way: Control, fleet: Fleet, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = tuple(Appliance(f"x{i:04}", "bom001-a", f"x{i}.example", 1.0) for i in range(1100))
    larger = dataclasses.replace(fleet, appliances=(*fleet.appliances, *more))
    monkeypatch.setattr(fleet_records, "PART", 500)
    with monkeypatch.context() as patch:
        patch.setattr(hand_over, "write_current", full_disk)
        with pytest.raises(SettingsError, match="advance current"):
            giving_way.fleet.replace(larger, "alice")
    giving_way.overrides.drain(["c001-bom001", "x0000"], "bob")
    slots = {item.id: item.slot for item in giving_way.fleet.current().appliances}
    assert Snapshot.map(settings.state).status.word(slots["c001-bom001"]) & DISABLED
    giving_way.fleet.replace(larger, "alice")
    snapshot = Snapshot.map(settings.state)
    assert snapshot.status.slots == 4096
    assert all(snapshot.status.word(slots[name]) & DISABLED for name in ("c001-bom001", "x0000"))
    assert all(snapshot.status.word(slot) for slot in slots.values())
