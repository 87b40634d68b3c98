"""A fleet that reports: `python -m tests.bench.reporters URL TOKENS RATE`, until its standard input ends.

TOKENS has one line `appliance token` for each appliance. Each request carries one report; the total rate is fixed, over
64 connections, one appliance after another. At the end one line of JSON has the number of reports sent, of reports not
accepted, of reports left out because their connection still waited for an answer, and the time that answers took.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import uvloop

from tests.bench.load import CONNECTIONS, percentile
from tests.bench.measure import SEED

ROUTES = {family: {"count": 12, "digest": f"{12 + int(family):016x}"} for family in "46"}


class Reporter(asyncio.Protocol):
    """One connection: sends a report on request and times the answer."""

    def __init__(self, requests: Iterator[bytes]) -> None:
        self.requests = requests
        self.sent = 0
        self.failed = 0
        self.left_out = 0
        self.took_us: list[int] = []
        self.answer = b""
        self.began_at = math.inf

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.loop = asyncio.get_running_loop()

    def send(self) -> None:
        """Send the next report if the last one is answered."""
        if self.began_at != math.inf:
            self.left_out += 1
            return
        self.began_at = self.loop.time()
        self.sent += 1
        self.transport.write(next(self.requests))

    def data_received(self, data: bytes) -> None:
        """Collect an answer; the closing brace of its JSON ends it."""
        self.answer += data
        if not self.answer.endswith(b"}"):
            return
        self.took_us.append(round((self.loop.time() - self.began_at) * 1e6))
        self.began_at = math.inf
        self.failed += not (self.answer.startswith(b"HTTP/1.1 200") and b'"accepted"' in self.answer)
        self.answer = b""

    def connection_lost(self, _: Exception | None) -> None:
        self.failed += self.began_at != math.inf


def requests_of(host: str, appliances: list[tuple[str, str]], rnd: random.Random) -> Iterator[bytes]:
    """Yield reports of some appliances without end."""
    for seq in itertools.count(1):
        for name, token in appliances:
            health = {
                "components": {"disk": "ok", "network": "ok", "cache": "ok"},
                "throughput_gbps": round(rnd.uniform(30, 50), 2),
                "headroom_gbps": round(rnd.uniform(50, 70), 2),
                "connections": rnd.randrange(10_000),
                "error_rate": 0.0001,
                "disk_used": 0.93,
            }
            row = {"appliance": name, "boot": "bench", "seq": seq, "at": 1.7e9, "health": health, "routes": ROUTES}
            body = json.dumps(row).encode()
            yield (
                b"POST /v1/reports HTTP/1.1\r\nHost: %b\r\nAuthorization: Bearer %b\r\n"
                b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            ) % (host.encode(), token.encode(), len(body), body)


async def report(url: str, appliances: list[tuple[str, str]], rate: float) -> None:
    """Report until the standard input ends, then print the totals."""
    loop = asyncio.get_running_loop()
    host, port = urlsplit(url).hostname, urlsplit(url).port
    rnd = random.Random(SEED)
    connections = []
    for number in range(CONNECTIONS):
        requests = requests_of(f"{host}:{port}", appliances[number::CONNECTIONS], rnd)
        connections.append((await loop.create_connection(lambda r=requests: Reporter(r), host, port))[1])  # type: ignore[misc]
    ending = loop.run_in_executor(None, sys.stdin.read)
    due = loop.time()
    for connection in itertools.cycle(connections):
        if ending.done():
            break
        connection.send()
        due += 1 / rate
        if (ahead := due - loop.time()) > 0:
            await asyncio.sleep(ahead)
    await asyncio.sleep(1)
    took = sorted(itertools.chain.from_iterable(connection.took_us for connection in connections))
    totals = {
        "sent": sum(connection.sent for connection in connections),
        "failed": sum(connection.failed for connection in connections),
        "left_out": sum(connection.left_out for connection in connections),
        "p50_us": percentile(took, 50),
        "p99_us": percentile(took, 99),
    }
    print(json.dumps(totals))


if __name__ == "__main__":
    rows = [(name, token) for name, token in map(str.split, Path(sys.argv[2]).read_text().splitlines())]
    uvloop.run(report(sys.argv[1], rows, float(sys.argv[3])))
