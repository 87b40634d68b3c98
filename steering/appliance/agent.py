"""The agent: five loops over one state. What each may do is in its own module; a loop that fails ends the process.

report     every report_s         what the appliance is, holds and fetches
manifest   every fill_s           what it should hold
fill, removal, scrub              make the disk so
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import signal
from typing import Any, Final

from steering.appliance.appliance import Appliance, wait
from steering.appliance.control_client import NOT_MODIFIED, PAUSE_S, ControlClient, ControlError
from steering.appliance.fill import Filler
from steering.appliance.manifest import read_manifest
from steering.appliance.removal import Removal
from steering.appliance.report import CANARY_BYTES, Reporter
from steering.appliance.scrub import Scrub
from steering.appliance.settings import ApplianceSettings, read_token
from steering.appliance.store import CANARY, Store
from steering.errors import FeedError, SettingsError

JITTER: Final = 0.1

logger = logging.getLogger("steering.appliance")


async def poll(appliance: Appliance) -> float:
    """Ask for the fill manifest; return for how long to wait. A manifest that breaks a rule changes nothing."""
    base = appliance.base()
    held = appliance.manifest
    have = {service: appliance.holdings.digest(service) for service in base}
    try:
        answer = await appliance.control.manifest(held.etag if held else "", have)
        if answer.status != NOT_MODIFIED:
            etag = answer.headers.get("ETag", "")
            appliance.manifest = await asyncio.to_thread(read_manifest, answer.body, etag, appliance.settings.id, base)
            appliance.holdings.manage(appliance.manifest.targets)
            appliance.removal_now.set()
            appliance.fill_now.set()
    except ControlError as error:
        logger.warning("%s", error)
        return error.pause_s
    except FeedError as error:
        logger.warning("%s", error)
        return PAUSE_S
    manifest = appliance.manifest
    return manifest.document.fill_s if manifest else PAUSE_S


async def poll_always(appliance: Appliance) -> None:
    while True:
        pause_s = await poll(appliance)
        await asyncio.sleep(pause_s * random.uniform(1.0, 1.0 + JITTER))  # noqa: S311 (nothing secret)


async def report_always(appliance: Appliance) -> None:
    reporter = Reporter(appliance)
    try:
        while True:
            pause_s = appliance.settings.report_s
            try:
                answer = await reporter.report()
                if answer.get("result") != "accepted" or answer.get("error"):
                    logger.warning("control: report %s: %.300s", answer.get("result"), answer.get("error", ""))
            except ControlError as error:
                logger.warning("%s", error)
                pause_s = max(pause_s, min(error.pause_s, PAUSE_S) if error.status else pause_s)
            await wait(appliance.report_now, pause_s)
    finally:
        await reporter.close()


def open_store(settings: ApplianceSettings) -> Store:
    """Return the folder, with the canary in it. Raises SettingsError if it cannot be used."""
    try:
        store = Store(settings.folder, settings.disk_bytes)
        store.write_top(CANARY, CANARY_BYTES)
        store.empty_removing()
    except OSError as error:
        raise SettingsError(f"folder {settings.folder}: {error.strerror or error}") from None
    return store


async def run(settings: ApplianceSettings) -> None:
    """Run until SIGTERM or SIGINT. Raises SettingsError if token or folder cannot be used."""
    token, store = read_token(settings.token_file), open_store(settings)
    control = ControlClient(settings, token)
    appliance = Appliance(settings, store, control)
    await asyncio.to_thread(appliance.scan)
    # Control takes an appliance without a list for one that has everything: players would get 404 before a first fill.
    appliance.holdings.manage(settings.filled_services())
    logger.info("%d titles are held", sum(map(len, appliance.holdings.held.values())))
    loops: list[Any] = [
        report_always(appliance),
        poll_always(appliance),
        Filler(appliance).run(),
        Removal(appliance).run(),
        Scrub(appliance).run(),
    ]
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(loop) for loop in loops]
            await stop.wait()
            for task in tasks:
                task.cancel()
    finally:
        with contextlib.suppress(ControlError):
            await control.close()
        store.close()
