"""The players in the seats: where each plays, and when it changes.

    sticky     an answer of `/v1/steer`: it plays from the first target that answers, and stays until that fails
    steered    a playlist with three appliances and `cdn`, and a steering manifest every TTL: it plays from the first
               pathway of the manifest that its playlist declares and that did not fail it in the last five minutes

A player whose appliance fails takes the next one of its last answer at once, whoever steers it. Where none of them is
left, a sticky player asks once more, and names what failed (`failed=`). An appliance that is full still serves: all who
play there get less.

Every player reports with a session tag, so its reports are attested: every 30 s how it plays, which counts once a
minute, and at once that a target failed it. Control reads the counts (`take_reports`).
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from _fastpath.audience import FALLBACK, NONE, Audience
from _fastpath.ranking import Picker
from _fastpath.service import Service
from _fastpath.steering_manifest import Manifest
from steering.decision.snapshot import Snapshot
from steering.playback.answers.players import compiled
from steering.simulation.scorecard.conditions import Conditions
from steering.simulation.scorecard.demand import Demand, Keys, schedule
from steering.simulation.scorecard.scenarios import LENGTH_S
from steering.simulation.scorecard.world import Flags, Floats, Ints, sums

ASKED: Final = 3  # targets of an answer
DECLARED: Final = 4  # a playlist declares as many, and an outsider (`answers.playlist`)
MANIFEST_PICKS: Final = 6  # a playlist declares the first of what a steering manifest lists (`answers.pathways.most`)
AVOIDED_S: Final = 300  # hls.js returns to a pathway that failed after five minutes
COUNTED_S: Final = 60  # workers count an attested viewer once in so many seconds, however often it reports
Picks = NDArray[np.int32]


class PlayerCounts(NamedTuple):
    """The attested viewers by appliance, and those of them that failed there."""

    attested: Ints
    failing: Ints


class Policy(Protocol):
    """How sessions are steered; the seats' columns are those of `demand`."""

    def start(self, seats: Ints, now: int) -> Picks:
        """Return a row of DECLARED appliances at most for each session that begins, best first, NONE behind them."""
        ...

    def start_again(self, seats: Ints, failed: Picks, now: int) -> Picks | None:
        """Return such rows for sessions that cannot play from what each has in its row of `failed`; None for players
        that keep the playlist they have."""
        ...

    def poll(self, seats: Ints, players: Players) -> tuple[Picks, Ints] | None:
        """Return the pathways for players that ask again, best first, and their next TTLs; None if none ever asks."""
        ...


class Steering:
    """The policy under test: compiled picks and steering manifests, over status words that control changes."""

    def __init__(
        self, picker: Picker, service: Service, manifest: Manifest | None, demand: Demand, partners: Ints
    ) -> None:
        self.picker, self.service, self.manifest, self.demand = picker, service, manifest, demand
        self.partner = np.append(partners, 0)  # by appliance, 0 for none and at NONE
        self.zones = demand.groups.zone.astype(np.uint32)
        # What workers counted since the last `take_counted`: the appliances that answers named first, and the titles.
        self.answered: list[Ints] = []
        self.asked: list[Ints] = []

    def use(self, snapshot: Snapshot, gain: float) -> None:
        """Answer from this snapshot from now on."""
        self.picker, self.service = snapshot.picker, snapshot.services[self.service.id]
        if self.manifest:
            self.manifest = compiled(snapshot, gain)[self.service.id]

    def audience(self, groups: Ints, titles: Ints, viewers: Keys) -> Audience:
        keys = self.demand.titles.keys[titles]
        return Audience(self.picker, self.zones[groups], keys, viewers, self.demand.groups.family[groups])

    def of_seats(self, seats: Ints) -> Audience:
        demand = self.demand
        return self.audience(demand.group[seats], demand.title[seats], demand.viewer[seats])

    def start_again(self, seats: Ints, failed: Picks, now: int) -> Picks | None:  # noqa: ARG002
        if self.manifest is not None:
            return None
        picks = np.full((len(seats), DECLARED), NONE, np.int32)
        self.of_seats(seats).pick(self.service, ASKED, picks, failed)
        return picks

    def start(self, seats: Ints, now: int) -> Picks:  # noqa: ARG002
        asked = MANIFEST_PICKS if self.manifest else ASKED
        picks = np.full((len(seats), asked), NONE, np.int32)
        self.of_seats(seats).pick(self.service, asked, picks)
        self.count(picks[:, 0], self.demand.title[seats])
        declared = np.full((len(seats), DECLARED), NONE, np.int32)
        declared[:, :ASKED] = picks[:, :ASKED]
        if self.manifest:
            self.add_outsiders(seats, declared)
        return declared

    def add_outsiders(self, seats: Ints, declared: Picks) -> None:
        """Declare one more where all are of one partner: one that is not, as `answers.playlist.outsider` does."""
        partners = self.partner[declared[:, :ASKED]]
        alone = (partners[:, 0] != 0) & (partners == partners[:, :1]).all(axis=1)
        rows = np.flatnonzero(alone)
        if len(rows):
            others = np.full((len(rows), 1), NONE, np.int32)
            self.of_seats(seats[rows]).pick(self.service, 1, others, declared[rows])
            outside = self.partner[others[:, 0]] != partners[rows, 0]
            declared[rows[outside], ASKED] = others[outside, 0]

    def poll(self, seats: Ints, players: Players) -> tuple[Picks, Ints] | None:
        if self.manifest is None:
            return None
        order = np.full((len(seats), DECLARED + 1), NONE, np.int32)
        ttls, first = np.zeros(len(seats), np.uint32), np.zeros(len(seats), np.int32)
        current, declared = players.current[seats], players.declared[seats]
        self.of_seats(seats).steer(self.manifest, current, declared, order, ttls, first)
        self.count(first, self.demand.title[seats])
        return order, ttls.astype(np.int64)

    def count(self, first: Picks, titles: Ints) -> None:
        self.answered.append(first.astype(np.int64))
        self.asked.append(titles)

    def count_requests(self, count: int, now: int) -> None:
        """Answer a sample of all sessions that begin, so that workers count as in a large service."""
        asked = self.demand.requests(count, float(now))
        picks = np.full((count, 1), NONE, np.int32)
        self.audience(*asked).pick(self.service, 1, picks)
        self.count(picks[:, 0], asked.title)

    def take_counted(self) -> tuple[Ints, Ints]:
        """Return the appliances that answers named first, NONE for none, and the titles that were asked for."""
        counted = np.concatenate(self.answered), np.concatenate(self.asked)
        self.answered, self.asked = [], []
        return counted


class Players:
    """Where each seat plays: `current` is an appliance, FALLBACK for the origin, NONE where the seat is empty."""

    def __init__(self, demand: Demand, conditions: Conditions, policy: Policy) -> None:
        self.demand, self.conditions, self.policy = demand, conditions, policy
        seats = len(demand.group)
        self.family: Ints = demand.groups.family[demand.group].astype(np.int64)
        self.current: Picks = np.full(seats, NONE, np.int32)
        self.declared: Picks = np.full((seats, DECLARED), NONE, np.int32)
        self.order: Picks = np.full((seats, DECLARED + 1), NONE, np.int32)
        self.avoided: Floats = np.full((seats, DECLARED), -np.inf)  # until when, by declared appliance
        self.next_poll: Ints = np.full(seats, -1, np.int64)
        self.polls: dict[int, list[Ints]] = defaultdict(list)
        self.counted = PlayerCounts(*np.zeros((2, len(conditions.gbps)), np.int64))  # since they were last taken
        # Of the last second:
        self.begun = self.moved = self.failed = np.zeros(0, np.int64)
        self.first = np.zeros(0, np.int64)  # the first targets of the sessions that began, NONE for none

    def advance(self, now: int) -> None:
        """Advance to a second: failures, sessions that end and begin, and polls."""
        self.fail_over(now)
        left, self.begun = self.demand.advance(now)
        self.current[left] = NONE
        self.begin(self.begun, now)
        self.moved = self.poll(now)
        reporting = self.current[now % COUNTED_S :: COUNTED_S]
        np.add.at(self.counted.attested, reporting[reporting >= 0], 1)

    def take_reports(self) -> PlayerCounts:
        """Return what workers counted of the players' reports since the last call."""
        taken, self.counted = self.counted, PlayerCounts(*np.zeros_like(self.counted))
        return taken

    def count_failures(self, appliances: Ints | Picks) -> None:
        """Count a failing viewer at each of these appliances."""
        np.add.at(self.counted.attested, appliances, 1)
        np.add.at(self.counted.failing, appliances, 1)

    def load(self) -> Floats:
        """Return what is demanded of each appliance, in Gbit/s."""
        playing = self.current >= 0
        return sums(self.current[playing], self.demand.gbps[playing], len(self.conditions.gbps))

    def fail_over(self, now: int) -> None:
        """Move players whose appliance does not answer any more to the next one of their last answer."""
        self.failed = np.flatnonzero(self.current >= 0)
        playing = self.current[self.failed].astype(np.int64)
        self.failed = self.failed[~self.conditions.usable(playing, self.family[self.failed])]
        if len(self.failed):
            self.count_failures(self.current[self.failed])
            self.current[self.failed] = self.choose(self.failed, now)
            self.begin_again(self.failed[self.current[self.failed] == FALLBACK], now)

    def begin_again(self, seats: Ints, now: int) -> None:
        """Let players ask once more that can play from none of their last answer."""
        picks = self.policy.start_again(seats, self.declared[seats], now) if len(seats) else None
        if picks is not None:
            self.declared[seats] = self.order[seats, :DECLARED] = picks
            self.avoided[seats] = -np.inf
            self.current[seats] = self.choose(seats, now)

    def begin(self, seats: Ints, now: int) -> None:
        """Begin the sessions of these seats."""
        if not len(seats):
            self.first = np.zeros(0, np.int64)
            return
        picks = self.policy.start(seats, now)
        self.first = picks[:, 0].astype(np.int64)
        self.declared[seats] = picks
        self.avoided[seats] = -np.inf
        self.order[seats, :DECLARED] = picks
        self.order[seats, DECLARED] = FALLBACK
        self.current[seats] = self.choose(seats, now)
        self.begin_again(seats[(self.current[seats] == FALLBACK) & (picks[:, 0] != NONE)], now)
        # The first poll, at once, repeats the playlist's order; the next one is a TTL later.
        if (answer := self.policy.poll(seats, self)) is not None:
            self.plan_polls(seats, now + answer[1])

    def poll(self, now: int) -> Ints:
        """Let players ask that are due; return those that left an appliance, or the origin, because of the answer."""
        due = self.polls.pop(now, [])
        seats = np.concatenate(due) if due else np.zeros(0, np.int64)
        seats = np.unique(seats[(self.next_poll[seats] == now) & (self.current[seats] != NONE)])
        if not len(seats) or (answer := self.policy.poll(seats, self)) is None:
            return np.zeros(0, np.int64)
        self.order[seats], ttls = answer
        before = self.current[seats]
        self.current[seats] = self.choose(seats, now)
        self.plan_polls(seats, now + ttls)
        moved: Ints = seats[before != self.current[seats]]
        return moved

    def plan_polls(self, seats: Ints, times: Ints) -> None:
        self.next_poll[seats] = times
        schedule(self.polls, times, seats, LENGTH_S)

    def choose(self, seats: Ints, now: int) -> Picks:
        """Return where these players play: the first of their order that answers and did not fail them lately."""
        chosen = np.full(len(seats), FALLBACK, np.int32)
        undecided = np.ones(len(seats), np.bool_)
        families = self.family[seats]
        for column in range(DECLARED + 1):
            candidate = self.order[seats, column]
            avoided = self.is_avoided(seats, candidate, now)
            usable = self.conditions.usable(candidate.astype(np.int64), families)
            failed = undecided & ~avoided & ~usable & (candidate >= 0)
            self.avoid(seats, candidate, failed, now)
            self.count_failures(candidate[failed & (candidate != self.current[seats])])  # that one is counted already
            takes = undecided & ((usable & ~avoided) | (candidate == FALLBACK))
            chosen[takes] = candidate[takes]
            undecided &= ~takes
        return chosen

    def is_avoided(self, seats: Ints, candidate: Picks, now: int) -> Flags:
        """Return whether a player avoids a candidate because it failed."""
        avoided: Flags = (self.declared[seats] == candidate[:, None]) & (self.avoided[seats] > now)
        return np.asarray(avoided.any(axis=1))

    def avoid(self, seats: Ints, candidate: Picks, failed: Flags, now: int) -> None:
        """Let players avoid candidates that failed."""
        rows = seats[failed]
        if len(rows):
            matches = self.declared[rows] == candidate[failed][:, None]
            until = self.avoided[rows]
            until[matches] = now + AVOIDED_S
            self.avoided[rows] = until
