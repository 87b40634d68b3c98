"""The counters of a worker: they add up, others see them, they outlive it, and a file that does not fit is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from _fastpath.counters import BOUNDS, ENDPOINTS, EVENTS, GAUGES, RANKS, REASONS, STATUSES, Counters
from _fastpath.lane import Lane, Peer
from _fastpath.pick import DISABLED, NO_HEADROOM, OVER_LIMIT, STALE, UNHEALTHY
from steering.snapshot import REASONS as MEANINGS
from steering.snapshot import Snapshot, Weights

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
        ("app", endpoint if endpoint in ENDPOINTS else "other", status if status in STATUSES else 500)
        for endpoint, status, _ in noted
    )
    assert counters.answers() == expected
    buckets, seconds = counters.latency("app")
    below = [sum(took_s <= bound for _, _, took_s in noted) for bound in BOUNDS]
    assert [sum(buckets[: place + 1]) for place in range(len(BOUNDS))] == pytest.approx(below, abs=0)
    assert sum(buckets) == len(noted)
    assert seconds == pytest.approx(sum(took_s for _, _, took_s in noted), abs=1e-6)
    assert counters.latency("lane") == ([0] * len(buckets), 0.0)


def test_the_lane_counts_what_it_answers(path: str, snapshot: Snapshot) -> None:
    counters = Counters(path, 64, writable=True)
    lane = Lane([(4, 127 << 24, 0xFF << 24)], "x-forwarded-for", counters)
    lane.serve(snapshot.picker, snapshot.services, "video")
    request = b"GET /v1/steer?title=t&n=8&ip=203.0.113.7 HTTP/1.1\r\n\r\n"
    answer = lane.answer(request, 0, LOOPBACK)
    assert answer is not None
    assert lane.answer(b"GET /healthz HTTP/1.1\r\n\r\n", 0, LOOPBACK)
    assert lane.answer(request.replace(b"title", b"tilte"), 0, LOOPBACK) is None
    assert lane.answer(request, 0, LOOPBACK, True)  # shed
    assert counters.answers() == {("lane", "steer", 200): 2, ("lane", "healthz", 200): 1}
    ranks = Counter(min(rank, 4) for rank in range(8) for _ in range(answer.count(b'"rank":%d}' % rank)))
    targets = counters.targets()
    assert {place: targets[name] for place, name in enumerate(RANKS[:5]) if targets[name]} == ranks
    assert targets["fallback"] == answer.count(b'"fallback"') + 1
    assert sum(counters.latency("lane")[0]) == 3
    ((slot, count),) = counters.appliances().items()
    assert count == 1
    assert snapshot.appliances_by_slot[slot][0].encode() in answer.partition(b'"appliance":"')[2][:20]


def test_whoever_is_passed_over_is_counted_by_reason_at_both_doors(path: str, snapshot: Snapshot) -> None:
    weights = Weights(str(snapshot.state / snapshot.current.weights), writable=True)
    counters = Counters(path, 64, writable=True)
    lane = Lane([(4, 127 << 24, 0xFF << 24)], "x-forwarded-for", counters)
    lane.serve(snapshot.picker, snapshot.services, "video")
    client, title = "203.0.113.7", "t"
    before: list[tuple[int, int, int, str, int | None]] = []
    snapshot.steer(client, title, service="video", n=8, trace=before)
    for place, bit in enumerate((DISABLED, UNHEALTHY, STALE, NO_HEADROOM, OVER_LIMIT)):
        slot = snapshot.slots[before[place][0]]
        weights.set_word(slot, weights.word(slot) | bit)
    trace: list[tuple[int, int, int, str, int | None]] = []
    snapshot.steer(client, title, service="video", n=8, trace=trace)
    once = Counter(reason for *_, reason, _ in trace if reason != "-")
    assert counters.passed_over() == {reason: once[reason] for reason in REASONS}
    assert lane.answer(b"GET /v1/steer?title=t&n=8&ip=203.0.113.7 HTTP/1.1\r\n\r\n", 0, LOOPBACK)
    assert counters.passed_over() == {reason: 2 * once[reason] for reason in REASONS}
    assert set("DUSH") <= set(once)
    assert set(REASONS) == set(MEANINGS)


def test_who_comes_first_in_an_answer_of_fastapis_is_counted_too(path: str, snapshot: Snapshot) -> None:
    counters = Counters(path, 64, writable=True)
    snapshot.picker.count_in(counters)
    answer = json.loads(snapshot.steer("203.0.113.7", "t", service="video"))
    ((slot, count),) = counters.appliances().items()
    assert (snapshot.appliances_by_slot[slot][0], count) == (answer["targets"][0]["appliance"], 1)


def test_another_process_sees_them(path: str) -> None:
    counters = Counters(path, 4, writable=True)
    for event in EVENTS:
        counters.note_event(event)
    for place, gauge in enumerate(GAUGES):
        counters.set_gauge(gauge, 2**40 + place)
    program = f"from _fastpath.counters import Counters; c = Counters({path!r}); print(c.events(), c.gauges())"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.strip() == f"{counters.events()} {counters.gauges()}"
    assert set(counters.events().values()) == {1}


def test_a_worker_that_is_started_again_goes_on_counting(path: str) -> None:
    first = Counters(path, 4, writable=True)
    first.note("steer", 200, 0.001)
    again = Counters(path, 4, writable=True)
    again.note("steer", 200, 0.001)
    assert again.answers() == first.answers() == {("app", "steer", 200): 2}
    assert again.began_at == first.began_at
    larger = Counters(path, 5, writable=True)
    assert larger.answers() == {}


def test_only_the_worker_may_count(path: str, snapshot: Snapshot) -> None:
    Counters(path, writable=True)
    reader = Counters(path)
    for change in (
        lambda: reader.note("steer", 200, 0),
        lambda: reader.set_gauge("table", 1),
        lambda: Lane([], "x", reader),
        lambda: snapshot.picker.count_in(reader),
    ):
        with pytest.raises(ValueError, match="mapped read-only"):
            change()
    with pytest.raises(ValueError, match="mapped read-only"):
        reader.note_event("shed")
    with pytest.raises(ValueError, match="mapped read-only"):
        reader.note_targets([])


DAMAGES = [
    ("cut off in the header", lambda data: data[:40], "40 bytes, cut off in its header"),
    ("empty", lambda data: data[:0], "0 bytes, cut off in its header"),
    ("cut off behind it", lambda data: data[:-8], "its header promises"),
    ("another magic", lambda data: b"STEERCN9" + data[8:], "not a file of counters that this build reads"),
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
