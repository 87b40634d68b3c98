"""What the service manager receives from real processes: ready when they answer, reloading until it is over, stopping."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from steering.model.fleet import Fleet
from steering.process import notify
from steering.state.current import read_current
from tests.support.processes import PATIENCE_S, publish_tiny_fleet, serving, until


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Return the socket that NOTIFY_SOCKET names: a path, or an abstract name."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@steering-{os.getpid()}-{time.monotonic_ns()}"
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(name.replace("@", "\0", 1) if request.param == "abstract" else name)
        receiver.settimeout(PATIENCE_S)
        yield receiver


def receive(manager: socket.socket) -> list[str]:
    """Return the lines of the next datagram."""
    return manager.recv(4096).decode().split("\n")


def test_the_manager_receives_when_the_service_is_ready_reloading_and_stopping(
    manager: socket.socket, tmp_path: Path, fleet: Fleet
) -> None:
    with serving(publish_tiny_fleet(tmp_path, fleet)) as served:
        ready = ["READY=1", f"STATUS={served.lines[-1]}"]
        assert receive(manager) == ready
        before = time.monotonic_ns() // 1000
        (tmp_path / "routes.csv").write_text("prefix,cluster\n203.0.113.0/24,bom001-a\n")
        served.process.send_signal(signal.SIGHUP)
        begun, when = receive(manager)
        assert begun == "RELOADING=1"
        assert re.fullmatch(r"MONOTONIC_USEC=\d+", when)
        assert before <= int(when.partition("=")[2]) <= time.monotonic_ns() // 1000
        assert receive(manager) == ready
        assert read_current(served.state).table == "table.2"  # it was over by then
        served.process.send_signal(signal.SIGTERM)
        assert receive(manager) == ["STOPPING=1"]
        _, errors = served.process.communicate(timeout=PATIENCE_S)
        assert (served.process.returncode, errors) == (0, "")


def test_a_reload_that_is_refused_or_whose_control_process_is_killed_is_over_too(
    manager: socket.socket, tmp_path: Path, fleet: Fleet
) -> None:
    with serving(publish_tiny_fleet(tmp_path, fleet)) as served:
        ready = receive(manager)
        (tmp_path / "routes.csv").unlink()
        served.process.send_signal(signal.SIGHUP)
        assert [receive(manager)[0], receive(manager)] == ["RELOADING=1", ready]
        (control,) = served.pids("control")
        os.kill(control, signal.SIGSTOP)
        served.process.send_signal(signal.SIGHUP)
        assert receive(manager)[0] == "RELOADING=1"
        os.kill(control, signal.SIGKILL)
        assert receive(manager) == ready
        until(lambda: len(served.pids("control")) == 1)
        assert served.steer()["table"] == 1


def test_without_a_manager_nothing_is_sent_and_one_that_is_gone_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify.ready("serving")
    assert caplog.messages == []
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "absent"))
    with caplog.at_level(logging.WARNING):
        notify.stopping()
    assert caplog.messages == [
        f"NOTIFY_SOCKET={tmp_path / 'absent'} did not receive STOPPING=1: No such file or directory"
    ]
