"""Holdings: a plain judge of who holds what, for any fleet; what is alike is kept once; damage is refused."""

from __future__ import annotations

import itertools
import random
import struct
from array import array
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _fastpath.hashing import content_key_of, key_of
from _fastpath.holdings import MAX_PROBES, MAX_SERVICES, Holdings
from _fastpath.holdings_builder import HoldingsBuilder
from steering.errors import SnapshotError
from steering.state.sections import StateFile, write_sections

VIDEO = frozenset({"video"})
Members = dict[int, set[int] | None]  # slot -> indices of what it holds, None where that is not known


def bitmap_of(held: set[int]) -> bytes:
    return sum(1 << index for index in held).to_bytes((max(held, default=-1) + 8) // 8, "little")


def set_members(builder: HoldingsBuilder, number: int, members: Members) -> None:
    slots = sorted(members)
    result = [members[slot] for slot in slots]
    builder.set_cluster(
        number,
        slots,
        [frozenset() if held is None else VIDEO for held in result],
        [None if held is None else bitmap_of(held) for held in result],
    )


def build(titles: int, fleet: Mapping[int, Members], base: Holdings | None = None) -> Holdings:
    """Return holdings of so many titles `t0`, `t1`, …; of the base's, the first are its."""
    before = base.titles if base else 0
    builder = HoldingsBuilder(base, [("video", f"t{index}") for index in range(before, titles)])
    for number, members in fleet.items():
        set_members(builder, number, members)
    return Holdings(builder.sections())


def judge(
    result: Holdings, titles: int, fleet: Mapping[int, Members], renamed: Mapping[int, tuple[str, str]] | None = None
) -> None:
    """Compare everything that holdings say with what was put in."""
    assert result.titles == titles
    held = {index for members in fleet.values() for indexes in members.values() for index in indexes or ()}
    assert result.held_titles() == bitmap_of(held).ljust(-(-titles // 8), b"\0")
    for index in range(titles):
        title = (renamed or {}).get(index, ("video", f"t{index}"))
        assert result.title(index) == title
        assert result.index_of(content_key_of(*title)) == index
    for index in renamed or ():
        assert result.index_of(content_key_of("video", f"t{index}")) is None
    for number in range(max(fleet, default=-1) + 3):
        members = fleet.get(number, {})
        assert result.members(number) == [
            (slot, frozenset() if members[slot] is None else VIDEO) for slot in sorted(members)
        ]
        for slot, held in members.items():
            packed = None if held is None else bitmap_of(held).ljust(-(-titles // 8), b"\0")
            assert result.bitmap(number, slot) == packed
            assert result.bitmaps(number)[slot] == packed
        for index in range(titles):
            holders = [slot for slot in sorted(members) if index in (members[slot] or ())]
            assert result.holders(number, index) == holders
        assert result.bitmap(number, 10**6) is None


@st.composite
def fleets(draw: st.DrawFn, titles: int) -> dict[int, Members]:
    """Return a fleet of clusters of any size; titles lie in it as Zipf would have them, evenly, or by chance."""
    rnd = random.Random(draw(st.integers(0, 2**32)))
    fleet: dict[int, Members] = {}
    for number in draw(st.lists(st.integers(0, 9), max_size=5, unique=True)):
        size = draw(st.sampled_from([0, 1, 2, 3, 5, 8, 9, 24, 64, 65, 130]))
        members: Members = {slot: set() for slot in rnd.sample(range(2000), size)}
        density = draw(st.sampled_from([0.0, 0.02, 0.5, 1.0]))
        for index, slot in itertools.product(range(titles), members):
            if rnd.random() < density:
                members[slot].add(index)  # type: ignore[union-attr]
        for slot in members:
            if rnd.random() < 0.2:
                members[slot] = None
        fleet[number] = members
    return fleet


@settings(max_examples=150)
@given(st.data(), st.sampled_from([0, 1, 7, 8, 255, 256, 257, 600]))
def test_any_fleet_holds_what_was_put_in(data: st.DataObject, titles: int) -> None:
    fleet = data.draw(fleets(titles))
    judge(build(titles, fleet), titles, fleet)


@settings(max_examples=100)
@given(st.data(), st.sampled_from([0, 1, 255, 256, 300]), st.sampled_from([0, 1, 8, 256, 300]))
def test_a_version_grown_from_the_one_before_is_what_it_would_be_made_anew(
    data: st.DataObject, before: int, more: int
) -> None:
    old, new = data.draw(fleets(before)), data.draw(fleets(before + more))
    base = build(before, old)
    builder = HoldingsBuilder(base, [("video", f"t{index}") for index in range(before, before + more)])
    merged = {number: new.get(number, old.get(number)) for number in sorted({*old, *new})}
    for number, members in merged.items():
        assert members is not None
        if number in new:
            set_members(builder, number, members)
        else:
            builder.keep_cluster(number)
    grown = Holdings(builder.sections())
    judge(grown, before + more, {number: members or {} for number, members in merged.items()})
    anew = build(before + more, {number: members or {} for number, members in merged.items()})
    # A service that only the base's appliances had keeps its name.
    assert grown.nbytes - anew.nbytes in (0, len("video"))


@settings(max_examples=100)
@given(st.data(), st.sampled_from([1, 7, 255, 256, 300]), st.sampled_from([0, 1, 20]))
def test_other_titles_take_the_places_of_those_that_nobody_holds(data: st.DataObject, before: int, more: int) -> None:
    fleet = data.draw(fleets(before))
    base = build(before, fleet)
    free = [index for index in range(before) if not base.held_titles()[index >> 3] >> (index & 7) & 1]
    chosen = data.draw(st.lists(st.sampled_from(free), unique=True)) if free else []
    renamed = {index: ("games" if index % 3 else "video", f"{'long' * (index % 5)}{index}") for index in chosen}
    builder = HoldingsBuilder(base, [("video", f"t{index}") for index in range(before, before + more)], renamed)
    for number in fleet:
        builder.keep_cluster(number)
    judge(Holdings(builder.sections()), before + more, fleet, renamed)


def test_a_title_that_the_base_has_not_cannot_be_renamed() -> None:
    for base in (None, build(3, {})):
        with pytest.raises(ValueError, match="title 3 is not in the base"):
            HoldingsBuilder(base, [], {3: ("video", "a")})


def size_of_blocks(titles: int, fleet: Mapping[int, Members]) -> int:
    builder = HoldingsBuilder(None, [("video", f"t{index}") for index in range(titles)])
    for number, members in fleet.items():
        set_members(builder, number, members)
    return len(memoryview(builder.sections()["blocks"]))


def test_what_is_alike_is_kept_once() -> None:
    rnd = random.Random(1)
    pattern = [{index for index in range(1024) if rnd.random() < 0.3} for _ in range(5)]
    alike: dict[int, Members] = {
        number: {10 * number + place: held for place, held in enumerate(pattern)} for number in range(50)
    }
    assert size_of_blocks(1024, alike) == size_of_blocks(1024, {0: alike[0]}) > 4 * 160
    for held in (set(), set(range(1024))):  # a block of one set: its count, the mask; and eight bytes at the end of all
        assert size_of_blocks(1024, {number: dict.fromkeys(range(5), held) for number in range(50)}) == 2 + 8


def test_rare_titles_cost_the_bits_of_their_holder_and_popular_ones_a_set_each() -> None:
    rnd = random.Random(2)
    members: Members = {slot: set() for slot in range(7)}
    for index in range(25_600):
        for slot in rnd.sample(range(7), 3 if index % 50 == 0 else 1):
            members[slot].add(index)  # type: ignore[union-attr]
    assert size_of_blocks(25_600, {0: members}) < 100 * (1 + 14 + 128) + 8  # 4 bits: seven sets of one, six of three


def test_holdings_of_one_service_do_not_count_for_another() -> None:
    builder = HoldingsBuilder(None, [("video", "a"), ("games", "a"), ("video", "b")])
    builder.set_cluster(0, [3, 4, 5], [{"video"}, {"video", "games"}, {"games"}], [b"\x05", b"\x03", None])
    result = Holdings(builder.sections())
    assert result.services == ("video", "games")
    assert [result.service_bit(name) for name in ("video", "games", "software")] == [1, 2, 0]
    assert result.members(0) == [
        (3, frozenset({"video"})),
        (4, frozenset({"video", "games"})),
        (5, frozenset()),  # of whom there is no bitmap nothing is known
    ]
    assert result.index_of(content_key_of("games", "a")) == 1
    assert [result.title(index) for index in range(3)] == [("video", "a"), ("games", "a"), ("video", "b")]
    assert result.holders(0, 0) == [3, 4]
    assert result.holders(0, 1) == [4]
    assert result.index_of(content_key_of("video", "c")) is None


def unmixed(x: int) -> int:
    """Undo the mix of hashing.h."""
    mask = 2**64 - 1
    x = x ^ (x >> 31) ^ (x >> 62)
    x = x * pow(0x94D049BB133111EB, -1, 2**64) & mask
    x = x ^ (x >> 27) ^ (x >> 54)
    x = x * pow(0xBF58476D1CE4E5B9, -1, 2**64) & mask
    return x ^ (x >> 30) ^ (x >> 60)


def mixed(x: int) -> int:
    mask = 2**64 - 1
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & mask
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & mask
    return x ^ (x >> 31)


def twins() -> tuple[str, str]:
    """Return two ids of sixteen ASCII characters that have one key."""
    start = 16 * 0x9E3779B97F4A7C15 & (2**64 - 1)
    halves = [mixed(start ^ int.from_bytes(b"%08d" % number, "little")) for number in range(200_000)]
    # The second halves must cancel what the first ones differ by, and be ASCII.
    by_top: dict[int, int] = {}
    for number, state in enumerate(halves):
        top = state & 0x8080808080808080
        if top in by_top:
            other = by_top[top]
            second = int.from_bytes(b"abcdefgh", "little")
            name = b"%08d" % other + b"abcdefgh"
            twin = b"%08d" % number + (second ^ halves[other] ^ state).to_bytes(8, "little")
            return name.decode(), twin.decode()
        by_top[top] = number
    raise AssertionError("none among so many")


def test_two_ids_of_one_key_are_answered_for_by_the_first() -> None:
    assert unmixed(mixed(12345)) == 12345
    one, other = twins()
    assert one != other
    assert key_of(one) == key_of(other)
    builder = HoldingsBuilder(None, [("video", one), ("video", other)])
    builder.set_cluster(0, [1, 2], [VIDEO, VIDEO], [b"\x01", b"\x02"])
    result = Holdings(builder.sections())
    index = result.index_of(content_key_of("video", other))
    assert index == 0
    assert result.holders(0, index) == [1]


SALT = key_of("video")
MASK = 2**64 - 1


def named_for(key: int) -> str | None:
    """Return the id of eight ASCII characters that has a content key, which anyone can compute; None if none has."""
    state = unmixed(unmixed(key) ^ SALT)
    text = (state ^ 8 * 0x9E3779B97F4A7C15 & MASK).to_bytes(8, "little")
    return text.decode() if max(text) < 128 else None


def crowd(count: int, bits: int) -> list[str]:
    """Return ids whose content keys agree in their low bits, in which an index without a seed would crowd them."""
    rnd = random.Random(11)
    ids: dict[str, None] = {}
    while len(ids) < count:
        if name := named_for(rnd.getrandbits(64 - bits) << bits):
            ids[name] = None
    return list(ids)


def probes_of(sections: Mapping[str, Any], keys: Iterable[int]) -> list[int]:
    """Return how many entries of the index a search for each key reads, by the rule in docs/formats.md."""
    index = array("I", bytes(memoryview(sections["index"]).cast("B")))
    known = array("Q", bytes(memoryview(sections["keys"]).cast("B")))
    seed, mask = index[-1] << 32 | index[-2], len(index) - 3
    result = []
    for key in keys:
        position = mixed(key ^ seed) & mask
        probes = 1
        while (entry := index[position]) and known[entry - 1] != key:
            position = (position + 1) & mask
            probes += 1
        result.append(probes)
    return result


def test_ids_chosen_to_collide_do_not_crowd_the_index() -> None:
    names = crowd(600, 12)
    keys = [content_key_of("video", name) for name in names]
    assert len({key & 0xFFF for key in keys}) == 1
    sections = HoldingsBuilder(None, [("video", name) for name in names]).sections()
    probes = probes_of(sections, keys)
    assert max(probes) <= MAX_PROBES
    assert sum(probes) < 3 * len(probes)  # without a seed, three hundred each
    result = Holdings(sections)
    assert [result.index_of(key) for key in keys] == list(range(len(names)))
    absent = [content_key_of("video", f"absent {number}") for number in range(2000)]
    assert not any(result.index_of(key) for key in absent)


def test_each_file_has_a_seed_of_its_own() -> None:
    first, second = (HoldingsBuilder(None, [("video", "a")]).sections()["index"][-2:] for _ in range(2))
    assert first != second


def test_an_index_that_leads_a_search_too_far_is_refused() -> None:
    sections = {name: bytes(memoryview(part).cast("B")) for name, part in HoldingsBuilder(
        None, [("video", f"t{number}") for number in range(300)]
    ).sections().items()}  # fmt: skip
    index = array("I", sections["index"])
    index[-1] ^= 1  # another seed than the one that placed the titles
    with pytest.raises(ValueError, match=r"title .* points outside the index"):
        Holdings(sections | {"index": index.tobytes()})
    full = array("I", [1] * (len(index) - 2)) + index[-2:]  # no empty entry: a search ends all the same
    with pytest.raises(ValueError, match=r"title .* points outside the index"):
        Holdings(sections | {"index": full.tobytes()})


REFUSED: list[tuple[str, Any]] = [
    ("slots do not ascend", (0, [2, 1], [VIDEO, VIDEO], [b"", b""])),
    ("slots do not ascend", (0, [1, 1], [VIDEO, VIDEO], [b"", b""])),
    ("2 slots, 1 known", (0, [1, 2], [VIDEO], [b"", b""])),
    ("slot 1: its bitmap has more than 10 titles", (0, [1], [VIDEO], [b"\0\0\0"])),
    ("slot 1: its bitmap has more than 10 titles", (0, [1], [VIDEO], [b"\0\x04"])),
    ("not the id of a service", (0, [1], [{"two\nlines"}], [b""])),
    ("not the id of a service", (0, [1], [{""}], [b""])),
]


@pytest.mark.parametrize(("rule", "arguments"), REFUSED, ids=[row[0] for row in REFUSED])
def test_invalid_members_are_refused_and_valid_ones_may_follow(rule: str, arguments: Any) -> None:
    builder = HoldingsBuilder(None, [("video", str(index)) for index in range(10)])
    with pytest.raises(ValueError, match=rule):
        builder.set_cluster(*arguments)
    builder.set_cluster(0, [1], [VIDEO], [b"\xff\x03"])
    with pytest.raises(ValueError, match="cluster 0 is given twice"):
        builder.set_cluster(0, [1], [VIDEO], [b"\xff\x03"])
    with pytest.raises(ValueError, match="cluster 1 is not in the base"):
        builder.keep_cluster(1)
    result = Holdings(builder.sections())
    assert result.holders(0, 9) == [1]
    with pytest.raises(ValueError, match="these holdings are finished"):
        builder.set_cluster(1, [], [], [])
    with pytest.raises(IndexError):
        result.holders(0, 10)
    with pytest.raises(IndexError):
        result.title(10)


def test_the_number_of_services_with_holdings_is_bounded() -> None:
    names = [f"s{number}" for number in range(MAX_SERVICES)]
    result = HoldingsBuilder(None, [(name, "t") for name in names])
    result.set_cluster(0, [0], [set(names)], [b"\xff" * 4])
    assert Holdings(result.sections()).members(0) == [(0, frozenset(names))]
    with pytest.raises(ValueError, match=f"holdings of more: at most {MAX_SERVICES} services may have holdings"):
        HoldingsBuilder(None, [*((name, "t") for name in names), ("more", "t")])


def sections_of(titles: int = 300) -> dict[str, bytes]:
    rnd = random.Random(3)
    fleet = {
        number: {
            slot: {index for index in range(titles) if rnd.random() < 0.3} for slot in range(9 * number, 9 * number + 9)
        }
        for number in range(3)
    }
    builder = HoldingsBuilder(None, [("video", f"t{index}") for index in range(titles)])
    for number, members in fleet.items():
        set_members(builder, number, members)  # type: ignore[arg-type]
    return {name: bytes(part) for name, part in builder.sections().items()}


def changed(sections: dict[str, bytes], name: str, place: int, number: int, code: str = "=I") -> dict[str, bytes]:
    part = bytearray(sections[name])
    struct.pack_into(code, part, place, number)
    return sections | {name: bytes(part)}


GOOD = sections_of()
DAMAGED = [
    ("section blocks", {name: part for name, part in GOOD.items() if name != "blocks"}),
    ("section keys is cut off", GOOD | {"keys": GOOD["keys"][:-1]}),
    ("an index of 3 entries", GOOD | {"index": bytes(12)}),
    ("an index of 256 entries", GOOD | {"index": bytes(4 * 256)}),
    ("title 1 points outside", GOOD | {"index": array("I", [1] * 1026).tobytes()}),
    ("title 5 points outside", changed(GOOD, "index", 20, 301)),
    ("299 ends of text", GOOD | {"text_ends": GOOD["text_ends"][:-4]}),
    ("title 1 points outside", changed(GOOD, "text_ends", 4, 0)),
    ("title 299 points outside", changed(GOOD, "text_ends", 4 * 299, len(GOOD["text"]) + 1)),
    ("title 0 points outside", changed(GOOD, "text", 0, 1, "=B")),
    ("a directory of 5 entries", GOOD | {"directory": GOOD["directory"][:-4]}),
    ("cluster 1: ", changed(GOOD, "clusters", 12, 19)),
    ("cluster 1: ", changed(GOOD, "clusters", 16, 19)),
    ("cluster 2: ", changed(GOOD, "clusters", 32, 3)),
    ("cluster 0: ", changed(GOOD, "members", 8, 0)),
    ("cluster 1: ", changed(GOOD, "directory", 8, len(GOOD["blocks"]))),
    ("cluster 1: ", changed(GOOD, "directory", 8, len(GOOD["blocks"]) - 9)),
    ("cluster 0: ", GOOD | {"blocks": GOOD["blocks"][: len(GOOD["blocks"]) // 9]}),
    ("33 services", GOOD | {"services": "\n".join(map(str, range(33))).encode()}),
]


@pytest.mark.parametrize(("rule", "sections"), DAMAGED, ids=[f"{n} {row[0]}" for n, row in enumerate(DAMAGED)])
def test_damage_is_refused(rule: str, sections: dict[str, bytes]) -> None:
    Holdings(GOOD)
    with pytest.raises(ValueError, match=rule):
        Holdings(sections)


@settings(max_examples=400)
@given(
    st.sampled_from(sorted(GOOD)), st.integers(0, 10**6), st.binary(min_size=1, max_size=8), st.integers(0, 299),
    st.integers(0, 3),
)  # fmt: skip
def test_no_bytes_lead_a_lookup_outside(name: str, at: int, junk: bytes, index: int, cluster: int) -> None:
    """Whatever is written over a section, it is refused, or every question has some answer."""
    part = bytearray(GOOD[name])
    at %= len(part)
    part[at : at + len(junk)] = junk[: len(part) - at]
    try:
        result = Holdings(GOOD | {name: bytes(part)})
    except ValueError:
        return
    slots = [slot for slot, _ in result.members(cluster)]
    assert set(result.holders(cluster, index)) <= set(slots)
    for slot in slots[:1]:
        assert len(result.bitmap(cluster, slot) or bytes(38)) == 38
    result.index_of(content_key_of("video", f"t{index}"))


def test_a_state_file_holds_them(tmp_path: Path) -> None:
    write_sections(tmp_path / "holdings.1", "holdings", GOOD)
    result = Holdings(StateFile(tmp_path / "holdings.1", "holdings").sections)
    assert (result.titles, result.clusters) == (300, 3)
    data = bytearray((tmp_path / "holdings.1").read_bytes())
    data[data.index(GOOD["blocks"][:16])] ^= 1
    (tmp_path / "holdings.1").write_bytes(data)
    with pytest.raises(SnapshotError, match="checksum"):
        StateFile(tmp_path / "holdings.1", "holdings")
