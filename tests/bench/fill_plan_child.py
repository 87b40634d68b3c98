"""One full-size fill plan in a process of its own, so that its memory is the planner's: `python fill_plan_child.py STATE`.

100,000 titles, a list of plays for each country of the table and for `*`, the synthetic fleet of 19,000 appliances.
Makes a plan cold and then, with other plays, warm from the plan before. Prints the figures as JSON, seconds of CPU.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

from steering.control.fill.areas import WORLD
from steering.control.fill.network import Costs, Network, read_network
from steering.control.fill.plan import Planner, Wanted
from steering.control.remote import open_control
from steering.model.fleet import Fleet
from steering.settings import Settings
from steering.simulation.popularity import title_weights
from steering.state.current import read_current
from steering.state.plan import PlanFile, write_plan
from steering.state.routes import Routes
from steering.state.table import TableFile, read_zones

TITLES = 100_000
TASTE = 1.0  # sigma of an area
NIGHT = 0.05  # sigma of what a day changes in each title of each area
SEED = 20260617


def read(state: Path) -> tuple[Fleet, Network, list[str]]:
    """Return the fleet, the network and the areas of a published table."""
    current = read_current(state)
    assert current is not None
    with open_control(Settings(state=state)) as control:
        fleet = control.on_record.fleet
    table, routes = TableFile(state / current.table), Routes(state / current.routes)
    areas = sorted({zone.region[:2] for zone in read_zones(table) if zone.region} | {WORLD})
    return fleet, read_network(table, routes, fleet, set(areas), Costs()), areas


class Clock:
    """The seconds of CPU of each step of a plan."""

    def __init__(self) -> None:
        self.step, self.began = "", time.process_time()
        self.seconds: dict[str, float] = {}

    def __call__(self, step: str, _share: float) -> None:
        if step != self.step:
            now = time.process_time()
            self.seconds[self.step] = self.seconds.get(self.step, 0.0) + now - self.began
            self.step, self.began = step, now


def wanted_of(areas: list[str], rng: np.random.Generator) -> Wanted:
    """Return titles of random sizes, and each area's plays: popularity by rank times a taste of its own."""
    weights = title_weights(TITLES)
    rates = np.empty((len(areas), TITLES), np.float32)
    for row in range(len(areas)):
        tasted = weights * np.exp(TASTE * rng.standard_normal(TITLES))
        rates[row] = tasted / tasted.sum() * 10 ** rng.uniform(4, 6.5)
    sizes = 3.5e9 * np.exp(0.7 * rng.standard_normal(TITLES))
    keys = [("video", str(80_000_000 + index)) for index in range(TITLES)]
    return Wanted(keys, np.rint(sizes), [""] * TITLES, areas, rates)


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def main(state: Path) -> list[dict[str, float]]:
    """Make the two plans; return the figures of each."""
    fleet, network, areas = read(state)
    rng = np.random.default_rng(SEED)
    wanted = wanted_of(areas, rng)
    figures: list[dict[str, float]] = []
    before = None
    for version in (1, 2):
        start, base, clock = time.process_time(), peak_bytes(), Clock()
        made = Planner(network, fleet, wanted, before, clock).make(version, 0.0, 1, 0)
        clock("", 1.0)
        solved = sum(seconds for step, seconds in clock.seconds.items() if step != "clusters")
        write_plan(state, made.meta, made.builder, made.columns)
        whole = time.process_time() - start
        figures.append(
            {"plan_s": whole, "solve_s": solved, "gap": made.meta.gap, "rss": peak_bytes(), "base": base}
            | {f"step {step or 'set-up'}": round(seconds, 2) for step, seconds in clock.seconds.items()}
        )
        print(figures[-1], file=sys.stderr, flush=True)
        before = PlanFile(state / f"plan.{version}")
        for row in wanted.rates:
            row *= np.exp(NIGHT * rng.standard_normal(TITLES, np.float32))
    return figures


if __name__ == "__main__":
    json.dump(main(Path(sys.argv[1])), sys.stdout)
