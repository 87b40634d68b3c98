"""How long a thread of control computes without a break, while drains and reports wait for it.

What is measured is computing time of threads, not elapsed time: other programs, and a full machine, do not count.

    control   between two points at which the control thread runs short verbs, or ends a verb
    loop      one callback of the event loop
    lock      the registry's or the holdings' lock, held by any thread
    garbage   one collection, in any thread: the others wait for it
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import pytest

from steering.control.jobs import clockwork
from steering.control.jobs.clockwork import ControlThread
from tests.support.control_app import ControlApp


class TimedLock:
    """A lock that notes how long a thread computes while it holds it."""

    def __init__(self, lock: Any, note: Callable[[str, float], None]) -> None:
        self.lock = lock
        self.note = note
        self.local = threading.local()

    def __enter__(self) -> None:
        self.lock.acquire()
        self.local.depth = getattr(self.local, "depth", 0) + 1
        if self.local.depth == 1:
            self.local.began = time.thread_time()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.local.depth -= 1
        if self.local.depth == 0:
            self.note("lock", time.thread_time() - self.local.began)
        self.lock.release()


class Stretches:
    """The longest stretches since `begin`, in seconds, by what they are of."""

    def __init__(self) -> None:
        self.longest: dict[str, float] = {}
        self.since: float | None = None  # of the control thread

    def begin(self) -> None:
        """Forget what was measured."""
        self.longest = {}

    def note(self, what: str, seconds: float) -> None:
        self.longest[what] = max(self.longest.get(what, 0.0), seconds)

    def mark(self) -> None:
        """End a stretch of the control thread and begin the next; called in it."""
        now = time.thread_time()
        if self.since is not None:
            self.note("control", now - self.since)
        self.since = now

    def between(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function of the control thread that ends a stretch when it begins and when it ends."""

        def marked(*arguments: Any) -> Any:
            self.mark()
            try:
                return function(*arguments)
            finally:
                self.mark()

        return marked

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a callback of the event loop that notes how long it computes."""

        def run(*arguments: Any) -> Any:
            began = time.thread_time()
            try:
                return function(*arguments)
            finally:
                self.note("loop", time.thread_time() - began)

        return run

    def of_collection(self, phase: str, _: dict[str, int]) -> None:
        """Note how long a collection takes; all threads wait for it, so there is one at a time."""
        if phase == "start":
            self.collecting_since = time.thread_time()
        else:
            self.note("garbage", time.thread_time() - self.collecting_since)


@contextlib.contextmanager
def measured(patch: pytest.MonkeyPatch) -> Iterator[Stretches]:
    """Measure every control thread and event loop of this process that is made from now on."""
    stretches = Stretches()
    patch.setattr(ControlThread, "run_long_verb", stretches.between(ControlThread.run_long_verb))
    patch.setattr(ControlThread, "run_short_verbs", stretches.between(ControlThread.run_short_verbs))
    patch.setattr(clockwork, "run_short_verb", stretches.between(clockwork.run_short_verb))
    patch.setattr(asyncio.Handle, "_run", stretches.timed(asyncio.Handle._run))
    gc.callbacks.append(stretches.of_collection)
    try:
        yield stretches
    finally:
        gc.callbacks.remove(stretches.of_collection)


def measure_locks(app: ControlApp, stretches: Stretches) -> None:
    """Measure the locks between reports and the control thread, too."""
    registry, intake = app.control.registry, app.control.intake
    for owner in (registry, intake):
        owner.lock = TimedLock(owner.lock, stretches.note)  # type: ignore[assignment]
