"""The demo: three appliances and a fallback, the service, and a page on which three players are steered between them.

    127.0.0.1   the page, with its buttons; the service
    127.0.0.2   c001-bom001   an appliance each: nginx with generated media
    127.0.0.3   c002-bom001
    127.0.0.4   c001-del001
    127.0.0.5   the service's fallback

`make demo`, then open what it prints. Nothing outside this machine is asked once npm has brought the players. Control-C
ends it all, and leaves nothing behind but the players in the venv.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx

from deploy.demo.parts import MissingError, install, make_media, need
from steering.control.remote import RemoteControl
from steering.control.routes.feeds import FeedSource
from steering.control.services.control import Control
from steering.model.fleet import Appliance, Cluster, Fleet, Partner, Site
from steering.model.route import RouteClass
from steering.model.service import Service
from steering.settings import Settings, read_settings

HERE = Path(__file__).parent
TITLE = "demo"
CAPACITY_GBPS = 100.0
REPORT_S = 1
LENGTH_S = 120  # of the media, which loops
HOMES = {"c001-bom001": "bom001-a", "c002-bom001": "bom001-a", "c001-del001": "del001-a"}
ADDRESSES = {"c001-bom001": "127.0.0.2", "c002-bom001": "127.0.0.3", "c001-del001": "127.0.0.4", "cdn": "127.0.0.5"}
# Quick enough to be watched, and three appliances are no fleet whose outages could be an error of the watchers.
SETTINGS = {
    "special_prefixes": "accept",
    "report_s": str(REPORT_S),
    "missed_reports": "2",
    "slow_start_s": "12",
    "load_excess": "10",
    "ejection_limit_cluster": "1",
    "ejection_limit_partner": "1",
    "ejection_limit_fleet": "1",
}
TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css"}

# One process, no files but below its own folder.
NGINX = """\
daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off; sendfile on; keepalive_timeout 30;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    types {{ application/vnd.apple.mpegurl m3u8; application/dash+xml mpd; video/mp4 mp4 m4s; }}
    server {{
        listen {address}:{port};
        root {media};
        add_header access-control-allow-origin * always;
        add_header cache-control no-store always;
        location /v/ {{ rewrite ^/v/[^/]+/(.*)$ /$1 break; }}
    }}
}}
"""


class Machine:
    """One appliance: an nginx that can be killed and started, and what is the matter with it."""

    def __init__(self, name: str, folder: Path, media: Path, port: int) -> None:
        self.name = name
        self.address = ADDRESSES[name]
        self.state = "serving"
        self.folder = folder / name
        self.folder.mkdir()
        self.config = self.folder / "nginx.conf"
        self.config.write_text(NGINX.format(folder=self.folder, media=media, address=self.address, port=port))
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def host(self) -> str:
        """Return the address in a form that a fleet takes for a name; browsers read it as the address that it is."""
        start, _, last = self.address.rpartition(".")
        return f"{start}.0x{int(last):x}"

    def start(self) -> None:
        """Serve."""
        command = [need("nginx"), "-e", str(self.folder / "error.log"), "-p", str(self.folder), "-c", str(self.config)]
        self.process = subprocess.Popen(command)

    def kill(self) -> None:
        """Be gone, with all connections."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None


class Demo:
    """The machines, what the buttons do to them, and what they report of themselves, once a second."""

    def __init__(self, settings: Settings, machines: dict[str, Machine], control: str, tokens: dict[str, str]) -> None:
        self.settings = settings
        self.machines = machines
        self.control = httpx.Client(base_url=f"http://{control}", timeout=2)
        self.tokens = tokens
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.report, daemon=True)
        self.thread.start()

    def do(self, action: str, name: str) -> None:
        """Do what a button says."""
        machine = self.machines[name]
        if action == "fail":
            machine.kill()
            machine.state = "failed"
        elif action == "overload":
            machine.state = "overloaded"
        elif action == "drain":
            with RemoteControl(self.settings) as control:
                control.overrides.drain([name], "demo")
            machine.state = "drained"
        else:
            if machine.process is None:
                machine.start()
            with RemoteControl(self.settings) as control:
                control.overrides.enable([name], "demo")
            machine.state = "serving"

    def report(self) -> None:
        """Report each machine that is there, as an appliance does; one that is gone says nothing."""
        boot, seq = f"demo-{os.getpid()}", 0
        while not self.stopping.wait(REPORT_S):
            seq += 1
            for name in HOMES:
                machine = self.machines[name]
                if machine.process is None:
                    continue
                left = 0.0 if machine.state == "overloaded" else 0.9 * CAPACITY_GBPS
                health = {"throughput_gbps": CAPACITY_GBPS - left, "headroom_gbps": left}
                row = {"appliance": name, "boot": boot, "seq": seq, "at": time.time(), "health": health}
                with contextlib.suppress(httpx.HTTPError):  # the next one comes in a second
                    self.control.post("/v1/reports", json=row, headers={"authorization": f"Bearer {self.tokens[name]}"})

    def describe(self) -> list[dict[str, Any]]:
        """Return the machines for the page."""
        return [{"id": item.name, "address": item.address, "state": item.state} for item in self.machines.values()]


def make_fleet(machines: dict[str, Machine], port: int) -> Fleet:
    """Two appliances where the viewers' ISP is at home, one at its next site, and a fallback."""
    return Fleet(
        partners=(Partner("as64500", "Example ISP", "IN", (64500,)),),
        sites=(Site("bom001", "IN", "Mumbai", 19.09, 72.87), Site("del001", "IN", "Delhi", 28.57, 77.1)),
        clusters=tuple(Cluster(f"{site}-a", site, RouteClass.embedded, "as64500") for site in ("bom001", "del001")),
        appliances=tuple(
            Appliance(name, home, machines[name].host, CAPACITY_GBPS) for name, home in sorted(HOMES.items())
        ),
        services=(
            Service(
                "video",
                f"http://{{host}}:{port}/v/{{title}}",
                f"http://{machines['cdn'].host}:{port}/v/{{title}}",
                steer_ttl_s=4,
                ttl_jitter=0.25,
            ),
        ),
    )


def publish(settings: Settings, machines: dict[str, Machine], port: int, folder: Path) -> dict[str, str]:
    """Publish the fleet, the routes of this machine, and the playlists; return a token for each appliance."""
    routes = folder / "routes.csv"
    routes.write_text("prefix,cluster,as_path,med\n127.0.0.0/8,bom001-a,64500,0\n127.0.0.0/8,del001-a,64500,100\n")
    with Control(settings) as control:
        control.fleet.replace(make_fleet(machines, port), "demo")
        control.tables.publish([FeedSource("csv", str(routes))], "demo")
        for kind, name in (("hls", "master.m3u8"), ("dash", "manifest.mpd")):
            control.playlists.put("video", TITLE, kind, (folder / "media" / name).read_bytes(), "demo")
        return {name: control.tokens.make(f"appliance:{name}", "", "demo")["token"] for name in HOMES}


def page_server(
    demo: Demo, modules: Path, listener: str, origins: list[str], port: int
) -> http.server.ThreadingHTTPServer:
    """Return the server of the page and its buttons. The page may talk to nobody but the service and the machines."""
    allowed = " ".join([listener, *origins])
    policy = (
        f"default-src 'self'; connect-src 'self' {allowed}; media-src 'self' blob: {allowed}; worker-src 'self' blob:; "
        "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:"
    )

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/state":
                about = {"listener": listener, "title": TITLE, "machines": demo.describe()}
                self.reply(200, json.dumps(about).encode(), "application/json")
                return
            root, name = (modules, path.removeprefix("/modules/")) if path.startswith("/modules/") else (HERE, path[1:])
            file = (root / (name or "index.html")).resolve()
            if root.resolve() in file.parents and file.is_file() and file.suffix in TYPES:
                self.reply(200, file.read_bytes(), TYPES[file.suffix])
            else:
                self.reply(404, b"not here\n", "text/plain")

        def do_POST(self) -> None:
            _, action, name = [*self.path.split("/"), "", ""][:3]
            if self.headers.get("content-type") != "application/json":  # no other page may press a button
                self.reply(403, b"no\n", "text/plain")
            elif action in ("fail", "drain", "overload", "recover") and name in HOMES:
                demo.do(action, name)
                self.reply(204, b"", "text/plain")
            else:
                self.reply(404, b"no such button\n", "text/plain")

        def reply(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            for header, value in {
                "content-type": kind,
                "content-length": str(len(body)),
                "content-security-policy": policy,
                "cache-control": "no-store",
            }.items():
                self.send_header(header, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing: the terminal is for the address."""

    http.server.ThreadingHTTPServer.daemon_threads = True
    return http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)


def free_port(addresses: list[str], wanted: int) -> int:
    """Return a port that is free on all of these addresses, the wanted one if it is."""
    for port in (wanted, *range(wanted + 1, wanted + 100)):
        with contextlib.ExitStack() as stack:
            try:
                for address in addresses:
                    listener = stack.enter_context(socket.socket())
                    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    listener.bind((address, port))
            except OSError:
                continue
            return port
    raise MissingError(f"no port from {wanted} on is free on {', '.join(addresses)}")


def main() -> int:
    """Run until Control-C."""
    try:
        for program in ("nginx", "ffmpeg", "node", "npm"):
            need(program)
        print("fetching the players (npm)", flush=True)
        modules = install(HERE / "package.json") / "node_modules"
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        with contextlib.ExitStack() as stack:
            run(stack, modules, int(sys.argv[1]) if len(sys.argv) > 1 else LENGTH_S)
    except MissingError as error:
        print(
            f"the demo {error}\nDebian: apt-get install --no-install-recommends nginx-light ffmpeg nodejs npm",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print()
    return 0


def run(stack: contextlib.ExitStack, modules: Path, length_s: int) -> None:
    """Start everything, say where the page is, and wait."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="steering-demo-")))
    folder.chmod(0o755)
    print("generating media (ffmpeg)", flush=True)
    make_media(
        folder / "media", length_s, "480x270", {"low": "250k", "high": "600k"}, "eq=saturation=0.4:brightness=-0.08"
    )
    port = free_port(list(ADDRESSES.values()), 8180)
    listener = f"127.0.0.1:{free_port(['127.0.0.1'], 8090)}"
    machines: dict[str, Machine] = {}
    for name in ADDRESSES:
        machines[name] = Machine(name, folder, folder / "media", port)
        stack.callback(machines[name].kill)
    control = f"127.0.0.1:{free_port(['127.0.0.1'], 8091)}"
    given = {**SETTINGS, "control_listen": control, "public_url": f"http://{listener}"}
    os.environ.update({f"STEERING_{name.upper()}": value for name, value in given.items()})
    settings = read_settings(state=folder / "state")
    tokens = publish(settings, machines, port, folder)
    command = [sys.executable, "-m", "steering.cli", "serve", "--state", str(settings.state), "--listen", listener]
    service = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    stack.callback(service.terminate)
    assert service.stdout is not None
    while not service.stdout.readline().startswith("serving on"):
        if service.poll() is not None:
            raise MissingError("has no service: it ended")
    demo = Demo(settings, machines, control, tokens)
    stack.callback(demo.thread.join)
    stack.callback(demo.stopping.set)
    origins = [f"http://{machine.address}:{port}" for machine in machines.values()]
    server = page_server(demo, modules, f"http://{listener}", origins, free_port(["127.0.0.1"], 8088))
    stack.callback(server.server_close)
    print(f"open http://127.0.0.1:{server.server_address[1]}/   (Control-C ends it)", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
