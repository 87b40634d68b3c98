"""One command, all processes: a control process and N playback workers, kept alive from here and ended together.

The supervisor binds the doors and keeps them, so that a worker's successor inherits its queue. It imports what workers
need, freezes it, and forks: code and modules are shared. It holds no lock, opens no database and maps no table; when
control dies, playback serves on. Start-up is strict, running is lenient: what ends before all are ready ends
everything, what ends later is started again after a pause that doubles.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import gc
import http.client
import importlib
import logging
import math
import multiprocessing
import multiprocessing.process
import os
import resource
import shlex
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

import uvicorn

from _fastpath.counters import Counters
from steering.control import app as control_app
from steering.control.first_start import make_ready
from steering.control.routes.build import Progress, quiet
from steering.decision.examples import suggest_requests
from steering.decision.snapshot import Snapshot
from steering.errors import SettingsError, SnapshotError, SteeringError
from steering.playback.client import Trust, pack
from steering.playback.http import app as playback_app
from steering.playback.server import listeners as doors
from steering.playback.server.follower import Follower
from steering.playback.server.listeners import BACKLOG, Door
from steering.playback.server.connections import Connections
from steering.playback.server.protocol import http_class
from steering.playback.server.proxy_protocol import LOCAL
from steering.playback.telemetry.decision_log import DecisionLog
from steering.playback.telemetry.player_reports import PlayerReports
from steering.process import notify
from steering.process.child import FORK, SIGNALS, run
from steering.settings import Settings
from steering.state.folder import worker_file, worker_files

FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0
PROVEN_S: Final = 30.0  # who lived this long starts again with the first pause
READY_S: Final = 60.0
GRACE_S: Final = 10.0
HEALTH_S: Final = 10.0
CONTROL_NICENESS: Final = 10  # a tenth of a core that workers want too, setpriority(2)
SLOTS: Final = 1 << 16  # appliances that a worker counts answers for; a page of counts is there once one is used
SWITCH_S: Final = 0.0005  # how long a worker's loop may wait for the thread that maps a snapshot
RELOAD_POLL_S: Final = 0.1
READY: Final = b"+"
RELOADED: Final = b"r"
# What uvicorn imports when it starts; imported before the fork it is shared.
PRELOADED: Final = ("uvloop", "uvicorn.loops.uvloop", "uvicorn.protocols.http.httptools_impl", "uvicorn.lifespan.on")

logger = logging.getLogger("steering.supervisor")

ShowProgress = Callable[[], AbstractContextManager[Progress]]


@dataclasses.dataclass
class Pauses:
    """How long to wait before starting something again that ended: doubling, and from the first when it lived long."""

    pause_s: float = 0.0

    def after(self, lived_s: float) -> float:
        """Return the pause after a life of so many seconds."""
        self.pause_s = (
            FIRST_PAUSE_S if lived_s >= PROVEN_S else min(max(2 * self.pause_s, FIRST_PAUSE_S), LONGEST_PAUSE_S)
        )
        return self.pause_s


class Child:
    """One process to be kept alive."""

    def __init__(self, name: str, task: Callable[[], None]) -> None:
        self.name = name
        self.task = task
        self.pauses = Pauses()
        self.process: multiprocessing.process.BaseProcess | None = None
        self.started_at = 0.0
        self.due_at = 0.0

    def start(self) -> None:
        """Fork the process."""
        self.started_at = time.monotonic()
        process = FORK.Process(target=be_child, args=(self.task,), name=self.name)
        process.start()
        self.process = process

    def ended(self) -> int | None:
        """Return the exit status of a process that has ended, below 0 for a signal; None while it runs."""
        return self.process.exitcode if self.process else 0

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, if it runs."""
        if self.process and self.process.pid and self.process.exitcode is None:
            os.kill(self.process.pid, number)


def serve(
    settings: Settings,
    who: str,
    show_progress: ShowProgress,
    appliances: int | None = None,
    synth: bool = True,
    say: Callable[[str], None] = print,
) -> None:
    """Make the state folder ready, serve until told to end, and end all processes.

    Raises SettingsError where a door or the folder is taken, or a process does not come up.
    """
    with contextlib.ExitStack() as closing:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        closing.callback(signal.pthread_sigmask, signal.SIG_UNBLOCK, SIGNALS)
        opened = closing.enter_context(doors.opened(settings.listen, settings.workers))
        control_doors = closing.enter_context(doors.opened(settings.control_listen, 1))
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
        Supervisor(settings, opened, control_doors, say).run()


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
    """SettingsError where SIGTERM or SIGINT has come; they are blocked."""
    found = signal.sigtimedwait(SIGNALS, 0)
    if found and found.si_signo in (signal.SIGTERM, signal.SIGINT):
        raise SettingsError("told to end before it could serve")


class Supervisor:
    """The processes of one service, and the pipes that tie them to this one."""

    def __init__(
        self, settings: Settings, opened: Sequence[Door], control_doors: Sequence[Door], say: Callable[[str], None]
    ) -> None:
        self.settings = settings
        self.doors = opened
        self.control_doors = control_doors
        self.say = say
        # A child that reads the end of `life` knows that the supervisor is gone, however it went.
        self.life, self.life_end = os.pipe()
        # A child writes READY when it answers, and control RELOADED after each reload.
        self.word, self.word_end = os.pipe()
        os.set_blocking(self.word, False)
        os.set_blocking(self.word_end, False)
        self.reloading = False
        self.control = Child("control", self.be_control)
        self.workers = [
            Child(f"worker {number}", functools.partial(self.be_worker, number, listeners))
            for number, listeners in enumerate(zip(*(door.sockets for door in opened), strict=True), 1)
        ]
        self.children = [self.control, *self.workers]

    def run(self) -> None:
        """Start everything, keep it alive until SIGTERM or SIGINT, and end it."""
        try:
            for child in self.children:
                child.start()
            if self.wait_until_ready():
                self.announce()
                notify.ready(self.told())
                self.keep_alive()
        finally:
            self.stop()
            for descriptor in (self.life, self.life_end, self.word, self.word_end):
                os.close(descriptor)

    # ---- in the supervisor

    def wait_until_ready(self) -> bool:
        """Return True when all children are ready, False when told to end; SettingsError where one does not come up."""
        waiting = len(self.children)
        deadline = time.monotonic() + READY_S
        while waiting:
            found = signal.sigtimedwait(SIGNALS, 0.02)
            if found and found.si_signo in (signal.SIGTERM, signal.SIGINT):
                return False
            waiting -= self.hear().count(READY)
            for child in self.children:
                if (status := child.ended()) is not None:
                    raise SettingsError(f"{child.name} ended with status {status} before it was ready")
            if time.monotonic() > deadline:
                raise SettingsError(f"{waiting} of {len(self.children)} processes were not ready after {READY_S:.0f} s")
        for door in self.doors:
            check(door, self.settings)
        return True

    def hear(self) -> bytes:
        """Return what the children have written since last asked."""
        try:
            return os.read(self.word, 4096)
        except BlockingIOError:
            return b""

    def told(self) -> str:
        """Return where the doors are, for people."""
        return f"serving on {', '.join(str(door) for door in self.doors)}"

    def announce(self) -> None:
        """Say where the doors are, and what is worth asking there."""
        if self.control_doors:
            self.say(f"control on {', '.join(str(door) for door in self.control_doors)}")
        self.say(self.told())
        try:
            examples = suggest_requests(Snapshot.map(self.settings.state))
        except SnapshotError as error:
            logger.warning("%s", error.message)
            return
        if examples:
            self.say("Try:")
        first = next((door for door in self.doors if not door.path), self.doors[0])
        curl, url = "curl" + " --haproxy-protocol" * self.settings.proxy_protocol, str(first)
        if first.path:
            curl, url = f"{curl} --unix-socket {shlex.quote(str(first.path))}", "http://localhost"
        for example in examples:
            self.say(f"# {example.partner}, {example.country}")
            self.say(f"{curl} '{url}/v1/steer?title=80100172&ip={example.address}'")

    def keep_alive(self) -> None:
        """Start again what ends, pass on SIGHUP, and return at SIGTERM or SIGINT."""
        while True:
            due = [child.due_at for child in self.children if child.process is None]
            wait_s = max(0.0, min(due) - time.monotonic()) if due else 3600.0
            found = signal.sigtimedwait(SIGNALS, min(wait_s, RELOAD_POLL_S) if self.reloading else wait_s)
            if found and found.si_signo in (signal.SIGTERM, signal.SIGINT):
                return
            if found and found.si_signo == signal.SIGHUP:
                notify.reloading()
                self.reloading = True
                self.control.signal(signal.SIGHUP)
            # A control process that was just being started did not hear of it, and says READY.
            if (self.hear() or self.control.process is None) and self.reloading:
                notify.ready(self.told())
                self.reloading = False
            now = time.monotonic()
            for child in self.children:
                if child.process is None and now >= child.due_at:
                    child.start()
                elif child.process and (status := child.ended()) is not None:
                    pause_s = child.pauses.after(now - child.started_at)
                    logger.error("%s ended with status %d; back in %.1f s", child.name, status, pause_s)
                    child.process, child.due_at = None, now + pause_s

    def stop(self) -> None:
        """End all children: answers in flight are finished, and after ten seconds, or a second signal, cut off."""
        notify.stopping()
        for door in (*self.doors, *self.control_doors):
            door.close()
        for child in self.children:
            child.signal(signal.SIGTERM)
        deadline = time.monotonic() + GRACE_S
        while any(child.ended() is None for child in self.children):
            found = signal.sigtimedwait(SIGNALS, 0.1)
            again = found is not None and found.si_signo in (signal.SIGTERM, signal.SIGINT)
            if again or time.monotonic() > deadline:
                for child in self.children:
                    child.signal(signal.SIGKILL)
                deadline = float("inf")
        for child in self.children:
            if child.process:
                child.process.join()

    # ---- in the children

    def be_control(self) -> None:
        """Be the control process. A publish takes a core for a second: answers go first."""
        os.nice(CONTROL_NICENESS)
        own = [door.sockets[0] for door in self.control_doors]
        self.leave_others(own)

        def answer(app: Any, listener: socket.socket) -> None:
            self.answer(app, [listener, *own], lifespan="on", http=control_app.ControlProtocol)

        try:
            control_app.run(self.settings, answer, functools.partial(say_word, self.word_end, RELOADED))
        except SteeringError as error:
            logger.error("control: %s", error.message)
            sys.exit(1)

    def be_worker(self, number: int, listeners: Sequence[socket.socket]) -> None:
        """Be a playback worker, on its socket of each door."""
        self.leave_others(listeners)
        sys.setswitchinterval(SWITCH_S)
        counters = Counters(str(worker_file(self.settings.state, number)), SLOTS, writable=True)
        connections = Connections(self.settings, counters)
        follower = Follower(
            self.settings.state, self.settings.poll_s, take=connections.serve, refuse=connections.refuse
        )
        follower.start()
        decisions = start_decisions(self.settings, number, connections)
        signer = follower.signer
        reports = PlayerReports(counters, lambda: signer.keyring.keys, connections.fast_path, self.settings.cmcd_sample)
        app = playback_app.make_app(
            follower, self.settings, counters, decisions, signer.sign_below, signer.tag, reports
        )
        try:
            self.answer(
                app,
                listeners,
                http=http_class(connections),
                callback_notify=connections.tick,
                timeout_notify=-math.inf,  # each second, whatever the wall clock says: it may have been set back
            )
        finally:
            follower.stop()
            if decisions:
                decisions.stop()

    def leave_others(self, own: Sequence[socket.socket] = ()) -> None:
        """Close what only the supervisor and other children need."""
        os.close(self.life_end)
        os.close(self.word)
        every = (*self.doors, *self.control_doors)
        for listener in {listener for door in every for listener in door.sockets}.difference(own):
            listener.close()

    def answer(self, app: Any, listeners: Sequence[socket.socket], **options: Any) -> None:
        """Run the server on these sockets until SIGTERM, or the supervisor's end."""
        config = uvicorn.Config(
            app,
            loop="uvloop",
            ws="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=int(GRACE_S) - 2,
            **{"lifespan": "off", **options},
        )
        Server(config, self.life, self.word_end).run(sockets=list(listeners))


def check(door: Door, settings: Settings) -> None:
    """Ask for /healthz at a door; SettingsError where it does not answer."""
    asked = http.client.HTTPConnection("localhost", timeout=HEALTH_S)
    try:
        asked.sock = door.connect(HEALTH_S)
        if settings.proxy_protocol and is_trusted(asked.sock, settings):
            asked.sock.sendall(LOCAL)
        asked.request("GET", "/healthz")
        status = asked.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise SettingsError(f"{door}: /healthz: {error}") from error
    finally:
        asked.close()
    if status != http.HTTPStatus.OK:
        raise SettingsError(f"{door}: /healthz answered {status}")


def is_trusted(connection: socket.socket, settings: Settings) -> bool:
    """Tell whether a door trusts who made this connection to it."""
    if connection.family == socket.AF_UNIX:
        return True
    packed = pack(connection.getsockname()[0])
    return packed is not None and packed in Trust(settings.trusted)


def start_decisions(settings: Settings, worker: int, connections: Connections) -> DecisionLog | None:
    """Return the worker's decision log, writing; None where it is off, or its folder cannot be had."""
    if settings.decision_log is None:
        return None
    titles, file_bytes = settings.decision_titles, settings.decision_log_mb << 20
    decisions = DecisionLog(settings.decision_log, worker, connections.fast_path, titles, file_bytes)
    try:
        decisions.start()
    except OSError as error:
        logger.error("decision log %s: %s; nothing is recorded", settings.decision_log, error.strerror)
        return None
    return decisions


class Server(uvicorn.Server):
    """A server that says when it is ready, and ends when nobody holds the other end of `life`."""

    def __init__(self, config: uvicorn.Config, life: int, word: int) -> None:
        super().__init__(config)
        self.life = life
        self.word = word

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to answer."""
        await super().startup(sockets)
        asyncio.get_running_loop().add_reader(self.life, self.end)
        say_word(self.word, READY)

    def end(self) -> None:
        """Finish what is in flight and return."""
        asyncio.get_running_loop().remove_reader(self.life)
        self.should_exit = True


def say_word(descriptor: int, word: bytes) -> None:
    """Tell the supervisor; when it has not listened for thousands of words, one more is not missed."""
    with contextlib.suppress(BlockingIOError):
        os.write(descriptor, word)


def be_child(task: Callable[[], None]) -> None:
    """Be a child that ends in order at SIGTERM and SIGINT, whoever handles them in between."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    task()


def leave(*_: Any) -> None:
    """Leave through every `finally`."""
    sys.exit(0)
