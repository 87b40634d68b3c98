"""The control plane of a scorecard: the real registry with a virtual clock, and the reports of all appliances.

It reads what the real one reads: an appliance's own report every `report_s`, silence, maintenance windows, and the
workers' counts of answers, titles and attested players. It never reads what the scorecard knows besides.

An evening takes hours, the warm-up minutes. So that appliances do not overshoot in it as they never would, they also
report in the warm-up when what they deliver has changed by REPORTED of their capacity.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from steering.control.health.appliance_state import Maintenance
from steering.control.health.registry import Registry
from steering.control.health.rules import Health, Report
from steering.model.fleet import Fleet
from steering.settings import Settings
from steering.simulation.scorecard.conditions import Conditions
from steering.simulation.scorecard.demand import Titles
from steering.simulation.scorecard.players import PlayerCounts
from steering.simulation.scorecard.world import Floats, Ints, World
from steering.state.status import StatusFiles

BEGAN: Final = 1_700_000_000.0  # the clock's time at the end of the warm-up
VIEWERS_PER_GBPS: Final = 200
REPORTED: Final = 0.02
MOST_TITLES: Final = 512  # what workers count of the most requested titles


class ControlPlane:
    """Reports and ticks. `files` are the status files that the picks read."""

    def __init__(self, world: World, fleet: Fleet, files: StatusFiles, settings: Settings, seed: int) -> None:
        self.world = world
        self.now = 0.0
        self.registry = Registry(settings, clock=lambda: BEGAN + self.now)
        self.registry.take_fleet(fleet)
        self.use(files)
        self.report_s = round(settings.report_s)
        order = np.random.default_rng([seed, 6]).permutation(len(world.appliances.ids))
        self.turns = [order[turn :: self.report_s] for turn in range(self.report_s)]
        self.seq = 0
        self.reported: Floats = np.zeros(len(order))  # what each appliance delivered by its last report

    def use(self, files: StatusFiles) -> None:
        """Store the status words and the hot titles in these files from now on."""
        self.registry.files = files
        files.set_words(self.registry.status_words())
        files.set_hot(self.registry.balancer.fan_outs)

    def advance(self, now: int, load: Floats, conditions: Conditions) -> None:
        """Advance to a second, and take the reports that are due in it."""
        self.now = float(now)
        self.seq += 1
        due = self.turns[now % self.report_s]
        delivered = np.minimum(load, conditions.gbps)
        if now < 0:
            changed = np.abs(delivered - self.reported) > REPORTED * conditions.gbps
            due = np.union1d(due, np.flatnonzero(changed))
        due = due[conditions.alive[due]]
        self.reported[due] = delivered[due]
        for index in due.tolist():
            served = round(float(delivered[index]), 3)
            health = Health(
                throughput_gbps=served,
                headroom_gbps=max(round(float(conditions.claimed[index]) - served, 3), 0.0),
                connections=int(load[index] * VIEWERS_PER_GBPS),
                error_rate=0.0,
                disk_used=0.8,
                ipv6=bool(conditions.ipv6[index]),
            )
            self.registry.report(self.world.appliances.ids[index], Report("scorecard", self.seq, health=health))

    def tick(
        self, answers: Ints, asked: Ints, titles: Titles, in_maintenance: Ints, players: PlayerCounts | None = None
    ) -> None:
        """Tick: `answers` are the appliances that answers named first, `asked` the titles that were requested."""
        named = np.bincount(answers[answers >= 0], minlength=len(self.world.appliances.ids))
        windows = {
            self.world.appliances.ids[index]: Maintenance(BEGAN + 86_400.0, "scorecard")
            for index in in_maintenance.tolist()
        }
        self.registry.tick(
            self.by_slot(named),
            counts_of(asked, titles),
            attested=self.by_slot(players.attested) if players else None,
            failing=self.by_slot(players.failing) if players else None,
            maintenance=windows,
        )

    def by_slot(self, counts: Ints) -> dict[int, int]:
        """Return the counts of appliances that are not 0, by slot."""
        counted = np.flatnonzero(counts)
        return dict(zip(self.world.appliances.slot[counted].tolist(), counts[counted].tolist(), strict=True))


def counts_of(asked: Ints, titles: Titles) -> Mapping[int, int]:
    """Return how often the most requested titles were asked for, by content key."""
    counts = np.bincount(asked, minlength=titles.count + 1)
    most = np.argsort(-counts, kind="stable")[:MOST_TITLES]
    return {titles.content_keys[title]: int(counts[title]) for title in most.tolist() if counts[title] > 1}
