"""The program itself: serve, bench, drill, settings, version."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from steering import console
from steering.cli.command import FAILED, Answer, fail, options, print_report, progress_shown, who
from steering.errors import SettingsError, SteeringError
from steering.escape import log_to_stderr
from steering.settings import Settings, meanings, read_settings


@click.command()
@click.option(
    "--listen",
    help="The playback listeners, comma-separated (default: 127.0.0.1:8080); unix:/path is a Unix socket,"
    " tls:0.0.0.0:443 speaks TLS.",
)
@click.option("--workers", type=int, help="Playback worker processes (default: 2).")
@click.option("--appliances", type=click.IntRange(1), help="The size of the synthetic fleet for an empty state folder.")
@click.option("--no-synth", is_flag=True, help="Refuse to serve unless a fleet was imported.")
@click.option("--state", type=click.Path(path_type=Path), help="The state folder (default: the setting `state`).")
@click.option("--verbose", is_flag=True, help="Log every swap of tables, not only problems.")
def serve(
    listen: str | None,
    workers: int | None,
    appliances: int | None,
    no_synth: bool,
    state: Path | None,
    verbose: bool,
) -> None:
    """Serve: one control process, and the playback workers.

    An empty state folder gets a synthetic fleet over real networks, and the shipped table of the whole Internet.
    SIGTERM finishes the requests in flight and exits; SIGHUP reads the feeds again.
    """
    level = logging.INFO if verbose else logging.WARNING
    log_to_stderr(level, "%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    from steering.supervisor.serve import serve as serve_all

    try:
        settings = read_settings(state=state, listen=listen, workers=workers)
        write_line = functools.partial(print, flush=True)
        serve_all(settings, who(), console.show_progress, appliances, not no_synth, write_line)
    except SteeringError as error:
        fail(error, as_json=False)


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", metavar="[PYTEST ARGUMENTS]", nargs=-1, type=click.UNPROCESSED)
def bench(arguments: tuple[str, ...]) -> None:
    """Measure against other programs, and write bench.json. Needs the source tree and the tools of `make setup`."""
    folder = Path(__file__).parents[2] / "tests" / "bench"
    figures = [folder / f"{name}figures.py" for name in ("", "fleet_", "report_", "fill_", "http_")]
    try:
        import pytest
    except ImportError:
        fail(SettingsError("the tools for measuring are not installed", hint="make setup"), as_json=False)
    if not folder.exists():
        fail(SettingsError(f"{folder}: does not exist", hint="run it from a clone of the repository"), as_json=False)
    sys.exit(pytest.main([*map(str, figures), "-p", "no:cacheprovider", "--timeout=0", *arguments]))


@click.command()
@click.option(
    "--appliances",
    type=click.IntRange(100, 1_000_000),
    default=19_000,
    show_default=True,
    help="The number of appliances.",
)
@click.option(
    "--minutes", type=click.FloatRange(0.1, 1440), default=10.0, show_default=True, help="The length of the drill."
)
@click.option(
    "--requests-per-s",
    type=click.FloatRange(1, 100_000),
    default=1000.0,
    show_default=True,
    help="Requests a second of all clients.",
)
@click.option("--only", multiple=True, metavar="FAULT", help="Only this fault; may be repeated.")
@click.option("--workers", type=click.IntRange(1, 256), default=2, show_default=True, help="Playback workers.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
def drill(
    appliances: int, minutes: float, requests_per_s: float, only: tuple[str, ...], workers: int, as_json: bool
) -> None:
    """Serve a simulated fleet in a temporary folder, cause faults, and show what becomes of the answers.

    The fleet reports, clients request, and one fault follows another, with the settings of health and load in force.
    Exit status 1 when a promise was broken.
    """
    from steering.simulation import drill as drilling
    from steering.simulation import show
    from steering.simulation.faults import FAULTS

    known = {fault.name: fault for fault in FAULTS}
    if unknown := [name for name in only if name not in known]:
        raise click.UsageError(f"{unknown[0]!r} is none of the faults: {', '.join(known)}")
    faults = [fault for name, fault in known.items() if not only or name in only]
    try:
        settings = read_settings()
        plan = drilling.plan_of(settings, minutes, requests_per_s, faults)
        telling = contextlib.nullcontext(show.show_nothing) if as_json else show.show_play(60 * minutes)
        with tempfile.TemporaryDirectory(prefix="steering-drill-") as folder:
            settings = drilling.settings_of_drill(settings, Path(folder) / "state")
            with progress_shown() as progress:
                ready = drilling.prepare(settings, appliances, progress)
            with telling as tell:
                rows, figures = drilling.run(settings, ready, plan, faults, tell, workers)
    except SteeringError as error:
        fail(error, as_json)
    wrong = any(row.wrong for row in rows) or figures.reports_failed > 0
    faults_played = [dataclasses.asdict(row) for row in rows]
    report = {"ok": not wrong, "faults": faults_played, "figures": dataclasses.asdict(figures)}

    def show_drill(_: dict[str, Any]) -> None:
        show.show_rows(rows)
        show.show_figures(figures, rows)

    print_report(report, show_drill)
    if wrong:
        sys.exit(FAILED)


@click.command("settings")
@options
def show_settings(settings: Settings) -> Answer:
    """List every setting with its value in force."""
    meaning = meanings()

    def show(values: dict[str, Any]) -> None:
        rows = [(name, console.shown(values[name]), f"STEERING_{name.upper()}", meaning[name]) for name in values]
        console.print_table(("setting", "value in force", "environment", "meaning"), rows)

    return settings.model_dump(mode="json"), show


@click.command("version")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
def show_version(as_json: bool) -> None:  # noqa: ARG001 (`print_report` looks at it)
    """Print the version of the program, and the format versions of its state files."""
    from steering.state.sections import FORMATS

    formats = ", ".join(f"{kind} {number}" for kind, number in FORMATS.items())
    report = {"steering": version("steering"), "formats": FORMATS}
    print_report(report, lambda _: click.echo(f"steering {version('steering')} (state formats: {formats})"))
