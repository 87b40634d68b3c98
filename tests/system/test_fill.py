"""A title from a plays feed to players: real control, real agents, real nginx on loopback."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from steering.control.fill import tiers
from steering.control.fill.holdings import ids_of
from steering.control.routes.feeds import FeedSource
from steering.decision.snapshot import Snapshot
from steering.model.fleet import Fleet
from steering.settings import read_settings
from steering.state.current import read_current
from tests.support.control_app import ControlApp, running_control_app
from tests.support.fill_stage import FILL_SECRET, NGINX, PART, Content, Machine, free_ports, until
from tests.support.range_server import RangeServer, serving_ranges

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")

NAMES = ("c001-bom001", "c002-bom001")
(FILL_PORT,) = free_ports(1)
VIEWER = "203.0.113.7"


@dataclasses.dataclass
class Stage:
    """Control over HTTP, an origin, and two appliances of one cluster."""

    app: ControlApp
    origin: RangeServer
    machines: list[Machine]
    state: Path
    ops: dict[str, str]

    def call(self, method: str, path: str, **more: Any) -> Any:
        with self.app.client(self.ops) as client:
            answer = client.request(method, path, **more)
            assert answer.is_success, answer.text
            return answer.json()

    def bring(self, name: str, content: Content) -> None:
        """Do what a service owner does: the files at the origin, the recipe and the title in the catalogue."""
        self.origin.files |= {f"/v/{name}/{path}": data for path, data in content.files.items()}
        self.call("PUT", f"/v1/catalogue/video/{content.recipe}", content=content.document)
        rows = f"title,bytes,recipe\n{name},{content.bytes},{content.recipe}\n"
        self.call("PUT", "/v1/catalogue/video", content=rows.encode())

    def plan(self, day: str, **plays: int) -> dict[str, Any]:
        rows = "".join(f"{day},IN,{title},{count}\n" for title, count in plays.items())
        self.call("POST", "/v1/fill/plays/video", content=f"day,area,title,plays\n{rows}".encode())
        report: dict[str, Any] = self.call("POST", "/v1/fill/plans", json={"force": "a test"})
        return report

    def held(self, machine: Machine) -> set[str]:
        intake = self.app.control.intake
        return set(ids_of(intake, intake.member_of[machine.name], "video"))

    def hosts(self, title: str) -> list[str]:
        """Return the hosts that a viewer gets, after the holdings of now are published."""
        self.app.thread.submit(self.app.control.holdings.publish).result()
        snapshot = Snapshot.of(self.state, read_current(self.state))
        answer = json.loads(snapshot.steer(VIEWER, title, service="video", n=6))
        return [target["url"].split("/")[2] for target in answer["targets"]]

    def left_origin(self, path: str) -> int:
        """Return how many bytes of a file left the origin."""
        return sum(sent.bytes for sent in self.origin.sent if sent.path == path)


@pytest.fixture
def stage(tmp_path: Path, fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    monkeypatch.setattr(tiers, "RETRY_S", (1.0, 2.0))
    settings = read_settings(
        state=tmp_path / "state",
        fill_window="00:00-24:00",
        fill_s=1,
        remove_after_s=1,
        fill_port=FILL_PORT,
        fill_tls=False,
        report_s=1,
    )
    feed = tmp_path / "routes.csv"
    feed.write_text("prefix,cluster,as_path,med\n203.0.113.0/24,bom001-a,64500,0\n")
    with serving_ranges({}) as origin, running_control_app(settings) as app, contextlib.ExitStack() as stack:
        hosts = dict(zip(NAMES, ("127.0.0.21", "127.0.0.22"), strict=True))
        appliances = tuple(
            dataclasses.replace(item, addresses=(hosts[item.id],), disk_bytes=1 << 30) if item.id in hosts else item
            for item in fleet.appliances
        )
        service = dataclasses.replace(fleet.services[0], origin=f"http://{origin.host}/v", holdings="title")
        ours = dataclasses.replace(fleet, appliances=appliances, services=(service,))
        control, submit = app.control, app.thread.submit
        submit(control.fleet.replace, ours, "test").result()
        submit(control.tables.publish, [FeedSource("csv", str(feed))], "test", "first").result()
        submit(control.keys.make, "fill", "test", FILL_SECRET).result()
        machines = []
        for name, host in hosts.items():
            token = app.make_token(f"appliance:{name}")["authorization"].removeprefix("Bearer ")
            place = SimpleNamespace(host=app.url.removeprefix("http://"))
            machine = Machine(name, tmp_path, place, fill_listen=f"{host}:{FILL_PORT}")  # type: ignore[arg-type]
            (machine.home / "token").write_text(token)
            stack.enter_context(machine.nginx())
            machines.append(machine)
        yield Stage(app, origin, machines, tmp_path / "state", app.make_token("ops"))


HIT = Content(1, {"master.m3u8": 900, "v/seg1.ts": 3 * PART + 5, "v/seg2.ts": PART})
OLD = Content(2, {"master.m3u8": 500, "v/seg1.ts": PART + 1})


def test_a_title_goes_from_plays_to_both_appliances_and_leaves_the_origin_once(stage: Stage) -> None:
    first, second = stage.machines
    stage.bring("hit", HIT)
    stage.bring("old", OLD)
    report = stage.plan("2026-11-01", hit=900, old=100)
    assert report["no_recipe"] == 0
    assert report["gap"] < 0.05
    with first.agent_running(), second.agent_running():
        for machine in stage.machines:
            until(lambda machine=machine: stage.held(machine) >= {"hit"}, machine.agent)
            assert machine.serves("hit", HIT)
        until(lambda: stage.held(first) | stage.held(second) >= {"hit", "old"}, first.agent)
        assert set(stage.hosts("hit")) >= {f"{name}.cdn.example" for name in NAMES}
        until(lambda: stage.call("GET", "/v1/fill/status")["bytes_left"] == 0, first.agent)
        assert stage.left_origin("/v/hit/v/seg2.ts") == PART  # the other one fetched it from its peer
        peers = [machine.home / "access.log" for machine in stage.machines]
        assert any("/fill/video/" in log.read_text() for log in peers)


def test_a_removed_title_leaves_holdings_first_and_the_disk_later(stage: Stage) -> None:
    first, second = stage.machines
    stage.bring("hit", HIT)
    stage.bring("old", OLD)
    stage.plan("2026-11-01", hit=900, old=900)
    with first.agent_running(), second.agent_running():
        until(lambda: stage.held(first) >= {"hit", "old"}, first.agent)
        stage.call("DELETE", "/v1/catalogue/video/titles/old")
        stage.plan("2026-11-02", hit=900)
        until(lambda: stage.held(first) == {"hit"}, first.agent)
        assert first.get("old", "master.m3u8").status_code in (200, 404)
        until(lambda: first.get("old", "master.m3u8").status_code == 404, first.agent)
        assert first.serves("hit", HIT)


def test_a_new_recipe_replaces_the_old_one_without_a_404(stage: Stage) -> None:
    first, second = stage.machines
    stage.bring("hit", OLD)
    stage.plan("2026-11-01", hit=900)
    with first.agent_running(), second.agent_running():
        until(lambda: stage.held(first) == stage.held(second) == {"hit"}, first.agent)
        stage.bring("hit", HIT)  # the origin has only the new files from here on
        stage.plan("2026-11-02", hit=900)
        statuses = set()
        began = time.monotonic()
        while first.get("hit", "master.m3u8").content != HIT.files["master.m3u8"]:
            statuses.add(first.get("hit", "master.m3u8").status_code)
            assert time.monotonic() - began < 90, json.dumps(sorted(statuses))
        assert statuses <= {200}
        assert first.serves("hit", HIT)


def test_another_appliances_manifest_is_refused(stage: Stage) -> None:
    stage.bring("hit", HIT)
    stage.plan("2026-11-01", hit=1)
    with stage.app.client(stage.app.make_token("appliance:c001-bom001")) as client:
        assert client.get("/v1/fill/manifest").status_code == 200
        assert client.get("/v1/fill/manifest?appliance=c002-bom001").status_code == 403
        assert client.get("/v1/fill/manifest?have=nonsense").status_code == 400
        assert client.post("/v1/fill/plans", json={}).status_code == 403
        assert client.get(f"/v1/catalogue/video/{HIT.recipe}").content == HIT.document
