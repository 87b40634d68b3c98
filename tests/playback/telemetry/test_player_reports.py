"""Player reports count for the right appliance, and only viewers with a tag that we signed are attested, once each."""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from _fastpath.client import Trust
from _fastpath.counters import QUALITY, Counters
from _fastpath.fast_path import FastPath
from steering.decision.snapshot import Snapshot
from steering.playback.signing.tags import tag_for
from steering.playback.signing.tokens import SigningKey
from steering.playback.telemetry.cmcd import Report
from steering.playback.telemetry.player_reports import FILTER_BYTES, MAX_SESSIONS, WINDOW_S, PlayerReports, Window

KEYS = {"tag-1": SigningKey("tag-1", "s" * 40)}
ISP = ipaddress.ip_address("203.0.113.7").packed  # of partner number 1, at bom001 and del001
OTHER = ipaddress.ip_address("192.0.2.1").packed
NEAR, FAR = "c001-bom001.cdn.example", "c001-lhr001.cdn.example"  # slots 0 and 6


class Clock:
    """A clock that stands until it is set."""

    now = 1_767_225_600.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def player_reports(tmp_path: Path, snapshot: Snapshot, clock: Clock) -> PlayerReports:
    assert snapshot.appliances_by_name
    counters = Counters(str(tmp_path / "worker.1"), 16, writable=True)
    return PlayerReports(counters, lambda: KEYS, FastPath(Trust([]), "x-forwarded-for", cmcd_sample=10), 10, clock)


def counted(player_reports: PlayerReports) -> dict[int, dict[str, int]]:
    """Return the counts by slot, without those that are 0."""
    rows = player_reports.counters.quality_of_appliances()
    return {slot: {name: n for name, n in zip(QUALITY, row, strict=True) if n} for slot, row in rows.items()}


def test_a_report_is_of_the_appliance_that_it_names(player_reports: PlayerReports, snapshot: Snapshot) -> None:
    reports = [
        Report(host=NEAR, throughput_kbps=3000, bitrate_kbps=500),
        Report(host=NEAR, throughput_kbps=1000, stalled=True),
        Report(network="c001-lhr001", failed=True, start_ms=700),
        Report(host="ads.example", network="c001-lhr001"),
        Report(host="ads.example"),
        Report(),
    ]
    player_reports.count(snapshot, reports, ISP)
    assert counted(player_reports) == {
        0: {"reports": 2, "throughputs": 2, "throughput_kbps": 4000, "bitrates": 1, "bitrate_kbps": 500, "stalls": 1},
        6: {"reports": 2, "errors": 1, "starts": 1, "start_ms": 700},
        -1: {"reports": 2},
    }
    assert {number: row[0] for number, row in player_reports.counters.quality_of_partners().items()} == {1: 6}
    player_reports.count(snapshot, reports[:1], OTHER)
    assert {number: row[0] for number, row in player_reports.counters.quality_of_partners().items()} == {0: 1, 1: 6}


def test_or_else_of_the_one_that_its_session_named_last(player_reports: PlayerReports, snapshot: Snapshot) -> None:
    player_reports.count(snapshot, [Report("ps", "s", "a"), Report("rr", session="a", host=NEAR)], ISP)
    player_reports.count(snapshot, [Report("ps", "r", "a", stalled=True)], ISP)
    player_reports.count(snapshot, [Report("ps", "r", "a", stalled=True)], OTHER)  # whose session "a" is another
    player_reports.count(snapshot, [Report("rr", session="a", host=FAR), Report("e", session="a", failed=True)], ISP)
    assert counted(player_reports) == {
        -1: {"reports": 2, "stalls": 1},
        0: {"reports": 2, "stalls": 1},
        6: {"reports": 2, "errors": 1},
    }


STARTS: list[tuple[str, list[Report], list[int]]] = [
    ("as reported", [Report(session="a", start_ms=800)], [800]),
    ("once a session", [Report(session="a", start_ms=800), Report(session="a", start_ms=900)], [800]),
    ("in each report without one", [Report(start_ms=800), Report(start_ms=900)], [800, 900]),
    ("between two events", [Report("ps", "s", "a", at_ms=1000), Report("ps", "p", "a", at_ms=1700)], [700]),
    ("in the other order", [Report("ps", "p", "a", at_ms=1700), Report("ps", "s", "a", at_ms=1000)], [700]),
    (
        "from the second start on",
        [Report("ps", state, "a", at_ms=at) for at, state in ((1, "p"), (9, "s"), (12, "p"))],
        [3],
    ),
    (
        "reported with the second of them",
        [Report("ps", "s", "a", at_ms=1000), Report("ps", "p", "a", at_ms=1700, start_ms=650)],
        [650],
    ),
    (
        "reported after it",
        [Report("ps", "s", "a", at_ms=1000), Report("ps", "p", "a", at_ms=1700), Report("t", "p", "a", start_ms=9)],
        [700],
    ),
    (
        "a pause is none",
        [Report("ps", state, "a", at_ms=at) for at, state in enumerate("spapspsp", start=1)],
        [1],
    ),
    ("of two sessions", [Report("ps", "s", "a", at_ms=1000), Report("ps", "p", "b", at_ms=1700)], []),
    ("back in time", [Report("ps", "s", "a", at_ms=1000), Report("ps", "p", "a", at_ms=900)], []),
    ("hours", [Report("ps", "s", "a", at_ms=1000), Report("ps", "p", "a", at_ms=10**8)], []),
]


@pytest.mark.parametrize(("reports", "expected"), [row[1:] for row in STARTS], ids=[row[0] for row in STARTS])
def test_how_long_starts_take(
    player_reports: PlayerReports, snapshot: Snapshot, reports: list[Report], expected: list[int]
) -> None:
    for report in reports:
        player_reports.count(snapshot, [report], ISP)
    result = counted(player_reports)[-1]
    assert (result.get("starts", 0), result.get("start_ms", 0)) == (len(expected), sum(expected))


def test_sessions_are_kept_as_keyed_hashes_and_so_many(player_reports: PlayerReports, snapshot: Snapshot) -> None:
    for number in range(MAX_SESSIONS + 10):
        player_reports.count(snapshot, [Report(session=f"session {number}", host=NEAR)], ISP)
    assert len(player_reports.sessions) == MAX_SESSIONS
    assert all(type(key) is int for key in player_reports.sessions)
    player_reports.count(snapshot, [Report(session="session 3"), Report(session=f"session {MAX_SESSIONS}")], ISP)
    assert counted(player_reports)[-1] == {"reports": 1}  # session 3 is forgotten


# ---- of steering requests


def test_one_request_in_so_many_is_read_and_counts_for_all(player_reports: PlayerReports, snapshot: Snapshot) -> None:
    query = b"_HLS_pathway=c001-bom001&CMCD=mtp%3D2000%2Cbs"
    for _ in range(95):
        player_reports.count_steering(snapshot, query, [], ISP, "c001-bom001")
    for _ in range(10):
        player_reports.count_steering(snapshot, b"", [(b"cmcd-request", b"mtp=2000")], ISP, "c001-bom001")
        player_reports.count_steering(snapshot, b"_HLS_pathway=x", [(b"host", b"x")], ISP, "x")  # brings none
    assert counted(player_reports) == {
        0: {"reports": 100, "throughputs": 100, "throughput_kbps": 200_000, "stalls": 90}
    }
    for _ in range(10):
        player_reports.count_steering(snapshot, b"CMCD=hello", [], ISP)
    assert player_reports.counters.events()["unread_reports"] == 1
    player_reports.every = 0
    player_reports.count_steering(snapshot, query, [], ISP)
    assert sum(row["reports"] for row in counted(player_reports).values()) == 100


def test_nothing_is_counted_before_names_are_read_and_they_are_soon(tmp_path: Path, snapshot: Snapshot) -> None:
    counters = Counters(str(tmp_path / "worker.1"), 16, writable=True)
    player_reports = PlayerReports(counters)
    player_reports.count(snapshot, [Report(host=NEAR)], ISP)
    assert counters.quality_of_appliances() == {}
    while not snapshot.knows_names:
        pass
    player_reports.count(snapshot, [Report(host=NEAR)], ISP)
    assert list(counters.quality_of_appliances()) == [0]
    assert Snapshot.map(snapshot.state, snapshot).knows_names  # of the same fleet


# ---- attested reports


def network(number: int) -> bytes:
    """Return an address in one of the ISP's networks."""
    return ipaddress.ip_address((0x20010DB8 << 96) + (number << 80) + 9).packed


def fail(
    player_reports: PlayerReports, snapshot: Snapshot, packed: bytes, tag: str, host: str = NEAR, failed: bool = True
) -> None:
    player_reports.count(snapshot, [Report("e", host=host, failed=failed)], packed, tag)


def tag_at(packed: bytes, viewer: str = "v", now: float = Clock.now) -> str:
    return tag_for(KEYS, "video", viewer, packed, now)


def test_a_viewer_with_a_tag_is_attested_once_a_window(
    player_reports: PlayerReports, snapshot: Snapshot, clock: Clock
) -> None:
    for _ in range(50):
        fail(player_reports, snapshot, ISP, tag_at(ISP), failed=False)
    assert player_reports.counters.attested() == {0: (1, 0)}
    for _ in range(50):
        fail(player_reports, snapshot, ISP, tag_at(ISP))
    assert player_reports.counters.attested() == {0: (1, 1)}
    clock.now += WINDOW_S
    fail(player_reports, snapshot, ISP, tag_at(ISP))
    assert player_reports.counters.attested() == {0: (2, 2)}


FLOODS = [
    ("without a tag", lambda _: (ISP, ""), 0),
    ("one tag repeated", lambda _: (ISP, tag_at(ISP)), 1),
    ("one tag from other networks", lambda number: (network(number), tag_at(ISP)), 0),
    ("expired", lambda number: (network(number), tag_at(network(number), now=Clock.now - 86_400)), 0),
    ("made up", lambda number: (network(number), f"tag-1~1800000000~{number:08}~{'A' * 24}"), 0),
    ("a thousand sessions of one network", lambda number: (ISP, tag_at(ISP, str(number))), 4),
]


@pytest.mark.parametrize(("client", "most"), [row[1:] for row in FLOODS], ids=[row[0] for row in FLOODS])
def test_a_flood_is_a_few_attested_viewers(
    player_reports: PlayerReports, snapshot: Snapshot, client, most: int
) -> None:  # type: ignore[no-untyped-def]
    for number in range(1000):
        fail(player_reports, snapshot, *client(number))
    attested, failing = player_reports.counters.attested().get(0, (0, 0))
    assert failing <= attested <= most
    assert counted(player_reports)[0]["errors"] == 1000  # counted all the same


WORKERS = [("one worker", 1), ("four workers", 4), ("many workers", 16)]


@pytest.mark.parametrize("workers", [row[1] for row in WORKERS], ids=[row[0] for row in WORKERS])
@pytest.mark.parametrize(("client", "most"), [row[1:] for row in FLOODS], ids=[row[0] for row in FLOODS])
def test_a_flood_over_all_workers_is_no_more_attested_viewers(
    tmp_path: Path, snapshot: Snapshot, clock: Clock, client, most: int, workers: int
) -> None:  # type: ignore[no-untyped-def]
    assert snapshot.appliances_by_name
    seen = bytearray(FILTER_BYTES)
    each = [
        PlayerReports(
            Counters(str(tmp_path / f"worker.{number}"), 16, writable=True), lambda: KEYS, clock=clock, seen=seen
        )
        for number in range(1, workers + 1)
    ]
    for minute in range(1, 4):
        for number in range(300):
            for player_reports in each:
                fail(player_reports, snapshot, *client(number))
        totals = [player_reports.counters.attested().get(0, (0, 0)) for player_reports in each]
        assert sum(failing for _, failing in totals) <= sum(attested for attested, _ in totals) <= most * minute
        clock.now += WINDOW_S


def test_two_workers_on_either_side_of_the_turn_of_a_window_count_a_viewer_once_each() -> None:
    """One is still at a body that it took before the turn, and another at one that it took after it."""
    seen = bytearray(FILTER_BYTES)
    for turn in range(1, 600):
        late, early = Window(seen), Window(seen)
        late.turn(turn * WINDOW_S - 0.01)
        early.turn(turn * WINDOW_S + 0.01)
        assert sum(window.is_new(0, b"v") for _ in range(200) for window in (late, early)) <= 2


def test_windows_begin_without_clearing(snapshot: Snapshot, player_reports: PlayerReports, clock: Clock) -> None:
    for minute in range(600):
        fail(player_reports, snapshot, ISP, tag_at(ISP, now=clock.now))
        assert player_reports.counters.attested() == {0: (minute + 1, minute + 1)}
        clock.now += WINDOW_S


def test_an_attested_report_counts_where_its_network_can_be_steered_to(
    player_reports: PlayerReports, snapshot: Snapshot
) -> None:
    london = bytes([198, 51, 100, 9])
    assert 0 not in snapshot.clusters_of(snapshot.zone_of(london))
    for host in (NEAR, "ads.example", ""):
        fail(player_reports, snapshot, london, tag_at(london), host)
    assert player_reports.counters.attested() == {}
    fail(player_reports, snapshot, london, tag_at(london), FAR)
    assert player_reports.counters.attested() == {6: (1, 1)}


REPORTS = st.lists(
    st.tuples(
        st.sampled_from([NEAR, FAR, "ads.example", ""]),
        st.sampled_from(["a", "b", ""]),
        st.integers(0, 3),  # whose network
        st.booleans(),
        st.booleans(),
        st.sampled_from([-1, 0, 5000]),
        st.booleans(),  # with a tag
    ),
    max_size=60,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(REPORTS)
def test_counts_are_those_of_a_slow_judge(
    tmp_path: Path, snapshot: Snapshot, clock: Clock, reports: Sequence[tuple[str, str, int, bool, bool, int, bool]]
) -> None:
    path = tmp_path / "worker.9"
    path.unlink(missing_ok=True)
    assert snapshot.appliances_by_name
    player_reports = PlayerReports(Counters(str(path), 16, writable=True), lambda: KEYS, clock=clock)
    slots = {NEAR: 0, FAR: 6, "ads.example": -1}
    last: dict[tuple[str, int], int] = {}
    expected: dict[int, list[int]] = defaultdict(lambda: [0] * 5)
    attested: dict[int, set[int]] = defaultdict(set)
    failing: dict[int, set[int]] = defaultdict(set)
    clusters = snapshot.clusters_of(snapshot.zone_of(network(0)))
    for host, session, number, stalled, failed, kbps, tagged in reports:
        packed = network(number)
        player_reports.count(
            snapshot,
            [Report(session=session, host=host, throughput_kbps=kbps, stalled=stalled, failed=failed)],
            packed,
            tag_at(packed) if tagged else "",
        )
        slot = slots[host] if host else last.get((session, number), -1)
        if session:
            last[session, number] = slot
        row = expected[slot]
        for index, value in enumerate((1, kbps >= 0, max(kbps, 0), stalled, failed)):
            row[index] += value
        if tagged and slot >= 0 and (slot // 2) in clusters:
            attested[slot].add(number)
            if stalled or failed:
                failing[slot].add(number)
    result = {
        slot: [row[0], row[1], row[2], row[5], row[6]]
        for slot, row in player_reports.counters.quality_of_appliances().items()
    }
    assert result == expected
    assert player_reports.counters.attested() == {
        slot: (len(viewers), len(failing[slot])) for slot, viewers in attested.items()
    }
    partners = {number: row[0] for number, row in player_reports.counters.quality_of_partners().items()}
    assert partners == ({1: len(reports)} if reports else {})
