"""Traffic by prefix, from lines `prefix amount`: weighs moved clients by their traffic instead of their number.

An amount is spread evenly over its prefix's addresses, without those of longer prefixes in the file. Units do not
matter. Addresses that no prefix covers have no traffic.
"""

from __future__ import annotations

import dataclasses
import math
from array import array
from pathlib import Path

from _fastpath import prefix_rows
from _fastpath.intervals import Chains, Intervals, Pairs, measure, overlay, relabel_intervals, sweep
from steering.control.feed_files import read_text
from steering.errors import FeedError


@dataclasses.dataclass(frozen=True, slots=True)
class Traffic:
    """Intervals by family, whose values are indices into `amounts` and `extents`, the address space of each."""

    name: str
    intervals: dict[int, Intervals]
    amounts: list[float]
    extents: dict[int, array[float]]

    def weigh(self, both: Intervals, family: int, values: int) -> list[float]:
        """Return the traffic of each value below `values` of some intervals."""
        pairs = Pairs()
        cut = overlay(both, self.intervals[family], pairs)
        weights = [0.0] * values
        for number, extent in enumerate(measure(cut, family, len(pairs))):
            row = pairs.right[number]
            if row:
                weights[pairs.left[number]] += self.amounts[row] * extent / self.extents[family][row]
        return weights


def read_traffic(path: Path) -> Traffic:
    """Return a traffic file. Raises FeedError for its first wrong row: part of a file would mislead."""
    columns, tails, refusals, _ = prefix_rows.read(read_text(path)[0])
    if refusals:
        row, value, rule = refusals[0]
        raise FeedError(f"{path.name} row {row}: {value}: {rule}")
    amounts = [amount_of(path.name, tail) for tail in tails]
    rows = [0.0]
    intervals, extents = {}, {}
    for family in (4, 6):
        ordered = prefix_rows.sort(columns[family]).alias()
        first = len(rows)
        rows += [amounts[value] for value in ordered.value]
        ordered.value = array("I", range(first, len(rows)))
        chains = Chains()
        try:
            swept = sweep(ordered, chains)
        except ValueError as error:
            raise FeedError(f"{path.name}: a prefix is given twice: {error}") from None
        # A chain has its longest prefix's amount.
        longest = array("I", [0, *(chains.value[chain] for chain in range(1, len(chains)))])
        intervals[family] = relabel_intervals(swept, longest)
        extents[family] = measure(intervals[family], family, len(rows))
    return Traffic(path.name, intervals, rows, extents)


def amount_of(name: str, tail: bytes) -> float:
    try:
        amount = float(tail)
    except ValueError:
        amount = -1.0
    if not (amount >= 0 and math.isfinite(amount)):
        shown = tail[:40].decode("utf-8", "replace")
        raise FeedError(f"{name}: {shown!r}: an amount is a number, 0 or more")
    return amount
