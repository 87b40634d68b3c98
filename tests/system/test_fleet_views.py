"""Views of the fleet in the API: states of appliances and clusters, the overview, alarms, the live stream."""

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
def service(settings: Settings, fleet: Fleet) -> Iterator[ControlApp]:
    other = Partner("as64511", "Another ISP", "GB", (64511,))
    clusters = tuple(
        dataclasses.replace(item, partner="as64511", route_class=fleet.clusters[0].route_class, countries=())
        if item.id == "lhr001-a"
        else item
        for item in fleet.clusters
    )
    with running_control_app(settings) as actual:
        two = dataclasses.replace(fleet, partners=(*fleet.partners, other), clusters=clusters)
        actual.thread.submit(actual.control.fleet.replace, two, "test").result()
        yield actual


def report(service: ControlApp, name: str, state: str = "ok", why: str = "") -> None:
    """Let an appliance report, and the pulse beat."""
    health = Health(state, why, throughput_gbps=40.0, headroom_gbps=60.0)
    seq = int(time.monotonic_ns())
    service.control.registry.report(name, Report("boot", seq, None, health))
    service.in_loop(service.control.registry.tick)


def drain(service: ControlApp, *names: str) -> None:
    service.thread.submit(service.control.overrides.drain, names, "ann").result()
    service.in_loop(service.control.registry.tick)


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


def test_an_appliance_is_shown_with_its_state_and_since_when_and_why(service: ControlApp) -> None:
    drain(service, "c001-bom001")
    report(service, "c002-bom001", "failed", "disk sdb")
    with service.client(service.make_token("ops")) as ops:
        rows = {row["id"]: row["state"] for row in ops.get("/v1/appliances").json()["appliances"]}
        assert (rows["c001-bom001"]["state"], rows["c001-bom001"]["why"]) == ("drained", "ann")
        assert (rows["c002-bom001"]["state"], rows["c002-bom001"]["why"]) == ("unhealthy", "disk sdb")
        assert rows["c002-bom001"]["health_source"] == "reported"
        assert rows["c001-bom002"]["state"] == "serving"
        assert all(time.time() - 60 < state["since"] < time.time() + 60 for state in rows.values())
        assert ops.get("/v1/appliances/c001-bom001").json()["state"] == rows["c001-bom001"]


def test_a_cluster_is_shown_with_how_many_are_in_which_state_and_what_they_weigh(service: ControlApp) -> None:
    drain(service, "c001-bom001")
    with service.client(service.make_token("ops")) as ops:
        state = ops.get("/v1/clusters/bom001-a").json()["state"]
        assert (state["appliances"], state["states"], state["weight"]) == (2, {"drained": 1, "serving": 1}, 1000)
        listed = {row["id"]: row["state"] for row in ops.get("/v1/clusters").json()["clusters"]}
        assert listed["bom001-a"] == state
        assert "state" not in ops.get("/v1/sites/bom001").json()


def test_a_state_is_no_part_of_the_object_what_was_read_can_be_put_back(service: ControlApp) -> None:
    with service.client(service.make_token("ops")) as ops:
        for kind, name, change in (
            ("appliances", "c001-bom001", {"capacity_gbps": 50}),
            ("clusters", "bom001-a", {"accepts_off_net": True}),
        ):
            path = f"/v1/{kind}/{name}"
            before = ops.get(path)
            drain(service, "c001-bom001")
            again = ops.get(path)
            assert again.headers["etag"] == before.headers["etag"]
            assert again.json()["state"] != before.json()["state"]
            put = ops.put(path, json=before.json() | change, headers={"if-match": before.headers["etag"]})
            assert put.status_code == 200, put.text
            assert put.headers["etag"] != before.headers["etag"]
            stated = put.json()["state"]
            assert (stated.get("state") == "drained") or stated["states"] == {"drained": 1, "serving": 1}
            service.thread.submit(service.control.overrides.enable, ["c001-bom001"], "ann").result()
        site = ops.get("/v1/sites/bom001")
        refused = ops.put(site.url.path, json=site.json() | {"state": {}}, headers={"if-match": site.headers["etag"]})
        assert refused.status_code == 422
        assert "state" not in ops.get("/v1/fleet").text


# ---- overview and alarms


def test_the_overview_counts_all_and_names_the_worst_first(service: ControlApp, settings: Settings) -> None:
    drain(service, "c001-del001")
    report(service, "c001-bom001", "failed", "disk")
    report(service, "c001-bom002", "failed", "disk")
    report(service, "c002-bom002", "failed", "power")
    with RemoteControl(settings) as remote:
        actual = remote.overview()
    assert (actual["appliances"], actual["clusters"]) == (8, 4)
    assert actual["states"] == {"unhealthy": 3, "drained": 1, "serving": 4}
    assert [row["cluster"] for row in actual["worst"]] == ["bom002-a", "bom001-a"]
    assert (actual["clusters_hurt"], actual["clusters_down"]) == (2, 1)
    assert (actual["worst"][0]["city"], actual["worst"][0]["states"]) == ("Mumbai", {"unhealthy": 2})
    assert actual["capacity_gbps"] == 800
    assert actual["throughput_gbps"] == 120
    assert [row["appliance"] for row in actual["changes"]] == [
        "c002-bom002",
        "c001-bom002",
        "c001-bom001",
        "c001-del001",
    ]
    assert [(row["kind"], row["subject"]) for row in actual["alarms"]] == [("cluster_down", "bom002-a")]
    with RemoteControl(settings) as remote:
        less = remote.overview(1)
    assert [len(less[part]) for part in ("worst", "changes")] == [1, 1]


def test_clusters_short_of_room_follow_those_that_lost_appliances(service: ControlApp, settings: Settings) -> None:
    report(service, "c001-del001", "failed", "disk")
    for cluster, pressure in (("bom001-a", 60), ("bom002-a", 120)):
        for state in service.control.registry.clusters[cluster]:
            state.pressure = pressure
    with RemoteControl(settings) as remote:
        actual = remote.overview()
    assert [row["cluster"] for row in actual["worst"]] == ["del001-a", "bom002-a", "bom001-a"]
    assert (actual["clusters_hurt"], actual["clusters_pressed"], actual["clusters_down"]) == (3, 2, 0)


def test_alarms_are_listed_while_raised_and_for_a_while_after_each_partner_its_own(service: ControlApp) -> None:
    for name in ("c001-bom001", "c002-bom001"):
        report(service, name, "failed", "power")
    with (
        service.client(service.make_token("ops")) as ops,
        service.client(service.make_token("partner:as64500")) as own,
        service.client(service.make_token("partner:as64511")) as other,
    ):
        raised = ops.get("/v1/alarms").json()
        assert [(row["kind"], row["subject"], row["resolved"]) for row in raised] == [
            ("cluster_down", "bom001-a", False)
        ]
        assert own.get("/v1/alarms").json() == raised
        assert other.get("/v1/alarms").json() == []
        report(service, "c001-bom001")
        assert ops.get("/v1/alarms").json() == []
        assert [row["resolved"] for row in own.get("/v1/alarms", params={"resolved": True}).json()] == [True]
        assert other.get("/v1/alarms", params={"resolved": True}).json() == []


def test_what_is_live_is_asked_of_a_running_control_alone(settings: Settings) -> None:
    with pytest.raises(SettingsError, match="no control process answers"):
        running_control(settings)
    with running_control_app(settings), running_control(settings) as remote:
        assert remote.alarms() == []


# ---- the stream


def test_changes_and_alarms_come_as_they_happen_each_role_its_own(service: ControlApp) -> None:
    with contextlib.ExitStack() as closing:
        streams = {
            role: closing.enter_context(listening(closing.enter_context(service.client(service.make_token(role)))))
            for role in ("ops", "partner:as64500", "partner:as64511", "appliance:c002-bom001")
        }
        drain(service, "c001-lhr001")
        for name in ("c001-bom001", "c002-bom001"):
            report(service, name, "failed", "power")
        drain(service, "c002-lhr001")

        def received(role: str, count: int) -> list[tuple[str, str]]:
            actual = [next(streams[role]) for _ in range(count)]
            return [(kind, data.get("appliance") or data["subject"]) for _, kind, data in actual]

        first, last = ("state", "c001-lhr001"), ("state", "c002-lhr001")
        own = [("state", "c001-bom001"), ("state", "c002-bom001"), ("alarm", "bom001-a")]
        assert received("ops", 5) == [first, *own, last]
        assert received("partner:as64500", 3) == own
        assert received("partner:as64511", 2) == [first, last]
        assert received("appliance:c002-bom001", 1) == own[1:2]


def test_the_text_of_a_change(service: ControlApp) -> None:
    with service.client(service.make_token("ops")) as ops, listening(ops) as stream:
        report(service, "c001-bom001", "failed", "disk sdb")
        event_id, kind, data = next(stream)
    assert (kind, event_id) == ("state", f"{service.app.state.hub.boot}-1")
    assert data.keys() == {"at", "appliance", "before", "after", "why"}
    assert (data["before"], data["after"], data["why"]) == ("serving", "unhealthy", "disk sdb")


def test_who_comes_back_with_its_last_id_has_missed_nothing(service: ControlApp) -> None:
    with service.client(service.make_token("ops")) as ops:
        with listening(ops) as stream:
            drain(service, "c001-bom001")
            last, _, _ = next(stream)
        drain(service, "c002-bom001")
        drain(service, "c001-del001")
        with listening(ops, last) as stream:
            assert [next(stream)[2]["appliance"] for _ in range(2)] == ["c002-bom001", "c001-del001"]
        with listening(ops, "another-1") as stream:
            assert next(stream)[1] == "missed"


def test_a_listener_leaves_when_its_connection_does(service: ControlApp) -> None:
    hub = service.app.state.hub
    with service.client(service.make_token("ops")) as ops, listening(ops):
        until(lambda: len(hub.listeners) == 1)
    until(lambda: not hub.listeners)


def test_a_listener_beyond_the_limit_is_refused_with_the_reason(service: ControlApp) -> None:
    service.app.state.hub.most = 1
    with (
        service.client(service.make_token("ops")) as ops,
        listening(ops),
        service.client(service.make_token("ops")) as other,
    ):
        refused = other.get("/v1/events")
        assert (refused.status_code, refused.headers["content-type"]) == (503, "application/problem+json")


def test_a_token_that_is_revoked_hears_no_more(service: ControlApp) -> None:
    with service.client(service.make_token("ops")) as ops, listening(ops) as stream:
        drain(service, "c001-bom001")
        assert next(stream)[1] == "state"
        service.thread.submit(service.control.tokens.revoke, 1, "ann").result()
        drain(service, "c002-bom001")
        assert list(stream) == []


def test_a_slow_reader_is_dropped_and_one_that_never_reads_is_cut_off(
    service: ControlApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_events, "SEND_S", 0.3)
    hub = service.app.state.hub
    token = service.make_token("ops")["authorization"]
    with (
        socket.create_connection(service.address, timeout=5) as never,
        service.client(service.make_token("ops")) as ops,
    ):
        never.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        never.sendall(f"GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n\r\n".encode())
        with listening(ops) as stream:
            until(lambda: len(hub.listeners) == 2)

            def flood() -> None:
                for number in range(events.QUEUE // 2):
                    hub.publish("state", "appliances/c001-bom001", {"n": number, "why": "x" * 20_000})

            service.in_loop(flood)
            assert [next(stream)[2]["n"] for _ in range(events.QUEUE // 2)] == list(range(events.QUEUE // 2))
            until(lambda: len(hub.listeners) == 1)
            assert next(iter(hub.listeners)).ended is False


def test_the_end_of_control_ends_the_streams_with_a_reason(settings: Settings, fleet: Fleet) -> None:
    with contextlib.ExitStack() as closing:
        with running_control_app(settings) as service:
            client = closing.enter_context(service.client(service.make_token("ops")))
            stream = closing.enter_context(listening(client))
            until(lambda: len(service.app.state.hub.listeners) == 1)
        assert [kind for _, kind, _ in stream] == ["bye"]
