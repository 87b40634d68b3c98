"""The order of pathways: rows first, then what holds for any picks."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.decision.snapshot import Pick
from steering.model.service import Pathway, Service
from steering.playback.answers import pathways

VIDEO = Service("video", "https://{host}/v/{title}", "https://origin.example/v/{title}")
MAPPED = dataclasses.replace(
    VIDEO,
    pathways=(
        Pathway("other-cdn", host="cdn.example.net"),
        Pathway("ix", classes=("exchange",)),
        Pathway("isp", classes=("embedded", "private")),
        Pathway("del", clusters=("del001-a",)),
    ),
    clones=("hls-js",),
)


def pick(name: str, rank: int = 0, draw: float = 1.0, cluster: str = "bom001-a", kind: str = "embedded") -> Pick:
    return Pick(0, name, "bom001", f"{name}.example", rank, cluster, kind, draw)


A, B, FAR = pick("a", draw=1.0), pick("b", draw=1.2), pick("far", 1, 0.1, "bom002-a", "exchange")
DELHI = pick("delhi", 2, 0.1, "del001-a", "transit")

ORDERS = [
    # name, service, picks, walked out, what the player uses, order
    ("as picked, then the fallback", VIDEO, [A, B, FAR], True, (), ("a", "b", "far", "cdn")),
    ("what plays stays where it is nearly as good", VIDEO, [A, B, FAR], True, ("b",), ("b", "a", "far", "cdn")),
    ("a set gain moves it", VIDEO, [A, pick("b", draw=1.3)], True, ("b",), ("a", "b", "cdn")),
    ("a better rank moves it", VIDEO, [A, FAR], True, ("far",), ("a", "far", "cdn")),
    ("who is gone is left", VIDEO, [A, FAR], True, ("b",), ("a", "far", "cdn")),
    ("the best of several that it reports", VIDEO, [A, B], True, ("far", "b", "a"), ("a", "b", "cdn")),
    ("from the fallback back home", VIDEO, [A, B], True, ("cdn",), ("a", "b", "cdn")),
    ("nobody is left: the fallback, and what it has", VIDEO, [], True, ("b",), ("cdn", "b")),
    ("nobody is left and nothing known", VIDEO, [], True, (), ("cdn",)),
    ("mapped: by the best that stands for each", MAPPED, [A, FAR], False, (), ("isp", "ix", "del", "other-cdn")),
    ("mapped: where all were looked at, who has nobody is last", MAPPED, [A], True, (), ("isp", "other-cdn", "ix", "del")),
    ("mapped: a class that is nearer", MAPPED, [pick("x", 0, 1, "bom002-a", "exchange"), pick("i", 1)], False, (),
     ("ix", "isp", "del", "other-cdn")),
    ("mapped: clusters too", MAPPED, [DELHI], True, (), ("del", "other-cdn", "ix", "isp")),
    ("mapped: nobody", MAPPED, [], True, ("isp",), ("other-cdn", "ix", "isp", "del")),
    ("mapped: what plays stays in its rank", MAPPED, [A, pick("e", 0, 1.2, "bom002-a", "exchange")], True, ("ix",),
     ("ix", "isp", "other-cdn", "del")),
    ("mapped: another network gives its viewers back", MAPPED, [A], True, ("other-cdn",), ("isp", "other-cdn", "ix", "del")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "service", "picks", "walked_out", "current", "expected"), ORDERS, ids=[r[0] for r in ORDERS]
)
def test_order(
    name: str,
    service: Service,
    picks: list[Pick],
    walked_out: bool,
    current: tuple[str, ...],
    expected: tuple[str, ...],
) -> None:
    result = pathways.order(service, picks, walked_out, current, 0.25)
    assert result.ids == expected
    assert result.moves == (bool(current) and expected[0] not in current)
    assert result.clones == ()


FULL = [
    # name, service, full, what the player uses, what its playlist declares, what failed, order
    ("a full one keeps its players", VIDEO, [A, B], ("a",), ("a", "b"), (), ("a", "cdn", "b")),
    ("the first that it uses of those", VIDEO, [A, B], ("far", "b", "a"), (), (), ("b", "cdn", "far", "a")),
    ("one that is not only full loses them", VIDEO, [A], ("b",), ("b", "c"), (), ("cdn", "b", "c")),
    ("nothing is reported: the fallback, and what is declared", VIDEO, [A], (), ("a", "b"), (), ("cdn", "a", "b")),
    ("a full one that failed loses them", VIDEO, [A], ("a",), ("a", "b"), ("a",), ("cdn", "b", "a")),
    ("mapped: a full one keeps its players", MAPPED, [A], ("isp",), (), (), ("isp", "other-cdn", "ix", "del")),
    ("mapped: another does not", MAPPED, [A], ("ix",), (), (), ("other-cdn", "ix", "isp", "del")),
    ("mapped: the fallback that failed is last", MAPPED, [], (), (), ("other-cdn",), ("ix", "isp", "del", "other-cdn")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "service", "full", "current", "declared", "failed", "expected"), FULL, ids=[row[0] for row in FULL]
)
def test_without_picks_players_stay_where_it_is_only_full(
    name: str,
    service: Service,
    full: list[Pick],
    current: tuple[str, ...],
    declared: tuple[str, ...],
    failed: tuple[str, ...],
    expected: tuple[str, ...],
) -> None:
    result = pathways.order(service, [], True, current, 0.25, full, declared, failed)
    assert result.ids == expected
    assert result.moves == (bool(current) and expected[0] not in current)


def test_a_pathway_that_failed_is_last_and_keeps_no_player() -> None:
    assert pathways.order(VIDEO, [A, B], True, ("a",), 0.25, failed=("a",)).ids == ("b", "cdn", "a")
    result = pathways.order(MAPPED, [A, FAR], True, ("isp",), 0.25, failed=("isp",))
    assert result.ids == ("ix", "other-cdn", "del", "isp")
    assert result.moves


UNDECIDED = [
    # name, service, what the player uses, what its playlist declares, what is unfit, order
    ("nothing is known", None, (), (), (), ("cdn",)),
    ("the one that plays, the declared ones, the fallback", VIDEO, ("b",), ("a", "b"), (), ("b", "a", "cdn")),
    ("no service: the same", None, ("b",), ("a", "b"), (), ("b", "a", "cdn")),
    ("none plays yet", VIDEO, (), ("a", "b"), (), ("a", "b", "cdn")),
    ("one that is unfit is last", VIDEO, ("a",), ("a", "b"), ("a",), ("b", "cdn", "a")),
    ("all are unfit", VIDEO, ("a",), ("a", "b"), ("a", "b"), ("cdn", "a", "b")),
    ("mapped: as declared", MAPPED, (), (), (), ("other-cdn", "ix", "isp", "del")),
    ("mapped: the one that plays first", MAPPED, ("isp",), (), (), ("isp", "other-cdn", "ix", "del")),
    ("mapped: a clone that plays stays, digests name nothing", MAPPED, ("a.12345678",), ("12345678",), (),
     ("a.12345678", "other-cdn", "ix", "isp", "del")),
    ("mapped: one that failed is last", MAPPED, ("isp",), (), ("isp",), ("other-cdn", "ix", "del", "isp")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "service", "current", "declared", "unfit", "expected"), UNDECIDED, ids=[row[0] for row in UNDECIDED]
)
def test_the_order_without_a_decision(
    name: str,
    service: Service | None,
    current: tuple[str, ...],
    declared: tuple[str, ...],
    unfit: tuple[str, ...],
    expected: tuple[str, ...],
) -> None:
    assert pathways.order_without_picks(service, current, declared, unfit) == expected


def test_a_clone_is_named_by_what_it_stands_for() -> None:
    result = pathways.with_clones(pathways.order(MAPPED, [A, FAR], True, (), 0.25), MAPPED, [A, FAR], (), 0.25)
    one, two = result.clones
    assert (one.base, one.host, two.base, two.host) == ("isp", "a.example", "ix", "far.example")
    assert result.ids == (one.id, two.id, "isp", "ix", "other-cdn", "del")
    moved = dataclasses.replace(A, host="a2.example")
    again = pathways.with_clones(result, MAPPED, [moved, FAR], (), 0.25).clones
    assert again[0].id != one.id, "players keep the first definition of an id"
    assert again[1] == two


def test_what_a_playlist_declares_needs_no_clone() -> None:
    """A clone of it would make the player begin anew for the same URLs, at worst while its first segment loads."""
    plain = pathways.order(MAPPED, [A, B, FAR], True, (), 0.25)
    digests = [pathways.digest_of(name, host) for name, host in pathways.hosts(MAPPED, [A, B, FAR]) if host]
    result = pathways.with_clones(plain, MAPPED, [A, B, FAR], ("isp",), 0.25, digests)
    (one,) = result.clones
    assert (one.base, one.host) == ("isp", "b.example")
    assert result.ids[:3] == ("isp", one.id, "ix")
    assert not result.moves
    gone = pathways.with_clones(plain, MAPPED, [B, FAR], ("isp",), 0.25, digests)
    assert gone.ids[:2] == (one.id, "ix"), "the declared one is left when what it stands for is"
    assert gone.moves


def test_a_player_stays_on_its_clone() -> None:
    plain = pathways.order(MAPPED, [A, B], True, (), 0.25)
    one, two = pathways.with_clones(plain, MAPPED, [A, B], (), 0.25).clones
    result = pathways.with_clones(plain, MAPPED, [A, B], (two.id,), 0.25)
    assert result.ids[:2] == (two.id, one.id)
    assert not result.moves


HOSTS = [
    ("the best few by their ids", VIDEO, [A, B, FAR, DELHI],
     [("a", "a.example"), ("b", "b.example"), ("far", "far.example"), ("cdn", None)]),
    ("nobody", VIDEO, [], [("cdn", None)]),
    ("mapped: each is the client's best of its kind, or the fallback", MAPPED, [A, B, FAR],
     [("isp", "a.example"), ("ix", "far.example"), ("other-cdn", "cdn.example.net"), ("del", None)]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "service", "picks", "expected"), HOSTS, ids=[row[0] for row in HOSTS])
def test_what_a_playlist_declares(
    name: str, service: Service, picks: list[Pick], expected: list[tuple[str, str | None]]
) -> None:
    assert pathways.hosts(service, picks) == expected


NAMES = st.sampled_from(["a", "b", "c", "cdn", "isp", "ix", "del", "other-cdn", "unknown"])
PICKS = st.lists(
    st.builds(
        Pick,
        st.sampled_from(["a", "b", "c", "d", "cdn"]),
        st.just("h.example"),
        st.integers(0, 3),
        st.floats(0.1, 10),
        st.sampled_from(["bom001-a", "del001-a"]),
        st.sampled_from(["embedded", "private", "exchange", "transit"]),
    ),
    max_size=8,
    unique_by=lambda item: item.appliance,
)


@given(PICKS, st.booleans(), st.lists(NAMES, max_size=4, unique=True), st.sampled_from([VIDEO, MAPPED]))
def test_any_picks_give_each_pathway_once_and_nothing_from_nowhere(
    picks: list[Pick], walked_out: bool, current: list[str], service: Service
) -> None:
    result = pathways.order(service, picks, walked_out, current, 0.25)
    assert len(set(result.ids)) == len(result.ids) > 0
    if service.pathways:
        assert sorted(result.ids) == ["del", "isp", "ix", "other-cdn"]
    else:
        assert set(result.ids) >= {item.appliance for item in picks} | {"cdn"}
    declared = pathways.hosts(service, picks)
    assert pathways.order(service, picks, walked_out, (), 0.25).ids[0] in dict(declared), "the first is in the playlist"
    assert result.ids[0] in result.ids


@given(PICKS, st.booleans(), st.sampled_from([VIDEO, MAPPED]))
def test_who_follows_an_answer_is_not_moved_by_the_next(picks: list[Pick], walked_out: bool, service: Service) -> None:
    first = pathways.order(service, picks, walked_out, (), 0.25)
    again = pathways.order(service, picks, walked_out, first.ids[:1], 0.25)
    assert again.ids == first.ids
    assert not again.moves
