"""The public shape of `rib.pyx`. A prefix is a left-aligned 128-bit number (`high`, `low`) and a length."""

from array import array
from collections.abc import Container

EARTH_RADIUS_KM: float
KEY_NAMES: tuple[str, ...]

class Columns:
    """Prefix rows of one family, as arrays of one length: high, low (Q), length (B), value, row (I)."""

    high: array[int]
    low: array[int]
    length: array[int]
    value: array[int]
    row: array[int]
    def __init__(self, count: int = 0) -> None: ...
    def __len__(self) -> int: ...
    def extend(self, other: Columns) -> None:
        """Append another's rows."""

class Intervals:
    """Address space cut where the value changes: high, low (Q), value (I); the first begins at address 0."""

    high: array[int]
    low: array[int]
    value: array[int]
    def __init__(self, high: array[int], low: array[int], value: array[int]) -> None: ...
    def __len__(self) -> int: ...

class Pairs:
    """Distinct pairs of numbers, numbered in the order they are first seen."""

    left: array[int]
    right: array[int]
    def __len__(self) -> int: ...
    def intern(self, left: int, right: int) -> int:
        """Return the pair's number."""

class Chains:
    """Lists of covering prefixes' sets by number: `parent` is the chain of the shorter ones, `value` the longest's."""

    def __len__(self) -> int: ...
    @property
    def parent(self) -> array[int]: ...
    @property
    def value(self) -> array[int]: ...
    def values(self, chain: int) -> list[int]:
        """Return the chain's sets, the longest prefix's first."""

class Rankings:
    """Distinct rankings, and which one each (chain, region) has."""

    first: array[int]
    ranking_entries: array[int]
    ranking: array[int]
    partner: array[int]

def read(
    text: bytes, first_row: int = 1, start: int = 0
) -> tuple[dict[int, Columns], list[bytes], list[tuple[int, str, str]], dict[str, int]]:
    """Return ({4: Columns, 6: Columns}, tails, refusals, refused_by) of lines `prefix<space, tab or comma>tail`.

    The first line begins at byte `start`. Each row's value is the place of its tail among `tails`. Empty lines and
    lines that begin with `#` are passed over.
    Refusals are (row, text, rule), the first 1,000; `refused_by` counts them all by rule, up to its semicolon.
    """

def shared(columns: Columns) -> Columns:
    """Return other Columns over the same arrays."""

def sort(columns: Columns) -> Columns:
    """Return the columns ordered by (prefix, length, value, row); the same object where they are already."""

def relabelled(values: array[int], labels: array[int]) -> array[int]:
    """Return each value replaced by `labels[value]`."""

def keep(columns: Columns, wanted: array[int]) -> Columns:
    """Return the rows whose value is wanted: `wanted[value]` (an array of B) is not 0."""

def keep_rows(columns: Columns, chosen: array[int]) -> Columns:
    """Return the rows that are chosen: `chosen[row]` (an array of B) is not 0."""

def mark(columns: Columns, least: int, most: int, special: Columns) -> array[int]:
    """Return each row's mark (an array of B): 1 where its length is not from `least` to `most`, 2 inside a prefix of
    `special` (Columns of the same family), else 0.
    """

def count(columns: Columns, values: int) -> array[int]:
    """Return how many rows have each value below `values`."""

def extents(intervals: Intervals, family: int, values: int) -> array[float]:
    """Return how much address space has each value below `values`: IPv4 addresses, or IPv6 /48s."""

def compare(
    before: Columns, after: Columns, limit: int
) -> tuple[list[int], list[int], list[int], tuple[int, int, int, int, int]]:
    """Return (added, removed, changed, counts): prefixes only in `after`, only in `before`, and in both with other
    values. Columns are sorted by prefix and length; values of one prefix are a set. `low` may be empty where it is 0.

    The first three are places of a row of the first `limit` prefixes, in the Columns that has them; counts are of
    (before, after, added, removed, changed) prefixes.
    """

def pair_up(left: array[int], right: array[int], pairs: Pairs) -> array[int]:
    """Return the number of each pair of two arrays of one length, interned into `pairs`."""

def divide(columns: Columns, first: array[int], shares: array[int]) -> None:
    """Deal each value's rows in contiguous runs of their order, and number the runs from `first[value]`, in place."""

def group(columns: Columns, sets: int) -> tuple[Columns, list[tuple[int, ...]], tuple[list[tuple[int, int]], int]]:
    """Return (one row a prefix, combinations, (duplicates, their count)) of sorted columns with values below `sets`."""

def rows_with(columns: Columns, values: Container[int], limit: int = 1000) -> list[int]:
    """Return the places of the first rows whose value is among `values`."""

def sweep(columns: Columns, chains: Chains) -> Intervals:
    """Return the Intervals of sorted columns with one row a prefix; values are chains, interned into `chains`."""

def overlay(left: Intervals, right: Intervals, pairs: Pairs) -> Intervals:
    """Return the Intervals of two together; values are (left value, right value), interned into `pairs`."""

def rename(intervals: Intervals, labels: array[int]) -> Intervals:
    """Return the Intervals with each value replaced by `labels[value]`, equal neighbours joined."""

def rankings(
    wanted: Pairs,
    chains: Chains,
    set_first: array[int],
    set_members: array[int],
    routes: dict[str, array[int]],
    cluster_places: array[float],
    cluster_partners: array[int],
    region_places: array[float],
    fallback_first: array[int],
    fallback_clusters: array[int],
    policy: tuple[str, ...],
    step_km: float,
) -> Rankings:
    """Return the Rankings of every wanted (chain, region)."""

def validate(
    columns: Columns, origins: array[int], payloads: Columns, asns: array[int], longest: array[int]
) -> array[int]:
    """Return by row what route origin validation finds (RFC 6811, an array of B): 0 not found, 1 valid, 2 invalid.

    Both columns are sorted. A row's origin AS is in `origins`, 0 where it is not known, which is not validated; a
    payload's value is a place in `asns` and `longest`, the length up to which it allows its AS (arrays of I).
    """

def shifted(values: array[int], steps: array[int], by: int) -> array[int]:
    """Return an array of I with `by` times its step (an array of B) added to each value."""

def mixed(both: Intervals, pairs: Pairs, same: array[int], split: int, length: int, share: int) -> Intervals:
    """Return the Intervals of a canary: of each pair of values its left, or `split` + its right.

    The left where the pair is the same (an array of B by pair) or the block's hash is not below `share` of 2^32. Blocks
    have prefix length `length`, or a shorter one where an interval would have over 4,096.
    """
