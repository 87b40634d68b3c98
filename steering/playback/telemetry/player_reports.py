"""What players report, counted: of which appliance and of which partner's viewers, and which of them are failing.

A report is of the appliance whose host or id it names, or else of the one that its session named last: of the events
that a player sends, few say where from. Start-ups are what it says they took, or the time between two of its events.

Anybody can report anything, so these counts are told, and decide nothing. What may decide are voices: viewers who bring
a tag of ours (`tags.py`), each counted once in WINDOW_S at an appliance that its network can be sent to.

Kept in memory, and never written: of a session a keyed hash, with where it was; of a voice a bit in a filter.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from _fastpath.counters import Counters
from steering.decision.snapshot import Snapshot
from steering.playback.signing.tags import read_tag, voice_of
from steering.playback.signing.tokens import SigningKey, network_of
from steering.playback.telemetry.cmcd import MAX_START_MS, Report, brings_cmcd, read_headers, read_query

WINDOW_S: Final = 60.0
FILTER_BITS: Final = 1 << 20  # 128 KiB; 60,000 voices a window, and one in twenty is taken for another
MAX_SESSIONS: Final = 1 << 14  # beyond, the oldest are forgotten
STARTED: Final = -1
LEARNING_S: Final = 2.0  # the longest that reports wait for names
MAX_WAITING: Final = 256  # bodies of reports that wait
NOWHERE: Final = (-1, -1)  # slot, cluster
UNSEEN: Final = (NOWHERE, 0)


class Drawer(Protocol):
    """Who decides which steering requests with CMCD are read: `_fastpath.fast_path.FastPath`, for its own and the others."""

    def is_cmcd_drawn(self) -> bool:
        """Tell whether the request at hand is drawn."""


class Once:
    """Tells what is new within a window. It forgets nothing before, and what it takes for known may be new."""

    def __init__(self) -> None:
        self.began_at = 0.0
        self.seen = bytearray(FILTER_BITS // 8)

    def turn(self, now: float) -> None:
        """Begin a new window if it is time."""
        if now - self.began_at >= WINDOW_S:
            self.began_at = now
            self.seen = bytearray(FILTER_BITS // 8)

    def is_new(self, *what: object) -> bool:
        """Tell whether this was not asked for before."""
        place, bit = divmod(hash(what) % FILTER_BITS, 8)
        is_new = not self.seen[place] >> bit & 1
        self.seen[place] |= 1 << bit
        return is_new


class PlayerReports:
    """The reports that come to one worker. Of steering requests with CMCD one in `every` is drawn; 0 is none."""

    def __init__(
        self,
        counters: Counters,
        keys: Callable[[], Mapping[str, SigningKey]] = dict,
        drawer: Drawer | None = None,
        every: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.counters = counters
        self.keys = keys
        self.drawer = drawer
        self.every = every
        self.clock = clock
        self.once = Once()
        # Where it is; since when it waits, less than STARTED if it has told first that it played, or STARTED.
        self.sessions: dict[int, tuple[tuple[int, int], int]] = {}
        self.learning = 0  # the generation whose names are being learnt
        self.waiting = 0

    def knows_names(self, snapshot: Snapshot) -> bool:
        """Tell whether the appliances of a snapshot are known by name; if not, a thread begins to learn them."""
        if snapshot.knows_names:
            return True
        if self.learning != snapshot.current.generation:
            self.learning = snapshot.current.generation
            threading.Thread(target=lambda: snapshot.appliances_by_name, name="names", daemon=True).start()
        return False

    async def learn_names(self, snapshot: Snapshot) -> None:
        """Wait until the appliances of a snapshot are known by name, a moment; where too many wait, do not."""
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

    def hear(
        self, snapshot: Snapshot, query: bytes, headers: Sequence[tuple[bytes, bytes]], packed: bytes, playing: str = ""
    ) -> None:
        """Count what a steering request tells by the way, if it is drawn; `playing` is the pathway that it names."""
        if not self.every or self.drawer is None:
            return
        if not brings_cmcd(query, headers) or not self.drawer.is_cmcd_drawn():
            return
        report = read_query(query) or read_headers(headers)
        if report is None:
            self.counters.note_event("unread_reports")
        else:
            self.take(snapshot, [report], packed, read_tag(query), self.every, playing)

    def take(
        self,
        snapshot: Snapshot,
        reports: Sequence[Report],
        packed: bytes,
        tag: str = "",
        times: int = 1,
        playing: str = "",
    ) -> None:
        """Count reports that a client at a packed address makes; each stands for so many.

        While names are being learnt, the first moment after a fleet was published, nothing is counted.
        """
        if not self.knows_names(snapshot):
            return
        now = self.clock()
        zone = snapshot.zone_of(packed)
        network = network_of(packed)
        named = snapshot.appliances_by_name
        voice = voice_of(tag, self.keys(), packed, now) if tag else None
        reachable = snapshot.clusters_of(zone) if voice else frozenset()
        self.once.turn(now)
        note, sessions = self.counters.note_report, self.sessions
        for report in reports:
            key = hash((report.session, network)) if report.session else 0
            before, began = sessions.get(key, UNSEEN) if key else UNSEEN
            name = report.host or report.network or playing
            place = named.get(report.host) or named.get(report.network or playing) or (NOWHERE if name else before)
            start_ms = -1
            if began != STARTED:
                start_ms = report.start_ms
                if report.event == "ps" and report.at_ms > 0:
                    if start_ms < 0:
                        start_ms = between(report, began)
                    if report.state == "s":
                        began = report.at_ms
                    elif report.state == "p" and not began:
                        began = STARTED - report.at_ms
                if start_ms >= 0:
                    began = STARTED
            if key and (place, began) != (before, 0):
                if key not in sessions and len(sessions) >= MAX_SESSIONS:
                    del sessions[next(iter(sessions))]
                sessions[key] = place, began
            slot, cluster = place
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
            if voice and slot >= 0 and cluster in reachable:
                if self.once.is_new(slot, voice):
                    self.counters.note_attested(slot, False)
                if (report.stalled or report.failed) and self.once.is_new(slot, voice, "failing"):
                    self.counters.note_attested(slot, True)


def between(report: Report, began: int) -> int:
    """Return how long a start-up took if this report is the second of two that tell it, in either order; else -1."""
    took = -1
    if report.state == "p" and began > 0:
        took = report.at_ms - began
    elif report.state == "s" and began < STARTED:
        took = STARTED - began - report.at_ms
    return took if 0 <= took <= MAX_START_MS else -1
