"""The job that fetches the playlists of origins again, each at its own time.

After a failed fetch the playlist that serves stays, and the next fetch comes later.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import Final

from steering.control.jobs.clockwork import Call, Job
from steering.control.services.control import Control
from steering.control.services.playlists import bring
from steering.model.service import Service
from steering.process.backoff import DueTimes

MOST_AT_ONCE: Final = 50  # fetched in one round

logger = logging.getLogger("steering.playlists")

Source = tuple[Service, str, str]


class RefreshPlaylists(Job):
    """The job; the setting `playlist_refresh_s` is the time between two fetches of a playlist."""

    name = "refresh playlists"
    period_s = 5.0

    def __init__(self, control: Control, call: Call) -> None:
        super().__init__(control, call)
        self.times = DueTimes(self.settings.playlist_refresh_s)

    async def run(self) -> None:
        """Fetch the playlists that are due, and register those that changed."""
        await self.refresh(time.monotonic())

    async def refresh(self, now: float) -> None:
        due = self.due_of(await self.call(self.control.playlists.fetched), now)
        arrived = [await asyncio.to_thread(bring, self.settings.state, *item) for item in due]
        for item in arrived:
            self.times.fetched((item.service, item.title, item.kind), now, failed=bool(item.problem))
        if arrived:
            for problem in await self.call(lambda: self.control.playlists.take(arrived)):
                logger.warning("%s; the playlist that serves stays", problem)

    def due_of(self, sources: Iterable[Source], now: float) -> list[Source]:
        due = [item for item in sources if self.times.is_due((item[0].id, item[1], item[2]), now)]
        return due[:MOST_AT_ONCE]
