"""What the appliance measures of itself, and the report that says it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final

import httpx

from steering.appliance.appliance import Appliance
from steering.appliance.manifest import GIGABIT
from steering.appliance.store import CANARY

CANARY_BYTES: Final = b"steering appliance canary\n" * 40
ACTIVE: Final = re.compile(r"Active connections: ([0-9]{1,12})")
PROBE_S: Final = 2.0
NETWORK: Final = Path("/proc/net")
DEFAULT_IPV4: Final = re.compile(
    r"^(?!lo\t)\S+\t00000000\t[0-9A-F]{8}\t[0-9A-F]{4}(\t\d+){3}\t00000000\t", re.MULTILINE
)
DEFAULT_IPV6: Final = re.compile(r"^0{32} 00 .* (?!lo$)\S+$", re.MULTILINE)


def sent_bytes(text: str, interfaces: Collection[str]) -> int:
    """Return the bytes sent by interfaces, or by all but loopback, in a text of /proc/net/dev."""
    rows = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    sent = {name.strip(): int(figures.split()[8]) for name, figures in rows}
    return sum(count for name, count in sent.items() if (name in interfaces if interfaces else name != "lo"))


class Meter:
    """The throughput between two readings."""

    def __init__(self, interfaces: Collection[str], read: Callable[[], str] | None = None) -> None:
        self.interfaces = interfaces
        self.read = read or (NETWORK / "dev").read_text
        self.last: tuple[float, int] | None = None

    def gbps(self, now: float) -> float | None:
        """Return the mean since the last reading; None for the first, or where a counter began anew."""
        count, last = sent_bytes(self.read(), self.interfaces), self.last
        self.last = (now, count)
        if last is None or now <= last[0] or count < last[1]:
            return None
        return (count - last[1]) / (now - last[0]) / GIGABIT


def has_default_route(family: int, network: Path = NETWORK) -> bool:
    """Return whether there is a default route of a family, on another interface than loopback."""
    try:
        if family == 4:
            return DEFAULT_IPV4.search((network / "route").read_text()) is not None
        return DEFAULT_IPV6.search((network / "ipv6_route").read_text()) is not None
    except OSError:
        return False


class Reporter:
    """Measures and reports every `report_s`, and at once when `report_now` is set."""

    def __init__(self, appliance: Appliance) -> None:
        self.appliance = appliance
        self.meter = Meter(appliance.settings.interfaces)
        self.http = httpx.AsyncClient(timeout=PROBE_S, trust_env=False)
        self.boot = f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}-{os.getpid()}-{os.urandom(4).hex()}"
        self.seq = 0

    async def close(self) -> None:
        await self.http.aclose()

    async def get(self, path: str) -> bytes | None:
        """Return what our own nginx answers, None if it does not answer 200 with a short body."""
        url = f"http://{self.appliance.settings.status_listen}{path}"
        with contextlib.suppress(httpx.HTTPError):
            answer = await self.http.get(url)
            if answer.status_code == httpx.codes.OK:
                return answer.content
        return None

    async def health(self) -> dict[str, Any]:
        """Return the member `health` of a report."""
        settings, store = self.appliance.settings, self.appliance.store
        canary, status = await asyncio.gather(self.get(f"/{CANARY}"), self.get("/status"))
        active = ACTIVE.search(status.decode("ascii", "replace")) if status else None
        components = {
            "nginx": "ok" if active else "failed",
            "canary": "ok" if canary == CANARY_BYTES else "failed",
            "disk": "degraded" if self.appliance.disk_fault else "ok",
        }
        health: dict[str, Any] = {
            "components": components,
            "ipv4": settings.ipv4 == "yes" or (settings.ipv4 == "auto" and has_default_route(4)),
            "ipv6": settings.ipv6 == "yes" or (settings.ipv6 == "auto" and has_default_route(6)),
        }
        if active:
            health["connections"] = int(active[1])
        try:
            health["disk_used"] = min(max(store.disk_used(), 0.0), 1.0)
        except OSError:
            components["disk"] = "failed"
        with contextlib.suppress(OSError):
            if (gbps := self.meter.gbps(self.appliance.monotonic())) is not None:
                health["throughput_gbps"] = round(gbps, 6)
                health["headroom_gbps"] = round(max(settings.capacity_gbps - gbps, 0.0), 6)
        return health

    async def report(self) -> dict[str, Any]:
        """Send one report, and take over what control's answer says about holdings and progress."""
        appliance = self.appliance
        health = await self.health()
        rows, fill = appliance.holdings.rows(appliance.monotonic()), appliance.fill.rows(appliance.manifest)
        self.seq += 1
        document = {
            "appliance": appliance.settings.id,
            "boot": self.boot,
            "seq": self.seq,
            "at": time.time(),
            "health": health,
            "fill": fill,
        }
        if rows:
            document["holdings"] = rows
        answer = await appliance.control.report(document)
        if answer.get("result") == "accepted":
            appliance.fill.accepted(fill)
            if not answer.get("error"):
                resync = [service for service in answer.get("resync", ()) if isinstance(service, str)]
                appliance.holdings.accepted(rows, resync, appliance.monotonic())
                if resync:
                    appliance.report_now.set()
        return answer
