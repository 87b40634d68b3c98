"""Shared by the benches: seeded addresses inside the real prefixes, timing, and the rows of bench.json."""

from __future__ import annotations

import ipaddress
import random
import time
from collections.abc import Callable, Iterable
from typing import Any

import geo_data
from steering.control.feed_files import read_text

COUNT = 200_000  # addresses of a family; each call uses another one
SEED = 20260617


class Table:
    """The shipped prefixes, and random addresses inside them."""

    def __init__(self) -> None:
        lines = read_text(geo_data.ASN_PREFIXES)[0].decode().splitlines()
        self.rows = [tuple(line.split()) for line in lines]
        rnd = random.Random(SEED)
        self.addresses: dict[int, list[str]] = {}
        for family in (4, 6):
            prefixes = [prefix for prefix, _ in self.rows if (":" in prefix) == (family == 6)]
            chosen = (ipaddress.ip_network(prefix) for prefix in rnd.choices(prefixes, k=COUNT))
            self.addresses[family] = [str(network[rnd.randrange(network.num_addresses)]) for network in chosen]

    def packed(self, family: int) -> bytes:
        """Return the addresses as one buffer in network order."""
        return b"".join(ipaddress.ip_address(address).packed for address in self.addresses[family])


class Report:
    """The rows measured in this run, in order; `keep` is called with each as it is measured."""

    def __init__(self, keep: Callable[[dict[str, Any]], None]) -> None:
        self.rows: list[dict[str, Any]] = []
        self.keep = keep

    def add(
        self,
        name: str,
        value: float | None,
        unit: str,
        peer: str | None = None,
        peer_value: float | None = None,
        why: str = "",
    ) -> None:
        """Add a figure; ratio = value / peer_value, lower is better; a rate has none. A value of None needs a `why`."""
        ratio = value / peer_value if value is not None and peer_value and not unit.endswith("/s") else None
        row = {
            "name": name,
            "value": rounded(value),
            "unit": unit,
            "peer": peer,
            "peer_value": rounded(peer_value),
            "ratio": rounded(ratio),
        }
        self.rows.append(row | {"why": why} if why else row)
        self.keep(self.rows[-1])

    def merged(self, before: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the rows of bench.json: the earlier ones, replaced where this run has the same name and peer, then new ones."""
        ours = {(row["name"], row["peer"]): row for row in self.rows}
        kept = [ours.pop((row["name"], row["peer"]), row) for row in before]
        return [*kept, *ours.values()]


def rounded(value: float | None) -> float | None:
    """Return a figure rounded to four significant digits."""
    return None if value is None else float(f"{value:.4g}")


def median_ns(function: Any, items: list[Any], rounds: int = 7) -> float:
    """Return the median over rounds of the nanoseconds of a call, each call with another item."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter_ns()
        for item in items:
            function(item)
        times.append((time.perf_counter_ns() - start) / len(items))
    return sorted(times)[rounds // 2]
