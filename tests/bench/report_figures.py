"""The figures of reports: 19,000 appliances with tokens of their own, over HTTP. Part of `make bench`, never of `make test`.

Control and workers run on one core, the appliances and the clients on another.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

from steering.control.records.auth import make_secret
from steering.control.services.control import Control
from steering.settings import Settings
from tests.bench import servers
from tests.bench.load import Cores, percentile, require
from tests.bench.measure import Report, Table
from tests.bench.servers import ROOT

RATE = 1900  # reports a second: 19,000 appliances every ten seconds
ROUND_S = 11  # each appliance has reported once, and its state is in the database
PROBES = 200
ASKING = 16  # connections; the kernel gives a worker none of them once in 32,000 runs
PATIENCE_S = 10.0


class Probe(NamedTuple):
    """A request path and the appliance that is its first target."""

    path: str
    appliance: str


@pytest.fixture
def tokens(state: Path) -> dict[str, str]:
    """Return a token for each appliance of the fleet, on record."""
    result = {}
    with Control(Settings(state=state)) as control, control.records.transaction() as transaction:
        for appliance in control.fleet.current().appliances:
            secret, sha256 = make_secret()
            number = transaction.tokens.add(f"appliance:{appliance.id}", "", sha256, "bench", time.time(), None)
            result[appliance.id] = f"steering-{number}-{secret}"
    return result


@contextlib.contextmanager
def reporting(url: str, tokens: dict[str, str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run appliances that report at the full rate; at the end no report failed and at most 1 % were left out."""
    path = folder / "tokens"
    path.write_text("".join(f"{name} {token}\n" for name, token in tokens.items()))
    command = [sys.executable, "-m", "tests.bench.reporters", url, str(path), str(RATE)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=dict(os.environ)
    ) as process:
        yield process
        outcome = json.loads(process.communicate("")[0])
    print("reports:", outcome)
    assert outcome["failed"] == 0
    assert outcome["left_out"] <= 0.01 * outcome["sent"]


def cpu_share(pid: int, seconds: float) -> float:
    """Return the share of a core that a process uses during `seconds`."""
    stat = Path(f"/proc/{pid}/stat")
    before, began = servers.read_cpu_s(stat.read_text()), time.monotonic()
    time.sleep(seconds)
    return (servers.read_cpu_s(stat.read_text()) - before) / (time.monotonic() - began)


def test_reports(
    report: Report,
    cores: Cores | None,
    table: Table,
    state: Path,
    tokens: dict[str, str],
    seconds: int,
    tmp_path: Path,
) -> None:
    """The CPU of control while the whole fleet reports, and the delay from a report to every worker's answers."""
    server, _ = require(report, cores, (), ("reports_cpu", "cores", None), ("report_to_answer_s", "s", None))
    with (
        servers.serve_steering(state, [server], workers=2, control="127.0.0.1:0") as steering,
        contextlib.ExitStack() as closing,
    ):
        workers = [closing.enter_context(connected(steering.url)) for _ in range(ASKING)]
        control = closing.enter_context(connected(steering.control_url))
        probes = find_probes(workers[0], table)
        others = {name: token for name, token in tokens.items() if name not in {probe.appliance for probe in probes}}
        with reporting(steering.control_url, others, tmp_path):
            time.sleep(ROUND_S)
            report.add("reports_cpu", cpu_share(steering.control(), max(3 * seconds, ROUND_S)), "cores")
            took_s = sorted(answered_after_s(control, workers, probes, tokens))
    print("report to answer, median and worst:", took_s[len(took_s) // 2], took_s[-1])
    report.add("report_to_answer_s", took_s[percentile(range(len(took_s)), 99)], "s")


def find_probes(worker: http.client.HTTPConnection, table: Table) -> list[Probe]:
    """Return clients whose first targets are different appliances."""
    probes: dict[str, Probe] = {}
    for index, address in enumerate(table.addresses[4]):
        path = f"/v1/steer?title={80_000_000 + index}&ip={address}"
        first = targets_of(worker, path)[0]
        probes.setdefault(first, Probe(path, first))
        if len(probes) == PROBES:
            break
    return list(probes.values())


def answered_after_s(
    control: http.client.HTTPConnection,
    workers: Sequence[http.client.HTTPConnection],
    probes: Sequence[Probe],
    tokens: dict[str, str],
) -> Iterator[float]:
    """Yield for each appliance the seconds from its accepted report of a failure until no worker names it."""
    for probe in probes:
        send(control, tokens[probe.appliance], probe.appliance, 1, "ok")
        assert all(probe.appliance in targets_of(worker, probe.path) for worker in workers)
        send(control, tokens[probe.appliance], probe.appliance, 2, "failed")
        began = time.monotonic()
        while any(probe.appliance in targets_of(worker, probe.path) for worker in workers):
            assert time.monotonic() - began < PATIENCE_S, probe
        yield time.monotonic() - began
        send(control, tokens[probe.appliance], probe.appliance, 3, "ok")


def connected(url: str) -> contextlib.closing[http.client.HTTPConnection]:
    """Return a connection that the caller closes."""
    return contextlib.closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE_S))


def targets_of(connection: http.client.HTTPConnection, path: str) -> list[str]:
    """Return the appliances of an answer."""
    connection.request("GET", path)
    answer = connection.getresponse().read()
    return [target.get("appliance", "") for target in json.loads(answer)["targets"]]


def send(connection: http.client.HTTPConnection, token: str, name: str, seq: int, state: str) -> None:
    """Report the health of an appliance; AssertionError unless the report is accepted."""
    row = {"appliance": name, "boot": "bench", "seq": seq, "health": {"components": {"disk": state}}}
    connection.request("POST", "/v1/reports", json.dumps(row), {"authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    assert json.loads(answer.read())["result"] == "accepted", answer.status
