"""The public shape of `intervals.pyx`: address space cut where a value changes."""

from array import array

from _fastpath.prefix_rows import Columns

class Intervals:
    """Address space cut where the value changes: high, low (Q), value (I); the first begins at address 0."""

    high: array[int]
    low: array[int]
    value: array[int]
    def __init__(self, high: array[int], low: array[int], value: array[int]) -> None: ...
    def __len__(self) -> int: ...

class Pairs:
    """Distinct pairs of numbers, numbered in order of first use."""

    left: array[int]
    right: array[int]
    def __len__(self) -> int: ...
    def intern(self, left: int, right: int) -> int:
        """Return the pair's number."""

class Chains:
    """Chains by number: `parent` is the chain of the shorter prefixes, `value` the longest's set. Chain 0 is empty."""

    def __len__(self) -> int: ...
    @property
    def parent(self) -> array[int]: ...
    @property
    def value(self) -> array[int]: ...
    def values(self, chain: int) -> list[int]:
        """Return the chain's sets, the longest prefix's first."""

def pair_up(left: array[int], right: array[int], pairs: Pairs) -> array[int]:
    """Return the number of each pair of two arrays of one length, added to `pairs`."""

def sweep(columns: Columns, chains: Chains) -> Intervals:
    """Return the Intervals of sorted columns with one row a prefix; their values are chains, added to `chains`."""

def overlay(left: Intervals, right: Intervals, pairs: Pairs) -> Intervals:
    """Return the Intervals of two overlaid; their values are numbers of (left value, right value), added to `pairs`."""

def relabel_intervals(intervals: Intervals, labels: array[int]) -> Intervals:
    """Return the Intervals with each value replaced by `labels[value]`, equal neighbours joined."""

def mix(both: Intervals, pairs: Pairs, same: array[int], split: int, length: int, share: int) -> Intervals:
    """Return the Intervals of a canary: each block of address space has its pair's left value, or `split` + its right.

    A block has the left value if `same[pair]` (an array of B) is not 0, or if the hash of its address, below 2^32, is
    not below `share`. Blocks have prefix length `length`, or a shorter one if an interval would have over 4,096.
    """

def measure(intervals: Intervals, family: int, values: int) -> array[float]:
    """Return how much address space has each value below `values`: IPv4 addresses, or IPv6 /48s."""
