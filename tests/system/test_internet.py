"""The whole Internet's table, judged: both edges of every prefix, the addresses outside, and 200,000 at random.

Two judges answer first, the dict per length of `tests/reference.py` and pytricia, and must agree with each other.
"""

from __future__ import annotations

import ipaddress
import random
from array import array
from collections.abc import Iterator

import pytest
import pytricia

import geo_data
from _fastpath import lpm, prefix_rows
from _fastpath.intervals import Chains, relabel_intervals, sweep
from steering.control.feed_files import read_text
from tests.support import reference

RANDOM = 100_000  # addresses a family
NARROW = 60_000  # zones that fit leaves of two bytes
NOWHERE = 0xFFFFFFFF


class Internet:
    """The shipped prefixes, the judges that hold them, and the two shapes of our table."""

    def __init__(self) -> None:
        text, _ = read_text(geo_data.ASN_PREFIXES)
        # One prefix has two origins, and so two lines. 6to4 clients are looked up by the IPv4 address inside theirs.
        self.prefixes = list(dict.fromkeys(line.split()[0] for line in text.decode().splitlines()))
        self.prefixes.remove("2002::/16")
        self.judge = reference.Table((prefix, place) for place, prefix in enumerate(self.prefixes))
        self.tries = {4: pytricia.PyTricia(32), 6: pytricia.PyTricia(128)}
        for place, prefix in enumerate(self.prefixes):
            self.tries[6 if ":" in prefix else 4][prefix] = place
        order = list(range(len(self.prefixes)))
        random.Random(1).shuffle(order)
        lines = "".join(f"{self.prefixes[place]} {place}\n" for place in order)
        columns, tails, _, refused = prefix_rows.read(lines.encode())
        assert not refused
        # Zone 0 is no prefix; each other zone is one prefix, or one of many that share it.
        wide = array("I", (int(tail) + 1 for tail in tails))
        self.wide = build(columns, wide, len(self.prefixes) + 1)
        self.narrow = build(columns, array("I", (zone % NARROW for zone in wide)), NARROW)

    def addresses(self, family: int) -> Iterator[int]:
        """Yield both edges of every prefix of a family and the address outside each, then random ones, as numbers.

        Where a prefix begins at the end of another, the two share addresses: these are yielded once.
        """
        size, last = (32, 2**32 - 1) if family == 4 else (128, 2**128 - 1)
        edges: set[int] = set()
        for length, networks in enumerate(self.judge.by_length[family]):
            for first in networks:
                end = first + (1 << size - length) - 1
                edges.update((first, end, max(first - 1, 0), min(end + 1, last)))
        yield from sorted(edges)
        rnd = random.Random(family)
        announced = [(first, length) for length, result in enumerate(self.judge.by_length[family]) for first in result]
        for _ in range(RANDOM // 2):
            yield rnd.randrange(last + 1)
        for first, length in rnd.choices(announced, k=RANDOM // 2):
            yield first + rnd.randrange(1 << size - length)


def build(columns: dict[int, prefix_rows.Columns], zone_of: array[int], zones: int) -> lpm.PrefixTable:
    """Return the table that gives each prefix the zone of its row's value."""
    chains = Chains()
    swept = {}
    for family in (4, 6):
        intervals = sweep(prefix_rows.sort(columns[family]), chains)
        swept[family] = intervals
    labels = array("I", [0, *(zone_of[chains.value[chain]] for chain in range(1, len(chains)))])
    return lpm.PrefixTable.build(relabel_intervals(swept[4], labels), relabel_intervals(swept[6], labels), zones)


@pytest.fixture(scope="module")
def internet() -> Internet:
    return Internet()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("family", [4, 6])
def test_every_edge_of_every_prefix_and_100_000_random_addresses_match_both_judges(
    internet: Internet, family: int
) -> None:
    size, trie, judge = (4 if family == 4 else 16), internet.tries[family], internet.judge
    covering, get = judge.covering_number, trie.get
    packed = bytearray()
    expected = array("I")
    disagreements = 0
    for number in internet.addresses(family):
        address = number.to_bytes(size, "big")
        place = next(covering(family, number), NOWHERE)
        disagreements += get(address, NOWHERE) != place
        packed += address
        expected.append(place + 1 & NOWHERE)
    assert disagreements == 0
    assert len(expected) > (1_200_000 if family == 4 else 480_000) + RANDOM

    for table, wanted in (
        (internet.wide, expected),
        (internet.narrow, array("I", (zone % NARROW for zone in expected))),
    ):
        result = array("I", bytes(4 * len(expected)))
        table.lookup_many(packed, result, family)
        assert result == wanted
        lookup = table.lookup
        one_by_one = array("I", (lookup(bytes(packed[at : at + size])) for at in range(0, len(packed), size)))
        assert one_by_one == wanted
        for at in range(0, len(expected), 7):
            text = str(ipaddress.ip_address(bytes(packed[at * size : at * size + size])))
            assert lookup(text) == wanted[at], text
