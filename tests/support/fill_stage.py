"""A stage for agents of appliances: an honest small control over HTTP, sources with faults, and real nginx appliances."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import httpx
import pytest

from steering.appliance.holdings import digest_of
from steering.appliance.nginx import configuration
from steering.appliance.settings import ApplianceSettings

PART = 1 << 16
FILL_SECRET = "fill-0123456789abcdef0123456789abcdef"
SERVICE = "video"
PATIENCE_S = 60.0  # a machine whose cores are all busy may take many times as long
# Made once, because making a client takes 20 ms of a core: it reads the authorities of TLS.
ASKING = httpx.Client(limits=httpx.Limits(max_keepalive_connections=0), timeout=PATIENCE_S, trust_env=False)
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on, each a different one."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(probe.getsockname()[1]) for probe in probes]


class Content:
    """A title of generated files, and its recipe."""

    def __init__(self, seed: int, sizes: dict[str, int], part: int = PART) -> None:
        self.files = {path: random.Random(f"{seed}{path}").randbytes(size) for path, size in sizes.items()}
        rows = []
        for path, data in self.files.items():
            parts = [hash_text(data[start : start + part]) for start in range(0, len(data), part)]
            rows.append({"path": path, "bytes": len(data), "sha256": hash_text(data), "parts": parts})
        self.document = json.dumps({"part_bytes": part, "files": rows}).encode()
        self.recipe = f"sha256-{hash_text(self.document)}"
        self.bytes = sum(map(len, self.files.values()))

    def title(self, name: str, **more: Any) -> dict[str, Any]:
        """Return the row of a fill manifest."""
        return {"id": name, "bytes": self.bytes, "recipe": self.recipe, "priority": 1} | more


def hash_text(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def fill_token(service: str, recipe: str, expires: int) -> str:
    code = hashlib.md5(f"{expires}/fill/{service}/{recipe} {FILL_SECRET}".encode()).digest()
    return f"md5={base64.urlsafe_b64encode(code).decode().rstrip('=')}&expires={expires}"


class Quiet(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)


class Server:
    """A threaded HTTP server of a handler class, as a context."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, self))
        self.server.daemon_threads = True
        self.host = f"127.0.0.1:{self.server.server_port}"

    @contextlib.contextmanager
    def running(self) -> Iterator[Any]:
        thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield self
        finally:
            self.server.shutdown()
            thread.join()
            self.server.server_close()


class Origin(Server):
    """A source that has everything it was given, under `/<recipe>/<path>`, and does what `fault` says."""

    def __init__(self) -> None:
        super().__init__(OriginHandler)
        self.contents: dict[str, Content] = {}
        self.asked: list[tuple[str, str]] = []
        self.fault = ""

    def add(self, *contents: Content) -> None:
        self.contents |= {content.recipe: content for content in contents}

    def body(self, recipe: str, path: str) -> bytes | None:
        content = self.contents.get(recipe)
        return content.files.get(path) if content else None


class OriginHandler(Quiet):
    def __init__(self, origin: Origin, *arguments: Any) -> None:
        self.origin = origin
        super().__init__(*arguments)

    def do_GET(self) -> None:
        *_, recipe, path = unquote(urlsplit(self.path).path).split("/", self.path.count("sha256-") and 4)
        ranges = self.headers.get("Range", "")
        self.origin.asked.append((path, ranges))
        data, fault = self.origin.body(recipe, path), self.origin.fault
        if data is None or fault == "404":
            self.answer(404)
            return
        if fault == "410":
            self.answer(410)
            return
        if fault == "503":
            self.answer(503)
            return
        if fault == "redirect":
            self.answer(302, Location=f"http://{self.origin.host}/elsewhere")
            return
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", ranges)
        if fault == "200" or not match:
            self.answer(200, data, ETag='"one"')
            return
        start, end = int(match[1]), int(match[2])
        piece, total = data[start : end + 1], len(data)
        if fault == "flipped":
            piece = bytes([piece[0] ^ 1]) + piece[1:]
        if fault == "long":
            piece += b"more"
        if fault == "shifted":
            start += 1
        if fault == "cut":
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{end}/{total}")
            self.send_header("Content-Length", str(len(piece)))
            self.end_headers()
            self.wfile.write(piece[: len(piece) // 2])
            self.close_connection = True
            return
        if fault == "stall":
            time.sleep(1.0)
        self.answer(206, piece, Content_Range=f"bytes {start}-{end}/{total}", ETag='"one"')


class Control(Server):
    """Control's side of the protocol for agents; what is wanted of each appliance is set by the test."""

    def __init__(self) -> None:
        super().__init__(ControlHandler)
        self.lock = threading.RLock()
        self.recipes: dict[str, bytes] = {}
        self.wanted: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)  # appliance -> title -> row
        self.sources: dict[str, list[dict[str, str]]] = {}
        self.settings: dict[str, dict[str, Any]] = defaultdict(dict)  # appliance -> members of its manifest
        self.lease_gbps = 8.0
        self.ttl = 300
        self.plan = 1
        self.origin_url = ""
        self.holdings: dict[str, set[str] | None] = {}
        self.reports: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.manifests: list[tuple[str, int, str]] = []  # appliance, status, kind
        self.failed: dict[str, list[dict[str, str]]] = defaultdict(list)

    def want(self, appliance: str, *titles: dict[str, Any], **members: Any) -> None:
        with self.lock:
            self.wanted[appliance] = {title["id"]: title for title in titles}
            self.settings[appliance] |= members
            self.plan += 1

    def add(self, *contents: Content) -> None:
        self.recipes |= {content.recipe: content.document for content in contents}

    def last(self, appliance: str) -> dict[str, Any]:
        with self.lock:
            return self.reports[appliance][-1] if self.reports[appliance] else {}

    def holds(self, appliance: str, *titles: str) -> bool:
        with self.lock:
            return self.holdings.get(appliance) == set(titles)

    def manifest(self, appliance: str, have: str) -> tuple[dict[str, Any], str]:
        """Return the manifest, a delta where `have` is what control knows, and its ETag."""
        now, wanted = time.time(), self.wanted[appliance]
        digest = digest_of(wanted)
        members = self.settings[appliance]
        default = {"windows": [{"from": int(now) - 60, "until": int(now) + 600, "gbps": 8.0, "bytes": 1 << 40}]}
        document = {
            "format": 1,
            "appliance": appliance,
            "plan": self.plan,
            "expires_at": int(now) + 3600,
            "fill_s": 1,
            "remove_after_s": 1,
        }
        document |= default | members
        held = self.holdings.get(appliance)
        if have and held is not None and have == f"{SERVICE}:{digest_of(held)}":
            recent = [row for row in wanted.values() if row["id"] not in held or row.get("changed")]
            service = {
                "service": SERVICE,
                "kind": "delta",
                "base": digest_of(held),
                "digest": digest,
                "add": recent,
                "remove": sorted(held - wanted.keys()),
            }
        else:
            service = {"service": SERVICE, "kind": "full", "digest": digest, "titles": list(wanted.values())}
        document["services"] = [service]
        named = json.dumps([self.plan, members, digest, document["remove_after_s"]], sort_keys=True).encode()
        return document, f'"{self.plan}-{hash_text(named)[:8]}"'

    def lease(self, appliance: str, asked: dict[str, Any]) -> dict[str, Any]:
        leases, refused = {}, {}
        for title in asked["titles"]:
            row = self.wanted[appliance].get(title)
            if row is None:
                refused[title] = "not in your fill manifest"
            elif len(leases) < asked["most"]:
                expires = int(time.time()) + self.ttl + 300
                leases[title] = {
                    "lease": f"{appliance}-{title}",
                    "sources": self.sources[appliance],
                    "gbps": self.lease_gbps,
                    "expires_at": expires,
                    "token": fill_token(SERVICE, row["recipe"], expires),
                }
        answer = {"ttl": self.ttl, "url": "http://{host}/fill/{service}/{recipe}/{path}?{token}", "leases": leases}
        return answer | {"origin_url": self.origin_url, "later": {}, "refused": refused}

    def report(self, appliance: str, document: dict[str, Any]) -> dict[str, Any]:
        """Apply a report as docs/api.md says; holdings whose base or digest differs are asked for again."""
        resync = []
        for row in document.get("holdings", []):
            held = self.holdings.get(appliance)
            if row["kind"] == "full":
                held = set(row["full"])
            elif row["kind"] == "delta" and held is not None and digest_of(held) == row["base"]:
                held = (held - set(row["remove"])) | set(row["add"])
            else:
                held = None
            if held is None or digest_of(held) != row["digest"]:
                resync.append(row["service"])
            else:
                self.holdings[appliance] = held
        self.reports[appliance].append(document)
        self.failed[appliance] += document["fill"]["failed"]
        answer = {"appliance": appliance, "result": "accepted", "health_source": "reported"}
        return answer | ({"resync": resync} if resync else {})


class ControlHandler(Quiet):
    def __init__(self, control: Control, *arguments: Any) -> None:
        self.control = control
        super().__init__(*arguments)

    def caller(self) -> str | None:
        token = self.headers.get("Authorization", "")
        return token.removeprefix("Bearer token-") if token.startswith("Bearer token-") else None

    def json(self, document: Any, **headers: str) -> None:
        self.answer(200, json.dumps(document).encode(), Content_Type="application/json", **headers)

    def do_GET(self) -> None:
        appliance, split = self.caller(), urlsplit(self.path)
        if appliance is None:
            self.answer(401)
            return
        with self.control.lock:
            if split.path == "/v1/fill/manifest":
                have = parse_qs(split.query).get("have", [""])[0]
                document, etag = self.control.manifest(appliance, have)
                if self.headers.get("If-None-Match") == etag:
                    self.control.manifests.append((appliance, 304, ""))
                    self.answer(304, ETag=etag)
                    return
                self.control.manifests.append((appliance, 200, document["services"][0]["kind"]))
                self.json(document, ETag=etag)
            elif body := self.control.recipes.get(split.path.rpartition("/")[2]):
                self.answer(200, body)
            else:
                self.answer(404)

    def do_POST(self) -> None:
        appliance = self.caller()
        document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if appliance is None or document.get("appliance", appliance) != appliance:
            self.answer(403)
            return
        with self.control.lock:
            verb = self.control.lease if self.path == "/v1/fill/sources" else self.control.report
            self.json(verb(appliance, document))


class Machine:
    """An appliance: a folder, its nginx and its agent."""

    def __init__(self, name: str, home: Path, control: Control, **more: Any) -> None:
        self.name, self.control = name, control
        self.home = home / name
        self.folder: Path = more.pop("folder", self.home / "content")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.home.mkdir(exist_ok=True)
        (self.home / "token").write_text(f"token-{name}\n")
        (self.home / "token").chmod(0o600)
        (self.home / "fill.key").write_text(f'default "{FILL_SECRET}";\n')
        (self.home / "fill.key").chmod(0o600)
        self.serve_port, self.fill_port, status_port = free_ports(3)
        values = {
            "id": name,
            "control": f"http://{control.host}",
            "token_file": str(self.home / "token"),
            "folder": str(self.folder),
            "capacity_gbps": 10,
            "report_s": 0.3,
            "serve_listen": f"127.0.0.1:{self.serve_port}",
            "fill_listen": f"127.0.0.1:{self.fill_port}",
            "status_listen": f"127.0.0.1:{status_port}",
            "fill_key_file": str(self.home / "fill.key"),
            "stall_s": 10.0,
            "retry_s": 0.3,
            "ipv4": "yes",
            "nginx_program": str(NGINX),
        } | more
        self.settings = ApplianceSettings(**values)
        lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
        (self.home / "appliance.toml").write_text("\n".join(lines))
        self.agent: subprocess.Popen[bytes] | None = None

    @property
    def source(self) -> dict[str, str]:
        return {"tier": "peer", "host": f"127.0.0.1:{self.fill_port}", "appliance": self.name}

    @contextlib.contextmanager
    def nginx(self, user: str = "root") -> Iterator[None]:
        """Run nginx with the configuration that `--nginx` prints.

        Its workers are root's where the tests are: pytest lets no other user into its folder of all runs, and closes
        that folder again whenever another run starts.
        """
        if not NGINX:
            pytest.skip("nginx is not installed")
        (self.home / "appliance.conf").write_text(configuration(self.settings))
        paths = "".join(
            f"{name}_temp_path {self.home}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (self.home / "nginx.conf").write_text(
            f"{'' if os.geteuid() else f'user {user};'} pid {self.home}/pid;\n"
            f"error_log {self.home}/error.log; daemon off; worker_processes 1; events {{}}\n"
            f"http {{ access_log {self.home}/access.log; {paths} include {self.home}/appliance.conf; }}\n"
        )
        command = [NGINX, "-p", str(self.home), "-c", str(self.home / "nginx.conf")]
        with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
            try:
                until(lambda: port_is_open(self.serve_port), process)
                yield
            finally:
                process.terminate()

    @contextlib.contextmanager
    def agent_running(self) -> Iterator[None]:
        self.start()
        try:
            yield
        finally:
            self.stop()

    def start(self) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("STEERING_")}
        environment["STEERING_APPLIANCE_CONFIG"] = str(self.home / "appliance.toml")
        with (self.home / "agent.log").open("ab") as log:
            command = [sys.executable, "-m", "steering.appliance", "--verbose"]
            self.agent = subprocess.Popen(command, env=environment, stderr=log)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        assert self.agent
        self.agent.send_signal(how)
        return self.agent.wait(PATIENCE_S)

    def log(self) -> str:
        return (self.home / "agent.log").read_text()

    def get(self, title: str, path: str) -> httpx.Response:
        """Ask this appliance's nginx as a player."""
        return ASKING.get(f"http://127.0.0.1:{self.serve_port}/v/{title}/{path}")

    def serves(self, title: str, content: Content) -> bool:
        """Return whether a title is served whole; a wrong byte is a failure of the test."""
        for path, data in content.files.items():
            answer = self.get(title, path)
            if answer.status_code != 200:
                print(f"{self.name}: {title}/{path}: {answer.status_code}")
                return False
            assert answer.content == data, f"{title}/{path}: a wrong byte was served"
        return True


def port_is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def until(condition: Callable[[], object], process: subprocess.Popen[bytes] | None = None) -> None:
    """Wait for something that other processes do."""
    began = time.monotonic()
    while not condition():
        assert process is None or process.poll() is None, "the process has ended"
        assert time.monotonic() - began < PATIENCE_S, "it did not happen"
        time.sleep(0.02)
