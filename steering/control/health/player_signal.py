"""The player signal: an appliance that fails more viewers than its peers loses some weight.

An appliance may be broken for its viewers long before it notices: a bad disk, a bad link, a wrong file. Only attested
reports count: of viewers with a session tag that we signed (`playback/signing/tags.py`), each counted once a minute. A
report with a stall or an error is *failing*. An appliance is compared with the others of its cluster, which have the
same viewers and networks:

    its share of failing reports  -  theirs  >  MARGIN, and more than chance     it loses weight in proportion
    less, or too few reports of it or of them                                    it keeps or regains its weight

It loses at most `cap` of its weight, so it never goes out, and its viewers show when it has recovered. No more of a
cluster lose weight at once than the ejection limit allows, and one always keeps its whole weight. When all appliances
fail alike, none loses weight.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from steering.control.health.appliance_state import ApplianceState
from steering.control.health.ejection_limits import allowance
from steering.control.health.load_balancer import faded
from steering.settings import Settings

HALF_LIFE_S: Final = 60.0  # of the counts: reports are counted once a minute
FEWEST: Final = 20.0  # attested reports, faded, of an appliance and of its peers
MARGIN: Final = 0.1
SIGNIFICANT: Final = 4.0  # standard deviations
WORST_AT: Final = 0.5  # this much more than peers and chance is the worst case
RATE: Final = 0.02  # of a weight a second
LEAST_STEP: Final = 0.03  # a smaller step is not worth moving titles for


def losses(members: Sequence[ApplianceState]) -> dict[int, float]:
    """Return by slot, for each appliance that is worse than its peers, how much worse: above 0, at most 1."""
    attested = sum(member.attested for member in members)
    failing = sum(member.failing for member in members)
    result = {}
    for member in members:
        others = attested - member.attested
        if min(member.attested, others) < FEWEST:
            continue
        usual = (failing - member.failing + 1.0) / (others + 2.0)  # slightly above 0 where none fail
        chance = SIGNIFICANT * math.sqrt(usual * (1.0 - usual) * (1.0 / member.attested + 1.0 / others))
        excess = member.failing / member.attested - usual - max(MARGIN, chance)
        if excess > 0.0:
            result[member.appliance.slot] = min(excess / WORST_AT, 1.0)
    return result


def next_factors(members: Sequence[ApplianceState], cap: float, most: int, elapsed_s: float) -> dict[int, float]:
    """Return the next factor by slot, where it changes.

    At most `most` appliances lose weight at once, and fewer than all: first those that do already, then the worst.
    """
    lost = losses(members)
    losing = {member.appliance.slot for member in members if member.player_factor < 1.0}
    room = max(min(most, len(members) - 1) - len(losing), 0)
    losing.update(sorted(lost.keys() - losing, key=lambda slot: (-lost[slot], slot))[:room])
    result = {}
    for member in members:
        target = 1.0 - cap * lost.get(member.appliance.slot, 0.0) if member.appliance.slot in losing else 1.0
        step = RATE * elapsed_s
        if target == 1.0 or abs(target - member.player_factor) >= LEAST_STEP:
            factor = min(max(target, member.player_factor - step), member.player_factor + step)
            if factor != member.player_factor:
                result[member.appliance.slot] = factor
    return result


def update_factors(
    clusters: Mapping[str, Sequence[ApplianceState]],
    attested: Mapping[int, int],
    failing: Mapping[int, int],
    settings: Settings,
    elapsed_s: float,
) -> list[ApplianceState]:
    """Count attested and failing reports by slot, and move `player_factor`; return the states that changed."""
    changed = []
    fade = faded(1.0, elapsed_s, HALF_LIFE_S)
    for members in clusters.values():
        for state in members:
            state.attested = state.attested * fade + attested.get(state.appliance.slot, 0)
            state.failing = min(state.failing * fade + failing.get(state.appliance.slot, 0), state.attested)
        if all(state.player_factor == 1.0 and state.failing < 1.0 for state in members):
            continue
        most = allowance(settings.ejection_limit_cluster, len(members))
        factors = next_factors(members, settings.player_signal, most, elapsed_s)
        for state in members:
            if (factor := factors.get(state.appliance.slot)) is not None:
                state.player_factor = factor
                changed.append(state)
    return changed
