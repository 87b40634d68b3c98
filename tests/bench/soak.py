"""Millions of requests with a reload every ten seconds: no request fails and no worker grows. `make soak`."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.bench import load, servers
from tests.bench.measure import Table
from tests.bench.servers import Steering

MOST_GROWTH = 0.05
CHUNK_S = 10
WARM_CHUNKS = 3  # after so many reloads the allocators keep enough memory for the next one


def soak(steering: Steering, requests: Path, count: int, chunk_s: int, echo: Callable[[str], None]) -> float:
    """Send at least `count` requests with a reload in each chunk; return the largest growth of a worker.

    Growth is of RSS, from the end of the warm-up, which is not counted, to the end of the last chunk.
    AssertionError if a request failed or a worker ended.
    """
    workers = steering.workers()
    before: dict[int, int] = {}
    asked = chunks = 0
    growth = 0.0
    while asked < count:
        with ThreadPoolExecutor(1) as thread:
            reloaded = thread.submit(steering.reload)
            run = load.run_wrk(steering.url, requests, chunk_s)
            reloaded.result()
        assert run.failed == 0, f"{run.failed} requests failed"
        assert steering.workers() == workers, "a worker ended"
        chunks += 1
        rss = {pid: least_rss(pid) for pid in workers}
        if chunks <= WARM_CHUNKS:
            before = rss
            echo(f"warm-up: {run.requests:,} requests; {sizes_of(steering)}")
            continue
        asked += run.requests
        growth = max(rss[pid] / before[pid] - 1 for pid in workers)
        echo(f"{asked:,} of {count:,} requests, reload {chunks - WARM_CHUNKS}, RSS {growth:+.1%}; {sizes_of(steering)}")
    return growth


def least_rss(pid: int) -> int:
    """Return the least memory of a worker within a second: for a moment it has the files of two publishes mapped."""
    sizes = []
    for _ in range(10):
        sizes.append(servers.memory_of(pid)["Rss"])
        time.sleep(0.1)
    return min(sizes)


def sizes_of(steering: Steering) -> str:
    """Return the memory of workers and control as text."""
    words = []
    for name, pids in {"worker": steering.workers(), "control": [steering.control()]}.items():
        for pid in pids:
            size = servers.memory_of(pid)
            words.append(f"{name} {size['Rss'] / 1e6:.1f} MB ({size['Private'] / 1e6:.1f} private)")
    return ", ".join(words)


def test_soak(request: pytest.FixtureRequest, published: Path, table: Table, tmp_path: Path) -> None:
    if why := load.missing("wrk"):
        pytest.skip(why)
    capture: Any = request.config.pluginmanager.getplugin("capturemanager")

    def echo(line: str) -> None:
        with capture.global_and_fixture_disabled():
            print(line, file=sys.stderr, flush=True)

    state = shutil.copytree(published, tmp_path / "state")
    requests = load.write_requests(tmp_path / "requests", table.addresses[4][:80_000], table.addresses[6][:20_000])
    with servers.serve_steering(state, os.sched_getaffinity(0), workers=2) as steering:
        growth = soak(steering, requests, request.config.getoption("--requests"), CHUNK_S, echo)
    assert growth <= MOST_GROWTH
