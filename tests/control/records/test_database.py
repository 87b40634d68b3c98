from __future__ import annotations

import dataclasses
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import steering
from steering.control.records.database import MIGRATIONS, Override, Store
from steering.errors import SettingsError
from steering.model.fleet import Appliance, Cluster, Fleet, Partner, Site
from steering.model.route import RouteClass
from steering.model.service import Service

NOW = 1_750_000_000.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "steering.db")
    yield store
    store.close()


def put(store: Store, fleet: Fleet) -> int:
    with store.change():
        return store.replace_fleet(fleet, "test", NOW)


def made_of(appliances: int) -> Fleet:
    """Return a fleet of so many appliances, ten to a cluster, ten clusters to a partner."""
    clusters = -(-appliances // 10)
    partners = -(-clusters // 10)
    return Fleet(
        partners=tuple(Partner(f"p{i:05}", f"ISP {i}", "IN", (i + 1,)) for i in range(partners)),
        sites=tuple(Site(f"s{i:05}", "IN", "Mumbai", 19.0, 72.0) for i in range(partners)),
        clusters=tuple(
            Cluster(f"c{i:05}", f"s{i // 10:05}", RouteClass.embedded, f"p{i // 10:05}") for i in range(clusters)
        ),
        appliances=tuple(Appliance(f"a{i:05}", f"c{i // 10:05}", f"a{i:05}.example", 100.0) for i in range(appliances)),
        services=(Service("video", "https://{host}/{title}", "https://origin.example/{title}"),),
    )


def without(fleet: Fleet, name: str) -> Fleet:
    return dataclasses.replace(fleet, appliances=tuple(item for item in fleet.appliances if item.id != name))


def test_the_fleet_comes_back_as_it_went_in_with_numbers_in_the_order_of_ids(store: Store, fleet: Fleet) -> None:
    put(store, fleet)
    found = store.fleet()
    assert [item.number for item in found.partners] == [1]
    assert [item.number for item in found.clusters] == [0, 1, 2, 3]
    assert [item.slot for item in found.appliances] == list(range(8))
    slots = {item.id: item.slot for item in found.appliances}
    renumbered = tuple(dataclasses.replace(item, slot=slots[item.id]) for item in fleet.appliances)
    assert found == dataclasses.replace(fleet, appliances=renumbered)


def test_numbers_are_never_given_again_not_even_after_a_delete_and_a_new_import(store: Store) -> None:
    whole = made_of(30)
    put(store, whole)
    first = {item.id: item.slot for item in store.fleet().appliances}
    put(store, made_of(10))
    assert {item.id: item.slot for item in store.fleet().appliances} == {name: first[name] for name in list(first)[:10]}

    stranger = dataclasses.replace(whole.appliances[-1], id="zzz", host="zzz.example")
    put(store, dataclasses.replace(whole, appliances=(*without(whole, "a00005").appliances, stranger)))
    second = {item.id: item.slot for item in store.fleet().appliances}
    assert second["zzz"] == 30
    assert {name: slot for name, slot in second.items() if name != "zzz"} == {
        name: slot for name, slot in first.items() if name != "a00005"
    }
    put(store, whole)
    assert {item.id: item.slot for item in store.fleet().appliances} == first
    assert [item.number for item in store.fleet().clusters] == [0, 1, 2]
    assert [item.number for item in store.fleet().partners] == [1]


def test_a_change_that_fails_leaves_everything_as_it_was(store: Store) -> None:
    put(store, made_of(10))
    before = store.fleet()
    broken = made_of(20)
    broken = dataclasses.replace(broken, clusters=broken.clusters[:1])
    with pytest.raises(SettingsError, match="FOREIGN KEY constraint failed; nothing was changed"):
        put(store, broken)
    assert store.fleet() == before
    assert store.fleet_version() == 1
    assert set(store.numbers("appliance")) == {item.id for item in before.appliances}


def test_importing_19000_appliances_is_one_quick_transaction(store: Store) -> None:
    fleet = made_of(19_000)
    began = time.process_time()
    put(store, fleet)
    took = time.process_time() - began
    assert len(store.fleet().appliances) == 19_000
    assert took < 2.0, f"{took:.2f} s; it takes 0.2 s on a quiet machine"


def test_overrides_are_kept_by_id_and_the_last_one_holds(store: Store) -> None:
    with store.change():
        store.set_overrides({"a": Override(enabled=False), "b": Override(weight=7)}, "alice", NOW)
    with store.change():
        store.set_overrides({"a": Override(weight=0)}, "bob", NOW)
    assert store.overrides() == {"a": Override(True, 0), "b": Override(True, 7)}


def write(store: Store, above: int, why: str = "", counts: dict[str, int] | None = None) -> int:
    version = store.take_version(above)
    store.record_written(version, 1, "alice", why, [{"sha256": "00"}], counts or {})
    return version


def test_versions_are_listed_once_they_served_newest_first(store: Store) -> None:
    numbers = [write(store, 0, f"try {i}", {"routes_v4": i}) for i in range(3)]
    assert numbers == [1, 2, 3]
    store.record_published(1, 1, NOW)
    store.record_published(3, 2, NOW + 2)
    store.record_published(1, 9, NOW + 9)
    assert [(item.table, item.fleet, item.published_at, item.why) for item in store.versions()] == [
        (3, 2, NOW + 2, "try 2"),
        (1, 1, NOW, "try 0"),
    ]
    assert store.versions()[0].sources == [{"sha256": "00"}]
    assert store.versions()[0].counts == {"routes_v4": 2}


NUMBERS: list[tuple[str, Callable[[Store], list[int]], list[int]]] = [
    (
        "a version is not given twice, also where the first never served",
        lambda store: [write(store, 0) for _ in range(2)],
        [1, 2],
    ),
    (
        "a version is above the files there are",
        lambda store: [write(store, above) for above in (7, 0, 9)],
        [8, 9, 10],
    ),
    (
        "a generation is above all given before and above the one that serves",
        lambda store: [store.next_generation(above) for above in (0, 0, 41, 3)],
        [1, 2, 42, 43],
    ),
]


@pytest.mark.parametrize(("name", "take", "expected"), NUMBERS, ids=[row[0] for row in NUMBERS])
def test_numbers_grow(store: Store, name: str, take: Callable[[Store], list[int]], expected: list[int]) -> None:
    assert take(store) == expected


def test_the_database_is_for_its_user_only_and_waits_for_the_disk(store: Store) -> None:
    for path in store.path.parent.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert store.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store.connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert store.connection.execute("PRAGMA foreign_keys").fetchone() == (1,)


def test_a_database_of_a_newer_version_is_refused_and_left_alone(store: Store) -> None:
    store.connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    store.close()
    before = store.path.read_bytes()
    with pytest.raises(SettingsError, match=f"of schema {len(MIGRATIONS) + 1}, this version knows up to") as caught:
        Store(store.path)
    assert "newer version" in caught.value.hint
    assert store.path.read_bytes() == before


def test_what_is_no_database_is_refused_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "steering.db"
    path.write_bytes(b"not a database at all, but long enough to be looked at" * 20)
    with pytest.raises(SettingsError, match=r"steering\.db: file is not a database"):
        Store(path)


def test_migrations_run_once_each_and_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "steering.db"
    Store(path).close()
    monkeypatch.setattr(
        "steering.control.records.database.MIGRATIONS", (*MIGRATIONS, "CREATE TABLE next (a); CREATE TABLE next (a)")
    )
    with pytest.raises(SettingsError, match="table next already exists"):
        Store(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        assert not connection.execute("SELECT * FROM sqlite_master WHERE name = 'next'").fetchall()
    connection.close()
    monkeypatch.setattr("steering.control.records.database.MIGRATIONS", (*MIGRATIONS, "CREATE TABLE next (a)"))
    Store(path).close()
    Store(path).close()


def test_killing_the_writer_loses_no_acknowledged_change(tmp_path: Path) -> None:
    path = tmp_path / "steering.db"
    script = (
        "import sys, pathlib\n"
        "from steering.control.records.database import Store, Override\n"
        "store = Store(pathlib.Path(sys.argv[1]))\n"
        "for i in range(100_000):\n"
        "    with store.change(): store.set_overrides({f'a{i}': Override(enabled=False)}, 'test', 0.0)\n"
        "    print(i, flush=True)\n"
    )
    root = str(Path(steering.__file__).parents[1])
    writer = subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert writer.stdout is not None
    last = [int(writer.stdout.readline()) for _ in range(50)][-1]
    writer.send_signal(signal.SIGKILL)
    last = max([last, *map(int, writer.stdout.read().split())])
    writer.wait()
    writer.stdout.close()
    store = Store(path)
    assert {f"a{i}" for i in range(last + 1)} <= set(store.overrides())
    store.close()
