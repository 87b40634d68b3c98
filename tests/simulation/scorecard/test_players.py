"""What players do when their appliance fails, and when a manifest tells them another order."""

from __future__ import annotations

import numpy as np
import pytest

from _fastpath.audience import FALLBACK, NONE
from steering.decision.snapshot import Snapshot
from steering.playback.answers.players import compiled
from steering.simulation.scorecard.baselines import without
from steering.simulation.scorecard.conditions import Conditions
from steering.simulation.scorecard.demand import Demand, Titles
from steering.simulation.scorecard.players import AVOIDED_S, COUNTED_S, DECLARED, Picks, Players, Steering
from steering.simulation.scorecard.scenarios import BY_NAME, WARM_UP_S
from steering.simulation.scorecard.world import Ints, World

TTL_S = 30


class Told:
    """A policy that declares appliances 0, 1 and 2, and lists what a test tells it."""

    def __init__(self, polls: bool) -> None:
        self.polls = polls
        self.listed = [0, 1, 2, FALLBACK]
        self.again: list[int] = []  # the picks for who asks once more

    def start(self, seats: Ints, now: int) -> Picks:  # noqa: ARG002
        return np.tile(np.array([0, 1, 2, NONE], np.int32), (len(seats), 1))

    def start_again(self, seats: Ints, failed: Picks, now: int) -> Picks | None:  # noqa: ARG002
        again = [*self.again, *[NONE] * (DECLARED - len(self.again))]
        return without(np.tile(np.array(again, np.int32), (len(seats), 1)), failed) if self.again else None

    def poll(self, seats: Ints, players: Players) -> tuple[Picks, Ints] | None:  # noqa: ARG002
        listed = [*self.listed, *[NONE] * (DECLARED + 1 - len(self.listed))]
        order = np.tile(np.array(listed, np.int32), (len(seats), 1))
        return (order, np.full(len(seats), TTL_S)) if self.polls else None


def begin(world: World, titles: Titles, polls: bool) -> tuple[Players, Told, int]:
    """Return players of whom the first have begun, their policy, and the second in which they did."""
    demand = Demand(world, titles, BY_NAME["friday"], 2000, 1)
    conditions = Conditions(world, BY_NAME["friday"], 1)
    conditions.advance(0.0)
    policy = Told(polls)
    players = Players(demand, conditions, policy)
    now = -WARM_UP_S
    players.advance(now)
    while not (players.current >= 0).any():
        now += 1
        players.advance(now)
    return players, policy, now


def playing(players: Players) -> set[int]:
    return set(players.current[players.current != NONE].tolist())


def test_players_start_at_the_first_target_and_take_the_next_when_it_dies(world: World, titles: Titles) -> None:
    players, _, now = begin(world, titles, polls=False)
    assert playing(players) == {0}
    for dead, expected in ((0, {1}), (1, {2}), (2, {FALLBACK})):
        players.conditions.alive[dead] = False
        now += 1
        players.advance(now)
        assert playing(players) == expected
        assert len(players.failed) > 0
        assert len(players.moved) == 0
    players.conditions.alive[:] = True
    players.advance(now + 1)
    assert FALLBACK in playing(players)  # who stays where it is stays at the origin too


def test_players_over_ipv6_leave_what_is_down_over_ipv6(world: World, titles: Titles) -> None:
    players, _, now = begin(world, titles, polls=False)
    last = -WARM_UP_S + 100
    for second in range(now + 1, last):
        players.advance(second)
    players.conditions.ipv6[0] = False
    players.advance(last)
    for family, expected in ((4, {0}), (6, {1})):
        of_family = (players.family == family) & (players.current != NONE)
        assert set(players.current[of_family].tolist()) == expected


@pytest.mark.parametrize(
    ("listed", "expected"),
    [([2, 0, 1, FALLBACK], 2), ([FALLBACK], FALLBACK), ([FALLBACK, 0], FALLBACK), ([0, FALLBACK], 0)],
)
def test_a_player_follows_its_manifest_after_a_ttl(
    world: World, titles: Titles, listed: list[int], expected: int
) -> None:
    players, policy, now = begin(world, titles, polls=True)
    first = np.flatnonzero(players.current >= 0)
    players.demand.ends[first] = 10_000
    policy.listed = listed
    for second in range(now + 1, now + TTL_S):
        players.advance(second)
        assert len(players.moved) == 0
    players.advance(now + TTL_S)
    assert set(players.current[first].tolist()) == {expected}
    assert set(players.moved.tolist()) == (set(first.tolist()) if expected != 0 else set())


def test_a_player_avoids_what_failed_it_for_five_minutes(world: World, titles: Titles) -> None:
    players, _, now = begin(world, titles, polls=True)
    first = np.flatnonzero(players.current >= 0)
    players.demand.ends[first] = 10_000
    players.conditions.alive[0] = False
    players.advance(now + 1)
    assert set(players.current[first].tolist()) == {1}
    players.conditions.alive[0] = True
    returned = None
    for second in range(now + 2, now + AVOIDED_S + 2 * TTL_S):
        players.advance(second)
        if returned is None and 0 in players.current[first]:
            returned = second
    assert returned is not None
    assert AVOIDED_S <= returned - now - 1 <= AVOIDED_S + TTL_S


def test_every_player_is_counted_once_a_minute_where_it_plays(world: World, titles: Titles) -> None:
    players, _, now = begin(world, titles, polls=False)
    players.take_reports()
    players.demand.advance = lambda _: (np.zeros(0, np.int64), np.zeros(0, np.int64))  # type: ignore[method-assign]
    for second in range(now + 1, now + 1 + COUNTED_S):
        players.advance(second)
    attested, failing = players.take_reports()
    assert attested.tolist() == np.bincount(players.current[players.current >= 0], minlength=8).tolist()
    assert attested.sum() > 0
    assert not failing.any()
    assert not any(counts.any() for counts in players.take_reports())


def test_a_target_that_fails_a_player_is_reported_once(world: World, titles: Titles) -> None:
    players, _, now = begin(world, titles, polls=False)
    for second in range(now + 1, now + 30):
        players.advance(second)
    players.take_reports()
    playing = int((players.current == 0).sum())
    assert playing > 1
    players.conditions.alive[:2] = False
    players.advance(now + 30)
    begun = len(players.begun)
    attested, failing = players.take_reports()
    assert failing.tolist()[:3] == [playing + begun, playing + begun, 0], "0 as it dies, 1 as the next target"
    assert attested.tolist()[:2] == failing.tolist()[:2]


def test_a_player_with_nothing_left_asks_once_more_and_names_what_failed(world: World, titles: Titles) -> None:
    players, policy, now = begin(world, titles, polls=False)
    policy.again = [2, 1, 0, 5, 4]
    players.conditions.alive[[0, 1, 2]] = False
    players.advance(now + 1)
    assert playing(players) == {5}
    players.conditions.alive[[4, 5]] = False
    players.advance(now + 2)
    assert playing(players) == {FALLBACK}


def test_who_asks_again_gets_what_did_not_fail() -> None:
    picks = np.array([[1, 2, 3, 4, 5, 6], [1, 2, 3, NONE, NONE, NONE], [7, 8, 9, 1, 2, 3]], np.int32)
    failed = np.array([[1, 2, 3], [3, 2, 1], [9, NONE, NONE]], np.int32)
    assert without(picks, failed).tolist() == [[4, 5, 6, NONE], [NONE] * 4, [7, 8, 1, 2]]


def test_a_playlist_of_one_isps_appliances_declares_one_more_that_is_not(
    world: World, titles: Titles, snapshot: Snapshot
) -> None:
    demand, service = Demand(world, titles, BY_NAME["friday"], 2000, 1), snapshot.services["video"]
    zone = snapshot.prefixes.lookup("203.0.113.5")
    seats = np.flatnonzero(demand.groups.zone[demand.group] == zone)
    partners = world.partners()
    assert {name for name, partner in zip(world.appliances.ids, partners.tolist(), strict=True) if partner} == {
        *("c001-bom001", "c002-bom001", "c001-del001", "c002-del001")
    }
    steered = Steering(snapshot.picker, service, compiled(snapshot, 0.25)["video"], demand, partners).start(seats, 0)
    assert (partners[steered[:, :3]] > 0).all()
    assert (steered[:, 3] != NONE).all()
    assert (partners[steered[:, 3]] == 0).all()
    sticky = Steering(snapshot.picker, service, None, demand, partners).start(seats, 0)
    assert (sticky[:, 3] == NONE).all()
    assert (sticky[:, :3] == steered[:, :3]).all()
