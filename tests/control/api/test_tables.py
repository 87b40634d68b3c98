"""A token names feeds below configured folders and URLs only, and no error shows the text of a file that is no feed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from steering.control.api.tables import PublishRequest, Source
from steering.control.records.auth import Caller
from steering.control.routes.feeds import FeedSource
from steering.control.services.control import Control
from steering.errors import FeedError, RequestError
from steering.model.fleet import Fleet
from steering.settings import Settings
from tests.support.control_app import running_control_app

SECRET = "hunter2-swordfish"
ROUTES = "prefix,cluster\n203.0.113.0/24,bom001-a\n"


def test_a_token_names_feeds_below_configured_folders_and_urls_only(tmp_path: Path) -> None:
    feeds, other = tmp_path / "feeds", tmp_path / "feeds-of-others"
    for folder in (feeds, other):
        folder.mkdir()
        (folder / "routes.csv").write_text(ROUTES)
    (feeds / "link.csv").symlink_to(other / "routes.csv")
    (tmp_path / "entry").symlink_to(feeds)
    allowed = (str(tmp_path / "entry"), "http://feeds.example/a/")
    rows: list[tuple[str, bool]] = [
        ("", True),  # the shipped table
        (f"{feeds}/routes.csv", True),
        (f"{tmp_path}/entry/routes.csv", True),
        (f"{feeds}/../feeds", True),
        (f"{feeds}/none.csv", True),  # the build finds that it is not there
        (f"{feeds}/link.csv", False),
        (f"{feeds}/../feeds-of-others/routes.csv", False),
        (f"{other}/routes.csv", False),
        (f"{other}/none.csv", False),
        ("/etc/passwd", False),
        ("/proc/self/environ", False),
        (str(tmp_path / "state" / "keys"), False),
        ("http://feeds.example/a/routes.csv", True),
        ("http://feeds.example/b/routes.csv", False),
        ("http://feeds.example/a/../b/routes.csv", False),
        ("http://feeds.example/a/%2e%2e/b/routes.csv", False),
        ("http://feeds.example/a/..%2fb/routes.csv", False),
        ("http://feeds.example/a/..\\b/routes.csv", False),
        ("http://feeds.example@other.example/a/routes.csv", False),
        ("https://feeds.example/a/routes.csv", False),
        ("http://169.254.169.254/latest/meta-data", False),
    ]
    for kind in ("asn", "bgp"):
        actual = [(path, may_name(Caller("ops", "", "t", token=1), kind, path, allowed)) for path, _ in rows]
        assert actual == rows
    assert all(may_name(Caller("ops", "", "local"), "asn", path, ()) for path, _ in rows)
    assert not any(may_name(Caller("ops", "", "t", token=1), "asn", path, ()) for path, _ in rows if path)


def may_name(caller: Caller, kind: Any, path: str, allowed: tuple[str, ...]) -> bool:
    """Return whether a caller may publish a feed."""
    try:
        PublishRequest((Source(kind, path),)).feeds(caller, allowed)
    except RequestError as error:
        return (error.status, error.rule) != (403, "a feed named with a token is below one of the setting feed_sources")
    return True


def test_over_tcp_a_file_that_is_not_configured_is_refused_whether_it_exists_or_not(
    settings: Settings, fleet: Fleet, tmp_path: Path
) -> None:
    (tmp_path / "routes.csv").write_text(ROUTES)
    with running_control_app(settings) as app, app.client(app.make_token("ops")) as client:
        app.thread.submit(app.control.fleet.replace, fleet, "test").result()
        for verb in ("check", "publish"):
            answers = [
                client.post(f"/v1/tables/{verb}", json={"sources": [{"kind": "csv", "path": str(tmp_path / name)}]})
                for name in ("routes.csv", "absent.csv")
            ]
            assert [answer.status_code for answer in answers] == [403, 403]
            present, absent = ({**answer.json(), "detail": "", "value": ""} for answer in answers)
            assert present == absent


ODD_PATHS = [
    "a\0b",
    "x" * 4000,
    "pipe.csv",
    "loop.csv",
    "gone.csv",
    "folder.csv",
    "routes.csv/x",
    "\x1b[2J.csv",
    "\u202e.csv",
    "",
]


@pytest.mark.parametrize("kind", ["csv", "mmdb", "folder", "mrt"])
def test_odd_paths_are_refused_by_name(settings: Settings, fleet: Fleet, tmp_path: Path, kind: str) -> None:
    (tmp_path / "routes.csv").write_text(ROUTES)
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    configured = settings.model_copy(update={"feed_sources": (str(tmp_path),)})
    with running_control_app(configured) as app, app.client(app.make_token("ops")) as client:
        app.thread.submit(app.control.fleet.replace, fleet, "test").result()
        for name in ODD_PATHS:
            body = {"sources": [{"kind": kind, "path": f"{tmp_path}/{name}"}]}
            answer = client.post("/v1/tables/check", json=body)
            assert answer.status_code in (403, 422), (name, answer.text)
            assert answer.headers["content-type"] == "application/problem+json"
            assert len(answer.content) < 10_000
            assert not {"\x1b", "\u202e"} & set(answer.text)


NO_FEEDS: list[tuple[str, bytes]] = [
    ("lines", f"root:{SECRET}:0:0\n{SECRET}\n".encode()),
    ("one line", f"{SECRET}\n".encode()),
    ("no line end", SECRET.encode()),
    ("a header of it", f"prefix,{SECRET}\n203.0.113.0/24,x\n".encode()),
    ("an unknown cluster", f"prefix,cluster\n203.0.113.0/24,{SECRET}\n".encode()),
    ("a number", f"prefix,cluster,med\n203.0.113.0/24,bom001-a,{SECRET}\n".encode()),
    ("JSON", f'{{"prefix": "{SECRET}", "{SECRET}": 1}}\n'.encode()),
    ("JSON zones", f'{{"coverageZones": {{"{SECRET}": {{"network": ["{SECRET}"]}}}}}}\n'.encode()),
    ("repeated names", f'{{"{SECRET}": 1, "{SECRET}": 2}}\n'.encode()),
    ("bytes", b"\x00\xff" + SECRET.encode() + b"\n\x01" * 40),
    ("lines of an ASN table", f"203.0.113.0/24 {SECRET}\n{SECRET}/24 64500\n".encode()),
]


@pytest.mark.parametrize("kind", ["asn", "csv", "jsonl", "mmdb", "mrt", "zones", "bgp"])
def test_no_error_shows_the_text_of_a_file_that_is_no_feed(
    settings: Settings, fleet: Fleet, tmp_path: Path, kind: Any
) -> None:
    with Control(settings) as control:
        control.fleet.replace(fleet, "test")
        for name, content in NO_FEEDS:
            (tmp_path / "file").write_bytes(content)
            with pytest.raises(FeedError) as caught:
                control.tables.check([FeedSource(kind, str(tmp_path / "file"))])
            assert SECRET not in caught.value.message + caught.value.hint, name
