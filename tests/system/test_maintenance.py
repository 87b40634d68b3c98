"""Maintenance windows through the control and the API: on record, in the audit log, each partner its own."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from _fastpath.status_words import DISABLED
from steering.control.health.presenter import describe
from steering.control.health.registry import StateChange
from steering.control.health.windows import MOST_OPEN
from steering.control.remote import RemoteControl
from steering.control.services.control import Control
from steering.control.services.events import Hub, follow
from steering.errors import RequestError
from steering.model.fleet import Appliance, Cluster, Fleet, Partner
from steering.model.route import RouteClass
from steering.settings import Settings
from tests.support.control_app import ControlApp, running_control_app
from tests.support.control_fixtures import Clock

HOUR, DAY = 3600.0, 86_400.0
NOW = 1_750_000_000.0


@pytest.fixture
def app(settings: Settings, fleet: Fleet) -> Iterator[ControlApp]:
    """The tiny fleet, and beside its first site's cluster one of another partner."""
    shared = dataclasses.replace(
        fleet,
        partners=(*fleet.partners, Partner("as64511", "Another ISP", "GB", (64511,))),
        clusters=(*fleet.clusters, Cluster("bom001-z", "bom001", RouteClass.private, "as64511")),
        appliances=(*fleet.appliances, Appliance("c009-bom001", "bom001-z", "c009-bom001.example", 100)),
    )
    with running_control_app(settings) as actual:
        actual.thread.submit(actual.control.fleet.replace, shared, "test").result()
        yield actual


@pytest.fixture
def clocked(control: Control, clock: Clock, fleet: Fleet) -> Control:
    """Return a control at a time that a test may set."""
    control.fleet.replace(fleet, "test")
    clock.now = NOW
    return control


def tick(control: Control) -> None:
    """Do what the pulse does."""
    control.registry.tick(maintenance=control.maintenance.covered())


def ask(client: httpx.Client, **change: Any) -> httpx.Response:
    body = {"kind": "cluster", "subject": "bom001-a", "ends_at": time.time() + 6 * HOUR, "why": "new disks"} | change
    return client.post("/v1/windows", json=body)


def test_a_window_is_on_record_with_who_and_why_and_survives_a_restart(clocked: Control, settings: Settings) -> None:
    made = clocked.maintenance.add("site", "bom001", NOW + DAY, NOW + 2 * DAY, "ann", "new disks")
    assert (made["id"], made["state"], made["who"], made["why"]) == (1, "to come", "ann", "new disks")
    entry = clocked.audit.list(1)[0]
    assert (entry["who"], entry["what"], entry["subject"], entry["why"]) == (
        "ann",
        "add window",
        "site bom001",
        "new disks",
    )
    assert entry["after"] == made
    clocked.close()
    with Control(settings, clock=lambda: NOW + 1.5 * DAY) as again:
        assert [(row["id"], row["state"]) for row in again.maintenance.list()] == [(1, "on")]
        assert again.maintenance.open.keys() == {1}


def test_an_appliance_is_out_from_its_first_to_its_last_second_and_its_override_is_untouched(
    clocked: Control, clock: Clock
) -> None:
    clocked.maintenance.add("appliance", "c001-bom001", NOW + HOUR, NOW + 5 * HOUR, "ann", "new disks")
    slot = clocked.on_record.appliance("c001-bom001").slot
    out = []
    for at in (0, HOUR - 1, HOUR, 5 * HOUR - 1, 5 * HOUR):
        clock.now = NOW + at
        tick(clocked)
        out.append(bool(clocked.registry.status_words()[slot] & DISABLED))
        assert describe(clocked.registry, "c001-bom001")["state"] == ("maintenance" if out[-1] else "serving")
    assert out == [False, False, True, True, False]
    assert clocked.overrides.list() == []


def test_a_control_process_that_starts_inside_a_window_drains_from_the_first_moment(serving: Control) -> None:
    serving.maintenance.add("cluster", "bom001-a", None, serving.clock() + 5 * HOUR, "ann", "new disks")
    serving.close()
    with Control(serving.settings) as again:
        slots = [again.on_record.appliance(f"c00{n}-bom001").slot for n in (1, 2)]
        assert all(again.hand_over.status.word(slot) & DISABLED for slot in slots)
        changes: list[StateChange] = []
        again.registry.listen(changes.append)
        tick(again)
        assert changes == []


def test_a_window_that_is_over_leaves_who_was_drained_drained(clocked: Control, clock: Clock) -> None:
    clocked.overrides.drain(["c001-bom001"], "ann")
    clocked.maintenance.add("appliance", "c001-bom001", None, NOW + 5 * HOUR, "ann", "new disks")
    tick(clocked)
    assert describe(clocked.registry, "c001-bom001")["state"] == "maintenance"
    clock.now = NOW + 6 * HOUR
    tick(clocked)
    assert describe(clocked.registry, "c001-bom001")["state"] == "drained"


def test_one_to_come_is_cancelled_one_that_is_on_is_ended_and_one_that_is_over_is_neither(
    clocked: Control, clock: Clock
) -> None:
    clocked.maintenance.add("site", "bom001", NOW + DAY, NOW + 2 * DAY, "ann", "one")
    clocked.maintenance.add("site", "del001", None, NOW + DAY, "ann", "two")
    clocked.maintenance.add("site", "lhr001", None, NOW + 4 * HOUR, "ann", "three")
    clock.now = NOW + 5 * HOUR
    assert clocked.maintenance.cancel(1, "bob", "not needed")["state"] == "cancelled"
    assert clocked.maintenance.cancel(2, "bob")["state"] == "ended early"
    for number, status in ((1, 409), (2, 409), (3, 409), (4, 404)):
        with pytest.raises(RequestError) as caught:
            clocked.maintenance.cancel(number, "bob")
        assert caught.value.status == status
    assert clocked.maintenance.list() == []
    assert [(row["id"], row["state"]) for row in clocked.maintenance.list(ended=True)] == [
        (2, "ended early"),
        (3, "over"),
        (1, "cancelled"),
    ]
    entry = clocked.audit.list(2)[1]
    assert (entry["who"], entry["what"], entry["before"]["state"], entry["why"]) == (
        "bob",
        "cancel window",
        "to come",
        "not needed",
    )


def test_windows_of_one_subject_are_bounded(clocked: Control) -> None:
    for number in range(MOST_OPEN):
        clocked.maintenance.add("site", "bom001", NOW + number, NOW + DAY + number, "ann", "x")
    with pytest.raises(RequestError, match="windows already") as caught:
        clocked.maintenance.add("site", "bom001", None, NOW + DAY, "ann", "x")
    assert caught.value.status == 409
    clocked.maintenance.add("site", "del001", None, NOW + DAY, "ann", "x")


def test_the_verbs_over_the_socket_are_those_of_the_writer(app: ControlApp, settings: Settings) -> None:
    with RemoteControl(settings) as remote:
        made = remote.maintenance.add("site", "lhr001", None, time.time() + 6 * HOUR, "ann", "new disks")
        assert (made["state"], made["who"]) == ("on", "ann")
        assert remote.maintenance.list() == [made]
        assert remote.maintenance.cancel(made["id"], "bob", "done")["state"] == "ended early"
        assert remote.maintenance.list() == []
        assert [row["id"] for row in remote.maintenance.list(ended=True)] == [made["id"]]
        with pytest.raises(RequestError, match="none of this id"):
            remote.maintenance.cancel(99, "bob")


def test_a_partner_plans_its_own_windows_and_sees_no_others(app: ControlApp) -> None:
    with (
        app.client(app.make_token("ops")) as ops,
        app.client(app.make_token("partner:as64500", name="noc")) as own,
        app.client(app.make_token("partner:as64511")) as other,
    ):
        made = ask(own)
        assert (made.status_code, made.json()["who"]) == (201, "token 2 (noc)")
        assert ask(ops, kind="site", subject="bom001").status_code == 201
        assert ask(ops, kind="site", subject="lhr001").status_code == 201
        assert [row["id"] for row in ops.get("/v1/windows").json()] == [1, 2, 3]
        assert [row["id"] for row in own.get("/v1/windows").json()] == [1, 2]
        assert [row["id"] for row in other.get("/v1/windows").json()] == [2]
        for kind, hidden in (("cluster", "bom001-a"), ("appliance", "c001-bom001"), ("site", "del001")):
            refused, absent = ask(other, kind=kind, subject=hidden), ask(other, kind=kind, subject="nosuch")
            assert refused.status_code == absent.status_code == 404
            assert refused.text.replace(hidden, "nosuch") == absent.text
        refused, absent = other.delete("/v1/windows/1"), other.delete("/v1/windows/99")
        assert refused.status_code == absent.status_code == 404
        assert refused.text.replace("window 1:", "window 99:") == absent.text
        assert own.delete("/v1/windows/1", params={"why": "done"}).json()["state"] == "ended early"


def test_a_site_that_others_share_is_taken_out_by_operators_alone(app: ControlApp) -> None:
    with app.client(app.make_token("partner:as64500")) as own, app.client(app.make_token("ops")) as ops:
        refused = ask(own, kind="site", subject="bom001")
        assert (refused.status_code, refused.json()["hint"]) == (403, "name your clusters there")
        assert "64511" not in refused.text
        assert ask(own, kind="site", subject="del001").status_code == 201
        shared = ask(ops, kind="site", subject="bom001").json()["id"]
        assert own.delete(f"/v1/windows/{shared}").status_code == 403
        assert ops.delete(f"/v1/windows/{shared}").status_code == 200


@pytest.mark.parametrize(
    ("change", "status", "detail"),
    [
        ({"why": ""}, 422, "why"),
        ({"kind": "partner"}, 422, "kind"),
        ({"ends_at": "soon"}, 422, "ends_at"),
        ({"ends_at": 0}, 400, "ends_at"),
        ({"begins_at": 0}, 400, "begins_at"),
        ({"subject": "nosuch"}, 404, "nosuch"),
        ({"more": 1}, 422, "more"),
    ],
    ids=str,
)
def test_a_wrong_window_is_refused_by_name(app: ControlApp, change: dict[str, Any], status: int, detail: str) -> None:
    with app.client(app.make_token("ops")) as ops:
        answer = ask(ops, **change)
        assert answer.status_code == status
        assert detail in answer.json()["detail"]
        assert ops.get("/v1/windows").json() == []


def test_its_begin_and_its_end_are_events(clocked: Control, clock: Clock) -> None:
    hub = Hub()
    follow(clocked.registry, hub)
    clocked.maintenance.add("cluster", "bom001-a", NOW + HOUR, NOW + 5 * HOUR, "ann", "new disks")
    for at in (0, HOUR, 5 * HOUR):
        clock.now = NOW + at
        tick(clocked)
    moves = [(row["appliance"], row["before"], row["after"], row["why"]) for row in hub.recent(9)]
    assert len(moves) == 4
    assert set(moves[2:]) == {(f"c00{n}-bom001", "serving", "maintenance", "new disks") for n in (1, 2)}
    assert set(moves[:2]) == {
        (f"c00{n}-bom001", "maintenance", "serving", "its viewers come back a share at a time") for n in (1, 2)
    }
