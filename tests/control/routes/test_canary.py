"""A canary: a share of the clients that would move have moved; promoted or withdrawn, all are on one side again."""

from __future__ import annotations

import ipaddress
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from steering.cli import main
from steering.control.remote import RemoteControl
from steering.control.routes.canary import mixed_with_serving
from steering.control.routes.feeds import FeedSource
from steering.control.services.control import Control
from steering.decision.explain import describe, explain
from steering.decision.snapshot import Snapshot
from steering.errors import FeedError, RequestError
from steering.model.fleet import Fleet
from steering.settings import Settings
from steering.state.current import Current, write_current
from steering.state.fleet import write_fleet
from steering.state.status import write_status
from steering.state.table import BuiltTable, write_table
from tests.support.control_app import running_control_app

WriteFeed = Callable[..., FeedSource]
WIDE = "20.0.0.0/8,{},64500,0\n2001:db8::/32,{},64500,0\n"
HOME, AWAY = WIDE.format("bom001-a", "bom001-a"), WIDE.format("del001-a", "del001-a")
STAYS = "203.0.113.0/24,lhr001-a,64511,0\n"


def nearest(state: Path, addresses: list[str]) -> list[str]:
    snapshot = Snapshot.map(state)
    return [str(describe(snapshot, address)["ranking"][0]["cluster"]) for address in addresses]


def some(seed: int = 1, count: int = 2000) -> list[str]:
    """Return addresses inside the wide prefixes of both families."""
    rnd = random.Random(seed)
    v4 = [str(ipaddress.IPv4Address(0x14000000 + rnd.getrandbits(24))) for _ in range(count)]
    return v4 + [str(ipaddress.IPv6Address((0x20010DB8 << 96) + rnd.getrandbits(96))) for _ in range(count)]


@pytest.fixture
def with_canary(serving: Control, write_feed: WriteFeed) -> Control:
    """A control that serves a canary of a fifth."""
    serving.tables.publish([write_feed(HOME, STAYS)], "test", force="wide")
    serving.tables.publish([write_feed(AWAY, STAYS, name="away.csv")], "alice", "to Delhi", canary=0.2)
    return serving


def test_a_share_of_the_clients_move_and_the_others_do_not(with_canary: Control, settings: Settings) -> None:
    actual = nearest(settings.state, some())
    for family in (actual[:2000], actual[2000:]):
        moved = family.count("del001-a") / len(family)
        assert 0.15 < moved < 0.25
        assert set(family) == {"bom001-a", "del001-a"}
    assert nearest(settings.state, ["203.0.113.1"]) == ["lhr001-a"]
    (row,) = [row for row in with_canary.tables.list() if row["serving"]]
    assert (row["table"], row["pinned"], row["why"]) == (4, True, "to Delhi; canary of table 3, 20.0 %")


def test_clients_near_one_another_are_on_one_side(with_canary: Control, settings: Settings) -> None:
    block = [str(ipaddress.IPv4Address(0x14123000 + place)) for place in range(0, 4096, 64)]
    assert len(set(nearest(settings.state, block))) == 1


def test_explain_shows_the_side_and_its_routes(with_canary: Control, settings: Settings) -> None:
    snapshot = Snapshot.map(settings.state)
    for address in some(count=50):
        why = explain(snapshot, address, "t", service="video")["explain"]
        cluster = why["ranking"][0]["cluster"]
        assert why["canary"] == {"bom001-a": "before", "del001-a": "after"}[cluster]
        assert [route["cluster"] for route in why["routes"]] == [cluster]
        assert ipaddress.ip_address(address) in ipaddress.ip_network(why["scope"])
    assert explain(snapshot, "203.0.113.1", "t", service="video")["explain"]["canary"] == "before"


def test_a_promoted_canary_is_for_all(with_canary: Control, settings: Settings) -> None:
    report = with_canary.tables.promote("alice", "all is well")
    assert report["serving"]["table"] == 3
    assert set(nearest(settings.state, some(count=100))) == {"del001-a"}
    assert not any(row["pinned"] for row in with_canary.tables.list())
    assert [(entry["what"], entry["why"]) for entry in with_canary.audit.list(1)] == [("promote", "all is well")]
    assert describe(Snapshot.map(settings.state), "20.0.0.1")["canary"] is None
    with_canary.tables.reload("test")  # it reads what the canary was made from
    assert set(nearest(settings.state, some(count=100))) == {"del001-a"}


def test_a_withdrawn_canary_serves_no_client_and_no_reload_brings_it_back(
    with_canary: Control, settings: Settings
) -> None:
    assert with_canary.tables.withdraw("alice", "Delhi is full")["serving"]["table"] == 2
    assert set(nearest(settings.state, some(count=100))) == {"bom001-a"}
    with pytest.raises(RequestError, match="table 2 is pinned by alice: Delhi is full"):
        with_canary.tables.reload("test")


def test_while_a_canary_serves_nothing_is_published_by_itself(with_canary: Control) -> None:
    with pytest.raises(RequestError, match=r"table 4 is pinned by alice: canary of table 3, 20\.0 %") as caught:
        with_canary.tables.reload("SIGHUP")
    assert caught.value.hint == "steering table promote, or steering table withdraw"
    assert with_canary.tables.publish_live() is None
    assert with_canary.tables.sources() == ([], 0)


def test_a_canary_needs_a_table_beside_it_and_only_one(
    control: Control, fleet: Fleet, write_feed: WriteFeed, with_canary: Control
) -> None:
    with pytest.raises(RequestError, match="a canary serves already"):
        with_canary.tables.publish([write_feed(AWAY)], "test", canary=0.5)
    with_canary.tables.withdraw("test")
    for verb in (with_canary.tables.promote, with_canary.tables.withdraw):
        with pytest.raises(RequestError, match="no canary serves") as caught:
            verb("test")
        assert caught.value.status == 409
    for share in (-0.1, 1.0, 7.0):
        with pytest.raises(RequestError, match="a share of clients"):
            with_canary.tables.publish([write_feed(AWAY)], "test", canary=share)


def test_nothing_published_is_nothing_to_stand_beside(control: Control, fleet: Fleet, write_feed: WriteFeed) -> None:
    control.fleet.replace(fleet, "test")
    with pytest.raises(RequestError, match="nothing was published yet"):
        control.tables.publish([write_feed(HOME)], "test", canary=0.1)


def test_a_publish_by_hand_ends_a_canary(with_canary: Control, settings: Settings, write_feed: WriteFeed) -> None:
    with_canary.tables.publish([write_feed(AWAY, STAYS)], "test")
    assert set(nearest(settings.state, some(count=100))) == {"del001-a"}
    with pytest.raises(RequestError, match="no canary serves"):
        with_canary.tables.promote("test")


def test_a_canary_is_guarded_as_the_whole(settings: Settings, fleet: Fleet, write_feed: WriteFeed) -> None:
    with Control(settings.model_copy(update={"guard_from": 1})) as control:
        control.fleet.replace(fleet, "test")
        control.tables.publish([write_feed(HOME)], "test")
        with pytest.raises(FeedError, match="clients would move"):
            control.tables.publish([write_feed(AWAY)], "test", canary=0.1)
        assert {path.name for path in settings.state.glob("table.*")} == {"table.1"}
        control.tables.publish([write_feed(AWAY)], "test", canary=0.1, force="a tenth first")


# ---- judged: every client is on one of both sides, and moves only where the table moves it

PREFIXES = st.tuples(st.integers(20, 32), st.integers(0, 2**12 - 1)).map(
    lambda drawn: str(ipaddress.ip_network((0xC6330000 | drawn[1], drawn[0]), strict=False))
)
ROWS = st.lists(
    st.tuples(PREFIXES, st.sampled_from(["bom001-a", "del001-a", "lhr001-a"])).map(",".join), min_size=1, max_size=6
)


@settings(max_examples=40, deadline=None)
@given(before=ROWS, after=ROWS, share=st.sampled_from([0.0, 0.3, 1.0]))
def test_every_client_is_on_one_of_both_sides(
    before: list[str],
    after: list[str],
    share: float,
    build: Callable[..., BuiltTable],
    publish: Callable[..., Path],
    fleet: Fleet,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    header = "prefix,cluster\n"
    texts = [header + "".join(f"{row}\n" for row in rows) for rows in (before, after)]
    state = publish(tmp_path_factory.mktemp("state") / "s", texts[0])
    other = publish(tmp_path_factory.mktemp("state") / "s", texts[1])
    table = mixed_with_serving(state, 1, 2, build(texts[1]), share)
    mixed = tmp_path_factory.mktemp("mixed")
    names = write_table(mixed, 3, table)
    weights = write_status(mixed, 1, [0] * 8)
    write_current(mixed, Current(1, *names, write_fleet(mixed, 1, fleet), weights, 0.0))
    old, new, now = (Snapshot.map(folder) for folder in (state, other, mixed))
    for last in range(0, 2**12, 7):
        address = str(ipaddress.IPv4Address(0xC6330000 | last))
        rankings = []
        for snapshot in (old, new, now):
            packed = ipaddress.ip_address(address).packed
            zone = snapshot.prefixes.lookup(packed)
            rankings.append(ranking_of(snapshot, zone))
        if share == 0.0:
            assert rankings[2] == rankings[0]
        elif share == 1.0:
            assert rankings[2] == rankings[1]
        else:
            assert rankings[2] in rankings[:2]


def ranking_of(snapshot: Snapshot, zone: int) -> list[tuple[int, int]]:
    from _fastpath.ranking import ZONE

    first, count, _, _ = ZONE.unpack_from(snapshot.table_file.zones, zone * ZONE.size)
    return [
        (snapshot.table_file.ranking_entries[2 * place], snapshot.table_file.ranking_entries[2 * place + 1])
        for place in range(first, first + count)
    ]


# ---- API and command line


@pytest.mark.usefixtures("whole_country_map")  # it is published here and in a child
def test_over_the_socket_and_by_command(settings: Settings, fleet: Fleet, write_feed: WriteFeed) -> None:
    def run(*words: str) -> str:
        result = CliRunner().invoke(main, [*words, "--state", str(settings.state)])
        assert result.exit_code == 0, result.output
        return result.stdout

    with running_control_app(settings), RemoteControl(settings) as remote:
        remote.fleet.replace(fleet, "test")
        remote.tables.publish([write_feed(HOME)], "test")
        remote.tables.publish([write_feed(AWAY, name="away.csv")], "test", canary=0.5)
        assert remote.tables.withdraw("test")["serving"]["table"] == 1
        remote.tables.publish([write_feed(AWAY, name="away.csv")], "test", canary=0.5)
        assert remote.tables.promote("test")["serving"]["table"] == 4
    run("table", "rollback", "1")
    run("table", "publish", write_feed(AWAY, name="away.csv").path, "--canary", "10")
    assert json.loads(run("explain", "20.0.0.1", "--json"))["explain"]["canary"] in ("before", "after")
    assert "canary" in run("explain", "20.0.0.1")
    assert "table 1 is serving in" in run("table", "withdraw")
    run("table", "publish", write_feed(AWAY, name="away.csv").path, "--canary", "10")
    assert "is serving in" in run("table", "promote", "--why", "well")
