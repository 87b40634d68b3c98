"""What could be better: routes, fill, playback, sessions; and what another table would have answered."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from steering import console
from steering.cli.command import FAILED, MOST_SHOWN, options, writing
from steering.settings import Settings

if TYPE_CHECKING:
    from steering.control.health.quality import By
    from steering.decision.replay import Replay


@click.command()
@click.option("--partner", default="", help="Of this partner alone.")
@options
def report(settings: Settings, as_json: bool, partner: str) -> None:
    """Show what could be mended in the routes: stolen space, no second site, uneven clusters, one family, refusals."""
    with writing(settings) as control:
        found = control.tables.route_report(partner)
    if as_json:
        console.print_json(found)
        return
    shown = False
    for name, columns, title in REPORTS:
        if found[name]:
            shown = True
            console.print_table(
                (*columns, *(["for example"] if "first" in found[name][0] else [])),
                [
                    (*(row[column] for column in columns), *([" ".join(row["first"][:3])] if "first" in row else []))
                    for row in found[name][:MOST_SHOWN]
                ],
                title=title,
            )
            if len(found[name]) > MOST_SHOWN:
                click.echo(f"and {len(found[name]) - MOST_SHOWN} more; --json has them")
    if not shown:
        click.echo("nothing to mend")


REPORTS = (
    ("stolen", ("partner", "cluster", "v4", "v6"), "a longer prefix elsewhere takes clients away (addresses, /48s)"),
    ("single_site", ("partner", "site", "v4", "v6"), "prefixes that no other site of the partner hears"),
    ("uneven", ("partner", "site", "v4", "v6"), "prefixes that only some clusters of the site hear"),
    ("one_family", ("partner", "cluster", "v4", "v6"), "clusters that hear one family alone"),
    (
        "heard_apart",
        ("partner", "cluster", "family", "sets", "apart"),
        "clusters whose appliances hear different prefixes, by their own reports",
    ),
    ("refused", ("feed", "rows", "rule"), "refused"),
)


@click.command()
@click.option("--partner", default="", help="Of this partner's clusters alone.")
@click.option("-n", "count", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many.")
@options
def missing(settings: Settings, as_json: bool, partner: str, count: int) -> None:
    """List what should be filled where: titles that clusters were asked for and do not hold, most asked first."""
    with writing(settings) as control:
        rows = control.holdings.missing(partner, count)
    if as_json:
        console.print_json(rows)
        return
    if not rows:
        click.echo("nothing is missing, as far as appliances report what they hold")
        return
    console.print_table(
        ("service", "title", "cluster", "partner", "asked"),
        [(row["service"], row["title"], row["cluster"], row["partner"], row["misses"]) for row in rows],
    )


@click.command()
@click.option("--by", type=click.Choice(("partner", "cluster", "appliance")), default="partner", show_default=True)
@click.option("--partner", default="", help="Of this partner alone.")
@click.option("-n", "count", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many.")
@options
def quality(settings: Settings, as_json: bool, by: By, partner: str, count: int) -> None:
    """Show how playback goes by what players report, where it hurts most first."""
    with writing(settings) as control:
        rows = control.quality.list(by, partner, count)
    if as_json:
        console.print_json(rows)
        return
    if not rows:
        click.echo("no player has reported anything yet: POST /v1/cmcd")
        return
    console.print_table(
        (by, "reports", "kbit/s", "bitrate", "stalls/1000", "errors/1000", "starts", "start ms", "attested", "failing"),
        [(row.pop(by) or "(elsewhere)", *row.values()) for row in rows],
    )


@click.command()
@options
def sessions(settings: Settings, as_json: bool) -> None:
    """List the live BGP sessions, and how many routes each has announced."""
    with writing(settings) as control:
        rows = control.sessions()
    if as_json:
        console.print_json(rows)
        return
    if not rows:
        click.echo("no live sessions: control is not running, or the setting bgp names none")
        return
    console.print_table(
        ("cluster", "peer", "AS", "family", "state", "since", "routes", "stale", "refused", "reason"),
        [
            (
                row["cluster"],
                row["peer"],
                str(row["peer_asn"]),
                f"IPv{row['family']}",
                row["state"],
                console.time_text(row["since"]),
                row["routes"],
                row["stale"],
                row["refused"],
                row["reason"],
            )
            for row in rows
        ],
    )


@click.command()
@click.argument("logs", metavar="LOG...", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--table", "other", type=click.IntRange(1), help="What this table would have answered.")
@options
def replay(settings: Settings, as_json: bool, logs: tuple[Path, ...], other: int | None) -> None:
    """Answer the requests of a decision log (files, or its folder) again, and show what is different.

    Exit status 1 on any difference, but with --table, where differences are what is asked for.
    """
    from steering.decision import replay as replaying
    from steering.playback.telemetry.decision_log import read_decisions

    records = (decision for path in replaying.log_files(logs) for decision in read_decisions(path))
    found = replaying.replay(settings.state, records, other)
    if as_json:
        console.print_json(dataclasses.asdict(found))
    else:
        show_replay(found)
    if found.different and other is None:
        sys.exit(FAILED)


def show_replay(found: Replay) -> None:
    """Print what a replay came to."""
    if found.differences:
        console.print_table(
            ("when", "clients", "key", "recorded", "replayed"),
            [
                (
                    console.time_text(item["at"]),
                    item["scope"],
                    item["key"],
                    " ".join(item["recorded"]) or "fallback",
                    " ".join(item["replayed"]) or "fallback",
                )
                for item in found.differences
            ],
        )
    for reason, count in found.missing.items():
        click.echo(f"{count} records cannot be replayed: {console.printable(reason)}")
    click.echo(
        f"{found.answers:,} answers again: {found.answers - found.different:,} the same, "
        f"{found.different:,} different, {found.first_moved:,} with another appliance first"
    )
