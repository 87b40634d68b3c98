"""Hashing again what is held: every copy once in a while at idle I/O priority, and at once those that others doubt.

A bad copy leaves the holdings first. Once control has accepted the report, or after a short wait, its bad files are
taken away from nginx: then a player of an old URL gets 404 and goes to another appliance, instead of wrong bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from steering.appliance.appliance import Appliance
from steering.appliance.manifest import Manifest
from steering.appliance.prepare import is_good
from steering.appliance.receipts import read_receipt, stored_recipe, write_receipt
from steering.appliance.recipe import Recipe
from steering.appliance.store import Key

TICK_S: Final = 60.0
CHECK_TICK_S: Final = 0.5
DAY_S: Final = 86_400.0
CONFIRM_S: Final = 10.0  # a bad copy is taken from nginx even if control does not answer
IOPRIO_SET: Final = {"x86_64": 251, "aarch64": 30, "riscv64": 30}  # the number of the system call
IDLE_CLASS: Final = 3 << 13  # ioprio_set(2)
THIS_THREAD: Final = (1, 0)

logger = logging.getLogger("steering.appliance.scrub")


def be_idle() -> None:
    """Give the calling thread idle I/O priority, where this machine's system call is known."""
    number = IOPRIO_SET.get(platform.machine())
    if number is not None:
        ctypes.CDLL(None).syscall(number, *THIS_THREAD, IDLE_CLASS)


class Scrub:
    """The checks, one copy at a time in a thread of its own."""

    def __init__(self, appliance: Appliance) -> None:
        self.appliance = appliance
        self.idle = ThreadPoolExecutor(1, "scrub", initializer=be_idle)
        self.checked: Manifest | None = None
        self.due_at = 0.0
        self.checked_at: dict[Key, float] = {}  # by recipe, the time of its receipt

    async def run(self) -> None:
        try:
            while True:
                await self.step()
                await asyncio.sleep(CHECK_TICK_S)
        finally:
            self.idle.shutdown(wait=False, cancel_futures=True)

    async def step(self) -> None:
        await self.check_doubtful()
        manifest = self.appliance.manifest
        if manifest is not None and manifest is not self.checked:
            self.checked = manifest
            for copy in manifest.document.check:
                if recipe := self.appliance.holdings.recipe(copy.service, copy.id):
                    await self.check((copy.service, recipe), None)
        if self.appliance.monotonic() >= self.due_at:
            await self.check_oldest()
            self.due_at = self.appliance.monotonic() + TICK_S

    async def check_doubtful(self) -> None:
        """Check the titles that had no good receipt at the start: nginx serves them, whether or not they are good."""
        while self.appliance.doubtful:
            held = self.appliance.doubtful.pop()
            if await self.check((held.service, held.recipe), None) and self.appliance.is_wanted(held):
                self.appliance.holdings.add(*held)
                self.appliance.report_now.set()

    async def check_oldest(self) -> None:
        """Check every copy whose receipt is older than `scrub_days`."""
        oldest = time.time() - self.appliance.settings.scrub_days * DAY_S
        keys = {(service, recipe) for service, _, recipe in self.appliance.holdings}
        self.checked_at = {key: at for key, at in self.checked_at.items() if key in keys}
        for key in sorted(keys):
            if key not in self.checked_at:
                receipt = await asyncio.to_thread(read_receipt, self.appliance.store, key)
                self.checked_at[key] = receipt.checked_at if receipt else 0.0
            if self.checked_at[key] < oldest and await self.check(key, self.idle):
                self.checked_at[key] = time.time()

    async def check(self, key: Key, pool: ThreadPoolExecutor | None) -> bool:
        """Hash a recipe's files: a new receipt and True for a good copy, the two steps above for a bad one."""
        store, busy = self.appliance.store, self.appliance.busy
        recipe = stored_recipe(store, key)
        if key in busy:
            return False
        busy.add(key)
        try:
            bad = None
            if recipe is not None:
                bad = await asyncio.get_running_loop().run_in_executor(pool, bad_files, self.appliance, key, recipe)
                if not bad:
                    with contextlib.suppress(OSError):
                        await asyncio.to_thread(write_receipt, store, key, recipe)
                        return True
            await self.take_out(key, bad or [])
            return False
        finally:
            busy.discard(key)
            self.appliance.fill_now.set()

    async def take_out(self, key: Key, bad: list[str]) -> None:
        """Take a bad copy out of the holdings, then its bad files away from nginx."""
        appliance, service = self.appliance, key[0]
        logger.error("%s %s: %d damaged files: %s", *key, len(bad), bad[:3])
        appliance.store.unlink("receipts", *key)
        titles = [title for held, title, recipe in appliance.holdings if (held, recipe) == key]
        for title in titles:
            appliance.holdings.drop(service, title)
            appliance.fill.failed(service, title, appliance.settings.id, "wrong_bytes")
        appliance.report_now.set()
        until = appliance.monotonic() + CONFIRM_S
        while appliance.monotonic() < until and not all(
            appliance.holdings.is_confirmed_gone(service, title) for title in titles
        ):
            await asyncio.sleep(0.05)
        for path in bad:
            with contextlib.suppress(FileNotFoundError):
                await asyncio.to_thread(appliance.store.move_file, key, path, "fill", "filling")


def bad_files(appliance: Appliance, key: Key, recipe: Recipe) -> list[str]:
    """Return the paths whose bytes are not the recipe's."""
    return [file.path for file in recipe.files if not is_good(appliance.store, key, recipe, file)]
