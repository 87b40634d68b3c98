"""The supervisor: starts a control process and the playback workers, keeps them alive, and ends them together.

It binds the sockets and keeps them, so that a worker's successor inherits its queue. It imports what workers need,
freezes it, and forks while it has no other thread: code and modules are shared. It holds no lock, opens no database and
maps no table; when control dies, playback serves on. Start-up is strict, running is lenient: a process that ends before
all are ready ends everything, one that ends later is started again after a pause that doubles.
"""

from __future__ import annotations

import functools
import logging
import signal
import time
from collections.abc import Callable, Sequence
from typing import Final

from steering.errors import SettingsError
from steering.playback.server.listeners import Listener
from steering.process import notify
from steering.process.child import SIGNALS
from steering.settings import Settings
from steering.supervisor.announce import announce, check, status_line
from steering.supervisor.children import READY, Child, Pipes
from steering.supervisor.tasks import GRACE_S, Tasks
from steering.tls.certificates import Certificates

READY_S: Final = 60.0
RELOAD_POLL_S: Final = 0.1

logger = logging.getLogger("steering.supervisor")


def next_signal(wait_s: float) -> int:
    """Return the next signal within so many seconds, 0 where there is none. They are blocked."""
    info = signal.sigtimedwait(SIGNALS, wait_s)
    return info.si_signo if info else 0


def is_end(number: int) -> bool:
    """Tell whether a signal asks the service to end."""
    return number in (signal.SIGTERM, signal.SIGINT)


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
        self.reloading = False
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
            if is_end(next_signal(0.02)):
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
        """Start again what ends, pass on SIGHUP, and return at SIGTERM or SIGINT."""
        while True:
            due = [child.due_at for child in self.children if child.process is None]
            wait_s = max(0.0, min(due) - time.monotonic()) if due else 3600.0
            number = next_signal(min(wait_s, RELOAD_POLL_S) if self.reloading else wait_s)
            if is_end(number):
                return
            if number == signal.SIGHUP:
                notify.reloading()
                self.reloading = True
                for child in self.children:
                    child.signal(signal.SIGHUP)  # control loads feeds, workers certificates
            # A control process that was just being started did not receive the signal, and sends READY.
            if (self.pipes.read() or self.control.process is None) and self.reloading:
                notify.ready(status_line(self.listeners))
                self.reloading = False
            self.restart_ended(time.monotonic())

    def restart_ended(self, now: float) -> None:
        """Start the children that are due, and schedule those that have ended."""
        for child in self.children:
            if child.process is None:
                if now >= child.due_at:
                    child.start()
            elif (status := child.status()) is not None:
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
            if is_end(next_signal(0.1)) or time.monotonic() > deadline:
                for child in self.children:
                    child.signal(signal.SIGKILL)
                deadline = float("inf")
        for child in self.children:
            if child.process:
                child.process.join()
