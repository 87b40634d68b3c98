"""The job that publishes what appliances hold, when it changed: at most so often, or when much is waiting."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from steering.control.jobs.clockwork import Run
from steering.control.services.control import Control
from steering.errors import SteeringError
from steering.settings import Settings

LOOK_S: Final = 1.0

logger = logging.getLogger("steering.control")


class PublishHoldings:
    """The job."""

    def __init__(self, settings: Settings, look_s: float = LOOK_S) -> None:
        self.pause_s = settings.holdings_s
        self.look_s = look_s
        self.next_at = 0.0

    async def __call__(self, control: Control, run: Run) -> None:
        """Publish until cancelled."""
        while True:
            if time.monotonic() >= self.next_at or control.holdings.intake.is_pressing:
                await self.publish(control, run)
            await asyncio.sleep(self.look_s)

    async def publish(self, control: Control, run: Run) -> None:
        """Publish once, if something changed; what could not be published is tried again after the pause."""
        try:
            report = await run(control.holdings.publish)
        except SteeringError as error:
            logger.error("holdings: not published: %s", error.message)
        else:
            if report is None:
                return
            logger.info("holdings: %s serves", report["holdings"])
        self.next_at = time.monotonic() + self.pause_s
