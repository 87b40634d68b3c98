"""One command starts everything and keeps it alive: sockets, the state folder, a control process, playback workers.

The supervisor binds the sockets and keeps them, so that a worker's successor inherits its queue. It imports what
workers need, freezes it, and forks while it has no other thread: code and modules are shared. It holds no lock, opens
no database and maps no table; when control dies, playback serves on. Start-up is strict, running is lenient: a process
that ends before all are ready ends everything, one that ends later is started again after a pause that doubles.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import logging
import resource
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from steering.control.first_start import make_ready
from steering.control.routes.build import Progress, quiet
from steering.errors import SettingsError
from steering.playback.server.listeners import Listener, bound
from steering.process import notify
from steering.process.child import FORK, SIGNALS, run
from steering.settings import Settings, is_tls
from steering.state.folder import worker_files
from steering.supervisor.announce import announce, check, status_line
from steering.supervisor.children import LOOK_S, MOST_MISSED, READY, RELOADED, Child, Pipes
from steering.supervisor.tasks import GRACE_S, Tasks
from steering.tls.certificates import Certificates

READY_S: Final = 60.0
RELOAD_POLL_S: Final = 0.1
MOST_RELOADS: Final = 2  # attempts at one reload; each may end control
END: Final = {signal.SIGTERM, signal.SIGINT}
# What uvicorn imports when it starts; imported before the fork it is shared.
PRELOADED: Final = ("uvloop", "uvicorn.loops.uvloop", "uvicorn.protocols.http.httptools_impl", "uvicorn.lifespan.on")

ShowProgress = Callable[[], AbstractContextManager[Progress]]

logger = logging.getLogger("steering.supervisor")


def serve(
    settings: Settings,
    who: str,
    show_progress: ShowProgress,
    appliances: int | None = None,
    synth: bool = True,
    say: Callable[[str], None] = print,
) -> None:
    """Make the state folder ready, serve until SIGTERM or SIGINT, and end all processes.

    Raises SettingsError where an address or the folder is taken, or a process does not start.
    """
    with contextlib.ExitStack() as closing:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        closing.callback(signal.pthread_sigmask, signal.SIG_UNBLOCK, SIGNALS)
        listeners = closing.enter_context(bound(settings.listen, settings.workers))
        control_listeners = closing.enter_context(bound(settings.control_listen, 1))
        pairs = list(zip(settings.tls_cert, settings.tls_key, strict=True))
        certificates = Certificates(pairs) if any(map(is_tls, settings.listen)) else None
        ca = settings.control_client_ca
        control_certificates = Certificates(pairs, ca) if any(map(is_tls, settings.control_listen)) else None
        raise_file_limit()

        def prepare(_: Progress) -> None:
            with show_progress() as progress:
                make_ready(settings, who, appliances, synth, progress)

        run("preparing the state folder", prepare, quiet, meanwhile=end_on_signal, context=FORK)
        remove_counts(settings.state, settings.workers)
        for name in PRELOADED:
            importlib.import_module(name)
        gc.collect()
        gc.freeze()
        Supervisor(settings, listeners, control_listeners, say, certificates, control_certificates).run()


def remove_counts(state: Path, workers: int) -> None:
    """Remove the counters of workers beyond the configured number; the others go on counting in theirs."""
    for number, path in worker_files(state).items():
        if number > workers:
            path.unlink()


def raise_file_limit() -> None:
    """Let the children open as many files as they may: a connection is one, and shells begin with 1024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def end_on_signal() -> None:
    """Raise SettingsError after SIGTERM or SIGINT, which are blocked."""
    if next_signal(0, END):
        raise SettingsError("asked to end before it could serve")


def next_signal(wait_s: float, awaited: set[signal.Signals] = SIGNALS) -> int:
    """Return the next signal within so many seconds, 0 where there is none. They are blocked, and others wait."""
    info = signal.sigtimedwait(awaited, wait_s)
    return info.si_signo if info else 0


class Supervisor:
    """The processes of one service."""

    def __init__(
        self,
        settings: Settings,
        listeners: Sequence[Listener],
        control_listeners: Sequence[Listener],
        say: Callable[[str], None],
        certificates: Certificates | None = None,
        control_certificates: Certificates | None = None,
    ) -> None:
        self.settings = settings
        self.listeners = listeners
        self.control_listeners = control_listeners
        self.say = say
        self.pipes = Pipes()
        self.reloads_left = 0  # how often control may still begin the reload that SIGHUP asked for
        tasks = Tasks(settings, listeners, control_listeners, self.pipes, certificates, control_certificates)
        self.control = Child("control", tasks.be_control)
        workers = [
            Child(f"worker {number}", functools.partial(tasks.be_worker, number, sockets))
            for number, sockets in enumerate(zip(*(listener.sockets for listener in listeners), strict=True), 1)
        ]
        self.children = [self.control, *workers]

    def run(self) -> None:
        """Start everything, keep it alive until SIGTERM or SIGINT, and end it."""
        try:
            for child in self.children:
                child.start()
            if self.wait_until_ready():
                announce(self.settings, self.listeners, self.control_listeners, self.say)
                notify.ready(status_line(self.listeners))
                self.keep_alive()
        finally:
            self.stop()
            self.pipes.close()

    def wait_until_ready(self) -> bool:
        """Return True when all children are ready, False after SIGTERM or SIGINT.

        SettingsError where one ends, or is not ready in time, or a listener does not answer.
        """
        waiting = len(self.children)
        deadline = time.monotonic() + READY_S
        while waiting:
            if next_signal(0.02, END):  # a SIGHUP waits
                return False
            waiting -= self.pipes.read().count(READY)
            for child in self.children:
                if (status := child.status()) is not None:
                    raise SettingsError(f"{child.name} ended with status {status} before it was ready")
            if time.monotonic() > deadline:
                raise SettingsError(f"{waiting} of {len(self.children)} processes were not ready after {READY_S:.0f} s")
        for listener in self.listeners:
            check(listener, self.settings)
        return True

    def keep_alive(self) -> None:
        """Start again what ends or is stuck, pass on SIGHUP, and return at SIGTERM or SIGINT."""
        look_at = time.monotonic() + LOOK_S
        while True:
            due = [look_at, *(child.due_at for child in self.children if child.process is None)]
            wait_s = max(0.0, min(due) - time.monotonic())
            number = next_signal(min(wait_s, RELOAD_POLL_S) if self.reloads_left else wait_s)
            if number in END:
                return
            if time.monotonic() >= look_at:
                look_at = time.monotonic() + LOOK_S
                self.kill_stuck()
            self.restart_ended(time.monotonic())
            if number == signal.SIGHUP:
                notify.reloading()
                self.reloads_left = MOST_RELOADS
                for child in self.children:
                    child.signal(signal.SIGHUP)  # control loads feeds, workers certificates
            if RELOADED in self.pipes.read():
                self.end_reload()

    def kill_stuck(self) -> None:
        """Kill workers that do not run: the kernel goes on giving them their share of the connections."""
        for worker, child in enumerate(self.children[1:], 1):
            if child.is_stuck(self.pipes.beats[worker]):
                logger.error("%s has not run for %.0f s, and is killed", child.name, MOST_MISSED * LOOK_S)
                child.signal(signal.SIGKILL)

    def end_reload(self, left: int = 0) -> None:
        """Note that a reload has ended, or that so many attempts at it are left."""
        if self.reloads_left and not left:
            notify.ready(status_line(self.listeners))
        self.reloads_left = left

    def restart_ended(self, now: float) -> None:
        """Start the children that are due, and schedule those that have ended."""
        for child in self.children:
            if child.process is None:
                if now >= child.due_at:
                    child.start()
                    if child is self.control and self.reloads_left:
                        child.signal(signal.SIGHUP)
            elif (status := child.status()) is not None:
                if child is self.control:  # it may be the reload that ended it, so it is not tried for ever
                    self.end_reload(max(self.reloads_left - 1, 0))
                pause_s = child.schedule_restart(now)
                logger.error("%s ended with status %d; back in %.1f s", child.name, status, pause_s)

    def stop(self) -> None:
        """End all children: answers in flight are finished, and after ten seconds, or a second signal, cut off."""
        notify.stopping()
        for listener in (*self.listeners, *self.control_listeners):
            listener.close()
        for child in self.children:
            child.signal(signal.SIGTERM)
        deadline = time.monotonic() + GRACE_S
        while any(child.status() is None for child in self.children):
            if next_signal(0.1, END) or time.monotonic() > deadline:
                for child in self.children:
                    child.signal(signal.SIGKILL)
                deadline = float("inf")
        for child in self.children:
            if child.process:
                child.process.join()
