"""The job that asks appliances which cannot report how they are: their registered health URL, at their own addresses.

A connection goes to a registered address and nowhere else: no name is looked up, no proxy is used, no redirect is
followed. The URL's host is what the appliance is asked for (`Host`, and SNI with the certificate's name). Each family
is checked by its own addresses, and is well where every one of them answers 2xx in time: clients get any of them. What
is found is an observation, *inferred*: `health/rules.py` says how many of them in a row count, and how far they may go.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import ipaddress
import logging
import random
import time
import zlib
from collections.abc import Iterator
from typing import Final

import httpx

from steering.control.health.registry import Registry
from steering.control.jobs.clockwork import Run
from steering.control.services.control import Control
from steering.model.fleet import Appliance, Fleet
from steering.settings import Settings

MOST_BYTES: Final = 1 << 16  # of a body; a health page is small, and what is not may be anything
MOST_WHY: Final = 200  # characters; some of them are the appliance's
LOOK_S: Final = 1.0  # how often the fleet is looked at for what is new
SPREAD: Final = 0.1  # of the pause, more or less, so that checks do not march in step

logger = logging.getLogger("steering.checker")


class Checker:
    """The job."""

    def __init__(self, settings: Settings) -> None:
        self.pause_s = settings.check_s
        self.timeout_s = settings.check_timeout_s
        self.room = asyncio.Semaphore(settings.check_parallel)
        self.awake = asyncio.Event()  # somebody is due that was not planned
        self.checked: dict[str, Appliance] = {}
        self.due: list[tuple[float, str]] = []  # a heap
        self.planned: set[str] = set()  # who is in it, or being checked
        self.transport: httpx.AsyncHTTPTransport | None = None

    async def __call__(self, control: Control, _: Run) -> None:
        """Check until cancelled."""
        fleet: Fleet | None = None
        self.due, self.planned = [], set()
        async with asyncio.TaskGroup() as group:
            try:
                while True:
                    if control.fleet.current() is not fleet:
                        fleet = control.fleet.current()
                        self.take(fleet)
                    now = time.monotonic()
                    while self.due and self.due[0][0] <= now:
                        await self.room.acquire()
                        name = heapq.heappop(self.due)[1]
                        group.create_task(self.round(name, control.registry))
                    self.awake.clear()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(min(LOOK_S, self.due[0][0] - now) if self.due else LOOK_S):
                            await self.awake.wait()
            finally:
                if self.transport:
                    await self.transport.aclose()
                    self.transport = None

    def take(self, fleet: Fleet) -> None:
        """Check this fleet's appliances from now on; new ones begin somewhere within the first pause."""
        now = time.monotonic()
        self.checked = {item.id: item for item in fleet.appliances if item.health_url}
        for name in self.checked.keys() - self.planned:
            self.planned.add(name)
            heapq.heappush(self.due, (now + self.pause_s * zlib.crc32(name.encode()) / (1 << 32), name))
        if self.checked and not self.transport:
            # Loads the certificates of all authorities, once.
            self.transport = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_keepalive_connections=0))

    async def round(self, name: str, registry: Registry) -> None:
        """Check one appliance, each family that it has addresses of, and say when it is due again."""
        try:
            appliance = self.checked.get(name)
            if appliance is None:
                self.planned.discard(name)
                return
            for family, addresses in families_of(appliance):
                why = await self.check(appliance, addresses)
                registry.observe(name, not why, why, family=family)
            due = time.monotonic() + self.pause_s * random.uniform(1 - SPREAD, 1 + SPREAD)  # noqa: S311
            heapq.heappush(self.due, (due, name))
            self.awake.set()
        finally:
            self.room.release()

    async def check(self, appliance: Appliance, addresses: list[str]) -> str:
        """Return which of the addresses is not well and why, empty where all are."""
        for address in addresses:
            if why := await self.ask(appliance.health_url, address):
                return f"{address}: {why}"[:MOST_WHY]
        return ""

    async def ask(self, url: str, address: str) -> str:
        """Return what is wrong with an answer of one address, empty where nothing is."""
        assert self.transport
        try:
            asked = httpx.URL(url)
            request = httpx.Request(
                "GET",
                asked.copy_with(host=address),
                headers={
                    "host": asked.netloc.decode(),
                    "user-agent": "steering",
                    "accept-encoding": "identity",
                    "connection": "close",
                },
                extensions={
                    "sni_hostname": asked.host,
                    "timeout": httpx.Timeout(self.timeout_s).as_dict(),
                },
            )
            async with asyncio.timeout(self.timeout_s):
                answer = await self.transport.handle_async_request(request)
                try:
                    return await judge(answer)
                finally:
                    await answer.aclose()
        except TimeoutError:
            return f"no answer within {self.timeout_s:g} s"
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            return f"{error}" or type(error).__name__


async def judge(answer: httpx.Response) -> str:
    """Return what is wrong with an answer, empty for a 2xx of reasonable size."""
    if answer.is_redirect:
        return f"answered {answer.status_code}, and redirects are not followed"
    if not answer.is_success:
        return f"answered {answer.status_code}"
    size = 0
    async for chunk in answer.aiter_raw():
        size += len(chunk)
        if size > MOST_BYTES:
            return f"a body of over {MOST_BYTES >> 10} KiB"
    return ""


def families_of(appliance: Appliance) -> Iterator[tuple[int, list[str]]]:
    """Yield (family, addresses) for each family that an appliance answers on and has addresses of."""
    for family, answers in ((4, appliance.ipv4), (6, appliance.ipv6)):
        found = [text for text in appliance.addresses if ipaddress.ip_address(text).version == family]
        if answers and found:
            yield family, found
