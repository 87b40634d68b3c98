"""The job that watches the sources of the last publish: files, folders, URLs. What changed is published, once quiet.

What cannot be published is tried again when it changes again, and not before.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from pathlib import Path
from typing import Final

from steering.control.jobs.clockwork import Run
from steering.control.routes.feeds import FeedSource, files_of
from steering.control.routes.fetch import fetch, is_url
from steering.control.services.control import Control
from steering.errors import FeedError, SteeringError
from steering.settings import Settings

LOOK_S: Final = 1.0
QUIET_LOOKS: Final = 2  # without a change, before what changed is read
MOST_S: Final = 3600.0  # between two fetches of what cannot be fetched

Stamps = dict[str, tuple[int, int, int] | None]

logger = logging.getLogger("steering.watch")


class Watch:
    """The job."""

    def __init__(self, settings: Settings, look_s: float = LOOK_S) -> None:
        self.settings = settings
        self.look_s = look_s
        self.failures: dict[str, int] = {}
        self.due: dict[str, float] = {}

    async def __call__(self, control: Control, run: Run) -> None:
        """Watch until cancelled."""
        seen: Stamps | None = None
        table = 0
        while True:
            sources, serving = await run(control.tables.sources)
            if sources:
                fetched = await self.fetch_due([source.path for source in sources if is_url(source.path)])
                stamps = await asyncio.to_thread(self.stamps_of, sources)
                if seen is None or table != serving:  # somebody published: what is there now is what was read
                    seen, table = stamps, serving
                elif stamps != seen or fetched:
                    seen = await self.until_quiet(sources, stamps)
                    table = await self.publish(control, run) or table
            await asyncio.sleep(self.look_s)

    async def until_quiet(self, sources: list[FeedSource], stamps: Stamps) -> Stamps:
        """Return the stamps of files that are not being written any more."""
        looks = 0
        while looks < QUIET_LOOKS:
            await asyncio.sleep(self.look_s)
            now = await asyncio.to_thread(self.stamps_of, sources)
            looks = looks + 1 if now == stamps else 0
            stamps = now
        return stamps

    async def publish(self, control: Control, run: Run) -> int | None:
        """Publish what changed; return the table."""
        try:
            report = await run(lambda: control.tables.reload("watch"))
        except SteeringError as error:
            logger.error("watch: not published: %s", error.message)
            return None
        table: int = report["serving"]["table"]
        logger.info("watch: table %s serves", table)
        return table

    async def fetch_due(self, urls: list[str]) -> bool:
        """Fetch what is due, and tell whether any of it changed."""
        changed = False
        for url in urls:
            now = time.monotonic()
            if now < self.due.setdefault(url, now + self.spread(self.settings.fetch_s)):
                continue
            try:
                found = await asyncio.to_thread(fetch, url, self.settings.state, self.settings.fetch_mb << 20)
                changed |= found.changed
                self.failures[url] = 0
            except FeedError as error:
                self.failures[url] = self.failures.get(url, 0) + 1
                logger.warning("watch: %s", error.message)
            pause = self.settings.fetch_s * 2 ** min(self.failures[url], 20)
            self.due[url] = time.monotonic() + self.spread(min(pause, max(MOST_S, self.settings.fetch_s)))
        return changed

    def spread(self, pause: float) -> float:
        """Return a pause a tenth more or less, so that many do not ask at once."""
        return pause * random.uniform(0.9, 1.1)  # noqa: S311 (nothing secret)

    def stamps_of(self, sources: list[FeedSource]) -> Stamps:
        """Return what tells of each file whether it changed; None of one that is not there."""
        settings = self.settings
        others = [*settings.geofeeds, *filter(None, (settings.country_mmdb, settings.rpki))]
        paths = [Path(source.path) for source in sources if source.path and not is_url(source.path)]
        stamps: Stamps = {}
        for path in (*paths, *others):
            for file in files_of(path) if path.is_dir() else [path]:
                try:
                    found = file.stat()
                    stamps[str(file)] = found.st_mtime_ns, found.st_size, found.st_ino
                except OSError:
                    stamps[str(file)] = None
        return stamps
