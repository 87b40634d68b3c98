"""What workers counted since the last tick, also when one restarted in between."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from _fastpath.counters import Counters, begin
from _fastpath.hashing import content_key_of
from steering.control.health.appliance_state import Maintenance
from steering.control.jobs.health_tick import MOST_GROWTH, HealthTick, Tally
from steering.decision.snapshot import Snapshot
from steering.errors import SettingsError
from steering.settings import Settings
from tests.support.appliances import Bench, make_fleet


def test_attested_viewers_are_counted_once_and_again_when_they_begin_to_fail(tmp_path: Path) -> None:
    counters = [Counters(str(tmp_path / f"worker.{number}"), 16, writable=True) for number in (1, 2)]
    for each in counters:
        each.note_report(5, 0, 1, True, False)
        each.note_attested(5, False)
    tally = Tally(tmp_path)
    assert not any(tally.take())  # counted before the first tick
    for each in counters:
        each.note_attested(5, False)
    assert tally.take()[2:] == ({5: 2}, {})
    counters[0].note_attested(5, True)
    assert tally.take()[2:] == ({}, {5: 1})
    assert not any(tally.take())


def test_what_was_counted_before_the_first_tick_is_no_load(snapshot: Snapshot, tmp_path: Path) -> None:
    def count(titles: list[str], name: str = "worker.1") -> None:
        counters = Counters(str(tmp_path / name), writable=True)
        for title in titles:
            snapshot.steer("203.0.113.7", title, service="video", counters=counters)

    begin(str(tmp_path / "worker.1"), 16)
    count(["before"] * 5)
    tally = Tally(tmp_path)
    assert not any(tally.take())
    count(["t"] * 3 + ["before"])
    answers, asked, *_ = tally.take()
    assert answers.total() == 4
    assert asked == {content_key_of("video", "t"): 3, content_key_of("video", "before"): 1}
    assert not any(tally.take())

    begin(str(tmp_path / "worker.2"), 16)
    (tmp_path / "worker.3").write_bytes(b"torn")
    (tmp_path / "worker.log").write_bytes(b"")
    assert not any(tally.take())
    count(["t"], "worker.2")
    count(["u"])
    answers, asked, *_ = tally.take()
    assert (answers.total(), asked.total()) == (2, 2)

    (tmp_path / "worker.1").unlink()
    begin(str(tmp_path / "worker.1"), 16)
    count(["t"] * 9)
    assert not any(tally.take())  # it is seen for the first time


def tear(path: Path, rnd: random.Random) -> None:
    """Write random bytes at random offsets behind the header, as a torn page would leave them."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        for _ in range(2000):
            file.seek(rnd.randrange(64, size - 8))
            file.write(rnd.randbytes(8))


def set_bytes(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert old in content
    with path.open("r+b") as file:
        file.seek(content.index(old))
        file.write(new)


def cut(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.truncate(size)


def replace(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


DAMAGE: list[tuple[str, Callable[[Path], None]]] = [
    ("random bytes", lambda path: tear(path, random.Random(1))),
    ("other random bytes", lambda path: tear(path, random.Random(2))),
    ("a service that is no UTF-8", lambda path: set_bytes(path, b"video", b"vi\xffeo")),
    ("a title that is no UTF-8", lambda path: set_bytes(path, b"asked for", b"\xed\xa0\x80ed for")),
    ("a header of zeros", lambda path: set_bytes(path, b"STEERCN", bytes(7))),
    ("a shorter file", lambda path: cut(path, 4096)),
    ("an empty file", lambda path: cut(path, 0)),
    ("a longer file", lambda path: cut(path, path.stat().st_size + 4096)),
    ("a folder", lambda path: replace(path, Path.mkdir)),
    ("a FIFO", lambda path: replace(path, os.mkfifo)),
    ("a link to itself", lambda path: replace(path, lambda made: made.symlink_to(made))),
    ("not readable", lambda path: replace(path, lambda made: made.symlink_to("/proc/self/mem"))),
]


@pytest.mark.parametrize(("name", "damage"), DAMAGE, ids=[row[0] for row in DAMAGE])
def test_a_damaged_file_costs_the_counts_of_its_worker_alone(
    snapshot: Snapshot, tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    counters = [Counters(str(tmp_path / f"worker.{number}"), 16, writable=True) for number in (1, 2)]

    def count() -> None:
        for each in counters:
            snapshot.steer("203.0.113.7", "asked for", service="video", counters=each)
            each.note_report(5, 0, 1, False, False)
            each.note_attested(5, False)
            each.note_attested(5, True)

    count()
    tally = Tally(tmp_path)
    tally.take()
    tally.take()
    counters[0] = counters[1]  # the first worker has ended
    damage(tmp_path / "worker.1")
    count()
    taken = tally.take()
    assert taken.requests[content_key_of("video", "asked for")] >= 2
    assert taken.failing[5] >= 2
    assert all(0 < count < MOST_GROWTH * 2 for counts in taken for count in counts.values())


def ticking(bench: Bench, folder: Path, **services: object) -> HealthTick:
    """Return the job over a registry, with services that do nothing unless given."""

    async def call(verb: Callable[[], object]) -> object:
        return verb()

    given = {"covered": dict, "keep_states": lambda _: None} | services
    control = SimpleNamespace(
        settings=Settings(state=folder),
        registry=bench.registry,
        maintenance=SimpleNamespace(covered=given["covered"]),
        ejections=SimpleNamespace(keep_states=given["keep_states"]),
    )
    return HealthTick(control, call)  # type: ignore[arg-type]


def fail(*_: object) -> None:
    raise SettingsError("disk full")


BROKEN: list[tuple[str, dict[str, object]]] = [
    ("a full disk", {"keep_states": fail}),
    ("windows that cannot be read", {"covered": fail}),
    ("no state folder", {}),
]


@pytest.mark.parametrize(("name", "services"), BROKEN, ids=[row[0] for row in BROKEN])
def test_staleness_needs_no_disk_and_no_other_job(tmp_path: Path, name: str, services: dict[str, object]) -> None:
    bench = Bench(tmp_path, make_fleet(bom001=4))
    folder = tmp_path if name != "no state folder" else tmp_path / "nowhere"
    (tmp_path / "worker.1").write_bytes(b"torn")
    job = ticking(bench, folder, **services)

    async def run() -> None:
        bench.say("c0-bom001")
        for _ in range(40):
            bench.now += 1.0
            await job.run()

    asyncio.run(run())
    assert bench.states()["c0-bom001"] == "stale"


def test_windows_begin_and_end_and_stay_while_they_cannot_be_read(tmp_path: Path) -> None:
    bench = Bench(tmp_path, make_fleet(bom001=4))
    answers: list[Callable[[], object]] = [dict]
    job = ticking(bench, tmp_path, covered=lambda: answers[-1]())
    for covered, state in (
        (dict, "serving"),
        (lambda: {"c0-bom001": Maintenance(5000.0, "new disks")}, "maintenance"),
        (fail, "maintenance"),
        (dict, "serving"),
    ):
        answers.append(covered)
        asyncio.run(job.run())
        assert bench.states()["c0-bom001"] == state


def test_states_that_could_not_be_recorded_are_recorded_later(tmp_path: Path) -> None:
    bench = Bench(tmp_path, make_fleet(bom001=4))
    kept: list[dict[str, str]] = []
    is_full = True

    def keep(states: dict[str, str]) -> None:
        if is_full:
            fail()
        kept.append(states)

    job = ticking(bench, tmp_path, keep_states=keep)

    async def run() -> None:
        nonlocal is_full
        bench.say("c0-bom001", "c1-bom001")
        for round_ in range(6):
            is_full = round_ < 3
            await job.run()
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    asyncio.run(run())
    assert len(kept) == 1
    assert {"c0-bom001", "c1-bom001"} <= kept[0].keys()
