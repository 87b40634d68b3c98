from __future__ import annotations

import dataclasses
import errno
import json
import lzma
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from _fastpath.status_words import DISABLED
from steering.control.routes.feeds import FeedSource
from steering.control.services import candidate, tasks
from steering.control.services import hand_over as handover
from steering.control.services.control import Control
from steering.decision.snapshot import Snapshot
from steering.errors import FeedError, RequestError, SettingsError, SnapshotError, SteeringError
from steering.model.fleet import Appliance, Fleet
from steering.settings import Settings, read_settings
from steering.state.current import read_current, write_current
from steering.state.table import write_table

HOME = "203.0.113.0/24,bom001-a,64500,0\n"
AWAY = "203.0.113.0/24,del001-a,64500,0\n"
WriteFeed = Callable[..., FeedSource]

CLIENT = "203.0.113.9"


def served(state: Path, address: str = CLIENT) -> list[str]:
    """Return the appliances that a client is sent to."""
    answer = json.loads(Snapshot.map(state).steer(address, "80100172", service="video"))
    return [target["appliance"] for target in answer["targets"] if "appliance" in target]


def files(state: Path) -> set[str]:
    return {path.name for path in state.iterdir() if not path.name.startswith("steering.db")} - {"lock"}


def contents(state: Path) -> dict[str, bytes]:
    """Return what workers see: every file but the database."""
    return {name: (state / name).read_bytes() for name in files(state)}


# ---- publishing


def test_a_publish_reaches_the_answers_and_is_on_record(
    serving: Control, settings: Settings, write_feed: WriteFeed
) -> None:
    assert set(served(settings.state)[:2]) == {"c001-bom001", "c002-bom001"}
    report = serving.tables.publish([write_feed(AWAY)], "alice", "moved to Delhi")
    assert set(served(settings.state)[:2]) == {"c001-del001", "c002-del001"}
    assert report["serving"] == {**report["serving"], "generation": 2, "table": 2, "fleet": 1}
    assert report["feeds"][0]["accepted"] == 1
    first, second = serving.tables.list()
    assert (first["table"], first["who"], first["why"], first["serving"]) == (2, "alice", "moved to Delhi", True)
    assert first["sources"][0]["sha256"] == report["feeds"][0]["sha256"]
    assert (second["table"], second["serving"], second["kept"]) == (1, False, True)
    json.dumps(report)


def test_a_check_changes_nothing(serving: Control, settings: Settings, write_feed: WriteFeed) -> None:
    before = contents(settings.state)
    report = serving.tables.check([write_feed(AWAY, "203.0.113.9/24,bom001-a,1,0\n")])
    assert report["counts"]["routes_v4"] == 1
    assert [(item["row"], "host bits" in item["rule"]) for item in report["feeds"][0]["refusals"]] == [(3, True)]
    assert contents(settings.state) == before
    assert len(serving.tables.list()) == 1


def test_rows_of_an_unknown_cluster_are_refused_and_the_rest_is_served(serving: Control, write_feed: WriteFeed) -> None:
    report = serving.tables.publish([write_feed(HOME, "198.51.100.0/24,nowhere,1,0\n")], "test")
    assert report["feeds"][0]["refused"] == 1
    assert report["feeds"][0]["refusals"][0]["rule"] == "a cluster is one of the fleet; there is no 'nowhere'"


def test_a_reload_reads_the_same_sources_again(serving: Control, settings: Settings, write_feed: WriteFeed) -> None:
    write_feed(AWAY)
    report = serving.tables.reload("SIGHUP")
    assert report["serving"]["table"] == 2
    assert served(settings.state)[0].endswith("del001")
    assert serving.tables.list()[0]["why"] == "reload of table 1"


def cut_off(folder: Path) -> FeedSource:
    path = folder / "routes.csv.xz"
    path.write_bytes(lzma.compress(b"prefix,cluster\n" + b"203.0.113.0/24,bom001-a\n" * 1000)[:-40])
    return FeedSource("csv", str(path))


def text(folder: Path, content: str) -> FeedSource:
    path = folder / "bad.csv"
    path.write_text(content)
    return FeedSource("csv", str(path))


BAD_FEEDS: list[tuple[str, Callable[[Path], FeedSource], str]] = [
    ("an empty file", lambda folder: text(folder, ""), "bad.csv: is empty"),
    ("a header alone", lambda folder: text(folder, "prefix,cluster\n"), "holds no route for this fleet"),
    ("no header", lambda folder: text(folder, "203.0.113.0/24,bom001-a\n"), "does not name the columns"),
    (
        "refused rows only",
        lambda folder: text(folder, "prefix,cluster\n1.2.3.0/24,x\n"),
        "the first of 1 refused rows is row 2: a cluster is one of the fleet",
    ),
    ("a last line cut off", lambda folder: text(folder, "prefix,cluster\n203.0.113.0/24,bom"), "no line end"),
    ("a cut-off xz file", cut_off, "routes.csv.xz: cut off or damaged"),
    ("no such file", lambda folder: FeedSource("csv", str(folder / "none.csv")), "No such file"),
]


@pytest.mark.parametrize(("name", "source", "expected"), BAD_FEEDS, ids=[row[0] for row in BAD_FEEDS])
def test_a_feed_that_cannot_be_used_stops_the_publish_and_what_is_serving_serves_on(
    serving: Control, settings: Settings, tmp_path: Path, name: str, source: Callable[[Path], FeedSource], expected: str
) -> None:
    before = contents(settings.state)
    with pytest.raises(FeedError) as caught:
        serving.tables.publish([source(tmp_path)], "test")
    assert expected in caught.value.message
    assert caught.value.message.startswith("read ")
    assert contents(settings.state) == before
    assert served(settings.state)[0].endswith("bom001")


def full_disk(*arguments: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


FAILURES: list[tuple[str, Any, str, Callable[..., Any], str]] = [
    (
        "the table cannot be written",
        tasks,
        "write_table",
        full_disk,
        "write the table: No space left on device",
    ),
    ("the fleet cannot be written", candidate, "write_fleet", full_disk, "write the fleet: No space left on device"),
    ("current cannot be written", handover, "write_current", full_disk, "advance current: No space left on device"),
]


@pytest.mark.parametrize(
    ("name", "module", "function", "failing", "expected"), FAILURES, ids=[row[0] for row in FAILURES]
)
def test_a_publish_that_fails_names_the_step_leaves_no_file_and_its_number_is_not_given_again(
    serving: Control,
    settings: Settings,
    write_feed: WriteFeed,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    module: Any,
    function: str,
    failing: Callable[..., Any],
    expected: str,
) -> None:
    (settings.state / "fleet.1").write_bytes(b"damaged, so that it is written anew")
    before = contents(settings.state)
    with monkeypatch.context() as patch:
        patch.setattr(module, function, failing)
        with pytest.raises(SettingsError) as caught:
            serving.tables.publish([write_feed(AWAY)], "test")
    assert caught.value.message == expected
    assert caught.value.hint == "what is serving serves on"
    after = contents(settings.state)
    after["fleet.1"] = before["fleet.1"]
    assert after == before
    assert serving.tables.publish([write_feed(AWAY)], "test")["serving"]["table"] == 3
    assert [item["table"] for item in serving.tables.list()] == [3, 1]
    assert served(settings.state)[0].endswith("del001")


def test_a_table_that_does_not_map_back_is_not_served(
    serving: Control, settings: Settings, write_feed: WriteFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(settings.state)

    def write_and_damage(state: Path, version: int, table: Any) -> tuple[str, str]:
        names = write_table(state, version, table)
        content = bytearray((state / names[0]).read_bytes())
        content[len(content) // 2] ^= 1
        (state / names[0]).write_bytes(content)
        return names

    monkeypatch.setattr(tasks, "write_table", write_and_damage)
    with pytest.raises(SnapshotError, match=r"map the files back: table\.2: the checksum of section"):
        serving.tables.publish([write_feed(AWAY)], "test")
    assert contents(settings.state) == before


def test_a_table_that_answers_otherwise_than_its_routes_is_not_served(
    serving: Control, settings: Settings, write_feed: WriteFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(settings.state)

    def write_and_forget(state: Path, version: int, table: Any) -> tuple[str, str]:
        names: tuple[str, str] = write_table(state, version, table)
        table.intervals[4].value[-1] += 1
        return names

    monkeypatch.setattr(tasks, "write_table", write_and_forget)
    with pytest.raises(SnapshotError, match=r"map the files back: table\.2: .* is in zone \d+, but by its routes in"):
        serving.tables.publish([write_feed(AWAY)], "test")
    assert contents(settings.state) == before


def test_a_failure_after_the_rename_of_current_removes_nothing_that_serves(
    serving: Control, settings: Settings, write_feed: WriteFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_and_fail(*arguments: Any) -> None:
        write_current(*arguments)
        full_disk()

    with monkeypatch.context() as patch:
        patch.setattr(handover, "write_current", write_and_fail)
        with pytest.raises(SettingsError, match="advance current"):
            serving.tables.publish([write_feed(AWAY)], "test")
    assert served(settings.state)[0].endswith("del001")
    serving.close()
    with Control(settings) as successor:
        assert [(item["table"], item["serving"]) for item in successor.tables.list()] == [(2, True), (1, False)]


NOTHING_TO_PUBLISH: list[tuple[str, Callable[[Control, FeedSource], Any], int, str]] = [
    ("no source", lambda control, _: control.tables.publish([], "test"), 400, "name at least one source"),
    ("no fleet", lambda control, source: control.tables.publish([source], "test"), 409, "the fleet is empty"),
    ("no publish before", lambda control, _: control.tables.reload("test"), 409, "nothing was published yet"),
]


@pytest.mark.parametrize(
    ("name", "verb", "status", "expected"), NOTHING_TO_PUBLISH, ids=[row[0] for row in NOTHING_TO_PUBLISH]
)
def test_what_cannot_be_published_is_refused_with_the_reason(
    control: Control,
    write_feed: WriteFeed,
    name: str,
    verb: Callable[[Control, FeedSource], Any],
    status: int,
    expected: str,
) -> None:
    with pytest.raises(RequestError, match=expected) as caught:
        verb(control, write_feed(HOME))
    assert caught.value.status == status


def test_old_tables_go_when_enough_newer_ones_are_kept(tmp_path: Path, fleet: Fleet, write_feed: WriteFeed) -> None:
    settings = read_settings(state=tmp_path / "state", retain=2)
    with Control(settings) as control:
        control.fleet.replace(fleet, "test")
        (settings.state / "forecast.7").touch()  # no part of a publish
        for feed in (HOME, AWAY, HOME, AWAY):
            control.tables.publish([write_feed(feed)], "test")
        assert files(settings.state) == {
            "current", "fleet.1", "status.1", "table.3", "routes.3", "table.4", "routes.4", "forecast.7",
        }  # fmt: skip
        assert [(item["table"], item["kept"]) for item in control.tables.list()] == [
            (4, True), (3, True), (2, False), (1, False),
        ]  # fmt: skip


# ---- the fleet


def test_importing_a_fleet_while_a_table_serves_changes_the_fleet_and_not_the_table(
    serving: Control, settings: Settings, fleet: Fleet
) -> None:
    before = read_current(settings.state)
    moved = tuple(
        dataclasses.replace(item, host=f"new-{item.host}") if item.id == "c001-bom001" else item
        for item in fleet.appliances
    )
    report = serving.fleet.replace(dataclasses.replace(fleet, appliances=moved), "alice")
    after = read_current(settings.state)
    assert (after.table, after.routes, after.fleet) == (before.table, before.routes, "fleet.2")
    assert after.generation == before.generation + 1
    assert report["appliances"] == {"count": 8, "added": 0, "removed": 0, "changed": 1}
    answer = Snapshot.map(settings.state).steer(CLIENT, "80100172", service="video")
    assert b"new-c001-bom001.cdn.example" in answer


def test_importing_the_same_fleet_changes_nothing(serving: Control, settings: Settings, fleet: Fleet) -> None:
    before = contents(settings.state)
    report = serving.fleet.replace(serving.fleet.current(), "test")
    assert (report["changed"], report["fleet"]) == (False, 1)
    assert contents(settings.state) == before


def test_an_appliance_that_leaves_is_not_picked_and_keeps_slot_and_override_for_its_return(
    serving: Control, settings: Settings, fleet: Fleet
) -> None:
    slot = {item.id: item.slot for item in serving.fleet.current().appliances}["c001-bom001"]
    serving.overrides.weight(["c001-bom001"], 5, "test")
    left = tuple(item for item in fleet.appliances if item.id != "c001-bom001")
    serving.fleet.replace(dataclasses.replace(fleet, appliances=left), "test")
    assert "c001-bom001" not in served(settings.state)
    assert Snapshot.map(settings.state).status.word(slot) == 0
    serving.fleet.replace(fleet, "test")
    assert {item.id: item.slot for item in serving.fleet.current().appliances}["c001-bom001"] == slot
    assert Snapshot.map(settings.state).status.word(slot) & 0xFFFF == 5


def test_a_fleet_without_appliances_is_not_put_in_the_place_of_one_that_serves(serving: Control, fleet: Fleet) -> None:
    with pytest.raises(FeedError, match="the fleet has no appliance"):
        serving.fleet.replace(dataclasses.replace(fleet, appliances=()), "test")


def test_an_import_that_cannot_be_written_leaves_the_record_as_it_was(
    serving: Control,
    settings: Settings,
    fleet: Fleet,
    renamed: Callable[[Fleet], Fleet],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = contents(settings.state), serving.fleet.current()
    with monkeypatch.context() as patch:
        patch.setattr(candidate, "write_fleet", full_disk)
        with pytest.raises(SettingsError, match="write the fleet: No space left"):
            serving.fleet.replace(renamed(fleet), "test")
    assert (contents(settings.state), serving.fleet.current()) == before
    assert serving.records.fleet.read() == before[1]
    assert serving.fleet.replace(renamed(fleet), "test")["changed"]


def test_an_import_on_record_that_was_not_served_is_served_by_the_next_writer(
    serving: Control,
    settings: Settings,
    fleet: Fleet,
    renamed: Callable[[Fleet], Fleet],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(handover, "write_current", full_disk)
        with pytest.raises(SettingsError, match="advance current"):
            serving.fleet.replace(renamed(fleet), "test")
    assert set(Snapshot.map(settings.state).services) == {"video"}
    serving.close()
    Control(settings).close()
    assert set(Snapshot.map(settings.state).services) == {"video", "games"}


def test_a_fleet_without_the_default_service_is_warned_about(control: Control, fleet: Fleet) -> None:
    assert control.fleet.replace(fleet, "test")["warnings"] == []
    other = dataclasses.replace(fleet, services=(dataclasses.replace(fleet.services[0], id="games"),))
    assert "the fleet has no service 'video'" in control.fleet.replace(other, "test")["warnings"][0]


def test_when_slots_run_out_a_larger_file_is_served_and_both_are_written(
    serving: Control, settings: Settings, fleet: Fleet
) -> None:
    old = Snapshot.map(settings.state)
    serving.overrides.drain(["c002-bom001"], "test")
    more = tuple(Appliance(f"x{i:05}", "bom001-a", f"x{i}.example", 1.0) for i in range(1100))
    serving.fleet.replace(dataclasses.replace(fleet, appliances=(*fleet.appliances, *more)), "test")
    new = Snapshot.map(settings.state)
    assert (old.current.status, new.current.status) == ("status.1", "status.2")
    assert new.status.slots == 4096
    slots = {item.id: item.slot for item in serving.fleet.current().appliances}
    serving.overrides.drain(["c001-bom001", "x00000"], "test")
    serving.overrides.enable(["c002-bom001"], "test")
    for snapshot in (old, new):
        assert snapshot.status.word(slots["c001-bom001"]) & DISABLED
        assert not snapshot.status.word(slots["c002-bom001"]) & DISABLED
    assert new.status.word(slots["x00000"]) & DISABLED
    assert {"status.1", "status.2"} <= files(settings.state)


# ---- overrides


def test_draining_and_enabling_change_the_next_pick_of_who_has_the_snapshot_mapped(
    serving: Control, settings: Settings
) -> None:
    snapshot = Snapshot.map(settings.state)

    def first_two() -> set[str]:
        answer = json.loads(snapshot.steer(CLIENT, "t", service="video"))
        return {target["appliance"] for target in answer["targets"][:2]}

    assert first_two() == {"c001-bom001", "c002-bom001"}
    report = serving.overrides.drain(["c001-bom001"], "alice")
    assert report["appliances"] == [
        {"appliance": "c001-bom001", "enabled": False, "weight": 1000, "set": False, "health_source": ""}
    ]
    assert "c001-bom001" not in first_two()
    serving.overrides.enable(["c001-bom001"], "alice")
    assert first_two() == {"c001-bom001", "c002-bom001"}
    serving.overrides.weight(["c001-bom001"], 0, "alice")
    assert "c001-bom001" not in first_two()
    serving.overrides.weight(["c001-bom001"], None, "alice")
    assert first_two() == {"c001-bom001", "c002-bom001"}


def test_overrides_survive_publishes_imports_and_restarts(
    serving: Control, settings: Settings, fleet: Fleet, renamed: Callable[[Fleet], Fleet], write_feed: WriteFeed
) -> None:
    serving.overrides.drain(["c001-bom001"], "test")
    serving.overrides.weight(["c002-bom001"], 7, "test")

    def words() -> tuple[bool, int]:
        slots = {item.id: item.slot for item in serving.fleet.current().appliances}
        word = Snapshot.map(settings.state).status.word
        return bool(word(slots["c001-bom001"]) & DISABLED), word(slots["c002-bom001"]) & 0xFFFF

    assert words() == (True, 7)
    serving.tables.publish([write_feed(AWAY)], "test")
    assert words() == (True, 7)
    serving.fleet.replace(renamed(fleet), "test")
    assert words() == (True, 7)
    serving.close()
    current = read_current(settings.state)
    image = (settings.state / current.status).read_bytes()
    (settings.state / current.status).write_bytes(image[:64] + bytes(len(image) - 64))
    with Control(settings):
        assert words() == (True, 7)


REFUSED_OVERRIDES: list[tuple[str, Callable[[Control], Any], int, str, str]] = [
    (
        "an unknown appliance",
        lambda w: w.overrides.drain(["c001-bom01"], "t"),
        404,
        "'c001-bom01'",
        "did you mean c001-bom001?",
    ),
    ("one unknown of two", lambda w: w.overrides.drain(["c001-bom001", "zz"], "t"), 404, "'zz'", ""),
    (
        "a weight of 70000",
        lambda w: w.overrides.weight(["c001-bom001"], 70000, "t"),
        400,
        "a number from 0 to 65535",
        "",
    ),
    ("a weight below 0", lambda w: w.overrides.weight(["c001-bom001"], -1, "t"), 400, "a number from 0 to 65535", ""),
    ("nobody", lambda w: w.overrides.drain([], "t"), 400, "at least one appliance", ""),
]


@pytest.mark.parametrize(
    ("name", "verb", "status", "expected", "hint"), REFUSED_OVERRIDES, ids=[row[0] for row in REFUSED_OVERRIDES]
)
def test_a_override_that_cannot_be_is_refused_whole(
    serving: Control,
    settings: Settings,
    name: str,
    verb: Callable[[Control], Any],
    status: int,
    expected: str,
    hint: str,
) -> None:
    before = contents(settings.state)
    with pytest.raises(RequestError) as caught:
        verb(serving)
    assert (caught.value.status, caught.value.hint) == (status, hint)
    assert expected in caught.value.message
    assert contents(settings.state) == before
    assert serving.records.overrides.all() == {}


def test_overrides_before_the_first_publish_hold_from_it_on(
    control: Control, settings: Settings, fleet: Fleet, write_feed: WriteFeed
) -> None:
    control.fleet.replace(fleet, "test")
    assert control.overrides.drain(["c001-bom001"], "test")["serving"] is None
    control.tables.publish([write_feed(HOME)], "test")
    assert served(settings.state)[0] == "c002-bom001"


# ---- the folder


def test_the_state_folder_and_all_in_it_is_for_its_user_only(serving: Control, settings: Settings) -> None:
    assert stat.S_IMODE(settings.state.stat().st_mode) == 0o700
    for path in settings.state.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_folder_that_others_may_write_is_refused(settings: Settings, mode: int) -> None:
    settings.state.mkdir()
    settings.state.chmod(mode)
    with pytest.raises(SettingsError, match="lets others write in it") as caught:
        Control(settings)
    assert caught.value.hint == f"chmod 700 {settings.state}"
    assert list(settings.state.iterdir()) == []


def test_a_folder_of_another_user_is_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.state.mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: settings.state.stat().st_uid + 1)
    with pytest.raises(SettingsError, match="belongs to user"):
        Control(settings)


def test_a_file_in_the_place_of_the_folder_is_refused(settings: Settings) -> None:
    settings.state.write_text("")
    with pytest.raises(SettingsError, match="File exists"):
        Control(settings)


def test_there_is_one_writer_at_a_time(control: Control, settings: Settings) -> None:
    with pytest.raises(SettingsError, match=f"process {os.getpid()} holds its lock"):
        Control(settings)
    control.close()
    Control(settings).close()


def test_a_writer_that_fails_to_open_lets_go_of_the_lock(settings: Settings) -> None:
    settings.state.mkdir(mode=0o700)
    (settings.state / "steering.db").write_bytes(b"not a database " * 100)
    for _ in range(2):
        with pytest.raises(SettingsError, match="file is not a database"):
            Control(settings)


def test_files_that_a_killed_writer_left_are_removed(serving: Control, settings: Settings) -> None:
    serving.close()
    before = contents(settings.state)
    for name in (".table.9.4711", ".current.12", "table.9", "routes.9", "fleet.7", "status.8"):
        (settings.state / name).write_bytes(b"half")
    (settings.state / "notes.txt").write_bytes(b"not ours")
    Control(settings).close()
    assert contents(settings.state) == {**before, "notes.txt": b"not ours"}


def test_a_fleet_that_a_killed_import_left_is_not_taken_for_the_one_on_record(
    serving: Control, settings: Settings, fleet: Fleet, renamed: Callable[[Fleet], Fleet]
) -> None:
    serving.fleet.replace(renamed(fleet), "test")
    stranger = (settings.state / "fleet.2").read_bytes()
    serving.fleet.replace(fleet, "test")
    (settings.state / "fleet.4").write_bytes(stranger)
    changed = dataclasses.replace(fleet, services=(dataclasses.replace(fleet.services[0], ttl_s=60),))
    assert serving.fleet.replace(changed, "test")["fleet"] == 4
    assert set(Snapshot.map(settings.state).services) == {"video"}


def test_a_lost_database_is_not_replaced_by_one_that_gives_numbers_twice(serving: Control, settings: Settings) -> None:
    serving.close()
    for path in settings.state.glob("steering.db*"):
        path.unlink()
    with pytest.raises(SettingsError, match="is lost") as caught:
        Control(settings)
    assert "backup" in caught.value.hint


def test_an_unchanged_feed_keeps_the_version(serving: Control, settings: Settings, write_feed: WriteFeed) -> None:
    before, entries = read_current(settings.state), len(serving.audit.list())
    for publish in (lambda: serving.tables.publish([write_feed(HOME)], "ann"), lambda: serving.tables.reload("ann")):
        report = publish()
        assert (report["unchanged"], report["serving"]["table"]) == (True, 1)
        assert report["counts"]["routes_v4"]
        assert read_current(settings.state) == before
        assert [row["table"] for row in serving.tables.list()] == [1]
    assert len(serving.audit.list()) == entries
    report = serving.tables.publish([write_feed(AWAY)], "ann")
    assert (report["unchanged"], report["serving"]["table"]) == (False, 2)


def test_the_order_in_which_feeds_are_named_changes_nothing(serving: Control, write_feed: WriteFeed) -> None:
    one, two = write_feed(HOME), write_feed(AWAY, HOME.replace("bom001-a", "del001-a"), name="other.csv")
    first = serving.tables.publish([one, two], "ann")
    assert first["unchanged"] is False
    for sources in ([two, one], [one, two, one], [two, two, one]):
        report = serving.tables.publish(sources, "ann")
        assert (report["unchanged"], report["serving"]["table"]) == (True, first["serving"]["table"])
    assert serving.tables.reload("ann")["unchanged"]


def test_what_was_published_past_a_guard_is_unchanged_too(serving: Control, write_feed: WriteFeed) -> None:
    serving.tables.publish([write_feed(AWAY)], "ann")
    with_settings(serving, guard_refused=0.0001, guard_from=0)
    refused = write_feed(AWAY + "300.0.0.0/8,bom001-a,1,0\n")
    with pytest.raises(FeedError, match="refused"):
        serving.tables.publish([refused], "ann")
    assert serving.tables.publish([refused], "ann", force="known")["unchanged"] is False
    assert serving.tables.publish([refused], "ann")["unchanged"] is True


CHANGED: list[tuple[str, Callable[[Control, WriteFeed], Any]]] = [
    ("another attribute", lambda control, feed: control.tables.publish([feed(HOME.replace(",0\n", ",7\n"))], "ann")),
    ("a refused row more", lambda control, feed: control.tables.publish([feed(HOME + "300.0.0.0/8,x,1,0\n")], "ann")),
    ("a reason to", lambda control, feed: control.tables.publish([feed(HOME)], "ann", force="a drill")),
    ("a canary", lambda control, feed: control.tables.publish([feed(HOME)], "ann", canary=0.5)),
    ("after a rollback", lambda control, feed: (
        control.tables.publish([feed(AWAY)], "ann"), control.tables.rollback(1, "ann"), control.tables.unpin("ann"),
        control.tables.publish([feed(HOME)], "ann"))[-1]),
    ("with a pin, which it removes", lambda control, feed: (
        control.tables.pin("ann"), control.tables.publish([feed(HOME)], "ann"))[-1]),
    ("another file", lambda control, feed: control.tables.publish(
        [FeedSource("csv", str(shutil.copy(feed(HOME).path, control.settings.state.parent / "copy.csv")))], "ann")),
    ("another ranking policy", lambda control, feed: with_settings(
        control, ranking_policy=("prefix", "class")).tables.publish([feed(HOME)], "ann")),
]  # fmt: skip


def with_settings(control: Control, **changes: Any) -> Control:
    control.settings = control.tables.settings = control.settings.model_copy(update=changes)
    return control


@pytest.mark.parametrize(("name", "publish"), CHANGED, ids=[row[0] for row in CHANGED])
def test_whatever_else_changed_makes_a_version(
    serving: Control, write_feed: WriteFeed, name: str, publish: Callable[[Control, WriteFeed], Any]
) -> None:
    report = publish(serving, write_feed)
    assert report["unchanged"] is False
    assert report["serving"]["table"] > 1
    assert serving.records.pins.get() is None or name == "a canary"


DAMAGES: list[tuple[str, str, bytes]] = [
    ("torn current", "current", b'{"generation":'),
    ("a table that is none", "table.1", b"nothing"),
    ("weights that are none", "status.1", b"nothing"),
    ("a fleet that is none", "fleet.1", b"nothing"),
]


@pytest.mark.parametrize(("name", "file", "content"), DAMAGES, ids=[row[0] for row in DAMAGES])
def test_a_damaged_folder_is_mended_by_the_next_publish(
    serving: Control, settings: Settings, name: str, file: str, content: bytes
) -> None:
    serving.close()
    generation = read_current(settings.state).generation
    (settings.state / file).write_bytes(content)
    with Control(settings) as successor:
        with pytest.raises(SteeringError):
            Snapshot.map(settings.state)
        assert successor.tables.reload("test")["serving"]["generation"] >= generation
        Snapshot.map(settings.state)
    assert served(settings.state)[0].endswith("bom001")


def test_a_publish_after_a_restore_of_an_old_database_overwrites_no_table(
    serving: Control, settings: Settings, write_feed: WriteFeed
) -> None:
    serving.close()
    backup = (settings.state / "steering.db").read_bytes()
    with Control(settings) as successor:
        successor.tables.publish([write_feed(AWAY)], "test")
    (settings.state / "steering.db").write_bytes(backup)
    with Control(settings) as restored:
        assert restored.tables.publish([write_feed(HOME)], "test")["serving"]["table"] == 3
