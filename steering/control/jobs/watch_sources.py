"""The job that watches the sources of the last publish (files, folders, URLs) and publishes again when one changed.

A change is published once the files stay the same for two rounds. A change that cannot be published waits for the next.
URLs are fetched beside the rounds and beside each other: a slow one delays no file and no other URL.
"""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Final

from steering.control.jobs.clockwork import Call, Job, going_on
from steering.control.routes.feeds import FeedSource, files_of
from steering.control.routes.fetch import is_url, update_copy
from steering.control.services.control import Control
from steering.errors import FeedError, SteeringError
from steering.process.backoff import DueTimes

QUIET_ROUNDS: Final = 2  # without a change, before changed files are read
MOST_ROUNDS: Final = 60  # a file that changes all the time is read nevertheless

Stamps = dict[str, tuple[int, int, int] | None]

logger = logging.getLogger("steering.watch")


class WatchSources(Job):
    """The job; the setting `fetch_s` is the time between two fetches of a URL."""

    name = "watch sources"
    period_s = 1.0

    def __init__(self, control: Control, call: Call) -> None:
        super().__init__(control, call)
        self.times = DueTimes(self.settings.fetch_s)
        self.stamps: Stamps | None = None  # as they were when `table` was published
        self.table = 0
        self.fetches: dict[str, asyncio.Task[None]] = {}
        self.fetched = False  # a URL brought something new

    async def run(self) -> None:
        """Look once, and publish when something changed."""
        sources, serving = await self.call(self.control.tables.sources)
        if not sources:
            return
        self.fetch_due([source.path for source in sources if is_url(source.path)])
        stamps = await asyncio.to_thread(self.stamps_of, sources)
        if self.stamps is None or self.table != serving:  # another publish has read the files as they are now
            self.stamps, self.table = stamps, serving
        elif stamps != self.stamps or self.fetched:
            self.fetched = False
            self.stamps = await self.stamps_when_quiet(sources, stamps)
            self.table = await self.publish() or self.table

    async def stamps_when_quiet(self, sources: list[FeedSource], stamps: Stamps) -> Stamps:
        """Return the stamps of the files once nothing writes to them."""
        rounds = 0
        for _ in range(MOST_ROUNDS):
            if rounds == QUIET_ROUNDS:
                break
            await asyncio.sleep(self.period_s)
            now = await asyncio.to_thread(self.stamps_of, sources)
            rounds = rounds + 1 if now == stamps else 0
            stamps = now
        return stamps

    async def publish(self) -> int | None:
        """Publish the sources again and return the table; None when that fails."""
        try:
            report = await self.call(lambda: self.control.tables.reload("watch"))
        except SteeringError as error:
            logger.error("watch: not published: %s", error.message)
            return None
        table: int = report["serving"]["table"]
        logger.info("watch: table %s serves", table)
        return table

    def fetch_due(self, urls: list[str]) -> None:
        """Begin to fetch the URLs that are due and not being fetched."""
        self.fetches = {url: task for url, task in self.fetches.items() if not task.done()}
        for url in urls:
            if url not in self.fetches and self.times.is_due(url, time.monotonic()):
                self.fetches[url] = asyncio.create_task(self.fetch(url))

    async def fetch(self, url: str) -> None:
        """Fetch a URL, and note whether it changed."""
        failed = True
        with going_on(f"watch: {url}"):
            try:
                copy = await update_copy(url, self.settings.state, self.settings.fetch_mb << 20)
                self.fetched |= copy.changed
                failed = False
            except FeedError as error:
                logger.warning("watch: %s", error.message)
        self.times.fetched(url, time.monotonic(), failed)

    def stamps_of(self, sources: list[FeedSource]) -> Stamps:
        """Return time, size and inode of each file, which tell a changed file; None for one that does not exist."""
        settings = self.settings
        others = [*settings.geofeeds, *filter(None, (settings.country_mmdb, settings.rpki))]
        paths = [Path(source.path) for source in sources if source.path and not is_url(source.path)]
        stamps: Stamps = {}
        for path in (*paths, *others):
            for file in files_of(path) if path.is_dir() else [path]:
                try:
                    status = file.stat()
                    stamps[str(file)] = status.st_mtime_ns, status.st_size, status.st_ino
                except OSError:
                    stamps[str(file)] = None
        return stamps
