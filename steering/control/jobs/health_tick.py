"""The health tick: once a second a job reads the workers' counters, updates the registry, and records its states."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from _fastpath.counters import Counters
from steering.control.jobs.clockwork import Call, Job
from steering.control.services.control import Control
from steering.state.folder import worker_files

logger = logging.getLogger("steering.control")


Counts = Mapping[int, int]


class Tally:
    """What all workers counted since the last call; a worker that restarted counts from 0."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.open: dict[int, tuple[int, Counters]] = {}
        self.answers: dict[int, Counts] = {}
        self.requests: dict[int, Counts] = {}
        self.attested: dict[int, Counts] = {}
        self.failing: dict[int, Counts] = {}

    def take(self) -> tuple[Counter[int], Counter[int]]:
        """Return the new answers by the slot that they named first, and the new requests by content key.

        A worker counts only the keys that it is asked for most, each since it began to count it.
        """
        answers: Counter[int] = Counter()
        requests: Counter[int] = Counter()
        for worker, counters in self.workers().items():
            answers.update(growth(self.answers, worker, counters.appliances()))
            requests.update(growth(self.requests, worker, {key: count for key, count, *_ in counters.popularity()}))
        return answers, requests

    def take_attested(self) -> dict[int, tuple[int, int]]:
        """Return the new attested viewers by slot, and how many of them were failing."""
        attested: Counter[int] = Counter()
        failing: Counter[int] = Counter()
        for worker, counters in self.workers().items():
            counts = counters.attested()
            attested.update(growth(self.attested, worker, {slot: count for slot, (count, _) in counts.items()}))
            failing.update(growth(self.failing, worker, {slot: count for slot, (_, count) in counts.items()}))
        return {slot: (attested[slot], failing[slot]) for slot in attested.keys() | failing.keys()}

    def workers(self) -> dict[int, Counters]:
        """Return the counters of each worker, mapped again when the file was replaced."""
        mapped: dict[int, Counters] = {}
        for worker, path in worker_files(self.state).items():
            try:
                inode = path.stat().st_ino
                if worker not in self.open or self.open[worker][0] != inode:
                    self.open[worker] = inode, Counters(str(path))
                    for seen in (self.answers, self.requests, self.attested, self.failing):
                        seen.pop(worker, None)
                mapped[worker] = self.open[worker][1]
            except (OSError, ValueError) as error:
                logger.debug("%s: %s", path.name, error)
        return mapped


def growth(seen: dict[int, Counts], worker: int, now: Counts) -> dict[int, int]:
    """Return by how much counts have grown since the last call, and remember them; nothing the first time.

    What was counted before this process began is not load of this moment.
    """
    before, seen[worker] = seen.get(worker), now
    if before is None:
        return {}
    return {key: new for key, count in now.items() if (new := count - before.get(key, 0)) > 0}


class HealthTick(Job):
    """The job; its period is the setting `tick_s`, by a clock that nobody can set."""

    name = "health tick"

    def __init__(self, control: Control, call: Call) -> None:
        super().__init__(control, call)
        self.period_s = self.settings.tick_s
        self.tally = Tally(self.settings.state)
        self.recording: asyncio.Future[None] | None = None

    async def run(self) -> None:
        """Tick once. States are recorded beside the ticks: a slow disk delays no tick."""
        registry = self.control.registry
        answers, requests = self.tally.take()
        attested = self.tally.take_attested() if self.settings.player_signal else None
        registry.tick(answers, requests, self.control.maintenance.covered(), attested)
        if self.recording and self.recording.done():
            recorded, self.recording = self.recording, None
            recorded.result()  # a full disk is an error of this job
        if self.recording is None and (states := registry.take_unsaved()):
            self.recording = asyncio.ensure_future(self.call(partial(self.control.ejections.keep_states, states)))
