"""The clockwork: jobs beside the control door, in its loop. They change things through the writer's verbs alone.

A job runs as long as the control process; one that ends by an error is logged and begun again after a pause.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Final, Protocol, TypeVar

from steering.control.writer import Writer
from steering.settings import Settings

PAUSE_S: Final = 10.0

T = TypeVar("T")

logger = logging.getLogger("steering.control")


class Run(Protocol):
    """Calls a verb of the writer in the writer's own thread."""

    def __call__(self, verb: Callable[[], T], /) -> Awaitable[T]:
        """Return what the verb returns."""


Job = Callable[[Writer, Run], Coroutine[Any, Any, None]]


def jobs_of(settings: Settings) -> list[Job]:  # noqa: ARG001
    """Return the jobs that the settings ask for."""
    return []


async def keep_running(job: Job, writer: Writer, run: Run) -> None:
    """Run a job, and again whenever it fails."""
    while True:
        try:
            await job(writer, run)
            return
        except Exception:
            logger.exception("%s", job)
        await asyncio.sleep(PAUSE_S)


async def work(jobs: Iterable[Job], writer: Writer, run: Run) -> None:
    """Run all jobs until cancelled, which cancels them."""
    async with asyncio.TaskGroup() as group:
        for job in jobs:
            group.create_task(keep_running(job, writer, run))
