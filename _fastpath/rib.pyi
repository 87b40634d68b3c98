"""The public shape of `rib.pyx`: routes merged by prefix, checked, divided and validated."""

from array import array

from _fastpath.prefix_rows import Columns

def group_by_prefix(
    columns: Columns, sets: int
) -> tuple[Columns, list[tuple[int, ...]], tuple[list[tuple[int, int]], int]]:
    """Return (one row a prefix, combinations, (duplicates, their count)) of sorted columns with values below `sets`."""

def divide(columns: Columns, first: array[int], shares: array[int]) -> None:
    """Divide each value's rows, in their order, into contiguous runs of nearly one size, and number the runs, in place.

    A row whose value is v becomes `first[v] + k`, where k grows from 0 to `shares[v] - 1` along v's rows.
    """

def check_prefixes(columns: Columns, least: int, most: int, special: Columns) -> array[int]:
    """Return for each row (an array of B) 1 if its length is not from `least` to `most`, 2 if it lies inside a prefix
    of `special` (Columns of the same family), else 0.
    """

def validate_origins(
    columns: Columns, origins: array[int], payloads: Columns, asns: array[int], longest: array[int]
) -> array[int]:
    """Return the RPKI state of each row by route origin validation (RFC 6811): 0 not found, 1 valid, 2 invalid.

    Both columns are sorted. `origins` has each row's origin AS; a row with 0, unknown, is not validated. A payload's
    value is an index into `asns` and `longest` (arrays of I), the length up to which it allows its AS.
    """

def add_steps(values: array[int], steps: array[int], by: int) -> array[int]:
    """Return each value plus `by` times its step (an array of B), as an array of I."""
