from __future__ import annotations

import dataclasses
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import steering
from steering.control.records.database import Records
from steering.control.records.fleet import numbered, parts_between
from steering.control.records.overrides import Override
from steering.control.records.schema import VERSION
from steering.errors import SettingsError
from steering.model.fleet import Appliance, Cluster, Fleet, Partner, Site
from steering.model.route import RouteClass
from steering.model.service import Service

NOW = 1_750_000_000.0


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    records = Records(tmp_path / "steering.db")
    yield records
    records.close()


def put(records: Records, fleet: Fleet) -> int:
    before = records.fleet.read()
    parts = [part.pack() for part in parts_between(before, numbered(fleet, records.fleet.numbers))]
    with records.transaction() as transaction:
        version = transaction.fleet.note(parts, "test", NOW)
        while note := transaction.fleet.first_note():
            transaction.fleet.settle(*note)
    return version


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


def test_the_fleet_comes_back_as_it_went_in_with_numbers_in_the_order_of_ids(records: Records, fleet: Fleet) -> None:
    put(records, fleet)
    result = records.fleet.read()
    assert [item.number for item in result.partners] == [1]
    assert [item.number for item in result.clusters] == [0, 1, 2, 3]
    assert [item.slot for item in result.appliances] == list(range(8))
    slots = {item.id: item.slot for item in result.appliances}
    renumbered = tuple(dataclasses.replace(item, slot=slots[item.id]) for item in fleet.appliances)
    assert result == dataclasses.replace(fleet, appliances=renumbered)


def test_numbers_are_never_given_again_not_even_after_a_delete_and_a_new_import(records: Records) -> None:
    whole = made_of(30)
    put(records, whole)
    first = {item.id: item.slot for item in records.fleet.read().appliances}
    put(records, made_of(10))
    assert {item.id: item.slot for item in records.fleet.read().appliances} == {
        name: first[name] for name in list(first)[:10]
    }

    stranger = dataclasses.replace(whole.appliances[-1], id="zzz", host="zzz.example")
    put(records, dataclasses.replace(whole, appliances=(*without(whole, "a00005").appliances, stranger)))
    second = {item.id: item.slot for item in records.fleet.read().appliances}
    assert second["zzz"] == 30
    assert {name: slot for name, slot in second.items() if name != "zzz"} == {
        name: slot for name, slot in first.items() if name != "a00005"
    }
    put(records, whole)
    assert {item.id: item.slot for item in records.fleet.read().appliances} == first
    assert [item.number for item in records.fleet.read().clusters] == [0, 1, 2]
    assert [item.number for item in records.fleet.read().partners] == [1]


def test_a_change_that_fails_leaves_everything_as_it_was(records: Records) -> None:
    put(records, made_of(10))
    before = records.fleet.read()
    broken = made_of(20)
    broken = dataclasses.replace(broken, clusters=broken.clusters[:1])
    with pytest.raises(SettingsError, match="FOREIGN KEY constraint failed; nothing was changed"):
        put(records, broken)
    assert records.fleet.read() == before
    assert records.fleet.version() == 1
    assert set(records.fleet.numbers("appliance")) == {item.id for item in before.appliances}


def test_a_change_of_one_appliance_writes_one_row_of_the_fleet(records: Records) -> None:
    fleet = made_of(1_000)
    put(records, fleet)
    one = dataclasses.replace(fleet.appliances[7], capacity_gbps=200.0)
    others = [item for item in fleet.appliances if item.id != one.id]
    before = records.connection.total_changes
    put(records, dataclasses.replace(fleet, appliances=(*others, one)))
    assert (
        records.connection.total_changes - before == 4
    )  # the appliance, the fleet's version, and the note, which goes
    assert records.fleet.read().appliances[7] == dataclasses.replace(one, slot=7)
    assert records.fleet.version() == 2


def test_a_cluster_moves_to_a_new_site_while_its_old_one_goes(records: Records) -> None:
    fleet = made_of(10)
    put(records, fleet)
    new = dataclasses.replace(fleet.sites[0], id="a-new-site")
    moved = dataclasses.replace(fleet.clusters[0], site=new.id)
    put(records, dataclasses.replace(fleet, sites=(new,), clusters=(moved,)))
    assert [site.id for site in records.fleet.read().sites] == [new.id]
    assert records.fleet.read().clusters[0].site == new.id


def test_nothing_is_written_outside_a_transaction(records: Records) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly database"):
        records.overrides.set({"a": Override(enabled=False)}, "test", NOW)
    assert records.overrides.all() == {}


def test_overrides_are_kept_by_id_and_the_last_one_holds(records: Records) -> None:
    with records.transaction() as transaction:
        transaction.overrides.set({"a": Override(enabled=False), "b": Override(weight=7)}, "alice", NOW)
    with records.transaction() as transaction:
        transaction.overrides.set({"a": Override(weight=0)}, "bob", NOW)
    assert records.overrides.all() == {"a": Override(True, 0), "b": Override(True, 7)}


def write(records: Records, above: int, why: str = "", counts: dict[str, int] | None = None) -> int:
    with records.transaction() as transaction:
        version = transaction.versions.take(above)
        sources = [{"sha256": "00"}]
        transaction.versions.add_written(version, fleet=1, who="alice", why=why, sources=sources, counts=counts or {})
        return version


def next_generation(records: Records, above: int) -> int:
    with records.transaction() as transaction:
        return transaction.versions.next_generation(above)


def test_versions_are_listed_once_they_served_newest_first(records: Records) -> None:
    numbers = [write(records, 0, f"try {i}", {"routes_v4": i}) for i in range(3)]
    assert numbers == [1, 2, 3]
    with records.transaction() as transaction:
        transaction.versions.set_published(1, 1, NOW)
        transaction.versions.set_published(3, 2, NOW + 2)
        transaction.versions.set_published(1, 9, NOW + 9)
    assert [(item.table, item.fleet, item.published_at, item.why) for item in records.versions.all()] == [
        (3, 2, NOW + 2, "try 2"),
        (1, 1, NOW, "try 0"),
    ]
    assert records.versions.all()[0].sources == [{"sha256": "00"}]
    assert records.versions.all()[0].counts == {"routes_v4": 2}


NUMBERS: list[tuple[str, Callable[[Records], list[int]], list[int]]] = [
    (
        "a version is not given twice, also where the first never served",
        lambda records: [write(records, 0) for _ in range(2)],
        [1, 2],
    ),
    (
        "a version is above the files there are",
        lambda records: [write(records, above) for above in (7, 0, 9)],
        [8, 9, 10],
    ),
    (
        "a generation is above all given before and above the one that serves",
        lambda records: [next_generation(records, above) for above in (0, 0, 41, 3)],
        [1, 2, 42, 43],
    ),
]


@pytest.mark.parametrize(("name", "take", "expected"), NUMBERS, ids=[row[0] for row in NUMBERS])
def test_numbers_grow(records: Records, name: str, take: Callable[[Records], list[int]], expected: list[int]) -> None:
    assert take(records) == expected


def test_the_database_is_for_its_user_only_and_waits_for_the_disk(records: Records) -> None:
    for path in records.path.parent.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert records.connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert records.connection.execute("PRAGMA synchronous").fetchone()[0] == 2
    assert records.connection.execute("PRAGMA foreign_keys").fetchone()[0] == 1


@pytest.mark.parametrize("schema", [VERSION + 1, VERSION + 41])
def test_a_database_of_another_schema_is_refused_and_left_alone(records: Records, schema: int) -> None:
    records.connection.execute("PRAGMA query_only = OFF")
    records.connection.execute(f"PRAGMA user_version = {schema}")
    records.close()
    before = records.path.read_bytes()
    with pytest.raises(
        SettingsError, match=f"has schema {schema}, and this version of steering reads schema {VERSION}"
    ) as caught:
        Records(records.path)
    assert "the version of steering that wrote it" in caught.value.hint
    assert records.path.read_bytes() == before


def test_what_is_no_database_is_refused_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "steering.db"
    path.write_bytes(b"not a database at all, but long enough to be looked at" * 20)
    with pytest.raises(SettingsError, match=r"steering\.db: is damaged: file is not a database"):
        Records(path)


def test_killing_the_writer_loses_no_acknowledged_change(tmp_path: Path) -> None:
    path = tmp_path / "steering.db"
    script = (
        "import sys, pathlib\n"
        "from steering.control.records.database import Records\n"
        "from steering.control.records.overrides import Override\n"
        "records = Records(pathlib.Path(sys.argv[1]))\n"
        "for i in range(100_000):\n"
        "    with records.transaction() as t: t.overrides.set({f'a{i}': Override(enabled=False)}, 'test', 0.0)\n"
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
    records = Records(path)
    assert {f"a{i}" for i in range(last + 1)} <= set(records.overrides.all())
    records.close()
