"""What was acknowledged is there after a kill -9 at any moment, and yesterday's state folder serves at once."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from steering.control.remote import RemoteControl, open_control
from steering.control.routes.feeds import FeedSource
from steering.control.services.control import Control
from steering.errors import SteeringError
from steering.model.fleet import Fleet
from steering.settings import read_settings
from steering.state.folder import SOCKET
from tests.support.processes import Served, is_running, publish_tiny_fleet, serving, until

DAY = 86_400.0


def kill_control(served: Served) -> None:
    (control,) = served.pids("control")
    os.kill(control, signal.SIGKILL)


def wait_for_control(served: Served) -> None:
    def answers() -> bool:
        with RemoteControl(served.settings) as remote:
            return remote.answers()

    until(answers)


def kill_all(served: Served) -> None:
    """Kill the whole service outright."""
    pids = [served.process.pid, *served.children()]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    served.process.wait()
    until(lambda: not any(is_running(pid) for pid in pids))


def asking(state: Path) -> httpx.Client:
    return httpx.Client(transport=httpx.HTTPTransport(uds=str(state / SOCKET)), base_url="http://control", timeout=20)


def override(client: httpx.Client) -> httpx.Response:
    return client.post("/v1/overrides", json={"appliances": ["c001-bom001"], "enabled": False})


def window(client: httpx.Client) -> httpx.Response:
    body = {"kind": "site", "subject": "lhr001", "ends_at": time.time() + DAY, "why": "new disks"}
    return client.post("/v1/windows", json=body)


def token(client: httpx.Client) -> httpx.Response:
    return client.post("/v1/tokens", json={"role": "ops", "name": "ci"})


def put(client: httpx.Client) -> httpx.Response:
    row = {"country": "IN", "city": "Chennai", "latitude": 13, "longitude": 80}
    return client.put("/v1/sites/maa001", json=row, headers={"if-none-match": "*"})


def revoke(client: httpx.Client) -> httpx.Response:
    return client.delete("/v1/tokens/1")


def has_override(control: Control) -> bool:
    return [(row["appliance"], row["enabled"]) for row in control.overrides.list()] == [("c001-bom001", False)]


CHANGES: list[tuple[Callable[[httpx.Client], httpx.Response], Callable[[Control], bool], str]] = [
    (override, has_override, "override"),
    (
        window,
        lambda control: [(row["subject"], row["state"]) for row in control.maintenance.list()] == [("lhr001", "on")],
        "add window",
    ),
    (token, lambda control: [row["name"] for row in control.tokens.list()] == ["ci"], "make token"),
    (put, lambda control: any(site.id == "maa001" for site in control.fleet.current().sites), "put"),
    (revoke, lambda control: not any(row["good"] for row in control.tokens.list()), "revoke token"),
]


def test_whatever_was_answered_is_on_record_after_a_kill_right_after_the_answer(served: Served) -> None:
    for change, _, _ in CHANGES:
        with asking(served.state) as client:
            assert change(client).is_success
            kill_control(served)
        wait_for_control(served)
    assert "c001-bom001" not in served.steer()["targets"][0]["appliance"]
    kill_all(served)
    with open_control(served.settings) as control:  # threads of the killed may hold the lock a little longer
        assert isinstance(control, Control)
        for change, is_there, _ in CHANGES:
            assert is_there(control), change.__name__
        noted = [entry["what"] for entry in reversed(control.audit.list())]
        assert noted[-len(CHANGES) :] == [what for _, _, what in CHANGES]


def test_a_kill_of_the_whole_service_right_after_the_answer_loses_nothing_either(tmp_path: Path, fleet: Fleet) -> None:
    state = publish_tiny_fleet(tmp_path, fleet)
    for change, is_there, _ in CHANGES:
        with serving(state) as served, asking(state) as client:
            assert change(client).is_success
            kill_all(served)
        with open_control(read_settings(state=state)) as control:
            assert isinstance(control, Control)
            assert is_there(control), change.__name__


def test_in_a_storm_of_overrides_no_acknowledged_one_is_lost_whenever_control_is_killed(served: Served) -> None:
    """The weight on record is never behind the last that was answered, nor ahead of the last that was sent."""
    chance = random.Random(5)
    for _ in range(4):
        sent, acknowledged, stop = [0], [0], threading.Event()

        def storm(sent: list[int] = sent, acknowledged: list[int] = acknowledged, stop: Any = stop) -> None:
            try:
                with RemoteControl(served.settings) as remote:
                    while not stop.is_set():
                        sent[0] += 1
                        remote.overrides.weight(["c001-bom001"], sent[0], "test")
                        acknowledged[0] = sent[0]
            except SteeringError:
                pass  # it was killed: what was not answered may be there or not

        storming = threading.Thread(target=storm)
        storming.start()
        until(lambda acknowledged=acknowledged: acknowledged[0] > 3)  # type: ignore[misc]
        time.sleep(chance.uniform(0, 0.05))
        kill_control(served)
        storming.join(20)
        stop.set()
        wait_for_control(served)
        with asking(served.state) as client:
            (row,) = client.get("/v1/overrides").json()
        assert acknowledged[0] <= row["weight"] <= sent[0]


def test_yesterdays_state_folder_serves_at_once_as_it_was_left(tmp_path: Path, fleet: Fleet) -> None:
    """Its feed is gone, nothing is read or built; windows that ended since are over, others still hold."""
    state, feed = tmp_path / "state", tmp_path / "routes.csv"
    feed.write_text("prefix,cluster\n203.0.113.0/24,bom001-a\n")
    now = time.time()
    with Control(read_settings(state=state), clock=lambda: now - DAY) as control:
        control.fleet.replace(fleet, "test")
        control.tables.publish([FeedSource("csv", str(feed))], "test")
        control.overrides.drain(["c001-bom001"], "test")
        control.maintenance.add("appliance", "c002-bom001", None, now + DAY, "test", "still on")
        control.maintenance.add("site", "bom002", None, now - DAY / 2, "test", "over by now")
    feed.unlink()
    for path in state.iterdir():
        os.utime(path, (now - DAY, now - DAY))
    began = time.monotonic()
    with serving(state) as served:
        answer = served.steer(n=8)
        took = time.monotonic() - began
        picked = {target.get("appliance") for target in answer["targets"]}
        assert answer["table"] == 1
        assert not picked & {"c001-bom001", "c002-bom001"}
        until(lambda: "bom002" in str(served.steer(n=8)["targets"]))
        assert took < 15  # two processes and their imports; a publish of the Internet would be more than that
        wait_for_control(served)
        with RemoteControl(served.settings) as remote:
            assert len(remote.tables.list()) == 1
            assert [row["subject"] for row in remote.maintenance.list()] == ["c002-bom001"]


@pytest.mark.parametrize("lost", ["steering.db-shm", "control.sock", "lock", "worker.1"])
def test_what_a_killed_service_leaves_or_loses_does_not_keep_the_next_from_serving(
    tmp_path: Path, fleet: Fleet, lost: str
) -> None:
    state = publish_tiny_fleet(tmp_path, fleet)
    with serving(state) as served, asking(state) as client:
        answer = served.steer()
        assert override(client).is_success
        kill_all(served)
    (state / lost).unlink(missing_ok=True)
    with serving(state) as served:
        assert served.steer(n=8)["table"] == answer["table"]
        assert all(target.get("appliance") != "c001-bom001" for target in served.steer(n=8)["targets"])
