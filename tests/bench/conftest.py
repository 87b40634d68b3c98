"""The full-size table, published once, and bench.json, where the figures are kept."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from steering.decision.snapshot import Snapshot
from steering.settings import Settings
from tests.bench.load import Cores
from tests.bench.measure import Report, Table


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options for the length of a measurement: seconds of HTTP runs, requests of the soak, seeds of quality."""
    parser.addoption("--seconds", type=int, default=5, help="of an HTTP run; the reload's are three times as long")
    parser.addoption("--seeds", type=int, default=5, help="of the simulated scenarios")
    parser.addoption("--requests", type=int, default=5_000_000, help="of the soak")


@pytest.fixture(scope="session")
def table() -> Table:
    return Table()


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a state folder with the synthetic fleet of 19,000 appliances and the shipped table."""
    from steering.control.routes.feeds import FeedSource
    from steering.control.services.control import Control
    from steering.control.services.synthetic_fleet import synthesize

    state = tmp_path_factory.mktemp("bench") / "state"
    with Control(Settings(state=state)) as control:
        control.fleet.replace(synthesize(), who="bench")
        control.tables.publish([FeedSource("asn")], who="bench", why="bench")
    return state


@pytest.fixture(scope="session")
def snapshot(published: Path) -> Snapshot:
    return Snapshot.map(published)


@pytest.fixture(scope="session")
def report(request: pytest.FixtureRequest) -> Iterator[Report]:
    path = Path(request.config.rootpath) / "bench.json"
    before = json.loads(path.read_text()) if path.exists() else []
    terminal = request.config.pluginmanager.get_plugin("terminalreporter")
    capture = request.config.pluginmanager.get_plugin("capturemanager")

    def keep(row: dict[str, Any]) -> None:
        """Show a row and write bench.json as soon as it is measured: a run takes long, and may be stopped."""
        with capture.global_and_fixture_disabled():
            terminal.ensure_newline()
            terminal.write_line(line_of(row))
        path.write_text(json.dumps(report.merged(before), indent=1) + "\n")

    report = Report(keep)
    yield report
    request.config.stash[ROWS] = report.rows


@pytest.fixture(scope="module")
def cores() -> Iterator[Cores | None]:
    """Return two cores, or None where there is only one; this process and its clients run on the second."""
    before = os.sched_getaffinity(0)
    cores = Cores(*sorted(before)[:2]) if len(before) > 1 else None
    if cores:
        os.sched_setaffinity(0, {cores.client})
    yield cores
    os.sched_setaffinity(0, before)


@pytest.fixture
def state(published: Path, tmp_path: Path) -> Path:
    """Return a copy of the published state folder for one test to serve and change."""
    return shutil.copytree(published, tmp_path / "state")


@pytest.fixture(scope="session")
def seconds(request: pytest.FixtureRequest) -> int:
    """Return the length of an HTTP run."""
    return int(request.config.getoption("--seconds"))


@pytest.fixture(scope="session")
def seeds(request: pytest.FixtureRequest) -> int:
    """Return how many seeds the simulated scenarios are played with."""
    return int(request.config.getoption("--seeds"))


ROWS = pytest.StashKey[list[dict[str, Any]]]()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Name a bar that is missed when it is missed."""
    if report.failed:
        print(
            f"\nMISSED {report.nodeid}: {getattr(report.longrepr, 'reprcrash', None)}", file=sys.__stdout__, flush=True
        )


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Show the rows of this run as a table."""
    rows = config.stash.get(ROWS, [])
    if rows:
        terminalreporter.section("bench.json")
        for row in rows:
            terminalreporter.line(line_of(row))


def line_of(row: dict[str, Any]) -> str:
    """Return a row of bench.json as a line of the table."""
    if row["value"] is None:
        return f"{row['name']:22} {'-':>12} {row['unit']:6} {row['peer'] or '':24} {row['why']}"
    peer = f"{row['peer']} {row['peer_value']:g}" if row["peer"] else ""
    ratio = f"ratio {row['ratio']:.3f}" if row["ratio"] is not None else ""
    return f"{row['name']:22} {row['value']:>12,g} {row['unit']:6} {peer:24} {ratio}"
