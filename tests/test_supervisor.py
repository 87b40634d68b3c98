"""Real processes: `steering serve` over a small fleet, asked over its door, killed in parts, and told to end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from steering.control.network.feeds import FeedSource
from steering.control.remote import RemoteWriter
from steering.control.writer import Writer
from steering.model import Fleet
from steering.settings import read_settings
from steering.supervisor import LONGEST_PAUSE_S, PROVEN_S, Pauses

PATIENCE_S = 20.0


class Served:
    """A running service, its door and its processes."""

    def __init__(self, process: subprocess.Popen[str], state: Path) -> None:
        self.process = process
        self.state = state
        assert process.stdout is not None
        self.said = []
        for line in process.stdout:
            self.said.append(line.rstrip())
            if line.startswith("serving on "):
                break
        assert self.said, process.communicate()[1]
        self.url = self.said[-1].removeprefix("serving on ")
        self.settings = read_settings(state=state)

    def steer(self, **parameters: Any) -> dict[str, Any]:
        """Ask on a connection of its own, so that any of the workers may answer."""
        answer = httpx.get(f"{self.url}/v1/steer", params={"title": "t", "ip": "203.0.113.7"} | parameters, timeout=5)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def children(self) -> dict[int, str]:
        """Return the pids of control and workers, each with who listens on what."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return {int(pid): "control" if self.holds_lock(int(pid)) else "worker" for pid in listed}

    def holds_lock(self, pid: int) -> bool:
        with contextlib.suppress(OSError):
            return any(fd.readlink() == self.state / "lock" for fd in Path(f"/proc/{pid}/fd").iterdir())
        return False

    def pids(self, kind: str) -> list[int]:
        return [pid for pid, found in self.children().items() if found == kind]


@pytest.fixture
def served(tmp_path: Path, fleet: Fleet) -> Iterator[Served]:
    """Return a service of two workers that serves the tiny fleet."""
    state, feed = tmp_path / "state", tmp_path / "routes.csv"
    feed.write_text("prefix,cluster,as_path,med\n203.0.113.0/24,bom001-a,64500,0\n203.0.113.0/24,del001-a,64500,100\n")
    with Writer(read_settings(state=state)) as writer:
        writer.import_fleet(fleet, "test")
        writer.publish([FeedSource("csv", str(feed))], "test")
    with serving(state) as found:
        yield found


@contextlib.contextmanager
def serving(state: Path, *arguments: str) -> Iterator[Served]:
    command = [sys.executable, "-m", "steering.cli", "serve", "--state", str(state), "--listen", "127.0.0.1:0"]
    with subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield Served(process, state)
        finally:
            process.kill()


def until(condition: Callable[[], bool]) -> float:
    """Wait for something that other processes do; return how long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < PATIENCE_S, "it did not happen"
        time.sleep(0.02)
    return time.monotonic() - began


def first_appliances(served: Served, asks: int = 12) -> set[str]:
    """Return who came first in so many answers, each over a connection of its own."""
    return {served.steer()["targets"][0]["appliance"] for _ in range(asks)}


def test_all_processes_answer_and_a_publish_reaches_them_without_a_restart(served: Served, tmp_path: Path) -> None:
    assert sorted(served.children().values()) == ["control", "worker", "worker"]
    assert {served.steer()["table"] for _ in range(12)} == {1}
    before = served.children()
    feed = tmp_path / "other.csv"
    feed.write_text("prefix,cluster\n203.0.113.0/24,lhr001-a\n")
    with RemoteWriter(served.settings) as writer:
        report = writer.publish([FeedSource("csv", str(feed))], "test")
    assert report["serving"]["table"] == 2
    until(lambda: {served.steer()["table"] for _ in range(12)} == {2})
    assert served.steer()["targets"][0]["site"] == "lhr001"
    assert served.children() == before


def test_a_drain_is_in_the_next_answer_of_every_worker(served: Served) -> None:
    (first,) = first_appliances(served)
    with RemoteWriter(served.settings) as writer:
        writer.drain([first], "test")
        assert first not in first_appliances(served)
        writer.enable([first], "test")
        assert first_appliances(served) == {first}


def test_a_killed_worker_comes_back_and_no_connection_is_refused_meanwhile(served: Served) -> None:
    victim, survivor = served.pids("worker")
    os.kill(victim, signal.SIGKILL)
    for _ in range(30):
        assert served.steer()["targets"]
    until(lambda: len(served.pids("worker")) == 2)
    assert survivor in served.pids("worker")
    assert victim not in served.pids("worker")


def test_playback_serves_on_while_control_is_dead_and_control_comes_back(served: Served) -> None:
    (control,) = served.pids("control")
    answer = served.steer()
    os.kill(control, signal.SIGSTOP)
    assert served.steer() == answer
    os.kill(control, signal.SIGKILL)
    assert served.steer() == answer
    until(lambda: len(served.pids("control")) == 1)
    with RemoteWriter(served.settings) as writer:
        until(writer.answers)
        assert writer.tables()[0]["serving"]


def test_sighup_reads_the_feeds_again(served: Served, tmp_path: Path) -> None:
    (tmp_path / "routes.csv").write_text("prefix,cluster\n203.0.113.0/24,lhr001-a\n")
    served.process.send_signal(signal.SIGHUP)
    until(lambda: served.steer()["table"] == 2)
    assert served.steer()["targets"][0]["site"] == "lhr001"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_everything_ends_and_leaves_nothing(served: Served, number: signal.Signals) -> None:
    children = served.children()
    served.process.send_signal(number)
    _, errors = served.process.communicate(timeout=PATIENCE_S)
    assert served.process.returncode == 0, errors
    assert errors == ""
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)
    assert not (served.state / "control.sock").exists()
    with Writer(served.settings) as writer:
        assert writer.tables()[0]["serving"]


def test_when_the_supervisor_is_killed_its_children_end_too(served: Served) -> None:
    children = served.children()
    served.process.kill()
    served.process.wait()
    until(lambda: not any(is_running(pid) for pid in children))


def is_running(pid: int) -> bool:
    try:
        return re.search(r"^State:\s+Z", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE) is None
    except OSError:
        return False


def test_a_second_service_on_the_same_folder_or_port_is_refused_and_the_first_serves_on(
    served: Served, tmp_path: Path
) -> None:
    address = served.url.removeprefix("http://")
    for arguments, message in (
        (("--state", str(served.state), "--listen", "127.0.0.1:0"), "is being served by another process"),
        (("--state", str(tmp_path / "other"), "--listen", address), "Address already in use"),
    ):
        command = [sys.executable, "-m", "steering.cli", "serve", *arguments]
        other = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        assert other.returncode == 2
        assert message in other.stderr
    assert served.steer()["table"] == 1


def test_an_empty_folder_gets_a_fleet_over_real_networks_and_the_table_of_the_internet(tmp_path: Path) -> None:
    with serving(tmp_path / "state", "--appliances", "12", "--workers", "1") as served:
        answer = served.steer(ip="8.8.8.8", n=8)
        assert len(answer["targets"]) >= 2
        assert not any(target.get("fallback") for target in answer["targets"][:2])
        said = [served.process.stdout.readline() for _ in range(3)] if served.process.stdout else []
        url = re.search(r"'(http[^']*)'", said[-1])
        assert url, said
        assert httpx.get(url[1]).json()["targets"][0]["rank"] == 0


def test_a_folder_without_a_fleet_is_not_served_when_none_may_be_made(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "steering.cli", "serve", "--state", str(tmp_path / "s"), "--no-synth"]
    found = subprocess.run(
        [*command, "--listen", "127.0.0.1:0"], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert found.returncode == 2
    assert "has no fleet to serve" in found.stderr


def test_pauses_double_up_to_a_limit_and_begin_again_after_a_long_life() -> None:
    pauses = Pauses()
    found = [pauses.after(0.0) for _ in range(8)]
    assert found == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, LONGEST_PAUSE_S, LONGEST_PAUSE_S]
    assert pauses.after(PROVEN_S) == 0.1
