"""The drill: a real service in a temporary folder, simulated appliances and clients, and faults.

One process plays all appliances and all clients, so the work for each is small: prepared bytes, kept connections, one
look at the clock each hundredth of a second. The service has the health and load settings in force here and otherwise
defaults: no listener, session, file or webhook of the real one.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import itertools
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import uvloop

from _fastpath.status_words import StatusWords
from steering.control.health.rules import Report
from steering.control.remote import RemoteControl
from steering.control.routes.build import Progress
from steering.control.routes.feeds import FeedSource
from steering.control.services.control import Control
from steering.control.services.synthetic_fleet import synthesize
from steering.decision.snapshot import Snapshot
from steering.errors import RequestError, SettingsError
from steering.model.fleet import Fleet
from steering.settings import Settings
from steering.simulation.demand import Request
from steering.simulation.faults import HIT_SETTLES_S, Fault, Hit
from steering.simulation.measure import ASK_CONTROL_S, GRACE_S, LOOK_S, Row
from steering.simulation.play import Plan, Play, make_world
from steering.simulation.wires import Wires
from steering.simulation.world import NAMED

REPORTERS: Final = 64  # connections for the reports of all appliances
CLIENTS: Final = 32
WITNESSES: Final = 16  # connections that check every worker's answers after a report
SAMPLES: Final = 40
HIT_JUDGED_S: Final = 10.0
PACE_S: Final = 0.01
SETTLING: Final = 0.1  # of the time, at most, until loads settle
SETTLED_S: Final = 45.0  # loads have settled: three half-lives of the counts behind load factors
QUIET: Final = 0.5  # of a fault's time
OFF: Final = 0.4  # of a fault's time: its recovery
BATCH: Final = 5000  # rows of a monitor's request
PATIENCE_S: Final = 10.0
METRICS: Final = b"GET /metrics HTTP/1.1\r\nHost: drill\r\n\r\n"
PASSED_OVER: Final = re.compile(r'^steering_passed_over_total\{reason="(.)".*\} ([0-9]+)', re.MULTILINE)
Show = Callable[[str, float], None]  # called with the name of a part and the time
TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
HEALTH_FIELDS: Final = ("throughput_gbps", "headroom_gbps", "connections", "error_rate", "disk_used")
DECISION_SETTINGS: Final = (
    *("ranking_policy", "fallback_sites", "fallback_max_km", "price_embedded", "price_private", "price_exchange"),
    *("price_transit", "price_1000_km", "price_fallback", "steer_gain", "tick_s", "report_s", "missed_reports"),
    *("down_after", "up_after", "high_headroom", "pressure_headroom", "low_headroom", "weight_step", "slow_start_s"),
    *("return_s", "load_excess", "player_signal", "ejection_limit_cluster", "ejection_limit_partner"),
    *("ejection_limit_fleet", "ejection_limit_s"),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Figures:
    """The cost of a drill. Bytes are of the resident set, at the start and at the end."""

    reports: int
    reports_failed: int
    reports_waiting: int  # the most that were queued at once, because control was slow
    requests: int
    control_cpu: float  # of one core
    workers_cpu: float
    report_to_answer_p50_s: float | None
    report_to_answer_p99_s: float | None
    control_bytes: tuple[int, int]
    workers_bytes: tuple[int, int]


def settings_of_drill(settings: Settings, state: Path) -> Settings:
    """Return the settings of the drill: those in force here for rankings, health and load, otherwise defaults."""
    return Settings.model_construct(state=state, **{name: getattr(settings, name) for name in DECISION_SETTINGS})


def plan_of(settings: Settings, minutes: float, requests_per_s: float, faults: Sequence[type[Fault]]) -> Plan:
    """Return a plan of this length. Raises RequestError if the faults need more time."""
    needed_s = settings.report_s * settings.missed_reports + 2 * settings.tick_s + GRACE_S
    if Hit in faults:
        needed_s = max(needed_s, HIT_SETTLES_S + HIT_JUDGED_S)

    def planned(minutes: float) -> Plan:
        first_s = max(settings.report_s + GRACE_S, min(SETTLED_S, SETTLING * 60 * minutes))
        part_s = (60 * minutes - first_s) / (len(faults) + QUIET)
        off_s = max(settings.report_s + 2 * settings.tick_s + GRACE_S, OFF * part_s)
        return Plan(first_s, QUIET * part_s, part_s - off_s, off_s, requests_per_s)

    if planned(minutes).on_s < needed_s:
        tenths = (number / 10 for number in itertools.count(math.ceil(10 * minutes)))
        least = next(length for length in tenths if planned(length).on_s >= needed_s)
        raise RequestError.of_parameter("minutes", f"{minutes:g}", f"at least {least:.1f} for so many faults")
    return planned(minutes)


def prepare(settings: Settings, appliances: int, progress: Progress) -> tuple[Fleet, list[str]]:
    """Make the folder: a synthetic fleet, the shipped table, a token for each appliance, and one for ops."""
    progress(f"make a fleet of {appliances} appliances")
    with Control(settings) as control:
        control.fleet.replace(synthesize(appliances), "drill")
        control.tables.publish([FeedSource("asn")], "drill", "drill", progress)
        progress("make their tokens")
        roles = [f"appliance:{appliance.id}" for appliance in control.fleet.current().appliances]
        return control.fleet.current(), control.tokens.make_many([*roles, "ops"], "drill", "drill")


@contextlib.contextmanager
def serving(settings: Settings, workers: int) -> Iterator[Service]:
    """Give the running service of a folder; end it afterwards."""
    command = [sys.executable, "-m", "steering.cli", "serve", "--no-synth", "--state", str(settings.state)]
    command += ["--listen", "127.0.0.1:0", "--workers", str(workers)]
    env = {name: value for name, value in os.environ.items() if not name.startswith("STEERING_")}
    values = {name: getattr(settings, name) for name in DECISION_SETTINGS}
    texts = {name: ",".join(value) if isinstance(value, tuple) else str(value) for name, value in values.items()}
    env |= {f"STEERING_{name.upper()}": text for name, text in texts.items() if values[name] is not None}
    env |= {"STEERING_CONTROL_LISTEN": "127.0.0.1:0"}
    with subprocess.Popen(  # noqa: S603 (our own command)
        command, env=env, cwd=settings.state.parent, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            yield Service(process, settings)
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()


class Service:
    """A running service: its URLs and its processes."""

    def __init__(self, process: subprocess.Popen[str], settings: Settings) -> None:
        assert process.stdout is not None
        self.process, self.settings = process, settings
        urls: dict[str, str] = {}
        for line in process.stdout:
            name, _, url = line.strip().partition(" on ")
            urls[name] = url
            if name == "serving":
                break
        if "serving" not in urls:
            raise SettingsError(f"the service of the drill ended with status {process.wait()}")
        self.url, self.control_url = urls["serving"], urls["control"]

    def pids(self) -> tuple[int, list[int]]:
        """Return the control process, which holds the folder's lock, and the workers."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        pids = [int(pid) for pid in listed]
        control = next(pid for pid in pids if has_open(pid, self.settings.state / "lock"))
        return control, [pid for pid in pids if pid != control]


def has_open(pid: int, path: Path) -> bool:
    """Return whether a process has a file open."""
    with contextlib.suppress(OSError):
        return any(descriptor.resolve() == path.resolve() for descriptor in Path(f"/proc/{pid}/fd").iterdir())
    return False


def cpu_s(pid: int) -> float:
    """Return the user and system time of a process, proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


def resident(pid: int) -> int:
    """Return the bytes of a process's resident set, proc(5)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Drill:
    """A play against a running service."""

    def __init__(self, service: Service, play: Play, tokens: Sequence[str], show: Show) -> None:
        self.service, self.settings = service, service.settings
        self.play, self.world = play, play.world
        self.show = show
        self.heads = [report_head(token) for token in tokens]
        self.clients, self.reporters, self.witnesses, self.monitor = Wires(), Wires(), Wires(), Wires()
        self.reports = self.reports_failed = self.requests = self.waiting = 0
        self.observed = itertools.count(1)
        self.alarms: list[str] = []
        self.suppressed = 0
        self.reasons: dict[str, int] = {}
        self.reflected_s: list[float] = []
        self.status = StatusWords(str(self.settings.state / Snapshot.map(self.settings.state).current.status))

    async def run(self) -> Figures:
        """Play all parts; return the cost."""
        await self.clients.open(self.service.url, CLIENTS)
        await self.witnesses.open(self.service.url, WITNESSES)
        await self.reporters.open(self.service.control_url, REPORTERS)
        await self.monitor.open(self.service.control_url, 1)
        control, workers = self.service.pids()
        gc.collect()
        gc.freeze()
        began, cpu = time.monotonic(), [cpu_s(pid) for pid in (control, *workers)]
        start = resident(control), sum(map(resident, workers))
        asking = asyncio.create_task(self.ask_control())
        try:
            await self.drive(began)
            lasted_s = time.monotonic() - began
            used = [after - before for after, before in zip(map(cpu_s, (control, *workers)), cpu, strict=True)]
            end = resident(control), sum(map(resident, workers))
        finally:
            asking.cancel()
            for wires in (self.clients, self.reporters, self.witnesses, self.monitor):
                wires.close()
        reflected = sorted(self.reflected_s)
        return Figures(
            reports=self.reports,
            reports_failed=self.reports_failed,
            reports_waiting=self.waiting,
            requests=self.requests,
            control_cpu=used[0] / lasted_s,
            workers_cpu=sum(used[1:]) / lasted_s,
            report_to_answer_p50_s=percentile(reflected, 0.5),
            report_to_answer_p99_s=percentile(reflected, 0.99),
            control_bytes=(start[0], end[0]),
            workers_bytes=(start[1], end[1]),
        )

    async def drive(self, began: float) -> None:
        """Do what is due, look once a second, and at the end measure the time from a report to the answers."""
        look_at = 0.0
        sampling: asyncio.Task[None] | None = None
        while sampling is None or not sampling.done():
            now = time.monotonic() - began
            due = self.play.advance(now)
            for number in due.reports:
                self.report(number)
            self.observe(due.observed)
            for asked in due.asked:
                self.ask(asked)
            if now >= look_at:
                self.play.look(self.status.word, self.alarms, self.suppressed, self.reasons)
                self.show("time from a report to the answers" if self.play.done else self.play.fault.name, now)
                self.waiting = max(self.waiting, self.reporters.waiting())
                look_at = now + LOOK_S
            if self.play.done and sampling is None:
                sampling = asyncio.create_task(self.sample())
            await asyncio.sleep(PACE_S)
        sampling.result()

    # ---- sending

    def report(self, number: int) -> None:
        self.reports += 1
        request = self.heads[number] + report_body(self.world.appliances[number].id, self.world.next_report(number))
        self.reporters.ask(request, self.reported)

    def reported(self, status: int, _: bytes) -> None:
        self.reports_failed += status != 200

    def observe(self, observed: Sequence[tuple[int, bool]]) -> None:
        for first in range(0, len(observed), BATCH):
            rows = [
                {"appliance": self.world.appliances[number].id, "boot": "monitor", "seq": next(self.observed)}
                | {"health": {"components": {"probe": "ok" if ok else "failed"}}}
                for number, ok in observed[first : first + BATCH]
            ]
            self.monitor.ask(self.heads[-1] + with_length(msgspec.json.encode(rows)), self.reported)

    def ask(self, asked: Request) -> None:
        self.requests += 1
        measure = self.play.measure

        def answered(status: int, body: bytes) -> None:
            if status == 200:
                self.play.answered(asked, body)
            else:
                measure.failed += 1

        self.clients.ask(request_of(asked), answered)

    # ---- measuring

    async def ask_control(self) -> None:
        """Read alarms and suppressed ejections from control, and reasons from the workers, every other second."""
        with RemoteControl(self.settings) as control:
            while True:
                overview = await asyncio.to_thread(control.overview, 1)
                self.alarms = [alarm["kind"] for alarm in overview["alarms"]]
                self.suppressed = overview["states"].get("suppressed", 0)
                _, metrics = await self.witnesses.ask_one(METRICS)
                self.reasons = reasons_in(metrics.decode())
                await asyncio.sleep(ASK_CONTROL_S)

    async def sample(self) -> None:
        """Let appliances report that they failed; measure how long workers go on naming them."""
        for asked in self.world.demand.panel[:SAMPLES]:
            first = self.play.named_before.get(asked.panel)
            if first is None:
                continue
            name = self.world.appliances[first].id.encode()
            self.world.failed.add(first)
            began = time.monotonic()
            body = report_body(self.world.appliances[first].id, self.world.next_report(first))
            await self.reporters.ask_one(self.heads[first] + body)
            while any(name in NAMED.findall(body) for _, body in await self.witnesses.ask_all(request_of(asked))):
                if time.monotonic() - began > PATIENCE_S:
                    break
            self.reflected_s.append(time.monotonic() - began)
            self.world.failed.discard(first)
            self.report(first)


def report_head(token: str) -> bytes:
    """Return the head of a request with a report, up to its length."""
    return (
        b"POST /v1/reports HTTP/1.1\r\nHost: drill\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer " + token.encode() + b"\r\nContent-Length: "
    )


def with_length(body: bytes) -> bytes:
    """Return the rest of a request after `report_head`: length and body."""
    return b"%d\r\n\r\n%b" % (len(body), body)


def report_body(name: str, report: Report) -> bytes:
    """Return the rest of a report's request after `report_head`."""
    assert report.health is not None
    health: dict[str, Any] = {field: getattr(report.health, field) for field in HEALTH_FIELDS}
    health["components"] = {"disk": report.health.state}
    row = {"appliance": name, "boot": report.boot, "seq": report.seq, "at": report.sent_at, "health": health}
    return with_length(msgspec.json.encode(row))


def request_of(asked: Request) -> bytes:
    """Return a client's request."""
    return f"GET /v1/steer?title={asked.title}&ip={asked.address}&n=3 HTTP/1.1\r\nHost: drill\r\n\r\n".encode()


def reasons_in(metrics: str) -> dict[str, int]:
    """Return by reason in how many requests workers passed an appliance over, from the text of /metrics."""
    return {letter: int(count) for letter, count in PASSED_OVER.findall(metrics)}


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """Return the percentile of sorted values (nearest rank), None without values."""
    return ordered[max(math.ceil(len(ordered) * share), 1) - 1] if ordered else None


def run(
    settings: Settings,
    ready: tuple[Fleet, Sequence[str]],
    plan: Plan,
    faults: Sequence[type[Fault]],
    show: Show,
    workers: int = 2,
) -> tuple[list[Row], Figures]:
    """Serve the prepared folder, and play; return the rows of all parts and the cost."""
    fleet, tokens = ready
    world = make_world(fleet, Snapshot.map(settings.state), plan, settings)
    play = Play(world, plan, faults, settings)
    with serving(settings, workers) as service, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        figures = runner.run(Drill(service, play, tokens, show).run())
    return play.rows, figures
