"""The job that publishes the reported holdings: once a while when they changed, earlier when many changes wait."""

from __future__ import annotations

import logging
import time

from steering.control.jobs.clockwork import Call, Job
from steering.control.services.control import Control
from steering.errors import SteeringError

logger = logging.getLogger("steering.control")


class PublishHoldings(Job):
    """The job; the setting `holdings_s` is the least time between two publishes."""

    name = "publish holdings"
    period_s = 1.0

    def __init__(self, control: Control, call: Call) -> None:
        super().__init__(control, call)
        self.next_at = 0.0

    async def run(self) -> None:
        """Publish when it is time. What cannot be published is tried again after the pause."""
        if time.monotonic() < self.next_at and not self.control.holdings.is_pressing:
            return
        try:
            report = await self.call(self.control.holdings.publish)
        except SteeringError as error:
            logger.error("holdings: not published: %s", error.message)
        else:
            if report is None:
                return
            logger.info("holdings: %s serves", report["holdings"])
        self.next_at = time.monotonic() + self.settings.holdings_s
