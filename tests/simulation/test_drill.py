"""The command `steering drill`: a short one with real processes, and the parts that need none."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from steering.control.api.report_format import health_of, read_row
from steering.control.health.rules import Health, Report
from steering.errors import RequestError
from steering.settings import Settings
from steering.simulation import drill, wires
from steering.simulation.demand import Request
from steering.simulation.faults import FAULTS, HIT_SETTLES_S, Hit, Site
from steering.simulation.wires import Wires

QUICK = {
    "STEERING_REPORT_S": "1",
    "STEERING_MISSED_REPORTS": "2",
    "STEERING_TICK_S": "0.2",
    "STEERING_SLOW_START_S": "2",
    "STEERING_LOAD_EXCESS": "0.15",
}


def run_drill(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "steering.cli", "drill", "--json", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | QUICK | env, check=False)


def test_a_short_drill_of_real_processes_holds_what_must_hold() -> None:
    """200 appliances that report every second; half a minute."""
    ran = run_drill(
        *("--appliances", "200", "--minutes", "0.53", "--requests-per-s", "200", "--workers", "2"),
        *("--only", "flap", "--only", "site", "--only", "monitor"),
    )
    assert ran.stdout, ran.stderr
    result = json.loads(ran.stdout)
    rows: dict[str, Any] = {row["fault"]: row for row in result["faults"]}
    assert {name: row["wrong"] for name, row in rows.items() if row["wrong"]} == {}
    assert list(rows) == ["quiet", "monitor", "flap", "site"]
    figures = result["figures"]
    assert figures["reports"] > 200 * 25
    assert figures["reports_failed"] == 0
    assert figures["report_to_answer_p99_s"] <= 2
    assert rows["flap"]["reasons"]["U"] > 0
    assert rows["site"]["out"] > 0
    assert rows["monitor"]["suppressed"] > 100
    assert (result["ok"], ran.returncode) == (True, 0)


def test_a_drill_that_is_too_short_or_of_no_fault_is_refused() -> None:
    ran = run_drill("--minutes", "0.2")
    assert ran.returncode == 1
    assert "at least" in json.loads(ran.stderr)["detail"]
    ran = run_drill("--only", "locusts")
    assert ran.returncode == 2
    assert "'locusts' is none of the faults: clocks, hit," in ran.stderr


def test_a_plan_takes_the_minutes_it_is_given_and_leaves_each_fault_its_time() -> None:
    plan = drill.plan_of(Settings(), 10, 1000, FAULTS)
    assert plan.first_s + plan.quiet_s + len(FAULTS) * (plan.on_s + plan.off_s) == pytest.approx(600)
    assert plan.on_s > Settings().report_s * Settings().missed_reports
    with pytest.raises(RequestError, match="minutes"):
        drill.plan_of(Settings(), 4, 1000, FAULTS)
    quick = Settings(report_s=1.0, missed_reports=1)
    assert drill.plan_of(quick, 0.4, 1000, [Site]).on_s < HIT_SETTLES_S
    with pytest.raises(RequestError, match="minutes"):
        drill.plan_of(quick, 0.4, 1000, [Hit])


def test_the_least_time_in_the_error_is_enough_and_a_tenth_less_is_not() -> None:
    for minutes in (0.2, 4, 5, 7):
        with pytest.raises(RequestError) as raised:
            drill.plan_of(Settings(), minutes, 1000, FAULTS)
        least = float(raised.value.message.partition("at least ")[2].split()[0])
        assert drill.plan_of(Settings(), least, 1000, FAULTS).first_s
        with pytest.raises(RequestError):
            drill.plan_of(Settings(), least - 0.1, 1000, FAULTS)


def test_a_drill_takes_the_settings_of_decisions_alone() -> None:
    mine = Settings(report_s=3.0, load_excess=0.5, ranking_policy="local_first", bgp=Path("bgp.toml"), watch=True)
    result = drill.settings_of_drill(mine, Path("elsewhere"))
    assert (result.report_s, result.load_excess, result.ranking_policy) == (3.0, 0.5, mine.ranking_policy)
    assert (result.bgp, result.watch, result.state) == (None, False, Path("elsewhere"))


def test_no_setting_of_rankings_health_and_load_is_forgotten() -> None:
    names = list(Settings.model_fields)
    rankings = names[names.index("ranking_policy") : names.index("country_mmdb")]
    health = names[names.index("tick_s") : names.index("holdings_s")]
    assert {*rankings, *health, "steer_gain"} == set(drill.DECISION_SETTINGS)


def test_reports_are_what_control_reads() -> None:
    sent = Health("failed", "disk failed", 12.5, 87.5, 2500, 0.0, 0.8)
    request = drill.report_body("c001-bom001", Report("drill", 7, 1.7e9, sent))
    head, _, body = request.partition(b"\r\n\r\n")
    row = read_row(body)
    assert int(head) == len(body)
    assert (row.appliance, row.boot, row.seq, row.at) == ("c001-bom001", "drill", 7, 1.7e9)  # type: ignore[union-attr]
    assert health_of(row.health) == sent  # type: ignore[union-attr, arg-type]


def test_reasons_are_read_from_the_metrics() -> None:
    text = '# TYPE x counter\nsteering_passed_over_total{reason="H",means="no headroom"} 12\nsteering_passed_over_total{reason="S",means="old"} 0\n'
    assert drill.reasons_in(text) == {"H": 12, "S": 0}


ANSWERS = [
    ("whole", [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"], (200, b"hi")),
    ("in parts", [b"HTTP/1.1 503 X\r\ncontent-len", b"gth: 4\r\n\r", b"\nab", b"cd"], (503, b"abcd")),
    ("nothing", [b"HTTP/1.1 204 X\r\nContent-Length: 0\r\n\r\n"], (204, b"")),
    ("gone", [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi", b""], (0, b"")),
]


@pytest.mark.parametrize(("name", "parts", "expected"), ANSWERS, ids=[row[0] for row in ANSWERS])
def test_answers_are_found_whole(name: str, parts: list[bytes], expected: tuple[int, bytes]) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError), contextlib.closing(writer):
            while await reader.readuntil(b"\r\n\r\n"):
                for part in parts:
                    if not part:
                        return
                    writer.write(part)
                    await writer.drain()

    async def ask() -> list[tuple[int, bytes]]:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        result = Wires()
        await result.open(f"http://{host}:{port}", 1)
        request = drill.request_of(Request("192.0.2.1", "t", 0, 0.0))
        answers = await asyncio.gather(result.ask_one(request), result.ask_one(request))
        result.close()
        server.close()
        await server.wait_closed()
        return list(answers)

    assert asyncio.run(ask()) == [expected, expected]


def test_a_connection_that_was_idle_too_long_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wires, "IDLE_S", -1.0)  # any is
    served = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        with contextlib.closing(writer):
            if await reader.read(100) and served % 2 == 0:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
                await writer.drain()
                await reader.read(100)  # and closes without an answer
            served += 1

    async def ask() -> list[tuple[int, bytes]]:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        result = Wires()
        await result.open(f"http://{host}:{port}", 1)
        answers = [await result.ask_one(b"GET"), await result.ask_one(b"GET")]
        result.close()
        server.close()
        await server.wait_closed()
        return answers

    assert asyncio.run(ask()) == [(200, b"hi"), (200, b"hi")]
    assert served >= 2
