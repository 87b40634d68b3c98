"""deploy/nginx-proxy.conf: nginx for HTTP/1.1, HTTP/2 and HTTP/3, and steering's fast path with clients' addresses behind."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from steering.model.fleet import Fleet
from tests.bench.servers import free_port
from tests.support.certificates import Pair, client_context, make_certificate
from tests.support.processes import Served, is_listening, publish_tiny_fleet, serving, until

EXAMPLE = Path(__file__).parents[2] / "deploy" / "nginx-proxy.conf"
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
NAME = "steer.example"


def configuration(folder: Path, port: int, pair: Pair, sock: Path, listen: str = "") -> str:
    """Return the example with this machine's paths, and IPv4 alone; `listen` is appended to its listener."""
    text = (
        EXAMPLE.read_text()
        .replace("/etc/nginx/tls/steer.pem", str(pair[0]))
        .replace("/etc/nginx/tls/steer.key", str(pair[1]))
    )
    text = re.sub(
        r"^ *listen \[::\].*\n", "", text.replace("/run/steering/playback.sock", str(sock)), flags=re.MULTILINE
    )
    text = text.replace("listen 443 ssl http2;", f"listen 127.0.0.1:{port} ssl http2{listen};")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {folder / kind}; " for kind in kinds)
    return f"daemon off; master_process off; pid {folder}/nginx.pid; events {{ }}\nhttp {{ access_log off; {paths}\n{text}}}\n"


@contextlib.contextmanager
def running_nginx(folder: Path, text: str, port: int) -> Iterator[None]:
    assert NGINX
    path = folder / "nginx.conf"
    path.write_text(text)
    command = [NGINX, "-p", str(folder), "-c", str(path), "-e", str(folder / "error.log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            until(lambda: process.poll() is not None or is_listening(port))
            assert process.poll() is None, (folder / "error.log").read_text()
            yield
        finally:
            process.terminate()


@pytest.fixture
def served(tmp_path: Path, fleet: Fleet) -> Iterator[Served]:
    if not NGINX:
        pytest.skip("nginx is not installed")
    listen = f"127.0.0.1:0,unix:{tmp_path}/playback.sock"
    with serving(publish_tiny_fleet(tmp_path, fleet), "--workers", "1", listen=listen) as found:
        yield found


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return make_certificate(tmp_path, NAME, NAME)


def answers(served: Served, path: str) -> int:
    """Return how many answers to /v1/steer a path has given: fast or fallback."""
    text = httpx.get(f"{served.url}/metrics").text
    found = re.search(
        rf'^steering_answers_total{{path="{path}",endpoint="steer",status="200"}} (\d+)$', text, re.MULTILINE
    )
    return int(found[1]) if found else 0


def test_http_2_reaches_the_fast_path(served: Served, pair: Pair, tmp_path: Path) -> None:
    if not (curl := shutil.which("curl")):
        pytest.skip("curl is not installed")
    port = free_port()
    with running_nginx(tmp_path, configuration(tmp_path, port, pair, tmp_path / "playback.sock"), port):
        command = [curl, "--silent", "--fail", "--cacert", str(pair[0]), "--resolve", f"{NAME}:{port}:127.0.0.1"]
        urls = [f"https://{NAME}:{port}/v1/steer?title=t{number}" for number in range(20)]
        for version in ("--http2", "--http1.1"):
            before = answers(served, "fast")
            found = subprocess.run(
                [*command, version, "-w", "%{http_version}\n", *urls], capture_output=True, text=True, check=True
            )
            assert found.stdout.count('"targets"') == 20
            assert found.stdout.count("}2\n" if version == "--http2" else "}1.1\n") == 20
            assert answers(served, "fast") == before + 20
    assert answers(served, "fallback") == 0


def test_the_client_is_the_one_that_nginx_sees(served: Served, pair: Pair, tmp_path: Path) -> None:
    """The test's nginx learns the client from a PROXY header, as if the connection came from there."""
    port = free_port()
    text = configuration(tmp_path, port, pair, tmp_path / "playback.sock", " proxy_protocol")
    text = text.replace("server_name", "set_real_ip_from 127.0.0.1; real_ip_header proxy_protocol;\n server_name")
    request = (
        f"GET /v1/steer?title=t HTTP/1.1\r\nHost: {NAME}\r\nX-Forwarded-For: 198.51.100.1\r\nConnection: close\r\n\r\n"
    )
    with running_nginx(tmp_path, text, port):
        for client in ("203.0.113.7", "198.51.100.9"):
            raw = socket.create_connection(("127.0.0.1", port), timeout=10)
            raw.sendall(f"PROXY TCP4 {client} 10.0.0.1 5 443\r\n".encode())
            with client_context(pair[0]).wrap_socket(raw, server_hostname=NAME) as connection:
                connection.sendall(request.encode())
                found = b"".join(iter(lambda at=connection: at.recv(1 << 16), b""))  # type: ignore[misc]
            assert json.loads(found.partition(b"\r\n\r\n")[2])["targets"] == served.steer(ip=client)["targets"]


def test_a_player_behind_nginx_is_not_trusted(served: Served, pair: Pair, tmp_path: Path) -> None:
    port = free_port()
    text = configuration(tmp_path, port, pair, tmp_path / "playback.sock").replace("$remote_addr", "203.0.113.9")
    options: Any = {"extensions": {"sni_hostname": NAME}}
    with (
        running_nginx(tmp_path, text, port),
        httpx.Client(verify=client_context(pair[0]), headers={"host": NAME}) as client,
    ):
        assert client.get(f"https://127.0.0.1:{port}/v1/steer?title=t&ip=203.0.113.7", **options).status_code == 403
        assert client.get(f"https://127.0.0.1:{port}/metrics", **options).status_code == 404


def test_http_3_is_configured_as_nginx_has_it(pair: Pair, tmp_path: Path) -> None:
    """Where nginx has HTTP/3, the lines for it are part of a configuration that nginx accepts."""
    lines = re.findall(r"^ *#http3 (.+)$", EXAMPLE.read_text(), re.MULTILINE)
    assert [line.split()[0] for line in lines] == ["listen", "listen", "add_header"]
    if not NGINX:
        pytest.skip("nginx is not installed")
    if "http_v3_module" not in subprocess.run([NGINX, "-V"], capture_output=True, text=True, check=False).stderr:
        pytest.skip("this nginx has no HTTP/3")
    text = configuration(tmp_path, free_port(), pair, tmp_path / "playback.sock").replace(
        "#http3 listen 443 quic", f"listen 127.0.0.1:{free_port()} quic"
    )
    path = tmp_path / "nginx.conf"
    path.write_text(re.sub(r"#http3 (?!listen \[)", "", text))
    subprocess.run([NGINX, "-t", "-p", str(tmp_path), "-c", str(path), "-e", str(tmp_path / "error.log")], check=True)
