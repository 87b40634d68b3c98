"""The job that follows live BGP: it runs the speaker, gathers changed routes, and publishes them.

A change is published at once while publishing takes no more than a tenth of a core; under steady changes they are
gathered for longer. The measure is computing time, not elapsed time: on a machine whose cores are full a publish takes
long, and the next need not wait longer for that.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from functools import partial
from typing import Final

from steering.control.jobs.clockwork import Job, going_on
from steering.control.routes.bgp.sessions import LiveRoutes, read_sessions, unknown_clusters, write_routes
from steering.control.routes.bgp.speaker import speaking
from steering.errors import SteeringError
from steering.process.backoff import Backoff
from steering.process.child import core_s

GATHER_S: Final = 0.25  # without a change ends the gathering; four times that ends it in any case
SHARE: Final = 0.1  # of a core, for live publishes
CREDIT_S: Final = 3.0  # of a core, available at once after half a minute without a publish
RESTART_S: Final = 2.0  # the first pause before the speaker starts again
MOST_RESTART_S: Final = 60.0

logger = logging.getLogger("steering.bgp")


class Budget:
    """The computing time that publishes may take: SHARE of elapsed time, of which at most CREDIT_S are saved up."""

    def __init__(self, now: float) -> None:
        self.credit_s, self.updated_at = CREDIT_S, now

    def allows(self, now: float) -> bool:
        self.credit_s = min(CREDIT_S, self.credit_s + SHARE * (now - self.updated_at))
        self.updated_at = now
        return self.credit_s >= 0

    def take(self, seconds: float) -> None:
        self.credit_s -= seconds


class FollowBgp(Job):
    """The job. Received routes outlive the speaker, and in their file the control process."""

    name = "follow BGP"

    async def run(self) -> None:
        control = self.control
        assert self.settings.bgp
        sessions = read_sessions(self.settings.bgp, self.settings.asn)
        for cluster in unknown_clusters(sessions, control.fleet.current()):
            logger.warning("bgp: the fleet has no cluster %s; the routes of its sessions are refused", cluster)
        live = LiveRoutes(sessions, self.settings.bgp_hold_s, time.time())
        live.read_back(self.settings.state)
        write_routes(self.settings.state, live.copied())  # so that `bgp:` can be published before the first route
        control.sessions = live.describe
        async with asyncio.TaskGroup() as group:
            group.create_task(self.speak(live))
            group.create_task(self.publish(live))

    async def speak(self, live: LiveRoutes) -> None:
        backoff = Backoff(RESTART_S, MOST_RESTART_S)
        while True:
            began = time.monotonic()
            try:
                sessions = list(live.sessions.values())
                async with speaking(sessions, partial(take_line, live)) as process:
                    status = await process.wait()
                reason = f"the speaker ended with status {status}"
            except SteeringError as error:
                reason = error.message
            logger.error("bgp: %s", reason)
            live.all_down(reason, time.time())
            if time.monotonic() - began > MOST_RESTART_S:
                backoff.reset()
            await asyncio.sleep(backoff.next_s())

    async def publish(self, live: LiveRoutes) -> None:
        done, budget = live.changed, Budget(time.monotonic())
        while True:
            live.expire(time.time())
            if live.changed == done or not budget.allows(time.monotonic()):
                await asyncio.sleep(GATHER_S / 5)
                continue
            await self.gather(live)
            done = live.changed
            began, used = time.monotonic(), core_s()
            published = False
            with going_on("bgp: not published"):
                await asyncio.to_thread(write_routes, self.settings.state, live.copied())
                try:
                    report = await self.call(self.control.tables.publish_live)
                    if report:
                        logger.info("bgp: table %s serves", report["serving"]["table"])
                except SteeringError as error:
                    logger.error("bgp: not published: %s", error.message)
                published = True
            if not published:
                done = -1
                await asyncio.sleep(RESTART_S)
            budget.take(min(core_s() - used, time.monotonic() - began))

    async def gather(self, live: LiveRoutes) -> None:
        """Wait until no route changes for a moment, for a second at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(4 * GATHER_S):
                before = -1
                while before != live.changed:
                    before = live.changed
                    await asyncio.sleep(GATHER_S)


def take_line(live: LiveRoutes, line: bytes) -> None:
    with going_on("bgp: a line of the speaker"):
        live.take(line, time.time())
