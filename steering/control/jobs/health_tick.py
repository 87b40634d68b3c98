"""The health tick: once a second a job reads the workers' counters, updates the registry, and records its states."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from _fastpath.counters import Counters
from steering.control.health.appliance_state import Maintenance
from steering.control.jobs.clockwork import Call, Job, going_on
from steering.control.services.control import Control
from steering.state.folder import worker_files

LOOKS_AT_TITLES: Final = 4  # in a tick: a new title has all its viewers at one appliance until it is known to be hot
MOST_GROWTH: Final = 1 << 32  # of a count between two ticks; more is damage

Counts = Mapping[int, int]


class Taken(NamedTuple):
    """What all workers counted: answers by the slot that they named first, requests by content key, and by slot the
    attested viewers, and those of them that were failing."""

    answers: Counter[int]
    requests: Counter[int]
    attested: Counter[int]
    failing: Counter[int]


class Tally:
    """What all workers counted since the last call; a worker that restarted counts from 0.

    The files are written by others while they are read: a damaged one costs the counts of its worker alone.
    """

    def __init__(self, state: Path) -> None:
        self.state = state
        self.open: dict[int, tuple[tuple[int, int], Counters]] = {}  # by worker, with inode and size
        self.before: dict[tuple[int, str], Counts] = {}  # by worker and what was counted

    def take(self) -> Taken:
        """Return what is new. Of a worker seen for the first time nothing is: it is not load of this moment."""
        taken = Taken(Counter(), self.take_requests(), Counter(), Counter())
        for worker, counters in self.workers():
            with going_on(f"the counts of worker {worker}"):
                reports = counters.attested()
                self.add(taken.answers, (worker, "answers"), counters.appliances())
                self.add(taken.attested, (worker, "attested"), {slot: count for slot, (count, _) in reports.items()})
                self.add(taken.failing, (worker, "failing"), {slot: count for slot, (_, count) in reports.items()})
        return taken

    def take_requests(self) -> Counter[int]:
        """Return the new requests by content key.

        A worker counts only the titles that it is asked for most, each since it began to count it.
        """
        requests: Counter[int] = Counter()
        for worker, counters in self.workers():
            with going_on(f"the titles of worker {worker}"):
                self.add(requests, (worker, "titles"), {key: count for key, count, *_ in counters.popularity()})
        return requests

    def add(self, total: Counter[int], name: tuple[int, str], now: Counts) -> None:
        """Add to a total by how much counts have grown since the last call."""
        before, self.before[name] = self.before.get(name, now), now
        growth = {key: count - before.get(key, 0) for key, count in now.items()}
        total.update({key: new for key, new in growth.items() if 0 < new < MOST_GROWTH})

    def workers(self) -> Iterator[tuple[int, Counters]]:
        """Yield the counters of each worker. A file is mapped again when it was replaced."""
        for worker, path in worker_files(self.state).items():
            with going_on(f"the file of worker {worker}"):
                status = path.stat()
                identity = status.st_ino, status.st_size
                if worker not in self.open or self.open[worker][0] != identity:
                    self.open.pop(worker, None)
                    self.before = {name: counts for name, counts in self.before.items() if name[0] != worker}
                    self.open[worker] = identity, Counters(str(path))
                yield worker, self.open[worker][1]


class HealthTick(Job):
    """The job; its period is the setting `tick_s`, by a clock that nobody can set. Titles are counted more often.

    Staleness, windows and weights need no other job and no worker: what cannot be read or recorded is logged.
    """

    name = "health tick"

    def __init__(self, control: Control, call: Call) -> None:
        super().__init__(control, call)
        self.period_s = self.settings.tick_s
        self.tally = Tally(self.settings.state)
        self.covered: dict[str, Maintenance] = {}
        self.recording: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Tick once. States are recorded beside the ticks: a slow disk delays no tick, and a full one no staleness."""
        registry = self.control.registry
        with going_on("maintenance windows"):
            self.covered = self.control.maintenance.covered()
        taken = Taken(Counter(), Counter(), Counter(), Counter())
        with going_on("the counts of workers"):
            taken = self.tally.take()
        registry.tick(*taken, maintenance=self.covered)
        if (self.recording is None or self.recording.done()) and (states := registry.take_unsaved()):
            self.recording = asyncio.create_task(self.record(states))
        for _ in range(LOOKS_AT_TITLES - 1):
            await asyncio.sleep(self.period_s / LOOKS_AT_TITLES)
            with going_on("the titles of workers"):
                registry.count_requests(self.tally.take_requests())

    async def record(self, states: dict[str, str]) -> None:
        """Put health states on record; what fails is tried again with the next ones."""
        with going_on("health states are not recorded"):
            try:
                await self.call(partial(self.control.ejections.keep_states, states))
            except BaseException:
                self.control.registry.unsaved.update(states)
                raise
