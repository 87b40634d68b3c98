"""The fleet one object at a time: made, replaced and deleted by those who have seen what they change."""

from __future__ import annotations

import dataclasses
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from steering.control.records.documents import KINDS
from steering.control.routes.build import Progress
from steering.control.routes.feeds import FeedSource
from steering.control.services.control import Control
from steering.decision.explain import explain
from steering.decision.snapshot import Snapshot
from steering.model.fleet import Fleet
from steering.settings import Settings
from tests.support.control_app import ControlApp, running_control_app
from tests.support.control_fixtures import WriteFeed
from tests.support.processes import until

NEW = {"If-None-Match": "*"}


@pytest.fixture
def app(settings: Settings, fleet: Fleet, write_feed: WriteFeed) -> Iterator[ControlApp]:
    """Return the control API of a service that serves one prefix at home in Mumbai."""
    feed: FeedSource = write_feed("203.0.113.0/24,bom001-a,64500,0\n")
    with Control(settings) as control:  # here a publish needs no child
        control.fleet.replace(fleet, "test")
        control.tables.publish([feed], "test")
    with running_control_app(settings) as actual:
        yield actual


@pytest.fixture
def ops(app: ControlApp) -> Iterator[httpx.Client]:
    """Return a client of the role ops."""
    with app.client(app.make_token("ops", name="ops")) as client:
        yield client


def seen(client: httpx.Client, path: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return an object, and the header that says that it was seen."""
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json(), {"If-Match": answer.headers["etag"]}


def test_a_changed_appliance_is_in_the_next_answer(ops: httpx.Client, settings: Settings) -> None:
    row, tag = seen(ops, "/v1/appliances/c001-bom001")
    answer = ops.put("/v1/appliances/c001-bom001", json=row | {"host": "new.example"}, headers=tag)
    assert (answer.status_code, answer.json()["host"]) == (200, "new.example")
    assert seen(ops, "/v1/appliances/c001-bom001") == (answer.json(), {"If-Match": answer.headers["etag"]})
    targets = explain(Snapshot.map(settings.state), "203.0.113.7", "t", service="video", n=8)["targets"]
    assert any(target["url"].startswith("https://new.example/") for target in targets)


def without_state(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "state"}


def test_every_kind_is_made_replaced_listed_and_deleted(ops: httpx.Client) -> None:
    rows = {
        "partners": {"id": "as1", "name": "One", "country": "IN", "asns": [1]},
        "sites": {"id": "maa001", "country": "IN", "city": "Chennai", "latitude": 13, "longitude": 80},
        "clusters": {"id": "maa001-a", "site": "maa001", "class": "embedded", "partner": "as1"},
        "appliances": {"id": "c001-maa001", "cluster": "maa001-a", "host": "c001-maa001.example", "capacity_gbps": 10},
        "services": {"id": "games", "url": "https://{host}/g/{title}", "fallback": "https://o.example/{title}"},
    }
    changes = {
        "partners": {"name": "Eins"},
        "sites": {"city": "Madras"},
        "clusters": {"accepts_off_net": True},
        "appliances": {"capacity_gbps": 20},
        "services": {"ttl_s": 60},
    }
    assert rows.keys() == KINDS.keys()
    for kind, row in rows.items():
        path = f"/v1/{kind}/{row['id']}"
        made = ops.put(path, json=row, headers=NEW)
        assert (made.status_code, without_state(made.json())) == (201, row), made.text
        changed = ops.put(path, json=row | changes[kind], headers={"If-Match": made.headers["etag"]})
        assert (changed.status_code, without_state(changed.json())) == (200, row | changes[kind]), changed.text
        assert without_state(changed.json()) in map(without_state, ops.get(f"/v1/{kind}").json()[kind])
    for kind in reversed(rows):
        path = f"/v1/{kind}/{rows[kind]['id']}"
        assert ops.delete(path, headers=seen(ops, path)[1]).status_code == 204
        assert ops.get(path).status_code == 404
    entries = ops.get("/v1/audit", params={"count": 15}).json()
    assert [(entry["what"], entry["subject"].split()[0]) for entry in reversed(entries)] == [
        *((what, kind.removesuffix("s")) for kind in rows for what in ("put", "put")),
        *(("delete", kind.removesuffix("s")) for kind in reversed(rows)),
    ]
    assert entries[-1]["before"] is None
    assert entries[-2]["before"] == rows["partners"]
    assert entries[-2]["after"] == rows["partners"] | changes["partners"]
    assert entries[0]["after"] is None


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 428),
        ({"If-Match": '"of something else"'}, 412),
        (NEW, 412),
        ({"If-None-Match": '"x"'}, 400),
        ({"If-Match": "*", "If-None-Match": "*"}, 400),
        ({"If-Match": "*"}, 200),
    ],
    ids=str,
)
def test_who_has_not_seen_what_it_changes_changes_nothing(
    ops: httpx.Client, headers: dict[str, str], status: int
) -> None:
    row, _ = seen(ops, "/v1/sites/bom001")
    answer = ops.put("/v1/sites/bom001", json=row | {"city": "Bombay"}, headers=headers)
    assert answer.status_code == status, answer.text
    assert seen(ops, "/v1/sites/bom001")[0]["city"] == ("Bombay" if status == 200 else "Mumbai")
    if "If-None-Match" not in headers:
        assert ops.delete("/v1/services/video", headers=headers).status_code == (204 if status == 200 else status)


def test_of_two_who_saw_the_same_only_the_first_changes_it(ops: httpx.Client) -> None:
    row, tag = seen(ops, "/v1/sites/bom001")
    assert ops.put("/v1/sites/bom001", json=row | {"city": "One"}, headers=tag).status_code == 200
    refused = ops.put("/v1/sites/bom001", json=row | {"city": "Two"}, headers=tag)
    assert refused.status_code == 412
    assert refused.json()["detail"] == "site bom001: changed since you read it"
    assert seen(ops, "/v1/sites/bom001")[0]["city"] == "One"


@pytest.mark.parametrize(
    ("kind", "name", "change", "detail"),
    [
        ("appliances", "c001-bom001", {"capacity_gbps": 0}, "appliance c001-bom001.capacity_gbps = 0: a number over 0"),
        ("appliances", "c001-bom001", {"cluster": "x"}, "appliance c001-bom001.cluster = 'x': no such cluster"),
        ("appliances", "c001-bom001", {"speed": 1}, "appliance c001-bom001.speed = 1: no such field"),
        (
            "clusters",
            "bom001-a",
            {"partner": None},
            "cluster bom001-a.partner = None: a cluster of class embedded needs",
        ),
        ("sites", "bom001", {"id": "bom009"}, "parameter id = 'bom009': bom001, as in the path"),
    ],
)
def test_a_broken_rule_is_named_with_its_object(
    ops: httpx.Client, kind: str, name: str, change: dict[str, Any], detail: str
) -> None:
    path = f"/v1/{kind}/{name}"
    row, tag = seen(ops, path)
    answer = ops.put(path, json=row | change, headers=tag)
    assert answer.status_code in (400, 422)
    assert detail in answer.json()["detail"]
    assert seen(ops, path) == (row, tag)


@pytest.mark.parametrize("body", [b"", b"[]", b"not JSON", b'{"id": 7}', b'"x"', b"{}"], ids=str)
def test_a_body_that_is_no_object_is_refused(ops: httpx.Client, body: bytes) -> None:
    answer = ops.put("/v1/sites/maa001", content=body, headers=NEW | {"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"
    assert ops.get("/v1/sites/maa001").status_code == 404


@pytest.mark.parametrize("name", ["UPPER", "-x", "x" * 64, "%00", "a%20b"])
def test_an_id_that_there_cannot_be_is_refused(ops: httpx.Client, name: str) -> None:
    row = {"country": "IN", "city": "Chennai", "latitude": 13, "longitude": 80}
    assert ops.put(f"/v1/sites/{name}", json=row, headers=NEW).status_code == 422


def test_what_others_point_at_is_not_deleted(ops: httpx.Client) -> None:
    for path, users in [
        ("/v1/sites/bom001", "clusters bom001-a point at it"),
        ("/v1/clusters/bom001-a", "appliances c001-bom001, c002-bom001 point at it"),
        ("/v1/partners/as64500", "clusters bom001-a, del001-a point at it"),
    ]:
        answer = ops.delete(path, headers=seen(ops, path)[1])
        assert answer.status_code == 409
        assert users in answer.json()["detail"]
        assert ops.get(path).status_code == 200


def test_a_list_is_read_on_from_where_it_ended(ops: httpx.Client) -> None:
    whole = ops.get("/v1/appliances").json()
    assert whole["next"] is None
    actual, after = [], ""
    while True:
        page = ops.get("/v1/appliances", params={"count": 3, "after": after}).json()
        actual += page["appliances"]
        if not (after := page["next"] or ""):
            break
    assert actual == whole["appliances"]
    assert len(actual) == 8


@dataclasses.dataclass(frozen=True)
class Delayed:
    """A task that waits in its own process for a file."""

    task: Callable[[Progress], Any]
    file: Path

    def __call__(self, progress: Progress) -> Any:
        until(self.file.exists)
        return self.task(progress)


def test_a_drain_does_not_wait_for_a_publish(app: ControlApp, ops: httpx.Client, tmp_path: Path) -> None:
    released = tmp_path / "released"
    (feed,), _ = app.thread.submit(app.control.tables.sources).result()
    Path(feed.path).write_text("prefix,cluster\n203.0.113.0/24,bom001-a\n203.0.114.0/24,bom001-a\n")
    run = app.control.tables.run
    app.control.tables.run = lambda name, task, progress: run(name, Delayed(task, released), progress)
    with ThreadPoolExecutor(1) as other:
        reloading = other.submit(ops.post, "/v1/reload")
        try:
            until(lambda: bool(multiprocessing.active_children()))
            override = {"appliances": ["c001-bom001"], "enabled": False}
            assert ops.post("/v1/overrides", json=override).status_code == 200
            assert ops.get("/v1/tables").json()[0]["table"] == 1
            assert not reloading.done()
        finally:
            released.touch()
        assert reloading.result().json()["serving"]["table"] == 2
    assert [row["appliance"] for row in ops.get("/v1/overrides").json()] == ["c001-bom001"]
    targets = explain(Snapshot.map(app.control.settings.state), "203.0.113.7", "t", service="video", n=8)["targets"]
    assert "c001-bom001" not in {target.get("appliance") for target in targets}
