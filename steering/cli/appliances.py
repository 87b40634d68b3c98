"""Appliances at work: overrides, ejections, maintenance windows, the live view, alarms."""

from __future__ import annotations

import datetime
import re
import sys
import time
from typing import Any, Final

import click

from steering import console
from steering.cli.command import WHY, Answer, Commands, options, services, wants_json, who
from steering.errors import RequestError
from steering.settings import Settings

OVERRIDES: Final = console.table_of(
    "appliance",
    "enabled",
    "weight",
    ("weight set", "set"),
    ("health source", lambda row: row["health_source"] or "auto"),
)
WINDOWS: Final = console.table_of(
    *("id", "kind", "subject", "state"),
    *(("begins", console.time_of("begins_at")), ("ends", console.time_of("ends_at")), ("by", "who"), "why"),
    empty="no window is open or planned",
)


def show_overrides(report: dict[str, Any]) -> None:
    """Print overrides as they are now."""
    OVERRIDES(report["appliances"])


APPLIANCES = click.argument("appliances", metavar="APPLIANCE...", nargs=-1, required=True)


@click.command()
@APPLIANCES
@services
def drain(control: Any, appliances: tuple[str, ...]) -> Answer:
    """Send no new clients to appliances, from the next request on."""
    return control.overrides.drain(appliances, who()), show_overrides


@click.command()
@APPLIANCES
@services
def enable(control: Any, appliances: tuple[str, ...]) -> Answer:
    """Send clients to drained appliances again."""
    return control.overrides.enable(appliances, who()), show_overrides


@click.command()
@click.argument("appliance")
@click.argument("value", metavar="VALUE|auto")
@services
def weight(control: Any, appliance: str, value: str) -> Answer:
    """Set an appliance's weight, 0 to 65535; auto returns to the weight of its capacity (1 for each 100 Mbit/s)."""
    if value != "auto" and not (value.isascii() and value.isdigit()):
        raise RequestError.of_parameter("weight", value, "a number from 0 to 65535, or auto")
    number = None if value == "auto" else int(value)
    return control.overrides.weight([appliance], number, who()), show_overrides


@click.command("health-source")
@click.argument("source", type=click.Choice(["assumed", "reported", "auto"]))
@APPLIANCES
@services
def health_source(control: Any, source: str, appliances: tuple[str, ...]) -> Answer:
    """Choose where the health of appliances comes from.

    assumed: healthy, at capacity. reported: from its reports only; before the first report it gets no clients. auto: as
    the setting `health_source` says.
    """
    return control.overrides.set_health_source(appliances, "" if source == "auto" else source, who()), show_overrides


@click.command()
@click.option("--release", is_flag=True, help="Confirm that they are down: eject them all.")
@WHY
@services
def ejections(control: Any, release: bool, why: str) -> Answer:
    """Show appliances that seem down and still serve, because an ejection limit suppresses their ejection."""
    rows = control.ejections.list()
    released = control.ejections.release(who(), why)["released"] if release else []
    return {"suppressed": rows, "released": released}, show_ejections


def show_ejections(report: dict[str, Any]) -> None:
    """Print the suppressed ejections, and how many were released."""
    columns = ("appliance", ("since", console.time_of("since")), ("limit", "suppressed"), "why")
    console.table_of(*columns, empty="no ejection is suppressed")(report["suppressed"])
    if report["released"]:
        click.echo(f"{len(report['released'])} released: they get no new clients from the next tick on")


@click.group(cls=Commands)
def window() -> None:
    """Plan, list and cancel maintenance windows, which begin and end by themselves."""


@window.command("add")
@click.argument("kind", type=click.Choice(["appliance", "cluster", "site"]))
@click.argument("subject", metavar="ID")
@click.option("--from", "begins", metavar="TIME", help="The begin, as 2026-12-01T22:00 in local time (default: now).")
@click.option("--until", "ends", metavar="TIME", help="The end.")
@click.option("--for", "lasts", metavar="SPAN", help="Instead of --until: the duration, as 6h or 2d.")
@click.option("--why", required=True, help="The reason, for the audit log.")
@services
def add_window(
    control: Any, kind: str, subject: str, begins: str | None, ends: str | None, lasts: str | None, why: str
) -> Answer:
    """Plan maintenance of an appliance, a cluster or a site: 3 hours to 30 days, at most 93 days ahead."""
    if (ends is None) == (lasts is None):
        raise click.UsageError("give either --until or --for")
    begins_at = None if begins is None else moment("from", begins)
    if lasts is not None:
        begins_at = time.time() if begins_at is None else begins_at
        ends_at = begins_at + span("for", lasts)
    else:
        ends_at = moment("until", ends or "")
    return [control.maintenance.add(kind, subject, begins_at, ends_at, who(), why)], WINDOWS


@window.command("list")
@click.option("--ended", is_flag=True, help="Also windows that ended or were cancelled.")
@services
def list_windows(control: Any, ended: bool) -> Answer:
    """List the windows that are open or planned."""
    return control.maintenance.list(ended), WINDOWS


@window.command("cancel")
@click.argument("ids", metavar="ID...", type=click.IntRange(1), nargs=-1, required=True)
@WHY
@services
def cancel_window(control: Any, ids: tuple[int, ...], why: str) -> Answer:
    """Cancel planned windows, or end open ones early."""
    return [control.maintenance.cancel(number, who(), why) for number in ids], WINDOWS


def moment(name: str, text: str) -> float:
    """Return the seconds since 1970 of an ISO 8601 time; a time without a zone is local."""
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise RequestError.of_parameter(name, text, "a time as 2026-12-01T22:00 or 2026-12-01T22:00Z") from error


SPAN = re.compile(r"([0-9]{1,6})([hd])", re.ASCII)


def span(name: str, text: str) -> float:
    """Return the seconds of `6h` or `2d`."""
    match = SPAN.fullmatch(text)
    if not match:
        raise RequestError.of_parameter(name, text, "hours or days, as 6h or 2d")
    return int(match[1]) * (3600.0 if match[2] == "h" else 86_400.0)


@click.command()
@click.option("--once", is_flag=True, help="Print it once and exit.")
@click.option(
    "--every", type=click.FloatRange(0.5, 60), default=2.0, show_default=True, help="Seconds between updates."
)
@options
def top(settings: Settings, once: bool, every: float) -> Answer:
    """Show the fleet live: totals, alarms, the worst clusters, the last changes. `q` exits."""
    from steering.cli import top_screen
    from steering.control.remote import running_control

    with running_control(settings) as control:
        if wants_json() or once or not sys.stdout.isatty():
            output = console.output()
            return control.overview(), lambda report: output.print(top_screen.frame(report, output.width, 0))
        top_screen.watch(lambda: control.overview(top_screen.MOST_ROWS), every)
    return None


@click.command()
@click.option("--resolved", is_flag=True, help="Also alarms that ended lately.")
@options
def alarms(settings: Settings, resolved: bool) -> Answer:
    """List the raised alarms."""
    from steering.control.remote import running_control

    columns = (("since", console.time_of("at")), ("alarm", "kind"), "subject")
    state = ("", lambda row: "resolved" if row["resolved"] else "")
    with running_control(settings) as control:
        return control.alarms(resolved), console.table_of(*columns, state, "text", empty="no alarm is raised")
