"""Following the state folder: a publish is taken over, a bad file never is, and what serves serves on."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from _fastpath.counters import Counters
from steering.decision.snapshot import Snapshot
from steering.errors import SnapshotError
from steering.model.fleet import Fleet
from steering.playback.server.connections import Connections
from steering.playback.server.follower import RETRY_S, Follower
from steering.settings import Settings
from steering.state.current import Current, read_current, write_current
from steering.state.fleet import write_fleet
from steering.state.sections import StateFile, write_sections
from tests.support.checked import sealed

Publish = Callable[..., Path]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_publish_is_taken_over_at_the_next_step(state_folder: Path, publish: Publish) -> None:
    follower = Follower(state_folder, 0.1, Clock())
    assert follower.snapshot is None
    follower.step()
    first = follower.snapshot
    assert first is not None
    assert first.table_version == 1
    follower.step()
    assert follower.snapshot is first
    publish(state_folder, version=2, generation=2)
    follower.step()
    assert follower.snapshot is not None
    assert follower.snapshot.table_version == 2
    assert json.loads(first.steer("203.0.113.9", "t", service="video"))["table"] == 1


DAMAGES: list[tuple[str, Callable[[Path], None]]] = [
    ("current absent", lambda state: (state / "current").unlink()),
    ("current torn", lambda state: (state / "current").write_bytes((state / "current").read_bytes()[:40]) and None),
    ("current names a missing file", lambda state: (state / "table.2").unlink()),
    (
        "the table cut off",
        lambda state: (state / "table.2").write_bytes((state / "table.2").read_bytes()[:-100]) and None,
    ),
    ("the table empty", lambda state: (state / "table.2").write_bytes(b"") and None),
    (
        "the table of the other byte order",
        lambda state: (state / "table.2").write_bytes(b"STEERING\1\2\3\4" + bytes(500)) and None,
    ),
    ("the weights gone", lambda state: (state / "status.1").unlink()),
]


@pytest.mark.parametrize(("name", "damage"), DAMAGES, ids=[row[0] for row in DAMAGES])
def test_what_serves_serves_on_when_the_next_is_bad(
    tmp_path: Path, publish: Publish, name: str, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    state = publish(tmp_path / "state")
    follower = Follower(state, 0.1, clock)
    follower.step()
    publish(state, version=2, generation=2)
    good = {path.name: path.read_bytes() for path in state.iterdir()}
    damage(state)
    for _ in range(3):
        clock.now += RETRY_S
        follower.step()
    assert follower.snapshot is not None
    assert follower.snapshot.table_version == 1
    assert isinstance(follower.error, SnapshotError)
    assert follower.snapshot.steer("203.0.113.9", "t", service="video")
    assert [record.message.endswith("table 1 serves on") for record in caplog.records] == [True]
    for file, data in good.items():
        (state / file).write_bytes(data)
    clock.now += RETRY_S
    follower.step()
    assert follower.snapshot.table_version == 2
    assert follower.error is None


def resealed(state: Path, old: bytes, new: bytes) -> None:
    """Replace a part of `current`, and set its checksum again."""
    path = state / "current"
    path.write_bytes(sealed(path.read_bytes().partition(b"\n")[0].replace(old, new)))


def rewritten(state: Path, kind: str, number: int, section: str, content: bytes) -> None:
    """Replace a section of a state file that `current` names; its checksums are right."""
    path = state / f"{kind}.{number}"
    sections = {name: bytes(part) for name, part in StateFile(path, kind).sections.items()}
    write_sections(path, kind, sections | {section: content})


STRANGE: list[tuple[str, Callable[[Path], object]]] = [
    ("nested deep", lambda state: (state / "current").write_bytes(sealed(b"[" * 500_000))),
    ("a generation beyond 64 bits", lambda state: resealed(state, b'"generation":2', b'"generation":' + b"9" * 40)),
    ("a generation below 0", lambda state: resealed(state, b'"generation":2', b'"generation":-2')),
    ("a time without end", lambda state: resealed(state, b'"published_at":', b'"published_at":1e308,"x":')),
    ("a folder", lambda state: ((state / "current").unlink(), (state / "current").mkdir())),
    ("a table whose meta is a list", lambda state: rewritten(state, "table", 2, "meta", b"[]")),
    ("a table whose meta is nested deep", lambda state: rewritten(state, "table", 2, "meta", b"[" * 200_000)),
    ("a table whose version is a text", lambda state: rewritten(state, "table", 2, "meta", b'{"version":"x"}')),
    ("a table whose ranking is cut", lambda state: rewritten(state, "table", 2, "ranking_entries", b"abc")),
    ("a fleet whose services are none", lambda state: rewritten(state, "fleet", 2, "services", b"{}")),
    ("a fleet whose service has no url", lambda state: rewritten(
        state, "fleet", 2, "services", b'{"version":2,"regions":[],"services":[{"id":"video"}]}')),
]  # fmt: skip


@pytest.mark.parametrize(("name", "damage"), STRANGE, ids=[row[0] for row in STRANGE])
def test_whatever_the_files_hold_the_follower_counts_a_refusal_and_goes_on(
    tmp_path: Path, publish: Publish, fleet: Fleet, name: str, damage: Callable[[Path], object]
) -> None:
    clock = Clock()
    connections = Connections(Settings(), Counters(str(tmp_path / "worker.1"), 8, writable=True))
    counters = connections.counters
    assert counters
    state = publish(tmp_path / "state")
    follower = Follower(state, 0.1, clock, take=connections.serve, refuse=connections.refuse)
    follower.step()
    publish(state, version=2, generation=2)
    write_current(state, dataclasses.replace(read_current(state), fleet=write_fleet(state, 2, fleet)))
    damage(state)
    for _ in range(3):
        clock.now += RETRY_S
        follower.step()
    assert follower.snapshot is not None
    assert follower.snapshot.table_version == 1
    assert follower.snapshot.steer("203.0.113.9", "t", service="video")
    assert counters.gauges()["refused"] == 3
    if (state / "current").is_dir():
        (state / "current").rmdir()
    publish(state, version=3, generation=3)
    follower.step()
    assert follower.snapshot.table_version == 3
    assert counters.gauges()["refused"] == 0


def test_a_snapshot_that_cannot_be_taken_over_is_a_refusal_too(state_folder: Path) -> None:
    refused = []

    def fail(snapshot: Snapshot) -> None:
        raise OverflowError("value too large to convert to uint64_t")

    follower = Follower(state_folder, 0.01, take=fail, refuse=lambda: refused.append(1))
    follower.start()
    try:
        assert refused
        assert follower.snapshot is None
        assert follower.thread is not None
        assert follower.thread.is_alive()
    finally:
        follower.stop()


def test_an_empty_folder_serves_nothing_until_something_is_published(tmp_path: Path, publish: Publish) -> None:
    follower = Follower(tmp_path / "state", 0.1)
    follower.step()
    assert follower.snapshot is None
    assert follower.error is not None
    publish(tmp_path / "state")
    follower.step()
    assert follower.snapshot is not None


def test_the_thread_follows_and_stops(state_folder: Path, publish: Publish) -> None:
    follower = Follower(state_folder, 0.01)
    follower.start()
    try:
        assert follower.snapshot is not None
        publish(state_folder, version=2, generation=2)
        deadline = time.monotonic() + 10
        while follower.snapshot.table_version != 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert follower.snapshot.table_version == 2
    finally:
        follower.stop()
    assert follower.thread is not None
    assert not follower.thread.is_alive()
    assert isinstance(read_current(state_folder), Current)
