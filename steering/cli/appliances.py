"""Appliances at work: overrides, maintenance, and what is seen of them."""

from __future__ import annotations

import datetime
import re
import sys
import time
from typing import Any

import click

from steering import console
from steering.cli.command import Commands, options, who, writing
from steering.errors import RequestError
from steering.settings import Settings


@click.command()
@click.argument("appliances", metavar="APPLIANCE...", nargs=-1, required=True)
@options
def drain(settings: Settings, as_json: bool, appliances: tuple[str, ...]) -> None:
    """Let appliances take no new clients, from the next request on."""
    with writing(settings) as control:
        show_overrides(control.overrides.drain(appliances, who()), as_json)


@click.command()
@click.argument("appliances", metavar="APPLIANCE...", nargs=-1, required=True)
@options
def enable(settings: Settings, as_json: bool, appliances: tuple[str, ...]) -> None:
    """Let drained appliances serve again."""
    with writing(settings) as control:
        show_overrides(control.overrides.enable(appliances, who()), as_json)


@click.command()
@click.argument("appliance")
@click.argument("value", metavar="VALUE|auto")
@options
def weight(settings: Settings, as_json: bool, appliance: str, value: str) -> None:
    """Set an appliance's weight, 0 to 65535; auto goes back to its capacity's (one for each 100 Mbit/s)."""
    if value != "auto" and not (value.isascii() and value.isdigit()):
        raise RequestError.of_parameter("weight", value, "a number from 0 to 65535, or auto")
    with writing(settings) as control:
        show_overrides(control.overrides.weight([appliance], None if value == "auto" else int(value), who()), as_json)


@click.command()
@click.argument("health_source", type=click.Choice(["assumed", "reported", "auto"]))
@click.argument("appliances", metavar="APPLIANCE...", nargs=-1, required=True)
@options
def set_health_source(settings: Settings, as_json: bool, health_source: str, appliances: tuple[str, ...]) -> None:
    """HealthSourceRequest appliances at their capacity (assumed), by their reports alone (reported), or as the setting says (auto).

    One that is reported and was never heard of takes no clients.
    """
    with writing(settings) as control:
        show_overrides(
            control.overrides.set_health_source(appliances, "" if health_source == "auto" else health_source, who()),
            as_json,
        )


@click.command()
@click.option("--release", is_flag=True, help="They are down: let them take no clients.")
@click.option("--why", default="", help="Why, for the record.")
@options
def held(settings: Settings, as_json: bool, release: bool, why: str) -> None:
    """Show appliances that seem down and serve on, because more are than silence or a monitor may take out at once."""
    with writing(settings) as control:
        rows = control.ejections.list()
        released = control.ejections.release(who(), why)["released"] if release else []
    if as_json:
        console.print_json({"held": rows, "released": released})
        return
    console.print_table(
        ("appliance", "since", "why"),
        [(row["appliance"], console.time_text(row["since"]), row["why"]) for row in rows],
        title="held" if rows else "none is held",
    )
    if released:
        click.echo(f"{len(released)} released: they take no new clients from the next tick on")


@click.group(cls=Commands)
def window() -> None:
    """Plan, list and cancel maintenance windows; they begin and end by themselves."""


@window.command("add")
@click.argument("kind", type=click.Choice(["appliance", "cluster", "site"]))
@click.argument("subject", metavar="ID")
@click.option("--from", "begins", metavar="TIME", help="When, as 2026-12-01T22:00, in local time (default: now).")
@click.option("--until", "ends", metavar="TIME", help="Until when.")
@click.option("--for", "lasts", metavar="SPAN", help="Instead of --until: for how long, as 6h or 2d.")
@click.option("--why", required=True, help="Why, for the record.")
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
    """Take an appliance, a cluster or a site out for maintenance: 3 hours to 30 days, at most 93 days ahead."""
    if (ends is None) == (lasts is None):
        raise click.UsageError("either --until or --for")
    begins_at = None if begins is None else moment("from", begins)
    if lasts is not None:
        begins_at = time.time() if begins_at is None else begins_at
        ends_at = begins_at + span("for", lasts)
    else:
        ends_at = moment("until", ends or "")
    with writing(settings) as control:
        show_windows([control.maintenance.add(kind, subject, begins_at, ends_at, who(), why)], as_json)


@window.command("list")
@click.option("--ended", is_flag=True, help="Also those that are over or cancelled.")
@options
def list_windows(settings: Settings, as_json: bool, ended: bool) -> None:
    """List the windows that are on or to come."""
    with writing(settings) as control:
        show_windows(control.maintenance.list(ended), as_json)


@window.command("cancel")
@click.argument("ids", metavar="ID...", type=click.IntRange(1), nargs=-1, required=True)
@click.option("--why", default="", help="Why, for the record.")
@options
def cancel_window(settings: Settings, as_json: bool, ids: tuple[int, ...], why: str) -> None:
    """Cancel windows that are to come, or end early those that are on."""
    with writing(settings) as control:
        show_windows([control.maintenance.cancel(number, who(), why) for number in ids], as_json)


def show_windows(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Print maintenance windows."""
    if as_json:
        console.print_json(rows)
        return
    if not rows:
        click.echo("no window is on or to come")
        return
    console.print_table(
        ("id", "of", "", "state", "begins", "ends", "by", "why"),
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
    """Return a time since 1970, of ISO 8601; one without a zone is local."""
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise RequestError.of_parameter(name, text, "a time as 2026-12-01T22:00 or 2026-12-01T22:00Z") from error


SPAN = re.compile(r"([0-9]{1,6})([hd])", re.ASCII)


def span(name: str, text: str) -> float:
    """Return the seconds of `6h` or `2d`."""
    found = SPAN.fullmatch(text)
    if not found:
        raise RequestError.of_parameter(name, text, "hours or days, as 6h or 2d")
    return int(found[1]) * (3600.0 if found[2] == "h" else 86_400.0)


def show_overrides(report: dict[str, Any], as_json: bool) -> None:
    """Print what is wished now."""
    if as_json:
        console.print_json(report)
        return
    console.print_table(
        ("appliance", "enabled", "weight", "set by hand", "health_source"),
        [
            (item["appliance"], item["enabled"], item["weight"], item["set"], item["health_source"] or "auto")
            for item in report["appliances"]
        ],
    )


@click.command()
@click.option("--once", is_flag=True, help="Print it once and end.")
@click.option("--every", type=click.FloatRange(0.5, 60), default=2.0, show_default=True, help="Seconds between looks.")
@options
def top(settings: Settings, as_json: bool, once: bool, every: float) -> None:
    """Show the fleet live: totals, alarms, the clusters that are worst off, the last changes. `q` ends it."""
    from steering.cli import top_screen as looking
    from steering.control.remote import running_control

    with running_control(settings) as control:
        if as_json:
            console.print_json(control.overview())
        elif once or not sys.stdout.isatty():
            console.output().print(looking.frame(control.overview(), console.output().width, 0))
        else:
            looking.watch(lambda: control.overview(looking.MOST_ROWS), every)


@click.command()
@click.option("--resolved", is_flag=True, help="Also those that are lately over.")
@options
def alarms(settings: Settings, as_json: bool, resolved: bool) -> None:
    """List the alarms that are raised."""
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
        ("since", "alarm", "of", "", "text"),
        [
            (console.time_text(row["at"]), row["kind"], row["subject"], "over" if row["resolved"] else "", row["text"])
            for row in rows
        ],
    )
