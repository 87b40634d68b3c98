"""The servers that are measured: each runs on one core, /proc gives its CPU time and memory, and all end together."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from steering.control.remote import RemoteControl
from steering.settings import Settings
from steering.tls.certificates import CIPHERS, Pair
from tests.bench.load import find

ROOT = Path(__file__).parents[2]
FLOOR = Path(__file__).with_name("floor.c")
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
PATIENCE_S = 60.0  # nginx reads 732 k lines of a geo map before it answers


class Server:
    """A running server: its URL and all its processes."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url

    def pids(self) -> list[int]:
        """Return the process and its children."""
        return [self.process.pid, *children(self.process.pid)]

    def cpu_s(self) -> float:
        """Return the user and system seconds of all processes so far."""
        return sum(read_cpu_s(Path(f"/proc/{pid}/stat").read_text()) for pid in self.pids())


class Steering(Server):
    """A running `steering serve`."""

    def __init__(self, process: subprocess.Popen[str], state: Path) -> None:
        assert process.stdout is not None
        self.control_url = ""
        for line in process.stdout:
            if line.startswith("control on "):
                self.control_url = line.removeprefix("control on ").strip()
            if line.startswith("serving on "):
                break
        else:
            raise AssertionError(f"steering serve ended with status {process.wait()}")
        super().__init__(process, line.removeprefix("serving on ").strip())
        self.state = state

    def control(self) -> int:
        """Return the pid of the control process: the one that holds the state folder's lock."""
        return next(pid for pid in children(self.process.pid) if holds(pid, self.state / "lock"))

    def workers(self) -> list[int]:
        """Return the pids of the playback workers."""
        return [pid for pid in children(self.process.pid) if pid != self.control()]

    def reload(self) -> None:
        """Publish the same feeds again; return when `current` names the new files."""
        with RemoteControl(Settings(state=self.state)) as control:
            control.tables.reload("bench")


def children(pid: int) -> list[int]:
    """Return the pids of a process's children. No server here has grandchildren."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def holds(pid: int, path: Path) -> bool:
    """Tell whether a process has a file open."""
    with contextlib.suppress(OSError):
        return any(descriptor.resolve() == path.resolve() for descriptor in Path(f"/proc/{pid}/fd").iterdir())
    return False


def read_cpu_s(stat: str) -> float:
    """Return user + system seconds of a line of /proc/PID/stat (proc(5)): fields 14 and 15, counted after the name.

    The name stands in parentheses and may itself hold spaces and parentheses.
    """
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


def read_memory(smaps: str) -> dict[str, int]:
    """Return the bytes of each line of /proc/PID/smaps_rollup (Rss, Pss, Private_Dirty, ...)."""
    rows = (line.split() for line in smaps.splitlines()[1:])
    return {row[0].removesuffix(":"): int(row[1]) * 1024 for row in rows}


def memory_of(pid: int) -> dict[str, int]:
    """Return a process's memory in bytes by type; `Private` is the part that no other process shares."""
    sizes = read_memory(Path(f"/proc/{pid}/smaps_rollup").read_text())
    return sizes | {"Private": sizes["Private_Clean"] + sizes["Private_Dirty"]}


@contextlib.contextmanager
def running(command: Sequence[str], cores: Iterable[int], env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Run a command and its children on these cores, in a process group of their own, and end them all."""
    pin = functools.partial(os.sched_setaffinity, 0, set(cores))
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=env, preexec_fn=pin, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def serve_steering(
    state: Path,
    cores: Iterable[int],
    workers: int = 1,
    fast_path: bool = True,
    control: str = "",
    pair: Pair | None = None,
) -> Iterator[Steering]:
    """Serve a published state folder; with `fast_path` off, FastAPI answers every request.

    `control` is the TCP address that the control API listens on; with a certificate and its key, playback speaks TLS.
    """
    env = {**os.environ, "STEERING_CONTROL_LISTEN": control, "STEERING_FAST_PATH": str(int(fast_path))}
    if pair:
        env |= {"STEERING_TLS_CERT": str(pair[0]), "STEERING_TLS_KEY": str(pair[1])}
    command = [sys.executable, "-m", "steering.cli", "serve", "--state", str(state)]
    command += ["--listen", f"{'tls:' if pair else ''}127.0.0.1:0", "--workers", str(workers)]
    with running(command, cores, env) as process:
        yield Steering(process, state)


@contextlib.contextmanager
def serve_nginx(
    folder: Path, cores: Iterable[int], zones: Mapping[str, str], body_bytes: int, pair: Pair | None = None
) -> Iterator[Server]:
    """Serve from nginx with the configuration of `nginx_config`."""
    port = free_port()
    config, errors = folder / "nginx.conf", folder / "error.log"
    config.write_text(nginx_config(folder, port, zones, body_bytes, pair))
    nginx = find("nginx")
    assert nginx
    with running([nginx, "-p", str(folder), "-c", str(config), "-e", str(errors)], cores, dict(os.environ)) as process:
        yield wait_until_it_answers(process, port, errors, "https" if pair else "http")


@contextlib.contextmanager
def serve_floor(folder: Path, cores: Iterable[int], answer: bytes) -> Iterator[Server]:
    """Serve the same bytes to every request from floor.c: the cost of one recv and one send."""
    program, data = folder / "floor", folder / "answer"
    data.write_bytes(answer)
    subprocess.run(["cc", "-O2", "-o", str(program), str(FLOOR)], check=True)
    port = free_port()
    with running([str(program), str(port), str(data)], cores, dict(os.environ)) as process:
        yield wait_until_it_answers(process, port, data)


@contextlib.contextmanager
def busy_neighbour(cores: Iterable[int]) -> Iterator[int]:
    """Keep one of these cores busy with a process of normal priority outside steering, and yield its pid."""
    with running([sys.executable, "-c", "while True: pass"], cores, dict(os.environ)) as process:
        yield process.pid


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that no server uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_it_answers(process: subprocess.Popen[str], port: int, log: Path, scheme: str = "http") -> Server:
    """Return the server once it answers; AssertionError with its log if it ends or stays silent."""
    server = Server(process, f"{scheme}://127.0.0.1:{port}")
    deadline = time.monotonic() + PATIENCE_S
    while not answers(f"{server.url}/v1/steer?ip=192.0.2.1"):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, f"no answer within {PATIENCE_S:.0f} s"
        time.sleep(0.1)
    return server


def answers(url: str) -> bool:
    """Tell whether a URL is answered with success."""
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE_S, context=ssl._create_unverified_context()):
            return True
    except urllib.error.URLError:
        return False


def floor_answer(total_bytes: int) -> bytes:
    """Return a whole HTTP answer of so many bytes, head and body, with the headers that steering sends."""
    head = (
        "HTTP/1.1 200 OK\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\ncontent-type: application/json\r\n"
        "cache-control: no-store\r\naccess-control-allow-origin: *\r\ncontent-length: {length}\r\n\r\n"
    )
    body_bytes = total_bytes - len(head.format(length=total_bytes))
    body = '{"targets":"' + "t" * (body_bytes - len('{"targets":""}')) + '"}'
    return (head.format(length=f"{len(body):0{len(str(total_bytes))}}") + body).encode()


def nginx_config(folder: Path, port: int, zones: Mapping[str, str], body_bytes: int, pair: Pair | None = None) -> str:
    """Return a configuration with one worker that looks up `ip=` in a geo map of prefix to ASN and answers the ASN.

    With an ASN of five digits the body has `body_bytes` bytes; players get a fixed body of the same size. The headers
    are those of steering, plus the ones that nginx always sends. nginx logs nothing and keeps every connection open.
    With a certificate and its key, it speaks TLS 1.2 and 1.3 with the ciphers that steering takes.
    """
    tls = (
        f"""
  ssl_certificate {pair[0]};
  ssl_certificate_key {pair[1]};
  ssl_protocols TLSv1.2 TLSv1.3;
  ssl_ciphers {CIPHERS};"""
        if pair
        else ""
    )
    geo = "".join(f"  {prefix} {asn};\n" for prefix, asn in zones.items())
    start, end = '{"zone":', ',"targets":""}'
    filler = "t" * (body_bytes - len(start) - len("64500") - len(end))
    manifest = '{"VERSION":1,"TTL":30,"PATHWAY-PRIORITY":[""]}'
    manifest = f"{manifest[:-3]}{'t' * (body_bytes - len(manifest))}{manifest[-3:]}"
    players = "".join(
        f"""\
  location /v1/{protocol}/ {{
   default_type application/vnd.apple.steering-list;
   add_header cache-control no-store;
   add_header access-control-allow-origin *;
   add_header access-control-expose-headers Retry-After;
   return 200 '{manifest}';
  }}
"""
        for protocol in ("hls", "dash")
    )
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f" {kind}_temp_path {folder / kind};\n" for kind in kinds)
    return f"""\
daemon off;
worker_processes 1;
pid {folder / "nginx.pid"};
events {{ worker_connections 1024; }}
http {{
{paths} access_log off;
 server_tokens off;
 keepalive_timeout 1h;
 keepalive_requests 1000000000;
 geo $arg_ip $zone {{
  default 0;
{geo} }}
 server {{
  listen 127.0.0.1:{port}{" ssl" if pair else ""} reuseport backlog=2048;{tls}
  location = /v1/steer {{
   default_type application/json;
   add_header cache-control no-store;
   add_header access-control-allow-origin *;
   return 200 '{start}$zone{end[:-2]}{filler}{end[-2:]}';
  }}
{players} }}
}}
"""
