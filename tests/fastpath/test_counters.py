"""The counters of a worker: they add up, others see them, they outlive it, and a file that does not fit is refused."""

from __future__ import annotations

import dataclasses
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from _fastpath.client import Trust
from _fastpath.counters import BOUNDS, ENDPOINTS, EVENTS, GAUGES, QUALITY, RANKS, STATUSES, Counters
from _fastpath.fast_path import FastPath, Peer
from _fastpath.hashing import content_key_of
from _fastpath.holdings_builder import HoldingsBuilder
from _fastpath.status_words import DISABLED, STALE, StatusWords
from steering.decision.snapshot import Snapshot
from steering.model.fleet import Fleet
from steering.playback.answers.players import compiled, read_request, steer
from steering.playback.telemetry.metrics import metrics_text
from steering.settings import Settings
from steering.state.current import read_current, write_current
from steering.state.fleet import write_fleet
from steering.state.holdings import write_holdings
from tests.support.processes import disk

LOOPBACK = Peer(bytes([127, 0, 0, 1]), True)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "worker.1")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from([*ENDPOINTS, "else"]), st.sampled_from([*STATUSES, 418, 999, -1]), st.floats(0, 9)),
        max_size=30,
    )
)
def test_every_answer_is_counted_once_where_it_belongs(path: str, noted: list[tuple[str, int, float]]) -> None:
    Path(path).unlink(missing_ok=True)
    counters = Counters(path, writable=True)
    for endpoint, status, took_s in noted:
        counters.note(endpoint, status, took_s)
    expected = Counter(
        ("fallback", endpoint if endpoint in ENDPOINTS else "other", status if status in STATUSES else 500)
        for endpoint, status, _ in noted
    )
    assert counters.answers() == expected
    buckets, seconds = counters.latency("fallback")
    below = [sum(took_s <= bound for _, _, took_s in noted) for bound in BOUNDS]
    assert [sum(buckets[: place + 1]) for place in range(len(BOUNDS))] == pytest.approx(below, abs=0)
    assert sum(buckets) == len(noted)
    assert seconds == pytest.approx(sum(took_s for _, _, took_s in noted), abs=1e-6)
    assert counters.latency("fast") == ([0] * len(buckets), 0.0)


def test_the_fast_path_counts_what_it_answers(path: str, snapshot: Snapshot) -> None:
    counters = Counters(path, 64, writable=True)
    fast_path = FastPath(Trust([ip_network("127.0.0.0/8")]), "x-forwarded-for", counters)
    fast_path.serve(snapshot.picker, snapshot.services, "video")
    request = b"GET /v1/steer?title=t&n=8&ip=203.0.113.7 HTTP/1.1\r\n\r\n"
    answer = fast_path.answer(request, 0, LOOPBACK)
    assert answer is not None
    assert fast_path.answer(b"GET /healthz HTTP/1.1\r\n\r\n", 0, LOOPBACK)
    assert fast_path.answer(request.replace(b"title", b"tilte"), 0, LOOPBACK) is None
    assert fast_path.answer(request, 0, LOOPBACK, True)  # shed
    assert counters.answers() == {("fast", "steer", 200): 2, ("fast", "healthz", 200): 1}
    ranks = Counter(min(rank, 4) for rank in range(8) for _ in range(answer.count(b'"rank":%d}' % rank)))
    targets = counters.targets()
    assert {place: targets[name] for place, name in enumerate(RANKS[:5]) if targets[name]} == ranks
    assert targets["fallback"] == answer.count(b'"fallback"') + 1
    assert sum(counters.latency("fast")[0]) == 3
    ((slot, count),) = counters.appliances().items()
    assert count == 1
    assert snapshot.names.appliances_by_slot[slot][0].encode() in answer.partition(b'"appliance":"')[2][:20]


def test_another_process_sees_them(path: str) -> None:
    counters = Counters(path, 4, writable=True)
    for event in EVENTS:
        counters.note_event(event)
    for place, gauge in enumerate(GAUGES):
        counters.set_gauge(gauge, 2**40 + place)
    program = f"from _fastpath.counters import Counters; c = Counters({path!r}); print(c.events(), c.gauges())"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output.strip() == f"{counters.events()} {counters.gauges()}"
    assert set(counters.events().values()) == {1}


def test_a_worker_that_is_started_again_goes_on_counting(path: str) -> None:
    first = Counters(path, 4, writable=True)
    first.note("steer", 200, 0.001)
    again = Counters(path, 4, writable=True)
    again.note("steer", 200, 0.001)
    assert again.answers() == first.answers() == {("fallback", "steer", 200): 2}
    assert again.began_at == first.began_at
    larger = Counters(path, 5, writable=True)
    assert larger.answers() == {}


def test_only_the_worker_may_count(path: str) -> None:
    Counters(path, writable=True)
    reader = Counters(path)
    for change in (
        lambda: reader.note("steer", 200, 0),
        lambda: reader.set_gauge("table", 1),
        lambda: FastPath(Trust([]), "x", reader),
    ):
        with pytest.raises(ValueError, match="mapped read-only"):
            change()
    with pytest.raises(ValueError, match="mapped read-only"):
        reader.note_event("shed")


REQUEST = b"GET /v1/steer?title=%s&session=s&ip=203.0.113.7 HTTP/1.1\r\n\r\n"


def test_both_paths_count_the_same(tmp_path: Path, publish: Callable[..., Path], fleet: Fleet) -> None:
    state = publish(tmp_path / "state")
    builder = HoldingsBuilder(None, [("video", "t")])
    builder.set_cluster(0, [0, 1], [{"video"}] * 2, [b"", b""])
    builder.set_cluster(2, [4, 5], [{"video"}] * 2, [b"\x01", b""])
    name = write_holdings(state, 1, builder)
    services = (dataclasses.replace(fleet.services[0], fail_open=True),)
    write_current(
        state,
        dataclasses.replace(
            read_current(state),
            holdings=name,
            fleet=write_fleet(state, 2, dataclasses.replace(fleet, services=services)),
        ),
    )
    snapshot = Snapshot.map(state)
    weights = StatusWords(str(state / "status.1"), writable=True)
    weights.set_word(2, weights.word(2) | DISABLED)
    fast, fallback = (Counters(str(tmp_path / name), 8, writable=True) for name in ("worker.1", "worker.2"))
    fast_path = FastPath(Trust([ip_network("127.0.0.0/8")]), "x-forwarded-for", fast)
    fast_path.serve(snapshot.picker, snapshot.services, "video", compiled(snapshot, 0.25))
    for word in (0, STALE):
        for slot in (3, 4, 6, 7):
            weights.set_word(slot, weights.word(slot) | word)
        for title in ("t", "t", "other"):
            answer = fast_path.answer(REQUEST % title.encode(), 0, LOOPBACK)
            body = snapshot.steer("203.0.113.7", title, service="video", session="s", counters=fallback)
            assert answer is not None
            assert answer.endswith(body)
            assert (b'"fail_open":true' in body) == (word == STALE)
            player = b"GET /v1/hls/video/%s?_HLS_pathway=x&session=s&ip=203.0.113.7 HTTP/1.1\r\n\r\n" % title.encode()
            answer = fast_path.answer(player, 0, LOOPBACK)
            asked = read_request(*player.split()[1].split(b"?"), "127.0.0.1", (), Trust(Settings().trusted), "none")
            result = steer(snapshot, asked, Settings(), fallback)
            assert answer is not None
            assert answer.endswith(b"\r\n\r\n" + result.body)
            assert result.moves
            fallback.note_event("moved")
    for read in (
        Counters.targets,
        Counters.reasons,
        Counters.events,
        Counters.appliances,
        Counters.popularity,
        Counters.misses,
    ):
        assert read(fast) == read(fallback) != {}
    assert fast.events()["failed_open"] == 6
    assert fast.events()["moved"] == 6
    assert {letter: count for letter, count in fast.reasons().items() if count} == {"C": 12, "D": 12, "S": 6}
    keys = [content_key_of("video", title) for title in ("t", "other")]
    assert fast.popularity() == [(keys[0], 8, "video", "t"), (keys[1], 4, "video", "other")]
    assert fast.misses() == [
        (keys[0], 0, 8, "video", "t"),
        *sorted([(keys[1], 0, 4, "video", "other"), (keys[1], 2, 4, "video", "other")]),
    ]


def hot_and_cold(seed: int) -> tuple[list[str], Counter[str]]:
    """Return requests of Zipf-like titles, each with others that are asked for once, and how often each hit is."""
    rnd = random.Random(seed)
    hits = [f"hit {number} of a title whose name is much too long to be kept whole{' on' * 20}" for number in range(40)]
    asked = rnd.choices(hits, [1 / (place + 1) for place in range(40)], k=6000)
    asked += [f"once {number}" for number in range(6000)]
    rnd.shuffle(asked)
    return asked, Counter(title for title in asked if title.startswith("hit"))


@pytest.mark.parametrize("seed", range(3))
def test_the_titles_asked_for_most_are_known_and_never_counted_too_high(
    path: str, snapshot: Snapshot, seed: int
) -> None:
    counters = Counters(path, 8, writable=True)
    asked, hits = hot_and_cold(seed)
    for title in asked:
        snapshot.steer("203.0.113.7", title, service="video", counters=counters)
    counted = {title: count for _, count, _, title in counters.popularity()}
    for title, count in hits.items():
        assert counted.get(title[:100], 0) <= count
    for title, count in hits.most_common(10):
        assert counted[title[:100]] >= 0.9 * count
    known = {content_key_of("video", title) for title in asked}
    assert {key for key, *_ in counters.popularity()} <= known
    assert len(counters.popularity()) <= 2048


def test_a_title_that_is_asked_for_no_more_makes_room_for_others(path: str, snapshot: Snapshot) -> None:
    counters = Counters(path, 8, writable=True)
    same_set = [title for number in range(6000) if content_key_of("video", title := str(number)) % 512 == 7][:6]
    old, (new, once) = same_set[:4], same_set[4:]
    for title in old:
        for _ in range(5000):
            snapshot.steer("203.0.113.7", title, service="video", counters=counters)
    for _ in range(2000):
        snapshot.steer("203.0.113.7", new, service="video", counters=counters)
        snapshot.steer("203.0.113.7", once, service="video", counters=counters)
    assert {title: count for _, count, _, title in counters.popularity()}[new] > 1000


def test_what_players_report_is_summed_up_by_slot_and_partner(path: str) -> None:
    counters = Counters(path, 8, writable=True)
    counters.note_report(7, 4095, 10, True, False, 3000, -1, 800)
    counters.note_report(7, 4095, 1, False, True, -1, 500)
    counters.note_report(0, 0, 1, False, False)
    for slot, partner in ((-1, 0), (8, 4096), (-(2**63), 2**32 - 1), (2**63 - 1, 5000)):  # nobody's
        counters.note_report(slot, partner, 1, False, False)
    for failing in (False, False, True):
        counters.note_attested(7, failing)
    counters.note_attested(8, True)
    result = Counters(path)
    row = dict(zip(QUALITY, result.quality_of_appliances()[7], strict=True))
    assert row == {
        "reports": 11,
        "throughputs": 10,
        "throughput_kbps": 30_000,
        "bitrates": 1,
        "bitrate_kbps": 500,
        "stalls": 10,
        "errors": 1,
        "starts": 10,
        "start_ms": 8000,
        "attested": 2,
        "failing": 1,
    }
    assert {slot: each[0] for slot, each in result.quality_of_appliances().items()} == {-1: 4, 0: 1, 7: 11}
    assert {number: each[0] for number, each in result.quality_of_partners().items()} == {0: 5, 4095: 11}
    assert result.attested() == {7: (2, 1)}
    assert (result.popularity(), result.misses(), result.appliances()) == ([], [], {})
    for change in (lambda: result.note_report(0, 0, 1, False, False), lambda: result.note_attested(0, False)):
        with pytest.raises(ValueError, match="mapped read-only"):
            change()


def fill(folder: Path) -> None:
    """Leave no room on a disk."""
    result = os.statvfs(folder)
    (folder / "filler").write_bytes(bytes(result.f_bavail * result.f_frsize))


def test_a_file_without_room_is_counted_in_memory(tmp_path: Path, snapshot: Snapshot) -> None:
    with disk(tmp_path / "disk", "size=16m") as folder:
        path = str(folder / "worker.1")
        whole = Counters(path, 8, writable=True)
        assert whole.unshared == ""
        assert Path(path).stat().st_blocks * 512 >= Path(path).stat().st_size, "a hole"
        fill(folder)
        for title in range(3000):  # each is stored in a page of its own
            snapshot.steer("203.0.113.7", str(title), service="video", counters=whole)
        assert sum(Counters(path).targets().values()) > 3000
        for name in ("worker.2", "worker.3"):
            sparse = folder / name
            if name == "worker.3":  # as a backup or an older version leaves it
                head = Path(path).read_bytes()[:64]
                sparse.touch()
                (folder / "filler").unlink()
                sparse.write_bytes(head)
                os.truncate(sparse, Path(path).stat().st_size)
                fill(folder)
            result = Counters(str(sparse), 8, writable=True)
            assert result.unshared.startswith(f"{sparse}: No space left on device; this worker counts in memory")
            for title in range(3000):
                snapshot.steer("203.0.113.7", str(title), service="video", counters=result)
            assert sum(result.targets().values()) > 3000
            assert result.slots == 8
            assert not (folder / f"{name}.new").exists()
        (folder / "filler").unlink()
        assert Counters(str(folder / "worker.3"), 8, writable=True).unshared == ""
        assert (folder / "worker.3").stat().st_blocks * 512 >= (folder / "worker.3").stat().st_size


def test_whatever_a_file_holds_is_read(path: str) -> None:
    """A worker's file may be torn by a crash of the machine: its readers live on, and no count is impossible."""
    Counters(path, 8, writable=True).note("steer", 200, 0.001)
    size = Path(path).stat().st_size
    random_bytes = random.Random(7)
    for fill_with in (b"\xff", b"\x80", bytes([0xC3])):
        head = Path(path).read_bytes()[:64]
        Path(path).write_bytes(head + fill_with * (size - 64))
        read_all(path)
    for _ in range(20):
        Path(path).write_bytes(head + random_bytes.randbytes(size - 64))
        read_all(path)
    Path(path).write_bytes(head[:24] + b"\xff" * 40 + bytes(size - 64))  # when the counting began, and the seed
    read_all(path)


def read_all(path: str) -> None:
    result = Counters(path)
    for name in ("answers", "targets", "events", "reasons", "appliances"):
        assert all(0 <= count <= 1 << 56 for count in getattr(result, name)().values())
    for rows in (result.quality_of_appliances(), result.quality_of_partners(), result.attested()):
        assert all(0 <= count <= 1 << 56 for row in rows.values() for count in row)
    for rows in (result.popularity(), result.misses()):
        assert all(0 <= row[-3] <= 1 << 56 and row[-1].encode() is not None for row in rows)
    assert result.gauges().keys() == set(GAUGES)
    assert result.latency("fast")[1] >= 0
    assert "steering_answers_total" in metrics_text(Path(path).parent, None, True, 0.0)


def test_nobody_chooses_which_titles_share_a_set(tmp_path: Path, snapshot: Snapshot) -> None:
    """Titles that push each other out of one file's sketch do not in another, whose seed is another."""

    def kept(path: Path, titles: list[str]) -> set[str]:
        counters = Counters(str(path), 8, writable=True)
        for title in [*titles, *titles]:
            snapshot.steer("203.0.113.7", title, service="video", counters=counters)
        return {title for *_, title in counters.popularity()}

    titles = [str(number) for number in range(2500)]
    lost = sorted(set(titles) - kept(tmp_path / "worker.1", titles))
    assert len(lost) > 200
    other = set(titles) - kept(tmp_path / "worker.2", titles)
    assert len(set(lost) - other) > len(lost) // 3


DAMAGES = [
    ("cut off in the header", lambda data: data[:40], "40 bytes, cut off in its header"),
    ("empty", lambda data: data[:0], "0 bytes, cut off in its header"),
    ("cut off behind it", lambda data: data[:-8], "its header promises"),
    ("another magic", lambda data: b"STEERCN9" + data[8:], "no counters file of this version"),
    ("the other byte order", lambda data: data[:8] + data[8:12][::-1] + data[12:], "the other byte order"),
    ("more slots than bytes", lambda data: data[:16] + b"\xff\xff\xff\xff" + data[20:], "its header promises"),
]


@pytest.mark.parametrize(("name", "damage", "rule"), DAMAGES, ids=[row[0] for row in DAMAGES])
def test_a_file_that_does_not_fit_is_refused_and_begun_anew_by_its_worker(
    path: str, name: str, damage, rule: str
) -> None:  # type: ignore[no-untyped-def]
    Counters(path, 4, writable=True).note("steer", 200, 0.001)
    file = Path(path)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError, match=rule):
        Counters(path)
    assert Counters(path, 4, writable=True).answers() == {}
    assert file.stat().st_mode & 0o777 == 0o600
