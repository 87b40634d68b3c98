"""The command `steering scorecard`."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from steering import console
from steering.cli.command import fail, print_report, progress_shown
from steering.errors import SettingsError, SteeringError
from steering.settings import read_settings

MOST_APPLIANCES = 100_000


@click.command()
@click.option("--scenario", "names", multiple=True, metavar="NAME", help="Only this scenario; may be repeated.")
@click.option(
    "--players",
    "policies",
    multiple=True,
    metavar="KIND",
    help="sticky, steered, or a baseline: greedy, ranking, geographic, random; may be repeated (default: the first two"
    " and greedy).",
)
@click.option("--seeds", type=click.IntRange(1, 100), default=1, show_default=True, help="How many seeds, from 1 on.")
@click.option(
    "--appliances",
    type=click.IntRange(100, MOST_APPLIANCES),
    default=2000,
    show_default=True,
    help="The number of appliances.",
)
@click.option("--sessions", type=click.IntRange(100, 10_000_000), help="Simulated sessions (default: by appliances).")
@click.option("--processes", type=click.IntRange(1, 256), help="Processes (default: one a core).")
@click.option("--page", type=click.Path(dir_okay=False, path_type=Path), help="Write an HTML page with plots as well.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
def scorecard(
    names: tuple[str, ...],
    policies: tuple[str, ...],
    seeds: int,
    appliances: int,
    sessions: int | None,
    processes: int | None,
    page: Path | None,
    as_json: bool,
) -> None:
    """Measure how near to the best possible steering is, in simulated scenarios.

    The picks, the manifests and the health rules are the real ones, with the settings of health and load in force; the
    clock, the appliances and the viewers are simulated. The same arguments give the same bytes.
    """
    try:
        from steering.simulation.drill import settings_of_drill
        from steering.simulation.scorecard import run, show
        from steering.simulation.scorecard.page import page_of
        from steering.simulation.scorecard.scenarios import BY_NAME, SCENARIOS
    except ImportError as error:
        hint = "pip install 'steering[scorecard]'"
        fail(SettingsError(f"the scorecard needs {error.name}, which is not installed", hint=hint), as_json)
    if unknown := [name for name in names if name not in BY_NAME]:
        raise click.UsageError(f"{unknown[0]!r} is none of the scenarios: {', '.join(BY_NAME)}")
    known = (*run.KINDS, *run.BASELINES)
    if unknown := [policy for policy in policies if policy not in known]:
        raise click.UsageError(f"{unknown[0]!r} is no kind of players and no baseline: {', '.join(known)}")
    scenarios = tuple(scenario for scenario in SCENARIOS if not names or scenario.name in names)
    chosen = tuple(policy for policy in known if policy in (policies or (*run.KINDS, "greedy")))
    try:
        with tempfile.TemporaryDirectory(prefix="steering-scorecard-") as folder:
            settings = settings_of_drill(read_settings(), Path(folder) / "state")
            with progress_shown() as progress:
                fleet = run.publish(settings, appliances, progress)
            plan = run.plan_of(settings, appliances, scenarios, chosen, seeds)
            if sessions:
                plan = dataclasses.replace(plan, sessions=sessions)
            parts = len(scenarios) * (len(chosen) + 1) * seeds
            showing = contextlib.nullcontext(show.show_nothing) if as_json else show.show_parts(parts)
            with showing as tell:
                rows = run.run_all(plan, fleet, processes or len(os.sched_getaffinity(0)), tell)
    except SteeringError as error:
        fail(error, as_json)
    report: dict[str, Any] = run.report_of(plan, appliances, rows)
    if page:
        try:
            page.write_text(page_of(report))
        except OSError as error:
            fail(SettingsError(f"--page {page}: {error.strerror}"), as_json)
    print_report(report, show.show_scorecard)
    if page and sys.stderr.isatty():
        console.print_done(f"wrote {page}")
