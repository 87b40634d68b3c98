"""The job that follows live BGP: runs the speaker, gathers what changes, and has it published.

A change is published at once, as long as publishing has taken no more than a tenth of a core over the last while; when
changes go on, they are gathered for longer and longer. What counts is what was computed: on a machine whose cores are
full a publish takes long, and that is no reason to wait longer for the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import Final

from steering.control.jobs.clockwork import Run
from steering.control.routes.bgp.sessions import LiveRoutes, read_sessions, unknown_clusters, write_routes
from steering.control.routes.bgp.speaker import speaking
from steering.control.services.control import Control
from steering.errors import SteeringError
from steering.process.child import core_s
from steering.settings import Settings

GATHER_S: Final = 0.25  # without a change, or four times that in all
SHARE: Final = 0.1  # of a core, that live publishes may take
CREDIT_S: Final = 3.0  # of a core, that may be taken at once after half a minute of quiet
RESTART_S: Final = 2.0  # then doubled, up to a minute


logger = logging.getLogger("steering.bgp")


class Budget:
    """How much publishing may take: SHARE of the time that goes by, and CREDIT_S of it at once after a quiet while."""

    def __init__(self, now: float) -> None:
        self.credit_s, self.at = CREDIT_S, now

    def allows(self, now: float) -> bool:
        """Tell whether a publish may begin."""
        self.credit_s, self.at = min(CREDIT_S, self.credit_s + SHARE * (now - self.at)), now
        return self.credit_s >= 0

    def take(self, seconds: float) -> None:
        """Note how long a publish took."""
        self.credit_s -= seconds


class FollowBgp:
    """The job. What sessions said outlives the speaker, and by its file the control process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    async def __call__(self, control: Control, run: Run) -> None:
        """Follow the sessions until cancelled."""
        assert self.settings.bgp
        sessions = read_sessions(self.settings.bgp, self.settings.asn)
        for cluster in unknown_clusters(sessions, control.fleet.current()):
            logger.warning("bgp: the fleet has no cluster %s; what its sessions say is refused", cluster)
        live = LiveRoutes(sessions, self.settings.bgp_hold_s, time.time())
        live.read_back(self.settings.state)
        write_routes(self.settings.state, live.copied())  # so that it can be published before anybody said anything
        control.sessions = live.describe
        async with asyncio.TaskGroup() as group:
            group.create_task(self.speak(live))
            group.create_task(self.publish(live, control, run))

    async def speak(self, live: LiveRoutes) -> None:
        """Keep the speaker running."""
        pause = RESTART_S
        while True:
            began = time.monotonic()
            try:
                sessions = list(live.sessions.values())
                async with speaking(sessions, lambda line: live.take(line, time.time())) as process:
                    status = await process.wait()
                logger.error("bgp: the speaker ended with status %s", status)
            except SteeringError as error:
                logger.error("bgp: %s", error.message)
            live.all_down("the speaker ended", time.time())
            pause = RESTART_S if time.monotonic() - began > 60 else min(2 * pause, 60.0)
            await asyncio.sleep(pause)

    async def publish(self, live: LiveRoutes, control: Control, run: Run) -> None:
        """Publish what changes, gathered."""
        done, budget = live.changed, Budget(time.monotonic())
        while True:
            live.expire(time.time())
            if live.changed == done or not budget.allows(time.monotonic()):
                await asyncio.sleep(GATHER_S / 5)
                continue
            await self.gather(live)
            done = live.changed
            began, used = time.monotonic(), core_s()
            await asyncio.to_thread(write_routes, self.settings.state, live.copied())
            try:
                report = await run(control.tables.publish_live)
                if report:
                    logger.info("bgp: table %s serves", report["serving"]["table"])
            except SteeringError as error:
                logger.error("bgp: not published: %s", error.message)
            budget.take(min(core_s() - used, time.monotonic() - began))

    async def gather(self, live: LiveRoutes) -> None:
        """Wait until nothing changes for a moment, but not for long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(4 * GATHER_S):
                before = -1
                while before != live.changed:
                    before = live.changed
                    await asyncio.sleep(GATHER_S)
