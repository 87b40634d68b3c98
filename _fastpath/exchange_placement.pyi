"""The public shape of `exchange_placement.pyx`, which documents it: the clusters at exchanges."""

from collections.abc import Sequence
from typing import Any

class Exchanges:
    exchanges: int
    audiences: int
    def __init__(self, disks: Any, reach: Sequence[Sequence[int]]) -> None: ...
    def solve(
        self, demand: Any, sizes: Any, prices: Sequence[float] | None, rounds: int, weight: float
    ) -> list[float]: ...
    def start(self, prices: Sequence[float]) -> None: ...
    def assign(self, demand: Any, sizes: Any, prices: Sequence[float], copies: Any) -> float: ...
    def value(self, demand: Any, sizes: Any, copies: Any) -> float: ...
    def top_up(self, demand: Any, sizes: Any, share: float, prices: Sequence[float], copies: Any) -> float: ...
    def room_share(self) -> float: ...
    def plays(self, demand: Any, copies: Any, plays: Any) -> None: ...
    def prove(self, demand: Any, spare: Any, prices: Sequence[float], shares: Any, spare_shares: Any) -> None: ...

def read_demand(
    rates: Any,
    sets: Any,
    audiences: Any,
    areas: Any,
    groups: Any,
    volumes: Any,
    gain: float,
    demand: Any,
    spare: Any,
) -> None: ...
def read_worth(
    rates: Any,
    sets: Any,
    sizes: Any,
    audiences: Any,
    areas: Any,
    groups: Any,
    volumes: Any,
    wanted: Any,
    spare: Any,
    totals: Any,
    levels: Any,
    first: int,
) -> float: ...
