"""The job that fetches the playlists of origins again, each at its own time.

The playlists of a service are fetched one after another, and services beside each other: an origin that is slow or
wrong delays no other. After a failed fetch the playlist that serves stays, and the next fetch comes later.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from typing import Final

from steering.control.jobs.clockwork import Call, Job, going_on
from steering.control.services.control import Control
from steering.control.services.playlists import Arrived, bring
from steering.model.service import Service
from steering.process.backoff import DueTimes

MOST_AT_ONCE: Final = 50  # fetched from a service in one round

logger = logging.getLogger("steering.playlists")

Source = tuple[Service, str, str]


class RefreshPlaylists(Job):
    """The job; the setting `playlist_refresh_s` is the time between two fetches of a playlist."""

    name = "refresh playlists"
    period_s = 5.0

    def __init__(self, control: Control, call: Call) -> None:
        super().__init__(control, call)
        self.times = DueTimes(self.settings.playlist_refresh_s)
        self.rounds: dict[str, asyncio.Task[None]] = {}  # by service

    async def run(self) -> None:
        """Begin a round of each service that has playlists due and no round going on."""
        self.begin(await asyncio.to_thread(self.control.playlists.fetched), time.monotonic())

    def begin(self, sources: list[Source], now: float) -> None:
        self.rounds = {service: task for service, task in self.rounds.items() if not task.done()}
        due = [item for item in sources if self.times.is_due((item[0].id, item[1], item[2]), now)]
        for service, items in itertools.groupby(sorted(due, key=lambda item: item[0].id), lambda item: item[0].id):
            if service not in self.rounds:
                self.rounds[service] = asyncio.create_task(self.refresh(list(items)[:MOST_AT_ONCE], now))

    async def refresh(self, due: list[Source], now: float) -> None:
        """Fetch some playlists, and register those that changed."""
        arrived: list[Arrived] = []
        for service, title, kind in due:
            failed = True
            with going_on(f"the {kind} playlist of {service.id}/{title}"):
                item = await bring(self.settings.state, service, title, kind)
                arrived.append(item)
                failed = bool(item.problem)
            self.times.fetched((service.id, title, kind), now, failed)
        if arrived:
            await self.register(arrived)

    async def register(self, arrived: list[Arrived]) -> None:
        """Register playlists together, or where that fails one by one."""
        together = False
        with going_on(f"playlists of {arrived[0].service}, the first {arrived[0].title}"):
            for problem in await self.call(lambda: self.control.playlists.take(arrived)):
                logger.warning("%s; the playlist that serves stays", problem)
            together = True
        if not together and len(arrived) > 1:
            for item in arrived:
                await self.register([item])
