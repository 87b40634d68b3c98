"""The real registry, fed by simulated reports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from _fastpath.status_words import NO_HEADROOM, STALE
from steering.model.fleet import Fleet
from steering.settings import Settings
from steering.simulation.scorecard.conditions import Conditions
from steering.simulation.scorecard.control_plane import ControlPlane, counts_of
from steering.simulation.scorecard.demand import Titles
from steering.simulation.scorecard.players import PlayerCounts
from steering.simulation.scorecard.scenarios import BY_NAME
from steering.simulation.scorecard.world import World
from steering.state.status import StatusFiles, write_status

NOBODY = np.zeros(0, np.int64)


@pytest.fixture
def plane(world: World, fleet: Fleet, tmp_path: Path) -> ControlPlane:
    files = StatusFiles(tmp_path)
    files.use(write_status(tmp_path, 1, [0] * 8))
    return ControlPlane(world, fleet, files, Settings(), 1)


def word(plane: ControlPlane, index: int) -> int:
    """Return the status word that picks read of an appliance."""
    assert plane.registry.files
    return plane.registry.files.word(int(plane.world.appliances.slot[index]))


def conditions_of(world: World, name: str) -> Conditions:
    conditions = Conditions(world, BY_NAME[name], 1)
    conditions.advance(100.0)
    return conditions


def play(plane: ControlPlane, titles: Titles, load: np.ndarray, conditions: Conditions, seconds: int) -> None:
    for now in range(seconds):
        plane.advance(now, load, conditions)
        plane.tick(NOBODY, NOBODY, titles, conditions.in_maintenance)


def test_a_full_appliance_takes_no_new_clients(plane: ControlPlane, world: World, titles: Titles) -> None:
    load = np.full(8, 50.0)
    load[3] = 99.5
    play(plane, titles, load, conditions_of(world, "overload"), 11)
    assert [bool(word(plane, index) & NO_HEADROOM) for index in range(8)] == [index == 3 for index in range(8)]
    assert plane.registry.states[world.appliances.ids[3]].health.headroom_gbps == 0.5


def test_an_appliance_that_claims_too_much_never_reports_to_be_full(
    plane: ControlPlane, world: World, titles: Titles
) -> None:
    conditions = conditions_of(world, "half_delivers")
    conditions.gbps[3] = 50.0
    play(plane, titles, np.full(8, 120.0), conditions, 11)
    health = plane.registry.states[world.appliances.ids[3]].health
    assert (health.throughput_gbps, health.headroom_gbps) == (50.0, 50.0)
    assert not word(plane, 3) & NO_HEADROOM
    assert word(plane, 0) & NO_HEADROOM


def test_a_dead_appliance_is_silent_and_becomes_stale(plane: ControlPlane, world: World, titles: Titles) -> None:
    conditions = conditions_of(world, "overload")
    play(plane, titles, np.full(8, 50.0), conditions, 11)
    conditions.alive[3] = False
    for now in range(11, 60):
        plane.advance(now, np.full(8, 50.0), conditions)
        plane.tick(NOBODY, NOBODY, titles, NOBODY)
    assert [bool(word(plane, index) & STALE) for index in range(8)] == [index == 3 for index in range(8)]


@pytest.mark.parametrize("failing", [0, 5])
def test_dead_appliances_beyond_the_limits_go_when_their_players_fail(
    plane: ControlPlane, world: World, titles: Titles, failing: int
) -> None:
    conditions = conditions_of(world, "overload")
    play(plane, titles, np.full(8, 50.0), conditions, 11)
    dead = [2, 3, 4, 5]
    conditions.alive[dead] = False
    players = PlayerCounts(np.full(8, 5), np.where(conditions.alive, 0, failing))
    for now in range(11, 60):
        plane.advance(now, np.full(8, 50.0), conditions)
        plane.tick(NOBODY, NOBODY, titles, NOBODY, players)
    out = [index for index in range(8) if word(plane, index) & STALE]
    assert out == dead if failing else len(out) == 1


def test_in_the_warm_up_appliances_report_when_their_load_changes(plane: ControlPlane, world: World) -> None:
    conditions = conditions_of(world, "overload")
    for index, load in enumerate((1.9, 2.1, 4.0, 4.2)):
        plane.advance(-400 + 10 * index, np.full(8, load), conditions)
        own = plane.turns[0]
        others = [number for number in range(8) if number not in own]
        assert {plane.reported[number] for number in own} == {load}
        assert {plane.reported[number] for number in others} == {(0.0, 2.1, 2.1, 4.2)[index]}


def test_titles_are_counted_by_content_key(titles: Titles) -> None:
    counted = counts_of(np.array([5, 7, 5, 5, 9, 9]), titles)
    assert counted == {titles.content_keys[5]: 3, titles.content_keys[9]: 2}
