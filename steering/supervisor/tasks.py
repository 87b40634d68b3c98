"""What the child processes do: control, or playback on one worker's socket of each listener."""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import mmap
import os
import signal
import socket
import sys
from collections.abc import Collection, Sequence
from typing import Any, Final

import uvicorn

from _fastpath.counters import Counters
from steering.control import app as control_app
from steering.errors import SteeringError
from steering.playback.http import app as playback_app
from steering.playback.server.connections import Connections
from steering.playback.server.follower import Follower
from steering.playback.server.listeners import BACKLOG, Listener
from steering.playback.server.protocol import http_class, tls_of
from steering.playback.telemetry.decision_log import DecisionLog
from steering.playback.telemetry.player_reports import FILTER_BYTES, PlayerReports
from steering.settings import Settings
from steering.state.folder import worker_file
from steering.supervisor.children import READY, RELOADED, Pipes
from steering.tls.certificates import Certificates
from steering.tls.transport import Tls, ignore_odd_names

GRACE_S: Final = 10.0
CONTROL_NICENESS: Final = 10  # a tenth of a core that workers want too, setpriority(2)
SLOTS: Final = 1 << 16  # appliances that a worker counts answers for; a page of counts is there once one is used
SWITCH_S: Final = 0.0005  # how long a worker's loop may wait for the thread that maps a snapshot

logger = logging.getLogger("steering.supervisor")


class Tasks:
    """The tasks of the child processes of one service."""

    def __init__(
        self,
        settings: Settings,
        listeners: Sequence[Listener],
        control_listeners: Sequence[Listener],
        pipes: Pipes,
        certificates: Certificates | None = None,
        control_certificates: Certificates | None = None,
    ) -> None:
        self.settings = settings
        self.pipes = pipes
        self.certificates = certificates
        self.control_certificates = control_certificates
        self.seen = mmap.mmap(-1, FILTER_BYTES)  # anonymous and shared: by the workers, and their successors
        self.control_sockets = [listener.sockets[0] for listener in control_listeners]
        every = (*listeners, *control_listeners)
        self.sockets = {listening for listener in every for listening in listener.sockets}
        self.tls_sockets = {listening for listener in every if listener.is_tls for listening in listener.sockets}

    def be_control(self) -> None:
        """Be the control process. A publish takes a core for a second: answers of workers go first."""
        os.nice(CONTROL_NICENESS)
        self.leave_others(self.control_sockets)

        certificates = self.control_certificates
        tls = Tls(certificates) if certificates else None
        ignore_odd_names()

        async def tick() -> None:
            if certificates:
                certificates.step()

        def answer(app: Any, listening: socket.socket) -> None:
            sockets = [listening, *self.control_sockets]
            self.answer(app, sockets, tls, lifespan="on", http=control_app.ControlProtocol, callback_notify=tick)

        try:
            control_app.run(self.settings, answer, functools.partial(self.pipes.send, RELOADED))
        except SteeringError as error:
            logger.error("control: %s", error.message)
            sys.exit(1)

    def be_worker(self, number: int, sockets: Sequence[socket.socket]) -> None:
        """Be a playback worker, on its socket of each listener."""
        self.leave_others(sockets)
        sys.setswitchinterval(SWITCH_S)
        settings = self.settings
        counters = Counters(str(worker_file(settings.state, number)), SLOTS, writable=True)
        ignore_odd_names()
        connections = Connections(settings, counters, self.certificates)
        if self.certificates:
            signal.signal(signal.SIGHUP, self.certificates.hurry)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        follower = Follower(settings.state, settings.poll_s, take=connections.serve, refuse=connections.refuse)
        follower.start()
        decisions = start_decisions(settings, number, connections)
        signer = follower.signer
        reports = PlayerReports(
            counters, lambda: signer.keyring.keys, connections.fast_path, settings.cmcd_sample, seen=self.seen
        )
        app = playback_app.make_app(follower, settings, counters, decisions, signer.sign_below, signer.tag, reports)
        try:
            self.answer(
                app,
                sockets,
                tls_of(connections, self.certificates) if self.certificates else None,
                http=http_class(connections),
                callback_notify=connections.tick,
            )
        finally:
            follower.stop()
            if decisions:
                decisions.stop()

    def leave_others(self, own: Sequence[socket.socket]) -> None:
        """Close what only the supervisor and other children need."""
        self.pipes.keep_child_ends()
        for listening in self.sockets.difference(own):
            listening.close()

    def answer(self, app: Any, sockets: Sequence[socket.socket], tls: Tls | None, **options: Any) -> None:
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
            # Each second, whatever the wall clock shows: it may have been set back.
            **{"lifespan": "off", "timeout_notify": -math.inf, **options},
        )
        Server(config, self.pipes, self.tls_sockets, tls).run(sockets=list(sockets))


class Server(uvicorn.Server):
    """A server that reports when it is ready, and ends when the supervisor is gone."""

    def __init__(
        self, config: uvicorn.Config, pipes: Pipes, tls_sockets: Collection[socket.socket], tls: Tls | None
    ) -> None:
        super().__init__(config)
        self.pipes = pipes
        self.tls_sockets = tls_sockets
        self.tls = tls

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to answer."""
        sockets = sockets or []
        await super().startup([listening for listening in sockets if listening not in self.tls_sockets])
        if self.tls:
            await self.start_tls([listening for listening in sockets if listening in self.tls_sockets], self.tls)
        asyncio.get_running_loop().add_reader(self.pipes.life, self.end)
        self.pipes.send(READY)

    async def start_tls(self, sockets: Sequence[socket.socket], tls: Tls) -> None:
        """Accept connections on sockets that speak TLS, with the same protocol behind it."""
        config, state = self.config, self.server_state
        made = {"config": config, "server_state": state, "app_state": self.lifespan.state}
        make = tls.protocol_class(functools.partial(config.http_protocol_class, **made))
        for listening in sockets:
            loop = asyncio.get_running_loop()
            self.servers.append(await loop.create_server(make, sock=listening, backlog=BACKLOG))

    def end(self) -> None:
        """Finish what is in flight and return."""
        asyncio.get_running_loop().remove_reader(self.pipes.life)
        self.should_exit = True


def start_decisions(settings: Settings, worker: int, connections: Connections) -> DecisionLog | None:
    """Return the worker's decision log, writing; None where it is off, or its folder cannot be made."""
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
