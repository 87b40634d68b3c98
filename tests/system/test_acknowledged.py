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

from steering.control.remote import RemoteWriter, open_writer
from steering.control.routes.feeds import FeedSource
from steering.control.services.writer import Writer
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
        with RemoteWriter(served.settings) as remote:
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


def has_override(writer: Writer) -> bool:
    return [(row["appliance"], row["enabled"]) for row in writer.wished()] == [("c001-bom001", False)]


CHANGES: list[tuple[Callable[[httpx.Client], httpx.Response], Callable[[Writer], bool], str]] = [
    (override, has_override, "override"),
    (
        window,
        lambda writer: [(row["subject"], row["state"]) for row in writer.windows()] == [("lhr001", "on")],
        "add window",
    ),
    (token, lambda writer: [row["name"] for row in writer.list_tokens()] == ["ci"], "make token"),
    (put, lambda writer: any(site.id == "maa001" for site in writer.fleet().sites), "put"),
    (revoke, lambda writer: not any(row["good"] for row in writer.list_tokens()), "revoke token"),
]


def test_whatever_was_answered_is_on_record_after_a_kill_right_after_the_answer(served: Served) -> None:
    for change, _, _ in CHANGES:
        with asking(served.state) as client:
            assert change(client).is_success
            kill_control(served)
        wait_for_control(served)
    assert "c001-bom001" not in served.steer()["targets"][0]["appliance"]
    kill_all(served)
    with open_writer(served.settings) as writer:  # threads of the killed may hold the lock a little longer
        assert isinstance(writer, Writer)
        for change, is_there, _ in CHANGES:
            assert is_there(writer), change.__name__
        noted = [entry["what"] for entry in reversed(writer.audit())]
        assert noted[-len(CHANGES) :] == [what for _, _, what in CHANGES]


def test_a_kill_of_the_whole_service_right_after_the_answer_loses_nothing_either(tmp_path: Path, fleet: Fleet) -> None:
    state = publish_tiny_fleet(tmp_path, fleet)
    for change, is_there, _ in CHANGES:
        with serving(state) as served, asking(state) as client:
            assert change(client).is_success
            kill_all(served)
        with open_writer(read_settings(state=state)) as writer:
            assert isinstance(writer, Writer)
            assert is_there(writer), change.__name__


def test_in_a_storm_of_overrides_no_acknowledged_one_is_lost_whenever_control_is_killed(served: Served) -> None:
    """The weight on record is never behind the last that was answered, nor ahead of the last that was sent."""
    chance = random.Random(5)
    for _ in range(4):
        sent, acknowledged, stop = [0], [0], threading.Event()

        def storm(sent: list[int] = sent, acknowledged: list[int] = acknowledged, stop: Any = stop) -> None:
            try:
                with RemoteWriter(served.settings) as remote:
                    while not stop.is_set():
                        sent[0] += 1
                        remote.weight(["c001-bom001"], sent[0], "test")
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
    with Writer(read_settings(state=state), clock=lambda: now - DAY) as writer:
        writer.import_fleet(fleet, "test")
        writer.publish([FeedSource("csv", str(feed))], "test")
        writer.drain(["c001-bom001"], "test")
        writer.add_window("appliance", "c002-bom001", None, now + DAY, "test", "still on")
        writer.add_window("site", "bom002", None, now - DAY / 2, "test", "over by now")
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
        with RemoteWriter(served.settings) as remote:
            assert len(remote.tables()) == 1
            assert [row["subject"] for row in remote.windows()] == ["c002-bom001"]


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
