"""The files of deploy/ say what this version does, and the service works inside the walls that they put up."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from steering.model.fleet import Fleet
from steering.settings import Settings
from steering.supervisor.serve import READY_S
from steering.supervisor.tasks import GRACE_S
from tests.support.processes import Served, is_listening, publish_tiny_fleet, serving

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy" / "steering.service"
CONTAINER = ROOT / "deploy" / "Containerfile"
COMMAND = "/opt/steering/bin/steering"

PR_SET_NO_NEW_PRIVS, PR_SET_MDWE = 38, 65
# Walls that a process can put up around itself, linux/prctl.h; then it becomes another program.
WALLED = """
import ctypes, os, sys
prctl = ctypes.CDLL(None, use_errno=True).prctl
for what in {numbers}:
    if prctl(what, 1, 0, 0, 0):
        sys.exit(os.strerror(ctypes.get_errno()))
os.execv(sys.argv[1], sys.argv[1:])
"""


def read_unit() -> configparser.ConfigParser:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(UNIT.read_text())
    return unit


def seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+)s", text)
    assert found, text
    return float(found[1])


def test_the_unit_starts_and_ends_the_service_as_the_supervisor_does() -> None:
    service = read_unit()["Service"]
    assert service["Type"] == "notify"
    assert service["ExecStart"].split()[:2] == [COMMAND, "serve"]
    assert service["ExecReload"].endswith("kill -HUP $MAINPID")
    assert service["KillMode"] == "mixed"
    assert seconds(service["TimeoutStopSec"]) > GRACE_S
    assert seconds(service["TimeoutStartSec"]) > READY_S
    assert service["StateDirectory"] == "steering"
    named = re.findall(r"^Environment=STEERING_([A-Z_]+)=", UNIT.read_text(), re.MULTILINE)
    assert {name.lower() for name in named} <= {*Settings.model_fields, "config"}


def test_systemd_has_nothing_to_say_about_the_unit(tmp_path: Path) -> None:
    if not (analyze := shutil.which("systemd-analyze")):
        pytest.skip("systemd-analyze is not installed")
    command = tmp_path / "steering"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace(COMMAND, str(command)))
    found = subprocess.run([analyze, "verify", str(copy)], capture_output=True, text=True, timeout=60, check=False)
    assert (found.returncode, [line for line in found.stderr.splitlines() if UNIT.name in line]) == (0, []), (
        found.stderr
    )


def test_the_service_gains_no_privileges_and_needs_no_memory_that_is_written_and_executed(
    tmp_path: Path, fleet: Fleet
) -> None:
    service = read_unit()["Service"]
    assert (service["NoNewPrivileges"], service["MemoryDenyWriteExecute"]) == ("yes", "yes")
    numbers = [PR_SET_NO_NEW_PRIVS, PR_SET_MDWE]
    code = WALLED.format(numbers=numbers)
    tried = subprocess.run([sys.executable, "-c", code, "/bin/true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"this kernel cannot refuse such memory: {tried.stderr.strip()}")
    with serving(publish_tiny_fleet(tmp_path, fleet), through=(sys.executable, "-c", code)) as served:
        assert served.steer()["targets"]
        for pid in served.children():
            assert "NoNewPrivs:\t1" in Path(f"/proc/{pid}/status").read_text()


def test_one_capability_is_enough_for_a_port_below_1024(tmp_path: Path, fleet: Fleet) -> None:
    text = (ROOT / "deploy" / "steering-port-443.conf").read_text()
    (capability,) = set(re.findall(r"^(?:AmbientCapabilities|CapabilityBoundingSet)=(\S+)$", text, re.MULTILINE))
    name = capability.removeprefix("CAP_").lower()
    setpriv = shutil.which("setpriv")
    first = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if not setpriv or os.geteuid() or first < 444:
        pytest.skip("only root can give capabilities, with setpriv(1)")
    state = publish_tiny_fleet(tmp_path, fleet)
    ports = (port for port in range(443, first) if not is_listening(port))
    listen = f"127.0.0.1:{next(ports)}"
    walls = [setpriv, "--no-new-privs", "--inh-caps", f"-all,+{name}", "--ambient-caps", f"-all,+{name}"]
    with serving(state, listen=listen, through=(*walls, "--bounding-set", f"-all,+{name}")) as served:
        assert served.url == f"http://{listen}"
        assert served.steer()["targets"]
    command = [
        *walls[:2],
        "--inh-caps",
        "-all",
        "--bounding-set",
        "-all",
        sys.executable,
        "-m",
        "steering.cli",
        "serve",
    ]
    refused = subprocess.run(
        [*command, "--state", str(state), "--listen", listen], capture_output=True, text=True, timeout=60, check=False
    )
    assert refused.returncode == 2
    assert f"cannot listen on {listen}: Permission denied" in refused.stderr


def test_the_container_is_built_of_what_is_there_and_is_nobody_special() -> None:
    text = CONTAINER.read_text().replace("\\\n", "")
    lines = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    bases = [words[1] for words in lines if words[0] == "FROM"]
    oldest = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert bases == [f"python:{oldest.removeprefix('>=')}-slim"] * 2
    last = lines[[at for at, words in enumerate(lines) if words[0] == "FROM"][-1] :]
    assert ["USER", "steering"] in last
    copied = {name for words in lines if words[0] == "COPY" and "--from=build" not in words for name in words[1:-1]}
    assert {name for name in copied if not (ROOT / name).exists()} == set()
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert {name.partition(".")[0] for name in packages} <= copied
    named = re.findall(r"STEERING_([A-Z_]+)=", text)
    assert {name.lower() for name in named} <= set(Settings.model_fields)


def test_the_container_is_healthy_while_the_service_answers(served: Served) -> None:
    found = re.search(r"^HEALTHCHECK .*?CMD (\[.+\])$", CONTAINER.read_text().replace("\\\n", ""), re.MULTILINE)
    assert found
    _, *arguments = json.loads(found[1])
    arguments[-1] = arguments[-1].replace("http://127.0.0.1:8080", served.url)
    command = [sys.executable, *arguments]
    assert subprocess.run(command, capture_output=True, timeout=10, check=False).returncode == 0
    served.process.terminate()
    served.process.wait()
    assert subprocess.run(command, capture_output=True, timeout=10, check=False).returncode != 0
