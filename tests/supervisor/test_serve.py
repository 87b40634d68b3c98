"""Real processes: `steering serve` over a small fleet, asked over its listeners, killed in parts, and ended."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from steering.control.remote import RemoteControl
from steering.control.routes.feeds import FeedSource
from steering.control.services.control import Control
from steering.model.fleet import Fleet
from steering.settings import read_settings
from tests.support.processes import PATIENCE_S, Served, is_running, publish_tiny_fleet, serving, until


def first_appliances(served: Served, asks: int = 12) -> set[str]:
    """Return the appliances that came first in so many answers, each over a connection of its own."""
    return {served.steer()["targets"][0]["appliance"] for _ in range(asks)}


def test_all_processes_answer_and_a_publish_reaches_them_without_a_restart(served: Served, tmp_path: Path) -> None:
    assert sorted(served.children().values()) == ["control", "worker", "worker"]
    assert {served.steer()["table"] for _ in range(12)} == {1}
    before = served.children()
    feed = tmp_path / "other.csv"
    feed.write_text("prefix,cluster\n203.0.113.0/24,lhr001-a\n")
    with RemoteControl(served.settings) as control:
        report = control.tables.publish([FeedSource("csv", str(feed))], "test")
    assert report["serving"]["table"] == 2
    until(lambda: {served.steer()["table"] for _ in range(12)} == {2})
    assert served.steer()["targets"][0]["site"] == "lhr001"
    assert served.children() == before


def test_a_drain_is_in_the_next_answer_of_every_worker(served: Served) -> None:
    (first,) = first_appliances(served)
    with RemoteControl(served.settings) as control:
        control.overrides.drain([first], "test")
        assert first not in first_appliances(served)
        control.overrides.enable([first], "test")
        assert first_appliances(served) == {first}


def test_any_worker_reports_what_all_did_and_counts_outlive_a_killed_worker(served: Served) -> None:
    def total(metric: str) -> float:
        text = httpx.get(f"{served.url}/metrics").text
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(metric))

    for n in range(100):
        served.steer(n=1 + n % 8)
    assert total('steering_answers_total{path="fast",endpoint="steer",status="200"}') == 100
    assert total("steering_first_targets_total") == 100
    assert total("steering_connections") >= 0
    os.kill(served.pids("worker")[0], signal.SIGKILL)
    until(lambda: len(served.pids("worker")) == 2)
    served.steer()
    assert total('steering_answers_total{path="fast",endpoint="steer",status="200"}') == 101


def test_a_killed_worker_comes_back_and_no_connection_is_refused_meanwhile(served: Served) -> None:
    victim, survivor = served.pids("worker")
    os.kill(victim, signal.SIGKILL)
    for _ in range(30):
        assert served.steer()["targets"]
    until(lambda: len(served.pids("worker")) == 2)
    assert survivor in served.pids("worker")
    assert victim not in served.pids("worker")


def test_a_stopped_worker_is_killed_and_its_successor_answers_who_waited(served: Served) -> None:
    victim, survivor = served.pids("worker")
    os.kill(victim, signal.SIGSTOP)
    host, port = served.url.removeprefix("http://").rsplit(":", 1)
    waiting = []
    for _ in range(24):  # the kernel gives the stopped worker about half of them
        connection = socket.create_connection((host, int(port)), PATIENCE_S)
        connection.sendall(b"GET /v1/steer?title=t&ip=203.0.113.7 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        waiting.append(connection)
    for connection in waiting:
        with connection:
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
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
    with RemoteControl(served.settings) as control:
        until(control.answers)
        assert control.tables.list()[0]["serving"]


def test_the_last_good_table_serves_after_a_restart_without_its_feeds(tmp_path: Path, fleet: Fleet) -> None:
    state = publish_tiny_fleet(tmp_path, fleet)
    (tmp_path / "routes.csv").unlink()
    with serving(state) as served:
        assert served.steer()["table"] == 1
        assert served.steer()["targets"][0]["site"] == "bom001"


def test_sighup_reads_the_feeds_again(served: Served, tmp_path: Path) -> None:
    (tmp_path / "routes.csv").write_text("prefix,cluster\n203.0.113.0/24,lhr001-a\n")
    served.process.send_signal(signal.SIGHUP)
    until(lambda: {served.steer()["table"] for _ in range(12)} == {2})
    assert served.steer()["targets"][0]["site"] == "lhr001"


def test_a_sighup_is_not_lost_while_control_is_down(served: Served, tmp_path: Path) -> None:
    (tmp_path / "routes.csv").write_text("prefix,cluster\n203.0.113.0/24,lhr001-a\n")
    (control,) = served.pids("control")
    os.kill(control, signal.SIGKILL)
    served.process.send_signal(signal.SIGHUP)
    until(lambda: {served.steer()["table"] for _ in range(12)} == {2})
    assert served.steer()["targets"][0]["site"] == "lhr001"


def test_a_sighup_is_not_lost_when_control_ends_before_it_reloads(served: Served, tmp_path: Path) -> None:
    (tmp_path / "routes.csv").write_text("prefix,cluster\n203.0.113.0/24,lhr001-a\n")
    (control,) = served.pids("control")
    os.kill(control, signal.SIGSTOP)
    until(lambda: is_stopped(control))  # a thread that still ran would take the SIGHUP first: it has a lower number
    served.process.send_signal(signal.SIGHUP)
    until(lambda: has_pending(control, signal.SIGHUP))
    os.kill(control, signal.SIGKILL)
    until(lambda: {served.steer()["table"] for _ in range(12)} == {2})


def test_a_sighup_is_not_lost_during_start_up(tmp_path: Path, fleet: Fleet) -> None:
    state = publish_tiny_fleet(tmp_path, fleet)
    (tmp_path / "routes.csv").write_text("prefix,cluster\n203.0.113.0/24,lhr001-a\n")
    command = [sys.executable, "-m", "steering.cli", "serve", "--state", str(state), "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            until(lambda: has_blocked(process.pid, signal.SIGHUP))
            process.send_signal(signal.SIGHUP)
            served = Served(process, state)
            until(lambda: {served.steer()["table"] for _ in range(12)} == {2})
        finally:
            process.kill()


def is_stopped(pid: int) -> bool:
    """Return whether no thread of a process runs, proc(5)."""
    states = [stat.read_text().rpartition(") ")[2][0] for stat in Path(f"/proc/{pid}/task").glob("*/stat")]
    return set(states) == {"T"}


def has_blocked(pid: int, number: signal.Signals) -> bool:
    """Return whether a process holds a signal back, proc(5)."""
    return is_in_mask(pid, "SigBlk", number)


def has_pending(pid: int, number: signal.Signals) -> bool:
    """Return whether a signal waits for a process, proc(5)."""
    return is_in_mask(pid, "ShdPnd", number)


def is_in_mask(pid: int, name: str, number: signal.Signals) -> bool:
    mask = re.search(rf"^{name}:\s+(\w+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return bool(mask and int(mask[1], 16) >> (number - 1) & 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_at_a_signal_everything_ends_and_leaves_nothing(served: Served, number: signal.Signals) -> None:
    children = served.children()
    served.process.send_signal(number)
    _, errors = served.process.communicate(timeout=PATIENCE_S)
    assert served.process.returncode == 0, errors
    assert errors == ""
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)
    assert not (served.state / "control.sock").exists()
    with Control(served.settings) as control:
        assert control.tables.list()[0]["serving"]


def test_when_the_supervisor_is_killed_its_children_end_too(served: Served) -> None:
    children = served.children()
    served.process.kill()
    served.process.wait()
    until(lambda: not any(is_running(pid) for pid in children))


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
        printed = [served.process.stdout.readline() for _ in range(3)] if served.process.stdout else []
        url = re.search(r"'(http[^']*)'", printed[-1])
        assert url, printed
        assert httpx.get(url[1]).json()["targets"][0]["rank"] == 0


def test_a_folder_without_a_fleet_is_not_served_when_none_may_be_made(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "steering.cli", "serve", "--state", str(tmp_path / "s"), "--no-synth"]
    result = subprocess.run(
        [*command, "--listen", "127.0.0.1:0"], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert result.returncode == 2
    assert "has no fleet to serve" in result.stderr


def test_several_listeners_are_answered_by_every_worker_and_closed_at_the_end(tmp_path: Path, fleet: Fleet) -> None:
    path = tmp_path / "playback.sock"
    with serving(publish_tiny_fleet(tmp_path, fleet), listen=f"unix:{path},127.0.0.1:0, [::1]:0") as served:
        unix, *urls = served.listeners
        assert (unix, stat.S_IMODE(path.stat().st_mode)) == (f"unix:{path}", 0o660)
        assert [url.rpartition(":")[0] for url in urls] == ["http://127.0.0.1", "http://[::1]"]
        for url in urls:
            assert httpx.get(f"{url}/v1/steer", params={"title": "t", "ip": "203.0.113.7"}).status_code == 200
        first, second = served.pids("worker")
        os.kill(first, signal.SIGSTOP)
        assert ask_over(path).status_code == 200
        os.kill(first, signal.SIGKILL)
        until(lambda: len({*served.pids("worker")} - {first}) == 2)
        os.kill(second, signal.SIGSTOP)
        assert ask_over(path).status_code == 200
        os.kill(second, signal.SIGCONT)
        served.process.send_signal(signal.SIGTERM)
        _, errors = served.process.communicate(timeout=PATIENCE_S)
        assert served.process.returncode == 0, errors
        assert not path.exists()


def ask_over(path: Path, forwarded: str = "", **parameters: str) -> httpx.Response:
    """Ask over a Unix socket, on a connection of its own."""
    headers = {"x-forwarded-for": forwarded} if forwarded else {}
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), timeout=5) as client:
        return client.get("http://localhost/v1/steer", params={"title": "t"} | parameters, headers=headers)


def test_a_proxy_on_a_unix_socket_is_trusted_and_the_clients_that_it_names_are_not(
    tmp_path: Path, fleet: Fleet
) -> None:
    path = tmp_path / "playback.sock"
    with serving(publish_tiny_fleet(tmp_path, fleet), listen=f"unix:{path}") as served:
        printed = [served.process.stdout.readline() for _ in range(3)] if served.process.stdout else []
        assert f"curl --unix-socket {path} 'http://localhost/v1/steer?" in printed[-1]
        assert ask_over(path, ip="203.0.113.7").json()["targets"][0]["site"] == "bom001"
        assert ask_over(path, forwarded="203.0.113.7").json()["targets"][0]["site"] == "bom001"
        assert ask_over(path, forwarded="127.0.0.1, 203.0.113.7", ip="203.0.113.8").status_code == 403
        explained = ask_over(path, forwarded="127.0.0.1", explain="1", ip="203.0.113.7").json()
        assert explained["explain"]["address"] == "203.0.113.7"
        unknown = ask_over(path, explain="1").json()
        assert (unknown["explain"]["address"], unknown["explain"]["prefix"]) == ("0.0.0.0", None)
        command = [sys.executable, "-m", "steering.cli", "serve", "--state", str(tmp_path / "other")]
        other = subprocess.run(
            [*command, "--listen", f"unix:{path}"], capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        assert (other.returncode, ask_over(path).status_code) == (2, 200)
        assert f"cannot listen on unix:{path}: Address already in use" in other.stderr


def test_the_control_listener_takes_tokens_and_outlives_its_process(tmp_path: Path, fleet: Fleet) -> None:
    state = publish_tiny_fleet(tmp_path, fleet)
    with Control(read_settings(state=state)) as control:
        headers = {"authorization": f"Bearer {control.tokens.make('ops', '', 'test')['token']}"}
    with serving(state, through=["env", "STEERING_CONTROL_LISTEN=127.0.0.1:0"]) as served:
        url = next(line for line in served.lines if line.startswith("control on ")).removeprefix("control on ")
        with httpx.Client(base_url=url, headers=headers, timeout=20) as client:
            assert client.get("/v1/tables").json()[0]["serving"]
            assert httpx.get(f"{url}/v1/tables").status_code == 401
            client.post("/v1/overrides", json={"appliances": ["c001-bom001", "c002-bom001"], "enabled": False})
            until(lambda: served.steer()["targets"][0]["site"] == "del001")
            (control,) = served.pids("control")
            os.kill(control, signal.SIGKILL)
        with httpx.Client(base_url=url, headers=headers, timeout=20) as client:
            assert [row["appliance"] for row in client.get("/v1/overrides").json()] == ["c001-bom001", "c002-bom001"]
