"""The verbs over `control.sock`: what a command gets from a running control process equals what the control gives."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from steering.control.app import listening
from steering.control.records.documents import MAX_DOCUMENT, format_fleet
from steering.control.remote import RemoteControl, open_control
from steering.control.routes.feeds import FeedSource
from steering.control.services.control import Control
from steering.errors import FeedError, RequestError, SettingsError
from steering.model.fleet import Fleet
from steering.settings import Settings, read_settings
from steering.state.folder import SOCKET
from tests.support.control_app import running_control_app

WriteFeed = Callable[..., FeedSource]

# httpcore does not close a socket whose connect was refused; the collector does, with a warning.
LEFT_TO_THE_COLLECTOR = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def remote(settings: Settings) -> Iterator[RemoteControl]:
    """Return the verbs over a socket, with nothing on record."""
    with running_control_app(settings):
        control = open_control(settings)
        assert isinstance(control, RemoteControl)
        with control:
            yield control


@pytest.fixture
def raw(remote: RemoteControl, settings: Settings) -> Iterator[httpx.Client]:
    """Return a client of the socket that may send what a command never would."""
    with httpx.Client(
        transport=httpx.HTTPTransport(uds=str(settings.state / SOCKET)), base_url="http://control"
    ) as client:
        yield client


@pytest.mark.usefixtures("whole_country_map")  # a child publishes what is remote
def test_a_fleet_is_imported_published_overridden_and_listed_as_by_local_services(
    remote: RemoteControl, fleet: Fleet, write_feed: WriteFeed, tmp_path: Path
) -> None:
    feed = write_feed("203.0.113.0/24,bom001-a,64500,0\n", "203.0.113.1/24,bom001-a,64500,0\n")
    with Control(read_settings(state=tmp_path / "other")) as local:
        for one in (local, remote):
            report = one.fleet.replace(fleet, "test")
            assert report["appliances"] == {"count": 8, "added": 8, "removed": 0, "changed": 0}
        assert format_fleet(remote.fleet.current()) == format_fleet(local.fleet.current()) == format_fleet(fleet)
        ours, theirs = (without_times(one.tables.check([feed])) for one in (remote, local))
        assert ours == theirs
        ours, theirs = (without_times(one.tables.publish([feed], "test", "why not")) for one in (remote, local))
        assert ours == theirs
        assert ours["feeds"][0]["refusals"][0]["row"] == 3
        Path(feed.path).write_text("prefix,cluster\n203.0.113.0/24,bom001-a\n203.0.114.0/24,bom001-a\n")
        assert remote.tables.reload("test")["serving"]["table"] == local.tables.reload("test")["serving"]["table"] == 2
        assert [row["why"] for row in remote.tables.list()] == ["reload of table 1", "why not"]
        for verb in ("drain", "enable"):
            ours, theirs = (
                getattr(one.overrides, verb)(["c001-bom001"], "test")["appliances"] for one in (remote, local)
            )
            assert ours == theirs
        for value in (7, None):
            ours, theirs = (
                one.overrides.weight(["c001-bom001"], value, "test")["appliances"] for one in (remote, local)
            )
            assert ours == theirs
        ours, theirs = (
            one.overrides.set_health_source(["c001-bom001"], "assumed", "test")["appliances"] for one in (remote, local)
        )
        assert ours == theirs
        ours, theirs = (without_times(one.tables.routes("203.0.113.0/24")) for one in (remote, local))
        assert ours == theirs
        assert ours["exact"][0]["cluster"] == "bom001-a"


def without_times(report: dict[str, Any]) -> dict[str, Any]:
    serving = report.get("serving") and {
        key: value for key, value in report["serving"].items() if key != "published_at"
    }
    return {key: value for key, value in report.items() if key != "seconds"} | {"serving": serving}


ERRORS: list[tuple[str, Callable[[RemoteControl], Any], type[Exception], str]] = [
    ("reload of nothing", lambda it: it.tables.reload("t"), RequestError, "nothing was published yet"),
    ("routes of nothing", lambda it: it.tables.routes("203.0.113.0/24"), RequestError, "nothing was published yet"),
    ("no fleet", lambda it: it.tables.publish([FeedSource("asn")], "t"), RequestError, "the fleet is empty"),
    ("unknown appliance", lambda it: it.overrides.drain(["nobody"], "t"), RequestError, "appliance 'nobody'"),
    ("no appliance", lambda it: it.overrides.drain([], "t"), RequestError, "appliances"),
    ("a weight too large", lambda it: it.overrides.weight(["nobody"], 1 << 20, "t"), RequestError, "from 0 to 65535"),
]


@pytest.mark.parametrize(("verb", "kind", "message"), [row[1:] for row in ERRORS], ids=[row[0] for row in ERRORS])
def test_what_the_service_raises_is_raised_here(
    remote: RemoteControl, verb: Callable[[RemoteControl], Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        verb(remote)


def test_a_feed_error_and_its_hint_come_through(remote: RemoteControl, fleet: Fleet, tmp_path: Path) -> None:
    remote.fleet.replace(fleet, "test")
    path = tmp_path / "cut.csv"
    path.write_text("prefix,cluster\n203.0.113.0/24,bom001-a")
    with pytest.raises(FeedError, match=r"read .*cut\.csv: .*cut off") as caught:
        remote.tables.publish([FeedSource("csv", str(path))], "test")
    assert caught.value.hint


REFUSED = [
    ("POST", "/v1/tables/publish", b"{}{", {}, 422, "JSON"),
    ("POST", "/v1/tables/publish", b'{"sources": []}', {}, 422, "sources"),
    ("POST", "/v1/tables/publish", b'{"sources": [{"kind": "csv", "path": "here.csv"}]}', {}, 422, "absolute"),
    ("POST", "/v1/tables/publish", b'{"sources": [{"kind": "csv"}]}', {}, 422, "has a path"),
    ("POST", "/v1/tables/publish", b'{"sources": [{"kind": "nosuch", "path": "/x"}]}', {}, 422, "kind"),
    ("POST", "/v1/tables/publish", b'{"surces": []}', {}, 422, "surces"),
    ("POST", "/v1/overrides", b'{"appliances": ["a"]}', {}, 422, "at least one of enabled"),
    ("POST", "/v1/overrides", b'{"appliances": ["a"], "weight": "7"}', {}, 422, "weight"),
    ("POST", "/v1/overrides", b'{"appliances": ["a"], "weight": 1.5}', {}, 422, "weight"),
    ("POST", "/v1/fleet", b'{"sites": 7}', {}, 422, "sites"),
    ("POST", "/v1/fleet", b"", {"content-length": str(MAX_DOCUMENT + 1)}, 413, "at most"),
    ("POST", "/v1/fleet", b"", {"content-length": "x"}, 400, ""),
    ("POST", "/v1/fleet", b"2\r\n{}\r\n0\r\n\r\n", {"transfer-encoding": "chunked"}, 411, "Content-Length"),
    ("GET", "/v1/routes", b"", {}, 422, "prefix"),
    ("GET", "/v1/routes?prefix=" + "1" * 100, b"", {}, 422, "prefix"),
    ("GET", "/nothing", b"", {}, 404, "/nothing"),
    ("PUT", "/v1/overrides", b"", {}, 405, "PUT"),
]


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "detail"), REFUSED, ids=[f"{r[0]} {r[1]} {r[5]}" for r in REFUSED]
)
def test_a_wrong_request_gets_a_problem_that_names_what_is_wrong(
    settings: Settings, raw: httpx.Client, method: str, path: str, body: bytes, headers: Any, status: int, detail: str
) -> None:
    # By hand: the client library would mend the lengths.
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(10)
        peer.connect(str(settings.state / SOCKET))
        head = {"host": "control", "content-type": "application/json", "connection": "close"}
        head |= headers or {"content-length": str(len(body))}
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        peer.sendall(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body)
        with peer.makefile("rb") as answer:
            got = answer.readline()
            rest = answer.read()
    assert got.split()[1] == str(status).encode()
    if detail:
        problem = json.loads(rest.partition(b"\r\n\r\n")[2])
        assert problem["status"] == status
        assert detail in problem["detail"]
    assert raw.get("/healthz").json() == {"status": "ok"}


def test_who_asked_is_on_record_whatever_the_name(remote: RemoteControl, fleet: Fleet, write_feed: WriteFeed) -> None:
    remote.fleet.replace(fleet, "test")
    remote.tables.publish([write_feed("203.0.113.0/24,bom001-a,64500,0\n")], "Zoë\r\nX: y")
    assert remote.tables.list()[0]["who"] == "Zoë\r\nX: y"


def test_the_socket_is_its_users_alone(remote: RemoteControl, settings: Settings) -> None:
    result = (settings.state / SOCKET).stat()
    assert stat.S_ISSOCK(result.st_mode)
    assert stat.S_IMODE(result.st_mode) == 0o600


@LEFT_TO_THE_COLLECTOR
def test_a_socket_without_a_listener_is_passed_over(settings: Settings, fleet: Fleet) -> None:
    with Control(settings):
        pass
    with contextlib.suppress(SystemExit), listening(settings.state):
        os.link(settings.state / SOCKET, settings.state / "kept")
    (settings.state / "kept").rename(settings.state / SOCKET)
    with open_control(settings) as control:
        assert isinstance(control, Control)
        assert control.fleet.replace(fleet, "test")["fleet"] == 1


def test_a_holder_of_the_lock_that_does_not_answer_is_named_after_a_while(settings: Settings) -> None:
    pauses: list[float] = []
    with Control(settings), pytest.raises(SettingsError, match=f"process {os.getpid()} holds its lock"):
        open_control(settings, patience_s=0.5, pause=pauses.append)
    assert 4 <= len(pauses) <= 5


def test_a_writer_that_is_closing_is_waited_for(settings: Settings) -> None:
    holder = Control(settings)
    with open_control(settings, patience_s=0.5, pause=lambda _: holder.close()) as control:
        assert isinstance(control, Control)


def test_a_state_folder_whose_socket_would_have_too_long_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="a socket's path has at most 107"), listening(tmp_path / ("x" * 100)):
        pass


@LEFT_TO_THE_COLLECTOR
def test_control_ending_in_the_middle_is_an_error_with_a_reason(settings: Settings, fleet: Fleet) -> None:
    with running_control_app(settings):
        remote = open_control(settings)
    with remote, pytest.raises(SettingsError, match="control went away during GET /v1/tables"):
        remote.tables.list()


@contextlib.contextmanager
def hung(settings: Settings, answers: int) -> Iterator[None]:
    """Listen on control's socket, answer so many requests with 200, and then none."""
    settings.state.mkdir(mode=0o700, exist_ok=True)

    def answer_some() -> None:
        kept = []
        for number in itertools.count():
            try:
                connection, _ = listener.accept()
            except OSError:
                break
            kept.append(connection)
            if number < answers:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        for connection in kept:
            connection.close()

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(settings.state / SOCKET))
        listener.listen()
        answering = threading.Thread(target=answer_some)
        answering.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            answering.join()


def test_a_control_process_that_does_not_answer_is_given_up_in_time(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steering.control.remote.CONNECT_S", 0.2)
    with Control(settings), hung(settings, answers=0):
        began = time.monotonic()
        with pytest.raises(SettingsError, match="holds its lock"):
            open_control(settings, patience_s=1)
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("limit", ["SHORT_S", "LONG_S"])
def test_each_verb_has_a_deadline(settings: Settings, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(f"steering.control.remote.{limit}", 0.2)
    with hung(settings, answers=1), open_control(settings) as control:
        verb = control.tables.list if limit == "SHORT_S" else lambda: control.tables.reload("test")
        with pytest.raises(SettingsError, match=r"did not answer .* within 0 s"):
            verb()
