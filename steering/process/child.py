"""Work in a process of its own, whose memory goes with it: a child is forked, and sends back its result or its error.

A child that runs gently has only what cores answers leave over (SCHED_IDLE, sched(7)): a request that comes takes the
core at once. Beside a process of low `nice` alone it would wait for up to a tick, 4 ms, whenever that one's small share
is due. Where all cores are full, what is left over is next to nothing, so a child that has waited PATIENCE_S for a core
is ended, and the work begun again at its parent's priority. Tasks must bear that: to be cut off, and to be run twice.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

from steering.errors import SettingsError, SteeringError

LOOK_S: Final = 0.2
PATIENCE_S: Final = 10.0
SIGNALS: Final = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}

T = TypeVar("T")

logger = logging.getLogger("steering.apart")
fork = multiprocessing.get_context("fork")


class StarvedError(Exception):
    """A child got no core."""


Task = Callable[[Callable[[str], None]], T]  # given whom to tell of its steps


def run_gently(
    name: str, task: Task[T], progress: Callable[[str], None], meanwhile: Callable[[], None] = lambda: None
) -> T:
    """Run a task on what cores are left over; otherwise as `run`."""
    try:
        return run(name, task, progress, gently=True, meanwhile=meanwhile)
    except StarvedError:
        logger.warning("%s: no core was left over for %.0f s; beginning again", name, PATIENCE_S)
        return run(name, task, progress, meanwhile=meanwhile)


def run(
    name: str,
    task: Task[T],
    progress: Callable[[str], None],
    *,
    gently: bool = False,
    meanwhile: Callable[[], None] = lambda: None,
) -> T:
    """Return a task's result, or raise its SteeringError; SettingsError where its process was ended.

    `progress` is told of its steps. `meanwhile` is called a few times a second; what it raises ends the child.
    """
    ours, theirs = fork.Pipe()
    process = fork.Process(target=be_child, args=(name, task, ours, theirs, gently), name=name)
    process.start()
    theirs.close()
    try:
        while True:
            meanwhile()
            if ours.poll(LOOK_S):
                kind, found = ours.recv()
                if kind == "step":
                    progress(found)
                elif kind == "error":
                    raise found
                else:
                    result: T = found
                    return result
            elif gently and waited_s(process.pid) > PATIENCE_S:
                raise StarvedError
    except EOFError:
        process.join()
        raise SettingsError(
            f"{name}: its process ended with status {process.exitcode}",
            hint="-9 may be the kernel's, for want of memory" if process.exitcode == -signal.SIGKILL else "",
        ) from None
    finally:
        process.kill()
        process.join()
        ours.close()


def waited_s(pid: int | None) -> float:
    """Return how long a process was ready to run and had no core, from /proc/PID/schedstat; 0 where it is not there."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    return 0.0


def be_child(name: str, task: Task[Any], ours: Connection, theirs: Connection, gently: bool) -> NoReturn:
    """Do the work and leave, without the parent's exit handlers: its threads are not here."""
    status = 1
    try:
        ours.close()
        signal.set_wakeup_fd(-1)
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        threading.Thread(target=end_with, args=(theirs,), daemon=True).start()
        if gently:
            with contextlib.suppress(OSError):
                os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        try:
            answer = "result", task(lambda step: theirs.send(("step", step)))
        except SteeringError as error:
            answer = "error", error
        theirs.send(answer)
        status = 0
    except Exception:
        logger.exception("%s", name)
    finally:
        os._exit(status)


def end_with(theirs: Connection) -> None:
    """End this process when the parent has: it never sends anything."""
    with contextlib.suppress(EOFError, OSError):
        theirs.recv()
    os._exit(1)
