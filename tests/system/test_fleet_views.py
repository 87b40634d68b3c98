"""What can be seen of the fleet at the door: states of appliances and clusters, the overview, alarms, the live stream."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from steering.control.api import events as api_events
from steering.control.health.rules import Health, Report
from steering.control.remote import RemoteControl, running_control
from steering.control.services import events
from steering.errors import SettingsError
from steering.model.fleet import Fleet, Partner
from steering.settings import Settings
from tests.support.control_app import ControlApp, running_control_app
from tests.support.processes import until


@pytest.fixture
def door(settings: Settings, fleet: Fleet) -> Iterator[ControlApp]:
    other = Partner("as64511", "Another ISP", "GB", (64511,))
    clusters = tuple(
        dataclasses.replace(item, partner="as64511", route_class=fleet.clusters[0].route_class, countries=())
        if item.id == "lhr001-a"
        else item
        for item in fleet.clusters
    )
    with running_control_app(settings) as found:
        two = dataclasses.replace(fleet, partners=(*fleet.partners, other), clusters=clusters)
        found.thread.submit(found.control.fleet.replace, two, "test").result()
        yield found


def report(door: ControlApp, name: str, state: str = "ok", why: str = "") -> None:
    """Let an appliance report, and the pulse beat."""
    health = Health(state, why, throughput_gbps=40.0, headroom_gbps=60.0)
    seq = int(time.monotonic_ns())
    door.control.registry.report(name, Report("boot", seq, None, health))
    door.in_loop(door.control.registry.tick)


def drain(door: ControlApp, *names: str) -> None:
    door.thread.submit(door.control.overrides.drain, names, "ann").result()
    door.in_loop(door.control.registry.tick)


@contextlib.contextmanager
def listening(client: httpx.Client, last_id: str = "") -> Iterator[Iterator[tuple[str, str, Any]]]:
    """Give an iterator of (id, kind, data) of a stream."""
    headers = {"last-event-id": last_id} if last_id else {}
    with client.stream("GET", "/v1/events", headers=headers) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"

        def read() -> Iterator[tuple[str, str, Any]]:
            fields: dict[str, str] = {}
            for line in answer.iter_lines():
                if line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                else:
                    if "event" in fields:
                        yield fields.get("id", ""), fields["event"], json.loads(fields["data"])
                    fields = {}

        yield read()


# ---- states


def test_an_appliance_is_shown_with_its_state_and_since_when_and_why(door: ControlApp) -> None:
    drain(door, "c001-bom001")
    report(door, "c002-bom001", "failed", "disk sdb")
    with door.client(door.make_token("ops")) as ops:
        rows = {row["id"]: row["state"] for row in ops.get("/v1/appliances").json()["appliances"]}
        assert (rows["c001-bom001"]["state"], rows["c001-bom001"]["why"]) == ("drained", "ann")
        assert (rows["c002-bom001"]["state"], rows["c002-bom001"]["why"]) == ("unhealthy", "disk sdb")
        assert rows["c002-bom001"]["health_source"] == "reported"
        assert rows["c001-bom002"]["state"] == "serving"
        assert all(time.time() - 60 < state["since"] < time.time() + 60 for state in rows.values())
        assert ops.get("/v1/appliances/c001-bom001").json()["state"] == rows["c001-bom001"]


def test_a_cluster_is_shown_with_how_many_are_in_which_state_and_what_they_weigh(door: ControlApp) -> None:
    drain(door, "c001-bom001")
    with door.client(door.make_token("ops")) as ops:
        state = ops.get("/v1/clusters/bom001-a").json()["state"]
        assert (state["appliances"], state["states"], state["weight"]) == (2, {"drained": 1, "serving": 1}, 1000)
        listed = {row["id"]: row["state"] for row in ops.get("/v1/clusters").json()["clusters"]}
        assert listed["bom001-a"] == state
        assert "state" not in ops.get("/v1/sites/bom001").json()


def test_a_state_is_no_part_of_the_object_what_was_read_can_be_put_back(door: ControlApp) -> None:
    with door.client(door.make_token("ops")) as ops:
        for kind, name, change in (
            ("appliances", "c001-bom001", {"capacity_gbps": 50}),
            ("clusters", "bom001-a", {"accepts_off_net": True}),
        ):
            path = f"/v1/{kind}/{name}"
            before = ops.get(path)
            drain(door, "c001-bom001")
            again = ops.get(path)
            assert again.headers["etag"] == before.headers["etag"]
            assert again.json()["state"] != before.json()["state"]
            put = ops.put(path, json=before.json() | change, headers={"if-match": before.headers["etag"]})
            assert put.status_code == 200, put.text
            assert put.headers["etag"] != before.headers["etag"]
            stated = put.json()["state"]
            assert (stated.get("state") == "drained") or stated["states"] == {"drained": 1, "serving": 1}
            door.thread.submit(door.control.overrides.enable, ["c001-bom001"], "ann").result()
        site = ops.get("/v1/sites/bom001")
        refused = ops.put(site.url.path, json=site.json() | {"state": {}}, headers={"if-match": site.headers["etag"]})
        assert refused.status_code == 422
        assert "state" not in ops.get("/v1/fleet").text


# ---- overview and alarms


def test_the_overview_counts_all_and_names_the_worst_first(door: ControlApp, settings: Settings) -> None:
    drain(door, "c001-del001")
    report(door, "c001-bom001", "failed", "disk")
    report(door, "c001-bom002", "failed", "disk")
    report(door, "c002-bom002", "failed", "power")
    with RemoteControl(settings) as remote:
        found = remote.overview()
    assert (found["appliances"], found["clusters"]) == (8, 4)
    assert found["states"] == {"unhealthy": 3, "drained": 1, "serving": 4}
    assert [row["cluster"] for row in found["worst"]] == ["bom002-a", "bom001-a"]
    assert (found["clusters_hurt"], found["clusters_down"]) == (2, 1)
    assert (found["worst"][0]["city"], found["worst"][0]["states"]) == ("Mumbai", {"unhealthy": 2})
    assert found["capacity_gbps"] == 800
    assert found["throughput_gbps"] == 120
    assert [row["appliance"] for row in found["changes"]] == [
        "c002-bom002",
        "c001-bom002",
        "c001-bom001",
        "c001-del001",
    ]
    assert [(row["kind"], row["subject"]) for row in found["alarms"]] == [("cluster_down", "bom002-a")]
    with RemoteControl(settings) as remote:
        less = remote.overview(1)
    assert [len(less[part]) for part in ("worst", "changes")] == [1, 1]


def test_alarms_are_listed_while_raised_and_for_a_while_after_each_partner_its_own(door: ControlApp) -> None:
    for name in ("c001-bom001", "c002-bom001"):
        report(door, name, "failed", "power")
    with (
        door.client(door.make_token("ops")) as ops,
        door.client(door.make_token("partner:as64500")) as own,
        door.client(door.make_token("partner:as64511")) as other,
    ):
        raised = ops.get("/v1/alarms").json()
        assert [(row["kind"], row["subject"], row["resolved"]) for row in raised] == [
            ("cluster_down", "bom001-a", False)
        ]
        assert own.get("/v1/alarms").json() == raised
        assert other.get("/v1/alarms").json() == []
        report(door, "c001-bom001")
        assert ops.get("/v1/alarms").json() == []
        assert [row["resolved"] for row in own.get("/v1/alarms", params={"resolved": True}).json()] == [True]
        assert other.get("/v1/alarms", params={"resolved": True}).json() == []


def test_what_is_live_is_asked_of_a_running_control_alone(settings: Settings) -> None:
    with pytest.raises(SettingsError, match="no control process answers"):
        running_control(settings)
    with running_control_app(settings), running_control(settings) as remote:
        assert remote.alarms() == []


# ---- the stream


def test_changes_and_alarms_come_as_they_happen_each_role_its_own(door: ControlApp) -> None:
    with contextlib.ExitStack() as closing:
        streams = {
            role: closing.enter_context(listening(closing.enter_context(door.client(door.make_token(role)))))
            for role in ("ops", "partner:as64500", "partner:as64511", "appliance:c002-bom001")
        }
        drain(door, "c001-lhr001")
        for name in ("c001-bom001", "c002-bom001"):
            report(door, name, "failed", "power")
        drain(door, "c002-lhr001")

        def told(role: str, count: int) -> list[tuple[str, str]]:
            found = [next(streams[role]) for _ in range(count)]
            return [(kind, data.get("appliance") or data["subject"]) for _, kind, data in found]

        first, last = ("state", "c001-lhr001"), ("state", "c002-lhr001")
        own = [("state", "c001-bom001"), ("state", "c002-bom001"), ("alarm", "bom001-a")]
        assert told("ops", 5) == [first, *own, last]
        assert told("partner:as64500", 3) == own
        assert told("partner:as64511", 2) == [first, last]
        assert told("appliance:c002-bom001", 1) == own[1:2]


def test_what_a_change_says(door: ControlApp) -> None:
    with door.client(door.make_token("ops")) as ops, listening(ops) as stream:
        report(door, "c001-bom001", "failed", "disk sdb")
        event_id, kind, data = next(stream)
    assert (kind, event_id) == ("state", f"{door.app.state.hub.boot}-1")
    assert data.keys() == {"at", "appliance", "before", "after", "why"}
    assert (data["before"], data["after"], data["why"]) == ("serving", "unhealthy", "disk sdb")


def test_who_comes_back_with_its_last_id_has_missed_nothing(door: ControlApp) -> None:
    with door.client(door.make_token("ops")) as ops:
        with listening(ops) as stream:
            drain(door, "c001-bom001")
            last, _, _ = next(stream)
        drain(door, "c002-bom001")
        drain(door, "c001-del001")
        with listening(ops, last) as stream:
            assert [next(stream)[2]["appliance"] for _ in range(2)] == ["c002-bom001", "c001-del001"]
        with listening(ops, "another-1") as stream:
            assert next(stream)[1] == "missed"


def test_a_listener_leaves_when_its_connection_does(door: ControlApp) -> None:
    hub = door.app.state.hub
    with door.client(door.make_token("ops")) as ops, listening(ops):
        until(lambda: len(hub.listeners) == 1)
    until(lambda: not hub.listeners)


def test_one_too_many_is_told_so(door: ControlApp) -> None:
    door.app.state.hub.most = 1
    with door.client(door.make_token("ops")) as ops, listening(ops), door.client(door.make_token("ops")) as other:
        refused = other.get("/v1/events")
        assert (refused.status_code, refused.headers["content-type"]) == (503, "application/problem+json")


def test_a_token_that_is_revoked_hears_no_more(door: ControlApp) -> None:
    with door.client(door.make_token("ops")) as ops, listening(ops) as stream:
        drain(door, "c001-bom001")
        assert next(stream)[1] == "state"
        door.thread.submit(door.control.tokens.revoke, 1, "ann").result()
        drain(door, "c002-bom001")
        assert list(stream) == []


def test_a_slow_reader_is_dropped_and_one_that_never_reads_is_cut_off(
    door: ControlApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_events, "SEND_S", 0.3)
    hub = door.app.state.hub
    token = door.make_token("ops")["authorization"]
    with socket.create_connection(door.address, timeout=5) as never, door.client(door.make_token("ops")) as ops:
        never.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        never.sendall(f"GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n\r\n".encode())
        with listening(ops) as stream:
            until(lambda: len(hub.listeners) == 2)

            def flood() -> None:
                for number in range(events.QUEUE // 2):
                    hub.publish("state", "appliances/c001-bom001", {"n": number, "why": "x" * 20_000})

            door.in_loop(flood)
            assert [next(stream)[2]["n"] for _ in range(events.QUEUE // 2)] == list(range(events.QUEUE // 2))
            until(lambda: len(hub.listeners) == 1)
            assert next(iter(hub.listeners)).ended is False


def test_the_end_of_control_ends_the_streams_and_says_so(settings: Settings, fleet: Fleet) -> None:
    with contextlib.ExitStack() as closing:
        with running_control_app(settings) as door:
            client = closing.enter_context(door.client(door.make_token("ops")))
            stream = closing.enter_context(listening(client))
            until(lambda: len(door.app.state.hub.listeners) == 1)
        assert [kind for _, kind, _ in stream] == ["bye"]
