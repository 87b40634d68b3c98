"""Feeds by HTTP and watched feeds: fetched where they changed, within limits; a bad fetch or file changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import http.server
import os
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from steering.cli.tables import sources_of
from steering.control.jobs.clockwork import keep_running
from steering.control.jobs.watch_sources import WatchSources
from steering.control.routes import fetch as fetch_module
from steering.control.routes.feeds import FeedSource, files_of
from steering.control.routes.fetch import FOLDER, fetch
from steering.control.services.control import Control
from steering.errors import FeedError
from steering.model.fleet import Fleet
from steering.process import backoff
from steering.settings import Settings

HEADER = "prefix,cluster\n"
HOME, AWAY = HEADER + "203.0.113.0/24,bom001-a\n", HEADER + "203.0.113.0/24,del001-a\n"
MIB = 1 << 20


class Site:
    """A web server of one file, which does as it is told."""

    def __init__(self) -> None:
        self.body = HOME.encode()
        self.status = 200
        self.headers: dict[str, str] = {"ETag": '"1"', "Last-Modified": "Tue, 24 Nov 2026 00:00:00 GMT"}
        self.asked: list[dict[str, str]] = []
        self.says_less = 0  # bytes that the body falls short of its length
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append({name.lower(): value for name, value in self.headers.items()})
                known = self.headers.get("If-None-Match") == site.headers.get("ETag", "none")
                status = 304 if known and site.status == 200 else site.status
                self.send_response(status)
                for name, value in site.headers.items():
                    self.send_header(name, value)
                body = b"" if status == 304 else site.body
                self.send_header("Content-Length", str(len(body) + site.says_less))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None: ...

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/feeds/routes.csv"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def site() -> Iterator[Site]:
    actual = Site()
    yield actual
    actual.close()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (folder := tmp_path / "s").mkdir(mode=0o700)
    return folder


def files(state: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (state / FOLDER).iterdir()}


# ---- fetching


def test_a_url_is_fetched_once_and_then_only_where_it_changed(state: Path, site: Site) -> None:
    first = fetch(site.url, state, MIB)
    assert (first.changed, first.path.read_text()) == (True, HOME)
    assert first.path.name.endswith("-routes.csv")
    assert first.path.parent.stat().st_mode & 0o777 == 0o700
    again = fetch(site.url, state, MIB)
    assert (again.changed, again.path) == (False, first.path)
    assert site.asked[1]["if-none-match"] == '"1"'
    assert site.asked[1]["if-modified-since"] == "Tue, 24 Nov 2026 00:00:00 GMT"
    site.headers["ETag"] = '"2"'
    assert not fetch(site.url, state, MIB).changed  # another tag, the same bytes
    site.headers["ETag"], site.body = '"3"', AWAY.encode()
    third = fetch(site.url, state, MIB)
    assert (third.changed, third.path.read_text()) == (True, AWAY)


def test_a_lost_copy_is_fetched_again(state: Path, site: Site) -> None:
    fetch(site.url, state, MIB).path.unlink()
    assert fetch(site.url, state, MIB).path.read_text() == HOME
    assert "if-none-match" not in site.asked[1]


@pytest.mark.parametrize("damage", [b"", b"[]", b"{", b"7"])
def test_damaged_validators_are_ignored(state: Path, site: Site, damage: bytes) -> None:
    path = fetch(site.url, state, MIB).path
    path.with_name(path.name + ".about").write_bytes(damage)
    assert fetch(site.url, state, MIB).path.read_text() == HOME
    assert "if-none-match" not in site.asked[1]


def broken(site: Site, how: str) -> None:
    """Make a site answer in a way that is no good."""
    if how == "too large":
        site.headers["ETag"], site.body = '"2"', bytes(MIB + 1)
    elif how == "cut off":
        site.headers["ETag"], site.says_less = '"2"', 100
    elif how == "gone":
        site.status = 404
    elif how == "ill":
        site.status = 500
    elif how == "elsewhere":
        site.status = 302
        site.headers["Location"] = "http://localhost:1/routes.csv?secret=1"
    elif how == "round and round":
        site.status = 302
        site.headers["Location"] = "/feeds/routes.csv"


BROKEN = [
    ("too large", r"over 1 MiB \(setting fetch_mb\)"),
    ("cut off", "closed connection|incomplete"),
    ("gone", "answered 404 Not Found"),
    ("ill", "answered 500 Internal Server Error"),
    ("elsewhere", r"redirects to http://localhost:1/routes\.csv$"),
    ("round and round", "redirects more than 3 times"),
]


@pytest.mark.parametrize(("how", "rule"), BROKEN)
def test_a_bad_fetch_changes_nothing(state: Path, site: Site, how: str, rule: str) -> None:
    fetch(site.url, state, MIB)
    before = files(state)
    broken(site, how)
    with pytest.raises(FeedError, match=rule):
        fetch(site.url, state, MIB)
    assert files(state) == before


def test_nobody_there_and_nonsense_are_errors(state: Path) -> None:
    for url in ("http://127.0.0.1:1/x", "http://[::1/x", "http://no such host/x", "http:///x"):
        with pytest.raises(FeedError):
            fetch(url, state, MIB)


def test_a_first_answer_that_nothing_changed_is_no_answer(state: Path, site: Site) -> None:
    site.status = 304
    with pytest.raises(FeedError, match="answered 304"):
        fetch(site.url, state, MIB)


@contextlib.contextmanager
def dripping(head: bytes, drop: bytes) -> Iterator[str]:
    """Give the URL of a server that answers each connection with a head, and then a drop every 20 ms, for ever."""

    class Dripping(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(head)
            with contextlib.suppress(OSError):
                while not ended.wait(0.02):
                    self.request.sendall(drop)

    ended = threading.Event()
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Dripping) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/routes.csv"
        ended.set()
        server.shutdown()


OK = b"HTTP/1.1 200 OK\r\n"
SLOW = [
    ("no answer", b"", b""),
    ("a head in drops", OK, b"x-drop: 1\r\n"),
    ("a header in drops", OK + b"x-drop: ", b"1"),
    ("a status line in drops", b"HTTP/1.1 200 ", b"O"),
    ("a body in drops", OK + b"content-length: 1000000\r\n\r\n", b"x"),
    ("a body without length in drops", OK + b"\r\n", b"x"),
    ("chunks in drops", OK + b"transfer-encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    ("one chunk in drops", OK + b"transfer-encoding: chunked\r\n\r\nfffff\r\n", b"x"),
    ("informational answers without end", b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
]


@pytest.mark.parametrize(("name", "head", "drop"), SLOW, ids=[row[0] for row in SLOW])
def test_a_fetch_ends_in_time_however_slowly_the_answer_comes(
    state: Path, name: str, head: bytes, drop: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_module, "FIRST_S", 0.5)
    began = time.monotonic()
    with dripping(head, drop) as url, pytest.raises(FeedError, match=r"took over \d+\.\d s"):
        fetch(url, state, MIB)
    assert time.monotonic() - began < 10
    assert files(state) == {}


@pytest.mark.parametrize("validator", ["caf\xe9", '"\u4e2d"', '"\x7f"', "x" * 5000])
def test_a_validator_that_cannot_be_sent_back_is_not_kept(state: Path, site: Site, validator: str) -> None:
    site.headers["ETag"] = validator.encode("utf-8").decode("latin-1")
    assert fetch(site.url, state, MIB).changed
    assert not fetch(site.url, state, MIB).changed
    assert "if-none-match" not in site.asked[1]
    assert "if-modified-since" in site.asked[1]


def test_a_redirect_on_the_same_host_is_followed(state: Path, site: Site) -> None:
    other = Site()
    try:
        site.status, site.headers["Location"] = 307, other.url
        assert fetch(site.url, state, MIB).path.read_text() == HOME
    finally:
        other.close()


# ---- publishing what is fetched, and folders


def test_a_published_url_is_asked_again_by_a_reload(
    control: Control, settings: Settings, fleet: Fleet, site: Site
) -> None:
    site.url = site.url.replace("routes.csv", "routes.csv.gz?part=1")
    site.body = gzip.compress(HOME.encode())
    control.fleet.replace(fleet, "test")
    (source,) = sources_of((site.url,))
    assert (source.kind, source.path) == ("csv", site.url)
    report = control.tables.publish([source], "test")
    assert report["feeds"][0]["named"] == site.url
    site.body, site.headers["ETag"] = gzip.compress(AWAY.encode()), '"2"'
    assert control.tables.reload("test")["changes"]["moved"]["v4"] == 1.0
    site.status = 500
    with pytest.raises(FeedError, match=r"fetch http.*: answered 500"):
        control.tables.reload("test")
    assert control.tables.list()[0]["table"] == 2
    site.status = 200
    assert not control.tables.reload("test")["changes"]["moved"]["v4"]


def test_a_folder_is_all_its_feeds_and_a_reload_finds_new_ones(control: Control, fleet: Fleet, tmp_path: Path) -> None:
    control.fleet.replace(fleet, "test")
    (folder := tmp_path / "feeds").mkdir()
    with pytest.raises(FeedError, match="feeds: has no file"):
        control.tables.publish(sources_of((str(folder),)), "test")
    (folder / "a.csv").write_text(HOME)
    (folder / ".b.csv").write_text("hidden")
    (folder / "c.csv.part").write_text("half")
    (folder / "inner").mkdir()
    report = control.tables.publish(sources_of((str(folder),)), "test")
    assert [feed["feed"] for feed in report["feeds"]] == ["a.csv"]
    (folder / "b.jsonl").write_text('{"prefix": "198.51.100.0/24", "cluster": "lhr001-a"}\n')
    assert [feed["feed"] for feed in control.tables.reload("test")["feeds"]] == ["a.csv", "b.jsonl"]
    assert [path.name for path in files_of(folder)] == ["a.csv", "b.jsonl"]


# ---- watching


@contextlib.contextmanager
def watching(control: Control, settings: Settings) -> Iterator[None]:
    """Run the job in a thread of its own; the control is used from it alone."""
    stop = threading.Event()
    control.settings = settings

    async def run(verb: Callable[[], Any]) -> Any:
        return verb()

    async def until_stopped() -> None:
        watch = WatchSources(control, run)
        watch.period_s = 0.02
        job = asyncio.create_task(keep_running(watch))
        while not stop.is_set():
            await asyncio.sleep(0.01)
            assert not job.done() or job.result()
        job.cancel()

    thread = threading.Thread(target=lambda: asyncio.run(until_stopped()))
    thread.start()
    try:
        time.sleep(0.2)
        yield
    finally:
        stop.set()
        thread.join()


@pytest.fixture
def anywhere(settings: Settings) -> Iterator[Control]:
    """A control that may be used from another thread, as control's is."""
    import sqlite3

    real = sqlite3.connect
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", lambda *given, **more: real(*given, **more, check_same_thread=False))
        with Control(settings) as control:
            yield control


def served(state: Path) -> str:
    from steering.decision.explain import describe
    from steering.decision.snapshot import Snapshot

    return str(describe(Snapshot.map(state), "203.0.113.9")["ranking"][0]["cluster"])


def wait_until(condition: Callable[[], bool]) -> None:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < 10
        time.sleep(0.02)


def test_a_changed_file_is_published_once_quiet(
    anywhere: Control, settings: Settings, fleet: Fleet, tmp_path: Path
) -> None:
    path = tmp_path / "routes.csv"
    path.write_text(HOME)
    anywhere.fleet.replace(fleet, "test")
    anywhere.tables.publish([FeedSource("csv", str(path))], "test")
    with watching(anywhere, settings):
        with path.open("w") as file:  # slowly, and for longer than one look
            for character in AWAY:
                file.write(character)
                file.flush()
                time.sleep(0.005)
        wait_until(lambda: served(settings.state) == "del001-a")
        path.write_text(HEADER + "203.0.113.0/24,del001-a")  # cut off
        time.sleep(0.5)
        assert served(settings.state) == "del001-a"
        path.write_text(HOME)
        os.utime(path, (1, 1))
        wait_until(lambda: served(settings.state) == "bom001-a")
    tables = anywhere.tables.list()
    assert [(row["table"], row["who"]) for row in tables if row["serving"]] == [(tables[0]["table"], "watch")]


def test_a_changed_url_is_published_and_a_bad_one_is_left_alone_for_longer_and_longer(
    anywhere: Control, settings: Settings, fleet: Fleet, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = settings.model_copy(update={"fetch_s": 0.05})
    anywhere.fleet.replace(fleet, "test")
    anywhere.tables.publish([FeedSource("csv", site.url)], "test")
    monkeypatch.setattr(backoff, "MOST_S", 0.2)
    with watching(anywhere, quick):
        site.body, site.headers["ETag"] = AWAY.encode(), '"2"'
        wait_until(lambda: served(settings.state) == "del001-a")
        site.status = 500
        asked = len(site.asked)
        time.sleep(1.0)
        assert served(settings.state) == "del001-a"
        assert 1 <= len(site.asked) - asked <= 9  # after 0.05 s, 0.1 s, then each 0.2 s
        site.status, site.body, site.headers["ETag"] = 200, HOME.encode(), '"3"'
        wait_until(lambda: served(settings.state) == "bom001-a")


def test_a_slow_url_and_one_that_fails_in_an_unknown_way_delay_no_file(
    anywhere: Control, settings: Settings, fleet: Fleet, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "routes.csv"
    path.write_text(HOME)
    quick = settings.model_copy(update={"fetch_s": 0.05})
    anywhere.fleet.replace(fleet, "test")
    other = site.url.replace("routes.csv", "other.csv")
    sources = [FeedSource("csv", str(path)), FeedSource("csv", site.url), FeedSource("csv", other)]
    site.body = (HEADER + "203.0.112.0/24,bom001-a\n").encode()
    anywhere.tables.publish(sources, "test")
    asked: set[str] = set()

    async def fetch_badly(url: str, *_: Any) -> Any:
        asked.add(url)
        if url == other:
            raise RecursionError("a fault of ours")
        await asyncio.sleep(3600)

    monkeypatch.setattr("steering.control.jobs.watch_sources.update_copy", fetch_badly)
    with watching(anywhere, quick):
        wait_until(lambda: asked == {site.url, other})
        path.write_text(AWAY)
        wait_until(lambda: served(settings.state) == "del001-a")


def test_a_pipe_in_the_place_of_a_feed_is_refused(control: Control, fleet: Fleet, tmp_path: Path) -> None:
    control.fleet.replace(fleet, "test")
    for name in ("pipe.csv", "pipe.csv.gz", "pipe.jsonl", "pipe.mmdb"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(FeedError, match=r"is no file"):
            control.tables.publish(list(sources_of((str(tmp_path / name),))), "test")


@pytest.mark.parametrize("name", ["pipe.csv", "pipe.mmdb", "pipe"])
def test_what_is_no_file_in_a_folder_of_feeds_is_refused_by_name(
    control: Control, fleet: Fleet, tmp_path: Path, name: str
) -> None:
    control.fleet.replace(fleet, "test")
    (folder := tmp_path / "feeds").mkdir()
    (folder / "a.csv").write_text(HOME)
    (folder / "link.csv").symlink_to("a.csv")
    control.tables.publish(list(sources_of((str(folder),))), "test")
    for spoil, rule in ((os.mkfifo, "is no file"), (lambda path: path.symlink_to("gone"), "(is no file|No such file)")):
        spoil(folder / name)
        with pytest.raises(FeedError, match=f"feeds/{name}: {rule}"):
            control.tables.reload("test")
        (folder / name).unlink()
    assert control.tables.reload("test")["serving"]["table"] == 1


def test_nothing_is_published_while_a_table_is_pinned(
    anywhere: Control, settings: Settings, fleet: Fleet, tmp_path: Path
) -> None:
    path = tmp_path / "routes.csv"
    path.write_text(HOME)
    anywhere.fleet.replace(fleet, "test")
    assert anywhere.tables.sources() == ([], 0)
    anywhere.tables.publish([FeedSource("csv", str(path))], "test")
    anywhere.tables.pin("test")
    with watching(anywhere, settings):
        path.write_text(AWAY)
        time.sleep(0.5)
    assert served(settings.state) == "bom001-a"
