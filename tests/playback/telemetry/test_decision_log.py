"""The decision log: what a record holds and what it must not, and that writing never troubles a request."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _fastpath.client import Trust
from _fastpath.fast_path import FastPath, Peer
from _fastpath.hashing import content_key_of, key_of
from _fastpath.ranking import Trace
from steering.decision.explain import describe
from steering.decision.snapshot import Snapshot
from steering.errors import FeedError
from steering.playback.telemetry.decision_log import KEPT_FILES, QUEUED, DecisionLog
from steering.state.decision_log import HEADER, Decision, decode, encode, log_files, read_decisions

NUMBERS = st.integers(0, 2**32 - 1)
PAIRS = st.lists(st.tuples(NUMBERS, NUMBERS), max_size=40).map(tuple)
SCOPES = st.one_of(
    st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)),
    st.tuples(st.integers(2**32, 2**128 - 1), st.integers(0, 128)),
).map(lambda pair: str(ipaddress.ip_network(pair, strict=False)))
DECISIONS = st.builds(
    Decision,
    at=st.floats(0, 2e9),
    generation=st.integers(0, 2**64 - 1),
    table=NUMBERS,
    fleet=NUMBERS,
    service=st.from_regex("[a-z0-9-]{1,63}", fullmatch=True),
    key=st.integers(0, 2**64 - 1),
    scope=SCOPES,
    family=st.sampled_from([4, 6]),
    n=st.integers(1, 8),
    candidates=PAIRS,
    picks=PAIRS,
    session_key=st.integers(0, 2**64 - 1),
    content_key=st.integers(0, 2**64 - 1),
    holdings=NUMBERS,
)


class Always:
    def is_sampled(self) -> bool:
        return True


def steered(snapshot: Snapshot, title: str, address: str, **asked: int) -> tuple[bytes, Trace]:
    """Return what `note` is given: the packed address, and the trace of an answer."""
    packed, trace = ipaddress.ip_address(address).packed, Trace()
    snapshot.steer(packed, title, service="video", trace=trace, **asked)  # type: ignore[arg-type]
    return packed, trace


@given(DECISIONS)
def test_a_record_is_read_as_it_was_written(decision: Decision) -> None:
    assert decode(encode(decision)[8:]) == decision


@given(st.binary(max_size=200))
def test_no_bytes_are_worse_than_no_record(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        decode(data)


@pytest.fixture
def log(tmp_path: Path) -> DecisionLog:
    return DecisionLog(tmp_path / "log", 1, Always(), clock=lambda: 1.5)


def test_whoever_was_answered_is_on_record_cut_to_the_scope_of_the_answer(log: DecisionLog, snapshot: Snapshot) -> None:
    log.start()
    for address in ("203.0.113.77", "2001:db8::1234", "8.8.8.8"):
        packed, trace = steered(snapshot, "secret title", address, n=4)
        log.note(snapshot, packed, "video", 4, 0, trace)
    log.stop()
    (path,) = log.folder.iterdir()
    result = list(read_decisions(path))
    assert [decision.scope for decision in result] == [
        describe(snapshot, address)["scope"] for address in ("203.0.113.77", "2001:db8::1234", "8.8.8.8")
    ]
    assert [decision.key for decision in result] == [key_of("secret title")] * 3
    assert [decision.content_key for decision in result] == [content_key_of("video", "secret title")] * 3
    assert [len(decision.picks) for decision in result] == [4, 4, 4]
    assert {len(decision.candidates) >= 4 for decision in result} == {True}
    assert [(item.at, item.table, item.fleet, item.n, item.family) for item in result] == [
        (1.5, 1, 1, 4, family) for family in (4, 6, 4)
    ]
    data = path.read_bytes()
    assert b"secret" not in data
    assert bytes([203, 0, 113, 77]) not in data
    assert (path.stat().st_mode & 0o777, log.folder.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_file_cut_off_anywhere_gives_its_whole_records_and_the_offset_of_the_cut(
    log: DecisionLog, snapshot: Snapshot, tmp_path: Path
) -> None:
    log.start()
    for title in "abc":
        packed, trace = steered(snapshot, title, "203.0.113.7")
        log.note(snapshot, packed, "video", 3, 0, trace)
    log.stop()
    (path,) = log.folder.iterdir()
    data = path.read_bytes()
    whole = list(read_decisions(path))
    ends = [HEADER.size]
    for decision in whole:
        ends.append(ends[-1] + len(encode(decision)))
    assert ends[-1] == len(data)
    cut = tmp_path / "cut"
    for size in range(len(data)):
        cut.write_bytes(data[:size])
        result = []
        if size in ends:
            assert list(read_decisions(cut)) == whole[: ends.index(size)]
            continue
        with pytest.raises(FeedError, match=r"cut( at byte \d+)?: ") as error:
            result.extend(read_decisions(cut))
        if size > HEADER.size:
            assert re.search(rf"at byte {max(end for end in ends if end < size)}: ", error.value.message)
    flipped = bytearray(data)
    flipped[ends[1] + 20] ^= 1
    cut.write_bytes(flipped)
    with pytest.raises(FeedError, match=f"at byte {ends[1]}: the checksum of a record does not match"):
        list(read_decisions(cut))


def test_files_are_rotated_and_the_oldest_removed(tmp_path: Path, snapshot: Snapshot) -> None:
    packed, trace = steered(snapshot, "t", "203.0.113.7")
    for _ in range(2):  # a worker that is started again goes on with the next number
        log = DecisionLog(tmp_path, 3, Always(), file_bytes=300)
        log.start()
        for _ in range(40):
            log.note(snapshot, packed, "video", 3, 0, trace)
        log.stop()
        assert log.dropped == 0
    (tmp_path / "decisions.4.1").touch()
    numbers = sorted(int(path.suffix[1:]) for path in tmp_path.glob("decisions.3.*"))
    assert len(numbers) == KEPT_FILES
    assert numbers == list(range(numbers[0], numbers[0] + KEPT_FILES))
    assert numbers[0] > 20
    assert all(path.stat().st_size <= 300 for path in tmp_path.glob("decisions.3.*"))
    assert all(len(list(read_decisions(path))) > 0 for path in tmp_path.glob("decisions.3.*"))


class Disk:
    """A disk with so many free bytes, for the files of a log; `os.write` fails as write(2) does."""

    def __init__(self, free: int, is_exact: bool) -> None:
        self.free = free
        self.is_exact = is_exact  # it takes as much of a write as there is room for
        self.write_for_real = os.write

    def write(self, descriptor: int, data: bytes) -> int:
        if "decisions." not in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            return self.write_for_real(descriptor, data)
        room = min(len(data), self.free) if self.is_exact or self.free >= len(data) else 0
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.free -= room
        return self.write_for_real(descriptor, data[:room])


@pytest.mark.parametrize("is_exact", [True, False], ids=["partial writes", "no partial writes"])
@pytest.mark.parametrize("free", [0, 3, 16, 20, 100, 150, 280])
def test_a_full_disk_costs_new_records_and_no_old_ones(
    tmp_path: Path, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch, free: int, is_exact: bool
) -> None:
    packed, trace = steered(snapshot, "t", "203.0.113.7")

    def record(count: int) -> int:
        log = DecisionLog(tmp_path, 3, Always(), file_bytes=200)  # room for one record
        log.start()
        for _ in range(count):
            log.note(snapshot, packed, "video", 3, 0, trace)
        log.stop()
        return log.dropped

    def read_all() -> list[Decision]:
        return [decision for path in log_files([tmp_path]) for decision in read_decisions(path)]

    assert record(60) == 0
    before = read_all()
    disk = Disk(free, is_exact)
    monkeypatch.setattr("os.write", disk.write)
    for _ in range(3):  # also when the worker is started again and again
        assert record(40) > 0
    assert read_all()[: len(before)] == before or free >= 100, "a file that got a record replaces the oldest"
    assert len(read_all()) >= len(before)
    disk.free = 1 << 20
    assert record(60) == 0
    assert len(read_all()) >= len(before)
    assert len(list(tmp_path.glob("decisions.3.*"))) == KEPT_FILES


def test_what_the_thread_cannot_keep_up_with_is_dropped_and_counted(log: DecisionLog, snapshot: Snapshot) -> None:
    packed, trace = steered(snapshot, "t", "203.0.113.7")
    for _ in range(QUEUED + 7):  # nobody writes yet
        log.note(snapshot, packed, "video", 3, 0, trace)
    assert log.dropped == 7
    log.start()
    log.stop()
    assert log.dropped == 7


def test_a_folder_that_is_gone_is_no_error(
    log: DecisionLog, snapshot: Snapshot, caplog: pytest.LogCaptureFixture
) -> None:
    packed, trace = steered(snapshot, "t", "203.0.113.7")
    log.start()
    log.folder.rmdir()
    for _ in range(3):
        log.note(snapshot, packed, "video", 3, 0, trace)
    log.stop()
    assert log.dropped == 3
    assert len(caplog.records) == 1
    assert threading.active_count() < 20


def test_the_fast_path_leaves_every_nth_request_and_the_named_titles_to_be_recorded(
    snapshot: Snapshot, publish: Callable[..., Path]
) -> None:
    from array import array

    fast_path = FastPath(Trust([]), "x-forwarded-for", None, 10, array("Q", [key_of("watched")]))
    fast_path.serve(snapshot.picker, snapshot.services, "video")
    peer = Peer(bytes([203, 0, 113, 7]), False)
    log = DecisionLog(Path("nowhere"), 1, fast_path, ("watched",))
    left = 0
    for _ in range(100):
        if fast_path.answer(b"GET /v1/steer?title=t HTTP/1.1\r\n\r\n", 0, peer) is None:
            left += 1
            assert log.wants("t")
    assert left == 10
    assert fast_path.answer(b"GET /v1/steer?title=watched HTTP/1.1\r\n\r\n", 0, peer) is None
    assert log.wants("watched")
    assert not log.wants("t")
    assert fast_path.answer(b"GET /v1/steer?title=watched HTTP/1.1\r\n\r\n", 0, peer, True)  # shed: not recorded
