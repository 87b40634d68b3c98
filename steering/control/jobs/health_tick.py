"""The pulse of the fleet: a job that ticks. It reads what workers count, lets `vitals` follow, and records it."""

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
    """What all workers counted since it was last asked: a worker that began anew counts from 0."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.open: dict[str, tuple[int, Counters]] = {}
        self.answers: dict[str, Mapping[int, int]] = {}
        self.heat: dict[str, Mapping[int, int]] = {}
        self.voices: dict[str, Mapping[int, int]] = {}
        self.failing: dict[str, Mapping[int, int]] = {}

    def take(self) -> tuple[Counter[int], Counter[int]]:
        """Return how many more answers named each slot first, and how many more asked for each content key.

        Of keys there are those that are asked for most; their counts begin with when they came to be.
        """
        answers: Counter[int] = Counter()
        asked: Counter[int] = Counter()
        for name, counters in self.workers().items():
            answers.update(more_of(self.answers, name, counters.appliances()))
            asked.update(more_of(self.heat, name, {key: count for key, count, *_ in counters.heat()}))
        return answers, asked

    def take_voices(self) -> dict[int, tuple[int, int]]:
        """Return by slot how many more viewers had their word counted, and how many of them were failing."""
        voices: Counter[int] = Counter()
        failing: Counter[int] = Counter()
        for name, counters in self.workers().items():
            found = counters.voices()
            voices.update(more_of(self.voices, name, {slot: heard for slot, (heard, _) in found.items()}))
            failing.update(more_of(self.failing, name, {slot: failed for slot, (_, failed) in found.items()}))
        return {slot: (voices[slot], failing[slot]) for slot in voices.keys() | failing.keys()}

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
                    for seen in (self.answers, self.heat, self.voices, self.failing):
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
            voices = tally.take_voices() if control.registry.player_signal else None
            control.registry.tick(answers, asked, control.maintenance.covered(), voices)
            if keeping is None or keeping.done():
                if keeping:
                    keeping.result()  # a disk that is full is this job's error: it begins again
                if states := control.registry.take_dirty():
                    keeping = asyncio.ensure_future(run(partial(control.ejections.keep_states, states)))
            due = max(due + self.tick_s, loop.time())
            await asyncio.sleep(due - loop.time())
