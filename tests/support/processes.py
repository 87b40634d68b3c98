"""Real processes for the tests: a service of the tiny fleet, asked over its listeners, and its children by their pids."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from steering.control.routes.feeds import FeedSource
from steering.control.services.control import Control
from steering.model.fleet import Fleet
from steering.settings import read_settings

# Longer than a publish takes where all cores are full: its child waits 10 s for a core that is left over (PATIENCE_S of
# process/child.py) before it starts again at control's priority, of which a busy machine leaves a tenth of a core.
PATIENCE_S = 60.0
# Keeps no connection, so that any of the workers may answer; made once, because making a client takes its time.
ASKING = httpx.Client(limits=httpx.Limits(max_keepalive_connections=0), timeout=5)


# Starts a service that waits a few seconds for clients and for an idle core, not half a minute and ten seconds.
SHORT_HEAD_S, SHORT_READ_S = 3, 6
SHORT_LIMITS = f"""
import sys
from steering.cli import main
from steering.control.api import protocol
from steering.playback.server import connections, states
from steering.process import child
limits = {{states.HEAD_S: {SHORT_HEAD_S}, states.READ_S: {SHORT_READ_S}}}
for table in (states.LIMITS, connections.FALLBACK_LIMITS):
    table.update({{state: (limits.get(seconds, seconds), cut_off) for state, (seconds, cut_off) in table.items()}})
protocol.HEAD_S, protocol.READ_S = {SHORT_HEAD_S}, {SHORT_READ_S}
child.PATIENCE_S = 2.0
del sys.argv[1:4]
main()
"""
IMPATIENT = (sys.executable, "-c", SHORT_LIMITS)


class Served:
    """A running service, its listeners and its processes; `url` is the first listener's."""

    def __init__(self, process: subprocess.Popen[str], state: Path) -> None:
        self.process = process
        self.state = state
        assert process.stdout is not None
        self.lines = []
        for line in process.stdout:
            self.lines.append(line.rstrip())
            if line.startswith("serving on "):
                break
        assert self.lines, process.communicate()[1]
        self.listeners = self.lines[-1].removeprefix("serving on ").split(", ")
        self.url = self.listeners[0]
        self.settings = read_settings(state=state)

    def steer(self, **parameters: Any) -> dict[str, Any]:
        """Ask for a client of the tiny fleet's ISP, on a connection of its own."""
        return self.ask("/v1/steer", **{"title": "t", "ip": "203.0.113.7"} | parameters)

    def ask(self, path: str, **parameters: Any) -> dict[str, Any]:
        """Ask on a connection of its own."""
        answer = ASKING.get(self.url + path, params=parameters)
        assert answer.status_code == 200, answer.text
        result: dict[str, Any] = answer.json()
        return result

    def children(self) -> dict[int, str]:
        """Return the pids of control and workers, each with who listens on what."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return {int(pid): "control" if self.holds_lock(int(pid)) else "worker" for pid in listed}

    def holds_lock(self, pid: int) -> bool:
        with contextlib.suppress(OSError):
            return any(fd.readlink() == self.state / "lock" for fd in Path(f"/proc/{pid}/fd").iterdir())
        return False

    def pids(self, kind: str) -> list[int]:
        return [pid for pid, result in self.children().items() if result == kind]


def publish_tiny_fleet(folder: Path, fleet: Fleet) -> Path:
    """Make a state folder in which a table of the tiny fleet is published, from a feed beside it; return it."""
    state, feed = folder / "state", folder / "routes.csv"
    feed.write_text("prefix,cluster,as_path,med\n203.0.113.0/24,bom001-a,64500,0\n203.0.113.0/24,del001-a,64500,100\n")
    with Control(read_settings(state=state)) as control:
        control.fleet.replace(fleet, "test")
        control.tables.publish([FeedSource("csv", str(feed))], "test")
    return state


@contextlib.contextmanager
def serving(state: Path, *arguments: str, listen: str = "127.0.0.1:0", through: Sequence[str] = ()) -> Iterator[Served]:
    """Give a service that is ready, and kill it outright at the end; `through` is a command that becomes it."""
    command = [*through, sys.executable, "-m", "steering.cli", "serve", "--state", str(state), "--listen", listen]
    with subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield Served(process, state)
        finally:
            process.kill()


@contextlib.contextmanager
def disk(folder: Path, options: str) -> Iterator[Path]:
    """Give a new folder on a tmpfs of its own (tmpfs(5)); skip the test where none may be mounted."""
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount or "", "-t", "tmpfs", "-o", options, "none", str(folder)]
    if os.geteuid() or not mount or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a disk needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def until(condition: Callable[[], bool], seconds: float = PATIENCE_S) -> float:
    """Wait for something that other processes do; return how long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "it did not happen"
        time.sleep(0.02)
    return time.monotonic() - began


def is_listening(port: int) -> bool:
    """Tell whether a process accepts connections on a port of 127.0.0.1."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def is_running(pid: int) -> bool:
    try:
        return re.search(r"^State:\s+Z", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE) is None
    except OSError:
        return False
