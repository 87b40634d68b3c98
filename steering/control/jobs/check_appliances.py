"""The job that checks appliances which do not report: it asks their registered health URL at their own addresses.

A connection goes to a registered address only: no name is looked up, no proxy is used, no redirect is followed. The
URL's host is sent as `Host` and as SNI. Each family is checked at its own addresses, and is well when every one of them
answers 2xx in time, because clients are sent to any of them. A result is an *inferred* observation: the registry
decides how many in a row count, and the ejection limits how many appliances they may take out.
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

from steering.control.jobs.clockwork import Call, Job, going_on
from steering.control.services.control import Control
from steering.model.fleet import Appliance, Fleet

MOST_BYTES: Final = 1 << 16  # of a body; a health page is small
MOST_WHY: Final = 200  # characters of a result; the appliance may choose some of them
LOOK_S: Final = 1.0  # how soon a new appliance is noticed
JITTER: Final = 0.1  # of the pause, so that checks do not come all at once

logger = logging.getLogger("steering.checker")


class CheckAppliances(Job):
    """The job; each appliance is checked once in `check_s` seconds."""

    name = "check appliances"

    def __init__(self, control: Control, call: Call) -> None:
        super().__init__(control, call)
        settings = self.settings
        self.pause_s = settings.check_s
        self.timeout_s = settings.check_timeout_s
        self.free = asyncio.Semaphore(settings.check_parallel)
        self.awake = asyncio.Event()  # an appliance became due earlier than planned
        self.checked: dict[str, Appliance] = {}
        self.due: list[tuple[float, str]] = []  # a heap
        self.planned: set[str] = set()  # the appliances in the heap, and those being checked
        self.transport: httpx.AsyncHTTPTransport | None = None

    async def run(self) -> None:
        fleet: Fleet | None = None
        self.due, self.planned = [], set()
        async with asyncio.TaskGroup() as group:
            try:
                while True:
                    if self.control.fleet.current() is not fleet:
                        fleet = self.control.fleet.current()
                        self.plan(fleet)
                    now = time.monotonic()
                    while self.due and self.due[0][0] <= now:
                        await self.free.acquire()
                        name = heapq.heappop(self.due)[1]
                        group.create_task(self.check_one(name))
                    self.awake.clear()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(min(LOOK_S, self.due[0][0] - now) if self.due else LOOK_S):
                            await self.awake.wait()
            finally:
                if self.transport:
                    await self.transport.aclose()
                    self.transport = None

    def plan(self, fleet: Fleet) -> None:
        """Check the appliances of this fleet from now on; the first check of each comes within one pause."""
        now = time.monotonic()
        self.checked = {item.id: item for item in fleet.appliances if item.health_url}
        for name in self.checked.keys() - self.planned:
            self.planned.add(name)
            heapq.heappush(self.due, (now + self.pause_s * zlib.crc32(name.encode()) / (1 << 32), name))
        if self.checked and not self.transport:
            # Loads the certificates of all authorities, once.
            self.transport = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_keepalive_connections=0))

    async def check_one(self, name: str) -> None:
        """Check one appliance in each family that it has addresses of, and plan its next check."""
        try:
            appliance = self.checked.get(name)
            if appliance is None:
                self.planned.discard(name)
                return
            with going_on(f"the check of {name}"):
                for family, addresses in families_of(appliance):
                    why = await self.check(appliance, addresses)
                    self.control.registry.observe(name, not why, why, family=family)
            due = time.monotonic() + self.pause_s * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311
            heapq.heappush(self.due, (due, name))
            self.awake.set()
        finally:
            self.free.release()

    async def check(self, appliance: Appliance, addresses: list[str]) -> str:
        """Return the first address that is not well, and why; empty when all are well."""
        for address in addresses:
            if why := await self.ask(appliance.health_url, address):
                return f"{address}: {why}"[:MOST_WHY]
        return ""

    async def ask(self, url: str, address: str) -> str:
        """Return what is wrong with the answer of one address; empty when it is well."""
        assert self.transport
        try:
            parts = httpx.URL(url)
            request = httpx.Request(
                "GET",
                parts.copy_with(host=address),
                headers={
                    "host": parts.netloc.decode(),
                    "user-agent": "steering",
                    "accept-encoding": "identity",
                    "connection": "close",
                },
                extensions={
                    "sni_hostname": parts.host,
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
    """Return what is wrong with an answer; empty for a 2xx of reasonable size."""
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
        own = [text for text in appliance.addresses if ipaddress.ip_address(text).version == family]
        if answers and own:
            yield family, own
