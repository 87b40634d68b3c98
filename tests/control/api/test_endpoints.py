"""A change of very many appliances is made part by part: all ids are checked first, and no other such change mixes in.

That no request makes a drain wait is in `tests/system/test_waits.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from steering.control.api import appliances
from steering.model.fleet import Fleet
from steering.settings import Settings
from tests.support.control_app import ControlApp, running_control_app


@pytest.fixture
def app(settings: Settings, fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Iterator[ControlApp]:
    """Return a control app for which three appliances are many."""
    monkeypatch.setattr(appliances, "AT_ONCE", 2)
    with running_control_app(settings) as app:
        app.thread.submit(app.control.fleet.replace, fleet, "test").result()
        yield app


def audited(app: ControlApp) -> list[dict[str, dict[str, object]]]:
    """Return what each part of the overrides changed, the first one first."""
    return [entry["after"] for entry in reversed(app.control.audit.list(100)) if entry["what"] == "override"]


def test_each_part_has_its_entry_in_the_audit_log(app: ControlApp, fleet: Fleet) -> None:
    names = [appliance.id for appliance in fleet.appliances]
    with app.client(app.make_token("ops")) as client:
        answer = client.post("/v1/overrides", json={"appliances": [*names, names[0]], "enabled": False})
        assert [row["appliance"] for row in answer.json()["appliances"]] == names
        assert {row["appliance"] for row in client.get("/v1/overrides").json()} == set(names)
    assert [list(part) for part in audited(app)] == [names[:2], names[2:4], names[4:6], names[6:]]


def test_one_that_is_not_there_keeps_all_others_from_being_changed(app: ControlApp, fleet: Fleet) -> None:
    names = [*(appliance.id for appliance in fleet.appliances), "nosuch"]
    with app.client(app.make_token("ops")) as client:
        assert client.post("/v1/overrides", json={"appliances": names, "enabled": False}).status_code == 404
        assert client.get("/v1/overrides").json() == []


def test_two_changes_of_very_many_do_not_mix(app: ControlApp, fleet: Fleet) -> None:
    names = [appliance.id for appliance in fleet.appliances]
    start = threading.Barrier(2)

    def change(weight: int) -> None:
        with app.client(app.make_token("ops")) as client:
            start.wait()
            client.post("/v1/overrides", json={"appliances": names, "weight": weight})

    threads = [threading.Thread(target=change, args=(weight,)) for weight in (7, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    weights = [override["weight"] for part in audited(app) for override in part.values()]
    assert weights in ([7] * len(names) + [8] * len(names), [8] * len(names) + [7] * len(names))
