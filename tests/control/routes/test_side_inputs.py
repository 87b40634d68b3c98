"""Side inputs never stop routes: the last good version takes the place of one that cannot be used, with an alarm."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from steering.control.routes.feeds import FeedSource
from steering.control.services.control import Control
from steering.decision.explain import describe, explain
from steering.decision.snapshot import Snapshot
from steering.errors import FeedError
from steering.model.fleet import Fleet
from steering.settings import read_settings
from tests.support.control_fixtures import Clock

HOME = "203.0.113.0/24,bom001-a,64500,0\n"
GEOFEED = "203.0.113.0/25,IN,IN-MH,Mumbai,\n203.0.113.128/25,IN,IN-DL,New Delhi,"
PAYLOADS = json.dumps({"roas": [{"asn": "AS64500", "prefix": "203.0.113.0/24", "maxLength": 24}]})
TRAFFIC = "203.0.113.0/24 5\n"


@pytest.fixture
def opened(tmp_path: Path, fleet: Fleet, clock: Clock) -> Callable[..., Control]:
    """Return what opens control with settings."""

    def open_control(**settings: Any) -> Control:
        control = Control(read_settings(state=tmp_path / "state", **settings), clock)
        if not control.fleet.current().appliances:
            control.fleet.replace(fleet, "test")
        return control

    return open_control


def publish(control: Control, rows: str = HOME) -> dict[str, Any]:
    path = control.settings.state.parent / "routes.csv"
    path.write_text("prefix,cluster,as_path,med\n" + rows)
    return control.tables.publish([FeedSource("csv", str(path))], "test")


def problems(report: dict[str, Any]) -> list[str]:
    return [row["problem"] for row in report["other_sources"] if "problem" in row]


def alarms(control: Control) -> list[str]:
    control.registry.tick()
    return [alarm.text for alarm in control.registry.alarms() if alarm.kind == "source"]


def region(control: Control, address: str = "203.0.113.200") -> Any:
    return describe(Snapshot.map(control.settings.state), address)["region"]


ENDS: list[tuple[str, str]] = [
    ("no final line end", GEOFEED),
    ("a line end", GEOFEED + "\n"),
    ("lines of another system", GEOFEED.replace("\n", "\r\n")),
    ("a comment without line end", GEOFEED + "\n# the end"),
    ("a row and no line end", "203.0.113.128/25,IN,IN-DL,New Delhi,"),
    ("without the last comma", GEOFEED[:-1]),
    ("a byte order mark", "\ufeff" + GEOFEED),
]


@pytest.mark.parametrize("content", [row[1] for row in ENDS], ids=[row[0] for row in ENDS])
def test_the_last_line_of_a_geofeed_needs_no_line_end(
    opened: Callable[..., Control], tmp_path: Path, content: str
) -> None:
    (tmp_path / "geofeed.csv").write_bytes(content.encode())
    with opened(geofeeds=(tmp_path / "geofeed.csv",)) as control:
        assert problems(publish(control)) == []
        assert region(control) == "IN-DL"


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener, contextlib.chdir(path.parent):
        listener.bind(path.name)


UNUSABLE: list[tuple[str, Callable[[Path], object]]] = [
    ("gone", lambda path: path.unlink()),
    ("empty", lambda path: path.write_bytes(b"")),
    ("a folder", lambda path: (path.unlink(), path.mkdir())),
    ("only white space", lambda path: path.write_bytes(b" \n\n")),
    ("a page of errors", lambda path: path.write_bytes(b"<html>\n<title>404 Not Found</title>\n</html>\n")),
    ("JSON of another kind", lambda path: path.write_bytes(b'{"error": "not found"}\n')),
    ("an archive", lambda path: path.write_bytes(b"\x1f\x8b\x08\0" + bytes(range(256)) * 9)),
    ("text of 16 bits", lambda path: path.write_bytes(GEOFEED.encode("utf-16"))),
    ("a pipe", lambda path: (path.unlink(), os.mkfifo(path))),
    ("a device", lambda path: (path.unlink(), path.symlink_to("/dev/zero"))),
    ("a socket", lambda path: (path.unlink(), make_socket(path))),
    ("a link to nothing", lambda path: (path.unlink(), path.symlink_to("/nonexistent"))),
]
INPUTS: list[tuple[str, str, str]] = [
    ("geofeed", "geofeeds", GEOFEED),
    ("rpki", "rpki", PAYLOADS),
    ("traffic", "traffic", TRAFFIC),
]


@pytest.mark.parametrize("spoil", [row[1] for row in UNUSABLE], ids=[row[0] for row in UNUSABLE])
@pytest.mark.parametrize(("kind", "setting", "content"), INPUTS, ids=[row[0] for row in INPUTS])
def test_an_unusable_side_input_is_an_alarm_its_last_good_version_stays_and_routes_go_live(
    opened: Callable[..., Control],
    tmp_path: Path,
    kind: str,
    setting: str,
    content: str,
    spoil: Callable[[Path], object],
) -> None:
    path = tmp_path / "side.txt"
    path.write_text(content)
    settings: dict[str, Any] = {setting: (path,) if setting == "geofeeds" else path}
    with opened(**settings) as control:
        publish(control)
        assert problems(publish(control, HOME + "192.0.2.0/24,lhr001-a,64511,0\n")) == []
        before = Snapshot.map(control.settings.state)
        spoil(path)
        report = publish(control, HOME + "198.51.100.0/24,lhr001-a,64511,0\n")
        assert report["serving"]["table"] == 3
        (problem,) = problems(report)
        assert problem.endswith("its last good version is used")
        after = Snapshot.map(control.settings.state)
        assert after.table_file.meta["rpki"] == before.table_file.meta["rpki"]
        for address in ("203.0.113.7", "203.0.113.200"):
            assert describe(after, address)["region"] == describe(before, address)["region"]
        assert [text.startswith(f"{kind} {path}: ") for text in alarms(control)] == [True]
    with opened(**settings) as again:
        assert len(alarms(again)) == 1
        if path.is_dir():
            path.rmdir()
        path.unlink(missing_ok=True)
        path.write_text(content)
        assert problems(publish(again)) == []
        assert alarms(again) == []


@pytest.mark.parametrize(("kind", "setting", "content"), INPUTS, ids=[row[0] for row in INPUTS])
def test_without_a_good_version_routes_go_live_without_the_side_input(
    opened: Callable[..., Control], tmp_path: Path, kind: str, setting: str, content: str
) -> None:
    path = tmp_path / "side.txt"
    settings: dict[str, Any] = {setting: (path,) if setting == "geofeeds" else path}
    with opened(**settings) as control:
        publish(control)
        report = publish(control, HOME + "198.51.100.0/24,lhr001-a,64511,0\n")
        assert report["serving"]["table"] == 2
        assert ["; it is left out" in problem for problem in problems(report)] == [True]
        assert len(alarms(control)) == 1
        path.write_text(content)
        assert problems(control.tables.reload("test")) == []
        assert alarms(control) == []


HIJACKED = "203.0.113.0/24,lhr001-a,64511,0\n"  # not the origin of the payload


def states(control: Control) -> list[Any]:
    """Return the RPKI states of the routes of a client, and the cluster that it is sent to."""
    why = explain(Snapshot.map(control.settings.state), "203.0.113.7", "t", service="video")["explain"]
    return [route["rpki"] for route in why["routes"]]


def test_routes_go_live_unvalidated_only_where_there_never_were_good_payloads(
    opened: Callable[..., Control], tmp_path: Path
) -> None:
    path = tmp_path / "payloads.json"
    path.write_text("[")
    with opened(rpki=path) as control:
        report = publish(control, HIJACKED)
        assert (report["serving"]["table"], report["counts"]["refused"], states(control)) == (1, 0, [None])
        assert [problem.endswith("; it is left out: routes are not validated") for problem in problems(report)] == [
            True
        ]
        assert alarms(control) == [f"rpki {path}: {problems(report)[0]}"]
        path.write_text(PAYLOADS)
        report = publish(control, HIJACKED + HOME)
        assert (report["counts"]["refused"], states(control), alarms(control)) == (1, ["valid"], [])
        path.write_text("[")  # from now on the last good payloads are used, so the invalid route stays out
        report = publish(control, HIJACKED + HOME + "192.0.2.0/24,lhr001-a,64511,0\n")
        assert (report["serving"]["table"], report["counts"]["refused"], states(control)) == (3, 1, ["valid"])
        assert [problem.endswith("its last good version is used") for problem in problems(report)] == [True]
        assert len(alarms(control)) == 1


@pytest.mark.parametrize("content", [b"no database", None], ids=["garbage", "a pipe"])
def test_a_map_that_cannot_be_used_leaves_the_shipped_one(
    opened: Callable[..., Control], tmp_path: Path, content: bytes | None
) -> None:
    (tmp_path / "map.mmdb").write_bytes(content) if content else os.mkfifo(tmp_path / "map.mmdb")
    with opened(country_mmdb=tmp_path / "map.mmdb") as control:
        report = publish(control)
        assert report["serving"]["table"] == 1
        assert len(problems(report)) == len(alarms(control)) == 1


def test_one_bad_geofeed_of_several_leaves_the_others(opened: Callable[..., Control], tmp_path: Path) -> None:
    (tmp_path / "good.csv").write_text(GEOFEED)
    with opened(geofeeds=(tmp_path / "none.csv", tmp_path / "good.csv")) as control:
        assert len(problems(publish(control))) == 1
        assert region(control) == "IN-DL"


def test_an_unchanged_publish_raises_the_alarm_too(opened: Callable[..., Control], tmp_path: Path) -> None:
    (tmp_path / "geofeed.csv").write_text(GEOFEED)
    with opened(geofeeds=(tmp_path / "geofeed.csv",)) as control:
        publish(control)
        (tmp_path / "geofeed.csv").write_bytes(b"")
        assert control.tables.reload("test")["unchanged"]
        assert len(alarms(control)) == 1


def test_a_check_keeps_no_copy(opened: Callable[..., Control], tmp_path: Path) -> None:
    (tmp_path / "geofeed.csv").write_text(GEOFEED)
    (tmp_path / "routes.csv").write_text("prefix,cluster,as_path,med\n" + HOME)
    with opened(geofeeds=(tmp_path / "geofeed.csv",)) as control:
        control.tables.check([FeedSource("csv", str(tmp_path / "routes.csv"))])
        assert not (control.settings.state / "side").exists()


def test_copies_of_files_that_the_settings_no_longer_name_are_removed(
    opened: Callable[..., Control], tmp_path: Path
) -> None:
    for name in ("one.csv", "two.csv"):
        shutil.copyfile(write(tmp_path / "geofeed.csv", GEOFEED), tmp_path / name)
        with opened(geofeeds=(tmp_path / name,)) as control:
            publish(control)
            assert [path.name for path in (control.settings.state / "side").glob("*/*")] == [name]


def write(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


def test_a_route_feed_that_is_cut_off_is_still_refused(opened: Callable[..., Control], tmp_path: Path) -> None:
    feed = write(tmp_path / "routes.csv", "prefix,cluster,as_path,med\n" + HOME[:-3])
    with opened() as control, pytest.raises(FeedError, match="cut off"):
        control.tables.publish([FeedSource("csv", str(feed))], "test")
