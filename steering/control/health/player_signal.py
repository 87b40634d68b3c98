"""What players say of appliances, as far as it may decide: who fails more viewers than its peers loses some weight.

An appliance may be broken for those who use it long before it notices itself: a bad disk, a bad link, a wrong file.
Voices are viewers with a session tag of ours (`playback/tags.py`), each counted once a minute; those with a stall or an
error are failing. An appliance is compared with the others of its cluster, who have the same viewers and networks:

    its share failing  -  theirs  >  MARGIN, and more than chance        it loses weight, by how much more
    as much, or too few voices of it or of them                          it keeps all, or gets it back

It loses at most `cap` of its weight, so it never goes out, and viewers go on to tell when it is well again. Of a
cluster no more lose weight at once than the ejection_limits radius allows, and one always keeps all. When all fail, nobody does.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Final

HALF_LIFE_S: Final = 60.0  # of voices: a minute is what they are counted in
FEWEST: Final = 20.0  # voices, faded, of an appliance and of its peers
MARGIN: Final = 0.1
SIGNIFICANT: Final = 4.0  # standard deviations
FULL_AT: Final = 0.5  # this much more than peers and chance is as bad as can be
RATE: Final = 0.02  # of a weight a second
LEAST_STEP: Final = 0.03  # a smaller one is not worth moving titles for


@dataclasses.dataclass(frozen=True, slots=True)
class Told:
    """What is told of an appliance: faded counts of voices and of those failing; what it keeps of its weight."""

    slot: int
    voices: float
    failing: float
    kept: float = 1.0


def losses(members: Sequence[Told]) -> dict[int, float]:
    """Return by slot how much worse than its peers each is that is worse, from above 0 to 1."""
    voices = sum(member.voices for member in members)
    failing = sum(member.failing for member in members)
    found = {}
    for member in members:
        others = voices - member.voices
        if min(member.voices, others) < FEWEST:
            continue
        usual = (failing - member.failing + 1.0) / (others + 2.0)  # a little more than none, where none fail
        chance = SIGNIFICANT * math.sqrt(usual * (1.0 - usual) * (1.0 / member.voices + 1.0 / others))
        off = member.failing / member.voices - usual - max(MARGIN, chance)
        if off > 0.0:
            found[member.slot] = min(off / FULL_AT, 1.0)
    return found


def kept(members: Sequence[Told], cap: float, most: int, elapsed_s: float) -> dict[int, float]:
    """Return by slot the share of its weight that each keeps from now on, where that changes.

    At most so many lose any at once, and fewer than all: who does already, then the worst.
    """
    lost = losses(members)
    losing = {member.slot for member in members if member.kept < 1.0}
    room = max(min(most, len(members) - 1) - len(losing), 0)
    losing.update(sorted(lost.keys() - losing, key=lambda slot: (-lost[slot], slot))[:room])
    found = {}
    for member in members:
        aim = 1.0 - cap * lost.get(member.slot, 0.0) if member.slot in losing else 1.0
        step = RATE * elapsed_s
        if aim == 1.0 or abs(aim - member.kept) >= LEAST_STEP:
            moved = min(max(aim, member.kept - step), member.kept + step)
            if moved != member.kept:
                found[member.slot] = moved
    return found
