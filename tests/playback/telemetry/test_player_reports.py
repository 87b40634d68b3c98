"""What players report is counted where it belongs, and only who brings a tag of ours has a voice, and one."""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from _fastpath.counters import QUALITY, Counters
from _fastpath.fast_path import FastPath
from steering.decision.snapshot import Snapshot
from steering.playback.signing.tags import tag_for
from steering.playback.signing.tokens import SigningKey
from steering.playback.telemetry.cmcd import Report
from steering.playback.telemetry.player_reports import MAX_SESSIONS, WINDOW_S, PlayerReports

KEYS = {"tag-1": SigningKey("tag-1", "s" * 40)}
ISP = ipaddress.ip_address("203.0.113.7").packed  # of partner number 1, at bom001 and del001
NOBODYS = ipaddress.ip_address("192.0.2.1").packed
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
def heard(tmp_path: Path, snapshot: Snapshot, clock: Clock) -> PlayerReports:
    assert snapshot.appliances_by_name
    counters = Counters(str(tmp_path / "worker.1"), 16, writable=True)
    return PlayerReports(counters, lambda: KEYS, FastPath([], "x-forwarded-for", cmcd_sample=10), 10, clock)


def told(heard: PlayerReports) -> dict[int, dict[str, int]]:
    """Return what is counted by slot, without what is 0."""
    rows = heard.counters.quality_of_appliances()
    return {slot: {name: n for name, n in zip(QUALITY, row, strict=True) if n} for slot, row in rows.items()}


def test_a_report_is_of_the_appliance_that_it_names(heard: PlayerReports, snapshot: Snapshot) -> None:
    reports = [
        Report(host=NEAR, throughput_kbps=3000, bitrate_kbps=500),
        Report(host=NEAR, throughput_kbps=1000, stalled=True),
        Report(network="c001-lhr001", failed=True, start_ms=700),
        Report(host="ads.example", network="c001-lhr001"),
        Report(host="ads.example"),
        Report(),
    ]
    heard.take(snapshot, reports, ISP)
    assert told(heard) == {
        0: {"reports": 2, "throughputs": 2, "throughput_kbps": 4000, "bitrates": 1, "bitrate_kbps": 500, "stalls": 1},
        6: {"reports": 2, "errors": 1, "starts": 1, "start_ms": 700},
        -1: {"reports": 2},
    }
    assert {number: row[0] for number, row in heard.counters.quality_of_partners().items()} == {1: 6}
    heard.take(snapshot, reports[:1], NOBODYS)
    assert {number: row[0] for number, row in heard.counters.quality_of_partners().items()} == {0: 1, 1: 6}


def test_or_else_of_the_one_that_its_session_named_last(heard: PlayerReports, snapshot: Snapshot) -> None:
    heard.take(snapshot, [Report("ps", "s", "a"), Report("rr", session="a", host=NEAR)], ISP)
    heard.take(snapshot, [Report("ps", "r", "a", stalled=True)], ISP)
    heard.take(snapshot, [Report("ps", "r", "a", stalled=True)], NOBODYS)  # whose session "a" is another
    heard.take(snapshot, [Report("rr", session="a", host=FAR), Report("e", session="a", failed=True)], ISP)
    assert told(heard) == {
        -1: {"reports": 2, "stalls": 1},
        0: {"reports": 2, "stalls": 1},
        6: {"reports": 2, "errors": 1},
    }


STARTS: list[tuple[str, list[Report], list[int]]] = [
    ("as told", [Report(session="a", start_ms=800)], [800]),
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
        "told with the second of them",
        [Report("ps", "s", "a", at_ms=1000), Report("ps", "p", "a", at_ms=1700, start_ms=650)],
        [650],
    ),
    (
        "told after it",
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
    heard: PlayerReports, snapshot: Snapshot, reports: list[Report], expected: list[int]
) -> None:
    for report in reports:
        heard.take(snapshot, [report], ISP)
    found = told(heard)[-1]
    assert (found.get("starts", 0), found.get("start_ms", 0)) == (len(expected), sum(expected))


def test_sessions_are_kept_as_keyed_hashes_and_so_many(heard: PlayerReports, snapshot: Snapshot) -> None:
    for number in range(MAX_SESSIONS + 10):
        heard.take(snapshot, [Report(session=f"session {number}", host=NEAR)], ISP)
    assert len(heard.sessions) == MAX_SESSIONS
    assert all(type(key) is int for key in heard.sessions)
    heard.take(snapshot, [Report(session="session 3"), Report(session=f"session {MAX_SESSIONS}")], ISP)
    assert told(heard)[-1] == {"reports": 1}  # session 3 is forgotten


# ---- of steering requests


def test_one_request_in_so_many_is_read_and_stands_for_all(heard: PlayerReports, snapshot: Snapshot) -> None:
    query = b"_HLS_pathway=c001-bom001&CMCD=mtp%3D2000%2Cbs"
    for _ in range(95):
        heard.hear(snapshot, query, [], ISP, "c001-bom001")
    for _ in range(10):
        heard.hear(snapshot, b"", [(b"cmcd-request", b"mtp=2000")], ISP, "c001-bom001")
        heard.hear(snapshot, b"_HLS_pathway=x", [(b"host", b"x")], ISP, "x")  # brings none
    assert told(heard) == {0: {"reports": 100, "throughputs": 100, "throughput_kbps": 200_000, "stalls": 90}}
    for _ in range(10):
        heard.hear(snapshot, b"CMCD=hello", [], ISP)
    assert heard.counters.events()["unread_reports"] == 1
    heard.every = 0
    heard.hear(snapshot, query, [], ISP)
    assert sum(row["reports"] for row in told(heard).values()) == 100


def test_nothing_is_counted_before_names_are_learnt_and_they_are_soon(tmp_path: Path, snapshot: Snapshot) -> None:
    counters = Counters(str(tmp_path / "worker.1"), 16, writable=True)
    heard = PlayerReports(counters)
    heard.take(snapshot, [Report(host=NEAR)], ISP)
    assert counters.quality_of_appliances() == {}
    while not snapshot.knows_names:
        pass
    heard.take(snapshot, [Report(host=NEAR)], ISP)
    assert list(counters.quality_of_appliances()) == [0]
    assert Snapshot.map(snapshot.state, snapshot).knows_names  # of the same fleet


# ---- voices


def network(number: int) -> bytes:
    """Return an address in one of the ISP's networks."""
    return ipaddress.ip_address((0x20010DB8 << 96) + (number << 80) + 9).packed


def fail(
    heard: PlayerReports, snapshot: Snapshot, packed: bytes, tag: str, host: str = NEAR, failed: bool = True
) -> None:
    heard.take(snapshot, [Report("e", host=host, failed=failed)], packed, tag)


def tag_at(packed: bytes, viewer: str = "v", now: float = Clock.now) -> str:
    return tag_for(KEYS, "video", viewer, packed, now)


def test_a_viewer_with_a_tag_has_a_voice_once_a_window(heard: PlayerReports, snapshot: Snapshot, clock: Clock) -> None:
    for _ in range(50):
        fail(heard, snapshot, ISP, tag_at(ISP), failed=False)
    assert heard.counters.attested() == {0: (1, 0)}
    for _ in range(50):
        fail(heard, snapshot, ISP, tag_at(ISP))
    assert heard.counters.attested() == {0: (1, 1)}
    clock.now += WINDOW_S
    fail(heard, snapshot, ISP, tag_at(ISP))
    assert heard.counters.attested() == {0: (2, 2)}


FLOODS = [
    ("without a tag", lambda _: (ISP, ""), 0),
    ("one tag repeated", lambda _: (ISP, tag_at(ISP)), 1),
    ("one tag from other networks", lambda number: (network(number), tag_at(ISP)), 0),
    ("expired", lambda number: (network(number), tag_at(network(number), now=Clock.now - 86_400)), 0),
    ("made up", lambda number: (network(number), f"tag-1~1800000000~{number:08}~{'A' * 24}"), 0),
    ("a thousand sessions of one network", lambda number: (ISP, tag_at(ISP, str(number))), 4),
]


@pytest.mark.parametrize(("client", "most"), [row[1:] for row in FLOODS], ids=[row[0] for row in FLOODS])
def test_a_flood_is_a_few_voices(heard: PlayerReports, snapshot: Snapshot, client, most: int) -> None:  # type: ignore[no-untyped-def]
    for number in range(1000):
        fail(heard, snapshot, *client(number))
    voices, failing = heard.counters.attested().get(0, (0, 0))
    assert failing <= voices <= most
    assert told(heard)[0]["errors"] == 1000  # told all the same


def test_a_voice_counts_where_its_network_can_be_sent_to(heard: PlayerReports, snapshot: Snapshot) -> None:
    london = bytes([198, 51, 100, 9])
    assert 0 not in snapshot.clusters_of(snapshot.zone_of(london))
    for host in (NEAR, "ads.example", ""):
        fail(heard, snapshot, london, tag_at(london), host)
    assert heard.counters.attested() == {}
    fail(heard, snapshot, london, tag_at(london), FAR)
    assert heard.counters.attested() == {6: (1, 1)}


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
    heard = PlayerReports(Counters(str(path), 16, writable=True), lambda: KEYS, clock=clock)
    slots = {NEAR: 0, FAR: 6, "ads.example": -1}
    last: dict[tuple[str, int], int] = {}
    expected: dict[int, list[int]] = defaultdict(lambda: [0] * 5)
    voices: dict[int, set[int]] = defaultdict(set)
    failing: dict[int, set[int]] = defaultdict(set)
    clusters = snapshot.clusters_of(snapshot.zone_of(network(0)))
    for host, session, number, stalled, failed, kbps, tagged in reports:
        packed = network(number)
        heard.take(
            snapshot,
            [Report(session=session, host=host, throughput_kbps=kbps, stalled=stalled, failed=failed)],
            packed,
            tag_at(packed) if tagged else "",
        )
        slot = slots[host] if host else last.get((session, number), -1)
        if session:
            last[session, number] = slot
        row = expected[slot]
        for place, more in enumerate((1, kbps >= 0, max(kbps, 0), stalled, failed)):
            row[place] += more
        if tagged and slot >= 0 and (slot // 2) in clusters:
            voices[slot].add(number)
            if stalled or failed:
                failing[slot].add(number)
    found = {
        slot: [row[0], row[1], row[2], row[5], row[6]] for slot, row in heard.counters.quality_of_appliances().items()
    }
    assert found == expected
    assert heard.counters.attested() == {slot: (len(who), len(failing[slot])) for slot, who in voices.items()}
    partners = {number: row[0] for number, row in heard.counters.quality_of_partners().items()}
    assert partners == ({1: len(reports)} if reports else {})
