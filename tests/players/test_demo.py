"""The demo runs from one command: its page plays from one appliance, and from another when a button fails that one."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.players.stage import Browser
from tests.players.tools import modules, need

ROOT = Path(__file__).parents[2]
HOSTS = {"127.0.0.2": "c001-bom001", "127.0.0.3": "c002-bom001", "127.0.0.4": "c001-del001"}


@pytest.fixture
def page() -> Iterator[str]:
    """Run the demo and give the address of its page."""
    for program in ("node", "npm", "chromium", "ffmpeg", "nginx"):
        need(program)
    modules()
    command = [sys.executable, "-m", "deploy.demo.run", "20"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if result := re.match(r"open (http://\S+)", line):
                break
        else:
            if "npm could not" in "".join(lines):
                pytest.skip("".join(lines))
            raise AssertionError("".join(lines))
        try:
            yield result[1]
        finally:
            process.terminate()
            process.wait(30)


def test_the_page_plays_and_its_buttons_move_the_players(page: str) -> None:
    browser = Browser()
    try:
        browser.open({"demo": page})
        browser.wait(lambda: len([host for host in browser.media("demo") if host in HOSTS]) >= 6, 60)
        (first,) = {host for host in browser.media("demo") if host in HOSTS}
        pressed = httpx.post(f"{page}fail/{HOSTS[first]}", json={})
        assert pressed.status_code == 204
        browser.wait(lambda: {*browser.media("demo")[-4:]} <= HOSTS.keys() - {first}, 60)
        assert {event["host"] for event in browser.events if "host" in event} <= {*HOSTS, "127.0.0.1", "127.0.0.5", ""}
        assert browser.of("demo", "pageerror") == []
        assert httpx.post(f"{page}fail/{HOSTS[first]}", content="no other page may").status_code == 403
    finally:
        browser.quit()
