"""A lost or damaged database: playback starts from the folder alone, control says what is lost, a restore mends it."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from steering.control.records.database import NAME
from steering.control.remote import RemoteControl, open_control
from steering.control.services.backup import back_up, restore
from steering.control.services.control import Control
from steering.errors import SettingsError
from steering.model.fleet import Fleet
from steering.settings import read_settings
from steering.state.folder import SOCKET
from tests.support.processes import publish_tiny_fleet, serving, until


def overwritten(path: Path, start: int, length: int) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(random.Random(1).randbytes(length))


def execute(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()


def truncate(path: Path) -> None:
    execute(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    os.truncate(path, path.stat().st_size // 2)


LOSSES: list[tuple[str, Callable[[Path], object], str]] = [
    ("gone", lambda path: path.unlink(), "is lost"),
    ("empty", lambda path: path.write_bytes(b""), "is lost"),
    ("another file", lambda path: path.write_bytes(b"no database at all" * 900), "is damaged"),
    ("its first page damaged", lambda path: overwritten(path, 0, 4096), "is damaged"),
    ("all pages but the first damaged", lambda path: overwritten(path, 4096, path.stat().st_size - 4096), "is damaged"),
    ("cut off", truncate, "is damaged"),
    ("a folder", lambda path: (path.unlink(), path.mkdir()), "Is a directory"),
    ("of another version", lambda path: execute(path, "PRAGMA user_version = 77"), "has schema 77"),
    ("without a table", lambda path: execute(path, "DROP TABLE overrides"), "is damaged"),
    ("without its fleet", lambda path: execute(path, "DELETE FROM fleets"), "knows of no fleet"),
    ("with a row that is none", lambda path: execute(path, "UPDATE partners SET asns = 'x'"), "is damaged"),
    ("with a service that is none", lambda path: execute(path, "UPDATE services SET fields = '{}'"), "is damaged"),
    ("without numbers", lambda path: execute(path, "DELETE FROM numbers"), "is damaged"),
]


@pytest.mark.parametrize(("lose", "reason"), [row[1:] for row in LOSSES], ids=[row[0] for row in LOSSES])
def test_control_says_what_is_lost_and_how_to_restore(
    tmp_path: Path, fleet: Fleet, lose: Callable[[Path], object], reason: str
) -> None:
    state = publish_tiny_fleet(tmp_path, fleet)
    lose(state / NAME)
    before = {path.name for path in state.iterdir()}
    settings = read_settings(state=state)
    with pytest.raises(SettingsError) as caught:
        Control(settings)
    assert caught.value.message.startswith(f"{state / NAME}: ")
    assert reason in caught.value.message
    assert "steering restore BACKUP" in caught.value.hint or "run the version" in caught.value.hint
    assert {path.name for path in state.iterdir()} - {f"{NAME}-wal", f"{NAME}-shm"} == before


@pytest.mark.parametrize(
    ("lose", "reason"), [LOSSES[0][1:], LOSSES[4][1:], LOSSES[7][1:]], ids=["gone", "damaged", "newer"]
)
def test_playback_starts_from_the_folder_alone_and_a_restore_brings_control_back(
    tmp_path: Path, fleet: Fleet, lose: Callable[[Path], object], reason: str
) -> None:
    state = publish_tiny_fleet(tmp_path, fleet)
    back_up(state, tmp_path / "backup.tar")
    lose(state / NAME)
    with serving(state) as service:
        answer = service.steer()
        assert answer["targets"]
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(state / SOCKET)), base_url="http://control") as asking:
            for path in ("/healthz", "/v1/tables", "/v1/reports"):
                refused = asking.get(path)
                assert (refused.status_code, refused.headers["content-type"]) == (503, "application/problem+json")
                assert reason in refused.json()["detail"]
                assert refused.json()["hint"]
        with pytest.raises(SettingsError, match=reason):
            open_control(read_settings(state=state))
        aside = restore(state, tmp_path / "backup.tar", "ann")["aside"]
        assert service.steer()["targets"] == answer["targets"]
        remote = RemoteControl(read_settings(state=state))
        until(remote.answers)
        remote.overrides.drain([answer["targets"][0]["appliance"]], "ann")
        drained = answer["targets"][0]
        until(lambda: drained not in service.steer()["targets"])
        remote.close()
        assert (Path(aside) / "worker.1").exists()
        assert (state / "worker.1").exists()


def test_without_a_published_table_a_damaged_database_stops_the_start(tmp_path: Path, fleet: Fleet) -> None:
    state = publish_tiny_fleet(tmp_path, fleet)
    (state / NAME).write_bytes(b"no database at all" * 900)
    (state / "table.1").unlink()
    with pytest.raises(AssertionError, match="is damaged"), serving(state):
        pass
