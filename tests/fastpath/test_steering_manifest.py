"""The order of a player's pathways: who stays, who moves, and what is listed, beside a slow judge."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from _fastpath.hashing import viewer_of
from _fastpath.status_words import (
    DISABLED,
    HELD_BACK,
    IPV4_UP,
    IPV6_UP,
    MOST_HELD_BACK,
    NO_HEADROOM,
    OVER_LIMIT,
    STALE,
    UNHEALTHY,
    StatusWords,
)
from _fastpath.steering_manifest import Manifest
from steering.decision.snapshot import Snapshot
from steering.model.fleet import Fleet
from steering.model.service import Pathway
from steering.playback.answers.players import compiled
from tests.support import reference
from tests.support.reference_pathways import Judge, Seen

GAIN = 0.25
UP = IPV4_UP | IPV6_UP
CLIENT = "203.0.113.7"  # bom001 at rank 0, then del001 and the exchanges
NEAR, NEXT, DELHI, EXCHANGE = "c001-bom001", "c002-bom001", "c001-del001", "c001-bom002"
PATHWAYS = (
    Pathway("other", host="cdn.example.net"),
    Pathway("ix", classes=("exchange",)),
    Pathway("isp", classes=("embedded",)),
    Pathway("del", clusters=("del001-a",)),
)


class World:
    """The tiny fleet with a service that names appliances and one with mapped pathways, and words to set."""

    def __init__(self, state: Path) -> None:
        self.snapshot = Snapshot.map(state)
        self.words = StatusWords(str(state / self.snapshot.current.status), writable=True)
        self.slots = {self.snapshot.fleet_file.appliance(index)[1]: index for index in range(8)}

    def set(self, words: Mapping[str, int]) -> None:
        """Give appliances these status words, all others weight 100."""
        for name, index in self.slots.items():
            self.words.set_word(self.snapshot.fleet_file.slots[index], words.get(name, 100 | UP))

    def word(self, name: str) -> int:
        return self.words.word(self.snapshot.fleet_file.slots[self.slots[name]])

    def manifest(self, service: str) -> Manifest:
        return compiled(self.snapshot, GAIN)[service]

    def order(
        self,
        current: Sequence[str] = (),
        declared: Sequence[str] = (),
        failed: Sequence[str] = (),
        service: str = "video",
        session: str = "s",
        title: str = "t",
    ) -> tuple[tuple[str, ...], str | None]:
        made = self.manifest(service)
        return made.order(self.snapshot.picker, CLIENT, title, session, 0, current, declared, failed)

    def judged(
        self,
        current: Sequence[str],
        declared: Sequence[str],
        failed: Sequence[str],
        service: str,
        session: str,
        title: str,
    ) -> tuple[tuple[str, ...], str | None]:
        """Return the same from the picks, and from rank, word and pathways of every candidate."""
        rules = self.snapshot.rules[service]
        most = 8 if rules.pathways else min(2 * rules.n, 8)
        made = self.snapshot.picks(CLIENT, title, service=service, session=session, n=most, failed=failed)
        seen = []
        table, fleet = self.snapshot.table_file, self.snapshot.fleet_file
        ranks = {cluster: rank for cluster, rank, _ in table.ranking(self.snapshot.zone_of(bytes([203, 0, 113, 7])))}
        lost = self.lost_with({name for name in self.slots if names_one_of(failed, name)})
        if not made or any(pick.appliance in lost for pick in made):
            lost = set()  # nothing else can serve
        for name, index in self.slots.items():
            cluster, route_class, _ = fleet.cluster_of(index)
            word = self.word(name)
            number = next(number for number, (_, one, *_) in enumerate(fleet.spans) if one == cluster)
            if number not in ranks:
                continue
            reason = reference.reason_of({"word": word}, IPV4_UP)
            has_failed = names_one_of(failed, name) or name in lost
            reason = "X" if has_failed and reason not in "RD" else reason
            stands = [way.id for way in rules.pathways if route_class in way.classes or cluster in way.clusters]
            draw = next((pick.draw for pick in made if pick.appliance == name), float("inf"))
            viewer = viewer_of(session, bytes([203, 0, 113, 7]))
            number_of_viewer = reference.mix(reference.mix(viewer) ^ (fleet.slots[index] + 1)) >> 58
            held = number_of_viewer < (word >> 23 & 255)
            seen.append(Seen(name, ranks[number], reason, tuple(stands), draw, held))
        by_name = {one.name: one for one in seen}
        judge = Judge(
            [(way.id, bool(way.host)) for way in rules.pathways],
            seen,
            [by_name[pick.appliance] for pick in made],
            most,
            GAIN,
        )
        return judge.order(current, declared, failed)

    def lost_with(self, failed: set[str]) -> set[str]:
        """Return all at a site where two failed, and all of a partner with failures at two sites."""
        places = {name: (name[-6:], self.snapshot.fleet_file.cluster_of(self.slots[name])[2]) for name in self.slots}
        sites = [places[name][0] for name in failed]
        partners = {
            partner
            for _, partner in places.values()
            if partner and len({places[name] for name in failed if places[name][1] == partner}) > 1
        }
        return {name for name, (site, partner) in places.items() if sites.count(site) > 1 or partner in partners}


def names_one_of(failed: Sequence[str], name: str) -> bool:
    """Return whether an appliance, or a clone for it, is among those that failed."""
    return any(one == name or (one[:-9] == name and one[-9] == ".") for one in failed if len(one) > 9)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, publish: Callable[..., Path], fleet: Fleet) -> World:
    (video,) = fleet.services
    mapped = dataclasses.replace(video, id="mapped", pathways=PATHWAYS)
    state = tmp_path_factory.mktemp("manifests") / "state"
    return World(publish(state, fleet=dataclasses.replace(fleet, services=(mapped, video))))


FULL, SHED, DOWN, DRAINED = 100 | UP | NO_HEADROOM, 100 | UP | OVER_LIMIT, 100 | UP | UNHEALTHY, 100 | UP | DISABLED
CLOSED = 100 | UP | MOST_HELD_BACK * HELD_BACK
ROWS = [
    # name, words, what the player uses, what its playlist declared, what failed, who it keeps
    ("who plays nowhere yet keeps nothing", {}, (), (), (), None),
    ("a full appliance keeps its viewers", {NEAR: FULL}, (NEAR,), (), (), NEAR),
    ("so does one that is shed", {NEAR: SHED}, (NEAR,), (), (), NEAR),
    ("and one of weight 0", {NEAR: UP}, (NEAR,), (), (), NEAR),
    ("also with the others of its playlist at hand", {NEAR: FULL}, (NEAR,), (NEAR, NEXT, DELHI), (), NEAR),
    ("a drained one does not", {NEAR: DRAINED}, (NEAR,), (), (), None),
    ("an unhealthy one does not", {NEAR: DOWN}, (NEAR,), (), (), None),
    ("a silent one does not", {NEAR: 100 | UP | STALE}, (NEAR,), (), (), None),
    ("one of the other family does not", {NEAR: 100 | IPV6_UP}, (NEAR,), (), (), None),
    ("a full one that failed does not", {NEAR: FULL}, (NEAR,), (), (NEAR,), None),
    ("a better rank takes its viewers back", {}, (EXCHANGE,), (), (), None),
    ("unless it holds them back", {NEAR: CLOSED, NEXT: CLOSED}, (EXCHANGE,), (), (), EXCHANGE),
    ("then also those at the fallback", {NEAR: CLOSED, NEXT: CLOSED}, ("cdn",), (), (), "cdn"),
    ("who is elsewhere for no reason moves", {NEAR: CLOSED, NEXT: CLOSED}, ("nowhere",), (), (), None),
    ("where the best is gone nobody is held back", {NEAR: CLOSED, NEXT: CLOSED, EXCHANGE: DOWN}, (EXCHANGE,), (), (), None),
    ("who can use none of the picks stays", {NEAR: FULL, NEXT: FULL}, (NEAR,), (NEAR, NEXT), (), NEAR),
    ("and at the fallback too, not to a full one", {NEAR: FULL, NEXT: FULL}, ("cdn",), (NEAR, NEXT), (), "cdn"),
    ("who can use one of them comes from there", {NEAR: FULL}, ("cdn",), (NEAR, NEXT), (), None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "current", "declared", "failed", "kept"), [r[1:] for r in ROWS], ids=[r[0] for r in ROWS]
)
def test_who_stays(
    world: World,
    words: dict[str, int],
    current: tuple[str, ...],
    declared: tuple[str, ...],
    failed: tuple[str, ...],
    kept: str | None,
) -> None:
    world.set(words)
    ids, stays = world.order(current, declared, failed)
    assert stays == kept
    assert len(set(ids)) == len(ids)
    if kept:
        assert ids[0] == kept
    elif current:
        assert ids[0] not in current


def test_a_paced_return_lets_each_viewer_come_back_once_it_has_let_its_number(world: World) -> None:
    """The more are let back, the more have moved; nobody moves twice, and at the end nobody is held back."""
    moved: list[int] = []
    gone: set[str] = set()
    for held_back in range(MOST_HELD_BACK, -1, -9):
        world.set(dict.fromkeys((NEAR, NEXT), 100 | UP | held_back * HELD_BACK))
        moves = {str(viewer) for viewer in range(640) if world.order((EXCHANGE,), session=str(viewer))[1] is None}
        assert gone <= moves
        gone = moves
        moved.append(len(moves))
    assert moved == sorted(moved)
    assert moved[0] < 30
    assert moved[-1] == 640
    shares = [count / 640 for count in moved]
    assert shares == pytest.approx([1 - held / 64 for held in range(63, -1, -9)], abs=0.05)


def test_what_its_playlist_declared_and_could_serve_comes_before_the_fallback(world: World) -> None:
    """Twice as many are picked as playlists declare; others may have passed the declared ones since."""
    world.set({})
    every = ["c001-lhr001", "c002-lhr001", "c001-bom002", "c002-bom002", "c001-del001", "c002-del001"]
    ids, _ = world.order(declared=every)
    picked = ids[: ids.index("cdn")]
    assert set(every) & set(picked) == {name for name in every if name in picked}
    unpicked = [name for name in every if name not in world.order()[0]]
    for name in unpicked:
        assert (name in picked) == (world.judged((), every, (), "video", "s", "t")[0].index("cdn") > picked.index(name))
    world.set(dict.fromkeys(every, FULL))
    assert [name for name in world.order(declared=every)[0] if name in every] == []


def test_lists_are_bounded(world: World) -> None:
    with pytest.raises(ValueError, match="17 pathways; at most 16"):
        world.order([f"c{number}" for number in range(17)])
    with pytest.raises(ValueError, match="a title has 1 to 256 bytes"):
        world.order(title="x" * 257)


NAMES = ["c001-bom001", "c002-bom001", "c001-bom002", "c002-bom002", "c001-del001", "c001-lhr001", "c002-lhr001"]
TEXTS = st.sampled_from([*NAMES, "cdn", "isp", "ix", "del", "other", "unknown", "c001-bom001.12345678", ""])
WORDS = st.builds(
    lambda weight, flags, held: weight | flags | held * HELD_BACK,
    st.sampled_from([0, 1, 80, 100, 100, 1000, 65_535]),
    st.sampled_from([UP, UP, UP, IPV4_UP, IPV6_UP, UP | NO_HEADROOM, UP | OVER_LIMIT, UP | UNHEALTHY, UP | DISABLED]),
    st.sampled_from([0, 0, 0, 20, 63, 80, 160, 255]),
)
LISTS = st.lists(TEXTS, max_size=4, unique=True)


@settings(max_examples=600)
@given(
    st.dictionaries(st.sampled_from([*NAMES, "c002-del001"]), WORDS),
    LISTS,
    LISTS,
    st.one_of(st.just([]), LISTS),
    st.sampled_from(["video", "mapped"]),
    st.sampled_from(["", "s", "viewer 7"]),
    st.sampled_from(["t", "80100172", "another"]),
)
@example({"c001-bom001": UP}, ["c001-lhr001", "c002-lhr001"], ["c001-lhr001"], [], "video", "", "t")
def test_any_order_is_the_judges(
    world: World,
    words: dict[str, int],
    current: list[str],
    declared: list[str],
    failed: list[str],
    service: str,
    session: str,
    title: str,
) -> None:
    world.set(words)
    result = world.order(current, declared, failed, service, session, title)
    assert result == world.judged(current, declared, failed, service, session, title)
    ids, kept = result
    assert len(set(ids)) == len(ids) > 0
    assert kept is None or (kept in current and ids[0] == kept)
    again = world.order(ids[:1], (), failed, service, session, title)
    assert again[0][0] == ids[0] or ids[0] in failed or declared, "who follows an answer is not moved by the next"
