"""Prefix tables: check, publish, compare, roll back."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from steering import console
from steering.cli.command import (
    MOST_SHOWN,
    WHY,
    Answer,
    Commands,
    open_services,
    options,
    print_report,
    progress_shown,
    services,
    wants_json,
    who,
)
from steering.errors import FeedError
from steering.escape import for_terminal
from steering.settings import Settings

if TYPE_CHECKING:
    from steering.control.routes.feeds import FeedSource

MOST_CONFLICTS: Final = 20


@click.group(cls=Commands)
def table() -> None:
    """Check, publish, compare and roll back prefix tables."""


AS_CSV = click.option("--csv", "as_csv", is_flag=True, help="Print CSV with the columns what, subject, name, value.")
SOURCES = click.argument("sources", metavar="[FILE...]", nargs=-1)


@table.command()
@SOURCES
@click.option("--strict", is_flag=True, help="Fail if a row is refused, or if a guard would stop the publish.")
@AS_CSV
@options
def check(settings: Settings, sources: tuple[str, ...], strict: bool, as_csv: bool) -> None:
    """Show what publishing these feeds would serve, refuse and move. Changes nothing.

    The name of FILE says its format: .csv or .jsonl (routes), otherwise lines `prefix ASN`; .gz, .bz2 and .xz are
    unpacked. `csv:FILE`, `jsonl:FILE` and `asn:FILE` name the format. `bgp:` is the routes of live sessions, whose
    changes are then followed. FILE may be a folder or a URL. Without FILE: the shipped table of the Internet.
    """
    with open_services(settings) as control, progress_shown() as progress:
        report = control.tables.check(sources_of(sources), progress)
    if as_csv:
        console.print_csv(FACTS, [*table_facts(report), *refusal_facts(report), *change_facts(report["changes"])])
    else:
        print_report(report, functools.partial(show_table, done="checked"))
    if strict and report["counts"]["refused"]:
        raise FeedError(f"{report['counts']['refused']} rows refused")
    if strict and report["guards"]:
        raise FeedError("; ".join(report["guards"]))


@table.command()
@SOURCES
@WHY
@click.option(
    "--force",
    default="",
    metavar="REASON",
    help="Publish although a guard refuses or nothing changed, for this reason.",
)
@click.option(
    "--canary",
    type=click.FloatRange(0, 100, max_open=True),
    default=0.0,
    help="Move only this percentage of the clients that would move.",
)
@services
def publish(control: Any, sources: tuple[str, ...], why: str, force: str, canary: float) -> Answer:
    """Read these feeds, build and check their table, and serve it; running workers load it by themselves.

    FILE is as in `table check`. A failure at any step leaves the serving table in place. Feeds that give the table
    that serves already are `unchanged`, and it keeps its version. A pin is removed. With --canary 5, only 5 % of the
    clients that would move do, until `table promote` or `table withdraw`.
    """
    with progress_shown() as progress:
        return control.tables.publish(sources_of(sources), who(), why, progress, force, canary / 100), show_table


@table.command("list")
@services
def list_tables(control: Any) -> Answer:
    """List the published tables, newest first. --json has the whole reasons, and the feeds with their hashes."""
    columns = (
        ("table", lambda row: str(row["table"])),
        ("serving", lambda row: " ".join(word for word in ("serving", "pinned") if row[word])),
        "kept",
        ("published", console.time_of("published_at")),
        "who",
        ("IPv4", lambda row: row["counts"]["prefixes_v4"]),
        ("IPv6", lambda row: row["counts"]["prefixes_v6"]),
        ("zones", lambda row: row["counts"]["zones"]),
        ("refused", lambda row: row["counts"]["refused"]),
        ("why", lambda row: console.shortened(row["why"])),
    )
    return control.tables.list(), console.table_of(*columns, empty="nothing was published yet")


VERSION = click.IntRange(1)


@table.command()
@click.argument("before", type=VERSION)
@click.argument("after", type=VERSION)
@click.option(
    "--examples",
    type=click.IntRange(0, 100_000),
    default=20,
    show_default=True,
    help="How many changed prefixes to show.",
)
@AS_CSV
@services
def diff(control: Any, before: int, after: int, examples: int, as_csv: bool) -> Answer:
    """Show what changes from table BEFORE to table AFTER: prefixes, and the share of clients that move."""
    changes = control.tables.diff(before, after, examples)
    if as_csv and not wants_json():
        console.print_csv(FACTS, change_facts(changes))
        return None
    return changes, show_diff


def show_diff(changes: dict[str, Any]) -> None:
    """Print changes, and the first changed prefixes."""
    show_changes(changes)
    for family, _ in FAMILIES:
        for verb, prefixes in changes["prefixes"][family]["first"].items():
            if prefixes:
                click.echo(for_terminal(f"{verb}: {', '.join(prefixes)}"))


@table.command()
@click.argument("version", type=VERSION)
@WHY
@services
def rollback(control: Any, version: int, why: str) -> Answer:
    """Serve a kept table again, and pin it. The fleet and its weights stay as they are now."""
    return control.tables.rollback(version, who(), why), functools.partial(show_served, note=PINNED)


PINNED: Final = ", and pinned; steering table unpin"


def show_served(report: dict[str, Any], note: str = "") -> None:
    """Print which table serves."""
    console.print_done(f"table {report['serving']['table']} is serving in {report['seconds']:.2f} s{note}")


@table.command()
@WHY
@services
def promote(control: Any, why: str) -> Answer:
    """Serve the canary's table to all clients."""
    return control.tables.promote(who(), why), show_served


@table.command()
@WHY
@services
def withdraw(control: Any, why: str) -> Answer:
    """Serve the table from before the canary to all clients, and pin it."""
    return control.tables.withdraw(who(), why), functools.partial(show_served, note=PINNED)


@table.command()
@WHY
@services
def pin(control: Any, why: str) -> Answer:
    """Keep the serving table: no reload replaces it until `unpin` or the next `table publish`."""
    return control.tables.pin(who(), why), lambda report: click.echo(f"table {report['pinned']} is pinned")


@table.command()
@services
def unpin(control: Any) -> Answer:
    """Remove the pin: reloads publish again."""
    return control.tables.unpin(who()), lambda _: click.echo("no table is pinned")


@click.command()
@services
def reload(control: Any) -> Answer:
    """Read the feeds of the last publish again and publish them, unless a table is pinned."""
    with progress_shown() as progress:
        return control.tables.reload(who(), progress), show_table


def sources_of(names: tuple[str, ...]) -> list[FeedSource]:
    """Return the feeds that a command names, with absolute paths: control may run in another folder."""
    from steering.control.routes.feeds import KINDS, FeedSource, kind_of
    from steering.control.routes.fetch import is_url, path_of

    if not names:
        return [FeedSource("asn")]
    sources = []
    for name in names:
        prefix, colon, rest = name.partition(":")
        kinds = [kind for kind in KINDS if colon and kind == prefix]
        file = Path(path_of(name) if is_url(name) else name)
        kind, path = (kinds[0], rest) if kinds else (kind_of(file), name)
        with contextlib.suppress(OSError):  # its reader names the path and the reason
            kind = "folder" if not kinds and Path(name).is_dir() else kind
        if (path or kind not in ("asn", "bgp")) and not is_url(path):
            path = str(Path(path).absolute())
        sources.append(FeedSource(kind, path))
    return sources


def show_table(report: dict[str, Any], done: str = "published") -> None:
    """Print the report of a check or of a publish."""
    if show_refusals(report):
        click.echo()
    console.table_of("feed", "accepted", "refused", ("no cluster receives it", "unheard"))(report["feeds"])
    counts = report["counts"]
    click.echo()
    console.print_facts(
        [
            ("prefixes", f"{counts['prefixes_v4']:,} IPv4, {counts['prefixes_v6']:,} IPv6"),
            ("zones", f"{counts['zones']:,} with {counts['rankings']:,} rankings"),
            ("duplicates", report["duplicates"] or None),
        ]
    )
    if report["changes"]:
        click.echo()
        show_changes(report["changes"])
    problems = [f"{row['kind']} {row['path']}: {row['problem']}" for row in report["other_sources"] if "problem" in row]
    console.print_warnings([*report.get("warnings", []), *problems])
    for guard in report["guards"]:
        click.echo(click.style("guard: ", fg="red") + for_terminal(guard), err=True)
    serving = report["serving"]
    state = f"table {serving['table']} is serving" if serving else "nothing is serving"
    if report.get("unchanged"):
        done = "unchanged; nothing was published, checked"
    console.print_done(f"{done} in {report['seconds']:.2f} s; {state}")


def show_refusals(report: dict[str, Any]) -> bool:
    """Print refused rows, doubts about other sources, and conflicts; return whether there are any."""
    refusals = [(feed["feed"], row) for feed in report["feeds"] for row in feed["refusals"]]
    if refusals:
        console.print_table(
            ("feed", "row", "value", "rule"),
            [(feed, row["row"], row["value"], row["rule"]) for feed, row in refusals],
            title="refused",
        )
    others = [
        (source["feed"], kind.rstrip("s"), item["row"], item["value"], item["rule"])
        for source in report["other_sources"]
        for kind in ("refusals", "warnings")
        for item in source.get(kind, [])[:MOST_SHOWN]
    ]
    if others:
        click.echo()
        console.print_table(("other source", "", "row", "value", "rule"), others)
    if any(len(feed["refused_by"]) > 1 or feed["refused"] > len(feed["refusals"]) for feed in report["feeds"]):
        click.echo()
        console.print_table(
            ("feed", "rows", "refused by rule"),
            [(feed["feed"], rows, rule) for feed in report["feeds"] for rule, rows in feed["refused_by"].items()],
        )
    for conflict in report["conflicts"][:MOST_CONFLICTS]:
        click.echo(f"conflict: {for_terminal(conflict)}")
    if len(report["conflicts"]) > MOST_CONFLICTS:
        click.echo("there are more conflicts; --json has them")
    return bool(refusals or others or report["conflicts"])


FACTS = ("what", "subject", "name", "value")
FAMILIES = (("v4", "IPv4"), ("v6", "IPv6"))


def show_changes(changes: dict[str, Any]) -> None:
    """Print what changes from one table to another."""
    console.print_table(
        (f"from table {changes['before']}", "prefixes", "added", "removed", "changed", "clients moved"),
        [
            (
                name,
                *(changes["prefixes"][family][count] for count in ("after", "added", "removed", "changed")),
                console.percent(changes["moved"][family]),
            )
            for family, name in FAMILIES
        ],
    )
    if changes["partners"]:
        click.echo()
        console.print_table(
            ("clients moved, share of all", *(name for _, name in FAMILIES)),
            [
                (row["partner"] or "no partner", *(console.percent(row[family]) for family, _ in FAMILIES))
                for row in changes["partners"][:MOST_SHOWN]
            ],
        )
    if changes["clusters"]:
        click.echo()
        moves = [(f"{verb}_{family}", f"{name} {verb}") for family, name in FAMILIES for verb in ("gained", "lost")]
        console.print_table(
            ("nearest cluster", *(heading for _, heading in moves)),
            [
                (row["cluster"], *(console.percent(row[key]) for key, _ in moves))
                for row in changes["clusters"][:MOST_SHOWN]
            ],
        )
    if max(len(changes["partners"]), len(changes["clusters"])) > MOST_SHOWN:
        click.echo(f"only the first {MOST_SHOWN} by share are shown; --json has more")


def table_facts(report: dict[str, Any]) -> Iterator[tuple[str, str, str, Any]]:
    """Yield the feeds and the table of a check as rows of (what, subject, name, value)."""
    for feed in report["feeds"]:
        for name in ("accepted", "refused", "unheard"):
            yield "feed", feed["feed"], name, feed[name]
    for name, value in (*report["counts"].items(), ("duplicates", report["duplicates"])):
        yield "table", "", name, value
    for conflict in report["conflicts"]:
        prefix, _, text = conflict.partition(": ")
        yield "conflict", prefix, text, ""


def refusal_facts(report: dict[str, Any]) -> Iterator[tuple[str, str, str, Any]]:
    """Yield the refusals of a check as rows of (what, subject, name, value)."""
    for feed in report["feeds"]:
        for rule, rows in feed["refused_by"].items():
            yield "refused_by", feed["feed"], rule, rows
        for refusal in feed["refusals"]:
            yield "refused", f"{feed['feed']}:{refusal['row']}", refusal["rule"], refusal["value"]
    for guard in report["guards"]:
        yield "guard", "", guard, ""


def change_facts(changes: dict[str, Any] | None) -> Iterator[tuple[str, str, str, Any]]:
    """Yield changes as rows of (what, subject, name, value)."""
    for family, _ in FAMILIES if changes else ():
        assert changes is not None
        prefixes = changes["prefixes"][family]
        for name in ("before", "after", "added", "removed", "changed"):
            yield "prefixes", family, name, prefixes[name]
        yield "moved", family, "share", changes["moved"][family]
        for name, named in prefixes["first"].items():
            for prefix in named:
                yield "prefix", prefix, name, ""
    for kind in ("partner", "cluster") if changes else ():
        assert changes is not None
        for row in changes[f"{kind}s"]:
            for name, share in row.items():
                if name != kind:
                    yield kind, row[kind] or "", name, share
