"""The job that asks origins again for the playlists that came from there, each in its own time, all of them spread.

What cannot be fetched is asked for again after twice the time, at most an hour; what served before serves on.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Iterable
from typing import Final

from steering.control.jobs.clockwork import Run
from steering.control.services.control import Control
from steering.control.services.playlists import Arrived, bring
from steering.model.service import Service
from steering.settings import Settings

LOOK_S: Final = 5.0
MOST_S: Final = 3600.0
AT_ONCE: Final = 50  # fetched in one look

logger = logging.getLogger("steering.playlists")


class Refresh:
    """The job."""

    def __init__(self, settings: Settings, look_s: float = LOOK_S) -> None:
        self.settings = settings
        self.look_s = look_s
        self.due: dict[tuple[str, str, str], float] = {}
        self.failures: dict[tuple[str, str, str], int] = {}

    async def __call__(self, control: Control, run: Run) -> None:
        """Look for ever."""
        while True:
            await self.look(control, run, time.monotonic())
            await asyncio.sleep(self.look_s)

    async def look(self, control: Control, run: Run, now: float) -> None:
        """Fetch what is due, and register what is new."""
        due = self.due_of(await run(control.playlists.fetched), now)
        arrived = [await asyncio.to_thread(bring, self.settings.state, *item) for item in due]
        for item in arrived:
            self.wait(item, now)
        if arrived:
            for problem in await run(lambda: control.playlists.take(arrived)):
                logger.warning("%s; what served before serves on", problem)

    def due_of(self, fetched: Iterable[tuple[Service, str, str]], now: float) -> list[tuple[Service, str, str]]:
        """Return what is to be fetched now; what is seen for the first time was fetched when it was registered."""
        found = []
        for service, title, kind in fetched:
            first = now + random.uniform(0.1, 1.0) * self.settings.playlist_refresh_s  # noqa: S311 (nothing secret)
            if now >= self.due.setdefault((service.id, title, kind), first):
                found.append((service, title, kind))
        return found[:AT_ONCE]

    def wait(self, item: Arrived, now: float) -> None:
        """Note when to ask again."""
        key = item.service, item.title, item.kind
        self.failures[key] = self.failures.get(key, 0) + 1 if item.problem else 0
        every = self.settings.playlist_refresh_s
        pause = min(every * 2 ** min(self.failures[key], 20), max(MOST_S, every))
        self.due[key] = now + pause * random.uniform(0.9, 1.1)  # noqa: S311 (nothing secret)
