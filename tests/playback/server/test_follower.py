"""Following the state folder: a publish is taken over, a bad file never is, and what serves serves on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from steering.errors import SnapshotError
from steering.playback.server.follower import RETRY_S, Follower
from steering.state.current import Current, read_current

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
