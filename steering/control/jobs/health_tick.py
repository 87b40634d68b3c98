"""The health tick: a job that reads the workers' counters, updates the registry, and saves the records that changed."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from _fastpath.counters import Counters
from steering.control.jobs.clockwork import Run
from steering.control.services.control import Control

logger = logging.getLogger("steering.control")


class Tally:
    """The counts of all workers since the last call; a restarted file counts from 0."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.open: dict[str, tuple[int, Counters]] = {}
        self.answers: dict[str, Mapping[int, int]] = {}
        self.popularity: dict[str, Mapping[int, int]] = {}
        self.attested: dict[str, Mapping[int, int]] = {}
        self.failing: dict[str, Mapping[int, int]] = {}

    def take(self) -> tuple[Counter[int], Counter[int]]:
        """Return the new answers by the slot that they named first, and the new requests by content key.

        Only the keys requested most are counted, from when each entered a sketch.
        """
        answers: Counter[int] = Counter()
        asked: Counter[int] = Counter()
        for name, counters in self.workers().items():
            answers.update(more_of(self.answers, name, counters.appliances()))
            asked.update(more_of(self.popularity, name, {key: count for key, count, *_ in counters.popularity()}))
        return answers, asked

    def take_attested(self) -> dict[int, tuple[int, int]]:
        """Return the new attested reports by slot, and how many of them are failing."""
        attested: Counter[int] = Counter()
        failing: Counter[int] = Counter()
        for name, counters in self.workers().items():
            found = counters.attested()
            attested.update(more_of(self.attested, name, {slot: count for slot, (count, _) in found.items()}))
            failing.update(more_of(self.failing, name, {slot: failed for slot, (_, failed) in found.items()}))
        return {slot: (attested[slot], failing[slot]) for slot in attested.keys() | failing.keys()}

    def workers(self) -> dict[str, Counters]:
        """Return the counters of each worker, mapped anew where a file was replaced."""
        found: dict[str, Counters] = {}
        for path in self.state.glob("worker.*"):
            if not path.suffix[1:].isdecimal():
                continue
            try:
                inode = path.stat().st_ino
                if path.name not in self.open or self.open[path.name][0] != inode:
                    self.open[path.name] = inode, Counters(str(path))
                    for seen in (self.answers, self.popularity, self.attested, self.failing):
                        seen.pop(path.name, None)
                found[path.name] = self.open[path.name][1]
            except (OSError, ValueError) as error:
                logger.debug("%s: %s", path.name, error)
        return found


def more_of(seen: dict[str, Mapping[int, int]], name: str, now: Mapping[int, int]) -> dict[int, int]:
    """Return by how much counts have grown since they were seen last, and remember them; nothing the first time.

    What was counted before this process began is nobody's load now.
    """
    before, seen[name] = seen.get(name), now
    if before is None:
        return {}
    return {key: more for key, count in now.items() if (more := count - before.get(key, 0)) > 0}


class Pulse:
    """The job."""

    def __init__(self, tick_s: float) -> None:
        self.tick_s = tick_s

    async def __call__(self, control: Control, run: Run) -> None:
        """Tick until cancelled, whatever the time that somebody sets; a tick that came late is not made up for."""
        tally = Tally(control.settings.state)
        loop = asyncio.get_running_loop()
        due = loop.time()
        keeping: asyncio.Task[None] | None = None
        while True:
            answers, asked = tally.take()
            attested = tally.take_attested() if control.registry.player_signal else None
            control.registry.tick(answers, asked, control.maintenance.covered(), attested)
            if keeping is None or keeping.done():
                if keeping:
                    keeping.result()  # a disk that is full is this job's error: it begins again
                if states := control.registry.take_unsaved():
                    keeping = asyncio.ensure_future(run(partial(control.ejections.keep_states, states)))
            due = max(due + self.tick_s, loop.time())
            await asyncio.sleep(due - loop.time())
