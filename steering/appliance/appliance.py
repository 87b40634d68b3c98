"""What the loops of the agent share: the folder, the holdings, the manifest in force, and what the next report says."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from steering.appliance.control_client import ControlClient
from steering.appliance.holdings import Holdings
from steering.appliance.leases import Why
from steering.appliance.manifest import Base, Manifest, ServerClock, Title
from steering.appliance.receipts import read_receipt
from steering.appliance.settings import ApplianceSettings
from steering.appliance.store import Held, Key, Store

MOST_FAILURES: Final = 1000  # in one report; older ones are dropped


class Active:
    """A title that is being fetched."""

    def __init__(self, bytes_done: int = 0, source: str = "") -> None:
        self.bytes_done = bytes_done
        self.source = source


class FillStatus:
    """The part `fill` of reports: what is being fetched, and what was done or failed since the last accepted report."""

    def __init__(self) -> None:
        self.state = "no_manifest"
        self.active: dict[tuple[str, str], Active] = {}
        self.done: list[tuple[str, str]] = []
        self.failures: deque[dict[str, str]] = deque(maxlen=MOST_FAILURES)
        self.no_room: list[tuple[str, str]] = []
        self.bytes_left = 0
        self.window_bytes = 0

    def failed(self, service: str, title: str, source: str, why: Why) -> None:
        row = {"service": service, "id": title, "source": source, "why": why}
        if row not in self.failures:
            self.failures.append(row)

    def rows(self, manifest: Manifest | None) -> dict[str, Any]:
        """Return the member `fill` of a report."""
        return {
            "plan": manifest.document.plan if manifest else 0,
            "etag": manifest.etag if manifest else "",
            "bytes_left": self.bytes_left,
            "active": [
                {"service": service, "id": title, "bytes_done": active.bytes_done, "source": active.source}
                for (service, title), active in self.active.items()
            ],
            "done": [{"service": service, "id": title} for service, title in self.done],
            "failed": list(self.failures),
            "window_bytes": self.window_bytes,
            "no_room": [{"service": service, "id": title} for service, title in self.no_room],
            "state": self.state,
        }

    def accepted(self, rows: Mapping[str, Any]) -> None:
        """Drop what an accepted report said."""
        done = {(row["service"], row["id"]) for row in rows["done"]}
        self.done = [entry for entry in self.done if entry not in done]
        for row in rows["failed"]:
            with contextlib.suppress(ValueError):
                self.failures.remove(row)


class Appliance:
    """The state that the loops share. All its members are used on the event loop's thread."""

    def __init__(
        self,
        settings: ApplianceSettings,
        store: Store,
        control: ControlClient,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.store = store
        self.control = control
        self.monotonic = monotonic
        self.holdings = Holdings(settings.demand_services)
        self.fill = FillStatus()
        self.manifest: Manifest | None = None
        self.busy: set[Key] = set()  # recipes whose files are being written or taken out
        self.doubtful: list[Held] = []  # titles on the disk without a good receipt
        self.disk_fault = ""  # the last I/O error, "" after a write that worked
        self.report_now = asyncio.Event()
        self.fill_now = asyncio.Event()
        self.removal_now = asyncio.Event()

    @property
    def clock(self) -> ServerClock:
        return self.control.clock

    def server_time(self) -> float | None:
        return self.clock.time(self.monotonic())

    def targets(self) -> Iterable[tuple[str, Title]]:
        """Yield every title that should be held."""
        for service, titles in self.manifest.targets.items() if self.manifest else ():
            for title in titles.values():
                yield service, title

    def target(self, service: str, title: str) -> Title | None:
        return self.manifest.targets.get(service, {}).get(title) if self.manifest else None

    def base(self) -> Base:
        """Return what is held of the services that control manages, for a delta."""
        if self.manifest is None:
            return {}
        return {
            service: {
                title: titles.get(title) or Title(title, 0, recipe)
                for title, recipe in self.holdings.held.get(service, {}).items()
            }
            for service, titles in self.manifest.targets.items()
        }

    def scan(self) -> None:
        """Take over what lies on the disk with a good receipt; once, at the start."""
        for held in self.store.links():
            if read_receipt(self.store, (held.service, held.recipe)):
                self.holdings.add(*held)
            else:
                self.doubtful.append(held)

    def is_wanted(self, held: Held) -> bool:
        """Return whether a title may be held: the manifest wants it, or is not there yet, or does not manage it."""
        targets = self.manifest.targets if self.manifest else {}
        return held.service not in targets or held.title in targets[held.service]


async def wait(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, or for so many seconds; clear it."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    event.clear()
