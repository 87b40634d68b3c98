"""The tiny fleet as the world of a scorecard: 8 appliances of 100 Gbit/s in four clusters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from steering.decision.snapshot import Snapshot
from steering.model.fleet import Fleet
from steering.settings import Settings
from steering.simulation.scorecard.demand import Titles
from steering.simulation.scorecard.run import Plan
from steering.simulation.scorecard.scenarios import BY_NAME
from steering.simulation.scorecard.world import World, read_world


@pytest.fixture
def world(snapshot: Snapshot, fleet: Fleet) -> World:
    return read_world(snapshot, fleet, 1)


@pytest.fixture
def titles(world: World) -> Titles:
    return Titles(len(world.groups.regions), "video", 1, 2000)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory, publish: Callable[..., Path]) -> Plan:
    """Return a plan of both kinds of players in the Friday peak."""
    state_folder = publish(tmp_path_factory.mktemp("plan") / "state")
    settings = Settings(state=state_folder)
    return Plan(state_folder, settings, (BY_NAME["friday"],), ("sticky", "steered"), (1,), sessions=800, requests=40)
