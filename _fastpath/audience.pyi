"""The public shape of `audience.pyx`."""

from typing import Any

from _fastpath.ranking import Picker
from _fastpath.service import Service
from _fastpath.steering_manifest import Manifest

Column = Any  # a buffer of numbers; to type checkers numpy's arrays are none before Python 3.12

NONE: int
FALLBACK: int
MAX_DECLARED: int

class Audience:
    """Simulated viewers that ask in one step: columns of zones (I), keys of titles and viewers (Q), families (B).

    Raises ValueError for columns of different lengths, an unknown zone, or a family other than 4 and 6.
    """

    count: int
    def __init__(self, picker: Picker, zones: Column, titles: Column, viewers: Column, families: Column) -> None: ...
    def pick(self, service: Service, n: int, picks: Column, failed: Column | None = None) -> None:
        """Fill each viewer's row of `picks` (i) with up to n appliances, best first, and NONE behind them.

        `failed` (i) are what the players name as failed, a row each, NONE behind them.
        """

    def steer(
        self, manifest: Manifest, current: Column, declared: Column, order: Column, ttls: Column, first: Column
    ) -> None:
        """Answer a poll of each player, with the bytes that the fast path would answer with.

        `current` (i) is the appliance that a player uses or FALLBACK, `declared` (i, a row each) are the appliances of
        its playlist, NONE behind them. Filled are `order` (i, one longer), the declared ones and FALLBACK as the
        steering manifest lists them, NONE behind them; `ttls` (I); and `first` (i), the appliance that workers count
        the answer for, or NONE. Raises ValueError for an appliance that does not exist.
        """
