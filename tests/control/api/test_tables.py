"""A token names feeds below configured folders and URLs only, and no error shows the text of a file that is no feed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from steering.model.fleet import Fleet
from steering.settings import Settings, read_settings
from steering.state.folder import SOCKET
from tests.support.control_app import running_control_app

SECRET = "hunter2-swordfish"
ROUTES = "prefix,cluster\n203.0.113.0/24,bom001-a\n"


def check(client: httpx.Client, kind: str, path: str) -> httpx.Response:
    return client.post("/v1/tables/check", json={"sources": [{"kind": kind, "path": path}]})


def test_a_token_names_feeds_below_configured_folders_and_urls_only(tmp_path: Path, fleet: Fleet) -> None:
    feeds, other = tmp_path / "feeds", tmp_path / "feeds-of-others"
    for folder in (feeds, other):
        folder.mkdir()
        (folder / "routes.csv").write_text(ROUTES)
    (feeds / "link.csv").symlink_to(other / "routes.csv")
    (tmp_path / "entry").symlink_to(feeds)
    configured = (str(tmp_path / "entry"), "http://127.0.0.1:9/feeds/")
    rows: list[tuple[str, str, int]] = [
        ("csv", f"{feeds}/routes.csv", 200),
        ("csv", f"{tmp_path}/entry/routes.csv", 200),
        ("folder", f"{feeds}/../feeds", 200),
        ("csv", f"{feeds}/link.csv", 403),
        ("csv", f"{feeds}/../feeds-of-others/routes.csv", 403),
        ("csv", f"{other}/routes.csv", 403),
        ("csv", f"{feeds}/none.csv", 422),  # it may be named, and is not there
        ("csv", f"{other}/none.csv", 403),
        ("asn", "/etc/passwd", 403),
        ("jsonl", "/proc/self/environ", 403),
        ("mrt", str(tmp_path / "state" / "keys"), 403),
        ("bgp", str(tmp_path / "state" / "steering.db"), 403),
        ("csv", "http://127.0.0.1:9/feeds/routes.csv", 422),  # nothing listens there
        ("csv", "http://127.0.0.1:9/other/routes.csv", 403),
        ("csv", "http://127.0.0.1:9/feeds/../other/routes.csv", 403),
        ("csv", "http://127.0.0.1:9/feeds/%2e%2e/other/routes.csv", 403),
        ("csv", "http://127.0.0.1:9/feeds/..%2fother/routes.csv", 403),
        ("csv", "http://127.0.0.1:9@127.0.0.2/feeds/routes.csv", 403),
        ("csv", "http://169.254.169.254/latest/meta-data", 403),
    ]
    settings = read_settings(state=tmp_path / "state", feed_sources=configured)
    with running_control_app(settings) as app, app.client(app.make_token("ops")) as client:
        app.thread.submit(app.control.fleet.replace, fleet, "test").result()
        found = {(kind, path): check(client, kind, path).status_code for kind, path, _ in rows}
        assert found == {(kind, path): status for kind, path, status in rows}
        refused = check(client, "csv", f"{other}/routes.csv").json()
        absent = check(client, "csv", f"{other}/none.csv").json()
        assert refused["rule"] == absent["rule"] == "a feed named with a token is below one of the setting feed_sources"


def test_without_configured_sources_a_token_names_no_file(settings: Settings, fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "routes.csv").write_text(ROUTES)
    with running_control_app(settings) as app, app.client(app.make_token("ops")) as client:
        app.thread.submit(app.control.fleet.replace, fleet, "test").result()
        assert check(client, "csv", str(tmp_path / "routes.csv")).status_code == 403
        assert check(client, "csv", "https://feeds.example/routes.csv").status_code == 403
        local = httpx.Client(transport=httpx.HTTPTransport(uds=str(settings.state / SOCKET)), base_url="http://control")
        with local:  # commands of the machine's own operators
            assert check(local, "csv", str(tmp_path / "routes.csv")).status_code == 200


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
    settings: Settings, fleet: Fleet, tmp_path: Path, kind: str
) -> None:
    given: Any = settings.model_copy(update={"feed_sources": (str(tmp_path),)})
    with running_control_app(given) as app, app.client(app.make_token("ops")) as client:
        app.thread.submit(app.control.fleet.replace, fleet, "test").result()
        for name, content in NO_FEEDS:
            (tmp_path / "file").write_bytes(content)
            answer = check(client, kind, str(tmp_path / "file"))
            assert answer.status_code == 422 or kind == "bgp", name
            assert SECRET not in answer.text, (name, answer.text)
