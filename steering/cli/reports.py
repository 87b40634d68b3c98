"""Reports on routes, fill, playback and sessions, and the replay of decision logs."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from steering import console
from steering.cli.command import FAILED, MOST_SHOWN, open_services, options
from steering.settings import Settings

if TYPE_CHECKING:
    from steering.control.health.quality import By
    from steering.decision.replay import Replay


@click.command()
@click.option("--partner", default="", help="Only of this partner.")
@options
def report(settings: Settings, as_json: bool, partner: str) -> None:
    """Show what to improve in the routes: lost space, single sites, uneven clusters, one IP version, refusals."""
    with open_services(settings) as control:
        problems = control.tables.route_report(partner)
    if as_json:
        console.print_json(problems)
        return
    shown = False
    for name, columns, title in REPORTS:
        if problems[name]:
            shown = True
            console.print_table(
                (*columns, *(["for example"] if "first" in problems[name][0] else [])),
                [
                    (*(row[column] for column in columns), *([" ".join(row["first"][:3])] if "first" in row else []))
                    for row in problems[name][:MOST_SHOWN]
                ],
                title=title,
            )
            if len(problems[name]) > MOST_SHOWN:
                click.echo(f"and {len(problems[name]) - MOST_SHOWN} more; --json has them")
    if not shown:
        click.echo("nothing to improve")


REPORTS = (
    (
        "stolen",
        ("partner", "cluster", "v4", "v6"),
        "a longer prefix at another cluster takes clients away (addresses, /48s)",
    ),
    ("single_site", ("partner", "site", "v4", "v6"), "prefixes that no other site of the partner receives"),
    ("uneven", ("partner", "site", "v4", "v6"), "prefixes that only some clusters of the site receive"),
    ("one_family", ("partner", "cluster", "v4", "v6"), "clusters that receive routes of one IP version only"),
    (
        "heard_apart",
        ("partner", "cluster", "family", "sets", "apart"),
        "clusters whose appliances receive different prefixes, by their reports",
    ),
    ("refused", ("feed", "rows", "rule"), "refused"),
)


@click.command()
@click.option("--partner", default="", help="Only of this partner's clusters.")
@click.option(
    "-n", "count", type=click.IntRange(1, 10_000), default=20, show_default=True, help="The most rows to show."
)
@options
def missing(settings: Settings, as_json: bool, partner: str, count: int) -> None:
    """List titles to fill: clusters were asked for them and do not hold them, most asked first."""
    with open_services(settings) as control:
        rows = control.holdings.missing(partner, count)
    if as_json:
        console.print_json(rows)
        return
    if not rows:
        click.echo("no title is missing, as far as appliances report their holdings")
        return
    console.print_table(
        ("service", "title", "cluster", "partner", "asked"),
        [(row["service"], row["title"], row["cluster"], row["partner"], row["misses"]) for row in rows],
    )


@click.command()
@click.option(
    "--by",
    type=click.Choice(("partner", "cluster", "appliance")),
    default="partner",
    show_default=True,
    help="One row for each.",
)
@click.option("--partner", default="", help="Only of this partner.")
@click.option(
    "-n", "count", type=click.IntRange(1, 10_000), default=20, show_default=True, help="The most rows to show."
)
@options
def quality(settings: Settings, as_json: bool, by: By, partner: str, count: int) -> None:
    """Show how playback goes by the reports of players, worst first."""
    with open_services(settings) as control:
        rows = control.quality.list(by, partner, count)
    if as_json:
        console.print_json(rows)
        return
    if not rows:
        click.echo("no player has reported yet: POST /v1/cmcd")
        return
    console.print_table(
        (by, "reports", "kbit/s", "bitrate", "stalls/1000", "errors/1000", "starts", "start ms", "attested", "failing"),
        [(row.pop(by) or "(elsewhere)", *row.values()) for row in rows],
    )


@click.command()
@options
def sessions(settings: Settings, as_json: bool) -> None:
    """List the live BGP sessions, and how many routes each announces."""
    with open_services(settings) as control:
        rows = control.sessions()
    if as_json:
        console.print_json(rows)
        return
    if not rows:
        click.echo("no live session: control does not run, or the setting bgp names none")
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
@click.option("--table", "other", type=click.IntRange(1), help="Answer with this table instead of the recorded one.")
@options
def replay(settings: Settings, as_json: bool, logs: tuple[Path, ...], other: int | None) -> None:
    """Answer the requests of a decision log (files, or its folder) again, and show the differences.

    Exit status 1 on any difference, except with --table, where differences are expected.
    """
    from steering.decision import replay as replaying
    from steering.state.decision_log import log_files, read_decisions

    records = (decision for path in log_files(logs) for decision in read_decisions(path))
    result = replaying.replay(settings.state, records, other)
    if as_json:
        console.print_json(dataclasses.asdict(result))
    else:
        show_replay(result)
    if result.different and other is None:
        sys.exit(FAILED)


def show_replay(result: Replay) -> None:
    """Print the result of a replay."""
    if result.differences:
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
                for item in result.differences
            ],
        )
    for reason, count in result.missing.items():
        click.echo(f"{count} records cannot be replayed: {console.printable(reason)}")
    click.echo(
        f"{result.answers:,} answers replayed: {result.answers - result.different:,} the same, "
        f"{result.different:,} different, {result.first_moved:,} with another appliance first"
    )
