"""The order of a player's pathways, slow and obvious: the judge of `_fastpath/steering_manifest.pyx`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Seen:
    """A candidate of the whole ranking: the pathways that stand for it, and whether it holds this viewer back."""

    name: str
    rank: int
    reason: str = "-"
    pathways: tuple[str, ...] = ()
    draw: float = math.inf  # of a pick
    holds_back: bool = False


@dataclasses.dataclass(frozen=True)
class Standing:
    """How a pathway stands: at another network, or by the best appliance that it stands for."""

    appliance: Seen | None
    place: tuple[float, float]  # rank, and number among the picks

    @property
    def is_full(self) -> bool:
        return self.appliance is not None and self.appliance.reason == "H"


class Judge:
    """Orders the pathways of a service, `mapped` as (id, whether it is another network's); none names appliances."""

    def __init__(
        self, mapped: Sequence[tuple[str, bool]], seen: Sequence[Seen], picks: Sequence[Seen], most: int, gain: float
    ) -> None:
        self.mapped, self.seen, self.picks, self.most, self.gain = mapped, seen, picks, most, gain
        self.others = {name for name, is_other in mapped if is_other} if mapped else {"cdn"}

    def stands_for(self, name: str, one: Seen) -> bool:
        return name in one.pathways or name == one.name

    def standing(self, name: str) -> Standing | None:
        """Return how a pathway stands; None for one that cannot serve."""
        if name in self.others:
            return Standing(None, (math.inf, math.inf))
        mine = [pick for pick in self.picks if self.stands_for(name, pick)]
        if mine:
            best = min(mine, key=lambda pick: pick.rank)  # the first of the lowest rank
            return Standing(best, (best.rank, self.picks.index(best)))
        fit = [one for one in self.seen if self.stands_for(name, one) and one.reason in "-H"]
        if not fit:
            return None
        best = min(fit, key=lambda one: (one.rank, one.reason == "H"))
        return Standing(best, (best.rank, math.inf))

    def order(
        self, current: Sequence[str] = (), declared: Sequence[str] = (), failed: Sequence[str] = ()
    ) -> tuple[tuple[str, ...], str | None]:
        """Return the pathways, best first, and which of `current` the player keeps."""
        brought = {name: it for name in declared if name not in failed and (it := self.standing(name))}
        able = {name: it for name, it in brought.items() if it.appliance and not it.is_full}
        if self.mapped:
            listed = self.mapped_order()
        else:
            listed = [pick.name for pick in self.picks] + list(able) + ["cdn"]
            others = [] if self.picks else [*current, *declared]
            listed += sorted(others, key=lambda name: name in failed or self.standing(name) is None)
        best: Seen | None = self.picks[0] if self.picks else None
        if declared and not self.mapped:
            best = min(able.values(), key=lambda it: it.place).appliance if able else None
        kept = self.kept(best, [(name, it) for name in current if name not in failed and (it := self.standing(name))])
        names = [kept, *listed] if kept is not None else listed
        return tuple(sorted(dict.fromkeys(names), key=lambda name: name in failed)), kept

    def kept(self, best: Seen | None, used: Sequence[tuple[str, Standing]]) -> str | None:
        """Return the pathway that a player keeps, of those that it uses and that can serve or are only full."""
        if not used:
            return None
        name, it = min(used, key=lambda item: item[1].place)
        own = it.appliance
        if best is None or (own and (own.rank < best.rank or (own.rank == best.rank and it.is_full))):
            return name
        if own and own.rank == best.rank and own.draw <= best.draw * (1 + self.gain) and own.draw < math.inf:
            return name
        return name if best.holds_back else None

    def mapped_order(self) -> list[str]:
        """Return all pathways: by their best picks, then those that may still serve, then the others."""
        used = {name: it.place for name, _ in self.mapped if (it := self.by_pick(name))}
        others = [name for name, is_other in self.mapped if is_other]
        unused = [name for name, is_other in self.mapped if name not in used and not is_other]
        last = [*others, *unused] if len(self.picks) < self.most else [*unused, *others]
        return [*sorted(used, key=lambda name: used[name]), *last]

    def by_pick(self, name: str) -> Standing | None:
        mine = [pick for pick in self.picks if name in pick.pathways]
        if not mine:
            return None
        best = min(mine, key=lambda pick: pick.rank)
        return Standing(best, (best.rank, self.picks.index(best)))
