"""Appliances at work: overrides, ejections, maintenance windows, the live view, alarms."""

from __future__ import annotations

import datetime
import re
import sys
import time
from typing import Any

import click

from steering import console
from steering.cli.command import Commands, open_services, options, who
from steering.errors import RequestError
from steering.settings import Settings


@click.command()
@click.argument("appliances", metavar="APPLIANCE...", nargs=-1, required=True)
@options
def drain(settings: Settings, as_json: bool, appliances: tuple[str, ...]) -> None:
    """Send no new clients to appliances, from the next request on."""
    with open_services(settings) as control:
        show_overrides(control.overrides.drain(appliances, who()), as_json)


@click.command()
@click.argument("appliances", metavar="APPLIANCE...", nargs=-1, required=True)
@options
def enable(settings: Settings, as_json: bool, appliances: tuple[str, ...]) -> None:
    """Send clients to drained appliances again."""
    with open_services(settings) as control:
        show_overrides(control.overrides.enable(appliances, who()), as_json)


@click.command()
@click.argument("appliance")
@click.argument("value", metavar="VALUE|auto")
@options
def weight(settings: Settings, as_json: bool, appliance: str, value: str) -> None:
    """Set an appliance's weight, 0 to 65535; auto returns to the weight of its capacity (1 for each 100 Mbit/s)."""
    if value != "auto" and not (value.isascii() and value.isdigit()):
        raise RequestError.of_parameter("weight", value, "a number from 0 to 65535, or auto")
    with open_services(settings) as control:
        show_overrides(control.overrides.weight([appliance], None if value == "auto" else int(value), who()), as_json)


@click.command("health-source")
@click.argument("source", type=click.Choice(["assumed", "reported", "auto"]))
@click.argument("appliances", metavar="APPLIANCE...", nargs=-1, required=True)
@options
def health_source(settings: Settings, as_json: bool, source: str, appliances: tuple[str, ...]) -> None:
    """Choose where the health of appliances comes from.

    assumed: healthy, at capacity. reported: from its reports only; before the first report it gets no clients. auto: as
    the setting `health_source` says.
    """
    with open_services(settings) as control:
        report = control.overrides.set_health_source(appliances, "" if source == "auto" else source, who())
    show_overrides(report, as_json)


@click.command()
@click.option("--release", is_flag=True, help="Confirm that they are down: eject them all.")
@click.option("--why", default="", help="The reason, for the audit log.")
@options
def ejections(settings: Settings, as_json: bool, release: bool, why: str) -> None:
    """Show appliances that seem down and still serve, because an ejection limit suppresses their ejection."""
    with open_services(settings) as control:
        rows = control.ejections.list()
        released = control.ejections.release(who(), why)["released"] if release else []
    if as_json:
        console.print_json({"suppressed": rows, "released": released})
        return
    console.print_table(
        ("appliance", "since", "why"),
        [(row["appliance"], console.time_text(row["since"]), row["why"]) for row in rows],
        title="suppressed ejections" if rows else "no ejection is suppressed",
    )
    if released:
        click.echo(f"{len(released)} released: they get no new clients from the next tick on")


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
@options
def add_window(
    settings: Settings,
    as_json: bool,
    kind: str,
    subject: str,
    begins: str | None,
    ends: str | None,
    lasts: str | None,
    why: str,
) -> None:
    """Plan maintenance of an appliance, a cluster or a site: 3 hours to 30 days, at most 93 days ahead."""
    if (ends is None) == (lasts is None):
        raise click.UsageError("give either --until or --for")
    begins_at = None if begins is None else moment("from", begins)
    if lasts is not None:
        begins_at = time.time() if begins_at is None else begins_at
        ends_at = begins_at + span("for", lasts)
    else:
        ends_at = moment("until", ends or "")
    with open_services(settings) as control:
        show_windows([control.maintenance.add(kind, subject, begins_at, ends_at, who(), why)], as_json)


@window.command("list")
@click.option("--ended", is_flag=True, help="Also windows that ended or were cancelled.")
@options
def list_windows(settings: Settings, as_json: bool, ended: bool) -> None:
    """List the windows that are open or planned."""
    with open_services(settings) as control:
        show_windows(control.maintenance.list(ended), as_json)


@window.command("cancel")
@click.argument("ids", metavar="ID...", type=click.IntRange(1), nargs=-1, required=True)
@click.option("--why", default="", help="The reason, for the audit log.")
@options
def cancel_window(settings: Settings, as_json: bool, ids: tuple[int, ...], why: str) -> None:
    """Cancel planned windows, or end open ones early."""
    with open_services(settings) as control:
        show_windows([control.maintenance.cancel(number, who(), why) for number in ids], as_json)


def show_windows(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Print maintenance windows."""
    if as_json:
        console.print_json(rows)
        return
    if not rows:
        click.echo("no window is open or planned")
        return
    console.print_table(
        ("id", "kind", "subject", "state", "begins", "ends", "by", "why"),
        [
            (
                row["id"],
                row["kind"],
                row["subject"],
                row["state"],
                console.time_text(row["begins_at"]),
                console.time_text(row["ends_at"]),
                row["who"],
                row["why"],
            )
            for row in rows
        ],
    )


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


def show_overrides(report: dict[str, Any], as_json: bool) -> None:
    """Print overrides as they are now."""
    if as_json:
        console.print_json(report)
        return
    console.print_table(
        ("appliance", "enabled", "weight", "weight set", "health source"),
        [
            (item["appliance"], item["enabled"], item["weight"], item["set"], item["health_source"] or "auto")
            for item in report["appliances"]
        ],
    )


@click.command()
@click.option("--once", is_flag=True, help="Print it once and exit.")
@click.option(
    "--every", type=click.FloatRange(0.5, 60), default=2.0, show_default=True, help="Seconds between updates."
)
@options
def top(settings: Settings, as_json: bool, once: bool, every: float) -> None:
    """Show the fleet live: totals, alarms, the worst clusters, the last changes. `q` exits."""
    from steering.cli import top_screen
    from steering.control.remote import running_control

    with running_control(settings) as control:
        if as_json:
            console.print_json(control.overview())
        elif once or not sys.stdout.isatty():
            console.output().print(top_screen.frame(control.overview(), console.output().width, 0))
        else:
            top_screen.watch(lambda: control.overview(top_screen.MOST_ROWS), every)


@click.command()
@click.option("--resolved", is_flag=True, help="Also alarms that ended lately.")
@options
def alarms(settings: Settings, as_json: bool, resolved: bool) -> None:
    """List the raised alarms."""
    from steering.control.remote import running_control

    with running_control(settings) as control:
        rows = control.alarms(resolved)
    if as_json:
        console.print_json(rows)
        return
    if not rows:
        click.echo("no alarm is raised")
        return
    console.print_table(
        ("since", "alarm", "subject", "", "text"),
        [
            (
                console.time_text(row["at"]),
                row["kind"],
                row["subject"],
                "resolved" if row["resolved"] else "",
                row["text"],
            )
            for row in rows
        ],
    )
