"""What goes wrong in the night, done to real processes: whatever it is, players go on being answered."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import itertools
import os
import random
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
import pytest

from steering.control.remote import RemoteControl
from steering.control.routes.feeds import FeedSource
from steering.errors import SteeringError
from steering.model.fleet import Fleet
from steering.state.current import Current, read_current, write_current
from steering.state.sections import FORMATS, StateFile
from tests.bench.servers import memory_of
from tests.support.checked import sealed
from tests.support.processes import (
    IMPATIENT,
    SHORT_HEAD_S,
    SHORT_READ_S,
    Served,
    disk,
    publish_tiny_fleet,
    serving,
    until,
)

AT_HOME = "prefix,cluster\n203.0.113.0/24,bom001-a\n"
ABROAD = "prefix,cluster\n203.0.113.0/24,lhr001-a\n"
QUESTION = {"title": "t", "ip": "203.0.113.7"}
MANY = 2000
PACE_S = 0.003  # between two questions of a player: a few hundred a second in all leave the machine room to publish


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, fleet: Fleet) -> Iterator[Served]:
    """Return one service for all faults but those that need a place of their own; each leaves it as it was.

    It is started with as few open files as a login shell allows by itself.
    """
    state = publish_tiny_fleet(tmp_path_factory.mktemp("service"), fleet)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, hard), hard))
    try:
        with serving(state, through=IMPATIENT) as result:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            yield result
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def control(service: Served) -> Iterator[RemoteControl]:
    """Return the verbs of the running control process."""
    with RemoteControl(service.settings) as result:
        yield result


@pytest.fixture
def feeds(tmp_path: Path) -> tuple[FeedSource, FeedSource]:
    """Return a feed that sends clients to Mumbai, and one that sends them to London."""
    paths = [tmp_path / "home.csv", tmp_path / "abroad.csv"]
    for path, text in zip(paths, (AT_HOME, ABROAD), strict=True):
        path.write_text(text)
    return FeedSource("csv", str(paths[0])), FeedSource("csv", str(paths[1]))


class Player(threading.Thread):
    """Asks over one connection that is kept alive, until told to stop; notes (status, table, site) of every answer."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.url = url
        self.stopping = threading.Event()
        self.answers: list[tuple[int, int, str]] = []
        self.error: Exception | None = None

    def run(self) -> None:
        """Ask, and read each answer before the next question."""
        limits = httpx.Limits(max_connections=1, keepalive_expiry=None)
        with httpx.Client(base_url=self.url, limits=limits, timeout=5) as client:
            while not self.stopping.wait(PACE_S):
                try:
                    answer = client.get("/v1/steer", params=QUESTION)
                    result = answer.json()
                    self.answers.append((answer.status_code, result["table"], result["targets"][0]["site"]))
                except (httpx.TransportError, KeyError, ValueError) as error:
                    self.error = error
                    return


@contextlib.contextmanager
def playing(url: str, count: int = 3) -> Iterator[list[Player]]:
    """Give players that have all been answered once; at the end none may have failed."""
    players = [Player(url) for _ in range(count)]
    for player in players:
        player.start()
    until(lambda: all(player.answers or player.error for player in players))
    yield players
    for player in players:
        player.stopping.set()
    for player in players:
        player.join()
        assert player.error is None, repr(player.error)
        assert {status for status, _, _ in player.answers} == {200}


def refused(service: Served) -> set[str | None]:
    """Return what the workers say that they refused, asked so often that all have their say."""
    return {service.ask("/readyz")["refused"] for _ in range(16)}


def test_twenty_publishes_in_a_row_under_load_fail_no_request(
    service: Served, control: RemoteControl, feeds: tuple[FeedSource, FeedSource]
) -> None:
    sites = {}
    with playing(service.url) as players:
        for feed, site in zip(itertools.cycle(feeds), ["bom001", "lhr001"] * 10, strict=False):
            sites[control.tables.publish([feed], "test")["serving"]["table"]] = site
        last = max(sites)
        until(lambda: all(player.error or player.answers[-1][1] == last for player in players))
    until(lambda: {service.ask("/readyz")["table"] for _ in range(16)} == {last})  # players may all be of one worker
    assert len(sites) == 20
    for player in players:
        tables = [table for _, table, _ in player.answers]
        assert tables == sorted(tables)
        assert len(set(tables) & sites.keys()) >= 10  # it was asked while they came, not before and after
        assert all(sites.get(table, site) == site for _, table, site in player.answers)  # an answer is of one table


def damaged(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


TABLE_FAULTS: list[tuple[str, Callable[[bytes], bytes], str]] = [
    ("corrupt", lambda data: damaged(data, len(data) // 2, bytes([data[len(data) // 2] ^ 1])), "the checksum of section"),
    ("corrupt in its header", lambda data: damaged(data, 70, b"X"), "the checksum of its header does not match"),
    ("truncated", lambda data: data[: len(data) // 2], "cut off or written over"),
    ("truncated in its header", lambda data: data[:20], "20 bytes, cut off in its header"),
    ("empty", lambda _: b"", "0 bytes, cut off in its header"),
    ("foreign-endian", lambda data: damaged(data, 8, data[11:7:-1]), "written on a machine of the other byte order"),
    ("of another kind of file", lambda data: b"PK\x03\x04" + data[4:], "not a state file"),
]  # fmt: skip


@contextlib.contextmanager
def restored(service: Served) -> Iterator[Current]:
    """Give what is served; at the end make it so again, and wait until the workers have seen it."""
    current = read_current(service.state)
    try:
        yield current
    finally:
        write_current(service.state, current)
        until(lambda: refused(service) == {None})


@pytest.mark.parametrize(("name", "damage", "message"), TABLE_FAULTS, ids=[row[0] for row in TABLE_FAULTS])
def test_a_table_that_cannot_be_used_is_refused_by_name_and_what_serves_serves_on(
    name: str, damage: Callable[[bytes], bytes], message: str, service: Served
) -> None:
    answer = service.steer()
    with restored(service) as current:
        bad = service.state / "table.999"
        bad.write_bytes(damage((service.state / current.table).read_bytes()))
        write_current(service.state, dataclasses.replace(current, generation=current.generation + 1, table=bad.name))
        until(lambda: all(text and text.startswith("table.999: ") and message in text for text in refused(service)))
        ready = service.ask("/readyz")
        assert (ready["ready"], ready["table"], ready["generation"]) == (True, answer["table"], current.generation)
        assert all(service.steer() == answer for _ in range(8))
    bad.unlink()


def resealed(content: bytes, old: bytes, new: bytes) -> bytes:
    """Return a changed `current` whose checksum is right."""
    return sealed(content.partition(b"\n")[0].replace(old, new))


CURRENT_FAULTS: list[tuple[str, Callable[[Path, bytes], object], str]] = [
    ("missing", lambda path, _: path.unlink(), "No such file or directory"),
    ("torn", lambda path, text: path.write_bytes(text[: len(text) // 2]), "torn or not ours"),
    ("empty", lambda path, _: path.write_bytes(b""), "torn or not ours"),
    ("not text", lambda path, _: path.write_bytes(b"\xff\xfe\x00"), "torn or not ours"),
    ("a folder", lambda path, _: (path.unlink(), path.mkdir()), "not a regular file"),
    ("naming a missing table", lambda path, text: path.write_bytes(resealed(text, b'"table.', b'"table.99')), "table.99"),
    ("naming missing weights", lambda path, text: path.write_bytes(resealed(text, b'"status.', b'"status.99')), "status.99"),
    ("naming a file elsewhere", lambda path, text: path.write_bytes(resealed(text, b'"table.', b'"../table.')), r"$.table"),
    ("one damaged byte", lambda path, text: path.write_bytes(text.replace(b'"table.', b'"sable.')), "checksum"),
    ("nested deep", lambda path, _: path.write_bytes(sealed(b"[" * 500_000)), "torn or not ours"),
    ("a number out of range", lambda path, text: path.write_bytes(resealed(text, b'"generation":', b'"generation":-')), "$.generation"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "damage", "message"), CURRENT_FAULTS, ids=[row[0] for row in CURRENT_FAULTS])
def test_a_current_that_cannot_be_used_is_refused_and_what_serves_serves_on(
    name: str, damage: Callable[[Path, bytes], object], message: str, service: Served
) -> None:
    answer = service.steer()
    path = service.state / "current"
    with restored(service):
        damage(path, path.read_bytes())
        until(lambda: all(text and message in text for text in refused(service)))
        assert all(service.steer() == answer for _ in range(8))
        if path.is_dir():
            path.rmdir()


def test_while_control_is_killed_again_and_again_no_answer_changes_and_the_age_is_shown(
    service: Served, control: RemoteControl
) -> None:
    answer, ready = service.steer(), service.ask("/readyz")
    with playing(service.url, 2) as players:
        began = time.monotonic()
        for _ in range(4):
            until(lambda: service.pids("control"))
            (pid,) = service.pids("control")
            os.kill(pid, signal.SIGKILL)
            until(lambda: pid not in service.children())  # noqa: B023 (called at once)
            assert service.steer() == answer
        passed = time.monotonic() - began
        older = service.ask("/readyz")
        assert older == ready | {"age_s": older["age_s"]}
        assert passed - 0.2 <= older["age_s"] - ready["age_s"]
        until(control.answers)
    assert {(table, site) for player in players for _, table, site in player.answers} == {
        (answer["table"], answer["targets"][0]["site"])
    }
    assert service.ask("/readyz")["generation"] == ready["generation"]


def files_of(state: Path) -> set[str]:
    return {path.name for path in state.iterdir() if not path.name.startswith(("steering.db-", "worker."))}


def check_a_full_disk(
    service: Served, feeds: tuple[FeedSource, FeedSource], fill: Callable[[int], None], empty: Callable[[], None]
) -> None:
    """Publish with so much room and so little; `fill` leaves that many bytes, and `empty` as many as before."""
    with RemoteControl(service.settings) as control, playing(service.url, 2):
        control.tables.publish([feeds[0]], "test")
        until(lambda: service.steer()["targets"][0]["site"] == "bom001")
        before, named = files_of(service.state), read_current(service.state)
        for room, message in (
            (0, f"{service.state}/steering.db: "),  # nothing can be written
            (2 << 20, "write the table: "),  # the table is cut
            (5 << 20, "write the table: "),  # the table fits, its routes are cut
        ):
            fill(room)
            with pytest.raises(SteeringError) as caught:
                control.tables.publish([feeds[1]], "test")
            empty()
            assert caught.value.message.startswith(message)
            assert (files_of(service.state), read_current(service.state)) == (before, named)
        last = control.tables.publish([feeds[1]], "test")["serving"]["table"]
        until(lambda: {service.steer()["table"] for _ in range(8)} == {last})
        assert [row["table"] for row in control.tables.list() if row["serving"]] == [last]


def test_a_publish_that_may_not_write_on_leaves_everything_as_it_was(
    service: Served, feeds: tuple[FeedSource, FeedSource]
) -> None:
    (control,) = service.pids("control")
    unlimited = resource.prlimit(control, resource.RLIMIT_FSIZE)

    def limit(size: int) -> None:
        for pid in (control, *descendants(control)):  # tables are written by a child of control's fork server
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, unlimited[1]))

    check_a_full_disk(service, feeds, limit, lambda: limit(unlimited[0]))


def descendants(pid: int) -> list[int]:
    children = [
        int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()
    ]
    return children + [other for child in children for other in descendants(child)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a disk of 64 MB of its own."""
    with disk(tmp_path / "disk", "size=64m") as result:
        yield result


def test_a_publish_to_a_full_disk_leaves_everything_as_it_was(
    small_disk: Path, fleet: Fleet, feeds: tuple[FeedSource, FeedSource]
) -> None:
    filler = small_disk / "filler"

    def fill(room: int) -> None:
        result = os.statvfs(small_disk)
        filler.write_bytes(bytes(result.f_bavail * result.f_frsize - room))

    with serving(publish_tiny_fleet(small_disk, fleet)) as served:
        check_a_full_disk(served, feeds, fill, filler.unlink)


def test_a_full_disk_stops_no_worker_whatever_is_asked_for(small_disk: Path, fleet: Fleet) -> None:
    with serving(publish_tiny_fleet(small_disk, fleet), "--workers", "2") as served:
        for path in served.state.glob("worker.*"):
            assert path.stat().st_blocks * 512 >= path.stat().st_size, "a hole"
        with contextlib.suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(1 << 16))
        before = served.pids("worker")
        for number in range(1000):
            assert served.steer(title=f"never asked for {number}")["targets"]
        assert served.pids("worker") == before
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        until(lambda: len(served.pids("worker")) == 2 and not set(before) & set(served.pids("worker")))
        successors = served.pids("worker")
        for number in range(200):
            assert served.steer(title=f"nor that one {number}")["targets"]
        assert served.pids("worker") == successors


@pytest.fixture
def many_files() -> Iterator[None]:
    """Let this process open as many files as the test needs; skip where that is too much."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = MANY + 500
    if hard < needed:
        pytest.skip(f"{MANY} connections need {needed} open files; the hard limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def take_answer(connection: socket.socket) -> None:
    """Read all of the answer to a request for /healthz."""
    data = b""
    while not data.endswith(b"\r\n\r\nok\n"):
        result = connection.recv(4096)
        assert result, "it was closed"
        data += result
    assert data.startswith(b"HTTP/1.1 200 ")


def test_idle_connections_by_the_thousand_do_not_keep_others_from_being_answered(
    service: Served, many_files: None
) -> None:
    host, port = service.url.removeprefix("http://").split(":")
    request = b"GET /healthz HTTP/1.1\r\nHost: example\r\n\r\n"
    with contextlib.ExitStack() as closing:
        idle = []
        for _ in range(MANY):
            connection = closing.enter_context(socket.create_connection((host, int(port)), timeout=5))
            connection.sendall(request)
            idle.append(connection)
        for connection in idle:
            take_answer(connection)
        for _ in range(20):
            assert service.steer()["targets"]
        watch = select.poll()
        for connection in idle:
            watch.register(connection, select.POLLIN)
        assert not watch.poll(0)  # all were open all the while: none has said anything more, nor ended
        idle[0].sendall(request)
        take_answer(idle[0])


def connect(service: Served) -> socket.socket:
    host, port = service.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=5)


def has_ended(connection: socket.socket) -> bool:
    """Tell whether the other side has closed or reset a connection, without reading from it."""
    watch = select.poll()
    watch.register(connection, select.POLLRDHUP)
    return bool(watch.poll(0))


@contextlib.contextmanager
def unharmed(service: Served) -> Iterator[None]:
    """Check that players are answered all the while, no worker died, and what they hold is soon what they held."""
    workers = service.pids("worker")
    before = sum(memory_of(pid)["Private"] for pid in workers)
    with playing(service.url):
        yield
    assert service.pids("worker") == workers
    until(lambda: sum(memory_of(pid)["Private"] for pid in workers) < before + (8 << 20))


def test_heads_that_come_drop_by_drop_are_cut_off_and_others_are_answered(service: Served) -> None:
    with contextlib.ExitStack() as closing, unharmed(service):
        dripping = [closing.enter_context(connect(service)) for _ in range(200)]
        for connection in dripping:
            connection.sendall(b"GET /v1/steer?title=")
        began = time.monotonic()
        while left := [connection for connection in dripping if not has_ended(connection)]:
            assert time.monotonic() - began < SHORT_HEAD_S + 5, f"{len(left)} are still open"
            for connection in left:
                with contextlib.suppress(ConnectionError):
                    connection.send(b"t")
            time.sleep(0.2)
        assert time.monotonic() - began > SHORT_HEAD_S - 1


def test_clients_that_never_read_are_cut_off_and_others_are_answered(service: Served) -> None:
    request = b"GET /v1/steer?title=t&ip=203.0.113.7 HTTP/1.1\r\nHost: example\r\n\r\n" * 100
    with contextlib.ExitStack() as closing, unharmed(service):
        deaf = [closing.enter_context(connect(service)) for _ in range(20)]
        for connection in deaf:
            connection.setblocking(False)
        began = time.monotonic()
        while left := [connection for connection in deaf if not has_ended(connection)]:
            assert time.monotonic() - began < SHORT_READ_S + 10, f"{len(left)} are still open"
            for connection in left:
                with contextlib.suppress(BlockingIOError, ConnectionError):
                    connection.send(request)
            time.sleep(0.05)
        assert time.monotonic() - began > SHORT_READ_S - 1


def end_writing(connection: socket.socket) -> None:
    """Send the end of what is written, unless the worker refused it and has closed the connection already."""
    try:
        connection.shutdown(socket.SHUT_WR)
    except OSError as error:
        if error.errno != errno.ENOTCONN:  # no ConnectionError in Python, though shutdown(2) has it for one
            raise


def test_garbage_is_answered_by_a_refusal_or_not_at_all_and_others_are_answered(service: Served) -> None:
    chance = random.Random(7)
    beginnings = (
        b"",
        b"GET ",
        b"GET /v1/steer?",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\n",
    )
    with unharmed(service):
        for turn in range(300):
            garbage = chance.randbytes(chance.randrange(1, 40_000))
            with connect(service) as connection, contextlib.suppress(ConnectionError):
                connection.sendall(beginnings[turn % len(beginnings)] + garbage + b"\r\n\r\n" * (turn % 2))
                end_writing(connection)
                answer = connection.recv(4096)
                assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 ")) or not answer


# Loaded before libc, it moves the wall clock of a process, and that alone, by the seconds that a file holds.
CLOCK = """
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static volatile long *off;
__attribute__((constructor)) static void begin(void) {
    off = mmap(0, sizeof *off, PROT_READ, MAP_SHARED, open(getenv("CLOCK_OFF"), O_RDONLY), 0);
}
int clock_gettime(clockid_t id, struct timespec *at) {
    int failed = syscall(SYS_clock_gettime, id, at);
    if (!failed && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) at->tv_sec += *off;
    return failed;
}
time_t time(time_t *seconds) {
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    if (seconds) *seconds = at.tv_sec;
    return at.tv_sec;
}
int gettimeofday(struct timeval *restrict tv, void *restrict tz) {
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    tv->tv_sec = at.tv_sec, tv->tv_usec = at.tv_nsec / 1000;
    return 0;
}
"""


@pytest.fixture
def clock(tmp_path: Path) -> tuple[Path, list[str]]:
    """Return the file by which a clock is set, and the command that starts another by that clock."""
    compiler = shutil.which("cc")
    if not compiler:
        pytest.skip("cc is not on PATH")
    off, library = tmp_path / "off", tmp_path / "clock.so"
    off.write_bytes(bytes(8))
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-x", "c", "-o", str(library), "-"], input=CLOCK, text=True, check=True
    )
    return off, ["env", f"LD_PRELOAD={library}", f"CLOCK_OFF={off}"]


def test_when_the_clock_jumps_answers_go_on_and_publishes_are_served(
    tmp_path: Path, clock: tuple[Path, list[str]], fleet: Fleet, feeds: tuple[FeedSource, FeedSource]
) -> None:
    off, through = clock
    with (
        serving(publish_tiny_fleet(tmp_path, fleet), through=through) as served,
        RemoteControl(served.settings) as control,
        playing(served.url, 2) as players,
    ):

        def jump(seconds: int) -> None:
            with off.open("r+b") as file:
                file.write(seconds.to_bytes(8, sys.byteorder, signed=True))
            until(lambda: all(abs(clock_is_off() - seconds) < 5 for _ in range(8)))

        def clock_is_off() -> float:
            served_at = parsedate_to_datetime(httpx.get(f"{served.url}/healthz").headers["date"])
            return served_at.timestamp() - time.time()

        for feed, (day, site) in zip(
            itertools.cycle(feeds), [(400, "bom001"), (-400, "lhr001"), (0, "bom001")], strict=False
        ):
            sites = [(target["site"], target["rank"]) for target in served.steer()["targets"]]
            jump(day * 86_400)
            # Two players ask for one title for ever: who of a site comes first may follow the load, and nothing else.
            assert [(target["site"], target["rank"]) for target in served.steer()["targets"]] == sites
            assert served.ask("/readyz")["age_s"] >= 0
            last = control.tables.publish([feed], "test")["serving"]["table"]
            until(lambda: all(player.error or player.answers[-1][1] == last for player in players))  # noqa: B023
            until(lambda: {served.ask("/readyz")["table"] for _ in range(8)} == {last})  # noqa: B023
            assert served.steer()["targets"][0]["site"] == site
            assert 0 <= served.ask("/readyz")["age_s"] < 60
        tables = [row["table"] for row in control.tables.list()]
        assert tables == sorted(tables, reverse=True)
        assert len(tables) == 4


# The next version of this code, in which each format is one further: in this process and in its fork server's.
NEXT_FORMATS = """
from steering.state import sections
sections.FORMATS.update({kind: number + 1 for kind, number in sections.FORMATS.items()})
"""
NEXT_VERSION = """
import os, sys
sys.path.insert(0, os.environ["PYTHONPATH"])
import next_formats
from steering import cli
del sys.argv[1:4]
cli.main()
"""


def formats_of(state: Path) -> dict[str, int]:
    current = read_current(state)
    return {
        kind: StateFile(state / name, kind).format
        for kind, name in [("table", current.table), ("routes", current.routes), ("fleet", current.fleet)]
    }


def test_a_folder_of_one_format_back_is_served_as_it_was_and_publishes_move_it_on(
    tmp_path: Path, fleet: Fleet, feeds: tuple[FeedSource, FeedSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = publish_tiny_fleet(tmp_path, fleet)
    with serving(state) as served:
        answer = served.steer()
        asked = served.ask("/readyz")
    before = formats_of(state)
    (tmp_path / "next").mkdir()
    (tmp_path / "next" / "next_formats.py").write_text(NEXT_FORMATS)
    (tmp_path / "next" / "sitecustomize.py").write_text("import next_formats\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "next"))
    with serving(state, through=[sys.executable, "-c", NEXT_VERSION]) as served, playing(served.url, 2):
        assert served.steer() == answer
        assert served.ask("/readyz")["table"] == asked["table"]
        with RemoteControl(served.settings) as control:
            control.tables.publish([feeds[1]], "test")
            until(lambda: {served.steer()["targets"][0]["site"] for _ in range(8)} == {"lhr001"})
    monkeypatch.setattr("steering.state.sections.FORMATS", {kind: number + 1 for kind, number in FORMATS.items()})
    assert formats_of(state) == {kind: number + 1 for kind, number in before.items()}
