"""`POST /v1/reports`: each row has its own result, the caller's role counts, and bodies are bounded."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from steering.control.api import report_endpoint as reports
from steering.control.api import report_format as wire
from steering.control.api.report_endpoint import ReportsEndpoint
from steering.control.fill.holdings import HoldingsReported
from steering.control.fill.holdings_rows import Delta, digest_of
from steering.control.fill.titles import Titles
from steering.control.health.presenter import describe
from steering.control.health.registry import Registry
from steering.control.records.auth import Caller
from steering.control.remote import RemoteControl
from steering.control.services.fill_answers import FillAnswers
from steering.errors import RequestError
from steering.model.fleet import Fleet
from steering.settings import Settings
from steering.state.current import read_current
from tests.support.control_app import ControlApp, running_control_app
from tests.support.processes import publish_tiny_fleet, serving, until

OURS, OTHER = "c001-bom001", "c001-lhr001"
TAKEN = {"appliance": OURS, "result": "accepted", "health_source": "reported"}


@pytest.fixture
def app(settings: Settings, fleet: Fleet) -> Iterator[ControlApp]:
    """Return a control API with the tiny fleet on record."""
    with running_control_app(settings) as actual:
        actual.thread.submit(actual.control.fleet.replace, fleet, "test").result()
        yield actual


@pytest.fixture
def appliance(app: ControlApp) -> Iterator[httpx.Client]:
    """Return the client of an appliance."""
    with app.client(app.make_token(f"appliance:{OURS}")) as client:
        yield client


@pytest.fixture
def ops(app: ControlApp) -> Iterator[httpx.Client]:
    """Return the client of a monitor."""
    with app.client(app.make_token("ops")) as client:
        yield client


def row(seq: Any = 1, boot: str = "b1", appliance: str = OURS, **more: Any) -> dict[str, Any]:
    return {"appliance": appliance, "boot": boot, "seq": seq, **more}


def full(*names: str, service: str = "video") -> dict[str, Any]:
    return {"service": service, "kind": "full", "full": names, "digest": digest_of(names)}


def delta(before: str, *add: str) -> dict[str, Any]:
    after = digest_of([*before, *add])
    return {"service": "video", "kind": "delta", "base": digest_of(before), "add": add, "digest": after}


def post(client: httpx.Client, body: Any) -> Any:
    """Return the answer to a report that is taken."""
    answer = client.post("/v1/reports", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """Return the problem document of a report that is not."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    actual: dict[str, Any] = answer.json()
    assert (actual["status"], actual["error"]) == (status, "RequestError")
    return actual


def test_an_appliances_own_report_counts_at_once(app: ControlApp, appliance: httpx.Client) -> None:
    assert post(appliance, row(health={"components": {"disk": "ok"}, "headroom_gbps": 60})) == TAKEN
    assert describe(app.control.registry, OURS)["state"] == "serving"
    assert post(appliance, row(2, health={"components": {"disk": "failed"}})) == TAKEN
    actual = describe(app.control.registry, OURS)
    assert actual["state"] == "unhealthy"
    assert actual["why"] == "disk failed"


def test_a_components_name_is_escaped_wherever_it_is_shown(
    app: ControlApp, appliance: httpx.Client, ops: httpx.Client
) -> None:
    name = "fan\x1b[2J\x9b31m\u202e\u2066x"
    with ops.stream("GET", "/v1/events") as events:
        lines = events.iter_lines()
        assert post(appliance, row(health={"components": {name: "failed"}})) == TAKEN
        app.in_loop(app.control.registry.tick)
        answer_row = next(line for line in lines if line.startswith("data: ") and "failed" in line)
        assert answer_row.isprintable()
        assert json.loads(answer_row.removeprefix("data: "))["why"] == f"{name} failed"
    for path in ("/v1/appliances", f"/v1/appliances/{OURS}", "/v1/state", "/v1/alarms"):
        answer = ops.get(path)
        assert answer.text.isprintable(), path
    assert ops.get(f"/v1/appliances/{OURS}").json()["state"]["why"] == f"{name} failed"
    wrong = appliance.post("/v1/reports", json=row(2, health={name: 1}))
    assert (wrong.status_code, wrong.text.isprintable()) == (422, True)


def test_a_monitors_report_is_used_for_inference_only(app: ControlApp, ops: httpx.Client) -> None:
    for seq in range(app.control.settings.down_after):
        assert describe(app.control.registry, OURS)["state"] == "serving"
        failed = row(seq, health={"components": {"ping": "failed"}})
        for result in ("accepted", "repeated", "repeated", "repeated"):
            assert post(ops, failed) == {"appliance": OURS, "result": result, "health_source": "assumed"}
        app.control.registry.tick()
    actual = describe(app.control.registry, OURS)
    assert actual["state"] == "unhealthy"
    assert actual["why"] == "a monitor: ping failed"


ORDERS: list[tuple[str, list[tuple[str, int]], str]] = [
    ("the next", [("a", 1), ("a", 2)], "accepted"),
    ("one after a gap", [("a", 1), ("a", 9)], "accepted"),
    ("the same again", [("a", 1), ("a", 1)], "repeated"),
    ("one that was overtaken", [("a", 2), ("a", 1)], "late"),
    ("a new boot begins anew", [("a", 9), ("b", 1)], "accepted"),
    ("the boot before is late, whatever its number", [("a", 1), ("b", 1), ("a", 99)], "late"),
    ("the new boot goes on", [("a", 1), ("b", 1), ("a", 2), ("b", 2)], "accepted"),
]


@pytest.mark.parametrize(("failed", "expected"), [order[1:] for order in ORDERS], ids=[order[0] for order in ORDERS])
def test_order_is_by_boot_and_number(appliance: httpx.Client, failed: list[tuple[str, int]], expected: str) -> None:
    rows = [row(seq, boot, health={"components": {"disk": "ok"}}) for boot, seq in failed]
    assert post(appliance, rows)["results"][-1] == TAKEN | {"result": expected}


def test_a_late_report_changes_nothing(app: ControlApp, appliance: httpx.Client) -> None:
    post(appliance, row(5, health={"components": {"disk": "ok"}}))
    late = row(4, health={"components": {"disk": "failed"}}, holdings=full("a"))
    assert post(appliance, late) == TAKEN | {"result": "late"}
    assert describe(app.control.registry, OURS)["state"] == "serving"
    assert app.control.intake.begin() is None


def test_an_appliances_clock_decides_nothing(appliance: httpx.Client) -> None:
    for seq, at in enumerate([1e9, 0, 1e12]):
        assert post(appliance, row(seq, at=at)) == TAKEN


def test_a_report_of_another_appliance_is_refused(app: ControlApp, appliance: httpx.Client) -> None:
    for name in (OTHER, "nosuch"):
        actual = problem(appliance.post("/v1/reports", json=row(appliance=name)), 403)
        assert actual["detail"] == f"parameter appliance = '{name}': {OURS}, as the token says"
        assert (actual["parameter"], actual["value"]) == ("appliance", name)
    assert not app.control.registry.is_reported(OTHER)


def test_a_report_of_no_appliance_is_refused(ops: httpx.Client) -> None:
    actual = problem(ops.post("/v1/reports", json=row(appliance="nosuch")), 404)
    assert (actual["parameter"], actual["value"]) == ("appliance", "nosuch")


def test_partners_report_nothing(app: ControlApp) -> None:
    with app.client(app.make_token("partner:as64500")) as client:
        assert problem(client.post("/v1/reports", json=row()), 403)["detail"].endswith("not for the role partner")


def test_a_malformed_report_names_field_value_and_rule(appliance: httpx.Client) -> None:
    actual = problem(appliance.post("/v1/reports", json=row(health={"headroom_gbps": "lots"})), 422)
    assert actual["detail"] == 'health.headroom_gbps = "lots": Expected `float | null`, got `str`'
    assert actual["parameter"] == "health.headroom_gbps"
    assert actual["value"] == '"lots"'
    assert actual["rule"] == "Expected `float | null`, got `str`"


def test_a_batch_has_a_result_for_each_row(appliance: httpx.Client) -> None:
    rows = [row(1), row(2, appliance=OTHER), row("x"), 7, row(1), row(0), row(2, holdings=full("a", service="books"))]
    results = post(appliance, rows)["results"]
    assert results == [
        TAKEN,
        {
            "appliance": OTHER,
            "result": "refused",
            "error": f"row 1: parameter appliance = '{OTHER}': {OURS}, as the token says",
        },
        {"appliance": OURS, "result": "refused", "error": 'row 2: seq = "x": Expected `int`, got `str`'},
        {"appliance": "", "result": "refused", "error": "row 3: body = 7: Expected `object`, got `int`"},
        TAKEN | {"result": "repeated"},
        TAKEN | {"result": "late"},
        TAKEN | {"error": "holdings[0].service = 'books': the fleet has no such service"},
    ]
    assert post(appliance, []) == {"results": []}


def test_a_relay_reports_the_whole_fleet_at_once(ops: httpx.Client, fleet: Fleet) -> None:
    rows = [row(seq, appliance=item.id) for seq in range(1250) for item in fleet.appliances]
    results = post(ops, rows)["results"]
    assert len(results) == 10_000
    assert {actual["result"] for actual in results} == {"accepted"}
    assert problem(ops.post("/v1/reports", json=[*rows, row()]), 413)["detail"] == "10001 reports; at most 10000"


def test_holdings_are_taken_asked_for_again_and_mended(app: ControlApp, appliance: httpx.Client) -> None:
    assert post(appliance, row(1, holdings=delta("", "a"))) == TAKEN | {"resync": ["video"]}
    assert post(appliance, row(2, holdings=[full("a", "b")])) == TAKEN
    assert post(appliance, row(3, holdings=delta("ab", "c"))) == TAKEN
    assert post(appliance, row(4, holdings=delta("abc"))) == TAKEN
    assert post(appliance, row(5, holdings=delta("abz", "c"))) == TAKEN | {"resync": ["video"]}
    wrong = full("a") | {"digest": digest_of("b")}
    assert post(appliance, row(6, holdings=wrong)) == TAKEN | {
        "resync": ["video"],
        "error": f"holdings[0].digest = {digest_of('b')!r}: the list's is {digest_of('a')!r}",
    }
    assert app.control.intake.is_unchanged(OURS, [Delta("video", digest_of("abc"), digest_of("abc"))])


def test_a_repeated_report_is_answered_as_the_first_was(appliance: httpx.Client) -> None:
    post(appliance, row(1, holdings=full("a")))
    for result in ("accepted", "repeated", "repeated"):
        assert post(appliance, row(2, holdings=delta("a", "b"))) == TAKEN | {"result": result}
    for result in ("accepted", "repeated"):
        lost = row(3, holdings=delta("xyz", "b"))
        assert post(appliance, lost) == TAKEN | {"result": result, "resync": ["video"]}


def test_large_lists_may_be_compressed(app: ControlApp, appliance: httpx.Client) -> None:
    names = [f"8010{number:05}" for number in range(50_000)]
    body = json.dumps(row(holdings=full(*names))).encode()
    packed = gzip.compress(body)
    assert len(packed) > reports.SMALL_BODY
    answer = appliance.post("/v1/reports", content=packed, headers={"content-encoding": "gzip"})
    assert answer.json() == TAKEN
    assert app.control.intake.is_unchanged(OURS, [Delta("video", digest_of(names), digest_of(names))])


def test_bombs_are_refused(appliance: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_PLAIN", 1 << 20)
    for size in ((1 << 20) + 1, 20 << 20):  # read in the loop, and apart
        bomb = gzip.compress(b" " * size)
        answer = appliance.post("/v1/reports", content=bomb, headers={"content-encoding": "gzip"})
        assert problem(answer, 413)["detail"] == "a body of more than 1048576 bytes when decompressed"


@pytest.mark.parametrize(
    ("framing", "status"),
    [
        (f"Content-Length: {wire.MAX_BODY + 1}", 413),
        ("Transfer-Encoding: chunked", 411),
        ("Content-Length: 0", 422),
    ],
)
def test_a_body_without_a_proper_length_is_refused(app: ControlApp, framing: str, status: int) -> None:
    token = app.make_token(f"appliance:{OURS}")["authorization"]
    with socket.create_connection(app.address, timeout=5) as connection:
        head = f"POST /v1/reports HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n{framing}\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 %d " % status)


def test_other_methods_are_refused_with_the_allowed_one(ops: httpx.Client) -> None:
    answer = ops.get("/v1/reports")
    assert problem(answer, 405)["detail"] == "GET /v1/reports: only POST is allowed"
    assert answer.headers["allow"] == "POST"


def test_other_encodings_and_bodies_that_are_not_json_are_refused(appliance: httpx.Client) -> None:
    assert problem(appliance.post("/v1/reports", content=b"x", headers={"content-encoding": "br"}), 415)
    assert problem(appliance.post("/v1/reports", content=b"[x"), 400)
    assert problem(appliance.post("/v1/reports", content=b"{x"), 422)["parameter"] == "body"


def test_too_many_bytes_at_once_are_refused_for_now(appliance: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "MOST_WAITING", 50)
    answer = appliance.post("/v1/reports", json=row(boot="b" * 50))
    assert problem(answer, 503)
    assert answer.headers["retry-after"] == "1"
    monkeypatch.undo()
    assert post(appliance, row()) == TAKEN


def test_a_report_changes_the_answers_of_every_worker_and_holdings_outlive_a_kill(
    tmp_path: Path, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEERING_CONTROL_LISTEN", "127.0.0.1:0")
    with serving(publish_tiny_fleet(tmp_path, fleet)) as served:
        with RemoteControl(served.settings) as control:
            token = control.tokens.make(f"appliance:{OURS}", "", "test")["token"]
        url = served.lines[0].removeprefix("control on ")
        with httpx.Client(base_url=url, headers={"authorization": f"Bearer {token}"}, timeout=20) as client:

            def named(title: str) -> set[bool]:
                """Ask all workers whether they name the appliance."""
                answers = [served.steer(title=title, n=4)["targets"] for _ in range(20)]
                return {OURS in [target.get("appliance") for target in targets] for targets in answers}

            def missing() -> list[str]:
                """Return the titles that should be filled at home."""
                with RemoteControl(served.settings) as control:
                    return [item["title"] for item in control.holdings.missing() if item["cluster"] == "bom001-a"]

            assert named("a") == {True}
            assert post(client, row(health={"components": {"disk": "failed"}}, holdings=full("a"))) == TAKEN
            assert named("a") == {False}
            until(lambda: read_current(served.state).holdings != "")
            os.kill(served.pids("control")[0], signal.SIGKILL)
        with RemoteControl(served.settings) as control:
            until(control.answers)
        with httpx.Client(base_url=url, headers={"authorization": f"Bearer {token}"}, timeout=20) as client:
            assert post(client, row(2, health={}, holdings=delta("a"))) == TAKEN
            assert named("a") == {True}
            until(lambda: named("b") == {False})
            assert "b" in missing()
            assert post(client, row(3, holdings=delta("ab"))) == TAKEN | {"resync": ["video"]}
            assert post(client, row(4, holdings=full("a", "b"))) == TAKEN
            until(lambda: named("b") == {True})  # a control process that has just begun does not wait to publish
            assert "b" not in missing()


class NoFill(FillAnswers):
    """Takes no progress: no report here has one."""

    def __init__(self) -> None:
        pass


@contextlib.contextmanager
def endpoint(fleet: Fleet) -> Iterator[Callable[..., list[dict[str, Any]]]]:
    """Give a function that asks the endpoint itself, with the messages of a server, and returns what it sends."""
    registry, holdings = Registry(Settings()), HoldingsReported(Titles(10, 10, 10))
    registry.take_fleet(fleet)
    holdings.use_fleet(fleet)

    def refuse(error: RequestError) -> Any:
        async def answer(scope: Any, receive: Any, send: Any) -> None:
            await send({"status": error.status, "detail": error.message})

        return answer

    actual = ReportsEndpoint(registry, holdings, NoFill(), refuse)

    def ask(*messages: dict[str, Any], length: int) -> list[dict[str, Any]]:
        waiting = list(messages)
        sent: list[dict[str, Any]] = []

        async def receive() -> Any:
            return waiting.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        caller = Caller("appliance", OURS, "token 1")
        headers = [(b"content-length", b"%d" % length)]
        scope = {"type": "http", "method": "POST", "headers": headers, "state": {"caller": caller}}
        asyncio.run(actual(scope, receive, send))
        assert actual.waiting == 0
        return sent

    yield ask


def test_a_body_may_come_in_pieces_and_a_cut_off_body_reports_nothing(fleet: Fleet) -> None:
    body = json.dumps(row()).encode()
    pieces = [{"type": "http.request", "body": body[:9], "more_body": True}, {"type": "http.request", "body": body[9:]}]
    with endpoint(fleet) as ask:
        assert ask(pieces[0], {"type": "http.disconnect"}, length=len(body))[0]["status"] == 400
        start, end = ask(*pieces, length=len(body))
        assert start["status"] == 200
        assert json.loads(end["body"]) == TAKEN


def test_the_description_of_the_api_has_the_reports(ops: httpx.Client) -> None:
    actual = ops.get("/openapi.json").json()
    asked = actual["paths"]["/v1/reports"]["post"]
    references = [text.partition('"')[0] for text in json.dumps(asked).split("#/components/schemas/")[1:]]
    assert {"ReportRow", "RowResult", "BatchResult"} == set(references)
    assert set(references) <= actual["components"]["schemas"].keys()
    assert "HTTPValidationError" in actual["components"]["schemas"]
