"""Counts what players report, by appliance and by the viewers' partner, and which appliances fail attested viewers.

A report counts for the appliance whose host or id it names, or else for the one that its session named last: few of a
player's events name one. A start-up takes as long as the player reports, or the time between two of its events.

Anyone can report anything, so these counts are published and decide nothing. Only attested reports may decide: their
viewers bring a tag that we signed (`tags.py`), and each is counted once in WINDOW_S at an appliance to which its
network can be steered, by whichever worker it reaches.

Kept in memory and never written: a keyed hash of each session with its last appliance, and one byte of a filter, which
all workers share, for each attested viewer.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from _fastpath.counters import Counters
from _fastpath.fast_path import FastPath
from steering.decision.snapshot import Snapshot
from steering.playback.signing.tags import attested_viewer, read_tag
from steering.playback.signing.tokens import SigningKey, network_of
from steering.playback.telemetry.cmcd import MAX_START_MS, Report, brings_cmcd, read_headers, read_query

WINDOW_S: Final = 60.0
FILTER_BYTES: Final = 1 << 20  # at 60,000 viewers a window one in twenty is wrongly taken as seen
MAX_SESSIONS: Final = 1 << 14  # beyond this, the oldest are forgotten
STARTED: Final = -1
LEARNING_S: Final = 2.0  # the longest time that reports wait for the names of appliances
MAX_WAITING: Final = 256  # bodies of reports that wait
NOWHERE: Final = (-1, -1)  # slot, cluster
UNSEEN: Final = (NOWHERE, 0)


class Window:
    """A one-hash filter for WINDOW_S by the clock: no false "new", some false "seen". All workers use one.

    A byte has the number of the window in which its key was seen last, so a new window begins without clearing. Workers
    are forks of one process: their hashes are equal, and secret. While a window begins, a worker may still count a body
    that it took in the last one: what the others have seen since is not new to it, else both would count every report.
    Two that look at a byte within the same microsecond may both find it new, which nobody can aim at.
    """

    def __init__(self, shared: bytearray | mmap.mmap) -> None:
        self.seen = shared
        self.number = 0

    def turn(self, now: float) -> None:
        self.number = int(now // WINDOW_S) % 255 + 1

    def is_new(self, *key: object) -> bool:
        """Tell whether the window has not seen this key, and note it."""
        index = hash(key) % FILTER_BYTES
        if self.seen[index] in (self.number, self.number % 255 + 1):  # in this window, or already in the next one
            return False
        self.seen[index] = self.number
        return True


class PlayerReports:
    """Counts the reports that one worker receives; of steering requests with CMCD, one in `every` (0: none).

    The fast path draws that one, for both paths.
    `seen` is the memory of the filter that workers share, of FILTER_BYTES.
    """

    def __init__(
        self,
        counters: Counters,
        keys: Callable[[], Mapping[str, SigningKey]] = dict,
        fast_path: FastPath | None = None,
        every: int = 0,
        clock: Callable[[], float] = time.time,
        seen: bytearray | mmap.mmap | None = None,
    ) -> None:
        self.counters = counters
        self.keys = keys
        self.fast_path = fast_path
        self.every = every
        self.clock = clock
        self.window = Window(bytearray(FILTER_BYTES) if seen is None else seen)
        # By session: its last (slot, cluster); and the time of its first start-up event: above 0 where it began to
        # wait, below STARTED (as STARTED - time) where it reported first that it played, STARTED once it has started.
        self.sessions: dict[int, tuple[tuple[int, int], int]] = {}
        self.learning = 0  # the generation whose names are being read
        self.waiting = 0

    def knows_names(self, snapshot: Snapshot) -> bool:
        """Tell whether a snapshot's names of appliances are read; if not, start a thread that reads them."""
        if snapshot.knows_names:
            return True
        if self.learning != snapshot.current.generation:
            self.learning = snapshot.current.generation
            threading.Thread(target=lambda: snapshot.appliances_by_name, name="names", daemon=True).start()
        return False

    async def learn_names(self, snapshot: Snapshot) -> None:
        """Wait up to LEARNING_S for a snapshot's names of appliances; not at all where MAX_WAITING wait already."""
        if self.knows_names(snapshot) or self.waiting == MAX_WAITING:
            return
        self.waiting += 1
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LEARNING_S):
                    while not snapshot.knows_names:
                        await asyncio.sleep(0.01)
        finally:
            self.waiting -= 1

    def count_steering(
        self, snapshot: Snapshot, query: bytes, headers: Sequence[tuple[bytes, bytes]], packed: bytes, playing: str = ""
    ) -> None:
        """Count the report that a steering request carries, if it is drawn; `playing` is the pathway that it names."""
        if not self.every or self.fast_path is None:
            return
        if not brings_cmcd(query, headers) or not self.fast_path.is_cmcd_drawn():
            return
        report = read_query(query) or read_headers(headers)
        if report is None:
            self.counters.note_event("unread_reports")
        else:
            self.count(snapshot, [report], packed, read_tag(query), self.every, playing)

    def count(
        self,
        snapshot: Snapshot,
        reports: Sequence[Report],
        packed: bytes,
        tag: str = "",
        times: int = 1,
        playing: str = "",
    ) -> None:
        """Count the reports of a client at a packed address; each counts `times` times.

        Nothing is counted in the moment after a fleet was published in which its names are read.
        """
        if not self.knows_names(snapshot):
            return
        now = self.clock()
        zone = snapshot.zone_of(packed)
        network = network_of(packed)
        named = snapshot.appliances_by_name
        viewer = attested_viewer(tag, self.keys(), packed, now) if tag else None
        reachable = snapshot.clusters_of(zone) if viewer else frozenset()
        self.window.turn(now)
        note, sessions = self.counters.note_report, self.sessions
        for report in reports:
            key = hash((report.session, network)) if report.session else 0
            before, began = sessions.get(key, UNSEEN) if key else UNSEEN
            name = report.host or report.network or playing
            last = named.get(report.host) or named.get(report.network or playing) or (NOWHERE if name else before)
            start_ms = -1
            if began != STARTED:
                start_ms = report.start_ms
                if report.event == "ps" and report.at_ms > 0:
                    if start_ms < 0:
                        start_ms = start_up_ms(report, began)
                    if report.state == "s":
                        began = report.at_ms
                    elif report.state == "p" and not began:
                        began = STARTED - report.at_ms
                if start_ms >= 0:
                    began = STARTED
            if key and (last, began) != (before, 0):
                if key not in sessions and len(sessions) >= MAX_SESSIONS:
                    del sessions[next(iter(sessions))]
                sessions[key] = last, began
            slot, cluster = last
            note(
                slot,
                zone.partner,
                times,
                report.stalled,
                report.failed,
                report.throughput_kbps,
                report.bitrate_kbps,
                start_ms,
            )
            if viewer and slot >= 0 and cluster in reachable:
                if self.window.is_new(slot, viewer):
                    self.counters.note_attested(slot, False)
                if (report.stalled or report.failed) and self.window.is_new(slot, viewer, "failing"):
                    self.counters.note_attested(slot, True)


def start_up_ms(report: Report, began: int) -> int:
    """Return how long a start-up took if this report is the second of its two events, in either order; else -1."""
    took_ms = -1
    if report.state == "p" and began > 0:
        took_ms = report.at_ms - began
    elif report.state == "s" and began < STARTED:
        took_ms = STARTED - began - report.at_ms
    return took_ms if 0 <= took_ms <= MAX_START_MS else -1
