"""The figures over HTTP: `make bench-http`, and part of `make bench`; never of `make test`.

All processes of a server run on one core, the client and the bench on another. Two servers that are compared both run
and are asked in turn; the other one sleeps. Where a tool is absent, the figure's row names the tool.
"""

from __future__ import annotations

import contextlib
import shutil
import statistics
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
import pytricia

from steering.decision.snapshot import Snapshot
from tests.bench import load, servers
from tests.bench.load import Cores, Row, require
from tests.bench.measure import Report, Table
from tests.bench.servers import Server, Steering
from tests.support.certificates import make_certificate

PAIRS = 5
PUBLISH_EVERY_S = 5.0
WORKER_REQUESTS = 100_000
# The headers that only nginx sends; its body is shorter by as much, so that both send the same number of bytes.
NGINX_ONLY = len("Server: nginx\r\nConnection: keep-alive\r\n")


@pytest.fixture(scope="module")
def requests(table: Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return 100,000 requests from addresses inside the real prefixes, a fifth of them IPv6."""
    path = tmp_path_factory.mktemp("load") / "requests"
    return load.write_requests(path, table.addresses[4][:80_000], table.addresses[6][:20_000])


class Cost(NamedTuple):
    """The cost of one request for the server."""

    cpu_us: float
    bytes: float
    busy: float  # of the core


def cost_of(server: Server, requests: Path, seconds: int, script: Path = load.SCRIPT) -> Cost:
    """Return the cost of a request over a run after a warm-up; no request may fail."""
    load.run_wrk(server.url, requests, load.WARM_S, script)
    before = server.cpu_s()
    run = load.run_wrk(server.url, requests, seconds, script)
    cpu_s = server.cpu_s() - before
    assert run.failed == 0
    return Cost(cpu_s * 1e6 / run.requests, run.bytes / run.requests, cpu_s / run.seconds)


def compare(
    ours: Server, theirs: Server, requests: Path, seconds: int, script: Path = load.SCRIPT
) -> tuple[Cost, Cost]:
    """Return the medians of runs in turn, ours first."""
    pairs = [[cost_of(server, requests, seconds, script) for server in (ours, theirs)] for _ in range(PAIRS)]
    medians = [Cost(*map(statistics.median, zip(*costs, strict=True))) for costs in zip(*pairs, strict=True)]
    print("cpu_us, bytes and busy:", *medians)
    sent = [median.bytes for median in medians]
    assert max(sent) <= 1.05 * min(sent), f"{sent} bytes a request: not the same work"
    return medians[0], medians[1]


def test_http_steer_beside_nginx(
    report: Report,
    cores: Cores | None,
    table: Table,
    snapshot: Snapshot,
    state: Path,
    requests: Path,
    seconds: int,
    tmp_path: Path,
) -> None:
    """nginx answers the ASN from a geo map of the same prefixes, in as many bytes as steering."""
    server, _ = require(report, cores, ("wrk", "nginx"), ("http_steer_cpu_us", "us", "nginx"))
    body_bytes = round(
        statistics.mean(len(snapshot.steer(ip, "80000000", service="video")) for ip in table.addresses[4][:10_000])
    )
    with (
        servers.serve_nginx(tmp_path, [server], dict(table.rows), body_bytes - NGINX_ONLY) as nginx,
        servers.serve_steering(state, [server]) as steering,
    ):
        assert_geo_map_is_right(nginx, table)
        ours, theirs = compare(steering, nginx, requests, seconds)
    report.add("http_steer_cpu_us", ours.cpu_us, "us", "nginx", theirs.cpu_us)


def assert_geo_map_is_right(nginx: Server, table: Table) -> None:
    """Ask for addresses of both families and compare the answers with the longest prefixes."""
    tries = {4: pytricia.PyTricia(32), 6: pytricia.PyTricia(128)}
    for prefix, asn in table.rows:
        tries[6 if ":" in prefix else 4][prefix] = asn
    for family, trie in tries.items():
        for address in table.addresses[family][:100]:
            with urllib.request.urlopen(f"{nginx.url}/v1/steer?title=80000000&ip={address}") as answer:
                assert answer.read().startswith(b'{"zone":%s,' % trie[address].encode()), address


def test_https_steer_beside_nginx(
    report: Report,
    cores: Cores | None,
    table: Table,
    snapshot: Snapshot,
    state: Path,
    requests: Path,
    seconds: int,
    tmp_path: Path,
) -> None:
    """The same over TLS on connections that stay open, and what a new connection costs: a whole handshake."""
    rows: list[Row] = [("https_steer_cpu_us", "us", "nginx"), ("https_handshake_cpu_us", "us", "nginx")]
    server, _ = require(report, cores, ("wrk", "nginx", "openssl"), *rows)
    pair = make_certificate(tmp_path, "bench.example")
    body_bytes = round(
        statistics.mean(len(snapshot.steer(ip, "80000000", service="video")) for ip in table.addresses[4][:10_000])
    )
    with (
        servers.serve_nginx(tmp_path, [server], {}, body_bytes - NGINX_ONLY, pair) as nginx,
        servers.serve_steering(state, [server], pair=pair) as steering,
    ):
        ours, theirs = compare(steering, nginx, requests, seconds)
        pairs = [[handshake_us(each, seconds) for each in (steering, nginx)] for _ in range(PAIRS)]
    report.add("https_steer_cpu_us", ours.cpu_us, "us", "nginx", theirs.cpu_us)
    print("cpu_us of a handshake, ours and nginx's:", pairs)
    new, theirs_new = (statistics.median(costs) for costs in zip(*pairs, strict=True))
    report.add("https_handshake_cpu_us", new, "us", "nginx", theirs_new)


def handshake_us(server: Server, seconds: int) -> float:
    """Return the CPU time of the server for a connection with a whole handshake: ECDSA P-256, TLS 1.3."""
    before = server.cpu_s()
    count = load.run_s_time(server.url, seconds)
    return (server.cpu_s() - before) * 1e6 / count


def test_http_steer_beside_the_floor(
    report: Report,
    cores: Cores | None,
    state: Path,
    requests: Path,
    seconds: int,
    tmp_path: Path,
) -> None:
    """floor.c reads each request and sends a constant answer of the same size: one recv and one send."""
    server, _ = require(report, cores, ("wrk", "cc"), ("http_steer_cpu_us", "us", "floor"))
    with servers.serve_steering(state, [server]) as steering:
        sent = cost_of(steering, requests, 1).bytes
        with servers.serve_floor(tmp_path, [server], servers.floor_answer(round(sent))) as floor:
            ours, theirs = compare(steering, floor, requests, seconds)
    report.add("http_steer_cpu_us", ours.cpu_us, "us", "floor", theirs.cpu_us)


def test_http_steer_beside_fastapi(
    report: Report, cores: Cores | None, state: Path, requests: Path, seconds: int, tmp_path: Path
) -> None:
    """The same endpoint through FastAPI, with the fast path off."""
    server, _ = require(report, cores, ("wrk",), ("http_steer_cpu_us", "us", "fastapi"))
    other = shutil.copytree(state, tmp_path / "other")
    with (
        servers.serve_steering(state, [server]) as steering,
        servers.serve_steering(other, [server], fast_path=False) as fastapi,
    ):
        ours, theirs = compare(steering, fastapi, requests, seconds)
    report.add("http_steer_cpu_us", ours.cpu_us, "us", "fastapi", theirs.cpu_us)


@pytest.mark.parametrize("protocol", ["hls", "dash"])
def test_http_players_beside_nginx(
    report: Report,
    cores: Cores | None,
    table: Table,
    snapshot: Snapshot,
    state: Path,
    seconds: int,
    tmp_path: Path,
    protocol: str,
) -> None:
    """Steering manifests for players that play, beside a fixed body of as many bytes from nginx."""
    name = f"http_{protocol}_cpu_us"
    server, _ = require(report, cores, ("wrk", "nginx"), (name, "us", "nginx"))
    addresses = [*table.addresses[4][:80_000], *table.addresses[6][:20_000]]
    polls = load.write_polls(tmp_path / "polls", protocol, addresses, snapshot)
    with servers.serve_steering(state, [server]) as steering:
        body_bytes = round(
            statistics.mean(len(body_of(steering, path)) for path in polls.read_text().splitlines()[::200])
        )
        with servers.serve_nginx(tmp_path, [server], {}, body_bytes - NGINX_ONLY) as nginx:
            ours, theirs = compare(steering, nginx, polls, seconds)
    report.add(name, ours.cpu_us, "us", "nginx", theirs.cpu_us)


def body_of(server: Server, path: str) -> bytes:
    """Return the body of an answer."""
    with urllib.request.urlopen(f"{server.url}{path}") as answer:
        return bytes(answer.read())


def test_http_playback_beside_fastapi(
    report: Report, cores: Cores | None, table: Table, state: Path, seconds: int, tmp_path: Path
) -> None:
    """POST /v1/playback for 150 files, unsigned, and the same with the fast path off."""
    server, _ = require(report, cores, ("wrk",), ("http_playback_150_cpu_us", "us", "fastapi"))
    bodies = load.write_bodies(tmp_path / "bodies", table.addresses[4], 150)
    other = shutil.copytree(state, tmp_path / "other")
    with (
        servers.serve_steering(state, [server]) as steering,
        servers.serve_steering(other, [server], fast_path=False) as fastapi,
    ):
        ours, theirs = compare(steering, fastapi, bodies, seconds, load.PLAYBACK_SCRIPT)
    report.add("http_playback_150_cpu_us", ours.cpu_us, "us", "fastapi", theirs.cpu_us)


def test_http_reload(report: Report, cores: Cores | None, state: Path, requests: Path, seconds: int) -> None:
    """p99 while the whole table is published every 5 s beside p99 quiet, both at a third of what wrk reached.

    Control is on the worker's core, at the priority that the supervisor gives it.
    """
    rows: list[Row] = [("http_reload_p99_us", "us", "quiet"), ("http_reload_p99_ratio", "x", "quiet")]
    server, _ = require(report, cores, ("wrk", "h2load"), *rows)
    with servers.serve_steering(state, [server]) as steering:
        publishing, quiet = reload_p99s(steering, requests, seconds)
    report.add("http_reload_p99_us", publishing, "us", "quiet", quiet)
    report.add("http_reload_p99_ratio", publishing / quiet, "x", "quiet", 1.0)


def test_http_reload_beside_a_busy_neighbour(
    report: Report, cores: Cores | None, state: Path, requests: Path, seconds: int
) -> None:
    """The same ratio while another process of normal priority keeps the server's core busy, quiet rounds included."""
    server, _ = require(report, cores, ("wrk", "h2load"), ("http_reload_p99_busy_ratio", "x", "quiet"))
    with servers.serve_steering(state, [server]) as steering, servers.busy_neighbour([server]):
        publishing, quiet = reload_p99s(steering, requests, seconds)
    report.add("http_reload_p99_busy_ratio", publishing / quiet, "x", "quiet", 1.0)


def reload_p99s(steering: Steering, requests: Path, seconds: int) -> tuple[float, float]:
    """Return the median p99 in microseconds of rounds with a publish every 5 s, and of quiet rounds in turn."""
    load.run_wrk(steering.url, requests, load.WARM_S)
    reached = load.run_wrk(steering.url, requests, seconds)
    per_s = reached.requests / reached.seconds / 3

    def p99() -> int:
        return load.percentile(load.run_h2load(steering.url, requests, per_s, 3 * seconds), 99)

    quiet, publishing = [], []
    for _ in range(PAIRS):
        quiet.append(p99())
        with publishing_every(steering, PUBLISH_EVERY_S):
            publishing.append(p99())
    print(f"p99 at {per_s:.0f}/s, quiet and publishing, in us:", quiet, publishing)
    return statistics.median(publishing), statistics.median(quiet)


@contextlib.contextmanager
def publishing_every(steering: Steering, pause_s: float) -> Iterator[None]:
    """Publish at this interval until the block ends, then raise the first error of a publish."""
    ending = threading.Event()

    def publish() -> None:
        due = time.monotonic()
        while not ending.wait(max(0.0, due - time.monotonic())):
            steering.reload()
            due += pause_s

    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(publish)
        try:
            yield
        finally:
            ending.set()
        done.result()


def test_worker_memory(report: Report, cores: Cores | None, state: Path, requests: Path, seconds: int) -> None:
    """The private memory of a worker: the larger of two, after 100,000 requests to both together."""
    server, _ = require(report, cores, ("wrk",), ("worker_rss_mb", "MB", None))
    with servers.serve_steering(state, [server], workers=2) as steering:
        asked = 0
        while asked < WORKER_REQUESTS:
            run = load.run_wrk(steering.url, requests, seconds)
            assert run.failed == 0
            asked += run.requests
        sizes = [servers.memory_of(pid)["Private"] for pid in steering.workers()]
    print(f"private bytes of each worker after {asked} requests:", sizes)
    report.add("worker_rss_mb", max(sizes) / 1e6, "MB")
