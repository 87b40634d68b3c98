"""The fill loop: from the manifest to whole, checked titles.

    missing titles, in order -> room? -> window or urgent? -> lease -> recipe -> what is already there -> parts -> shown

Nothing is recorded about a title that is half fetched but its bytes: on the next try every part on the disk is hashed
again, and the good ones stay. So `kill -9` at any moment costs at most the parts in flight.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import random
from collections import defaultdict
from typing import Final

import httpx

from steering.appliance.appliance import Active, Appliance, wait
from steering.appliance.control_client import ControlError, verification
from steering.appliance.fetch import Fetcher, FetchError, PartFile
from steering.appliance.leases import Lease, Source, SourceRecord, Why, read_sources
from steering.appliance.manifest import Title, Window, order, window_at
from steering.appliance.prepare import missing_parts, show
from steering.appliance.rate import Bucket, WindowBudget
from steering.appliance.receipts import stored_recipe
from steering.appliance.recipe import Part, Recipe, RecipeError, is_title_name, read_recipe
from steering.appliance.served import NotServedError, check_served
from steering.appliance.store import Key
from steering.errors import FeedError

TICK_S: Final = 1.0
MAX_TITLES: Final = 1000  # in one request for sources
MAX_RETRY_S: Final = 900.0
REFUSED_S: Final = 600.0
DISK_PAUSE_S: Final = 60.0
BROKEN_DISK: Final = (errno.EIO, errno.EROFS)
FULL_DISK: Final = (errno.ENOSPC, errno.EDQUOT)
BUDGET_FILE: Final = "window"

logger = logging.getLogger("steering.appliance.fill")

Wanted = tuple[str, Title]


class StopFill(Exception):  # noqa: N818 (no error: the title goes on later)
    """A title stops for now; `pause_s` until it is tried again."""

    def __init__(self, pause_s: float = 0.0) -> None:
        super().__init__()
        self.pause_s = pause_s


class Filler:
    """Fetches what the manifest wants and the disk lacks."""

    def __init__(self, appliance: Appliance, http: httpx.AsyncClient | None = None) -> None:
        self.appliance = appliance
        settings = appliance.settings
        self.http = http or httpx.AsyncClient(verify=verification(settings), trust_env=False)
        self.fetcher = Fetcher(self.http, settings.stall_s)
        self.sources = SourceRecord(settings.retry_s)
        self.bucket = Bucket(0.0)
        self.window: Window | None = None
        self.tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self.pauses: dict[tuple[str, str], float] = {}
        self.retries: dict[tuple[str, str], int] = {}
        self.disk_pause_until = 0.0
        self.used_up: Window | None = None  # the window whose bytes have no room for another part
        self.reserved = 0  # bytes of the parts that are being fetched
        try:
            saved = (appliance.store.folder / BUDGET_FILE).read_bytes()
        except OSError:
            saved = b""
        self.budget = WindowBudget(saved)

    async def run(self) -> None:
        try:
            while True:
                await self.step()
                await wait(self.appliance.fill_now, TICK_S)
        finally:
            for task in self.tasks.values():
                task.cancel()
            await asyncio.gather(*self.tasks.values(), return_exceptions=True)
            await self.http.aclose()

    async def step(self) -> None:
        """Start the titles that may be fetched now."""
        status, now = self.appliance.fill, self.appliance.monotonic()
        missing = self.missing()
        status.bytes_left = sum(title.bytes for _, title in missing)
        status.state = self.state(missing)
        status.window_bytes = self.budget.spent.bytes
        if status.state != "filling":
            return
        fitting = self.fitting(missing)
        ready = [
            (service, title)
            for service, title in fitting
            if self.may_fetch(title)
            and (service, title.id) not in self.tasks
            and (service, title.recipe) not in self.appliance.busy
            and self.pauses.get((service, title.id), 0.0) <= now
        ]
        free = self.appliance.settings.parallel - len(self.tasks)
        if ready and free > 0:
            await self.lease(ready[:MAX_TITLES], free)

    def missing(self) -> list[Wanted]:
        """Return the titles that should be held and are not, or of another recipe, in the order of fetching."""
        recipe = self.appliance.holdings.recipe
        missing = [
            (service, title)
            for service, title in self.appliance.targets()
            if recipe(service, title.id) != title.recipe and service not in self.appliance.holdings.unknown
        ]
        return sorted(missing, key=lambda wanted: (order(wanted[1]), wanted[0]))

    def state(self, missing: list[Wanted]) -> str:
        """Return the state for reports, and enter the window that is open."""
        manifest, time = self.appliance.manifest, self.appliance.server_time()
        if manifest is None or time is None:
            return "no_manifest"
        if time >= manifest.document.expires_at:
            return "expired"
        self.window = window_at(manifest.document.windows, time)
        self.budget.enter(self.window)
        if rate := self.window.gbps if self.window else manifest.document.urgent_gbps:
            self.bucket.set_rate(rate)  # parts that run when a window closes end at its rate
        if not missing:
            self.appliance.fill.no_room = []
            return "idle"
        if self.appliance.monotonic() < self.disk_pause_until:
            return "disk_degraded"
        return "filling" if any(self.may_fetch(title) for _, title in missing) else "outside_window"

    def may_fetch(self, title: Title, amount: int = 1) -> bool:
        """Return whether a part of a title may begin now: by the manifest's end, the window and its bytes."""
        manifest, time = self.appliance.manifest, self.appliance.server_time()
        if manifest is None or time is None or time >= manifest.document.expires_at:
            return False
        window = window_at(manifest.document.windows, time)
        if window is not None and window.gbps > 0 and window != self.used_up:
            if self.budget.allows(window, amount + self.reserved):
                return True
            self.used_up = window  # for all titles: else each would ask for a lease to learn it
        return title.urgent and window is None and manifest.document.urgent_gbps > 0

    def fitting(self, missing: list[Wanted]) -> list[Wanted]:
        """Return the titles that the disk has room for, by order; the others are reported."""
        store, room = self.appliance.store, self.appliance.store.room()
        partial = set(store.recipes("filling"))
        fitting, no_room = [], []
        for service, title in missing:
            active = self.appliance.fill.active.get((service, title.id))
            needed = title.bytes
            if active is not None:
                needed -= active.bytes_done
            elif (service, title.recipe) in partial:
                needed -= store.partial_bytes((service, title.recipe))
            if needed <= room or active is not None:
                fitting.append((service, title))
                room -= max(needed, 0)
            else:
                no_room.append((service, title.id))
        self.appliance.fill.no_room = no_room[:MAX_TITLES]
        return fitting

    async def lease(self, ready: list[Wanted], free: int) -> None:
        """Ask control for sources, and start the titles that got a lease."""
        by_service: dict[str, dict[str, Title]] = defaultdict(dict)
        for service, title in ready:
            by_service[service][title.id] = title
        for service, titles in by_service.items():
            if free <= 0:
                return
            now = self.appliance.monotonic()
            try:
                leases = await self.ask(service, list(titles), free)
            except (ControlError, FeedError) as error:
                logger.warning("%s", error)
                pause_s = error.pause_s if isinstance(error, ControlError) else MAX_RETRY_S
                self.pauses |= {(service, title): now + pause_s for title in titles}
                continue
            for title_id, lease in leases.items():
                key = (service, titles[title_id].recipe)
                if free > 0 and key not in self.appliance.busy:
                    self.start(service, titles[title_id], lease)
                    free -= 1

    async def ask(self, service: str, titles: list[str], most: int) -> dict[str, Lease]:
        """Return control's leases for titles, in their order; note which ones must wait."""
        answer = read_sources(await self.appliance.control.sources(service, titles, most))
        now = self.appliance.monotonic()
        for title, later in answer.later.items():
            self.pauses[service, title] = now + max(later.retry_s, TICK_S)
        for title, why in answer.refused.items():
            logger.warning("%s %s: control refused sources: %.200s", service, title, why)
            self.pauses[service, title] = now + REFUSED_S
        return {title: Lease(answer.leases[title], answer, now) for title in titles if title in answer.leases}

    def start(self, service: str, title: Title, lease: Lease) -> None:
        name = (service, title.id)
        self.appliance.busy.add((service, title.recipe))
        self.appliance.fill.active[name] = Active()
        task = self.tasks[name] = asyncio.create_task(self.fill(service, title, lease), name=f"fill {title.id}")
        task.add_done_callback(lambda task: self.ended(task, service, title))

    def ended(self, task: asyncio.Task[None], service: str, title: Title) -> None:
        name = (service, title.id)
        if not task.cancelled() and (error := task.exception()):
            logger.error("%s %s: %r", service, title.id, error, exc_info=error)
            self.pauses[name] = self.appliance.monotonic() + MAX_RETRY_S
        self.tasks.pop(name, None)
        self.appliance.fill.active.pop(name, None)
        self.appliance.busy.discard((service, title.recipe))
        self.appliance.fill_now.set()

    async def fill(self, service: str, title: Title, lease: Lease) -> None:
        """Fetch one title as far as it goes now."""
        name, now = (service, title.id), self.appliance.monotonic
        status = self.appliance.fill
        try:
            await self.fetch(service, title, lease)
        except StopFill as stop:
            self.pauses[name] = now() + stop.pause_s
        except RecipeError as error:
            logger.warning("%s %s: %s", service, title.id, error)
            status.failed(service, title.id, "control", "refused")
            self.pauses[name] = now() + REFUSED_S
        except ControlError as error:
            logger.warning("%s", error)
            self.pauses[name] = now() + error.pause_s
        except NotServedError as error:
            logger.error("%s %s: %s", service, title.id, error)
            status.failed(service, title.id, "", "disk")
            self.pauses[name] = now() + REFUSED_S
        except OSError as error:
            logger.error("%s %s: the disk: %s", service, title.id, error)
            status.failed(service, title.id, "", "disk")
            self.pauses[name] = now() + DISK_PAUSE_S
            if error.errno in BROKEN_DISK + FULL_DISK:
                self.disk_pause_until = now() + DISK_PAUSE_S
            if error.errno in BROKEN_DISK:
                self.appliance.disk_fault = str(error)
        else:
            self.pauses.pop(name, None)
            self.retries.pop(name, None)
            self.sources.forget(*name)
            self.appliance.disk_fault = ""
            status.done.append(name)
            logger.info("%s %s: held", service, title.id)
            self.appliance.report_now.set()
        finally:
            with contextlib.suppress(OSError):
                self.appliance.store.write_top(BUDGET_FILE, self.budget.packed())

    async def fetch(self, service: str, title: Title, lease: Lease) -> None:
        """Fetch a title's missing parts, check the whole and show it."""
        appliance, key = self.appliance, (service, title.recipe)
        if not is_title_name(title.id):
            raise RecipeError(f"title {title.id[:80]!r}: no name for a folder")
        recipe = await self.recipe(key)
        if recipe.bytes != title.bytes:
            raise RecipeError(f"recipe {title.recipe}: {recipe.bytes} bytes, the manifest says {title.bytes}")
        parts = await asyncio.to_thread(missing_parts, appliance.store, key, recipe)
        active = appliance.fill.active[service, title.id]
        active.bytes_done = recipe.bytes - sum(part.length for part in parts)
        for part in parts:
            if not self.may_fetch(title, part.length):
                raise StopFill
            lease = await self.valid(service, title, lease)
            self.reserved += part.length
            try:
                await self.fetch_part(service, title, part, lease)
            finally:
                self.reserved -= part.length
            active.bytes_done += part.length
        target = appliance.target(service, title.id)
        if target is None or target.recipe != title.recipe:
            raise StopFill  # the manifest wants something else by now; what was fetched is removed or used
        served = appliance.settings.served_as(service)
        await asyncio.to_thread(show, appliance.store, key, recipe, served, title.id)
        await check_served(self.http, appliance.settings.status_listen, f"{served}/{title.id}", recipe)
        appliance.holdings.add(service, title.id, title.recipe)

    async def recipe(self, key: Key) -> Recipe:
        """Return a recipe from the disk, or from control; it is kept for later checks."""
        if recipe := stored_recipe(self.appliance.store, key):
            return recipe
        document = await self.appliance.control.recipe(*key)
        recipe = await asyncio.to_thread(read_recipe, document, key[1])
        await asyncio.to_thread(self.appliance.store.write, "recipes", key, document)
        return recipe

    async def valid(self, service: str, title: Title, lease: Lease) -> Lease:
        """Return the lease, or a new one if it is about to end."""
        if self.appliance.monotonic() < lease.ends_at:
            return lease
        try:
            leases = await self.ask(service, [title.id], 1)
        except FeedError as error:
            logger.warning("%s", error)
            leases = {}
        if title.id not in leases:
            waits_until = self.pauses.get((service, title.id), 0.0)
            raise StopFill(max(waits_until - self.appliance.monotonic(), self.appliance.settings.retry_s))
        return leases[title.id]

    async def fetch_part(self, service: str, title: Title, part: Part, lease: Lease) -> None:
        """Fetch one part from the first source that has it. Raises StopFill when all of them failed."""
        sources, now = lease.row.sources, self.appliance.monotonic
        last: Source | None = None
        while usable := self.sources.usable(service, title.id, sources, now()):
            others = [source for source in usable if source is not last]  # after wrong bytes another one is asked first
            source = (others or usable)[0]
            try:
                await self.fetch_from(source, service, title, part, lease)
            except FetchError as error:
                logger.warning("%s %s from %s: %s: %s", service, title.id, source.name, error.why, error)
                last = source
                self.count_failure(service, title, source, error.why)
            else:
                return
        name = (service, title.id)
        self.retries[name] = retry = self.retries.get(name, 0) + 1
        pause_s = min(self.appliance.settings.retry_s * 2 ** min(retry - 1, 10), MAX_RETRY_S)
        raise StopFill(pause_s * random.uniform(1.0, 1.1))  # noqa: S311 (nothing secret)

    def count_failure(self, service: str, title: Title, source: Source, why: Why) -> None:
        if self.sources.failed(service, title.id, source, why, self.appliance.monotonic()):
            self.appliance.fill.failed(service, title.id, source.name, why)

    async def fetch_from(self, source: Source, service: str, title: Title, part: Part, lease: Lease) -> None:
        active = self.appliance.fill.active[service, title.id]
        active.source = source.name

        async def pace(amount: int) -> None:
            if source.tier != "peer":  # a byte of the own cluster does not cross the uplink
                self.budget.add(amount)
            now = self.appliance.monotonic()
            await asyncio.sleep(max(self.bucket.take(amount, now), lease.bucket.take(amount, now)))

        url = lease.url_of(source, service, title, part.file.path)
        rate = min(self.bucket.rate, lease.bucket.rate) / self.appliance.settings.parallel
        descriptor = self.appliance.store.open_file("filling", (service, title.recipe), part.file.path, write=True)
        with PartFile(descriptor, part) as file:
            await self.fetcher.fetch(url, file, rate, pace)
