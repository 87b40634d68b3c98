"""The hand-over: what is published is what is steered by, explain is the same code, and a wrong file is refused."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _fastpath.hashing import content_key_of
from _fastpath.holdings_builder import HoldingsBuilder
from _fastpath.status_words import DISABLED, UNHEALTHY, StatusWords
from steering.decision.explain import describe, explain
from steering.decision.snapshot import Snapshot
from steering.errors import SnapshotError
from steering.model.fleet import Fleet
from steering.model.prefix import parse_address
from steering.model.service import Pathway
from steering.state.current import Current, read_current, write_current
from steering.state.fleet import write_fleet
from steering.state.holdings import write_holdings
from steering.state.sections import StateFile, write_sections
from tests.support import reference
from tests.support.checked import sealed

Publish = Callable[..., Path]
ISP = "203.0.113.9"
ISP_V6 = "2001:db8::9"


def sites(answer: bytes | dict[str, Any]) -> list[str | None]:
    """Return the site of each target, None for the fallback."""
    targets = (json.loads(answer) if isinstance(answer, bytes) else answer)["targets"]
    return [target.get("site") for target in targets]


def ranks(answer: bytes) -> list[int | None]:
    return [target.get("rank") for target in json.loads(answer)["targets"]]


def switch_off(snapshot: Snapshot, state: Path, *ids: str) -> None:
    """Set the disabled bit of appliances, as control would."""
    weights = StatusWords(str(state / snapshot.current.status), writable=True)
    names = [name for name, _ in snapshot.names.appliances]
    for name in ids:
        # The tiny fleet's appliances lie in slot order.
        slot = names.index(name)
        weights.set_word(slot, weights.word(slot) | DISABLED)


STEER_ROWS = [
    # name, address, n, sites in order
    ("an ISP's client stays inside the ISP", ISP, 3, ["bom001", "bom001", "del001"]),
    ("two picks stand at two sites", ISP, 2, ["bom001", "del001"]),
    ("one pick is the nearest", ISP, 1, ["bom001"]),
    ("below the ISP comes the covering prefix", ISP, 6, ["bom001", "bom001", "del001", "del001", "bom002", "bom002"]),
    ("then the fallback ranking_entries", ISP, 8, ["bom001", "bom001", "del001", "del001", "bom002", "bom002", "lhr001", "lhr001"]),
    ("an IPv6 client too", ISP_V6, 4, ["bom001", "bom001", "del001", "del001"]),
    ("only the covering prefix", "203.0.5.5", 3, ["bom002", "bom002", "lhr001"]),
    ("announced at an exchange far away", "198.51.100.7", 3, ["lhr001", "lhr001", "bom002"]),
    ("no route, known country: by distance", "8.8.8.8", 3, ["lhr001", "lhr001", "bom002"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "address", "n", "wanted"), STEER_ROWS, ids=[row[0] for row in STEER_ROWS])
def test_the_nearest_appliances_come_first(
    snapshot: Snapshot, name: str, address: str, n: int, wanted: list[str]
) -> None:
    answer = snapshot.steer(address, "80100172", service="video", n=n)
    assert sites(answer) == wanted
    assert sites(snapshot.steer(ipaddress.ip_address(address).packed, "80100172", service="video", n=n)) == wanted


def test_an_answer_is_what_the_documents_show(snapshot: Snapshot) -> None:
    answer = json.loads(snapshot.steer(ISP, "80100172", service="video"))
    assert list(answer) == ["table", "ttl", "targets"]
    assert answer["table"] == 1
    assert answer["ttl"] == reference.ttl_of(300, 0.1, "80100172", reference.viewer_of("", ISP))
    first = answer["targets"][0]
    assert list(first) == ["url", "appliance", "site", "rank"]
    assert first["url"] == f"https://{first['appliance']}.cdn.example/v/80100172"


def test_a_dead_longest_prefix_climbs_to_the_covering_one_before_it_leaves(
    snapshot: Snapshot, state_folder: Path
) -> None:
    switch_off(snapshot, state_folder, *(f"c00{i}-{site}" for i in (1, 2) for site in ("bom001", "del001")))
    assert sites(snapshot.steer(ISP, "t", service="video", n=3)) == ["bom002", "bom002", "lhr001"]
    assert ranks(snapshot.steer(ISP, "t", service="video", n=3)) == [2, 2, 3]


def test_with_everything_off_the_service_fallback_answers(snapshot: Snapshot, state_folder: Path) -> None:
    switch_off(snapshot, state_folder, *(name for name, _ in snapshot.names.appliances))
    body = json.loads(snapshot.steer(ISP, "t", service="video"))
    assert body["targets"] == [{"url": "https://origin.example/v/t", "fallback": True}]


@settings(max_examples=100, deadline=None)
@given(st.ip_addresses(), st.text(min_size=1, max_size=40), st.integers(1, 8), st.sampled_from((0, 4, 6)))
def test_any_address_gets_an_answer_and_explain_gives_the_same_one(
    tmp_path_factory: pytest.TempPathFactory, publish: Publish, address: Any, title: str, n: int, family: int
) -> None:
    state = tmp_path_factory.getbasetemp() / "shared-state"
    if not state.exists():
        publish(state)
    snapshot = Snapshot.map(state)
    if title in (".", ".."):
        return
    address = ipaddress.ip_address(parse_address(str(address)))  # as listeners do
    answer = snapshot.steer(str(address), title, service="video", n=n, family=family)
    explained = explain(snapshot, str(address), title, service="video", n=n, family=family)
    why = explained.pop("explain")
    assert explained == json.loads(answer)
    assert answer == snapshot.steer(address.packed, title, service="video", n=n, family=family)
    scope = ipaddress.ip_network(why["scope"])
    assert address in scope
    wanted = {"service": "video", "n": n, "family": family}
    for edge in (scope[0], scope[-1]):
        assert json.loads(snapshot.steer(str(edge), title, **wanted))["targets"] == explained["targets"]
        assert snapshot.steer(str(edge), title, session="s", **wanted) == snapshot.steer(
            str(address), title, session="s", **wanted
        ), "one viewer's answer is the same in every byte"
    picked = sorted((c for c in why["candidates"] if c["pick"]), key=lambda c: c["pick"])
    assert [c["appliance"] for c in picked] == [t["appliance"] for t in explained["targets"] if "appliance" in t]


def test_explain_shows_routes_ranking_candidates_and_reasons(snapshot: Snapshot, state_folder: Path) -> None:
    switch_off(snapshot, state_folder, "c001-bom001")
    why = explain(snapshot, ISP, "t", service="video")["explain"]
    assert (why["prefix"], why["origins"], why["region"]) == ("203.0.113.0/24", [64500], None)
    assert why["partner"] == {"id": "as64500", "name": "Example ISP", "country": "IN"}
    assert [(r["prefix"], r["cluster"], r["as_path"], r["med"]) for r in why["routes"]] == [
        ("203.0.113.0/24", "bom001-a", [64500], 0),
        ("203.0.113.0/24", "del001-a", [64500], 100),
        ("203.0.0.0/16", "bom002-a", [64510, 64500], 0),
    ]
    assert [(r["rank"], r["cluster"], r["fallback"]) for r in why["ranking"]] == [
        (0, "bom001-a", False), (1, "del001-a", False), (2, "bom002-a", False), (3, "lhr001-a", True),
    ]  # fmt: skip
    reasons = {c["appliance"]: c["reason"] for c in why["candidates"]}
    assert reasons["c001-bom001"] == "D"
    assert reasons["c002-bom001"] is None
    assert why["reasons"] == {"D": "disabled or draining"}
    assert why["scope"] == "203.0.113.0/24"
    assert why["policy"] == ["prefix", "as_path", "med", "class", "distance"]


def publish_holdings(state: Path, version: int, *held: bytes | None, services: tuple[str, ...] = ("video",)) -> None:
    """Publish what the eight appliances of the tiny fleet hold of the titles "a" and "b"; None is not known."""
    builder = HoldingsBuilder(None, [("video", "a"), ("video", "b")])
    for number in range(4):
        pair = held[2 * number : 2 * number + 2]
        builder.set_cluster(number, [2 * number, 2 * number + 1], [set(services)] * 2, list(pair))
    current = read_current(state)
    held_by = write_holdings(state, version, builder)
    write_current(state, dataclasses.replace(current, generation=current.generation + 1, holdings=held_by))


def test_explain_shows_who_holds_a_title_and_why_others_were_passed_over(state_folder: Path) -> None:
    publish_holdings(state_folder, 3, b"\x01", b"\x02", None, None, b"\x02", b"\x02", None, None)
    snapshot = Snapshot.map(state_folder)
    result = explain(snapshot, ISP, "a", service="video", n=3)
    why = result["explain"]
    assert {c["appliance"]: (c["holds"], c["reason"]) for c in why["candidates"]} == {
        "c001-bom001": (True, None),
        "c002-bom001": (False, "C"),
        "c001-del001": (False, "C"),
        "c002-del001": (False, "C"),
        "c001-bom002": (None, None),
        "c002-bom002": (None, None),
    }
    assert why["reasons"] == {"C": "does not hold the title"}
    assert sites(result) == ["bom001", "bom002", "bom002"]
    assert (why["fan_out"], why["failed_open"], why["versions"]["holdings"]) == (1, False, 3)


def test_the_scope_is_the_client_network_where_answers_differ_by_viewer(state_folder: Path) -> None:
    publish_holdings(state_folder, 1, *[b"\x01"] * 8)
    snapshot = Snapshot.map(state_folder)
    wide = "203.0.5.5"
    assert explain(snapshot, wide, "b", service="video")["explain"]["scope"] == describe(snapshot, wide)["scope"]
    assert (
        explain(snapshot, wide, "a", service="video", session="s")["explain"]["scope"]
        == describe(snapshot, wide)["scope"]
    )
    assert explain(snapshot, wide, "a", service="video")["explain"]["scope"] == "203.0.5.0/24"
    assert explain(snapshot, "2a00:1:2::3", "a", service="video")["explain"]["scope"] == "2a00:1:2::/48"
    assert explain(snapshot, ISP, "a", service="video")["explain"]["scope"] == "203.0.113.0/24"
    first = {json.dumps(snapshot.steer(f"203.0.5.{host}", "a", service="video").decode()) for host in range(256)}
    assert len(first) == 1
    weights = StatusWords(str(state_folder / "status.1"), writable=True)
    weights.set_hot({content_key_of("video", "c"): 2})
    publish_holdings(state_folder, 2, *[None] * 8)
    assert explain(Snapshot.map(state_folder), wide, "c", service="video")["explain"]["scope"] == "203.0.5.0/24"


def test_explain_shows_where_a_service_failed_open(tmp_path: Path, publish: Publish, fleet: Fleet) -> None:
    opening = dataclasses.replace(fleet, services=(dataclasses.replace(fleet.services[0], fail_open=True),))
    state = publish(tmp_path / "state", fleet=opening)
    snapshot = Snapshot.map(state)
    weights = StatusWords(str(state / "status.1"), writable=True)
    for slot in range(8):
        weights.set_word(slot, weights.word(slot) | UNHEALTHY)
    result = explain(snapshot, ISP, "t", service="video")
    assert result["fail_open"] is True
    assert result["explain"]["failed_open"] is True
    assert {(c["reason"], c["pick"] is not None) for c in result["explain"]["candidates"][:2]} == {("U", True)}
    assert sites(result) == ["bom001", "bom001", "del001"]


def test_holdings_that_are_the_same_are_taken_over_and_others_are_mapped(state_folder: Path, fleet: Fleet) -> None:
    publish_holdings(state_folder, 1, *[b"\x01"] * 8)
    first = Snapshot.map(state_folder)
    write_current(
        state_folder, dataclasses.replace(read_current(state_folder), fleet=write_fleet(state_folder, 2, fleet))
    )
    second = Snapshot.map(state_folder, first)
    assert second.holdings is first.holdings is not None
    assert (second.fleet_version, second.holdings_version) == (2, 1)
    publish_holdings(state_folder, 2, *[b"\x02"] * 8)
    third = Snapshot.map(state_folder, second)
    assert third.holdings is not second.holdings
    assert sites(third.steer(ISP, "a", service="video")) == [None]
    assert sites(second.steer(ISP, "a", service="video", n=1)) == ["bom001"]
    write_current(state_folder, dataclasses.replace(read_current(state_folder), holdings=""))
    assert Snapshot.map(state_folder, third).holdings is None


def test_holdings_that_cannot_be_are_refused(state_folder: Path) -> None:
    publish_holdings(state_folder, 1, *[b"\x01"] * 8)
    sections: Any = dict(StateFile(state_folder / "holdings.1", "holdings").sections)
    write_sections(state_folder / "holdings.1", "holdings", sections | {"directory": b"\xff" * 16})
    with pytest.raises(SnapshotError, match=r"holdings.1: holdings: cluster 0: "):
        Snapshot.map(state_folder)
    (state_folder / "holdings.1").unlink()
    with pytest.raises(SnapshotError, match=r"holdings.1: No such file"):
        Snapshot.map(state_folder)


@pytest.mark.parametrize("title", ["t", ""])
def test_the_files_of_a_playback_are_answered_as_the_title_is_or_each_as_one(snapshot: Snapshot, title: str) -> None:
    files = [f"file {number}" for number in range(150)]
    answer = json.loads(snapshot.playback(ISP, files, service="video", title=title, n=4))
    for file in files:
        single = json.loads(snapshot.steer(ISP, title or file, service="video", n=4))
        wanted = [(target["appliance"], target["rank"]) for target in single["targets"]]
        places = [answer["servers"][place] for place in answer["files"][file]]
        assert [(server["appliance"], server["rank"]) for server in places] == wanted
    assert len({tuple(places) for places in answer["files"].values()}) == 1 or not title


def test_both_presets_order_a_prepended_embedded_route_as_documented(tmp_path: Path, publish: Publish) -> None:
    routes = "prefix,cluster,as_path,class\n203.0.113.0/24,bom001-a,64500 64500 64500,embedded\n203.0.113.0/24,bom002-a,64500,exchange\n"
    for policy, first in (("prefix_first", "bom002"), ("local_first", "bom001")):
        snapshot = Snapshot.map(publish(tmp_path / policy, routes, ranking_policy=policy))
        assert sites(snapshot.steer(ISP, "t", service="video", n=1)) == [first]


def test_table_bytes_do_not_depend_on_the_order_of_rows(tmp_path: Path, publish: Publish) -> None:
    header, *rows = (
        (Path(__file__).parents[1] / "conftest.py")
        .read_text()
        .split('ROUTES = """\\\n')[1]
        .split('"""')[0]
        .splitlines()
    )
    forward = publish(tmp_path / "forward", "\n".join([header, *rows]) + "\n")
    backward = publish(tmp_path / "backward", "\n".join([header, *reversed(rows)]) + "\n")
    sections = []
    for state in (forward, backward):
        data = Snapshot.map(state)
        sections.append((bytes(data.table_file.zones), data.prefixes.block(), bytes(data.table_file.ranking_entries)))
    assert sections[0] == sections[1]


def test_a_rolled_back_table_moves_routes_only(tmp_path: Path, publish: Publish, fleet: Fleet) -> None:
    state = publish(tmp_path / "state")
    first = read_current(state)
    publish(state, "prefix,cluster\n203.0.113.0/24,lhr001-a\n", version=2, generation=2)
    assert sites(Snapshot.map(state).steer(ISP, "t", service="video", n=1)) == ["lhr001"]
    write_current(state, dataclasses.replace(read_current(state), generation=3, table=first.table, routes=first.routes))
    assert sites(Snapshot.map(state).steer(ISP, "t", service="video", n=1)) == ["bom001"]


def test_a_fleet_without_a_cluster_of_the_table_steers_on(tmp_path: Path, publish: Publish, fleet: Fleet) -> None:
    state = publish(tmp_path / "state")
    smaller = dataclasses.replace(
        fleet,
        clusters=tuple(cluster for cluster in fleet.clusters if cluster.id != "bom001-a"),
        appliances=tuple(appliance for appliance in fleet.appliances if appliance.cluster != "bom001-a"),
    )
    write_current(state, dataclasses.replace(read_current(state), generation=2, fleet=write_fleet(state, 2, smaller)))
    snapshot = Snapshot.map(state)
    assert sites(snapshot.steer(ISP, "t", service="video", n=1)) == ["del001"]
    assert explain(snapshot, ISP, "t", service="video")["explain"]["ranking"][0]["cluster"] == "#0"


def test_services_may_be_bound_to_regions(tmp_path: Path, publish: Publish, fleet: Fleet) -> None:
    bound = dataclasses.replace(fleet, services=(dataclasses.replace(fleet.services[0], regions=("GB", "XX")),))
    snapshot = Snapshot.map(publish(tmp_path / "state", fleet=bound))
    explained = explain(snapshot, ISP, "t", service="video", n=1)
    assert sites(explained) == ["lhr001"]
    assert {c["reason"] for c in explained["explain"]["candidates"]} == {"R", None}


CURRENT_ROWS: list[tuple[str, bytes, str]] = [
    ("empty", b"", "torn"),
    ("torn", b'{"generation":1,"tab', "torn"),
    ("not an object", b"[1]", "torn"),
    ("a field short", b'{"generation":1}', "torn"),
    ("a generation below 0", b'{"generation":-1,"table":"table.1","routes":"routes.1","fleet":"fleet.1","status":"status.1","published_at":1}', r"\$\.generation"),
    ("a generation of 64 bits", b'{"generation":9223372036854775808,"table":"table.1","routes":"routes.1","fleet":"fleet.1","status":"status.1","published_at":1}', r"\$\.generation"),
    ("a time beyond all clocks", b'{"generation":1,"table":"table.1","routes":"routes.1","fleet":"fleet.1","status":"status.1","published_at":1e300}', r"\$\.published_at"),
    ("a time that is none", b'{"generation":1,"table":"table.1","routes":"routes.1","fleet":"fleet.1","status":"status.1","published_at":NaN}', "torn"),
    ("a number of 30 digits", b'{"generation":1,"table":"table.' + b"1" * 30 + b'","routes":"routes.1","fleet":"fleet.1","status":"status.1","published_at":1}', r"\$\.table"),
    ("nested deep", b"[" * 500_000, "torn or not ours"),
    ("nested deep in a field", b'{"generation":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001, "torn or not ours"),
    ("too long", b'{"generation":' + b" " * (1 << 20) + b"1}", "at most 1048576 bytes"),
    ("a path", b'{"generation":1,"table":"../table.1","routes":"routes.1","fleet":"fleet.1","status":"status.1","published_at":1}', r"torn or not ours: .*\$\.table"),
    ("another kind", b'{"generation":1,"table":"routes.1","routes":"routes.1","fleet":"fleet.1","status":"status.1","published_at":1}', r"torn or not ours: .*\$\.table"),
    ("a number for a name", b'{"generation":1,"table":7,"routes":"routes.1","fleet":"fleet.1","status":"status.1","published_at":1}', r"torn or not ours: .*\$\.table"),
    ("a text for a number", b'{"generation":"1","table":"table.1","routes":"routes.1","fleet":"fleet.1","status":"status.1","published_at":1}', r"torn or not ours: .*\$\.generation"),
    ("a missing file", b'{"generation":1,"table":"table.9","routes":"routes.1","fleet":"fleet.1","status":"status.1","published_at":1}', "table.9: No such file"),
    ("missing weights", b'{"generation":1,"table":"table.1","routes":"routes.1","fleet":"fleet.1","status":"status.9","published_at":1}', "status.9"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "rule"), CURRENT_ROWS, ids=[row[0] for row in CURRENT_ROWS])
def test_a_wrong_current_is_refused(state_folder: Path, name: str, content: bytes, rule: str) -> None:
    (state_folder / "current").write_bytes(sealed(content))
    with pytest.raises(SnapshotError, match=rule):
        Snapshot.map(state_folder)


def test_every_damaged_byte_and_every_cut_of_current_is_refused(state_folder: Path) -> None:
    path = state_folder / "current"
    good = path.read_bytes()
    damaged = [good[:size] for size in range(len(good))]
    damaged += [good[:at] + bytes([good[at] ^ bit]) + good[at + 1 :] for at in range(len(good)) for bit in (1, 16, 128)]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(SnapshotError, match="torn or not ours"):
            read_current(state_folder)


def test_a_current_that_is_no_file_is_refused_at_once(state_folder: Path) -> None:
    (state_folder / "current").unlink()
    os.mkfifo(state_folder / "current")
    with pytest.raises(SnapshotError, match="not a regular file"):
        read_current(state_folder)


def test_an_absent_current_means_that_nothing_is_published(tmp_path: Path) -> None:
    with pytest.raises(SnapshotError) as caught:
        Snapshot.map(tmp_path)
    assert caught.value.hint == "nothing is published yet"


def test_weights_too_small_for_the_fleet_are_refused(state_folder: Path) -> None:
    from array import array

    (state_folder / "status.1").write_bytes(StatusWords.image(array("I", [1, 2, 3])))
    with pytest.raises(SnapshotError, match="has slot 3, there are 3"):
        Snapshot.map(state_folder)


def test_current_reads_back_as_written(tmp_path: Path) -> None:
    current = Current(7, "table.3", "routes.3", "fleet.2", "status.1", 12.5)
    write_current(tmp_path, current)
    assert read_current(tmp_path) == current


def test_the_chosen_are_the_targets_of_the_answer_with_what_they_are(snapshot: Snapshot, fleet: Fleet) -> None:
    clusters = {cluster.id: cluster for cluster in fleet.clusters}
    appliances = {appliance.id: appliance for appliance in fleet.appliances}
    for title in ("80100172", "t", "é"):
        for address in ("203.0.113.9", "198.51.100.9", "192.0.2.1", "2001:db8::1"):
            targets = json.loads(snapshot.steer(address, title, service="video", n=8))["targets"]
            result = snapshot.picks(address, title, service="video")
            assert [(item.appliance, item.rank) for item in result] == [
                (target["appliance"], target["rank"]) for target in targets if "appliance" in target
            ]
            assert [item.slot for item in result] == [appliances[item.appliance].slot for item in result]
            for item in result:
                home = clusters[appliances[item.appliance].cluster]
                assert item.site == home.site
                assert (item.host, item.cluster) == (appliances[item.appliance].host, home.id)
                assert item.route_class == home.route_class.name


def test_within_a_rank_the_lowest_draw_is_chosen_first(snapshot: Snapshot) -> None:
    for i in range(200):
        one, two = snapshot.picks("198.51.100.9", f"t{i}", service="video")[:2]
        assert (one.cluster, one.rank) == (two.cluster, two.rank) == ("lhr001-a", 0)
        assert one.draw < two.draw


def test_a_name_that_json_would_escape_is_no_name_of_a_fleet_file(tmp_path: Path, fleet: Fleet) -> None:
    for name in ('a"b', "a\\b", "a b", "a\x7f", "é"):
        odd = dataclasses.replace(fleet.appliances[0], host=name)
        with pytest.raises(SnapshotError, match="visible ASCII"):
            write_fleet(tmp_path, 1, dataclasses.replace(fleet, appliances=(odd, *fleet.appliances[1:])))


def test_a_service_is_read_back_as_it_was_written(tmp_path: Path, publish: Callable[..., Path], fleet: Fleet) -> None:
    service = dataclasses.replace(
        fleet.services[0],
        pathways=(Pathway("isp", classes=("embedded",)), Pathway("x", host="x.example")),
        keys=("k1",),
    )
    state = publish(tmp_path / "state", fleet=dataclasses.replace(fleet, services=(service,)))
    assert Snapshot.map(state).rules == {"video": service}
