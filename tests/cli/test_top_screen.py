"""The frame of `steering top`: it fits the terminal, says the worst first, and never drives the terminal by a name."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from steering.cli.top_screen import frame
from steering.model.fleet import Fleet
from tests.support.processes import publish_tiny_fleet, serving

AT = 1_750_000_000.0


def row_of(number: int, **change: Any) -> dict[str, Any]:
    return {
        "cluster": f"as{64500 + number}-bom{number:03}",
        "partner": None,
        "city": "Mumbai",
        "country": "IN",
        "appliances": 24,
        "states": {"serving": 20, "unhealthy": 3, "drained": 1},
        "weight": 20_000,
        "capacity_gbps": 2400.0,
        "throughput_gbps": 900.0,
        "learned_gbps": None,
        "pressure": 0.0,
        "share": 0.0123,
    } | change


def report_of(clusters: int = 0, changes: int = 0, alarms: int = 0, **change: Any) -> dict[str, Any]:
    return {
        "at": AT,
        "serving": {"generation": 9, "table": 42, "fleet": 7, "published_at": AT},
        "clusters": 3656,
        "appliances": 19_000,
        "weight": 18_000_000,
        "capacity_gbps": 1_900_000.0,
        "throughput_gbps": 800_000.0,
        "states": {"serving": 18_000, "drained": 401, "unhealthy": 599},
        "answers_per_s": 45_210.4,
        "clusters_hurt": clusters,
        "clusters_down": 0,
        "clusters_pressed": 0,
        "worst": [row_of(number) for number in range(min(clusters, 100))],
        "windows_on": 2,
        "alarms": [
            {
                "at": AT,
                "kind": "cluster_down",
                "subject": f"c{n}",
                "text": f"cluster c{n}: " + "word " * 40,
                "resolved": False,
            }
            for n in range(alarms)
        ],
        "changes": [
            {
                "at": AT,
                "appliance": f"c{n:03}-bom001",
                "before": "serving",
                "after": "unhealthy",
                "why": "disk sdb failed " * 8,
            }
            for n in range(changes)
        ],
    } | change


def lines_of(report: dict[str, Any], width: int = 80, height: int = 24, trouble: str = "") -> list[str]:
    console = Console(width=width, height=height, highlight=False, color_system=None)
    with console.capture() as capture:
        console.print(frame(report, width, height, trouble))
    return capture.get().rstrip("\n").split("\n")


@pytest.mark.parametrize("size", [(80, 24), (60, 16), (120, 50), (200, 12)], ids=str)
@pytest.mark.parametrize(
    "counts", [(0, 0, 0), (1, 1, 1), (500, 100, 0), (500, 100, 40), (0, 100, 3), (3, 0, 0)], ids=str
)
def test_a_frame_fits_its_terminal(size: tuple[int, int], counts: tuple[int, int, int]) -> None:
    for trouble in ("", "control went away"):
        lines = lines_of(report_of(*counts), *size, trouble)
        assert len(lines) <= size[1]
        assert all(len(line) <= size[0] for line in lines)


def test_at_80_by_24_a_bad_night_shows_alarms_clusters_and_changes_and_how_many_more() -> None:
    lines = lines_of(report_of(500, 100, 40))
    text = "\n".join(lines)
    assert "19,000 appliances in 3,656 clusters, table 42, fleet 7" in lines[0]
    assert all(word in lines[1] for word in ("18,000 serving", "401 drained", "599 unhealthy"))
    assert "45,210 answers/s" in lines[2]
    assert "800.0 Tbit/s of 1,900.0 Tbit/s reported" in lines[2]
    places = [text.index(word) for word in ("ALARMS", "WORST CLUSTERS", "LAST CHANGES")]
    assert places == sorted(places)
    assert "of 40" in text
    assert "of 500" in text
    worst = next(line for line in lines if "as64500-bom000" in line)
    assert all(word in worst for word in ("Mumbai IN", "20/24", "1.2 %", "3 unhealthy", "1 drained"))
    assert sum("→" in line for line in lines) >= 4
    assert len(lines) >= 22  # what room there is is used


def test_a_quiet_night_is_shown_as_such() -> None:
    text = "\n".join(lines_of(report_of()))
    assert "none: every appliance that is not drained serves" in text
    assert "ALARMS" not in text


def test_an_old_frame_shows_that_it_is_not_live() -> None:
    assert any("not live: control went away" in line for line in lines_of(report_of(), trouble="control went away"))


def test_an_empty_folder_is_shown_as_such() -> None:
    assert "nothing is published" in lines_of(report_of(serving=None))[0]


def test_a_name_cannot_drive_the_terminal() -> None:
    evil = "\x1b[2J\x1b]0;x\x07[bold]"
    changes = [{"at": AT, "appliance": "a", "before": "serving", "after": "stale", "why": evil}]
    report = report_of(1) | {"worst": [row_of(0, city=evil)], "changes": changes}
    report["alarms"] = [{"at": AT, "kind": "suppressed", "subject": "fleet", "text": evil, "resolved": False}]
    text = "\n".join(lines_of(report, 200))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert text.count("[bold]") == 3


@pytest.mark.skipif(sys.platform != "linux", reason="needs a pseudo-terminal")
def test_on_a_terminal_it_is_live_and_q_ends_it(tmp_path: Path, fleet: Fleet) -> None:
    state = publish_tiny_fleet(tmp_path, fleet)
    with serving(state):
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "steering.cli", "top", "--state", str(state), "--every", "0.5"]
        with subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=os.environ | {"TERM": "xterm"}
        ) as process:
            os.close(theirs)
            try:
                shown = b""
                deadline = time.monotonic() + 20
                while shown.count(b"LAST CHANGES") < 2 and time.monotonic() < deadline:
                    if select.select([ours], [], [], 1)[0]:
                        shown += os.read(ours, 65_536)
                assert shown.count(b"8 appliances in 4 clusters") >= 2
                os.write(ours, b"q")
                with contextlib.suppress(OSError):  # EIO: the other side is closed
                    while time.monotonic() < deadline:
                        shown += os.read(ours, 65_536)
                process.wait(10)
                assert process.returncode == 0
                assert shown.rstrip().endswith(b"\x1b[?25h") or b"\x1b[?1049l" in shown  # the screen is given back
            finally:
                process.kill()
                os.close(ours)
