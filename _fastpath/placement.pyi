"""The public shape of `placement.pyx`, which documents it: the clusters of one partner, and prices of disk."""

from collections.abc import Sequence
from typing import Any, Final

from _fastpath.title_list import TitleList

MOST_CLUSTERS: Final[int]
SHARES: Final[tuple[float, float]]

class SiteGroup:
    clusters: int
    volume: float
    most_elsewhere: float
    def __init__(
        self,
        viewers: Sequence[tuple[float, Sequence[float]]],
        disks: Any,
        own: Sequence[float],
        appliances: Sequence[int],
        most_elsewhere: float,
    ) -> None: ...
    def solve(self, titles: TitleList, prices: Sequence[float] | None, rounds: int) -> tuple[list[float], float]: ...
    def bound(self, titles: TitleList, prices: Sequence[float]) -> float: ...
    def assign(
        self,
        titles: TitleList,
        prices: Sequence[float],
        reserved: Any,
        held: Any,
        margin: float,
        sets: Any,
        copies: Any,
    ) -> float: ...
    def first_copies(self, titles: TitleList, sets: Any) -> tuple[float, list[float]]: ...
