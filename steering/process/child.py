"""Work in a process of its own, whose memory goes with it: `run` returns the task's result or raises its error.

A child must not be forked from a process with threads: a lock that another thread holds stays locked in the child. So
children are forked by a small server process without threads, which has imported what tasks need (`start_server`), and
begin within some 10 ms. The task and its result cross a pipe: a task is a function of a module, or a
`functools.partial` of one, with small arguments (paths, settings, numbers), and reads what is large from files. A
process that has no threads may fork the child itself (`context=FORK`); then the task may be a closure too.

A child that runs gently has only what is left over of the cores (SCHED_IDLE, sched(7)): a request that arrives takes
the core at once. Beside a process of low `nice` it would wait up to a tick, 4 ms, whenever that process has its small
share. Where all cores are full, next to nothing is left over, so a child that has waited PATIENCE_S for a core is
ended, and the task starts again at its parent's priority. Tasks must bear that: to be cut off, and to run twice.

Where the kernel shares cores between sessions first (autogroup, sched(7)), both priorities hold only inside a session,
and a child that is always ready to run uses up the share of the workers in its session. So each child has a session of
its own, whose priority is as low.

No child runs for ever: one that reports no new step for STEP_S, without the time in which it had no core, is ended.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkContext, ForkServerContext
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

from steering.errors import SettingsError, SteeringError
from steering.escape import log_to_stderr

LOOK_S: Final = 0.02  # between two looks at a child
MAX_REASON: Final = 500  # characters
PATIENCE_S: Final = 10.0
STEP_S: Final = 300.0  # the longest step is a minute: the whole table of the Internet on a slow machine
SIGNALS: Final = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}
FORK: Final = multiprocessing.get_context("fork")
SERVER: Final = multiprocessing.get_context("forkserver")

T = TypeVar("T")
Task = Callable[[Callable[[str], None]], T]  # called with a function that takes the name of each step

logger = logging.getLogger("steering.process")


@dataclasses.dataclass(slots=True)
class Adopted:
    """The children of this process that the server forked: the kernel does not count them as ours."""

    core_s: float = 0.0


adopted: Final = Adopted()


class StarvedError(Exception):
    """A child got no core."""


def start_server(modules: Sequence[str]) -> None:
    """Start the server that forks children, and let it import these modules. Returns at once.

    Without this call, the first task waits for the server, and each child imports what its task needs.
    Where the program is a script, each child imports what the script imports: name those modules, too.
    """
    SERVER.set_forkserver_preload([__name__, *modules])
    forkserver.ensure_running()


def is_single_threaded() -> bool:
    """Tell whether this process has no other thread, of Python or not. True where /proc does not say."""
    try:
        return len(list(Path("/proc/self/task").iterdir())) == 1
    except OSError:
        return True


def run_gently(
    name: str,
    task: Task[T],
    progress: Callable[[str], None],
    context: ForkContext | ForkServerContext = SERVER,
) -> T:
    """Run a task on what is left over of the cores; otherwise as `run`."""
    try:
        return run(name, task, progress, gently=True, context=context)
    except StarvedError:
        logger.warning("%s: no core was left over for %.0f s; starting again", name, PATIENCE_S)
        return run(name, task, progress, context=context)


def run(
    name: str,
    task: Task[T],
    progress: Callable[[str], None],
    *,
    gently: bool = False,
    meanwhile: Callable[[], None] = lambda: None,
    context: ForkContext | ForkServerContext = SERVER,
) -> T:
    """Return a task's result, or raise its SteeringError; SettingsError where its process was ended.

    `progress` receives the name of each step. `meanwhile` is called a few times a second; its errors end the child.
    SettingsError, too, where a step takes longer than STEP_S.
    """
    ours, theirs = context.Pipe()
    inherited = ours if context is FORK else None
    process = context.Process(target=be_child, args=(name, task, inherited, theirs, gently, log_settings()), name=name)
    process.start()
    theirs.close()
    last, until = name, time.monotonic() + STEP_S
    try:
        while True:
            meanwhile()
            if ours.poll(LOOK_S):
                message, content = ours.recv()
                if message == "step":
                    last, until = content, time.monotonic() + STEP_S - waited_s(process.pid)
                    progress(content)
                elif message == "used":
                    adopted.core_s += content
                elif message == "error":
                    raise content
                else:
                    result: T = content
                    return result
            elif gently and waited_s(process.pid) > PATIENCE_S:
                raise StarvedError
            elif time.monotonic() > until + waited_s(process.pid):
                raise SettingsError(
                    f"{name}: the step {last!r} took over {STEP_S:.0f} s, and was ended",
                    hint="a file that it reads may be a pipe, or on a disk that does not answer",
                )
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


def core_s() -> float:
    """Return the seconds of cores that this process and its children that ended have used."""
    return sum(os.times()[:4]) + adopted.core_s


def waited_s(pid: int | None) -> float:
    """Return how long a process was ready to run and had no core, from /proc/PID/schedstat; 0 where it is not there."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    return 0.0


def log_settings() -> tuple[int, str]:
    """Return the level and the format of this process's log, for a child that does not inherit them."""
    root = logging.getLogger()
    formatter = root.handlers[0].formatter if root.handlers else None
    return root.level, getattr(formatter, "_fmt", None) or logging.BASIC_FORMAT


def be_child(
    name: str,
    task: Task[Any],
    ours: Connection | None,
    theirs: Connection,
    gently: bool,
    log: tuple[int, str],
) -> NoReturn:
    """Do the work and leave, without exit handlers: those that were inherited belong to the parent."""
    status = 1
    try:
        if ours:
            ours.close()
        signal.set_wakeup_fd(-1)
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        log_to_stderr(*log)
        threading.Thread(target=end_with, args=(theirs,), daemon=True).start()
        yield_to_others(gently)
        try:
            answer = "result", task(lambda step: theirs.send(("step", step)))
        except SteeringError as error:
            answer = "error", error
        except Exception as error:
            logger.exception("%s", name)
            reason = f"{name}: {type(error).__name__}: {error}"[:MAX_REASON]
            answer = "error", SettingsError(reason, hint="a fault of the program; its log has the traceback")
        if ours is None:
            theirs.send(("used", time.process_time()))
        theirs.send(answer)
        status = 0
    except Exception:
        logger.exception("%s", name)
    finally:
        os._exit(status)


def yield_to_others(gently: bool) -> None:
    """Give this process a session of its own with its priority, or the lowest; see the top of this module."""
    with contextlib.suppress(OSError):  # it may lead a session, or the kernel may have no autogroups
        os.setsid()
        Path("/proc/self/autogroup").write_text("19" if gently else str(os.nice(0)))
    if gently:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def end_with(theirs: Connection) -> None:
    """End this process when the parent has ended: the parent never sends anything."""
    with contextlib.suppress(EOFError, OSError):
        theirs.recv()
    os._exit(1)
