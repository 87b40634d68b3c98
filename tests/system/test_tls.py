"""TLS on running services: curl and Python as clients, rotation under load, PROXY headers, appliances' certificates."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from steering.model.fleet import Fleet
from tests.support.certificates import Pair, client_context, make_certificate
from tests.support.processes import Served, publish_tiny_fleet, serving, until

NAME = "steer.example"
STEER = "/v1/steer?title=t&ip=203.0.113.7"
REQUEST = f"GET {STEER} HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode()


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pair:
    """Return the certificate of the services that the test starts."""
    found = make_certificate(tmp_path, NAME, NAME)
    monkeypatch.setenv("STEERING_TLS_CERT", str(found[0]))
    monkeypatch.setenv("STEERING_TLS_KEY", str(found[1]))
    return found


@pytest.fixture
def served(tmp_path: Path, fleet: Fleet, pair: Pair) -> Iterator[Served]:
    """Return a service of two workers with a TLS listener and a plain one."""
    with serving(publish_tiny_fleet(tmp_path, fleet), listen="tls:127.0.0.1:0,127.0.0.1:0") as found:
        assert found.listeners[0].startswith("https://")
        yield found


def connect(url: str, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
    address = urlsplit(url)
    assert address.hostname
    assert address.port
    raw = socket.create_connection((address.hostname, address.port), timeout=10)
    return context.wrap_socket(raw, server_hostname=NAME, session=session)


def ask(client: socket.socket, request: bytes = REQUEST) -> bytes:
    """Return the body of an answer."""
    client.sendall(request)
    found = b""
    while b"\r\n\r\n" not in found:
        part = client.recv(1 << 16)
        assert part, "the connection was closed"
        found += part
    head, _, body = found.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), head
    length = next(int(row[15:]) for row in head.split(b"\r\n") if row.lower().startswith(b"content-length:"))
    while len(body) < length:
        body += client.recv(1 << 16)
    return body


def test_curl_gets_the_same_answers_over_tls(served: Served, pair: Pair) -> None:
    if not (curl := shutil.which("curl")):
        pytest.skip("curl is not installed")
    port = urlsplit(served.url).port
    for version in ("--tlsv1.3", "--tlsv1.2", "--tls-max=1.2"):
        for path in (STEER, f"{STEER}&explain=1", "/v1/hls/video/t", "/healthz"):
            command = [
                curl,
                "--silent",
                "--show-error",
                "--fail",
                "--cacert",
                str(pair[0]),
                "--resolve",
                f"{NAME}:{port}:127.0.0.1",
            ]
            options = version.split("=")
            found = subprocess.run(
                [*command, *options, f"https://{NAME}:{port}{path}"], capture_output=True, check=False
            )
            assert found.returncode == 0, found.stderr
            plain = httpx.get(served.listeners[1] + path).content
            if "explain" not in path:
                assert found.stdout == plain
            else:
                assert json.loads(found.stdout)["targets"] == json.loads(plain)["targets"]


def test_pipelined_requests_of_both_paths_are_answered_in_order(served: Served, pair: Pair) -> None:
    explained = REQUEST.replace(b"203.0.113.7", b"203.0.113.7&explain=1")
    with connect(served.url, client_context(pair[0])) as client:
        client.sendall((REQUEST + explained) * 50 + REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        found = b"".join(iter(lambda: client.recv(1 << 16), b""))
    parts = found.split(b"HTTP/1.1 200 OK\r\n")[1:]
    assert [b'"explain"' in part for part in parts] == [False, True] * 50 + [False]


def test_playback_bodies_and_slow_readers_are_served(served: Served, pair: Pair) -> None:
    files = json.dumps({"files": [f"f{number}" for number in range(500)], "ip": "203.0.113.7"}).encode()
    request = b"POST /v1/playback HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(files)
    with connect(served.url, client_context(pair[0])) as client:
        client.sendall(request)
        client.sendall(files[:100])
        time.sleep(0.05)
        assert len(json.loads(ask(client, files[100:]))["files"]) == 500
        sending = threading.Thread(target=client.sendall, args=((request + files) * 60 + REQUEST * 20_000,))
        sending.start()
        time.sleep(0.3)
        found = 0
        while found < 20_060:
            part = client.recv(1 << 16)
            assert part
            found += part.count(b"HTTP/1.1 200 OK")
        sending.join()


def metric(served: Served, name: str) -> float:
    text = httpx.get(f"{served.listeners[1]}/metrics").text
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


class Clients:
    """Clients that ask without a pause, each on one connection for ever and on a new one for each tenth request."""

    def __init__(self, url: str, contexts: Callable[[], ssl.SSLContext], count: int = 4) -> None:
        self.url, self.contexts = url, contexts
        self.answers = 0
        self.errors: list[str] = []
        self.ending = threading.Event()
        self.threads = [threading.Thread(target=self.run) for _ in range(count)]

    def run(self) -> None:
        try:
            with connect(self.url, self.contexts()) as kept:
                while not self.ending.is_set():
                    for _ in range(10):
                        assert b'"targets"' in ask(kept)
                        self.answers += 1
                    with connect(self.url, self.contexts()) as new:
                        ask(new)
        except (OSError, AssertionError) as error:
            self.errors.append(repr(error))

    def __enter__(self) -> Clients:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ending.set()
        for thread in self.threads:
            thread.join()


def serial_of(served: Served, context: ssl.SSLContext) -> str:
    with connect(served.url, context) as client:
        certificate = client.getpeercert()
        assert certificate
        return str(certificate["serialNumber"])


@pytest.mark.parametrize("how", ["files", "SIGHUP"])
def test_rotation_under_load_drops_no_connection(served: Served, pair: Pair, tmp_path: Path, how: str) -> None:
    certificates = [make_certificate(tmp_path, NAME, NAME, file=f"new{number}") for number in range(2)]
    context = client_context(pair[0], *(certificate for certificate, _ in certificates))
    with Clients(served.url, lambda: context) as clients:
        for new in certificates:
            before = serial_of(served, context)
            shutil.copy(new[0], tmp_path / "next.pem")
            shutil.copy(new[1], tmp_path / "next.key")
            (tmp_path / "next.pem").rename(pair[0])
            (tmp_path / "next.key").rename(pair[1])
            if how == "SIGHUP":
                served.process.send_signal(signal.SIGHUP)
            until(lambda was=before: all(serial_of(served, context) != was for _ in range(10)))  # type: ignore[misc]
        asked = clients.answers
        until(lambda: clients.answers > asked + 20 or bool(clients.errors))
    assert clients.errors == []
    assert metric(served, "steering_tls_refused_certificates_total ") == 0


def test_a_bad_new_certificate_is_counted_and_the_old_one_serves_on(served: Served, pair: Pair, tmp_path: Path) -> None:
    context = client_context(pair[0])
    before = serial_of(served, context)
    assert metric(served, "steering_tls_certificate_expires_seconds") / 2 > time.time()
    other = make_certificate(tmp_path, "other.example")
    other[0].rename(pair[0])
    until(lambda: metric(served, "steering_tls_refused_certificates_total ") == 2)  # one of each worker
    assert serial_of(served, context) == before
    for pid in served.pids("worker"):
        os.kill(pid, signal.SIGKILL)  # their successors have what the supervisor loaded
    until(lambda: len(served.pids("worker")) == 2)
    with contextlib.closing(connect(served.url, context)) as client:
        assert b'"targets"' in ask(client)
    assert serial_of(served, context) == before


def test_a_session_is_resumed_at_any_worker_and_after_a_rotation(served: Served, pair: Pair, tmp_path: Path) -> None:
    new = make_certificate(tmp_path, NAME, NAME, file="new")
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = client_context(pair[0], new[0])
        context.minimum_version = context.maximum_version = version
        with connect(served.url, context) as client:
            ask(client)
            session = client.session
        for _ in range(8):  # two workers, by the kernel's choice
            with connect(served.url, context, session) as client:
                ask(client)
                assert client.session_reused


def test_a_client_of_tls_12_cannot_renegotiate(served: Served, pair: Pair) -> None:
    if not (openssl := shutil.which("openssl")):
        pytest.skip("openssl is not installed")
    address = urlsplit(served.url).netloc
    command = [openssl, "s_client", "-connect", address, "-tls1_2", "-CAfile", str(pair[0]), "-servername", NAME]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as client:
        assert client.stdin
        assert client.stdout
        client.stdin.write(b"R\n")  # s_client's command for a renegotiation
        client.stdin.flush()
        time.sleep(0.5)
        client.stdin.close()
        found = client.stdout.read()
    assert b"RENEGOTIATING" in found
    assert b"no renegotiation" in found or b"no_renegotiation" in found, found[-500:]


def test_a_proxy_header_comes_before_the_hello(
    tmp_path: Path, fleet: Fleet, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEERING_PROXY_PROTOCOL", "true")
    plain = REQUEST.replace(b"&ip=203.0.113.7", b"")
    with serving(publish_tiny_fleet(tmp_path, fleet), listen="tls:127.0.0.1:0") as served:
        address = urlsplit(served.url)
        assert address.hostname
        assert address.port
        answers = []
        for source in ("203.0.113.7", "198.51.100.1"):
            raw = socket.create_connection((address.hostname, address.port), timeout=10)
            raw.sendall(f"PROXY TCP4 {source} 10.0.0.1 5 443\r\n".encode())
            with client_context(pair[0]).wrap_socket(raw, server_hostname=NAME) as client:
                answers.append(json.loads(ask(client, plain))["targets"])
                assert json.loads(ask(client, plain))["targets"] == answers[-1]
        assert answers[0] != answers[1]
        with pytest.raises((ssl.SSLError, ConnectionError)):
            connect(served.url, client_context(pair[0]))  # a trusted address without a header


def test_what_cannot_be_served_ends_the_start_with_a_clear_error(tmp_path: Path, fleet: Fleet, pair: Pair) -> None:
    state = publish_tiny_fleet(tmp_path, fleet)
    make_certificate(tmp_path, "other.example")[1].rename(pair[1])
    command = [sys.executable, "-m", "steering.cli", "serve", "--state", str(state), "--listen", "tls:127.0.0.1:0"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 2
    assert f"tls_key {pair[1]}: is not the key of the first certificate of {pair[0]}" in " ".join(found.stderr.split())


def test_appliances_may_report_with_certificates(
    tmp_path: Path, fleet: Fleet, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca = make_certificate(tmp_path, "ca.example")
    ours = make_certificate(tmp_path, "c001-bom001", ca=ca)
    stranger = make_certificate(tmp_path, "c002-bom001", file="stranger")
    monkeypatch.setenv("STEERING_CONTROL_LISTEN", "tls:127.0.0.1:0")
    monkeypatch.setenv("STEERING_CONTROL_CLIENT_CA", str(ca[0]))
    with serving(publish_tiny_fleet(tmp_path, fleet)) as served:
        url = next(line for line in served.lines if line.startswith("control on ")).removeprefix("control on ")
        assert url.startswith("https://127.0.0.1:")

        def report(pair_of_client: Pair | None, appliance: str, **headers: str) -> tuple[int, str]:
            context = client_context(pair[0], pair=pair_of_client)
            context.check_hostname = False
            with httpx.Client(verify=context) as client:
                row = {"appliance": appliance, "boot": "b1", "seq": 1, "health": {"headroom_gbps": 1.0}}
                answer = client.post(f"{url}/v1/reports", json=row, headers=headers)
                return answer.status_code, answer.text

        status, text = report(ours, "c001-bom001")
        assert (status, json.loads(text)["result"]) == (200, "accepted"), text
        assert report(ours, "c002-bom001")[0] == 403
        assert report(None, "c001-bom001")[0] == 401
        assert report(ours, "c001-bom001", authorization="Bearer steering-1-wrong")[0] == 401
        with pytest.raises((httpx.HTTPError, ssl.SSLError)):
            report(stranger, "c002-bom001")
        context = client_context(pair[0], pair=ours)
        context.check_hostname = False
        with httpx.Client(verify=context) as client:
            assert client.get(f"{url}/v1/overrides").status_code == 403, "its role is that of an appliance"
