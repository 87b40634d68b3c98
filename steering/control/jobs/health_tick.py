"""The health tick: once a second a job reads the workers' counters, updates the registry, and records its states."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from _fastpath.counters import Counters
from steering.control.health.appliance_state import Maintenance
from steering.control.jobs.clockwork import Call, Job, going_on
from steering.control.services.control import Control
from steering.state.folder import worker_files

MOST_GROWTH: Final = 1 << 32  # of a count between two ticks; more is damage

Counts = Mapping[int, int]


class Taken(NamedTuple):
    """What all workers counted: answers by the slot that they named first, requests by content key, attested viewers
    by slot, and how many of those were failing."""

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
        self.before: dict[int, tuple[Counts, ...]] = {}

    def take(self) -> Taken:
        """Return what is new. Of a worker seen for the first time nothing is: it is not load of this moment.

        A worker counts only the titles that it is asked for most, each since it began to count it.
        """
        taken = Taken(Counter(), Counter(), Counter(), Counter())
        for worker, path in worker_files(self.state).items():
            with going_on(f"the counts of worker {worker}"):
                now = self.read(worker, path)
                before = self.before.get(worker, now)
                self.before[worker] = now
                for total, counts, earlier in zip(taken, now, before, strict=True):
                    growth = {key: count - earlier.get(key, 0) for key, count in counts.items()}
                    total.update({key: new for key, new in growth.items() if 0 < new < MOST_GROWTH})
        return taken

    def read(self, worker: int, path: Path) -> tuple[Counts, ...]:
        """Return a worker's counts, as `Taken` has them. The file is mapped again when it was replaced."""
        status = path.stat()
        identity = status.st_ino, status.st_size
        if worker not in self.open or self.open[worker][0] != identity:
            self.open.pop(worker, None)
            self.before.pop(worker, None)
            self.open[worker] = identity, Counters(str(path))
        counters = self.open[worker][1]
        attested = counters.attested()
        return (
            counters.appliances(),
            {key: count for key, count, *_ in counters.popularity()},
            {slot: count for slot, (count, _) in attested.items()},
            {slot: count for slot, (_, count) in attested.items()},
        )


class HealthTick(Job):
    """The job; its period is the setting `tick_s`, by a clock that nobody can set.

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

    async def record(self, states: dict[str, str]) -> None:
        """Put health states on record; what fails is tried again with the next ones."""
        with going_on("health states are not recorded"):
            try:
                await self.call(partial(self.control.ejections.keep_states, states))
            except BaseException:
                self.control.registry.unsaved.update(states)
                raise
