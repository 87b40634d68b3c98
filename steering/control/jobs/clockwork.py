"""The form of a job, the loop that runs jobs, and the one thread that calls services.

A job is called again and again in the event loop of control; it changes things only through services, in their thread:

    run_jobs ──> job.run() ──> await self.call(service.verb) ──> ControlThread ──> the verb

A job that raises an error is logged and called again after a pause (`Backoff`). A job of many items does each within
`going_on`: what is wrong with one item is logged, and the others are done.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final, Protocol, TypeVar

from steering.control.services.control import Control
from steering.process.backoff import Backoff
from steering.process.child import Task, run, run_gently, start_server
from steering.settings import Settings

FIRST_PAUSE_S: Final = 1.0
MOST_PAUSE_S: Final = 60.0
SAID_AGAIN_S: Final = 60.0
MOST_SAID: Final = 1000  # subjects of errors that are remembered
said_at: Final[dict[str, float]] = {}  # when the last error of a subject was logged
CHILDREN_IMPORT: Final = (
    "steering.control.services.tasks",
    "steering.control.services.fleet",
    "steering.control.services.holdings",
    "steering.control.services.playlists",
    "steering.cli",  # as the console script does, which each child imports
)

T = TypeVar("T")

logger = logging.getLogger("steering.control")


class Call(Protocol):
    """Calls a verb in the control thread."""

    def __call__(self, verb: Callable[[], T], /) -> Awaitable[T]: ...


class Job:
    """Work that is done by the clock: `run` is called each `period_s` seconds, late rounds are not made up for.

    With a period of 0, `run` goes on until it is cancelled.
    """

    name: str
    period_s = 0.0

    def __init__(self, control: Control, call: Call) -> None:
        self.control = control
        self.settings = control.settings
        self.call = call

    async def run(self) -> None:
        """Do one round of the work, or all of it when there is no period."""
        raise NotImplementedError


class ControlThread:
    """The one thread that calls services: verbs in order, and short ones also while a long one waits or gives way.

    A long verb is made of pieces of at most some 20 ms. Between them it calls `run_short_verbs` (`give_way` of a
    service), and what takes longer runs in a child process (`run_task`), for which it waits here:

        long verb  ──piece──┐        ┌──piece──┐         ┌──piece──> answer
        short verbs         └─ drain ┘         └─ drain ─┘
                                                 child process: parse, compare, write files, try them out
    """

    def __init__(self) -> None:
        self.executor = ThreadPoolExecutor(1, "control")
        self.children = ThreadPoolExecutor(1, "child")  # starts a child process and waits for it
        self.short: SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = SimpleQueue()

    def open_control(self, settings: Settings, clock: Callable[[], float] = time.time) -> Control:
        """Return the services of a state folder, made in this thread. Raises SettingsError when it is locked."""
        start_server(CHILDREN_IMPORT)
        return self.submit(Control, settings, clock, self.run_task, self.run_short_verbs).result()

    def submit(self, verb: Callable[..., T], /, *arguments: Any, **more: Any) -> Future[T]:
        """Return the future of a verb, which runs after the verbs before it, and after the short ones that wait."""
        return self.executor.submit(self.run_long_verb, partial(verb, *arguments, **more))

    async def run(self, verb: Callable[[], T]) -> T:
        """Return what a verb returns, after the verbs before it."""
        return await asyncio.wrap_future(self.submit(verb))

    async def run_during_publish(self, verb: Callable[[], T]) -> T:
        """Return what a short verb returns; it does not wait for the end of a long one."""
        future: Future[T] = Future()
        self.short.put((verb, future))
        self.executor.submit(self.run_short_verbs)
        return await asyncio.wrap_future(future)

    def run_long_verb(self, verb: Callable[[], T]) -> T:
        """Return what a verb returns; called in the control thread."""
        self.run_short_verbs()
        return verb()

    def run_task(self, name: str, task: Task[T], progress: Callable[[str], None], gently: bool = True) -> T:
        """Return what a task returns that runs in a child process. Short verbs run meanwhile."""
        start: Callable[..., T] = run_gently if gently else run
        future = self.children.submit(start, name, task, progress)
        future.add_done_callback(lambda _: self.short.put(None))
        while not future.done():
            run_short_verb(self.short.get())
        return future.result()

    def run_short_verbs(self) -> None:
        """Run the short verbs that wait; called in the control thread, outside of transactions."""
        with contextlib.suppress(Empty):
            while True:
                run_short_verb(self.short.get_nowait())

    def shutdown(self) -> None:
        """End the thread after its last verb."""
        self.executor.shutdown()
        self.children.shutdown()


def run_short_verb(queued: tuple[Callable[[], Any], Future[Any]] | None) -> None:
    """Run a short verb of the queue and give its future the result. None is the end of a task, and no verb."""
    if queued is None:
        return
    verb, future = queued
    if future.set_running_or_notify_cancel():
        try:
            future.set_result(verb())
        except Exception as error:  # noqa: BLE001 (raised where the future is awaited)
            future.set_exception(error)


@contextlib.contextmanager
def going_on(subject: str) -> Iterator[None]:
    """Log an unexpected error, with its traceback once in SAID_AGAIN_S for a subject, and go on."""
    try:
        yield
    except Exception as error:
        now = time.monotonic()
        if now - said_at.get(subject, -SAID_AGAIN_S) >= SAID_AGAIN_S:
            if len(said_at) >= MOST_SAID:
                said_at.clear()
            said_at[subject] = now
            logger.exception("%s: %s", subject, error)


async def keep_running(job: Job) -> None:
    """Call a job by its period, and after an error once a pause is over."""
    loop = asyncio.get_running_loop()
    backoff = Backoff(FIRST_PAUSE_S, MOST_PAUSE_S)
    due = loop.time()
    while True:
        began = loop.time()
        try:
            await job.run()
            backoff.reset()
        except Exception:
            if loop.time() - began > MOST_PAUSE_S:
                backoff.reset()
            pause_s = backoff.next_s()
            logger.exception("job %s failed; again in %.0f s", job.name, pause_s)
            due = loop.time() + pause_s - job.period_s
        else:
            if not job.period_s:
                return
        due = max(due + job.period_s, loop.time())
        await asyncio.sleep(due - loop.time())


async def run_jobs(jobs: Iterable[Job]) -> None:
    """Run all jobs until cancelled, which cancels them."""
    async with asyncio.TaskGroup() as group:
        for job in jobs:
            group.create_task(keep_running(job))
