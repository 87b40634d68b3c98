"""`steering-appliance --check` names what is wrong and the step that mends it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from steering.appliance.check import check, check_certificate, check_fill_key, check_folder, check_token
from tests.support.fill_stage import FILL_SECRET, Content, Control, Machine, until


def run(machine: Machine, *flags: str) -> tuple[int, str]:
    environment = os.environ | {"STEERING_APPLIANCE_CONFIG": str(machine.home / "appliance.toml")}
    command = [sys.executable, "-m", "steering.appliance", *flags]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return ended.returncode, ended.stdout + ended.stderr


def test_a_sound_appliance_has_nothing_wrong(tmp_path: Path) -> None:
    film = Content(1, {"film.mp4": 5})
    with Control().running() as control:
        control.sources = {"c1": []}
        control.want("c1", film.title("t1"))
        machine = Machine("c1", tmp_path, control)
        with machine.nginx(), machine.agent_running():
            until(lambda: control.reports["c1"], machine.agent)
            status, text = run(machine, "--check")
        assert status == 0, text
        assert "plan 2, 1 titles" in text
        assert "failed" not in text


def test_each_fault_is_a_row_with_a_step(tmp_path: Path) -> None:
    with Control().running() as control:
        machine = Machine("c1", tmp_path, control)
        (machine.home / "token").write_text("other")
        status, text = run(machine, "--check")
        rows = {line.split("  ")[0].strip(): line for line in text.splitlines() if line[:1].strip()}
        assert status == 1
        for part in ("counters", "canary", "players' port", "fill port", "control"):
            assert "failed" in rows[part], text
        assert "the token is not valid" in rows["control"]
        for part in ("token", "disk", "fill key", "clock"):
            assert " ok " in rows[part], text
        assert run(machine, "--check", "--capacity-gbps", "0")[0] == 2
        status, text = run(machine, "--folder", str(tmp_path / "none"))
        assert (status, "No such file" in text) == (2, True)
        assert run(machine, "--nginx")[1].startswith("# Made by")
        assert "--disk-bytes" in run(machine, "--help")[1]


def test_files_that_are_wrong(tmp_path: Path) -> None:
    with Control().running() as control:
        machine = Machine("c1", tmp_path, control)
        key = machine.home / "fill.key"
        key.chmod(0o644)
        assert "all users can read it" in check_fill_key(machine.settings).text
        for text in ("", "secret", "default short;", f'default "{FILL_SECRET}"; evil on;'):
            key.write_text(text)
            assert check_fill_key(machine.settings).result == "failed", text
        key.unlink()
        assert check_fill_key(machine.settings).step
        (machine.home / "token").chmod(0o640)
        assert "chmod 0600" in check_token(machine.settings).step
        machine.folder.chmod(0o750)
        assert check_folder(machine.settings).result == "warning"
        machine.folder.rmdir()
        assert check_folder(machine.settings).result == "failed"
        both = {"certificate_file": key, "certificate_key_file": key}
        assert check_certificate(machine.settings.model_copy(update=both)).result == "failed"


@pytest.mark.anyio
async def test_a_manifest_for_another_appliance_is_named(tmp_path: Path) -> None:
    with Control().running() as control:
        machine = Machine("c1", tmp_path, control)
        control.settings["c1"]["appliance"] = "c2"
        rows = {row.part: row for row in await check(machine.settings)}
        assert "it is for 'c2'" in rows["control"].text
        assert rows["clock"].result == "ok"
