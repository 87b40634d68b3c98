"""The supervisor's table of child processes, and the pipes between it and them."""

from __future__ import annotations

import contextlib
import multiprocessing.process
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from steering.process.backoff import Backoff
from steering.process.child import FORK, SIGNALS, is_single_threaded

FIRST_PAUSE_S: Final = 0.1
MOST_PAUSE_S: Final = 5.0
PROVEN_S: Final = 30.0  # a process that lived this long is started again after the first pause
READY: Final = b"+"
RELOADED: Final = b"r"


class Pipes:
    """Two pipes: one whose end tells children that the supervisor is gone, one for single-byte messages to it."""

    def __init__(self) -> None:
        self.life, self.life_writer = os.pipe()  # only the supervisor keeps the writer, and never writes
        self.messages, self.messages_writer = os.pipe()
        os.set_blocking(self.messages, False)
        os.set_blocking(self.messages_writer, False)

    def read(self) -> bytes:
        """Return the messages since the last call."""
        try:
            return os.read(self.messages, 4096)
        except BlockingIOError:
            return b""

    def send(self, message: bytes) -> None:
        """Send a message to the supervisor; if the pipe is full of unread ones, one more is not missed."""
        with contextlib.suppress(BlockingIOError):
            os.write(self.messages_writer, message)

    def keep_child_ends(self) -> None:
        """Close the supervisor's ends, in a child."""
        os.close(self.life_writer)
        os.close(self.messages)

    def close(self) -> None:
        for descriptor in (self.life, self.life_writer, self.messages, self.messages_writer):
            os.close(descriptor)


class Child:
    """One process that is kept alive."""

    def __init__(self, name: str, task: Callable[[], None]) -> None:
        self.name = name
        self.task = task
        self.backoff = Backoff(FIRST_PAUSE_S, MOST_PAUSE_S)
        self.process: multiprocessing.process.BaseProcess | None = None
        self.started_at = 0.0
        self.due_at = 0.0  # when it starts again, while there is no process

    def start(self) -> None:
        assert is_single_threaded(), "a lock that another thread holds would stay locked in the child"
        self.started_at = time.monotonic()
        process = FORK.Process(target=be_child, args=(self.task,), name=self.name)
        process.start()
        self.process = process

    def status(self) -> int | None:
        """Return the exit status of a process that has ended, below 0 for a signal; None while it runs."""
        return self.process.exitcode if self.process else 0

    def schedule_restart(self, now: float) -> float:
        """Forget the process that has ended, and return the pause in seconds before it starts again."""
        if now - self.started_at >= PROVEN_S:
            self.backoff.reset()
        pause_s = self.backoff.next_s()
        self.process, self.due_at = None, now + pause_s
        return pause_s

    def signal(self, number: signal.Signals) -> None:
        if self.process and self.process.pid and self.process.exitcode is None:
            os.kill(self.process.pid, number)


def be_child(task: Callable[[], None]) -> None:
    """Run the task of a child; SIGTERM and SIGINT end it in order, also while the task has no handlers of its own.

    SIGHUP stays blocked, and is kept until the task has a handler and lets it in; workers never do.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS - {signal.SIGHUP})
    task()


def leave(*_: Any) -> None:
    """Leave through every `finally`."""
    sys.exit(0)
