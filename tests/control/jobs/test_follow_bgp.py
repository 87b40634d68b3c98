"""Live BGP: what sessions say is served, by a real BIRD and a real GoBGP; and every way in which they can go away."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from steering.control.jobs.follow_bgp import CREDIT_S, SHARE, Budget, core_s
from steering.control.records.versions import Version
from steering.control.remote import RemoteControl
from steering.control.routes.bgp.sessions import FILE, LiveRoutes, Session, lines_of, read_sessions, write_routes
from steering.control.routes.bgp.speaker import configuration, environment, router_id, speaking
from steering.control.routes.feeds import FeedSource
from steering.control.services.control import Control
from steering.control.services.hand_over import LIVE, kept_versions
from steering.decision.explain import describe, explain
from steering.decision.snapshot import Snapshot
from steering.errors import SettingsError
from steering.model.fleet import Fleet
from steering.process.child import run_gently
from steering.settings import Settings
from tests.fastpath import test_mrt
from tests.support.control_fixtures import Clock
from tests.support.processes import Served, is_running, serving, until

ONE = Session("bom001-a", "192.0.2.1", 64500, "192.0.2.9", 65000, 4)
SIX = Session("del001-a", "2001:db8::1", 64500, "2001:db8::9", 65000, 6)
NOW = 1_000.0


# ---- what the speaker tells


def event(session: Session, kind: str, **neighbor: Any) -> bytes:
    """Return a line of the speaker."""
    address = {"local": session.local, "peer": session.peer}
    return json.dumps({"exabgp": "5.0.0", "type": kind, "neighbor": {"address": address, **neighbor}}).encode()


def update(session: Session, announce: list[str] = (), withdraw: list[str] = (), **attributes: Any) -> bytes:  # type: ignore[assignment]
    family = f"ipv{session.family} unicast"
    path = {"0": {"element": "as-sequence", "value": [64500]}}
    message: dict[str, Any] = {"attribute": {"origin": "igp", "as-path": path, **attributes}}
    if announce:
        message["announce"] = {family: {"192.0.2.1": [{"nlri": prefix} for prefix in announce]}}
    if withdraw:
        message["withdraw"] = {family: [{"nlri": prefix} for prefix in withdraw]}
    return event(session, "update", direction="receive", message={"update": message})


def end_of_rib(session: Session) -> bytes:
    return event(session, "update", message={"eor": {"afi": f"ipv{session.family}", "safi": "unicast"}})


@pytest.fixture
def live() -> LiveRoutes:
    """Two sessions that are up."""
    result = LiveRoutes([ONE, SIX], hold_s=120, now=NOW)
    for session in (ONE, SIX):
        result.take(event(session, "state", state="up"), NOW)
    return result


def rows(live: LiveRoutes) -> list[str]:
    return [line for line in "".join(lines_of(live.copied())).splitlines()[1:] if not line.startswith("#")]


def test_announcements_changes_and_withdrawals_are_followed(live: LiveRoutes) -> None:
    live.take(update(ONE, ["10.0.0.0/8", "10.1.0.0/16"], med=7, community=[[64500, 80], [1, 2]]), NOW)
    live.take(update(SIX, ["2001:db8::/32"], **{"large-community": [[1, 2, 3]]}), NOW)
    assert rows(live) == [
        "10.0.0.0/8,bom001-a,64500,igp,7,64500:80 1:2",
        "10.1.0.0/16,bom001-a,64500,igp,7,64500:80 1:2",
        "2001:db8::/32,del001-a,64500,igp,0,1:2:3",
    ]
    changed = live.changed
    live.take(update(ONE, ["10.0.0.0/8"], med=7, community=[[64500, 80], [1, 2]]), NOW)
    assert live.changed == changed  # it said nothing new
    live.take(update(ONE, ["10.0.0.0/8"], withdraw=["10.1.0.0/16"], med=8), NOW)
    assert live.changed == changed + 2
    assert rows(live)[0] == "10.0.0.0/8,bom001-a,64500,igp,8,"
    assert len(rows(live)) == 2


def test_a_path_with_a_set_or_too_long_is_treated_as_withdrawn(live: LiveRoutes) -> None:
    for path in (
        {"0": {"element": "as-sequence", "value": [1]}, "1": {"element": "as-set", "value": [2, 3]}},
        {"0": {"element": "as-sequence", "value": [1] * 256}},
    ):
        live.take(update(ONE, ["10.0.0.0/8"]), NOW)
        assert len(rows(live)) == 1
        live.take(update(ONE, ["10.0.0.0/8"], **{"as-path": path}), NOW)
        assert rows(live) == []
    assert live.describe()[0]["refused"] == 2


DROPPED: list[tuple[str, dict[str, Any], str]] = [
    # name, attributes, the reason that the session shows
    ("an AS 0", {"as-path": {"0": {"element": "as-sequence", "value": [1, 0]}}}, "10.0.0.0/8: a path has at most 255 ASNs from 1"),
    ("a text in the path", {"as-path": {"0": {"element": "as-sequence", "value": ["1,2"]}}}, "10.0.0.0/8: Expected `int`"),
    ("a path of another shape", {"as-path": [7]}, "10.0.0.0/8: Expected `object`"),
    ("communities of another shape", {"community": [7]}, "10.0.0.0/8: Expected `array`"),
    ("many communities", {"community": [[1, i] for i in range(256)] + [[65000, 0]]}, "10.0.0.0/8: a route has at most 256"),
    ("an origin of nobody", {"origin": "igp,x"}, "10.0.0.0/8: origin is one of"),
    ("a negative MED", {"med": -1}, "10.0.0.0/8: origin is one of"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "attributes", "reason"), DROPPED, ids=[row[0] for row in DROPPED])
def test_what_is_not_accepted_is_withdrawn_counted_and_shown(
    live: LiveRoutes, name: str, attributes: dict[str, Any], reason: str
) -> None:
    live.take(update(ONE, ["10.0.0.0/8"]), NOW)
    live.take(update(ONE, ["10.0.0.0/8"], **attributes), NOW)
    live.take(end_of_rib(ONE), NOW)
    assert rows(live) == []
    row = live.describe()[0]
    assert (row["routes"], row["refused"]) == (0, 1)
    assert row["last_refused"].startswith(reason)
    assert row["reason"].startswith(f"no route is accepted; {reason}")


def test_a_do_not_serve_in_any_place_is_kept(live: LiveRoutes) -> None:
    live.take(update(ONE, ["10.0.0.0/8"], community=[[1, i] for i in range(255)] + [[65000, 0]]), NOW)
    assert rows(live)[0].endswith(" 65000:0")


def test_routes_of_another_family_are_counted_and_shown(live: LiveRoutes) -> None:
    other = json.loads(update(ONE, ["10.0.0.0/8"]))
    other["neighbor"]["message"]["update"]["announce"]["ipv6 unicast"] = {"::1": [{"nlri": "2001:db8::/32"}] * 3}
    live.take(json.dumps(other).encode(), NOW)
    row = live.describe()[0]
    assert (row["routes"], row["refused"]) == (1, 3)
    assert row["last_refused"] == "ipv6 unicast: a session has one family, and this has ipv4 unicast"
    live.take(event(ONE, "update", message={"eor": {"afi": "ipv6", "safi": "unicast"}}), NOW)
    assert not live.received[ONE.key].is_complete


def test_a_session_without_a_route_gives_the_reason(live: LiveRoutes) -> None:
    assert live.describe()[0]["reason"] == ""
    live.take(end_of_rib(ONE), NOW)
    assert live.describe()[0]["reason"] == "the router announces no route"
    live.take(event(ONE, "update", message={"update": 7}), NOW)
    assert live.describe()[0]["refused"] == 1
    live.take(update(ONE, ["10.0.0.0/8"]), NOW)
    assert live.describe()[0]["reason"] == ""


def test_texts_of_rows_are_freed(live: LiveRoutes) -> None:
    for med in range(10_050):
        live.take(update(ONE, ["10.0.0.0/8"], med=med), NOW)
    live.expire(NOW)
    assert len(live.texts) == 1


WRONG_ATTRIBUTES: list[dict[str, Any]] = [
    {"as-path": {"0": {"element": "as-sequence", "value": [64500, 0]}}},
    {"as-path": {"0": {"element": "as-sequence", "value": ["64500"]}}},
    {"as-path": {"0": {"element": "as-sequence", "value": [2**32]}}},
    {"as-path": {"0": {"value": [1]}}},
    {"as-path": {"0": [1]}},
    {"as-path": [1]},
    {"as-path": "1"},
    {"as-path": None},
    {"origin": "elsewhere"},
    {"origin": 7},
    {"med": -1},
    {"med": 2**32},
    {"med": "7"},
    {"community": [[64500, 1, 2]]},
    {"community": [[64500, 65536]]},
    {"community": ["64500:1"]},
    {"community": {"0": [1, 2]}},
    {"community": [[64500, number] for number in range(257)]},
    {"large-community": [[1, 2]]},
    {"large-community": [["1,2\n10.9.0.0/16", 1, 1]]},
]


@pytest.mark.parametrize("wrong", WRONG_ATTRIBUTES, ids=str)
def test_attributes_of_a_wrong_shape_withdraw_the_route(live: LiveRoutes, wrong: dict[str, Any]) -> None:
    live.take(update(ONE, ["10.0.0.0/8", "11.0.0.0/8"]), NOW)
    live.take(update(ONE, ["10.0.0.0/8"], **wrong), NOW)
    assert [row.partition(",")[0] for row in rows(live)] == ["11.0.0.0/8"]
    assert live.describe()[0]["refused"] == 1


@pytest.mark.parametrize("attributes", [None, [], "x", 7])
def test_attributes_that_are_no_object_withdraw_the_route(live: LiveRoutes, attributes: Any) -> None:
    live.take(update(ONE, ["10.0.0.0/8"]), NOW)
    message = json.loads(update(ONE, ["10.0.0.0/8"]))
    message["neighbor"]["message"]["update"]["attribute"] = attributes
    live.take(json.dumps(message).encode(), NOW)
    assert rows(live) == []


def test_every_community_is_kept(live: LiveRoutes) -> None:
    live.take(update(ONE, ["10.0.0.0/8"], community=[[64500, number] for number in range(200)]), NOW)
    assert rows(live)[0].endswith(" 64500:199")


def test_a_reset_empties_no_table_and_routes_not_announced_again_go_with_the_end_of_rib(live: LiveRoutes) -> None:
    live.take(update(ONE, ["10.0.0.0/8", "11.0.0.0/8"]), NOW)
    live.take(event(ONE, "state", state="down", reason="peer reset"), NOW)
    live.expire(NOW + 119)
    assert len(rows(live)) == 2
    assert (live.describe()[0]["state"], live.describe()[0]["stale"]) == ("down", 2)
    live.take(event(ONE, "state", state="up"), NOW + 119)
    live.take(update(ONE, ["11.0.0.0/8"]), NOW + 119)
    assert len(rows(live)) == 2
    live.take(end_of_rib(ONE), NOW + 120)
    assert [row.partition(",")[0] for row in rows(live)] == ["11.0.0.0/8"]


@pytest.mark.parametrize("comes_back", [False, True], ids=["stays down", "comes back without an End-of-RIB"])
def test_what_is_stale_for_too_long_is_dropped(live: LiveRoutes, comes_back: bool) -> None:
    live.take(update(ONE, ["10.0.0.0/8", "11.0.0.0/8"]), NOW)
    live.take(event(ONE, "state", state="down"), NOW)
    if comes_back:
        live.take(event(ONE, "state", state="up"), NOW)
        live.take(update(ONE, ["11.0.0.0/8"]), NOW)
    live.expire(NOW + 120)
    assert [row.partition(",")[0] for row in rows(live)] == ["11.0.0.0/8"] * comes_back


def test_going_down_twice_does_not_begin_the_hold_again(live: LiveRoutes) -> None:
    live.take(update(ONE, ["10.0.0.0/8"]), NOW)
    live.take(event(ONE, "state", state="down"), NOW)
    live.all_down("the speaker ended", NOW + 100)
    live.take(event(ONE, "state", state="down"), NOW + 110)
    live.expire(NOW + 120)
    assert rows(live) == []


def test_a_control_process_that_starts_has_the_routes_of_the_one_before(live: LiveRoutes, tmp_path: Path) -> None:
    live.take(update(ONE, ["10.0.0.0/8"], med=7), NOW)
    live.take(update(SIX, ["2001:db8::/32"]), NOW)
    write_routes(tmp_path, live.copied())
    again = LiveRoutes([SIX], hold_s=120, now=NOW)  # the other session was taken out of the file
    again.read_back(tmp_path)
    assert rows(again) == ["2001:db8::/32,del001-a,64500,igp,0,"]
    again.take(event(SIX, "state", state="up"), NOW)
    again.take(end_of_rib(SIX), NOW)
    assert rows(again) == []


DAMAGED = [
    # the file, and the prefixes that are kept as they are
    (lambda data: data.replace(b"10.1.", b"\xff\xfe\x85"), ["10.0.0.0/8", "10.2.0.0/16"]),
    (lambda data: data[: data.rindex(b"7,")], ["10.0.0.0/8", "10.1.0.0/16"]),
    (lambda data: data.replace(b"# session", b"\xff"), []),
    (lambda data: bytes(len(data)), []),
    (lambda data: data[:0], []),
]


@pytest.mark.parametrize("number", range(len(DAMAGED)))
def test_a_damaged_file_of_routes_does_not_stop_live_routes(live: LiveRoutes, tmp_path: Path, number: int) -> None:
    damage, kept = DAMAGED[number]
    live.take(update(ONE, ["10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16"], med=7), NOW)
    write_routes(tmp_path, live.copied())
    good = rows(live)
    (tmp_path / FILE).write_bytes(damage((tmp_path / FILE).read_bytes()))
    again = LiveRoutes([ONE, SIX], hold_s=120, now=NOW)
    again.read_back(tmp_path)
    write_routes(tmp_path, again.copied())
    assert [row for row in rows(again) if row in good] == [row for row in good if row.partition(",")[0] in kept]
    (tmp_path / FILE).unlink()
    (tmp_path / FILE).mkdir()
    again.read_back(tmp_path)


GARBAGE = [
    b"", b"[]", b"{", b"7", b"\xff", b'{"type": "update"}', b'{"neighbor": 7}', b'{"neighbor": {"address": []}}',
    b'{"type": "update", "neighbor": {"address": {"local": [], "peer": {}}}}', b"[" * 9999,
    event(dataclasses.replace(ONE, peer="192.0.2.77"), "state", state="up"),
    event(ONE, "update", message={}), event(ONE, "update", message={"update": {}}),
    event(ONE, "notification", message={"eor": {}}), event(ONE, "update", message={"update": 0}), event(ONE, "update", message=7),
    event(ONE, "update", message={"update": {"attribute": 7, "announce": {"ipv4 unicast": {"x": [{"nlri": "11.0.0.0/8"}]}}}}),
    event(ONE, "update", message={"update": {"withdraw": 7}}), event(ONE, "state", state=["up"]),
]  # fmt: skip


@pytest.mark.parametrize("line", GARBAGE, ids=lambda line: line[:40].decode("latin-1"))
def test_what_is_no_event_of_ours_is_passed_over(live: LiveRoutes, line: bytes) -> None:
    live.take(update(ONE, ["10.0.0.0/8"]), NOW)
    live.take(line, NOW)
    assert len(rows(live)) == 1


# ---- which sessions there are

GOOD = """
[[session]]
cluster = "bom001-a"
peer = "192.0.2.1"
peer_asn = 64500
local = "192.0.2.9"
"""


def test_sessions_are_read_with_their_defaults(tmp_path: Path) -> None:
    path = tmp_path / "bgp.toml"
    path.write_text(GOOD + GOOD.replace("192.0.2.", "2001:db8::") + "ttl = 3\n")
    one, six = read_sessions(path, 65000)
    assert one == ONE
    assert (six.family, six.ttl, six.key) == (6, 3, ("2001:db8::9", "2001:db8::1"))


BAD_SESSIONS = [
    ("", r"has 1 to 10000 tables \[\[session\]\]"),
    ("a = " + "[" * 100_000, r"bgp\.toml: it is nested too deep"),
    (GOOD.replace("64500", "9" * 5000), r"bgp\.toml: a number has too many digits"),
    ("session = 7", "has 1 to 10000 tables"),
    ("[[session", "Expected|expected"),
    (GOOD.replace('cluster = "bom001-a"', ""), "session 1: cluster = None: the id of a cluster"),
    (GOOD.replace("192.0.2.1", "192.0.2.256"), "session 1: peer = '192.0.2.256': an IP address"),
    (GOOD.replace("192.0.2.1", "::ffff:c000:201"), "session 1: peer = '::ffff:c000:201': an IP address"),
    (GOOD.replace('"192.0.2.1"', "7"), "session 1: peer = 7: an IP address"),
    (GOOD.replace("64500", "0"), "session 1: peer_asn = 0: an ASN"),
    (GOOD + 'port = "179"', "session 1: port = '179': a port"),
    (GOOD + "family = 5", "session 1: family = 5: 4 or 6"),
    (GOOD + "ttl = true", "session 1: ttl = True: a number of hops"),
    (GOOD + 'password_file = "x"', "session 1: password_file = 'x': an absolute path"),
    (GOOD + "colour = 1", "session 1: colour: no such field; one of cluster, peer"),
    (GOOD + GOOD, "session 2: 192.0.2.9 to 192.0.2.1 is session 1 already"),
]


@pytest.mark.parametrize(("text", "rule"), BAD_SESSIONS, ids=[rule[:40] for _, rule in BAD_SESSIONS])
def test_a_bad_session_is_named_with_field_value_and_rule(tmp_path: Path, text: str, rule: str) -> None:
    path = tmp_path / "bgp.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=rule):
        read_sessions(path, 65000)


def test_without_an_asn_of_ours_there_is_no_session(tmp_path: Path) -> None:
    path = tmp_path / "bgp.toml"
    path.write_text(GOOD)
    with pytest.raises(SettingsError, match="asn = None: an ASN, ours; or the setting asn"):
        read_sessions(path, 0)
    with pytest.raises(SettingsError, match="No such file"):
        read_sessions(tmp_path / "nosuch.toml", 65000)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(SettingsError, match=r"bgp\.toml: no file of at most 8 MiB"):
        read_sessions(path, 65000)


def test_the_speaker_inherits_nothing_of_our_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    password = tmp_path / "password"
    password.write_text("s3cret!\n")
    text = configuration([dataclasses.replace(SIX, password_file=str(password), ttl=2, port=1790)], tmp_path / "socket")
    for text_line in (
        'md5-password "s3cret!"',
        "outgoing-ttl 2",
        "connect 1790",
        "family { ipv6 unicast; }",
        "peer-as 64500",
    ):
        assert text_line in text
    assert router_id(SIX) == "0.0.253.232"
    password.unlink()
    os.mkfifo(password)
    with pytest.raises(SettingsError, match="password: a password has 1 to 80"):
        configuration([dataclasses.replace(ONE, password_file=str(password))], tmp_path / "socket")
    password.unlink()
    password.write_text('a"; run rm')
    with pytest.raises(SettingsError, match="no quote or backslash"):
        configuration([dataclasses.replace(ONE, password_file=str(password))], tmp_path / "socket")
    monkeypatch.setenv("STEERING_STATE", "/somewhere")
    monkeypatch.setenv("exabgp_tcp_port", "1")
    assert not [name for name in environment() if name.startswith("STEERING")]
    assert "exabgp_tcp_port" not in environment()


# ---- how often


@pytest.mark.parametrize("takes_s", [0.01, 0.3, 2.5, 40.0])
def test_changes_that_go_on_and_on_take_a_tenth_of_a_core_and_one_after_quiet_is_served_at_once(takes_s: float) -> None:
    budget, now, taken, published = Budget(0.0), 0.0, 0.0, 0
    while now < 10_000:
        if budget.allows(now):
            budget.take(takes_s)
            now, taken, published = now + takes_s, taken + takes_s, published + 1
        now += 0.05  # something changed again
    assert 0.9 * min(0.1, takes_s / (takes_s + 0.05)) <= taken / now <= 0.1 + (CREDIT_S + takes_s) / now
    assert published > 20
    # However long it was quiet, what may be taken at once does not grow.
    assert budget.allows(now + takes_s / SHARE)
    now += 100_000
    at_once = 0
    while budget.allows(now):
        budget.take(1.0)
        at_once += 1
    assert at_once == CREDIT_S + 1


def work(_: object) -> None:
    began = time.process_time()
    while time.process_time() - began < 0.2:
        pass


def test_what_a_publish_computes_in_its_own_process_is_what_it_took() -> None:
    before = core_s()
    run_gently("work", work, lambda _: None)
    assert core_s() - before >= 0.15


# ---- versions


def version(table: int, who: str, hour: float) -> Version:
    return Version(table, 1, 3600 * hour, who, "", [], {})


def test_live_versions_roll_over_and_one_an_hour_is_kept() -> None:
    versions = [
        version(9, LIVE, 5.9), version(8, LIVE, 5.5), version(7, "alice", 5.4), version(6, LIVE, 4.5), version(5, LIVE, 4.2),
        version(4, LIVE, 3.5), version(3, "bob", 3.0), version(2, "bob", 2.0),
    ]  # fmt: skip
    kept, gone = kept_versions(versions, 2)
    assert [item.table for item in kept] == [9, 7, 6, 3]
    assert [item.table for item in gone] == [8, 5]


def test_a_live_version_that_serves_again_is_not_forgotten(
    serving_live: Control, settings: Settings, write_feed: Callable[..., FeedSource]
) -> None:
    for med in (1, 2, 3):
        (settings.state / FILE).write_text(f"prefix,cluster,med\n203.0.113.0/24,bom001-a,{med}\n")
        serving_live.tables.publish_live()
    assert [row["table"] for row in serving_live.tables.list()] == [4, 1]
    assert [(row["who"], row["table"]) for row in serving_live.tables.list() if row["serving"]] == [(LIVE, 4)]
    serving_live.tables.rollback(4, "test")
    assert serving_live.tables.publish_live() is None  # pinned
    serving_live.tables.unpin("test")
    assert serving_live.tables.publish_live()["unchanged"]  # type: ignore[index]
    assert [row["table"] for row in serving_live.tables.list()] == [4, 1]
    (settings.state / FILE).write_text("prefix,cluster,med\n203.0.113.0/24,bom001-a,4\n")
    serving_live.tables.publish_live()
    assert [row["table"] for row in serving_live.tables.list()] == [5, 1]


@pytest.fixture
def serving_live(control: Control, clock: Clock, settings: Settings, fleet: Fleet) -> Control:
    """A control whose last publish by hand took live routes."""
    (settings.state / FILE).write_text("prefix,cluster\n203.0.113.0/24,bom001-a\n")
    control.fleet.replace(fleet, "test")
    control.tables.publish([FeedSource("bgp")], "test")
    clock.now = 7200.0
    return control


def test_without_live_routes_in_the_last_publish_nothing_is_followed(serving: Control) -> None:
    assert serving.tables.publish_live() is None


# ---- real speakers


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as result:
        return int(result.getsockname()[1])


@dataclasses.dataclass
class Bird:
    """A BIRD that waits for us, and announces what its file says."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    def announce(self, *routes: str, med: int = 0) -> None:
        """Announce these routes and no others, each with statements for its attributes behind it; all with one MED."""
        v4 = "\n".join(f"route {route};" for route in routes if ":" not in route.split()[0])
        v6 = "\n".join(f"route {route};" for route in routes if ":" in route.split()[0])
        (self.folder / "bird.conf").write_text(
            f"""log "{self.folder}/log" all; router id 192.0.2.1; protocol device {{}}
            protocol static s4 {{ ipv4; {v4} }} protocol static s6 {{ ipv6; {v6} }}
            template bgp steering {{ local 127.0.0.1 port {self.port} as 64500; passive; multihop; graceful restart on; }}
            protocol bgp four from steering {{ neighbor 127.0.0.2 as 65000; ipv4 {{ export filter {{ bgp_med = {med}; accept; }}; import none; }}; }}
            protocol bgp six from steering {{ neighbor 127.0.0.3 as 65000;
              ipv6 {{ export all; import none; next hop address 2001:db8::1; }}; }}"""
        )
        if self.process:
            control = ["birdc", "-s", str(self.folder / "ctl"), "configure"]
            subprocess.run(control, check=True, capture_output=True, timeout=20)

    def start(self) -> None:
        self.process = subprocess.Popen(
            ["bird", "-f", "-c", str(self.folder / "bird.conf"), "-s", str(self.folder / "ctl")],
            stderr=subprocess.DEVNULL,
        )
        until(lambda: (self.folder / "ctl").exists())

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None
            (self.folder / "ctl").unlink(missing_ok=True)


@pytest.fixture
def bird(tmp_path: Path) -> Iterator[Bird]:
    if not shutil.which("bird"):
        pytest.skip("no bird on PATH")
    (folder := tmp_path / "bird").mkdir()
    result = Bird(folder, free_port())
    yield result
    result.kill()


HOLD_S = 10.0  # the speaker is back by then, on a busy machine too


@contextlib.contextmanager
def following(tmp_path: Path, fleet: Fleet, sessions: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """Give a service that follows sessions, beside one prefix of a CSV feed."""
    (tmp_path / "bgp.toml").write_text(sessions)
    (tmp_path / "base.csv").write_text("prefix,cluster\n192.0.2.0/24,lhr001-a\n")
    state = tmp_path / "state"
    monkeypatch.setenv("STEERING_BGP", str(tmp_path / "bgp.toml"))
    monkeypatch.setenv("STEERING_BGP_HOLD_S", str(HOLD_S))
    monkeypatch.setenv("STEERING_ASN", "65000")
    (state / FILE).parent.mkdir(mode=0o700)
    (state / FILE).write_text("prefix,cluster\n")
    with Control(Settings(state=state)) as control:
        control.fleet.replace(fleet, "test")
        control.tables.publish([FeedSource("csv", str(tmp_path / "base.csv")), FeedSource("bgp")], "test")
    with serving(state) as service:
        yield service


def nearest(state: Path, address: str) -> str | None:
    """Return the cluster that a route leads an address to, None where none does."""
    ranking = describe(Snapshot.map(state), address)["ranking"]
    return None if ranking[0]["fallback"] else str(ranking[0]["cluster"])


def wait_for(state: Path, expected: dict[str, str | None], seconds: float = 40.0) -> float:
    """Wait until addresses are led to these clusters; return how long it took."""
    began = time.monotonic()
    while {address: nearest(state, address) for address in expected} != expected:
        assert time.monotonic() - began < seconds, {address: nearest(state, address) for address in expected}
        time.sleep(0.02)
    return time.monotonic() - began


def sessions_of(port: int) -> str:
    return "".join(
        f"""[[session]]
        cluster = "{cluster}"
        peer = "127.0.0.1"
        peer_asn = 64500
        local = "127.0.0.{last}"
        port = {port}
        family = {family}
        """
        for cluster, last, family in (("bom001-a", 2, 4), ("del001-a", 3, 6))
    )


def speaker_of(service: Served) -> int:
    """Return the process of the speaker: the one that control started."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            parent = path.with_name("stat").read_text().rpartition(")")[2].split()[1]
            if (
                b"server" in words
                and any(word.endswith(b"exabgp") for word in words)
                and is_below(int(parent), service.process.pid)
            ):
                return int(path.parent.name)
    raise AssertionError("no speaker runs")


def is_below(process: int, ancestor: int) -> bool:
    while process > 1:
        if process == ancestor:
            return True
        process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    return False


def test_a_bird_announces_changes_withdraws_and_dies(
    tmp_path: Path, fleet: Fleet, bird: Bird, monkeypatch: pytest.MonkeyPatch
) -> None:
    bird.announce("203.0.113.0/24 blackhole", "2001:db8:1::/48 blackhole")
    bird.start()
    with following(tmp_path, fleet, sessions_of(bird.port), monkeypatch) as service:
        state = service.state
        wait_for(state, {"203.0.113.1": "bom001-a", "2001:db8:1::1": "del001-a", "192.0.2.1": "lhr001-a"})
        with RemoteControl(Settings(state=state)) as remote:
            until(lambda: [(row["state"], row["routes"]) for row in remote.sessions()] == [("up", 1), ("up", 1)])

        # Announce and withdraw.
        bird.announce(
            "198.51.100.0/24 blackhole { bgp_community.add((65000, 80)); }", "2001:db8:1::/48 blackhole", med=7
        )
        wait_for(state, {"198.51.100.1": "bom001-a", "203.0.113.1": None})
        route = explain(Snapshot.map(state), "198.51.100.1", "t", service="video")["explain"]["routes"][0]
        assert (route["med"], route["communities"], route["as_path"]) == (7, ["65000:80"], [64500])
        assert route["hops"] == 4  # the community asks to be preferred less
        # Change.
        bird.announce("198.51.100.0/24 blackhole", "2001:db8:1::/48 blackhole", med=9)
        until(lambda: [r["med"] for r in Snapshot.map(state).routes.covering(bytes([198, 51, 100, 1]))] == [9])

        # The speaker dies: nothing moves, it is started again.
        os.kill(speaker_of(service), signal.SIGKILL)
        with RemoteControl(Settings(state=state)) as remote:
            until(lambda: {row["state"] for row in remote.sessions()} == {"down"})
            assert nearest(state, "198.51.100.1") == "bom001-a"
            until(
                lambda: [(row["state"], row["routes"], row["stale"]) for row in remote.sessions()] == [("up", 1, 0)] * 2
            )
        assert nearest(state, "198.51.100.1") == "bom001-a"

        # The router dies: its routes are kept for a while, then dropped; what other feeds say stays.
        bird.kill()
        time.sleep(HOLD_S / 4)
        assert nearest(state, "198.51.100.1") == "bom001-a"
        wait_for(state, {"198.51.100.1": None, "2001:db8:1::1": None, "192.0.2.1": "lhr001-a"}, 30)

        # And comes back.
        bird.start()
        wait_for(state, {"198.51.100.1": "bom001-a", "2001:db8:1::1": "del001-a"}, 90)
        speaker, control = speaker_of(service), service.pids("control")[0]
    until(lambda: not Path(f"/proc/{speaker}").exists() and not is_running(control))
    with Control(Settings(state=state)) as control:
        assert {row["who"] for row in control.tables.list()} == {"test", LIVE}


def test_ipv4_routes_with_ipv6_next_hops_are_received(tmp_path: Path, bird: Bird) -> None:
    (bird.folder / "bird.conf").write_text(
        f"""log "{bird.folder}/log" all; router id 192.0.2.1; protocol device {{}}
        protocol static s4 {{ ipv4; route 203.0.113.0/24 blackhole; }}
        protocol bgp four {{ local 127.0.0.1 port {bird.port} as 64500; passive; multihop; graceful restart on;
          neighbor 127.0.0.2 as 65000;
          ipv4 {{ extended next hop on; next hop address 2001:db8::1; export all; import none; }}; }}"""
    )
    bird.start()
    session = Session("bom001-a", "127.0.0.1", 64500, "127.0.0.2", 65000, 4, bird.port)
    live = LiveRoutes([session], hold_s=120, now=NOW)

    async def follow() -> None:
        async with speaking([session], lambda line: live.take(line, NOW)), asyncio.timeout(60):
            while not live.received[session.key].is_complete:
                await asyncio.sleep(0.05)

    asyncio.run(follow())
    assert rows(live) == ["203.0.113.0/24,bom001-a,64500,igp,0,"]


def test_control_is_killed_and_no_route_is_lost(
    tmp_path: Path, fleet: Fleet, bird: Bird, monkeypatch: pytest.MonkeyPatch
) -> None:
    bird.announce("203.0.113.0/24 blackhole")
    bird.start()
    with following(tmp_path, fleet, sessions_of(bird.port), monkeypatch) as service:
        wait_for(service.state, {"203.0.113.1": "bom001-a"}, 20)
        speaker = speaker_of(service)
        os.kill(service.pids("control")[0], signal.SIGKILL)
        until(lambda: not Path(f"/proc/{speaker}").exists())
        with RemoteControl(Settings(state=service.state)) as remote:
            until(remote.answers, 20)
            bird.announce("203.0.113.0/24 blackhole", "198.51.100.0/24 blackhole")
            while nearest(service.state, "198.51.100.1") is None:
                assert nearest(service.state, "203.0.113.1") == "bom001-a"
                time.sleep(0.1)
            assert nearest(service.state, "203.0.113.1") == "bom001-a"


def test_a_table_dump_of_a_bird_is_published_and_judged(
    tmp_path: Path, fleet: Fleet, bird: Bird, settings: Settings
) -> None:
    """A real dump, as a router's operator hands it in: appended to again and again, with several tables."""
    (bird.folder / "bird.conf").write_text(
        f"""log "{bird.folder}/log" all; router id 192.0.2.1; protocol device {{}}
        protocol static {{ ipv4; route 203.0.113.0/24 blackhole {{ bgp_path.prepend(64500); bgp_med = 7;
          bgp_community.add((64500, 1)); bgp_large_community.add((64500, 1, 2)); }}; route 198.51.100.0/25 blackhole; }}
        protocol static {{ ipv6; route 2001:db8::/32 blackhole {{ bgp_path.prepend(64501); bgp_path.prepend(64500); }}; }}
        protocol mrt {{ table "master*"; filename "{tmp_path}/dump.mrt"; period 1; always add path yes; }}"""
    )
    bird.start()
    until(lambda: (tmp_path / "dump.mrt").exists() and (tmp_path / "dump.mrt").stat().st_size > 600)
    bird.kill()
    judge_and_serve(tmp_path / "dump.mrt", "::", fleet, settings)


def judge_and_serve(dump: Path, peer: str, fleet: Fleet, settings: Settings) -> None:
    """Compare a dump entry by entry with mrtparse, and publish it for the cluster that peers with the router."""
    data = dump.read_bytes()
    views = test_mrt.judged_views(data)
    assert len(views) > 1  # it was dumped more than once
    last = dict(views)
    expected = [entry for entries in last.values() for entry in entries]
    assert sorted(test_mrt.ours(data)) == sorted(expected)
    clusters = tuple(
        dataclasses.replace(item, peers=(peer,) if item.id == "del001-a" else ()) for item in fleet.clusters
    )
    with Control(settings) as control:
        control.fleet.replace(dataclasses.replace(fleet, clusters=clusters), "test")
        report = control.tables.publish([FeedSource("mrt", str(dump))], "test")
    assert report["feeds"][0]["accepted"] == len(expected)
    for address in ("203.0.113.9", "2001:db8::9"):
        answer = json.loads(Snapshot.map(settings.state).steer(address, "t", service="video"))
        assert [target["site"] for target in answer["targets"][:2]] == ["del001", "del001"]


def test_a_gobgp_announces_changes_and_withdraws(tmp_path: Path, fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    if not shutil.which("gobgpd"):
        pytest.skip("no gobgpd on PATH")
    port, api = free_port(), free_port()
    (tmp_path / "gobgpd.toml").write_text(
        f"""[global.config]
        as = 64500
        router-id = "192.0.2.1"
        port = {port}
        local-address-list = ["127.0.0.1"]
        """
        + "".join(
            f"""[[neighbors]]
            [neighbors.config]
            neighbor-address = "127.0.0.{last}"
            peer-as = 65000
            [neighbors.transport.config]
            passive-mode = true
            local-address = "127.0.0.1"
            [neighbors.ebgp-multihop.config]
            enabled = true
            multihop-ttl = 8
            [[neighbors.afi-safis]]
            [neighbors.afi-safis.config]
            afi-safi-name = "{family}-unicast"
            """
            for last, family in ((2, "ipv4"), (3, "ipv6"))
        )
    )

    def gobgp(*words: str) -> None:
        subprocess.run(["gobgp", "-p", str(api), "global", "rib", *words], check=True, capture_output=True, timeout=20)

    command = ["gobgpd", "-f", str(tmp_path / "gobgpd.toml"), "--api-hosts", f"127.0.0.1:{api}", "--pprof-disable"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: succeeds(lambda: gobgp("summary")), 20)
            gobgp("add", "203.0.113.0/24", "med", "5")
            gobgp("add", "-a", "ipv6", "2001:db8:1::/48", "nexthop", "2001:db8::1")
            with following(tmp_path, fleet, sessions_of(port), monkeypatch) as service:
                wait_for(service.state, {"203.0.113.1": "bom001-a", "2001:db8:1::1": "del001-a"}, 30)
                gobgp("add", "203.0.113.0/24", "med", "8")
                until(
                    lambda: (
                        [r["med"] for r in Snapshot.map(service.state).routes.covering(bytes([203, 0, 113, 1]))] == [8]
                    )
                )
                gobgp("add", "198.51.100.0/24")
                gobgp("del", "203.0.113.0/24")
                wait_for(service.state, {"198.51.100.1": "bom001-a", "203.0.113.1": None})
        finally:
            process.kill()


def succeeds(call: Callable[[], None]) -> bool:
    try:
        call()
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return False
    return True


# ---- speakers that cannot be used

OTHERS = [
    # a program, and the reason that the session shows
    ("echo 'ExaBGP : 4.2.21'; exit 1", "is no ExaBGP 5: `version` prints 'ExaBGP : 4.2.21'"),
    ("echo one >&2; echo usage: exabgp >&2; exit 2", "is no ExaBGP 5: `version` prints 'usage: exabgp'"),
    ("exit 0", "is no ExaBGP 5: `version` prints 'nothing'"),
    (
        "if [ $1 = version ]; then echo 'ExaBGP : 5.0.1'; else echo 'cannot bind: 179' >&2; exit 3; fi",
        "the speaker ended with status 3: cannot bind: 179",
    ),
]


@pytest.mark.parametrize(("script", "reason"), OTHERS, ids=[row[1] for row in OTHERS])
def test_a_speaker_that_cannot_be_used_gives_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    program = tmp_path / "exabgp"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr("steering.control.routes.bgp.speaker.find_speaker", lambda: str(program))

    async def speak() -> None:
        async with speaking([ONE], lambda _: None) as process:
            await process.wait()

    with pytest.raises(SettingsError) as caught:
        asyncio.run(speak())
    assert reason in caught.value.message
    live = LiveRoutes([ONE], hold_s=120, now=NOW)
    live.all_down(caught.value.message, NOW + 1)
    assert live.describe()[0]["reason"] == caught.value.message
