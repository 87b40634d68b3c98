"""Prefix tables: checked, published, compared, rolled back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from steering import console
from steering.cli.command import MOST_SHOWN, Commands, options, progress_for, who, writing
from steering.errors import FeedError
from steering.settings import Settings

if TYPE_CHECKING:
    from steering.control.routes.feeds import FeedSource

MOST_CONFLICTS: Final = 20


@click.group(cls=Commands)
def table() -> None:
    """Check, publish, compare and roll back prefix tables."""


AS_CSV = click.option("--csv", "as_csv", is_flag=True, help="Print CSV: what, subject, name, value.")
WHY = click.option("--why", default="", help="For the record.")
SOURCES = click.argument("sources", metavar="[FILE...]", nargs=-1)


@table.command()
@SOURCES
@click.option("--strict", is_flag=True, help="Fail if any row is refused, or a guard would stop the publish.")
@AS_CSV
@options
def check(settings: Settings, as_json: bool, sources: tuple[str, ...], strict: bool, as_csv: bool) -> None:
    """Show what publishing these feeds would serve, refuse and move elsewhere. Changes nothing.

    The name of FILE tells its format: .csv or .jsonl (routes), else `prefix ASN` lines; .gz, .bz2 and .xz are
    unpacked. `csv:FILE` says it outright, so do jsonl: and asn:. `bgp:` is what live sessions say, and changes of
    theirs are followed from then on. FILE may be a folder, or a URL. Without one, the shipped table of the Internet.
    """
    with writing(settings) as control, progress_for(as_json) as progress:
        report = control.tables.check(sources_of(sources), progress)
    if as_csv:
        console.print_csv(FACTS, [*table_facts(report), *refusal_facts(report), *change_facts(report["changes"])])
    else:
        show_table(report, as_json, "checked")
    if strict and report["counts"]["refused"]:
        raise FeedError(f"{report['counts']['refused']} rows refused")
    if strict and report["guards"]:
        raise FeedError("; ".join(report["guards"]))


@table.command()
@SOURCES
@WHY
@click.option("--force", default="", metavar="REASON", help="Publish past the guards, for this reason.")
@click.option("--canary", type=click.FloatRange(0, 100, max_open=True), default=0.0, help="Percent of who would move.")
@options
def publish(settings: Settings, as_json: bool, sources: tuple[str, ...], why: str, force: str, canary: float) -> None:
    """Read, build and prove a table of these feeds, and serve it; running workers take it over by themselves.

    FILE is as in `table check`. A failure at any step leaves what is serving untouched. A pin is taken away. With
    --canary 5, of the clients that would be sent elsewhere only 5 % are, until `table promote` or `table withdraw`.
    """
    with writing(settings) as control, progress_for(as_json) as progress:
        report = control.tables.publish(sources_of(sources), who(), why, progress, force, canary / 100)
    show_table(report, as_json, "published")


@table.command("list")
@options
def list_tables(settings: Settings, as_json: bool) -> None:
    """List the published tables, newest first. --json has all of each `why`, and the feeds with their hashes."""
    with writing(settings) as control:
        rows = control.tables.list()
    if as_json:
        console.print_json(rows)
        return
    if not rows:
        click.echo("nothing was published yet")
        return
    console.print_table(
        ("table", "serving", "kept", "published", "who", "IPv4", "IPv6", "zones", "refused", "why"),
        [
            (
                str(row["table"]),
                " ".join(word for word in ("serving", "pinned") if row[word]),
                row["kept"],
                console.time_text(row["published_at"]),
                row["who"],
                row["counts"]["prefixes_v4"],
                row["counts"]["prefixes_v6"],
                row["counts"]["zones"],
                row["counts"]["refused"],
                console.shortened(row["why"]),
            )
            for row in rows
        ],
    )


VERSION = click.IntRange(1)


@table.command()
@click.argument("before", type=VERSION)
@click.argument("after", type=VERSION)
@click.option("--examples", type=click.IntRange(0, 100_000), default=20, show_default=True, help="Prefixes to name.")
@AS_CSV
@options
def diff(settings: Settings, as_json: bool, before: int, after: int, examples: int, as_csv: bool) -> None:
    """Show what one kept table changes beside another: prefixes, and which share of clients is sent elsewhere."""
    with writing(settings) as control:
        changes = control.tables.diff(before, after, examples)
    if as_json:
        console.print_json(changes)
    elif as_csv:
        console.print_csv(FACTS, change_facts(changes))
    else:
        show_changes(changes)
        for family in ("v4", "v6"):
            for verb, prefixes in changes["prefixes"][family]["first"].items():
                if prefixes:
                    click.echo(f"{verb}: {', '.join(prefixes)}")


@table.command()
@click.argument("version", type=VERSION)
@WHY
@options
def rollback(settings: Settings, as_json: bool, version: int, why: str) -> None:
    """Serve a kept table again, as it was written, and pin it. Appliances and weights stay as they are now."""
    with writing(settings) as control:
        show_served(control.tables.rollback(version, who(), why), as_json, ", and pinned; steering table unpin")


def show_served(report: dict[str, Any], as_json: bool, more: str) -> None:
    """Print which table serves again."""
    if as_json:
        console.print_json(report)
        return
    done = f"table {report['serving']['table']} is serving in {report['seconds']:.2f} s{more}"
    click.echo(click.style(done, fg="green"))


@table.command()
@WHY
@options
def promote(settings: Settings, as_json: bool, why: str) -> None:
    """Serve all clients with the table whose canary serves."""
    with writing(settings) as control:
        show_served(control.tables.promote(who(), why), as_json, "")


@table.command()
@WHY
@options
def withdraw(settings: Settings, as_json: bool, why: str) -> None:
    """Serve all clients with the table from before the canary, and pin it."""
    with writing(settings) as control:
        show_served(control.tables.withdraw(who(), why), as_json, ", and pinned; steering table unpin")


@table.command()
@WHY
@options
def pin(settings: Settings, as_json: bool, why: str) -> None:
    """Keep the table that serves: no reload replaces it, until `unpin` or the next publish by hand."""
    with writing(settings) as control:
        report = control.tables.pin(who(), why)
    if as_json:
        console.print_json(report)
    else:
        click.echo(f"table {report['pinned']} is pinned")


@table.command()
@options
def unpin(settings: Settings, as_json: bool) -> None:
    """Let reloads publish again."""
    with writing(settings) as control:
        report = control.tables.unpin(who())
    if as_json:
        console.print_json(report)
    else:
        click.echo("no table is pinned")


@click.command()
@options
def reload(settings: Settings, as_json: bool) -> None:
    """Read the feeds of the last publish again, and publish them, unless a table is pinned."""
    with writing(settings) as control, progress_for(as_json) as progress:
        report = control.tables.reload(who(), progress)
    show_table(report, as_json, "published")


def sources_of(names: tuple[str, ...]) -> list[FeedSource]:
    """Return the feeds that a command names; their paths made absolute, for a process that stands elsewhere."""
    from steering.control.routes.feeds import KINDS, FeedSource, kind_of
    from steering.control.routes.fetch import is_url, path_of

    if not names:
        return [FeedSource("asn")]
    sources = []
    for name in names:
        said, colon, rest = name.partition(":")
        kinds = [kind for kind in KINDS if colon and kind == said]
        file = Path(path_of(name) if is_url(name) else name)
        kind, path = (kinds[0], rest) if kinds else (kind_of(file), name)
        if not kinds and Path(name).is_dir():
            kind = "folder"
        if (path or kind not in ("asn", "bgp")) and not is_url(path):
            path = str(Path(path).absolute())
        sources.append(FeedSource(kind, path))
    return sources


def show_table(report: dict[str, Any], as_json: bool, done: str) -> None:
    """Print what a check or publish found."""
    if as_json:
        console.print_json(report)
        return
    counts, serving = report["counts"], report["serving"]
    refusals = [(feed["feed"], row) for feed in report["feeds"] for row in feed["refusals"]]
    if refusals:
        console.print_table(
            ("feed", "row", "value", "rule"),
            [(feed, row["row"], row["value"], row["rule"]) for feed, row in refusals],
            title="refused",
        )
    suspicions = [
        (source["feed"], kind.rstrip("s"), item["row"], item["value"], item["rule"])
        for source in report["other_sources"]
        for kind in ("refusals", "warnings")
        for item in source.get(kind, [])[:MOST_SHOWN]
    ]
    if suspicions:
        click.echo()
        console.print_table(("beside the feeds", "", "row", "value", "rule"), suspicions)
    if any(len(feed["refused_by"]) > 1 or feed["refused"] > len(feed["refusals"]) for feed in report["feeds"]):
        click.echo()
        console.print_table(
            ("feed", "rows", "refused by rule"),
            [(feed["feed"], rows, rule) for feed in report["feeds"] for rule, rows in feed["refused_by"].items()],
        )
    for conflict in report["conflicts"][:MOST_CONFLICTS]:
        click.echo(f"conflict: {console.printable(conflict)}")
    if len(report["conflicts"]) > MOST_CONFLICTS:
        click.echo("there are more conflicts; --json has them")
    if refusals or suspicions or report["conflicts"]:
        click.echo()
    console.print_table(
        ("feed", "accepted", "refused", "no cluster hears it"),
        [(feed["feed"], feed["accepted"], feed["refused"], feed["unheard"]) for feed in report["feeds"]],
    )
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
    for warning in report.get("warnings", []):
        click.echo(click.style("warning: ", fg="yellow") + console.printable(warning), err=True)
    for guard in report["guards"]:
        click.echo(click.style("guard: ", fg="red") + guard, err=True)
    where = f"; table {serving['table']} is serving" if serving else "; nothing is serving"
    click.echo(click.style(f"{done} in {report['seconds']:.2f} s{where}", fg="green"))


FACTS = ("what", "subject", "name", "value")
FAMILIES = (("v4", "IPv4"), ("v6", "IPv6"))


def show_changes(changes: dict[str, Any]) -> None:
    """Print what one table changes beside another."""
    console.print_table(
        (f"beside table {changes['before']}", "prefixes", "added", "removed", "changed", "clients moved"),
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
            ("clients moved, of all", *(name for _, name in FAMILIES)),
            [
                (row["partner"] or "no partner", *(console.percent(row[family]) for family, _ in FAMILIES))
                for row in changes["partners"][:MOST_SHOWN]
            ],
        )
    if changes["clusters"]:
        click.echo()
        console.print_table(
            ("nearest cluster", *(f"{name} {verb}" for _, name in FAMILIES for verb in ("gained", "lost"))),
            [
                (
                    row["cluster"],
                    *(
                        console.percent(row[f"{verb}_{family}"])
                        for family, _ in FAMILIES
                        for verb in ("gained", "lost")
                    ),
                )
                for row in changes["clusters"][:MOST_SHOWN]
            ],
        )
    if max(len(changes["partners"]), len(changes["clusters"])) > MOST_SHOWN:
        click.echo(f"these are the first {MOST_SHOWN}, by share; --json has more")


def table_facts(report: dict[str, Any]) -> Iterator[tuple[str, str, str, Any]]:
    """Yield what a check read and would build as lines of (what, subject, name, value)."""
    for feed in report["feeds"]:
        for name in ("accepted", "refused", "unheard"):
            yield "feed", feed["feed"], name, feed[name]
    for name, value in (*report["counts"].items(), ("duplicates", report["duplicates"])):
        yield "table", "", name, value
    for conflict in report["conflicts"]:
        prefix, _, said = conflict.partition(": ")
        yield "conflict", prefix, said, ""


def refusal_facts(report: dict[str, Any]) -> Iterator[tuple[str, str, str, Any]]:
    """Yield what a check refused as lines of (what, subject, name, value)."""
    for feed in report["feeds"]:
        for rule, rows in feed["refused_by"].items():
            yield "refused_by", feed["feed"], rule, rows
        for refusal in feed["refusals"]:
            yield "refused", f"{feed['feed']}:{refusal['row']}", refusal["rule"], refusal["value"]
    for guard in report["guards"]:
        yield "guard", "", guard, ""


def change_facts(changes: dict[str, Any] | None) -> Iterator[tuple[str, str, str, Any]]:
    """Yield changes as lines of (what, subject, name, value)."""
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
