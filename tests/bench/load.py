"""The clients: `wrk` sends its next request when it has an answer, `h2load` sends at a fixed rate."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import random
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from steering.decision.snapshot import Snapshot
from tests.bench.measure import SEED, Report

SCRIPT = Path(__file__).parent / "steer.lua"
PLAYBACK_SCRIPT = Path(__file__).parent / "playback.lua"
BODIES = 1000
CONNECTIONS = 64
TITLES = 1000
WARM_S = 2
# h2load's timers have steps of 10 ms. At 40 a second a connection waits 25 ms, so that a stall hides few requests.
MOST_PER_CONNECTION = 40


@dataclasses.dataclass(frozen=True, slots=True)
class Load:
    """The outcome of a run of wrk; `bytes` counts heads and bodies that the server sent."""

    requests: int
    seconds: float
    bytes: int
    failed: int
    p99_us: int


def find(tool: str) -> str | None:
    """Return the path of a tool: on PATH, or in /usr/sbin, which is on the PATH of root alone."""
    return shutil.which(tool) or shutil.which(tool, path="/usr/sbin")


def missing(*tools: str) -> str:
    """Return why a figure cannot be measured here, naming the first absent tool; empty where all are present."""
    return next((f"{tool} is not on PATH" for tool in tools if find(tool) is None), "")


class Cores(NamedTuple):
    """The core of the server and the core of the client."""

    server: int
    client: int


Row = tuple[str, str, str | None]  # name, unit, peer


def require(report: Report, cores: Cores | None, tools: tuple[str, ...], *rows: Row) -> Cores:
    """Return the cores; where these rows cannot be measured, report the reason in each and skip the test."""
    why = missing(*tools) or ("" if cores else "the bench needs two cores")
    if why or cores is None:
        for name, unit, peer in rows:
            report.add(name, None, unit, peer, why=why)
        pytest.skip(why)
    return cores


def write_requests(path: Path, v4: Sequence[str], v6: Sequence[str]) -> Path:
    """Write the paths to request, one a line, both families mixed, and return the file."""
    addresses = [*v4, *v6]
    random.Random(SEED).shuffle(addresses)
    path.write_text(
        "".join(
            f"/v1/steer?title={80_000_000 + index % TITLES}&ip={address}\n" for index, address in enumerate(addresses)
        )
    )
    return path


def write_polls(path: Path, protocol: str, addresses: Sequence[str], snapshot: Snapshot) -> Path:
    """Write the paths that players of `hls` or `dash` request while they play, one a line, and return the file.

    Each plays from its first appliance, and its playlist declared the first three.
    """
    prefix, quote = f"_{protocol.upper()}_", "%22" if protocol == "dash" else ""
    with path.open("w") as out:
        for index, address in enumerate(addresses):
            title, session = str(80_000_000 + index % TITLES), f"{index:08x}-7c1e-4b52-9d55-3f0a6c2d41e7"
            declared = [
                pick.appliance for pick in snapshot.picks(address, title, service="video", session=session, n=3)
            ]
            hints = f"{prefix}throughput={5_000_000 + index}&session={session}&declared={'%2C'.join(declared)}"
            if declared:
                hints = f"{prefix}pathway={quote}{declared[0]}{quote}&{hints}"
            out.write(f"/v1/{protocol}/video/{title}?{hints}&ip={address}\n")
    return path


def write_bodies(path: Path, addresses: Sequence[str], files: int) -> Path:
    """Write bodies of playback requests, one a line, each for `files` files of a title, and return the file."""
    with path.open("w") as out:
        for index, address in enumerate(addresses[:BODIES]):
            title = 80_000_000 + index
            names = [f"{title}-{number:04d}-hvc1" for number in range(files)]
            out.write(json.dumps({"title": str(title), "ip": address, "files": names}, separators=(",", ":")) + "\n")
    return path


def run_wrk(url: str, requests: Path, seconds: int, script: Path = SCRIPT) -> Load:
    """Send requests on 64 keep-alive connections for `seconds`."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(script), url, "--", str(requests)]
    return read_wrk(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def run_s_time(url: str, seconds: int) -> int:
    """Make one TLS connection after another, without resuming sessions, for `seconds`; return their number."""
    command = ["openssl", "s_time", "-connect", url.removeprefix("https://"), "-new", "-time", str(seconds)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True)
    return read_s_time(done.stdout)


def read_s_time(text: str) -> int:
    """Return the number of connections from the last line but for empty ones."""
    match = re.search(r"^(\d+) connections in \d+ real seconds", text, re.MULTILINE)
    assert match, text
    return int(match[1])


def read_wrk(text: str) -> Load:
    """Return the figures from the last line, which steer.lua wrote."""
    return Load(**json.loads(text.rstrip().rpartition("\n")[2]))


def run_h2load(url: str, requests: Path, per_s: float, seconds: float) -> list[int]:
    """Send at a fixed rate for `seconds` after a warm-up; return the sorted microseconds to the end of each answer.

    AssertionError if a request failed, had another status than 200, or the rate was not kept. One connection starts
    each millisecond, so that requests are evenly spaced; with --duration h2load starts all at once and sends bursts.
    The log is in memory: on a disk, h2load would wait for the disk whenever the server publishes.
    """
    connections = max(CONNECTIONS, math.ceil(per_s / MOST_PER_CONNECTION))
    count = round(per_s * (seconds + WARM_S))
    command = ["h2load", "--h1", "-t1", f"-c{connections}", f"-n{count}", "-r1", "--rate-period=1ms"]
    command += [f"--rps={per_s / connections:.3f}", "-B", f"{url}/", "-i", str(requests)]
    with os.fdopen(os.memfd_create("h2load"), "rb") as log:
        command.append(f"--log-file=/proc/self/fd/{log.fileno()}")
        subprocess.run(command, stdout=subprocess.PIPE, check=True, pass_fds=[log.fileno()])
        times, answered, lasted_s = read_log(log.read().decode(), WARM_S)
    assert answered == count, f"{count - answered} of {count} requests failed"
    assert lasted_s < 1.2 * (seconds + WARM_S), f"{per_s:.0f}/s could not be kept: it took {lasted_s:.1f} s"
    return times


def read_log(text: str, warm_s: float) -> tuple[list[int], int, float]:
    """Return the sorted microseconds of the requests after the warm-up, the count with status 200, and all seconds.

    A line is start (microseconds since the epoch), status (-1: failed), microseconds, and sometimes other fields.
    """
    rows = [tuple(map(int, line.split("\t")[:3])) for line in text.splitlines()]
    first = min((start for start, _, _ in rows), default=0)
    last = max((start + took for start, _, took in rows), default=0)
    times = sorted(took for start, status, took in rows if status == 200 and start >= first + warm_s * 1e6)
    return times, sum(status == 200 for _, status, _ in rows), (last - first) / 1e6


def percentile(values: Sequence[int], percent: float) -> int:
    """Return the nearest-rank percentile of sorted values."""
    return values[max(math.ceil(len(values) * percent / 100), 1) - 1]
