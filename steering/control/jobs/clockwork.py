"""The clockwork: jobs beside the control door, in its loop. They change things through the control's verbs alone.

A job runs as long as the control process; one that ends by an error is logged and begun again after a pause.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import Executor, Future
from queue import Empty, SimpleQueue
from typing import Any, Final, Protocol, TypeVar

from steering.control.services.control import Control

PAUSE_S: Final = 10.0

T = TypeVar("T")

logger = logging.getLogger("steering.control")


class Run(Protocol):
    """Calls a verb of the control in the control's own thread."""

    def __call__(self, verb: Callable[[], T], /) -> Awaitable[T]:
        """Return what the verb returns."""


Job = Callable[[Control, Run], Coroutine[Any, Any, None]]


class Errands:
    """Short verbs for the control's thread, done also while a long one there waits for its builder: drains above all."""

    def __init__(self, thread: Executor) -> None:
        self.thread = thread
        self.waiting: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()

    async def run(self, verb: Callable[[], T]) -> T:
        """Return what a verb returns that is done as soon as the thread comes to it, or looks up from a long one."""
        future: Future[T] = Future()
        self.waiting.put((verb, future))
        self.thread.submit(self.do)
        return await asyncio.wrap_future(future)

    def do(self) -> None:
        """Do what waits; in the control's thread."""
        with contextlib.suppress(Empty):
            while True:
                verb, future = self.waiting.get_nowait()
                if future.set_running_or_notify_cancel():
                    try:
                        future.set_result(verb())
                    except Exception as error:  # noqa: BLE001 (raised where the future is awaited)
                        future.set_exception(error)


async def keep_running(job: Job, control: Control, run: Run) -> None:
    """Run a job, and again whenever it fails."""
    while True:
        try:
            await job(control, run)
            return
        except Exception:
            logger.exception("%s", job)
        await asyncio.sleep(PAUSE_S)


async def work(jobs: Iterable[Job], control: Control, run: Run) -> None:
    """Run all jobs until cancelled, which cancels them."""
    async with asyncio.TaskGroup() as group:
        for job in jobs:
            group.create_task(keep_running(job, control, run))
