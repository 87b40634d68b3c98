"""Reports on routes, fill, playback and sessions, and the replay of decision logs."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from steering import console
from steering.cli.command import COUNT, FAILED, MOST_SHOWN, Answer, options, print_report, services
from steering.escape import for_terminal
from steering.settings import Settings

if TYPE_CHECKING:
    from steering.control.health.quality import By
    from steering.decision.replay import Replay

REPORTS: Final = (
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
@click.option("--partner", default="", help="Only of this partner.")
@services
def report(control: Any, partner: str) -> Answer:
    """Show what to improve in the routes: lost space, single sites, uneven clusters, one IP version, refusals."""
    return control.tables.route_report(partner), show_report


def show_report(problems: dict[str, Any]) -> None:
    """Print each kind of problem that there is."""
    for name, columns, title in REPORTS:
        if rows := problems[name]:
            example = [("for example", lambda row: " ".join(row["first"][:3]))] if "first" in rows[0] else []
            console.print_title(title)
            console.table_of(*columns, *example)(rows[:MOST_SHOWN])
            if len(rows) > MOST_SHOWN:
                click.echo(f"and {len(rows) - MOST_SHOWN} more; --json has them")
    if not any(problems[name] for name, _, _ in REPORTS):
        click.echo("nothing to improve")


@click.command()
@click.option("--partner", default="", help="Only of this partner's clusters.")
@COUNT
@services
def missing(control: Any, partner: str, count: int) -> Answer:
    """List titles to fill: clusters were asked for them and do not hold them, most asked first."""
    empty = "no title is missing, as far as appliances report their holdings"
    columns = ("service", "title", "cluster", "partner", ("asked", "misses"))
    return control.holdings.missing(partner, count), console.table_of(*columns, empty=empty)


@click.command()
@click.option(
    "--by",
    type=click.Choice(("partner", "cluster", "appliance")),
    default="partner",
    show_default=True,
    help="One row for each.",
)
@click.option("--partner", default="", help="Only of this partner.")
@COUNT
@services
def quality(control: Any, by: By, partner: str, count: int) -> Answer:
    """Show how playback goes by the reports of players, worst first."""
    figures = (
        "reports",
        "kbit/s",
        "bitrate",
        "stalls/1000",
        "errors/1000",
        "starts",
        "start ms",
        "attested",
        "failing",
    )

    def show(rows: list[dict[str, Any]]) -> None:
        if rows:
            console.print_table((by, *figures), [(row.pop(by) or "(elsewhere)", *row.values()) for row in rows])
        else:
            click.echo("no player has reported yet: POST /v1/cmcd")

    return control.quality.list(by, partner, count), show


@click.command()
@services
def sessions(control: Any) -> Answer:
    """List the live BGP sessions, and how many routes each announces."""
    peer = ("peer", ("AS", lambda row: str(row["peer_asn"])), ("family", lambda row: f"IPv{row['family']}"))
    state = ("state", ("since", console.time_of("since")), "routes", "stale", "refused", "reason")
    empty = "no live session: control does not run, or the setting bgp names none"
    return control.sessions(), console.table_of("cluster", *peer, *state, empty=empty)


@click.command()
@click.argument("logs", metavar="LOG...", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--table", "other", type=click.IntRange(1), help="Answer with this table instead of the recorded one.")
@options
def replay(settings: Settings, logs: tuple[Path, ...], other: int | None) -> None:
    """Answer the requests of a decision log (files, or its folder) again, and show the differences.

    Exit status 1 on any difference, except with --table, where differences are expected.
    """
    from steering.decision import replay as replaying
    from steering.state.decision_log import log_files, read_decisions

    records = (decision for path in log_files(logs) for decision in read_decisions(path))
    result = replaying.replay(settings.state, records, other)
    print_report(dataclasses.asdict(result), lambda _: show_replay(result))
    if result.different and other is None:
        sys.exit(FAILED)


def show_replay(result: Replay) -> None:
    """Print the result of a replay."""
    if result.differences:
        answers = [
            (name, lambda row, name=name: " ".join(row[name]) or "fallback") for name in ("recorded", "replayed")
        ]
        console.table_of(("when", console.time_of("at")), ("clients", "scope"), "key", *answers)(result.differences)
    for reason, count in result.missing.items():
        click.echo(f"{count} records cannot be replayed: {for_terminal(reason)}")
    click.echo(
        f"{result.answers:,} answers replayed: {result.answers - result.different:,} the same, "
        f"{result.different:,} different, {result.first_moved:,} with another appliance first"
    )
