"""Removing in two phases, so that no player meets a 404: out of the reports first, off the disk much later.

    not wanted -> out of holdings -> a report without it was accepted -> `remove_after_s` and jitter -> unlinked

A title that is wanted again in the meantime is reported again. Nothing is deleted early to make room. The same wait
holds for the recipe before a re-encode. After a restart the wait begins anew: there is no record but the disk.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Final

from steering.appliance.appliance import Appliance, wait
from steering.appliance.manifest import Manifest
from steering.appliance.receipts import read_receipt
from steering.appliance.store import Held, Key, Store

JITTER: Final = 0.1
MAX_SWEEP_S: Final = 60.0
MIN_SWEEP_S: Final = 0.2

logger = logging.getLogger("steering.appliance.removal")


class Removal:
    """The titles and recipes that wait to be deleted, each with its time; None until control accepted the report."""

    def __init__(self, appliance: Appliance) -> None:
        self.appliance = appliance
        self.titles: dict[tuple[str, str], float | None] = {}
        self.recipe_of: dict[tuple[str, str], str] = {}
        self.recipes: dict[Key, float] = {}
        self.reconciled: Manifest | None = None

    async def run(self) -> None:
        while True:
            await self.sweep()
            await wait(self.appliance.removal_now, self.pause_s())

    def pause_s(self) -> float:
        manifest = self.appliance.manifest
        wait_s = manifest.document.remove_after_s / 10 if manifest else MAX_SWEEP_S
        return min(max(wait_s, MIN_SWEEP_S), MAX_SWEEP_S)

    async def sweep(self) -> None:
        """Compare the disk with the manifest, and delete what has waited long enough."""
        manifest = self.appliance.manifest
        if manifest is None:
            return
        if manifest is not self.reconciled:
            await self.reconcile(manifest)
        await self.delete_titles()
        await self.delete_recipes(manifest)

    def due_at(self) -> float:
        manifest = self.appliance.manifest
        assert manifest, "unreachable: nothing waits without a manifest"
        wait_s = manifest.document.remove_after_s * random.uniform(1.0, 1.0 + JITTER)  # noqa: S311 (nothing secret)
        return self.appliance.monotonic() + wait_s

    async def reconcile(self, manifest: Manifest) -> None:
        """Take out of the holdings what a new manifest does not want, and back in what it wants again."""
        holdings, store = self.appliance.holdings, self.appliance.store
        holdings.manage(manifest.targets)
        for held in await asyncio.to_thread(lambda: list(store.links())):
            name = (held.service, held.title)
            if held.service not in manifest.targets:
                continue
            if held.title not in manifest.targets[held.service]:
                holdings.drop(*name)
                self.titles.setdefault(name, None)
                self.recipe_of[name] = held.recipe
            elif name in self.titles:
                del self.titles[name]
                if await asyncio.to_thread(read_receipt, store, (held.service, held.recipe)):
                    holdings.add(*held)
        self.reconciled = manifest
        self.appliance.report_now.set()
        self.appliance.fill_now.set()

    async def delete_titles(self) -> None:
        for name, due_at in list(self.titles.items()):
            if due_at is None:
                if self.appliance.holdings.is_confirmed_gone(*name):
                    self.titles[name] = self.due_at()
            elif self.appliance.monotonic() >= due_at and name not in self.appliance.fill.active:
                service, title = name
                served = self.appliance.settings.served_as(service)
                await asyncio.to_thread(self.appliance.store.unlink, "served", served, title)
                del self.titles[name]
                self.recipes.setdefault((service, self.recipe_of.pop(name)), due_at)  # it has waited already
                logger.info("%s %s: removed", service, title)

    async def delete_recipes(self, manifest: Manifest) -> None:
        """Delete recipes that no title uses; at once what was never shown, the others after the wait."""
        store, busy = self.appliance.store, self.appliance.busy
        for area in ("filling", "fill"):
            keys, links = await asyncio.to_thread(recipes_and_links, store, area)
            linked = {(held.service, held.recipe) for held in links}
            wanted = self.wanted()
            for key in keys:
                if key[0] not in manifest.targets or key in busy or key in wanted or key in linked:
                    self.recipes.pop(key, None)
                elif area == "filling" or self.appliance.monotonic() >= self.recipes.setdefault(key, self.due_at()):
                    await self.discard(area, key)
                    wanted = self.wanted()  # a manifest may have come meanwhile

    def wanted(self) -> set[Key]:
        return {(service, title.recipe) for service, title in self.appliance.targets()}

    async def discard(self, area: str, key: Key) -> None:
        """Delete a recipe's folder; until it is gone, the recipe is not filled."""
        self.appliance.busy.add(key)
        try:
            await asyncio.to_thread(self.appliance.store.discard, area, key)
        finally:
            self.appliance.busy.discard(key)
        if area == "fill":
            del self.recipes[key]
            logger.info("%s %s: deleted", *key)


def recipes_and_links(store: Store, area: str) -> tuple[list[Key], list[Held]]:
    """Return the recipes of an area, and then the links: a recipe that is shown in between has its link."""
    return list(store.recipes(area)), list(store.links())
