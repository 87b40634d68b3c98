"""Reported holdings: after reports in any order, both sides have the same sets or know that they differ."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _fastpath.hashing import content_key_of
from steering.control.fill import holdings
from steering.control.fill.holdings import HoldingsReported, Taken, ids_of
from steering.control.fill.holdings_file import Changes, write_changes
from steering.control.fill.holdings_rows import Delta, Full, HoldingsRow, Unknown, digest_of
from steering.control.fill.titles import Titles
from steering.errors import SnapshotError
from steering.model.fleet import Fleet
from steering.model.service import Service
from steering.state.holdings import HoldingsFile
from steering.state.sections import StateFile, write_sections

OURS = "c001-bom001"
RESYNC = Taken(("video",))
DONE = Taken()


@pytest.fixture(scope="module")
def fleet_of_two_services(fleet: Fleet) -> Fleet:
    games = Service("games", "https://{host}/g/{title}", "https://origin.example/g/{title}", holdings="file")
    return dataclasses.replace(fleet, services=(games, *fleet.services))


@pytest.fixture
def reported(fleet_of_two_services: Fleet) -> HoldingsReported:
    """Return empty holdings of the tiny fleet with two services."""
    result = HoldingsReported(Titles(1000, 1000, 1000))
    result.use_fleet(fleet_of_two_services)
    return result


def judged(names: Iterable[str]) -> str:
    """Return a digest as the docs describe it."""
    every = set(names)
    total = sum(int(hashlib.sha256(name.encode()).hexdigest()[:16], 16) for name in every) % 2**64
    return f"{len(every)}-{total:016x}"


def full(*names: str, service: str = "video", digest: str = "") -> Full:
    return Full(service, list(names), digest or judged(names))


def delta(before: Iterable[str], add: Iterable[str] = (), remove: Iterable[str] = (), service: str = "video") -> Delta:
    before = set(before)
    return Delta(service, judged(before), judged(before - {*remove} | {*add}), list(add), list(remove))


def written(path: Path, changes: Changes) -> None:
    assert write_changes(path.parent, int(path.suffix[1:]), changes) == path


def published(reported: HoldingsReported, path: Path) -> Path:
    """Publish what changed, as the writer does."""
    changes = reported.begin()
    assert changes
    written(path, changes)
    end(reported, path)
    return path


def end(reported: HoldingsReported, path: Path) -> None:
    holdings = HoldingsFile(path).holdings
    reported.end(path, holdings, holdings.held_titles())


def sets_in(path: Path, fleet: Fleet) -> dict[tuple[str, str], set[str]]:
    """Return what a file says that (appliance, service) holds; nothing of those that are unknown."""
    result = HoldingsFile(path).holdings
    numbers = {cluster.id: cluster.number for cluster in fleet.clusters}
    sets: dict[tuple[str, str], set[str]] = {}
    for appliance in fleet.appliances:
        number = numbers[appliance.cluster]
        services = dict(result.members(number)).get(appliance.slot, frozenset())
        for service in services:
            sets[appliance.id, service] = set()
        packed = result.bitmap(number, appliance.slot) or b""
        for index in range(8 * len(packed)):
            if packed[index // 8] >> index % 8 & 1:
                service, name = result.title(index)
                sets[appliance.id, service].add(name)
                assert appliance.slot in result.holders(number, index)
    return sets


def test_a_digest_is_the_one_of_the_docs_whatever_the_order() -> None:
    assert digest_of([]) == "0-0000000000000000"
    assert digest_of(["80100172"]) == f"1-{hashlib.sha256(b'80100172').hexdigest()[:16]}"
    assert digest_of(["a", "b", "ü"]) == digest_of(["ü", "b", "a", "b"]) == judged(["a", "b", "ü"])


ROWS: list[tuple[str, list[HoldingsRow], Taken, set[str] | None]] = [
    ("a full list is taken", [full("a", "b")], DONE, {"a", "b"}),
    ("an id that stands twice is held once", [full("a", "a", digest=judged(["a"]))], DONE, {"a"}),
    ("an empty list is known", [full()], DONE, set()),
    ("another full list takes its place", [full("a", "b"), full("b", "c")], DONE, {"b", "c"}),
    ("a delta is taken", [full("a", "b"), delta("ab", "c", "a")], DONE, {"b", "c"}),
    ("what is added and removed is held", [full("a"), delta("a", "ab", "a")], DONE, {"a", "b"}),
    ("what is not held is not missed", [full("a"), delta("a", (), "bz")], DONE, {"a"}),
    ("a delta that comes twice is taken once", [full("a"), delta("a", "b"), delta("a", "b")], DONE, {"a", "b"}),
    ("a delta of nothing agrees", [full("a"), delta("a")], DONE, {"a"}),
    ("a delta without a full list is not", [delta("", "a")], RESYNC, None),
    ("a delta from another base is not", [full("a"), delta("b", "c")], RESYNC, {"a"}),
    ("a question that differs is not", [full("a"), delta("ab")], RESYNC, {"a"}),
    ("a delta that leads elsewhere is not", [full("a"), Delta("video", judged("a"), judged("z"), ["b"])], RESYNC, {"a"}),
    ("a lost delta is found out by the next", [full("a"), delta("ab", "c")], RESYNC, {"a"}),
    ("a full list mends it", [full("a"), delta("ab", "c"), full("a", "b", "c")], DONE, {"a", "b", "c"}),
    ("unknown is unknown again", [full("a"), Unknown("video")], DONE, None),
    ("a delta after unknown is not", [full("a"), Unknown("video"), delta("a", "b")], RESYNC, None),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "expected", "held"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_a_report_is_used_or_answered_with_resync(
    reported: HoldingsReported,
    fleet: Fleet,
    tmp_path: Path,
    rows: list[HoldingsRow],
    expected: Taken,
    held: set[str] | None,
) -> None:
    *before, last = rows
    for one in before:
        reported.take(OURS, [one])
    assert reported.take(OURS, [last]) == expected
    reported.take("c002-lhr001", [full("z")])
    sets = sets_in(published(reported, tmp_path / "holdings.1"), fleet)
    assert sets == {("c002-lhr001", "video"): {"z"}} | ({} if held is None else {(OURS, "video"): held})


REFUSED: list[tuple[str, HoldingsRow, str]] = [
    ("a service that there is not", full("a", service="books"), "holdings[0].service = 'books': the fleet has no such service"),
    ("an id that is empty", full(""), "holdings[0].full = '': 1 to 256 bytes of UTF-8, and not . or .."),
    ("an id of dots", full("a", ".."), "holdings[0].full = '..': 1 to 256"),
    ("an id of 257 bytes", full("ü" * 128 + "a"), "holdings[0].full = '"),
    ("more titles than there may be", full(*map(str, range(1001))), "holdings[0].full = 1001 new ids: more than 1000 titles in all (setting max_titles)"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "error"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_a_list_that_breaks_a_rule_is_refused_and_changes_nothing(
    reported: HoldingsReported, row: HoldingsRow, error: str
) -> None:
    result = reported.take(OURS, [row])
    assert result.error.startswith(error)
    assert result.resync == ()
    assert reported.begin() is None
    assert len(reported.titles) == 0


def test_a_full_list_unlike_its_digest_is_requested_again_with_the_right_digest(
    reported: HoldingsReported,
) -> None:
    result = reported.take(OURS, [full("a", digest=judged("b"))])
    assert result.resync == ("video",)
    assert result.error == f"holdings[0].digest = {judged('b')!r}: the list's is {judged('a')!r}"
    assert len(reported.titles) == 0


def test_the_longest_id_and_the_last_title_there_may_be_are_taken(reported: HoldingsReported) -> None:
    assert reported.take(OURS, [full("ü" * 128, *map(str, range(999)))]) == DONE
    assert "more than 1000 titles" in reported.take(OURS, [delta(["ü" * 128, *map(str, range(999))], ["more"])]).error


def test_services_are_known_each_by_itself_and_one_that_fails_costs_the_others_nothing(
    reported: HoldingsReported, fleet: Fleet, tmp_path: Path
) -> None:
    rows = [full("a"), delta("", "x", service="games"), full("b", service="books")]
    assert reported.take(OURS, rows) == Taken(
        ("games",), "holdings[2].service = 'books': the fleet has no such service"
    )
    assert sets_in(published(reported, tmp_path / "holdings.1"), fleet) == {(OURS, "video"): {"a"}}
    assert reported.take(OURS, [full("a", "x", service="games")]) == DONE
    assert reported.take(OURS, [delta("a", "b"), delta("ax", (), "a", service="games")]) == DONE
    both = {(OURS, "video"): {"a", "b"}, (OURS, "games"): {"x"}}
    assert sets_in(published(reported, tmp_path / "holdings.2"), fleet) == both
    assert reported.take(OURS, [Unknown("video")]) == DONE
    assert sets_in(published(reported, tmp_path / "holdings.3"), fleet) == {(OURS, "games"): {"x"}}


def test_an_agreeing_digest_is_cheap_and_causes_no_publish(reported: HoldingsReported, tmp_path: Path) -> None:
    assert not reported.is_unchanged(OURS, [delta("a")])
    reported.take(OURS, [full("a"), full("x", service="games")])
    published(reported, tmp_path / "holdings.1")
    assert reported.is_unchanged(OURS, [delta("a"), delta("x", service="games")])
    assert not reported.is_unchanged(OURS, [delta("a"), delta("b", service="games")])
    assert not reported.is_unchanged(OURS, [delta("a", "b")])
    assert not reported.is_unchanged(OURS, [full("a")])
    assert not reported.is_unchanged("nosuch", [delta("a")])
    assert reported.take(OURS, [full("a"), delta("a")]) == DONE
    assert reported.begin() is None


def test_holders_are_the_appliances_whose_holdings_have_the_title(reported: HoldingsReported, tmp_path: Path) -> None:
    def judge() -> None:
        for service in ("video", "games"):
            for title, index in reported.titles.of(service).items():
                holders = [slot for slot in reported.members[0] if reported.bits((0, slot)) >> index & 1]
                assert reported.holders(0, index) == holders, title

    reported.take(OURS, [full("a", "b"), full("g", service="games")])
    reported.take("c002-bom001", [full("b", "c")])
    judge()  # not published
    published(reported, tmp_path / "holdings.1")
    judge()  # all in the file
    reported.take(OURS, [delta("ab", "d", "a")])
    judge()  # one changed since, with a title that the file lacks
    changes = reported.begin()
    assert changes
    judge()  # while a file is built
    reported.take("c002-bom001", [Unknown("video")])
    judge()
    assert ids_of(reported, reported.member_of[OURS], "video") == ["b", "d"]


def test_what_comes_while_a_file_is_built_is_kept_for_the_next(
    reported: HoldingsReported, fleet: Fleet, tmp_path: Path
) -> None:
    reported.take(OURS, [full("a")])
    changes = reported.begin()
    assert changes
    assert reported.take(OURS, [delta("a", "b")]) == DONE
    assert reported.take("c002-bom001", [full("c")]) == DONE
    first = tmp_path / "holdings.1"
    written(first, changes)
    end(reported, first)
    assert sets_in(first, fleet) == {(OURS, "video"): {"a"}}
    second = published(reported, tmp_path / "holdings.2")
    assert sets_in(second, fleet) == {(OURS, "video"): {"a", "b"}, ("c002-bom001", "video"): {"c"}}


def test_a_publish_that_fails_loses_nothing(reported: HoldingsReported, fleet: Fleet, tmp_path: Path) -> None:
    reported.take(OURS, [full("a")])
    reported.take("c002-bom001", [full("b")])
    assert reported.begin()
    reported.take(OURS, [delta("a", "c")])
    reported.end(None, None)
    sets = sets_in(published(reported, tmp_path / "holdings.1"), fleet)
    assert sets == {(OURS, "video"): {"a", "c"}, ("c002-bom001", "video"): {"b"}}


def test_a_restart_begins_with_the_file_and_asks_again_for_what_came_later(
    reported: HoldingsReported, fleet_of_two_services: Fleet, tmp_path: Path
) -> None:
    reported.take(OURS, [full("a")])
    reported.take("c002-bom001", [full("b")])
    path = published(reported, tmp_path / "holdings.1")
    assert reported.take(OURS, [delta("a", "c")]) == DONE
    again = HoldingsReported(Titles(1000, 1000, 1000))
    again.use_fleet(fleet_of_two_services)
    again.adopt(path)
    assert again.begin() is None
    assert again.take(OURS, [delta("ac")]) == RESYNC
    assert again.take(OURS, [full("a", "c")]) == DONE
    assert again.is_unchanged("c002-bom001", [delta("b")])
    sets = sets_in(published(again, tmp_path / "holdings.2"), fleet_of_two_services)
    assert sets == {(OURS, "video"): {"a", "c"}, ("c002-bom001", "video"): {"b"}}


def test_titles_keep_their_index_from_file_to_file(reported: HoldingsReported, tmp_path: Path) -> None:
    reported.take(OURS, [full("a", "b")])
    before = HoldingsFile(published(reported, tmp_path / "holdings.1")).holdings
    reported.take(OURS, [full("c", "b")])
    after = HoldingsFile(published(reported, tmp_path / "holdings.2")).holdings
    assert [after.title(index) for index in range(3)] == [*map(before.title, range(2)), ("video", "c")]


OTHER, EXCHANGE = "c001-lhr001", "c001-bom002"


def limited(fleet: Fleet, most: int, by_appliance: int, by_partner: int) -> HoldingsReported:
    """Return empty holdings with these limits; OTHER is another partner's, EXCHANGE the operator's own."""
    result = HoldingsReported(Titles(most, by_appliance, by_partner))
    clusters = [
        dataclasses.replace(cluster, partner="as64501") if cluster.id == "lhr001-a" else cluster
        for cluster in fleet.clusters
    ]
    result.use_fleet(dataclasses.replace(fleet, clusters=tuple(clusters)))
    return result


def test_the_index_of_a_title_that_nobody_holds_is_used_again(fleet_of_two_services: Fleet, tmp_path: Path) -> None:
    reported = limited(fleet_of_two_services, 3, 3, 3)
    assert reported.take(OURS, [full("a", "b")]) == DONE
    assert reported.take(OTHER, [full("b", "c")]) == DONE
    assert "more than 3 titles" in reported.take(OTHER, [full("b", "d")]).error
    published(reported, tmp_path / "holdings.1")
    assert reported.take(OURS, [full("b")]) == DONE
    assert "more than 3 titles" in reported.take(OTHER, [full("b", "d")]).error  # the file that serves has it
    second = published(reported, tmp_path / "holdings.2")
    assert reported.take(OTHER, [full("b", "c"), full("d", service="games")]) == DONE
    assert "more than 3 titles" in reported.take(OURS, [full("a", "b")]).error
    third = published(reported, tmp_path / "holdings.3")
    assert sets_in(second, fleet_of_two_services) == {(OURS, "video"): {"b"}, (OTHER, "video"): {"b", "c"}}
    after = {(OURS, "video"): {"b"}, (OTHER, "video"): {"b", "c"}, (OTHER, "games"): {"d"}}
    assert sets_in(third, fleet_of_two_services) == after
    assert HoldingsFile(third).holdings.titles == 3


def test_a_title_that_returns_before_its_index_is_used_again_keeps_it(
    fleet_of_two_services: Fleet, tmp_path: Path
) -> None:
    reported = limited(fleet_of_two_services, 2, 2, 2)
    assert reported.take(OURS, [full("a", "b")]) == DONE
    published(reported, tmp_path / "holdings.1")
    assert reported.take(OURS, [full("b")]) == DONE
    published(reported, tmp_path / "holdings.2")
    assert reported.take(OURS, [delta("b", "a")]) == DONE
    assert "more than 2 titles" in reported.take(OTHER, [full("c")]).error
    assert sets_in(published(reported, tmp_path / "holdings.3"), fleet_of_two_services) == {(OURS, "video"): {"a", "b"}}


def test_an_appliance_that_invents_ids_takes_no_more_than_its_share_and_gives_it_back(
    fleet_of_two_services: Fleet, tmp_path: Path
) -> None:
    reported = limited(fleet_of_two_services, 100, 10, 15)
    invented = [f"x{number}" for number in range(11)]
    error = reported.take(OURS, [full(*invented)]).error
    assert error == (
        f"holdings[0].full = 11 new ids: {OURS} alone reports 0 already; at most 10 (setting max_titles_by_appliance)"
    )
    assert reported.take(OURS, [full(*invented[:10])]) == DONE
    error = reported.take(OURS, [delta(invented[:10], ["y"])]).error
    assert error.startswith(f"holdings[0].add = 1 new ids: {OURS} alone reports 10 already; at most 10")
    assert reported.take("c002-bom001", [full(*(f"y{number}" for number in range(5)))]) == DONE
    error = reported.take("c002-bom001", [full("z")]).error
    assert error.startswith("holdings[0].full = 1 new ids: as64500 alone reports 15 already; at most 15")
    assert error.endswith("(setting max_titles_by_partner)")
    assert reported.take(OTHER, [full(*(f"z{number}" for number in range(10)))]) == DONE  # nobody else is touched
    published(reported, tmp_path / "holdings.1")
    assert reported.take(OURS, [full("x0")]) == DONE
    published(reported, tmp_path / "holdings.2")
    assert reported.take(OURS, [full(*(f"new{number}" for number in range(9)), "x0")]) == DONE


def test_what_others_report_too_counts_against_nobody(fleet_of_two_services: Fleet, tmp_path: Path) -> None:
    reported = limited(fleet_of_two_services, 100, 2, 3)
    assert reported.take(OURS, [full("a", "b")]) == DONE
    assert reported.take("c002-bom001", [full("a", "b")]) == DONE  # the same partner's
    assert reported.take(OURS, [delta("ab", "c")]) == DONE
    assert "as64500 alone reports 3 already" in reported.take(OURS, [delta("abc", "d")]).error
    assert reported.take(OTHER, [full("a")]) == DONE  # another partner's
    path = published(reported, tmp_path / "holdings.1")
    again = limited(fleet_of_two_services, 100, 2, 3)
    again.adopt(path)
    for one in (reported, again):
        assert one.take(OURS, [delta("abc", "d")]) == DONE
        assert "as64500 alone reports 3 already" in one.take("c002-bom001", [delta("ab", "e")]).error
    assert reported.take(EXCHANGE, [full("b", "c", "d")]) == DONE  # the operator's
    assert reported.take(OURS, [delta("abcd", "ef")]) == DONE


def test_the_operators_own_appliances_have_no_quota_of_a_partner(fleet_of_two_services: Fleet) -> None:
    reported = limited(fleet_of_two_services, 100, 10, 1)
    assert reported.take(EXCHANGE, [full("a", "b", "c")]) == DONE
    assert "as64500 alone reports 0 already; at most 1" in reported.take(OURS, [full("x", "y")]).error
    assert reported.take(OURS, [full("a", "b", "c", "d")]) == DONE


def test_who_moves_or_leaves_is_unknown_also_when_it_returns(
    reported: HoldingsReported, fleet_of_two_services: Fleet, tmp_path: Path
) -> None:
    fleet = fleet_of_two_services
    reported.take(OURS, [full("a")])
    reported.take("c002-bom001", [full("b")])
    published(reported, tmp_path / "holdings.1")
    moved = [dataclasses.replace(item, cluster="lhr001-a") if item.id == OURS else item for item in fleet.appliances]
    reported.use_fleet(dataclasses.replace(fleet, appliances=tuple(moved)))
    assert reported.take(OURS, [delta("a")]) == RESYNC
    reported.use_fleet(dataclasses.replace(fleet, appliances=fleet.appliances[1:]))
    assert reported.take(OURS, [full("a")]).error == f"appliance = {OURS!r}: it has left the fleet"
    reported.use_fleet(fleet)
    assert reported.take(OURS, [delta("a")]) == RESYNC
    reported.take("c001-lhr001", [full("z")])
    sets = sets_in(published(reported, tmp_path / "holdings.2"), fleet)
    assert sets == {("c002-bom001", "video"): {"b"}, ("c001-lhr001", "video"): {"z"}}


def test_where_too_much_waits_a_publish_is_due_and_more_is_asked_for_later(
    reported: HoldingsReported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holdings, "MOST_PENDING", 2)  # bytes: two appliances of eight titles
    names = list(map(str, range(8)))
    assert reported.take(OURS, [full(*names)]) == DONE
    assert not reported.is_pressing
    assert reported.take("c002-bom001", [full(*names)]) == DONE
    assert reported.is_pressing
    assert reported.take("c001-lhr001", [full(*names)]) == RESYNC
    assert reported.take(OURS, [delta(names, (), "0")]) == DONE  # it waits already
    changes = reported.begin()
    assert changes
    assert reported.take("c001-lhr001", [full(*names)]) == RESYNC
    written(tmp_path / "holdings.1", changes)
    end(reported, tmp_path / "holdings.1")
    assert reported.take("c001-lhr001", [full(*names)]) == DONE


def test_a_file_that_is_not_one_is_named(reported: HoldingsReported, tmp_path: Path) -> None:
    path = tmp_path / "holdings.1"
    write_sections(path, "holdings", {"meta": b""})
    with pytest.raises(SnapshotError, match=r"holdings\.1: "):
        reported.adopt(path)
    reported.take(OURS, [full("a")])
    published(reported, path)
    sections: dict[str, Any] = {name: bytes(result) for name, result in StateFile(path, "holdings").sections.items()}
    write_sections(path, "holdings", {**sections, "digests": b"\xc1"})
    with pytest.raises(SnapshotError, match=r"holdings\.1: "):
        reported.adopt(path)


NAMES = st.sets(st.sampled_from(["a", "b", "c", "d", "ü", "80100172"]))
WHO = st.tuples(st.sampled_from([OURS, "c002-bom001", "c001-lhr001"]), st.sampled_from(["video", "games"]))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("full"), WHO, NAMES, NAMES),
        st.tuples(st.just("delta"), WHO, NAMES, NAMES),
        st.tuples(st.just("late delta"), WHO, NAMES, NAMES),
        st.tuples(st.just("unknown"), WHO, NAMES, NAMES),
        st.tuples(st.sampled_from(["publish", "fail", "restart"]), WHO, NAMES, NAMES),
    ),
    max_size=40,
)


def is_over(taken: Taken, most: int) -> bool:
    """Return whether a report was refused for the room it needs; with a thousand indexes none is."""
    return most < 1000 and f"more than {most} titles" in taken.error


@given(STEPS, st.sampled_from([1000, 6, 3]))
def test_any_order_of_reports_publishes_and_restarts_gives_the_sets_of_a_dict_of_sets(
    fleet_of_two_services: Fleet, steps: list[tuple[str, tuple[str, str], set[str], set[str]]], most: int
) -> None:
    judge: dict[tuple[str, str], set[str]] = {}
    saved: dict[tuple[str, str], set[str]] = {}
    reported = limited(fleet_of_two_services, most, most, most)
    with tempfile.TemporaryDirectory() as folder:
        files = 0
        for step, (name, service), some, others in steps:
            who = name, service
            path = Path(folder, f"holdings.{files}")
            if step == "full":
                taken = reported.take(name, [full(*some, service=service)])
                if not is_over(taken, most):
                    assert taken == DONE
                    judge[who] = some
            elif step == "unknown":
                assert reported.take(name, [Unknown(service)]) == DONE
                judge.pop(who, None)
            elif step == "delta":
                expected = DONE if who in judge else Taken((service,))
                taken = reported.take(name, [delta(judge.get(who, ()), some, others, service)])
                if not is_over(taken, most):
                    assert taken == expected
                    if who in judge:
                        judge[who] = judge[who] - others | some
            elif step == "late delta":
                row = delta(others, some, (), service)
                agrees = who in judge and judge[who] in (others, others | some)
                taken = reported.take(name, [row])
                if is_over(taken, most):
                    continue
                assert taken == (DONE if agrees else Taken((service,)))
                if agrees:
                    judge[who] = others | some
            elif step == "fail":
                reported.begin()
                reported.end(None, None)
            elif step == "restart":
                reported = limited(fleet_of_two_services, most, most, most)
                if files:
                    reported.adopt(Path(folder, f"holdings.{files - 1}"))
                judge = dict(saved)
            elif changes := reported.begin():
                written(path, changes)
                end(reported, path)
                files += 1
                saved = dict(judge)
                assert sets_in(path, fleet_of_two_services) == saved
                assert HoldingsFile(path).holdings.titles <= most
            else:
                assert saved == judge


# ---- ids with equal keys, which anyone can find


def mixed(x: int) -> int:
    mask = 2**64 - 1
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & mask
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & mask
    return x ^ (x >> 31)


def twin_of(name: str) -> str:
    """Return another id of 16 printable characters with the key of this one, as one appliance would find it."""
    length = 16 * 0x9E3779B97F4A7C15 % 2**64
    first, second = (int.from_bytes(name.encode()[at : at + 8], "little") for at in (0, 8))
    wanted = mixed(length ^ first) ^ second
    for number in itertools.count():
        beginning = f"{number:08d}".encode()
        end = (mixed(length ^ int.from_bytes(beginning, "little")) ^ wanted).to_bytes(8, "little")
        if end.isascii() and end.decode().isprintable():
            return (beginning + end).decode()
    raise AssertionError("unreachable: the loop has no end")


TITLE = "a-new-title-0001"
TWIN = twin_of(TITLE)


def holders(path: Path, cluster: int) -> list[int]:
    """Return the positions of the appliances of a cluster that are taken for holders of the title."""
    holdings = HoldingsFile(path).holdings
    index = holdings.index_of(content_key_of("video", TITLE))
    return [] if index is None else holdings.holders(cluster, index)


HIDING = [
    # who reports what, in this order, and the clusters where the title is then held
    ("an invented id, then the title of two", [(OURS, TWIN), ("c001-del001", TITLE), ("c002-del001", TITLE)], {2}),
    ("the title first", [(OURS, TITLE), ("c001-del001", TITLE), ("c001-lhr001", TWIN)], {0, 2}),
    ("a partner's id, then an exchange's title", [(OURS, TWIN), ("c001-lhr001", TITLE)], {3}),
    ("two of a partner's, then others' title", [(OURS, TWIN), ("c001-del001", TWIN), ("c001-lhr001", TITLE), ("c001-bom002", TITLE)], {1, 3}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "reports", "held"), HIDING, ids=[row[0] for row in HIDING])
def test_an_id_with_the_key_of_a_title_does_not_hide_its_holders(
    reported: HoldingsReported, tmp_path: Path, name: str, reports: list[tuple[str, str]], held: set[int]
) -> None:
    assert content_key_of("video", TWIN) == content_key_of("video", TITLE)
    assert TWIN != TITLE
    for number, (appliance, title) in enumerate(reports, 1):
        assert reported.take(appliance, [full(title)]) == Taken()
        path = published(reported, tmp_path / f"holdings.{number}")
    assert {cluster for cluster in range(4) if holders(path, cluster)} == held
    again = HoldingsReported(Titles(1000, 1000, 1000))
    again.adopt(path)
    assert {title for _, title in again.titles.names} == {TITLE, TWIN}


def test_titles_that_are_held_again_are_no_room_for_new_ones(fleet_of_two_services: Fleet, tmp_path: Path) -> None:
    reported = HoldingsReported(Titles(6, 6, 6))
    reported.use_fleet(fleet_of_two_services)
    for number, names in enumerate(("ab", ""), 1):
        assert reported.take(OURS, [full(*names)]) == Taken()
        published(reported, tmp_path / f"holdings.{number}")
    assert "more than 6 titles in all" in reported.take(OURS, [full(*"abcdefg")]).error
    assert reported.take(OURS, [full(*"abcdef")]) == Taken()
    assert len(reported.titles) == 6
