"""The public shape of `prefix_diff.pyx`: the prefixes that differ between two tables."""

from _fastpath.prefix_rows import Columns

def compare(
    before: Columns, after: Columns, limit: int
) -> tuple[list[int], list[int], list[int], tuple[int, int, int, int, int]]:
    """Return (added, removed, changed, counts): prefixes only in `after`, only in `before`, and in both with other
    values. Columns are sorted by prefix and length. `low` may be empty if it is always 0.

    The first three are lists of row indices, one for each of the first `limit` prefixes: rows of `after` for added and
    changed, of `before` for removed. Counts are of (before, after, added, removed, changed) prefixes.
    """
