"""Guards that stop a publish, rollbacks, pins: through the control's verbs, the API and the command."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from steering.cli import main
from steering.control.remote import RemoteControl
from steering.control.routes.feeds import FeedSource
from steering.control.services.control import Control
from steering.decision.snapshot import Snapshot
from steering.errors import FeedError, RequestError, SnapshotError
from steering.model.fleet import Fleet
from steering.model.service import Service
from steering.settings import Settings, read_settings
from tests.support.control_app import running_control_app

HOME = "203.0.113.0/24,bom001-a,64500,0\n"
AWAY = "203.0.113.0/24,del001-a,64500,0\n"

WriteFeed = Callable[..., FeedSource]


def nearest(settings: Settings, address: str = "203.0.113.9") -> str:
    """Return the site of a client's first target."""
    answer = json.loads(Snapshot.map(settings.state).steer(address, "80100172", service="video"))
    return str(answer["targets"][0]["site"])


@pytest.fixture
def strict(settings: Settings) -> Settings:
    """Return settings whose guards look at the smallest table."""
    return settings.model_copy(update={"guard_from": 1})


@pytest.fixture
def guarded(strict: Settings, fleet: Fleet, write_feed: WriteFeed) -> Any:
    """Return a control with strict guards that serves the tiny fleet."""
    with Control(strict) as control:
        control.fleet.replace(fleet, "test")
        control.tables.publish([write_feed(HOME)], "test", "first")
        yield control


# ---- guards


def test_a_guard_stops_a_publish_and_nothing_is_lost(guarded: Control, strict: Settings, write_feed: WriteFeed) -> None:
    before = {path.name: path.read_bytes() for path in strict.state.iterdir() if not path.name.startswith("steering.")}
    with pytest.raises(FeedError, match=r"100\.0 % of IPv4 clients would move \(guard_moved 25\.0 %\)") as caught:
        guarded.tables.publish([write_feed(AWAY)], "test")
    assert "--force REASON" in caught.value.hint
    assert nearest(strict) == "bom001"
    after = {path.name: path.read_bytes() for path in strict.state.iterdir() if not path.name.startswith("steering.")}
    assert after == before
    assert [row["table"] for row in guarded.tables.list()] == [1]


def test_a_check_shows_the_result_of_the_guards(guarded: Control, write_feed: WriteFeed) -> None:
    report = guarded.tables.check([write_feed(AWAY)])
    assert report["guards"] == ["100.0 % of IPv4 clients would move (guard_moved 25.0 %)"]
    assert report["changes"]["moved"]["v4"] == 1.0
    assert [row["cluster"] for row in report["changes"]["clusters"]] == ["bom001-a", "del001-a"]
    assert report["changes"]["prefixes"]["v4"]["first"]["changed"] == ["203.0.113.0/24"]


def test_a_reason_passes_the_guards_and_is_on_record(guarded: Control, strict: Settings, write_feed: WriteFeed) -> None:
    report = guarded.tables.publish([write_feed(AWAY)], "alice", "ticket 7", force="Mumbai is under water")
    assert nearest(strict) == "del001"
    assert report["guards"]
    for why in (guarded.tables.list()[0]["why"], guarded.audit.list(1)[0]["why"]):
        assert why.startswith("ticket 7; forced, Mumbai is under water; 100.0 % of IPv4 clients would move")


def test_a_publish_that_breaks_no_guard_is_not_called_forced(guarded: Control, write_feed: WriteFeed) -> None:
    guarded.tables.publish([write_feed(HOME)], "alice", "again", force="just in case")
    assert guarded.tables.list()[0]["why"] == "again"


def test_a_first_publish_has_nothing_to_compare_with(strict: Settings, fleet: Fleet, write_feed: WriteFeed) -> None:
    with Control(strict) as control:
        control.fleet.replace(fleet, "test")
        report = control.tables.publish([write_feed(HOME)], "test")
    assert (report["changes"], report["guards"]) == (None, [])


def test_a_reload_is_guarded_too(guarded: Control, strict: Settings, write_feed: WriteFeed) -> None:
    write_feed(AWAY)
    with pytest.raises(FeedError, match="clients would move"):
        guarded.tables.reload("test")
    assert nearest(strict) == "bom001"


def test_zones_are_not_left_without_any_cluster(guarded: Control, fleet: Fleet, write_feed: WriteFeed) -> None:
    closed = tuple(dataclasses.replace(item, accepts_off_net=False) for item in fleet.clusters)
    guarded.fleet.replace(dataclasses.replace(fleet, clusters=closed), "test")
    with pytest.raises(FeedError, match=r"zones would have no cluster, and every zone has one now"):
        guarded.tables.publish([write_feed(HOME)], "test")
    guarded.tables.publish([write_feed(HOME)], "test", force="our clients alone")
    guarded.tables.publish([write_feed(HOME)], "test")  # it is no news any more


def test_damage_to_what_serves_does_not_stop_the_publish_that_replaces_it(
    guarded: Control, strict: Settings, write_feed: WriteFeed
) -> None:
    (strict.state / "routes.1").write_bytes(b"not a routes file")
    report = guarded.tables.publish([write_feed(AWAY)], "test")
    assert report["changes"] is None
    assert nearest(strict) == "del001"


# ---- versions


def test_a_rollback_serves_the_kept_table_as_it_was_written(
    serving: Control, settings: Settings, write_feed: WriteFeed
) -> None:
    first = (settings.state / "table.1").read_bytes()
    serving.tables.publish([write_feed(AWAY)], "test")
    serving.overrides.drain(["c001-bom001"], "test")
    assert nearest(settings) == "del001"
    report = serving.tables.rollback(1, "alice", "Delhi is full")
    assert (report["serving"]["table"], report["before"]["table"]) == (1, 2)
    assert nearest(settings) == "bom001"
    assert (settings.state / "table.1").read_bytes() == first
    # Routes only: the override stands.
    answer = json.loads(Snapshot.map(settings.state).steer("203.0.113.9", "80100172", service="video"))
    assert answer["targets"][0]["appliance"] == "c002-bom001"
    entry = serving.audit.list(1)[0]
    assert (entry["what"], entry["subject"], entry["who"], entry["why"]) == (
        *("rollback", "table 1", "alice", "Delhi is full"),
    )
    assert (entry["before"]["table"], entry["after"]["table"]) == (2, 1)
    # And forward again.
    assert serving.tables.rollback(2, "alice")["serving"]["table"] == 2
    assert nearest(settings) == "del001"


def test_a_rollback_takes_the_fleet_of_now(
    serving: Control, settings: Settings, write_feed: WriteFeed, fleet: Fleet, renamed: Callable[[Fleet], Fleet]
) -> None:
    serving.tables.publish([write_feed(AWAY)], "test")
    serving.fleet.replace(renamed(fleet), "test")
    serving.tables.rollback(1, "test")
    assert Snapshot.map(settings.state).services.keys() == {"video", "games"}


ABSENT = [(7, "none of this version was ever published", 404), (1, "its files were removed", 409)]


@pytest.mark.parametrize(("version", "rule", "status"), ABSENT)
def test_what_is_not_kept_cannot_be_rolled_back_to(
    serving: Control, settings: Settings, write_feed: WriteFeed, version: int, rule: str, status: int
) -> None:
    for path in settings.state.glob("*.1"):
        if path.name in ("table.1", "routes.1"):
            path.rename(settings.state / f"kept-{path.name}")
    with pytest.raises(RequestError, match=rule) as caught:
        serving.tables.rollback(version, "test")
    assert caught.value.status == status


def test_a_damaged_table_is_not_rolled_back_to(serving: Control, settings: Settings, write_feed: WriteFeed) -> None:
    serving.tables.publish([write_feed(AWAY)], "test")
    damaged = bytearray((settings.state / "table.1").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (settings.state / "table.1").write_bytes(damaged)
    with pytest.raises(SnapshotError, match="checksum"):
        serving.tables.rollback(1, "test")
    assert nearest(settings) == "del001"
    assert not serving.tables.list()[0]["pinned"]


def test_after_a_rollback_no_reload_publishes_until_it_is_unpinned(
    serving: Control, settings: Settings, write_feed: WriteFeed
) -> None:
    serving.tables.publish([write_feed(AWAY)], "test")
    serving.tables.rollback(1, "alice", "Delhi is full")
    assert [row["table"] for row in serving.tables.list() if row["pinned"]] == [1]
    with pytest.raises(RequestError, match="table 1 is pinned by alice: Delhi is full") as caught:
        serving.tables.reload("SIGHUP")
    assert caught.value.status == 409
    serving.tables.unpin("alice")
    assert serving.tables.reload("SIGHUP")["serving"]["table"] == 3
    assert nearest(settings) == "del001"


def test_a_publish_by_hand_takes_the_pin_away(serving: Control, write_feed: WriteFeed) -> None:
    serving.tables.pin("alice", "the final is on")
    serving.tables.publish([write_feed(AWAY)], "bob")
    assert not any(row["pinned"] for row in serving.tables.list())
    serving.tables.reload("test")


def test_a_pin_survives_a_restart(settings: Settings, fleet: Fleet, write_feed: WriteFeed) -> None:
    with Control(settings) as control:
        control.fleet.replace(fleet, "test")
        control.tables.publish([write_feed(HOME)], "test")
        control.tables.pin("alice")
    with Control(settings) as control:
        assert control.tables.list()[0]["pinned"]
        assert control.tables.unpin("alice") == {"pinned": None}
        assert control.tables.unpin("alice") == {"pinned": None}
    with Control(settings) as control:
        assert not control.tables.list()[0]["pinned"]


def test_nothing_is_pinned_before_something_serves(control: Control) -> None:
    with pytest.raises(RequestError, match="nothing was published yet"):
        control.tables.pin("test")


@pytest.mark.parametrize("when", ["before it serves", "after it serves"])
def test_a_rollback_that_is_killed_is_whole_or_not_at_all(
    settings: Settings, fleet: Fleet, write_feed: WriteFeed, when: str
) -> None:
    """The process is forked, and killed in the middle: no `finally` runs."""
    with Control(settings) as control:
        control.fleet.replace(fleet, "test")
        control.tables.publish([write_feed(HOME)], "test")
        control.tables.publish([write_feed(AWAY)], "test")
    child = os.fork()
    if not child:
        control = Control(settings)
        switch = control.hand_over.switch

        def die(*given: Any) -> Any:
            if when == "after it serves":
                switch(*given)
            os.kill(os.getpid(), signal.SIGKILL)

        control.hand_over.switch = die  # type: ignore[method-assign]
        control.tables.rollback(1, "alice")
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    with Control(settings) as control:
        served = 1 if when == "after it serves" else 2
        rows = control.tables.list()
        assert [row["table"] for row in rows if row["serving"]] == [served]
        assert [row["table"] for row in rows if row["pinned"]] == [1] * (served == 1)
        assert nearest(settings) == ("bom001" if served == 1 else "del001")


def test_retention_keeps_what_is_served_and_what_is_pinned(
    settings: Settings, fleet: Fleet, write_feed: WriteFeed
) -> None:
    with Control(settings.model_copy(update={"retain": 2})) as control:
        control.fleet.replace(fleet, "test")
        for number in range(5):
            control.tables.publish([write_feed(HOME, f"198.51.100.{number}/32,lhr001-a,64511,0\n")], "test")
        assert [row["table"] for row in control.tables.list() if row["kept"]] == [5, 4]
        control.tables.rollback(4, "test")
        for name in ("a", "b", "c"):
            control.tables.pin("test", name)
            control.fleet.replace(dataclasses.replace(fleet, services=(*fleet.services, service(name))), "test")
        assert [row["table"] for row in control.tables.list() if row["kept"]] == [5, 4]
        control.tables.unpin("test")
        for number in range(2):
            control.tables.publish([write_feed(HOME, f"198.51.100.{number}/32,lhr001-a,64511,0\n")], "test")
        assert [row["table"] for row in control.tables.list() if row["kept"]] == [7, 6]
        control.tables.rollback(6, "test")
    with Control(settings.model_copy(update={"retain": 1})) as control:
        control.fleet.replace(fleet, "test")
        assert [row["table"] for row in control.tables.list() if row["kept"]] == [7, 6]  # the newest, and what serves


def service(name: str) -> Service:
    return Service(name, "https://{host}/v/{title}", "https://origin.example/v/{title}")


def test_two_kept_tables_are_compared(serving: Control, write_feed: WriteFeed) -> None:
    serving.tables.publish([write_feed(AWAY, "198.51.100.0/24,lhr001-a,64511,0\n")], "test")
    changes = serving.tables.diff(1, 2)
    prefixes = changes["prefixes"]["v4"]
    assert (changes["before"], changes["after"]) == (1, 2)
    assert prefixes["first"] == {"added": ["198.51.100.0/24"], "removed": [], "changed": ["203.0.113.0/24"]}
    back = serving.tables.diff(2, 1, examples=0)["prefixes"]["v4"]
    assert (back["added"], back["removed"], back["changed"]) == (0, 1, 1)
    assert back["first"] == {"added": [], "removed": [], "changed": []}
    with pytest.raises(RequestError, match="table 9"):
        serving.tables.diff(1, 9)


# ---- API and command line


def test_every_verb_over_the_socket(settings: Settings, fleet: Fleet, write_feed: WriteFeed) -> None:
    with running_control_app(settings), RemoteControl(settings) as remote:
        remote.fleet.replace(fleet, "test")
        remote.tables.publish([write_feed(HOME)], "test")
        remote.tables.publish([write_feed(AWAY)], "test", force="a reason")
        assert remote.tables.get(1)["table"] == 1
        assert remote.tables.diff(1, 2, 5)["moved"]["v4"] == 1.0
        began = time.monotonic()
        report = remote.tables.rollback(1, "alice", "a reason")
        assert report["serving"]["table"] == 1
        assert time.monotonic() - began < 5
        with pytest.raises(RequestError, match="pinned by alice: a reason"):
            remote.tables.reload("test")
        assert remote.tables.unpin("alice") == {"pinned": None}
        assert remote.tables.pin("alice", "again") == {"pinned": 1}
        assert [entry["what"] for entry in remote.audit.list(3)] == ["pin", "unpin", "rollback"]


BAD_VERSIONS = ["/v1/tables/0", "/v1/tables/-1", "/v1/tables/x", "/v1/tables/99999999999999999999", "/v1/tables/1.5"]


@pytest.mark.parametrize("path", BAD_VERSIONS)
def test_what_is_no_version_is_refused(settings: Settings, path: str) -> None:
    with running_control_app(settings) as app, app.client(app.make_token("ops")) as client:
        answer = client.get(path)
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["parameter"] == "version"


def test_the_commands(settings: Settings, fleet: Fleet, write_feed: WriteFeed) -> None:
    def run(*words: str, status: int = 0) -> str:
        result = CliRunner().invoke(main, [*words, "--state", str(settings.state)])
        assert result.exit_code == status, result.output
        return result.stdout if status == 0 else result.output

    with Control(settings) as control:
        control.fleet.replace(fleet, "test")
    home, away = write_feed(HOME, name="home.csv").path, write_feed(AWAY, name="away.csv").path
    assert "nothing was published yet" in run("table", "list")
    mixed = write_feed(HOME, HOME, HOME.replace(",0", ",7"), AWAY, "10.0.0.1/8,bom001-a,1,0\n", name="mixed.csv").path
    assert run("table", "check", mixed, "--csv").splitlines() == [
        "what,subject,name,value",
        "feed,mixed.csv,accepted,4",
        "feed,mixed.csv,refused,1",
        "feed,mixed.csv,unheard,0",
        "table,,routes_v4,4",
        "table,,routes_v6,0",
        "table,,prefixes_v4,1",
        "table,,prefixes_v6,0",
        *(
            line
            for line in run("table", "check", mixed, "--csv").splitlines()
            if re.match("table,,(inter|zones|rank)", line)
        ),
        "table,,refused,1",
        "table,,duplicates,1",
        "conflict,203.0.113.0/24,different routes at bom001-a; the best is used,",
        "refused_by,mixed.csv,host bits are set,1",
        "refused,mixed.csv:6,host bits are set; write 10.0.0.0/8,10.0.0.1/8",
    ]
    report = json.loads(run("table", "check", mixed, "--json"))
    assert (report["duplicates"], report["counts"]["refused"], report["serving"]) == (1, 1, None)
    shown = run("table", "check", mixed)
    assert "conflict: 203.0.113.0/24: different routes" in shown
    assert re.search(r"duplicates +1\n", shown)
    run("table", "publish", home)
    assert "100.0 %" in run("table", "check", away)
    lines = run("table", "check", away, "--csv").splitlines()
    assert lines[0] == "what,subject,name,value"
    assert "moved,v4,share,1.0" in lines
    assert "cluster,del001-a,gained_v4,1.0" in lines
    assert "feed,away.csv,accepted,1" in lines
    run("table", "publish", away, "--why", "to Delhi" + " at last" * 20)
    assert re.search(r"to Delhi( at last)+ at…$", run("table", "list"), re.MULTILINE)
    assert "changed: 203.0.113.0/24" in run("table", "diff", "1", "2")
    assert json.loads(run("table", "diff", "1", "2", "--json"))["moved"]["v4"] == 1.0
    assert "prefix,203.0.113.0/24,changed," in run("table", "diff", "1", "2", "--csv").splitlines()
    assert "table 1 is serving in" in run("table", "rollback", "1", "--why", "Delhi is full")
    assert "serving pinned" in run("table", "list")
    assert "pinned by" in run("reload", status=1)
    assert "no table is pinned" in run("table", "unpin")
    assert "table 1 is pinned" in run("table", "pin")
    assert "table 1 is pinned by" in run("reload", status=1)


def test_what_is_wrong_beside_the_feeds_is_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: Settings, fleet: Fleet, write_feed: WriteFeed
) -> None:
    (tmp_path / "geo.csv").write_text("192.0.2.0/24,IN,IN-99\n192.0.2.1/24,IN\n")
    monkeypatch.setenv("STEERING_GEOFEEDS", str(tmp_path / "geo.csv"))
    with Control(settings) as control:
        control.fleet.replace(fleet, "test")
    result = CliRunner().invoke(main, ["table", "check", write_feed(HOME).path, "--state", str(settings.state)])
    assert result.exit_code == 0, result.output
    assert re.search(r"geo\.csv +refusal +2 +192\.0\.2\.1/24 +host bits are set", result.output)
    assert re.search(r"geo\.csv +warning +1 +.*the country is used", result.output, re.DOTALL)


def test_strict_fails_where_a_guard_would_stop_the_publish(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, fleet: Fleet, write_feed: WriteFeed
) -> None:
    monkeypatch.setenv("STEERING_GUARD_FROM", "1")
    with Control(read_settings(state=settings.state)) as control:
        control.fleet.replace(fleet, "test")
        control.tables.publish([write_feed(HOME)], "test")
    away = write_feed(AWAY).path
    for words, status in (
        (["check"], 0),
        (["check", "--strict"], 1),
        (["publish"], 1),
        (["publish", "--force", "x"], 0),
    ):
        result = CliRunner().invoke(main, ["table", *words, away, "--state", str(settings.state)])
        assert result.exit_code == status, result.output
        assert "clients would move" in result.output
