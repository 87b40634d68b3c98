"""A real service that watches: a checker finds appliances down, who listens is told, a webhook is posted to."""

from __future__ import annotations

import dataclasses
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from steering.control.remote import RemoteControl
from steering.control.services.control import Control
from steering.model.fleet import Fleet
from steering.settings import read_settings
from steering.state.folder import SOCKET
from tests.support.processes import publish_tiny_fleet, serving, until


class Outside(http.server.ThreadingHTTPServer):
    """The appliances' health page, and the webhook."""

    daemon_threads = True
    well = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.posted: list[dict[str, Any]] = []


class Handler(http.server.BaseHTTPRequestHandler):
    server: Outside

    def do_GET(self) -> None:
        self.answer(200 if self.server.well else 503)

    def do_POST(self) -> None:
        self.server.posted.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.answer(204)

    def answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def outside() -> Iterator[Outside]:
    with Outside() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_appliances_that_a_checker_finds_down_are_ejected_announced_and_back_when_healthy(
    tmp_path: Path, fleet: Fleet, outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = outside.server_address[1]
    checked = dataclasses.replace(
        fleet,
        appliances=tuple(
            dataclasses.replace(
                item, addresses=("127.0.0.1",), ipv6=False, health_url=f"http://{item.host}:{port}/health"
            )
            if item.cluster == "bom001-a"
            else item
            for item in fleet.appliances
        ),
    )
    state = publish_tiny_fleet(tmp_path, fleet)
    with Control(read_settings(state=state)) as control:
        control.fleet.replace(checked, "test")
    for name, value in (
        ("CHECK_S", "1"),
        ("TICK_S", "0.2"),
        ("EJECTION_LIMIT_FLEET", "1"),
        ("ALARM_URL", f"http://127.0.0.1:{port}/"),
    ):
        monkeypatch.setenv(f"STEERING_{name}", value)
    with serving(state) as served, RemoteControl(served.settings) as remote:
        assert served.steer()["targets"][0]["site"] == "bom001"
        until(remote.answers)
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(state / SOCKET)), timeout=30) as client:
            with client.stream("GET", "http://control/v1/events") as stream:
                lines = stream.iter_lines()
                outside.well = False
                assert next(line for line in lines if line.startswith("event:")) == "event: state"
                change = json.loads(next(lines).removeprefix("data: "))
                assert (change["before"], change["after"]) == ("serving", "unhealthy")
                assert change["why"] == "127.0.0.1: answered 503"
            until(lambda: bool(outside.posted))
            assert (outside.posted[0]["kind"], outside.posted[0]["subject"]) == ("cluster_down", "bom001-a")
            assert outside.posted[0]["state"] == "raised"
            assert served.steer()["targets"][0]["site"] != "bom001"
            assert [row["cluster"] for row in remote.overview()["worst"]] == ["bom001-a"]
            outside.well = True
            until(lambda: served.steer()["targets"][0]["site"] == "bom001")
            until(lambda: [body["state"] for body in outside.posted] == ["raised", "resolved"])
            assert remote.alarms() == []
