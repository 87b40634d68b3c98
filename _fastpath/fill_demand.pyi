"""The public shape of `fill_demand.pyx`, which documents it: what viewers want of exchanges."""

from typing import Any

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
