"""Fill: demand in, plans of what appliances should hold, how far they are, and why."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import click

from steering import console
from steering.cli.catalogue import SERVICE, document_of
from steering.cli.command import COUNT, WHY, Answer, Commands, open_services, options, progress_shown, services, who
from steering.settings import Settings


@click.group(cls=Commands)
def fill() -> None:
    """Plan what appliances should hold before it is asked for, and see how far they are."""


FILE = click.argument("file", type=click.Path(path_type=Path))


@fill.command()
@SERVICE
@FILE
@options
def plays(settings: Settings, service: str, file: Path) -> Answer:
    """Count the plays of FILE (day, area, title, plays; CSV or JSON Lines). Days that were counted are left out."""
    body = document_of(file, "give fewer days at a time; all plays of a day go into one file")
    with open_services(settings) as control, progress_shown() as progress:
        return control.fill.count_plays(service, body, who(), progress), show_plays


def show_plays(report: dict[str, Any]) -> None:
    """Print what was counted."""
    show_refused(report)
    console.print_facts(
        [
            ("rows read", report["accepted"]),
            ("areas", report["areas"]),
            ("titles known", report["titles"]),
        ]
    )
    console.print_done(f"plays are counted up to {report['last_day']}; steering fill plan")


def show_refused(report: dict[str, Any]) -> None:
    """Print how many rows were refused, by rule."""
    console.print_warnings(f"{rows} rows refused: {rule}" for rule, rows in report["refused_by"].items())


@fill.command()
@SERVICE
@FILE
@options
def launches(settings: Settings, service: str, file: Path) -> Answer:
    """Use what FILE expects of launches to come (title, at, areas, and plays_first_week, like or percentile)."""
    body = document_of(file, "give a part of the launches at a time")
    with open_services(settings) as control, progress_shown() as progress:
        return control.fill.use_launches(service, body, who(), progress), show_launches


def show_launches(report: dict[str, Any]) -> None:
    """Print how many launches were used."""
    show_refused(report)
    count = report["launches"]
    console.print_done(f"{console.shown(count)} {'launch' if count == 1 else 'launches'} used; steering fill plan")


@fill.command()
@WHY
@click.option(
    "--force", default="", metavar="REASON", help="Use the plan although a guard refuses it, for this reason."
)
@services
def plan(control: Any, why: str, force: str) -> Answer:
    """Plan what every appliance should hold, and let the plan be in force.

    The plan is made of the plays that were counted, the catalogues, the table that serves and the fleet's disks.
    Appliances read it within `fill_s` as their fill manifest. If a guard refuses it, the plan before stays in force.
    """
    with progress_shown() as progress:
        return control.fill.plan(who(), why, force, progress), show_plan


def show_plan(report: dict[str, Any]) -> None:
    """Print a new plan."""
    show_numbers(report)
    console.print_warnings(f"guard passed by force: {guard}" for guard in report["guards"])
    console.print_done(f"plan {report['plan']} is in force, made in {report['seconds']:.2f} s")


def show_numbers(report: dict[str, Any]) -> None:
    """Print a plan in numbers."""
    lack = f"; {console.shown(report['no_recipe'])} lack their recipe" if report["no_recipe"] else ""
    console.print_facts(
        [
            ("titles", f"{console.shown(report['titles'])}{lack}"),
            ("plays a day", f"{report['plays']:,.0f}"),
            ("offload", f"{console.percent(report['offload'])} of all bytes, if appliances hold what is planned"),
            ("gap", f"at most {100 * max(report['gap'], 0):.2f} % below the best possible plan"),
            ("planned", console.bytes_text(report["planned_bytes"])),
            ("of that new", console.bytes_text(report["added_bytes"])),
        ]
    )


@fill.command("plans")
@services
def list_plans(control: Any) -> Answer:
    """List the plans that were in force, newest first; --json has the whole reasons."""
    columns = (
        ("plan", lambda row: str(row["plan"])),
        (
            "in force",
            lambda row: " ".join(name for name, on in (("yes", row["serving"]), ("pinned", row["pinned"])) if on),
        ),
        *("kept", ("published", console.time_of("published_at")), "who"),
        ("titles", lambda row: row["counts"]["titles"]),
        ("new", lambda row: console.bytes_text(row["counts"]["added"])),
        ("why", lambda row: console.shortened(row["why"])),
    )
    return control.fill.list(), console.table_of(*columns, empty="no plan was made yet; steering fill plan")


@fill.command()
@COUNT
@services
def status(control: Any, count: int) -> Answer:
    """Show the plan in force, and what is left to fill: the clusters most behind come first."""
    return control.fill.status(count), show_status


def show_status(report: dict[str, Any]) -> None:
    """Print the plan in force and the clusters most behind."""
    console.print_facts([("plan", f"{report['plan']}, made {console.time_text(report['made_at'])}")])
    show_numbers(report)
    held = report["bytes"] - report["bytes_left"]
    left = f"{console.bytes_text(report['bytes_left'])} in {console.shown(report['titles_left'])} copies"
    console.print_facts(
        [
            ("held", f"{console.bytes_text(held)}, {part_of(held, report['bytes'])}"),
            ("left", left if report["bytes_left"] else "nothing"),
        ]
    )
    rows = [row for row in report["clusters"] if row["bytes_left"]]
    if not rows:
        console.print_done("every cluster holds what is planned")
        return
    click.echo()
    console.table_of(
        *("cluster", ("planned", lambda row: console.bytes_text(row["bytes"]))),
        ("left", lambda row: console.bytes_text(row["bytes_left"])),
        ("held", lambda row: part_of(row["bytes"] - row["bytes_left"], row["bytes"])),
        ("copies left", "titles_left"),
    )(rows)


def part_of(held: int, planned: int) -> str:
    """Return the share of what is planned that is held; 100.0 % is all of it."""
    return console.percent(min(held / planned, 0.999 if held < planned else 1.0)) if planned else ""


@fill.command()
@SERVICE
@click.argument("title")
@click.argument("cluster")
@services
def explain(control: Any, service: str, title: str, cluster: str) -> Answer:
    """Show why the plan in force has a title in a cluster, or why not."""
    return control.fill.explain(service, title, cluster), show_explanation


def show_explanation(report: dict[str, Any]) -> None:
    """Print why a cluster should hold a title or not."""
    others = report["other_clusters"]
    examples = console.shown(report["for_example"])
    console.print_facts(
        [
            ("title", f"{report['service']}/{report['title']}, {console.bytes_text(report['bytes'])}"),
            ("recipe", report["recipe"]),
            ("cluster", f"{report['cluster']}, which plans for the viewers of {report['area']}"),
            ("plays a day", f"{report['plays_a_day_in_area']:,.1f} expected in {report['area']}"),
            ("price of disk", f"{report['price']:.4g} bytes a day for a byte"),
            ("held by", report["holders"] or "no appliance of this cluster"),
            ("elsewhere", f"{others} other clusters: {examples}" if others else "no other cluster"),
        ]
    )
    console.print_done(f"plan {report['plan']}: {report['why']}")


@fill.command()
@click.argument("version", type=click.IntRange(1))
@WHY
@services
def rollback(control: Any, version: int, why: str) -> Answer:
    """Let a kept plan be in force again, and pin it."""
    return control.fill.rollback(version, who(), why), functools.partial(show_pinned, note="; steering fill unpin")


def show_pinned(report: dict[str, Any], note: str = "") -> None:
    """Print which plan is pinned."""
    console.print_done(f"plan {report['plan']} is in force and pinned{note}")


@fill.command()
@WHY
@services
def pin(control: Any, why: str) -> Answer:
    """Keep the plan in force: no other one is made until `unpin`."""
    return control.fill.pin(who(), why), show_pinned


@fill.command()
@services
def unpin(control: Any) -> Answer:
    """Remove the pin: the next `fill plan` makes a new plan."""
    return control.fill.unpin(who()), lambda _: click.echo("no plan is pinned")
