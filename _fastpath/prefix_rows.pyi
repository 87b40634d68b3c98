"""The public shape of `prefix_rows.pyx`. A prefix is a left-aligned 128-bit number (`high`, `low`) and a length."""

from array import array
from collections.abc import Container

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
    def alias(self) -> Columns:
        """Return other Columns over the same arrays, so that one column can be replaced."""

def read(
    text: bytes, first_row: int = 1, start: int = 0
) -> tuple[dict[int, Columns], list[bytes], list[tuple[int, str, str]], dict[str, int]]:
    """Return ({4: Columns, 6: Columns}, tails, refusals, refused_by) of lines `prefix<space, tab or comma>tail`.

    The first line begins at byte `start`. Each row's value is the index of its tail in `tails`. Empty lines and
    lines that begin with `#` are skipped.
    Refusals are (row, text, rule), the first 1,000; `refused_by` counts them all by rule, without the part of the rule
    after a semicolon.
    """

def sort(columns: Columns) -> Columns:
    """Return the columns ordered by (prefix, length, value, row); the same object if they are ordered already."""

def relabel(values: array[int], labels: array[int]) -> array[int]:
    """Return each value replaced by `labels[value]`."""

def keep_values(columns: Columns, wanted: array[int]) -> Columns:
    """Return the rows whose value is wanted: `wanted[value]` (an array of B) is not 0."""

def keep_rows(columns: Columns, chosen: array[int]) -> Columns:
    """Return the rows that are chosen: `chosen[index]` (an array of B) is not 0."""

def count_values(columns: Columns, values: int) -> array[int]:
    """Return how many rows have each value below `values`."""

def rows_with_values(columns: Columns, values: Container[int], limit: int = 1000) -> list[int]:
    """Return the indices of the first rows whose value is in the container `values`."""
