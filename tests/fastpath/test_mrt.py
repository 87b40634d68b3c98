"""The reader of table dumps: entry by entry what another reader finds, and never past the end of anything."""

from __future__ import annotations

import io
import ipaddress
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _fastpath import mrt
from tests.support import dumps
from tests.support.prefixes import texts

# ---- the judge: mrtparse, which is slow and knows the same RFCs

mrtparse = dumps.import_mrtparse()


def judged(dump: bytes) -> list[tuple[Any, ...]]:
    """Return every entry as mrtparse reads it: prefix, peer, and what its attributes say."""
    return [entry for _, entries in judged_views(dump) for entry in entries]


def judged_views(dump: bytes) -> list[tuple[str, list[tuple[Any, ...]]]]:
    """Return the entries by view, in the order of the dumps in the file."""
    views: list[tuple[str, list[tuple[Any, ...]]]] = []
    peers: list[tuple[str, int]] = []
    for item in mrtparse.Reader(io.BytesIO(dump)):
        data = item.data
        subtype = next(iter(data["subtype"]))
        if subtype == 1:
            listed = data["peer_entries"]
            peers = [(unmapped(peer["peer_ip"]), int(peer["peer_as"])) for peer in listed]
            views.append((data["view_name"], []))
            continue
        for entry in data["rib_entries"]:
            values = {next(iter(a["type"])): a["value"] for a in reversed(entry["path_attributes"])}
            segments = values.get(2, [])
            path_ = [int(asn) for s in segments if next(iter(s["type"])) == 2 for asn in s["value"]]
            sets = any(next(iter(s["type"])) in (1, 4) for s in segments)
            large = [str(text) for text in values.get(32, [])]
            views[-1][1].append(
                (
                    f"{data['prefix']}/{data['length']}",
                    peers[entry["peer_index"]],
                    (
                        tuple(path_),
                        sets,
                        next(iter(values[1])) if 1 in values else 2,
                        int(values.get(4, 0)),
                        (*(str(text) for text in values.get(8, [])), *large),
                    ),
                )
            )
    return views


def unmapped(text: str) -> str:
    address = ipaddress.ip_address(text)
    return str(getattr(address, "ipv4_mapped", None) or address)


def ours(data: bytes) -> list[tuple[Any, ...]]:
    """Return every entry as the compiled reader reads it."""
    peers, columns, kinds, refusals, refused_by, _ = mrt.read(data)
    assert (refusals, refused_by) == ([], {})
    result = []
    for family, rows in columns.items():
        for prefix, value, row in texts(rows, family):
            peer, packed = kinds[value]
            result.append((row, prefix, peers[peer], mrt.attributes(packed)))
    return [entry[1:] for entry in sorted(result, key=lambda entry: entry[0])]


PREFIXES = st.one_of(
    st.tuples(st.integers(0, 32), st.integers(0, 2**32 - 1)).map(
        lambda drawn: str(ipaddress.ip_network((drawn[1], drawn[0]), strict=False))
    ),
    st.tuples(st.integers(0, 128), st.integers(0, 2**128 - 1)).map(
        lambda drawn: str(ipaddress.IPv6Network((drawn[1], drawn[0]), strict=False))
    ),
)
ASNS = st.integers(1, 2**32 - 1)  # AS 0 is refused
ATTRIBUTES = st.builds(
    dumps.attributes,
    path=st.lists(ASNS, max_size=5),
    origin=st.integers(0, 2),
    med=st.none() | st.integers(0, 2**32 - 1),
    communities=st.lists(
        st.tuples(st.integers(0, 65535), st.integers(0, 65535)).map(lambda c: f"{c[0]}:{c[1]}"), max_size=4
    ),
    as_set=st.lists(ASNS, max_size=2),
)
PEERS = st.lists(
    st.tuples(
        st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(lambda address: str(ipaddress.ip_address(address))),
        ASNS,
    ),
    min_size=1,
    max_size=4,
)


@st.composite
def whole_dumps(draw: st.DrawFn) -> bytes:
    """Return dumps of some views, one behind another in one file."""
    parts = []
    for view in range(draw(st.integers(1, 3))):
        peers = draw(PEERS)
        parts.append(dumps.peer_index(peers, f"view {view}"))
        for prefix in draw(st.lists(PREFIXES, max_size=5)):
            paths = draw(st.booleans())
            entries = st.tuples(st.integers(0, len(peers) - 1), ATTRIBUTES, st.integers(0, 9))
            parts.append(dumps.rib(prefix, draw(st.lists(entries, max_size=3)), paths))
    return b"".join(parts)


@settings(max_examples=200, deadline=None)
@given(data=whole_dumps())
def test_every_entry_is_what_mrtparse_finds(data: bytes) -> None:
    normal = [(str(ipaddress.ip_network(prefix)), *rest) for prefix, *rest in judged(data)]
    assert ours(data) == normal


def test_a_large_community_and_a_long_attribute() -> None:
    large = dumps.attribute(32, struct.pack(">6I", 64500, 1, 2, 4200000000, 3, 4))
    packed = dumps.attributes(range(1, 101)) + large
    assert mrt.attributes(packed) == (tuple(range(1, 101)), False, 0, 0, ("64500:1:2", "4200000000:3:4"))
    dump = dumps.peer_index([("192.0.2.1", 64500)]) + dumps.rib("10.0.0.0/8", [(0, packed)])
    assert ours(dump) == judged(dump)


def test_only_the_first_attribute_of_a_kind_counts() -> None:
    twice = dumps.attributes([1, 2]) + dumps.attributes([3], origin=2, med=9)
    assert mrt.attributes(twice) == ((1, 2), False, 0, 9, ())


def test_a_confederation_is_left_out_and_its_set_is_a_set() -> None:
    confederation = dumps.attribute(2, struct.pack(">BBI BBI", 3, 1, 65001, 2, 1, 7))
    assert mrt.attributes(confederation)[:2] == ((7,), False)
    assert mrt.attributes(dumps.attribute(2, struct.pack(">BBI", 4, 1, 65001)))[:2] == ((), True)


def test_no_attributes_are_an_unknown_origin_and_an_empty_path() -> None:
    assert mrt.attributes(b"") == ((), False, 2, 0, ())


# ---- dumps that replace one another


def test_the_last_dump_of_a_view_counts() -> None:
    peers = [("192.0.2.1", 64500)]
    first = dumps.peer_index(peers, "master4") + dumps.rib("10.0.0.0/8", [(0, dumps.attributes([1]))])
    other = dumps.peer_index(peers, "master6") + dumps.rib("2001:db8::/32", [(0, dumps.attributes([1]))])
    second = dumps.peer_index(peers, "master4") + dumps.rib("11.0.0.0/8", [(0, dumps.attributes([1]))])
    assert [entry[0] for entry in ours(first + other + second)] == ["2001:db8::/32", "11.0.0.0/8"]
    assert mrt.read(first + other + second)[5] == {"records of a dump that a later one replaces": 1}


def test_another_collectors_view_of_that_name_is_another() -> None:
    peers = [("192.0.2.1", 64500)]
    parts = [
        dumps.peer_index(peers, collector=number) + dumps.rib(f"{number}.0.0.0/8", [(0, dumps.attributes([1]))])
        for number in (1, 2)
    ]
    assert [entry[0] for entry in ours(b"".join(parts))] == ["1.0.0.0/8", "2.0.0.0/8"]


# ---- nothing is dropped in silence


def test_skipped_records_are_counted_by_what_they_are() -> None:
    peers = dumps.peer_index([("192.0.2.1", 64500)])
    good = dumps.rib("10.0.0.0/8", [(0, dumps.attributes([1]))])
    updates = dumps.record(4, b"\0" * 20, kind=16) * 3 + dumps.record(3, b"\0" * 9)
    assert mrt.read(peers + updates + good)[5] == {
        "records of type 16, subtype 4": 3,
        "records of type 13, subtype 3": 1,
    }
    many = b"".join(dumps.record(subtype, b"", kind=17) for subtype in range(40))
    skipped = mrt.read(peers + many + good)[5]
    assert (sum(skipped.values()), len(skipped), skipped["other records"]) == (40, 17, 24)


@pytest.mark.parametrize("count", [64, 65, mrt.MAX_COMMUNITIES])
def test_every_community_is_read(count: int) -> None:
    communities = [f"64500:{number}" for number in range(count)]
    assert mrt.attributes(dumps.attributes([1], communities=communities))[4] == tuple(communities)


def test_more_communities_than_a_message_holds_are_refused() -> None:
    large = dumps.attribute(32, struct.pack(">3I", 64500, 1, 2))
    packed = dumps.attributes([1], communities=[f"64500:{number}" for number in range(256)]) + large
    with pytest.raises(ValueError, match="at most 256 communities; this has 257"):
        mrt.attributes(packed)


@pytest.mark.parametrize("segment", [1, 2, 3, 4])
@pytest.mark.parametrize("path", [(0,), (64500, 0), (0, 64500), (64500, 0, 64501)])
def test_as_0_is_in_no_path(segment: int, path: tuple[int, ...]) -> None:
    packed = dumps.attribute(2, struct.pack(f">BB{len(path)}I", segment, len(path), *path))
    with pytest.raises(ValueError, match="AS 0 is in no path"):
        mrt.attributes(packed)


@pytest.mark.parametrize("prefix", ["::ffff:203.0.113.0/120", "64:ff9b::203.0.113.0/120", "2002:cb00:7100::/40"])
def test_a_prefix_of_translated_addresses_is_the_ipv4_prefix_inside_it(prefix: str) -> None:
    dump = dumps.peer_index([("192.0.2.1", 64500)]) + dumps.rib(prefix, [(0, dumps.attributes([1]))] * 2)
    _, columns, _, refusals, _, _ = mrt.read(dump)
    assert refusals == []
    assert [row[0] for row in texts(columns[4], 4)] == ["203.0.113.0/24"] * 2
    assert len(columns[6]) == 0


def test_a_router_with_a_mapped_address_has_the_ipv4_address() -> None:
    index = dumps.peer_index([("::ffff:192.0.2.1", 64500), ("2001:db8::1", 1), ("192.0.2.1", 64500)])
    peers, _, routes, _, _, _ = mrt.read(index + dumps.rib("10.0.0.0/8", [(0, b""), (1, b""), (2, b"")]))
    assert peers == [("192.0.2.1", 64500), ("2001:db8::1", 1)]
    assert [peer for peer, _ in routes] == [0, 1]


@pytest.mark.parametrize("prefix", ["2002:cb00:7109:1::/64", "2002::/16", "64:ff9b::/96"])
def test_a_prefix_that_can_match_no_client_is_refused(prefix: str) -> None:
    dump = dumps.peer_index([("192.0.2.1", 64500)]) + dumps.rib(prefix, [(0, dumps.attributes([1]))])
    _, columns, _, refusals, refused_by, _ = mrt.read(dump)
    assert (len(columns[4]), len(columns[6]), len(refusals), sum(refused_by.values())) == (0, 0, 1, 1)
    assert refusals[0][1] == prefix


# ---- what is wrong

INDEX = dumps.peer_index([("192.0.2.1", 64500)])
GOOD = dumps.rib("10.0.0.0/8", [(0, dumps.attributes([1]))])
BAD_RECORDS = [
    (dumps.record(2, b""), "", "a record holds a prefix"),
    (dumps.record(2, b"\0\0\0\0\x21"), "/33", "an IPv4 length is at most 32"),
    (dumps.record(4, b"\0\0\0\0\x81"), "/129", "an IPv6 length is at most 128"),
    (dumps.record(2, b"\0\0\0\0\x18\x0a\0"), "/24", "a record holds its prefix"),
    (dumps.record(2, b"\0\0\0\0\x08\x0a\0\1"), "10.0.0.0/8", "a record holds all its entries"),
    (dumps.record(2, b"\0\0\0\0\x08\x0a\0\1" + b"\0" * 7), "10.0.0.0/8", "a record holds all its entries"),
    (dumps.record(2, b"\0\0\0\0\x08\x0a\0\1" + b"\0" * 7 + b"\5"), "10.0.0.0/8", "an entry holds its attributes"),
    (dumps.record(8, b"\0\0\0\0\x08\x0a\0\1" + b"\0" * 11), "10.0.0.0/8", "a record holds all its entries"),
    (dumps.rib("10.0.0.0/8", [(7, b"")]), "10.0.0.0/8", "an entry's peer is in the peer index; it has 1, not 7"),
]


@pytest.mark.parametrize(("bad", "value", "rule"), BAD_RECORDS, ids=[row[2][:40] for row in BAD_RECORDS])
def test_a_bad_record_is_refused_with_its_offset_and_the_next_is_read(bad: bytes, value: str, rule: str) -> None:
    _, columns, _, refusals, refused_by, _ = mrt.read(INDEX + GOOD + bad + GOOD)
    assert len(columns[4]) == 2
    assert refusals == [(len(INDEX + GOOD), value, rule)]
    assert refused_by == {rule.partition(";")[0]: 1}


BAD_ATTRIBUTES = [
    (b"\x40", "attributes end with an attribute"),
    (b"\x50\x02\x00", "attributes end with an attribute"),
    (b"\x40\x02\x05\x02", "an attribute ends within the attributes; attribute 2 has 5 bytes"),
    (dumps.attribute(1, b"\3"), "ORIGIN is 0, 1 or 2, in one byte"),
    (dumps.attribute(1, b"\0\0"), "ORIGIN is 0, 1 or 2, in one byte"),
    (dumps.attribute(1, b""), "ORIGIN is 0, 1 or 2, in one byte"),
    (dumps.attribute(2, b"\2"), "AS_PATH ends with a segment"),
    (dumps.attribute(2, b"\2\2\0\0\0\1"), "AS_PATH ends with a segment"),
    (dumps.attribute(2, b"\5\1\0\0\0\1"), "a segment of AS_PATH has type 1 to 4; not 5"),
    (dumps.attribute(2, b"".join(b"\2\x80" + b"\0\0\0\1" * 128 for _ in range(2))), "an AS path has at most 255 ASNs"),
    (dumps.attribute(4, b"\0\0\0"), "MULTI_EXIT_DISC has four bytes"),
    (dumps.attribute(8, b"\0\0\0"), "COMMUNITIES have four bytes each"),
    (dumps.attribute(32, b"\0" * 11), "LARGE_COMMUNITY has twelve bytes each"),
    # RFC 7606, sections 7.2 and 7.8: empty ones have a wrong shape too
    (dumps.attribute(1, b""), "ORIGIN is 0, 1 or 2, in one byte"),
    (dumps.attribute(2, b"\2\0"), r"a segment of AS_PATH has an ASN \(RFC 7606, section 7.2\)"),
    (dumps.attribute(2, b"\2\1\0\0\0\1\3\0"), r"a segment of AS_PATH has an ASN \(RFC 7606, section 7.2\)"),
    (dumps.attribute(2, b"\1\0\2\1\0\0\0\1"), r"a segment of AS_PATH has an ASN \(RFC 7606, section 7.2\)"),
    (dumps.attribute(4, b""), "MULTI_EXIT_DISC has four bytes"),
    (dumps.attribute(8, b""), "COMMUNITIES have four bytes each"),
    (dumps.attribute(32, b""), "LARGE_COMMUNITY has twelve bytes each"),
    (b"\x50\x08\x00\x05" + bytes(5), "COMMUNITIES have four bytes each"),
]


@pytest.mark.parametrize(("packed", "rule"), BAD_ATTRIBUTES, ids=[rule[:40] for _, rule in BAD_ATTRIBUTES])
def test_bad_attributes_name_the_rule(packed: bytes, rule: str) -> None:
    with pytest.raises(ValueError, match=f"^{rule}$"):
        mrt.attributes(packed)


NO_DUMPS = [
    (b"", "holds no table dump"),
    (b"nothing of the sort", "cut off: the record at byte 0"),
    (b"short", "cut off at byte 0"),
    (dumps.record(4, b"", kind=16), "holds no table dump"),
    (GOOD, "the record at byte 0 stands before any peer index table"),
    (INDEX + GOOD[:-1], f"cut off: the record at byte {len(INDEX)}"),
    (dumps.record(1, b"\0\0\0\1"), "a peer index table names its collector and view"),
    (dumps.record(1, b"\0\0\0\1\xff\xff\0\0"), "a peer index table names its collector and view"),
    (dumps.record(1, b"\0\0\0\1\0\0\0\1"), "a peer index table of 1 peers ends at peer 0"),
    (dumps.record(1, b"\0\0\0\1\0\0\0\1\1" + b"\0" * 20), "a peer index table of 1 peers ends at peer 0"),
]


@pytest.mark.parametrize(("data", "rule"), NO_DUMPS, ids=[rule[:40] for _, rule in NO_DUMPS])
def test_what_is_no_dump_is_refused_whole(data: bytes, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        mrt.read(data)


def test_refusals_beyond_a_thousand_are_counted() -> None:
    _, _, _, refusals, refused_by, _ = mrt.read(INDEX + BAD_RECORDS[0][0] * 2500)
    assert len(refusals) == 1000
    assert refused_by == {"a record holds a prefix": 2500}


def test_records_of_other_types_are_passed_over() -> None:
    others = dumps.record(4, b"\0" * 50, kind=16) + dumps.record(6, b"\0" * 9)
    assert sum(mrt.read(others + INDEX + others + GOOD)[5].values()) == 4


def test_more_kinds_than_the_first_table_of_them_holds() -> None:
    packed = [dumps.attributes([number]) for number in range(1, 40_001)]
    data = INDEX + b"".join(dumps.rib("10.0.0.0/8", [(0, item), (0, item)]) for item in packed)
    _, columns, kinds, _, _, _ = mrt.read(data)
    assert [item for _, item in kinds] == packed
    assert list(columns[4].value) == [number for number in range(40_000) for _ in (0, 1)]


def mutations(data: bytes) -> Iterator[bytes]:
    """Yield the data with each byte at an edge of its range."""
    for place in range(len(data)):
        for byte in (0, 1, 0x7F, 0xFF):
            yield data[:place] + bytes([byte]) + data[place + 1 :]


def test_every_byte_at_its_edges_is_read_or_refused() -> None:
    data = INDEX + dumps.rib("10.0.0.0/8", [(0, dumps.attributes([1, 2], 0, 7, ["1:2"], [3]), 4)], paths=True)
    for changed in mutations(data):
        read_or_refuse(changed)


@settings(max_examples=300)
@given(data=st.one_of(st.binary(max_size=200), st.binary(max_size=100).map(lambda tail: INDEX + tail)))
def test_garbage_is_read_or_refused(data: bytes) -> None:
    read_or_refuse(data)


def read_or_refuse(data: bytes) -> None:
    """Read what may be anything: a ValueError, or rows that hold together."""
    try:
        peers, columns, kinds, _, _, _ = mrt.read(data)
    except ValueError:
        return
    for family, rows in columns.items():
        assert len(rows.high) == len(rows.low) == len(rows.length) == len(rows.value) == len(rows.row)
        assert all(bits <= (32 if family == 4 else 128) for bits in rows.length)
        assert all(kind < len(kinds) for kind in rows.value)
    for peer, packed in kinds:
        assert peer < len(peers)
        try:
            path, _, origin, _, _ = mrt.attributes(packed)
        except ValueError:
            continue
        assert len(path) <= mrt.MAX_PATH
        assert origin < 3


def test_no_community_is_dropped() -> None:
    listed = [f"1:{number}" for number in range(255)]
    assert mrt.attributes(dumps.attributes([1], communities=[*listed, "65000:0"]))[4] == (*listed, "65000:0")
    with pytest.raises(ValueError, match="at most 256 communities; this has 257"):
        mrt.attributes(dumps.attributes([1], communities=[*listed, "1:1", "65000:0"]))
