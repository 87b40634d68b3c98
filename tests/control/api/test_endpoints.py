"""No question of an operator takes the event loop or the control thread for long, with a fleet of 19,000 appliances.

What is measured is the time that the thread computes, not the time that passes: other programs do not count.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from steering.control.api.endpoints import Api
from steering.control.health.rules import Health, Report
from steering.control.jobs.clockwork import ControlThread
from steering.control.services.synthetic_fleet import synthesize
from steering.control.verbs import VERBS, Runs
from steering.settings import read_settings
from tests.support.control_app import ControlApp, running_control_app

T = TypeVar("T")
MOST_S = 0.05  # that a drain or a report may wait for another request
APPLIANCES = 19_000


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlApp]:
    """Return control with 19,000 appliances, all drained and half of them with a suppressed ejection."""
    state: Path = tmp_path_factory.mktemp("large") / "state"
    with running_control_app(read_settings(state=state)) as app:
        fleet = synthesize(APPLIANCES)
        app.thread.submit(app.control.fleet.replace, fleet, "test").result()
        names = [appliance.id for appliance in fleet.appliances]
        app.thread.submit(app.control.overrides.weight, names, 7, "test").result()
        for number in range(app.control.settings.down_after):
            down = Report("boot", number + 1, None, Health("failed", "no uplink"))
            for name in names:
                app.control.registry.report(name, down, monitor=1)
            app.in_loop(app.control.registry.tick)
        app.thread.submit(app.control.tokens.make_many, [f"appliance:{name}" for name in names], "x", "test").result()
        yield app


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Return the longest time by verb that the loop or the control thread computed for it without a break."""
    actual: dict[str, float] = {}

    def timed(name: str, function: Callable[[], T]) -> Callable[[], T]:
        def run() -> T:
            began = time.thread_time()
            try:
                return function()
            finally:
                if threading.current_thread().name.startswith(("control", "Thread")):  # the loop's is Thread-N
                    actual[name] = max(actual.get(name, 0.0), time.thread_time() - began)

        return run

    run_verb, thread = Api.run, ControlThread

    async def run(self: Api, name: str, function: Callable[[], Any]) -> Any:
        return await run_verb(self, name, timed(name, function))

    monkeypatch.setattr(Api, "run", run)
    assert thread
    return actual


QUESTIONS = {
    "/v1/routes": {"prefix": "0.0.0.0/0"},
    "/v1/audit": {"count": 10_000},
    "/v1/playlists": {"count": 10_000},
    "/v1/missing": {"count": 10_000},
    "/v1/quality": {"count": 10_000, "by": "appliance"},
    "/v1/state": {"count": 1000},
    "/v1/windows": {"ended": True},
    "/v1/alarms": {"resolved": True},
}
SPECIAL = {"explain", "what_if", "events", "tables.diff", "tables.get", "playlists.get"}


def test_no_question_takes_the_loop_or_the_control_thread_for_long(large: ControlApp, busy: dict[str, float]) -> None:
    asked = [verb for verb in VERBS if verb.method == "GET" and verb.name not in SPECIAL]
    appliance = large.control.fleet.current().appliances[0].id
    partner = large.control.fleet.current().partners[0].id
    tokens = {role: large.make_token(role) for role in ("ops", f"partner:{partner}")}
    for role, headers in tokens.items():
        with httpx.Client(base_url=large.url, headers=headers, timeout=120) as client:
            for verb in asked:
                if role.partition(":")[0] not in verb.roles or verb.runs is Runs.AFTER_PUBLISH:
                    continue
                path = verb.path.replace("{name}", appliance if verb.name.startswith("appliances") else "nosuch")
                answer = client.get(path, params=QUESTIONS.get(path, {}))
                assert answer.status_code in (200, 404, 409), (verb.name, answer.text[:200])
    assert {name: seconds for name, seconds in busy.items() if seconds > MOST_S} == {}
    assert {"ejections.list", "overrides.list", "tokens.list", "fleet.current", "tables.routes"} & busy.keys() == set()


def test_a_misspelt_id_is_answered_at_once(large: ControlApp, busy: dict[str, float]) -> None:
    appliance = large.control.fleet.current().appliances[9_000].id
    with large.client(large.make_token("ops")) as client:
        for name in (appliance[:-1], "nosuch", "c" * 63, appliance + "x" * 1000):
            answer = client.post("/v1/overrides", json={"appliances": [name], "enabled": False})
            assert answer.status_code == 404
        assert client.post("/v1/overrides", json={"appliances": [appliance[:-1]], "enabled": False}).json()["hint"]
    assert busy["overrides.change"] < MOST_S
