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
    return Pick(0, name, "bom001", f"{name}.example", rank, cluster, kind, "", draw)


A, B, FAR = pick("a", draw=1.0), pick("b", draw=1.2), pick("far", 1, 0.1, "bom002-a", "exchange")
DELHI = pick("delhi", 2, 0.1, "del001-a", "transit")

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


MAPPED_IDS = ("isp", "ix", "other-cdn", "del")


def test_a_clone_is_named_by_what_it_stands_for() -> None:
    result = pathways.with_clones(MAPPED_IDS, MAPPED, [A, FAR], (), None)
    one, two = result.clones
    assert (one.base, one.host, two.base, two.host) == ("isp", "a.example", "ix", "far.example")
    assert result.ids == (one.id, two.id, "isp", "ix", "other-cdn", "del")
    moved = dataclasses.replace(A, host="a2.example")
    again = pathways.with_clones(MAPPED_IDS, MAPPED, [moved, FAR], (), None).clones
    assert again[0].id != one.id, "players keep the first definition of an id"
    assert again[1] == two


def test_what_a_playlist_declares_needs_no_clone() -> None:
    """A clone of it would make the player begin anew for the same URLs, at worst while its first segment loads."""
    digests = [pathways.digest_of(name, host) for name, host in pathways.hosts(MAPPED, [A, B, FAR]) if host]
    assert pathways.appliances_of(MAPPED, [A, B, FAR], ("isp",), digests) == ["a"]
    result = pathways.with_clones(MAPPED_IDS, MAPPED, [A, B, FAR], ("isp",), "isp", digests)
    (one,) = result.clones
    assert (one.base, one.host) == ("isp", "b.example")
    assert result.ids[:3] == ("isp", one.id, "ix")
    assert not result.moves
    assert pathways.appliances_of(MAPPED, [B, FAR], ("isp",), digests) == [""], "what it stands for is gone"
    gone = pathways.with_clones(MAPPED_IDS, MAPPED, [B, FAR], ("isp",), None, digests)
    assert gone.ids[:2] == (one.id, "ix")
    assert gone.moves


def test_a_player_stays_on_its_clone() -> None:
    one, two = pathways.with_clones(MAPPED_IDS, MAPPED, [A, B], (), None).clones
    assert pathways.appliances_of(MAPPED, [A, B], (two.id, "ix", "other-cdn"), ()) == ["b", "", "other-cdn"]
    result = pathways.with_clones(MAPPED_IDS, MAPPED, [A, B], (two.id,), two.id)
    assert result.ids[:2] == (two.id, one.id)
    assert not result.moves


def test_a_player_stays_on_a_clone_that_no_pick_is_offered_for() -> None:
    full = pathways.digest_of("isp", "b.example")
    result = pathways.with_clones(MAPPED_IDS, MAPPED, [A], (f"b.{full}",), f"b.{full}")
    assert result.ids[0] == f"b.{full}"
    assert [clone.host for clone in result.clones] == ["a.example"]
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


@given(PICKS)
def test_a_playlist_declares_each_mapped_pathway_once_and_the_best_first(picks: list[Pick]) -> None:
    declared = pathways.hosts(MAPPED, picks)
    assert sorted(name for name, _ in declared) == ["del", "isp", "ix", "other-cdn"]
    stands = [pathways.best_of(pathway, picks) for pathway in MAPPED.pathways]
    if best := min((pick for pick in stands if pick), key=lambda pick: (pick.rank, picks.index(pick)), default=None):
        assert declared[0][1] == best.host
