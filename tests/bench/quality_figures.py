"""How near to the best possible steering is: the cost ratio of both kinds of players, beside greedy's.

The scenarios are those that have bars. Everything is simulated, so a busy machine makes it slow and changes no figure.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from steering.settings import Settings
from steering.simulation.drill import settings_of_drill
from steering.simulation.scorecard import run
from steering.simulation.scorecard.metrics import medians_of
from steering.simulation.scorecard.scenarios import BY_NAME
from tests.bench.measure import Report

APPLIANCES: Final = 2000
SCENARIOS: Final = (
    *("friday", "live_event", "isp_lost", "flapping", "mass_return", "sites_lost", "half_delivers", "misreports"),
    "overload",
)


def test_quality(report: Report, seeds: int, tmp_path: Path) -> None:
    """Medians over the seeds of the cost of both kinds of players, by the oracle's; the peer's is greedy's."""
    settings = settings_of_drill(Settings(), tmp_path / "state")
    fleet = run.publish(settings, APPLIANCES, print)
    scenarios = [BY_NAME[name] for name in SCENARIOS]
    plan = run.plan_of(settings, APPLIANCES, scenarios, (*run.KINDS, "greedy"), seeds)
    rows = medians_of(run.run_all(plan, fleet, len(os.sched_getaffinity(0)), lambda name, done: print(done, name)))
    ratios = {(row["scenario"], row["players"]): row["cost_ratio"] for row in rows}
    for scenario in SCENARIOS:
        for players in run.KINDS:
            greedy = ratios[scenario, "greedy"]
            report.add(f"quality_{scenario}_{players}", ratios[scenario, players], "x", "greedy", greedy)
