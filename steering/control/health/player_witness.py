"""The witness of the players: whether those who play from an appliance that control suspects fail there as well.

Silence, the checker and monitors share control's network: a broken path between control and an ISP looks to all of them
like an ISP whose appliances are down. Players are elsewhere. Where they fail too, the appliance is down, and the
ejection limits need not protect it (`ejection_limits.py`).

    counted     attested reports only, since the appliance's last sign of life: its own report, or a good observation
                by the checker or a monitor. So what players reported before it died does not count in its favour
    confirmed   at least FEWEST viewers are left of the faded counts, and NEARLY_ALL of them fail
    otherwise   no witness: the limits decide alone, as in a service without attested players

Players confirm and do nothing else. They eject no appliance that control does not suspect, so that a crowd with many
tags can only confirm. Nor do they keep one that is silent: the same crowd could hold a dead appliance in answers, and
of a silent one control does not know whether it is full.

Viewers of all appliances are counted at each tick, so that costs little: a sum. Counts fade for suspect ones alone.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Final

HALF_LIFE_S: Final = 60.0  # a viewer counts once a minute, and leaves a dead appliance with one failing report
# Viewers, faded. A network has four attested sessions, which count once in each minute of the clock: twice at its turn,
# so twelve at most. A household has two networks, one of each address family. So these are of three or more.
FEWEST: Final = 25.0
# Viewers report once a minute, and the last sign of life of a dead appliance is up to 10 s older than its death: of
# seven reports one may be from before it. Of a living one some percent fail, on a bad day.
NEARLY_ALL: Final = 0.8


@dataclasses.dataclass(slots=True, eq=False)
class ViewerCounts:
    """The attested viewers of one appliance and the failing ones, since control started and until its last sign."""

    attested: int = 0
    failing: int = 0
    sign_at: float = 0.0  # the time of its last sign of life, and the counts then
    attested_before: int = 0
    failing_before: int = 0

    def note_sign(self, now: float) -> None:
        """Note a sign of life."""
        self.sign_at, self.attested_before, self.failing_before = now, self.attested, self.failing


class PlayerWitness:
    """The viewers of one suspect appliance since its last sign of life; they fade."""

    def __init__(self, counts: ViewerCounts, now: float) -> None:
        self.counts = counts
        self.at = now
        self.taken = counts.attested, counts.failing
        # Before the suspicion only sums were kept. They fade as if they had grown evenly.
        age = (now - counts.sign_at) / HALF_LIFE_S * math.log(2)
        left = -math.expm1(-age) / age if age > 0 else 1.0
        self.attested = left * (counts.attested - counts.attested_before)
        self.failing = left * (counts.failing - counts.failing_before)

    def confirms(self, now: float) -> bool:
        """Take the new counts; return whether enough viewers report lately, and nearly all of them fail.

        A viewer that was counted before the sign of life, and fails after it, is among the failing alone.
        """
        attested, failing = self.counts.attested, self.counts.failing
        if self.attested or self.failing or (attested, failing) != self.taken:
            fade = math.exp2((self.at - now) / HALF_LIFE_S)
            self.attested = self.attested * fade + attested - self.taken[0]
            self.failing = self.failing * fade + failing - self.taken[1]
            self.taken = attested, failing
        self.at = now
        viewers = max(self.attested, self.failing)
        return viewers >= FEWEST and self.failing >= NEARLY_ALL * viewers
