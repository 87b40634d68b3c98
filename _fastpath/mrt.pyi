"""The public shape of `mrt.pyx`."""

from array import array

MAX_COMMUNITIES: int
MAX_PATH: int
ORIGINS: int
TABLE_DUMP_V2: int

Rows = tuple[array[int], array[int], array[int], array[int], array[int]]

def read(
    data: bytes,
) -> tuple[
    list[tuple[str, int]],
    dict[int, Rows],
    list[tuple[int, bytes]],
    list[tuple[int, str, str]],
    dict[str, int],
    int,
]:
    """Return (peers, columns, routes, refusals, refused_by, skipped) of an unpacked dump.

    Peers are (address, ASN), numbered over all the file's peer index tables. Columns are by family 4 and 6: arrays
    high, low (Q), length (B), value, row (I); `value` is an index into routes, `row` the offset of the record. Routes
    are the distinct (peer, attributes as bytes). Refusals are (offset, value, rule), the first 1,000; `refused_by`
    counts them by rule. `skipped` counts the records of other types, and of dumps that a later one replaces.
    ValueError if the file is cut off or no table dump.
    """

def attributes(packed: bytes) -> tuple[tuple[int, ...], bool, int, int, tuple[str, ...]]:
    """Return (AS path, has sets, origin, MED, communities) of a route's path attributes (RFC 4271, RFC 1997, RFC 8092).

    The path is ASNs, nearest first, without those of sets. A missing MED is 0, a missing origin INCOMPLETE.
    Communities are texts, large ones with three numbers. ValueError names the rule that the bytes break.
    """
