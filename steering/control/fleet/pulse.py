"""The pulse of the fleet: a job that ticks. It reads what workers count, lets `vitals` follow, and records it."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from _fastpath.counters import Counters
from steering.control.loop import Run
from steering.control.writer import Writer

logger = logging.getLogger("steering.control")


class Tally:
    """What all workers counted since it was last asked: a worker that began anew counts from 0."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.open: dict[str, tuple[int, Counters]] = {}
        self.answers: dict[str, Mapping[int, int]] = {}

    def take(self) -> Counter[int]:
        """Return how many more answers named each slot first."""
        answers: Counter[int] = Counter()
        for name, counters in self.workers().items():
            now, before = counters.appliances(), self.answers.get(name)
            self.answers[name] = now
            if before is not None:  # what was counted before this process began is nobody's load now
                answers.update({slot: more for slot, count in now.items() if (more := count - before.get(slot, 0)) > 0})
        return answers

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
                    self.answers.pop(path.name, None)
                found[path.name] = self.open[path.name][1]
            except (OSError, ValueError) as error:
                logger.debug("%s: %s", path.name, error)
        return found


class Pulse:
    """The job."""

    def __init__(self, tick_s: float) -> None:
        self.tick_s = tick_s

    async def __call__(self, writer: Writer, run: Run) -> None:
        """Tick until cancelled, whatever the time that somebody sets; a tick that came late is not made up for."""
        tally = Tally(writer.state)
        loop = asyncio.get_running_loop()
        due = loop.time()
        keeping: asyncio.Task[None] | None = None
        while True:
            writer.vitals.tick(tally.take(), maintenance=writer.maintenance())
            if keeping is None or keeping.done():
                if keeping:
                    keeping.result()  # a disk that is full is this job's error: it begins again
                if states := writer.vitals.take_dirty():
                    keeping = asyncio.ensure_future(run(partial(writer.keep_states, states)))
            due = max(due + self.tick_s, loop.time())
            await asyncio.sleep(due - loop.time())
