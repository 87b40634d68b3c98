"""The parts of the bench: what it reads from /proc, wrk and h2load, the rows it keeps, its peers, a short soak."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from steering.control.routes.feeds import FeedSource
from steering.control.services.control import Control
from steering.decision.snapshot import Snapshot
from steering.model.fleet import Fleet
from steering.settings import read_settings
from tests.bench import load, servers
from tests.bench.measure import Report
from tests.bench.soak import MOST_GROWTH, WARM_CHUNKS, soak

STAT = "S 1 24414 22920 0 -1 4194624 2412 0 0 0 73 13 5 6 20 0 2 0 2875237 154275840 14327"
SMAPS = """\
559d29b05000-7ffc33359000 ---p 00000000 00:00 0                          [rollup]
Rss:               57384 kB
Pss:               33162 kB
Private_Clean:      9904 kB
Private_Dirty:      9864 kB
"""
WRK = """\
Running 2s test @ http://127.0.0.1:8080
  1 threads and 64 connections
  22087 requests in 2.00s, 10.76MB read
Requests/sec:  11035.33
{"requests": 22087, "seconds": 2.001481, "bytes": 11286457, "failed": 3, "p99_us": 8396}
"""


@pytest.mark.parametrize("name", ["python", "a b", "a) R 1 (b", "(sd-pam)", "nginx: worker"])
def test_cpu_is_read_whatever_a_process_is_called(name: str) -> None:
    ticks = 73 + 13  # its own; its children's come after
    assert servers.read_cpu_s(f"24418 ({name}) {STAT}") == pytest.approx(ticks * servers.TICK_S)


def test_cpu_and_memory_of_this_process_are_read() -> None:
    taken = servers.read_cpu_s(Path(f"/proc/{os.getpid()}/stat").read_text())
    assert taken == pytest.approx(sum(os.times()[:2]), abs=0.1)
    result = servers.memory_of(os.getpid())
    assert 0 < result["Private"] <= result["Rss"]


def test_memory_is_read_in_bytes() -> None:
    assert servers.read_memory(SMAPS) == {
        "Rss": 57384 * 1024,
        "Pss": 33162 * 1024,
        "Private_Clean": 9904 * 1024,
        "Private_Dirty": 9864 * 1024,
    }


def test_wrk_is_read_from_the_line_that_our_script_writes() -> None:
    assert load.read_wrk(WRK) == load.Load(22087, 2.001481, 11286457, 3, 8396)


def test_h2load_is_read_from_its_log_after_the_warm_up() -> None:
    log = "".join(
        f"{1_781_654_400_000_000 + start}\t{status}\t{took}\n"
        for start, status, took in [(10, 200, 900), (0, 200, 800), (2_000_000, 200, 70), (2_500_000, 200, 60)]
    )
    assert load.read_log(log, 2) == ([60, 70], 4, 2.50006)
    failed = "1781654403000000\t-1\t5\n1781654403000000\t503\t5\n"
    assert load.read_log(log + failed, 2) == ([60, 70], 4, 3.000005)
    assert load.read_log("", 2) == ([], 0, 0.0)


@pytest.mark.parametrize(
    ("count", "percent", "expected"), [(1, 99, 1), (100, 99, 99), (101, 99, 100), (1000, 99, 990), (4, 50, 2)]
)
def test_percentile_is_the_nearest_rank(count: int, percent: float, expected: int) -> None:
    assert load.percentile(range(1, count + 1), percent) == expected


def test_requests_are_the_same_each_time_and_of_both_families(tmp_path: Path) -> None:
    v4, v6 = [f"192.0.2.{i}" for i in range(200)], [f"2001:db8::{i:x}" for i in range(50)]
    lines = load.write_requests(tmp_path / "a", v4, v6).read_text().splitlines()
    assert load.write_requests(tmp_path / "b", v4, v6).read_text().splitlines() == lines
    assert {line.partition("&ip=")[2] for line in lines} == {*v4, *v6}
    assert len({line.partition("&ip=")[0] for line in lines}) == len(lines)
    assert any(":" in line for line in lines[:50])


def test_nginx_gets_every_prefix_and_a_body_of_the_size_asked_for(tmp_path: Path) -> None:
    config = servers.nginx_config(tmp_path, 8080, {"192.0.2.0/24": "64500", "2001:db8::/32": "64501"}, 300)
    assert "  192.0.2.0/24 64500;\n  2001:db8::/32 64501;\n" in config
    bodies = [part.partition("'")[0].replace("$zone", "64500") for part in config.split("return 200 '")[1:]]
    assert list(map(len, bodies)) == [300] * 3
    assert all(json.loads(body) for body in bodies)


def test_a_tool_that_is_absent_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert load.missing() == ""
    assert load.missing("wrk", "nginx") == "wrk is not on PATH"


def test_rows_of_another_run_are_kept_in_their_place_and_measured_ones_replaced() -> None:
    shown: list[dict[str, Any]] = []
    before = Report(shown.append)
    for name, peer in (("lookup_v4", "pytricia"), ("http", "nginx"), ("http", "fastapi")):
        before.add(name, 1.0, "us", peer, 2.0)
    now = Report(shown.append)
    now.add("http", None, "us", "nginx", why="nginx is not on PATH")
    now.add("publish", 1.23456, "s")
    rows = now.merged(before.rows)
    empty: dict[str, Any] = {"value": None, "unit": "us", "peer_value": None, "ratio": None}
    assert [(row["name"], row["peer"]) for row in rows] == [
        ("lookup_v4", "pytricia"),
        ("http", "nginx"),
        ("http", "fastapi"),
        ("publish", None),
    ]
    assert rows[0] == before.rows[0]
    assert rows[1] == {"name": "http", "peer": "nginx", "why": "nginx is not on PATH"} | empty
    assert rows[3]["value"] == 1.235
    assert now.merged([]) == now.rows
    assert shown == [*before.rows, *now.rows]


def needs(*tools: str) -> pytest.MarkDecorator:
    """Skip where a tool is absent, and say which."""
    return pytest.mark.skipif(bool(load.missing(*tools)), reason=load.missing(*tools))


@needs("nginx", "wrk", "h2load")
def test_nginx_answers_from_its_geo_map_and_both_clients_measure_it(tmp_path: Path, snapshot: Snapshot) -> None:
    zones = {"192.0.2.0/24": "64500", "192.0.2.128/25": "64501", "2001:db8::/32": "64502"}
    requests = load.write_requests(tmp_path / "requests", ["192.0.2.1"], ["2001:db8::1"])
    with servers.serve_nginx(tmp_path, os.sched_getaffinity(0), zones, 300) as nginx:
        for address, zone in (("192.0.2.127", 64500), ("192.0.2.128", 64501), ("2001:db8::1", 64502), ("::1", 0)):
            answer = httpx.get(f"{nginx.url}/v1/steer?title=t&ip={address}")
            assert answer.json()["zone"] == zone
            assert answer.headers["content-type"] == "application/json"
            assert answer.headers["cache-control"] == "no-store"
        for protocol in ("hls", "dash"):
            polls = load.write_polls(tmp_path / protocol, protocol, ["203.0.113.9"], snapshot)
            answer = httpx.get(f"{nginx.url}{polls.read_text().strip()}")
            assert "pathway=" in polls.read_text()
            assert answer.headers["content-type"] == "application/vnd.apple.steering-list"
            assert answer.json()["VERSION"] == 1
        result = load.run_wrk(nginx.url, requests, 1)
        assert result.requests > result.failed == 0
        assert result.bytes > 300 * result.requests
        assert nginx.cpu_s() > 0
        assert len(load.run_h2load(nginx.url, requests, 640, 1)) == pytest.approx(640, rel=0.2)


@pytest.mark.parametrize("size", [300, 999, 1000, 1001, 1234])
def test_the_floor_answer_is_one_http_answer_of_the_size_asked_for(size: int) -> None:
    answer = servers.floor_answer(size)
    head, _, body = answer.decode().partition("\r\n\r\n")
    assert len(answer) == size
    assert re.findall(r"(?m)^content-length: (\d+)\r?$", head)[0].lstrip("0") == str(len(body))
    assert json.loads(body)


@needs("cc", "wrk")
def test_the_floor_answers_every_request_with_the_same_bytes_and_is_measured(tmp_path: Path) -> None:
    requests = load.write_requests(tmp_path / "requests", ["192.0.2.1"], ["2001:db8::1"])
    constant = servers.floor_answer(600)
    with servers.serve_floor(tmp_path, os.sched_getaffinity(0), constant) as floor:
        with httpx.Client() as client:  # one connection, kept
            for path in ("/v1/steer?title=t", "/elsewhere"):
                answer = client.get(f"{floor.url}{path}")
                assert (answer.status_code, answer.content) == (200, constant.partition(b"\r\n\r\n")[2])
        run = load.run_wrk(floor.url, requests, 1)
        assert run.requests > run.failed == 0
        assert run.bytes == 600 * run.requests
        assert floor.cpu_s() > 0
    assert floor.process.returncode == -signal.SIGTERM


def test_a_busy_neighbour_uses_a_core_until_the_end() -> None:
    with servers.busy_neighbour(os.sched_getaffinity(0)) as pid:
        stat = Path(f"/proc/{pid}/stat")
        before = servers.read_cpu_s(stat.read_text())
        deadline = time.monotonic() + servers.PATIENCE_S
        while servers.read_cpu_s(stat.read_text()) < before + 0.05:
            assert time.monotonic() < deadline
    assert not stat.exists()


@needs("wrk")
def test_a_short_soak_fails_no_request_and_keeps_memory(tmp_path: Path, fleet: Fleet) -> None:
    state, feed = tmp_path / "state", tmp_path / "routes.csv"
    feed.write_text("prefix,cluster,as_path,med\n203.0.113.0/24,bom001-a,64500,0\n2001:db8::/32,del001-a,64500,100\n")
    with Control(read_settings(state=state)) as control:
        control.fleet.replace(fleet, "test")
        control.tables.publish([FeedSource("csv", str(feed))], "test")
    v4, v6 = [f"203.0.{113 + i % 2}.{i}" for i in range(256)], [f"2001:db8::{i:x}" for i in range(64)]
    requests = load.write_requests(tmp_path / "requests", v4, v6)
    printed: list[str] = []
    with servers.serve_steering(state, os.sched_getaffinity(0), workers=2) as steering:
        growth = soak(steering, requests, 20_000, 1, printed.append)
    assert growth <= MOST_GROWTH, printed
    assert len(printed) > WARM_CHUNKS


def test_handshakes_are_read_from_s_time() -> None:
    text = "Collecting connection statistics for 1 seconds\n***\n\n3 connections in 0.01s; 300.00 connections/user sec, bytes read 0\n3 connections in 2 real seconds, 0 bytes read per connection\n"
    assert load.read_s_time(text) == 3
    with pytest.raises(AssertionError, match="refused"):
        load.read_s_time("connection refused")
