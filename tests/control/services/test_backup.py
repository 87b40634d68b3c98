"""A backup has what is needed to serve again; a restore checks it first, and keeps what was there aside."""

from __future__ import annotations

import io
import os
import shutil
import sqlite3
import stat
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from steering.control.records.database import NAME, Records
from steering.control.routes.feeds import FeedSource
from steering.control.services import backup
from steering.control.services.backup import back_up, restore
from steering.control.services.control import Control
from steering.decision.explain import explain
from steering.decision.snapshot import Snapshot
from steering.errors import SettingsError
from steering.model.fleet import Fleet
from steering.settings import Settings
from steering.state.current import read_current
from steering.state.folder import SOCKET
from steering.state.keys import Key, write_keys
from tests.support.checked import sealed
from tests.support.processes import publish_tiny_fleet
from tests.support.processes import serving as serving_of

WriteFeed = Callable[..., FeedSource]
NOW = 1_750_000_000.0


@pytest.fixture
def taken(serving: Control, tmp_path: Path) -> Path:
    """Return a backup of a service with a override, a window and a token on record."""
    serving.overrides.drain(["c001-bom001"], "ann")
    serving.maintenance.add("site", "del001", None, serving.clock() + 86_400, "ann", "new disks")
    serving.tokens.make("ops", "ci", "ann")
    back_up(serving.settings.state, tmp_path / "backup.tar")
    return tmp_path / "backup.tar"


def rewritten(source: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """Return a copy of a backup in which files were changed."""
    with tarfile.open(source) as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    change(files)
    target = source.with_name("changed.tar")
    with tarfile.open(target, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return target


def files_of(state: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in state.iterdir() if path.is_file() and path.name != "lock"}


def test_after_the_loss_of_the_folder_a_restored_one_answers_the_same_and_remembers(
    serving: Control, taken: Path, settings: Settings
) -> None:
    before = explain(Snapshot.map(settings.state), "203.0.113.7", "t", service="video", session="", n=3)
    serving.close()
    shutil.rmtree(settings.state)
    report = restore(settings.state, taken, "bob")
    assert (report["appliances"], report["tokens"], report["table"], report["aside"]) == (8, 1, 1, None)
    after = explain(Snapshot.map(settings.state), "203.0.113.7", "t", service="video", session="", n=3)
    assert after["targets"] == before["targets"]
    assert stat.S_IMODE(settings.state.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in settings.state.iterdir())
    with Control(settings) as control:
        assert [row["appliance"] for row in control.overrides.list()] == ["c001-bom001"]
        assert [(row["subject"], row["state"]) for row in control.maintenance.list()] == [("del001", "on")]
        assert [row["name"] for row in control.tokens.list()] == ["ci"]
        entry = control.audit.list(1)[0]
        assert (entry["who"], entry["what"], entry["subject"]) == ("bob", "restore", "backup.tar")
        assert control.tables.reload("bob")["unchanged"]
        (feed,), _ = control.tables.sources()
        Path(feed.path).write_text("prefix,cluster\n203.0.113.0/24,bom002-a\n")
        assert control.tables.reload("bob")["serving"]["table"] == 2


def test_a_whole_service_serves_again_after_the_loss_of_its_folder(tmp_path: Path, fleet: Fleet) -> None:
    state = publish_tiny_fleet(tmp_path, fleet)
    with serving_of(state) as first:
        answer = first.steer()
        back_up(state, tmp_path / "backup.tar")
    shutil.rmtree(state)
    (tmp_path / "routes.csv").unlink()  # its feed is lost, too
    restore(state, tmp_path / "backup.tar", "bob")
    with serving_of(state) as second:
        assert second.steer() == answer


def test_it_is_one_file_for_its_owner_alone_with_what_is_served_and_nothing_else(taken: Path, serving: Control) -> None:
    assert stat.S_IMODE(taken.stat().st_mode) == 0o600
    with tarfile.open(taken) as tar:
        assert set(tar.getnames()) == {NAME, "current", "table.1", "routes.1", "fleet.1", "status.1"}
    assert [path.name for path in taken.parent.iterdir() if "backup" in path.name] == ["backup.tar"]


def test_a_backup_brings_its_keys_back_and_one_from_before_leaves_those_that_are_there(
    taken: Path, serving: Control, settings: Settings
) -> None:
    def restored(source: Path) -> list[str]:
        restore(settings.state, source, "bob")
        with Control(settings) as control:
            return [row["id"] for row in control.keys.list()]

    secret = serving.keys.make("k1", "alice")["secret"]
    later = taken.with_name("later.tar")
    assert secret not in str(back_up(serving.settings.state, later))
    serving.keys.make("k2", "alice")
    serving.close()
    assert restored(taken) == ["k1", "k2"]
    assert restored(later) == ["k1"]


def test_a_backup_during_writes_is_whole(serving: Control, tmp_path: Path) -> None:
    """Overrides go on while backups are taken; each backup has all that was acknowledged before it was begun."""
    done = threading.Event()
    counts: list[int] = []

    def take() -> None:
        for number in range(8):
            acknowledged = len(counts)
            back_up(serving.settings.state, tmp_path / f"{number}.tar")
            restore(tmp_path / f"restored{number}", tmp_path / f"{number}.tar", "test")
            records = Records(tmp_path / f"restored{number}" / NAME)
            weight = records.overrides.all()["c001-bom001"].weight if acknowledged else 0
            records.close()
            assert weight is not None
            assert weight >= acknowledged
        done.set()

    taking = threading.Thread(target=take)
    taking.start()
    while taking.is_alive():
        serving.overrides.weight(["c001-bom001"], len(counts) + 1, "test")
        counts.append(1)
    taking.join()
    assert done.is_set()


def test_a_publish_in_the_middle_does_not_take_a_file_away(
    serving: Control, write_feed: WriteFeed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = backup.names_of

    def publish_meanwhile(*arguments: object) -> list[str]:
        names = whole(*arguments)  # type: ignore[arg-type]
        if (generation := read_current(serving.settings.state).generation) < 4:
            serving.tables.publish([write_feed(f"203.0.113.0/24,lhr001-a,64500,{generation}\n")], "test")
        (serving.settings.state / "table.1").unlink(missing_ok=True)
        return names

    monkeypatch.setattr(backup, "names_of", publish_meanwhile)
    report = back_up(serving.settings.state, tmp_path / "backup.tar")
    with tarfile.open(tmp_path / "backup.tar") as tar:
        assert report["files"].keys() == set(tar.getnames())
    assert restore(tmp_path / "other", tmp_path / "backup.tar", "test")["table"] == 4


def test_of_a_canary_both_tables_come_along(serving: Control, write_feed: WriteFeed, tmp_path: Path) -> None:
    serving.tables.publish([write_feed("203.0.113.0/24,lhr001-a,64500,0\n")], "test", canary=0.5)
    back_up(serving.settings.state, tmp_path / "backup.tar")
    restore(tmp_path / "other", tmp_path / "backup.tar", "test")
    for verb, table in (("withdraw", 1), ("promote", 2)):
        shutil.copytree(tmp_path / "other", tmp_path / verb)
        with Control(serving.settings.model_copy(update={"state": tmp_path / verb})) as control:
            assert getattr(control.tables, verb)("test")["serving"]["table"] == table


def test_records_alone_are_published_again_from_their_feeds(serving: Control, taken: Path, tmp_path: Path) -> None:
    back_up(serving.settings.state, tmp_path / "records.tar", records_only=True)
    for source, alone in ((tmp_path / "records.tar", False), (taken, True)):
        state = tmp_path / f"alone{alone}"
        assert restore(state, source, "test", records_only=alone)["table"] is None
        assert not (state / "current").exists()
        with Control(serving.settings.model_copy(update={"state": state})) as control:
            assert control.tables.reload("test")["serving"]["table"] == 2


@pytest.mark.parametrize("records_only", [False, True])
def test_what_urls_are_signed_with_comes_along(serving: Control, tmp_path: Path, records_only: bool) -> None:
    write_keys(serving.settings.state, {"k1": Key("s" * 43, 1.0)})
    written = (serving.settings.state / "keys").read_bytes()
    back_up(serving.settings.state, tmp_path / "backup.tar", records_only=records_only)
    restore(tmp_path / "other", tmp_path / "backup.tar", "test", records_only=records_only)
    assert (tmp_path / "other" / "keys").read_bytes() == written
    assert stat.S_IMODE((tmp_path / "other" / "keys").stat().st_mode) == 0o600


def test_a_folder_before_the_first_publish_is_backed_up_too(control: Control, fleet: Fleet, tmp_path: Path) -> None:
    control.fleet.replace(fleet, "test")
    assert back_up(control.settings.state, tmp_path / "backup.tar")["files"].keys() == {NAME}
    assert restore(tmp_path / "other", tmp_path / "backup.tar", "test")["appliances"] == 8


def test_what_was_there_is_kept_aside_and_can_be_put_back(serving: Control, taken: Path, settings: Settings) -> None:
    serving.overrides.enable(["c001-bom001"], "ann")
    serving.close()
    (settings.state / "worker.1").write_bytes(b"counts")
    before = files_of(settings.state)
    aside = Path(restore(settings.state, taken, "bob")["aside"])
    assert files_of(aside) == before
    assert stat.S_IMODE(aside.stat().st_mode) == 0o700
    again = Path(restore(settings.state, taken, "bob")["aside"])
    assert aside.is_dir()
    assert again != aside


def test_while_control_runs_nothing_is_restored(serving: Control, taken: Path) -> None:
    before = files_of(serving.settings.state)
    with pytest.raises(SettingsError, match="is in use") as caught:
        restore(serving.settings.state, taken, "bob")
    assert caught.value.hint == "end `steering serve` first"
    assert files_of(serving.settings.state) == before


def damaged(files: dict[str, bytes]) -> None:
    files[NAME] = files[NAME][:9000] + bytes(4000) + files[NAME][13000:]


def newer(files: dict[str, bytes]) -> None:
    files[NAME] = files[NAME][:60] + (99).to_bytes(4, "big") + files[NAME][64:]  # user_version, fileformat2.html


def other(files: dict[str, bytes]) -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE t (x)")
    files[NAME] = connection.serialize()
    connection.close()


def flipped(files: dict[str, bytes]) -> None:
    files["table.1"] = files["table.1"][:5000] + bytes([files["table.1"][5000] ^ 1]) + files["table.1"][5001:]


BROKEN = [
    ("a damaged database", damaged, "damaged|malformed|not a database"),
    ("a newer one", newer, "has schema 99"),
    ("another program's", other, "is no database of steering"),
    ("none", lambda files: files.pop(NAME), "has no steering.db"),
    ("no database at all", lambda files: files.update({NAME: b"x" * 5000}), "not a database"),
    ("a flipped bit in the table", flipped, "what it served is unusable"),
    ("a missing table", lambda files: files.pop("table.1"), "what it served is unusable"),
    ("missing routes", lambda files: files.pop("routes.1"), "what it served is unusable"),
    ("a path out of the folder", lambda files: files.update({"../x": b""}), "is no backup"),
    ("a file of another name", lambda files: files.update({"lock": b""}), "is no backup"),
    ("a file in a folder", lambda files: files.update({"a/table.1": b""}), "is no backup"),
]


@pytest.mark.parametrize(("change", "message"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_a_backup_that_is_not_whole_moves_nothing(
    serving: Control, taken: Path, change: Callable[[dict[str, bytes]], None], message: str
) -> None:
    serving.close()
    before = files_of(serving.settings.state)
    with pytest.raises(SettingsError, match=message):
        restore(serving.settings.state, rewritten(taken, change), "bob")
    assert files_of(serving.settings.state) == before
    assert {path.name for path in serving.settings.state.iterdir() if path.is_dir()} == set()
    Control(serving.settings).close()


@pytest.mark.parametrize("size", [0, 100, 700, 3000, -12_000])
def test_a_backup_that_was_cut_off_moves_nothing(serving: Control, taken: Path, size: int) -> None:
    serving.close()
    before = files_of(serving.settings.state)
    taken.write_bytes(taken.read_bytes()[:size])
    with pytest.raises(SettingsError):
        restore(serving.settings.state, taken, "bob")
    assert files_of(serving.settings.state) == before


def sparse(name: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = tarfile.GNUTYPE_SPARSE
    return member


def sparse_by_pax(name: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.pax_headers = {"GNU.sparse.size": str(1 << 40), "GNU.sparse.map": "0,0"}
    return member


def of_long_header(name: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.pax_headers = {"comment": "x" * (8 << 20)}
    return member


@pytest.mark.parametrize("make", [sparse, sparse_by_pax, of_long_header])
def test_what_unpacks_to_more_than_it_is_is_refused(
    serving: Control, taken: Path, make: Callable[[str], tarfile.TarInfo]
) -> None:
    with tarfile.open(taken, "a", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(make("table.7"))
    with pytest.raises(SettingsError, match="is no plain file"):
        restore(serving.settings.state.with_name("other"), taken, "bob")
    assert not [path for path in serving.settings.state.with_name("other").iterdir() if path.name != "lock"]


def test_a_backup_of_many_files_or_none_is_refused_at_once(serving: Control, taken: Path) -> None:
    with tarfile.open(taken, "a") as tar:
        for number in range(100):
            tar.addfile(tarfile.TarInfo(f"routes.{number + 1000}"))
    other = serving.settings.state.with_name("other")
    with pytest.raises(SettingsError, match="is no backup"):
        restore(other, taken, "bob")
    os.mkfifo(taken.with_name("fifo"))
    with pytest.raises(SettingsError, match="not a regular file"):
        restore(other, taken.with_name("fifo"), "bob")
    with taken.open("r+b") as file:
        file.truncate(shutil.disk_usage(taken.parent).free + (8 << 30))
    with pytest.raises(SettingsError, match="free"):
        restore(other, taken, "bob")


@pytest.mark.parametrize("content", [b"", b"{", b'{"k1": 5}', b"[" * 100_000, sealed(b'{"k1":5}'), sealed(b"[" * 9000)])
def test_torn_keys_are_not_restored(serving: Control, taken: Path, content: bytes) -> None:
    serving.keys.make("k1", "ann")
    serving.close()
    before = files_of(serving.settings.state)
    torn = rewritten(taken, lambda files: files.update({"keys": content}))
    for records_only in (False, True):
        with pytest.raises(SettingsError, match="its keys are unusable"):
            restore(serving.settings.state, torn, "bob", records_only=records_only)
    assert files_of(serving.settings.state) == before


def test_a_device_or_a_link_in_a_backup_is_refused(serving: Control, taken: Path) -> None:
    with tarfile.open(taken, "a") as tar:
        link = tarfile.TarInfo("table.7")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(SettingsError, match=r"table\.7"):
        restore(serving.settings.state.with_name("other"), taken, "bob")


def test_a_restore_that_is_killed_leaves_nothing_to_serve_by_mistake_and_is_finished_by_another(
    serving: Control, taken: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """At each rename in turn."""
    serving.close()
    answer = Snapshot.map(serving.settings.state).steer("203.0.113.7", "t", service="video", session="", n=3)
    renames, rename = 0, Path.rename

    def killed(path: Path, target: Path) -> Path:
        nonlocal renames
        renames += 1
        if renames == limit:
            raise KeyboardInterrupt
        return rename(path, target)

    for limit in range(1, 40):
        state = tmp_path / f"state{limit}"
        shutil.copytree(serving.settings.state, state)
        renames = 0
        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", killed)
            try:
                restore(state, taken, "bob")
                break
            except KeyboardInterrupt:
                pass
        settings = serving.settings.model_copy(update={"state": state})
        if not (state / NAME).exists():
            with pytest.raises(SettingsError, match="is lost"):
                Control(settings)
        restore(state, taken, "bob")
        assert Snapshot.map(state).steer("203.0.113.7", "t", service="video", session="", n=3) == answer
    assert limit > 8


def test_a_database_that_was_killed_open_is_backed_up_with_what_was_acknowledged(
    serving: Control, tmp_path: Path
) -> None:
    """What is in the write-ahead log alone, and nobody has it open."""
    serving.overrides.weight(["c001-bom001"], 7, "test")
    state = tmp_path / "killed"
    shutil.copytree(serving.settings.state, state)
    (state / SOCKET).unlink(missing_ok=True)
    assert (state / f"{NAME}-wal").stat().st_size
    back_up(state, tmp_path / "backup.tar")
    restore(tmp_path / "other", tmp_path / "backup.tar", "test")
    records = Records(tmp_path / "other" / NAME)
    assert records.overrides.all()["c001-bom001"].weight == 7
    records.close()


NOT_BACKED_UP = [
    ("no folder", lambda state: shutil.rmtree(state), "No such file"),
    ("no database", lambda state: (state / NAME).unlink(), "nothing to back up"),
    ("torn current", lambda state: (state / "current").write_text("{"), "torn"),
    ("a missing table", lambda state: (state / "table.1").unlink(), "changes all the time|unusable|No such file"),
    ("a damaged database", lambda state: os.truncate(state / NAME, 20_000), "malformed|damaged|disk image"),
]


@pytest.mark.parametrize(("spoil", "message"), [row[1:] for row in NOT_BACKED_UP], ids=[r[0] for r in NOT_BACKED_UP])
def test_what_is_not_whole_is_not_backed_up_as_if_it_were(
    serving: Control, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    serving.close()
    spoil(serving.settings.state)
    with pytest.raises(SettingsError, match=message):
        back_up(serving.settings.state, tmp_path / "backup.tar")
    assert not [path for path in tmp_path.iterdir() if "backup" in path.name]


def test_where_it_cannot_be_written_nothing_is_left(serving: Control, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(SettingsError, match="no backup was made"):
        back_up(serving.settings.state, tmp_path / "folder")
    with pytest.raises(SettingsError, match="no backup was made"):
        back_up(serving.settings.state, tmp_path / "nosuch" / "backup.tar")
    assert not list((tmp_path / "folder").iterdir())
