"""The figures of holdings: their size, picks that check them, and a playback request for many files."""

from __future__ import annotations

import dataclasses
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from _fastpath.holdings_builder import HoldingsBuilder
from _fastpath.ranking import Trace
from steering.control.routes.feeds import FeedSource
from steering.control.services.control import Control
from steering.decision.snapshot import Snapshot
from steering.settings import Settings
from steering.state.current import read_current
from steering.state.holdings import write_holdings
from tests.bench.figures import candidates, sixteen_candidates
from tests.bench.measure import Report, Table

TITLES = 100_000
POPULAR_EVERY = 50
ROUNDS = 7


def titles() -> list[tuple[str, str]]:
    return [("video", str(80_000_000 + index)) for index in range(TITLES)]


def bitmaps(rnd: random.Random, members: int) -> Iterator[bytes]:
    """Yield the holdings of each member of a cluster: each title once, and one title in fifty more often, by Zipf."""
    popular = TITLES // POPULAR_EVERY
    holder = rnd.randbytes(TITLES).translate(bytes(byte % members for byte in range(256)))
    copies_of = [max(2, round(members * rank**-0.3)) - 1 for rank in range(1, popular + 1)]
    chances = [min(255, round(255 * copies / max(members - 1, 1))) for copies in copies_of]
    for member in range(members):
        digits = bytearray(holder.translate(bytes(48 + (byte == member) for byte in range(256))))
        copies = bytes(48 + (byte < chance) for byte, chance in zip(rnd.randbytes(popular), chances, strict=True))
        digits[::POPULAR_EVERY] = bytes(a | b for a, b in zip(digits[::POPULAR_EVERY], copies, strict=True))
        digits.reverse()
        yield int(bytes(digits), 2).to_bytes(TITLES // 8, "little")


@pytest.fixture(scope="session")
def with_holdings(published: Path, report: Report) -> Snapshot:
    """Return the synthetic fleet with holdings, different in each cluster, and report their size and build time."""
    snapshot = Snapshot.map(published)
    rnd = random.Random(1)
    slots: dict[int, list[int]] = {}
    for index, slot in enumerate(snapshot.fleet_file.slots):
        slots.setdefault(snapshot.names.appliances[index][1], []).append(slot)
    builder = HoldingsBuilder(None, titles())
    seconds = 0.0
    for number, members in sorted(slots.items()):
        holdings = list(bitmaps(rnd, len(members)))
        start = time.perf_counter()
        builder.set_cluster(number, members, [{"video"}] * len(members), holdings)
        seconds += time.perf_counter() - start
    start = time.perf_counter()
    name = write_holdings(published, 1, builder)
    report.add("holdings_bytes", (published / name).stat().st_size, "bytes")
    report.add("holdings_build_s", seconds + time.perf_counter() - start, "s")
    return Snapshot(published, dataclasses.replace(read_current(published), holdings=name))


def median_ns(function: Callable[[], Any], count: int) -> float:
    """Return the median over rounds of the nanoseconds for one of `count` items."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter_ns()
        function()
        times.append((time.perf_counter_ns() - start) / count)
    return statistics.median(times)


def test_membership(report: Report, with_holdings: Snapshot, published: Path, table: Table) -> None:
    """The added time per candidate to check its holdings, for random clients and random titles."""
    plain = Snapshot.map(published)
    rnd = random.Random(2)
    requests = [(address, str(80_000_000 + rnd.randrange(TITLES))) for address in table.addresses[4][:50_000]]
    costs = []
    for snapshot in (with_holdings, plain):

        def steer_all(snapshot: Snapshot = snapshot) -> None:
            for address, title in requests:
                snapshot.steer(address, title, service="video", n=1)

        looked_at = 0
        for address, title in requests[:2000]:
            trace = Trace()
            snapshot.steer(address, title, service="video", n=1, trace=trace)
            looked_at += len(trace.candidates)
        costs.append((median_ns(steer_all, len(requests)), looked_at / 2000))
    (checked, looked_at_each), (unchecked, _) = costs
    report.add("membership_ns", (checked - unchecked) / looked_at_each, "ns")


def test_pick_with_holdings(report: Report, with_holdings: Snapshot, table: Table, tmp_path: Path) -> None:
    """An answer of 3 from 16 candidates of one rank, half of which hold the title; beside one without holdings."""
    fleet = sixteen_candidates()
    with Control(Settings(state=tmp_path / "state")) as control:
        control.fleet.replace(fleet, who="bench")
        control.tables.publish([FeedSource("asn")], who="bench", why="bench")
    plain = Snapshot.map(tmp_path / "state")
    builder = HoldingsBuilder(None, titles())
    rnd = random.Random(3)
    numbers = Counter(number for _, number in plain.names.appliances)
    for number, members in numbers.items():
        slots = [
            plain.fleet_file.slots[index] for index, (_, other) in enumerate(plain.names.appliances) if other == number
        ]
        builder.set_cluster(number, slots, [{"video"}] * members, list(bitmaps(rnd, members)))
    name = write_holdings(tmp_path / "state", 1, builder)
    asked = Snapshot(tmp_path / "state", dataclasses.replace(plain.current, holdings=name))
    address = next(item for item in table.addresses[4] if candidates(plain, item) == 16)
    names = [name for _, name in titles()[:50_000]]
    times = []
    for snapshot in (asked, plain):

        def steer_all(steer: Callable[..., bytes] = snapshot.steer) -> None:
            for title in names:
                steer(address, title, service="video")

        times.append(median_ns(steer_all, 50_000))
    report.add("pick_with_holdings_ns", times[0], "ns", "without holdings", times[1])

    files = [f"80000000-{number:04}" for number in range(150)]

    def play_all() -> None:
        for viewer in range(200):
            asked.playback(address, files, service="video", session=str(viewer), title="80000000")

    report.add("playback_150_files_us", median_ns(play_all, 200) / 1000, "µs")
