"""Which way a client goes, and why: lookup, explain, what-if."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

import click

from steering import console
from steering.cli.command import Command, options, writing
from steering.errors import RequestError
from steering.settings import Settings

if TYPE_CHECKING:
    from steering.decision.what_if import Question


@click.command()
@click.argument("asked", metavar="IP|PREFIX...", nargs=-1, required=True)
@options
def lookup(settings: Settings, as_json: bool, asked: tuple[str, ...]) -> None:
    """Show what addresses resolve to, or what is announced for prefixes.

    An address brings its matched prefix, origin, partner, region and nearest clusters; a prefix brings its own routes,
    those that cover it, and how many lie inside. `-` reads addresses from standard input, one a line.
    """
    words = [line.strip() for line in sys.stdin if line.strip()] if asked == ("-",) else list(asked)
    prefixes = [word for word in words if "/" in word]
    addresses = [word for word in words if "/" not in word]
    reports = look_up_addresses(settings, addresses) if addresses else []
    if prefixes:
        with writing(settings) as control:
            found = [control.tables.routes(prefix) for prefix in prefixes]
    else:
        found = []
    if as_json:
        console.print_json([*reports, *found])
        return
    if reports:
        columns = ("address", "prefix", "origin", "partner", "region", "nearest cluster", "city", "scope")
        console.print_table(columns, [lookup_row(report) for report in reports])
    for report in found:
        show_routes(report)


def look_up_addresses(settings: Settings, addresses: list[str]) -> list[dict[str, Any]]:
    """Return what the published table says of each address."""
    from steering.decision.snapshot import Snapshot

    snapshot = Snapshot.map(settings.state)
    reports = []
    for address in addresses:
        try:
            reports.append(snapshot.describe(address))
        except ValueError as error:
            raise RequestError.of_parameter("ip", address, "an IPv4 or IPv6 address without a zone id") from error
    return reports


def lookup_row(report: dict[str, Any]) -> tuple[Any, ...]:
    """Return the line of one address."""
    nearest = report["ranking"][0] if report["ranking"] else {}
    partner = report["partner"]
    return (
        report["address"],
        report["prefix"] or "no route",
        asns(report["origins"]),
        partner["name"] if partner else None,
        report["region"],
        nearest.get("cluster"),
        nearest.get("city"),
        report["scope"],
    )


def asns(numbers: list[int]) -> str:
    """Return AS numbers as people write them."""
    return " ".join(f"AS{number}" for number in numbers)


def show_routes(report: dict[str, Any]) -> None:
    """Print what is announced about a prefix."""
    console.print_facts(
        [
            ("prefix", report["prefix"]),
            ("table", report["serving"]["table"]),
            ("inside", f"{report['inside_count']} announced prefixes"),
        ]
    )
    print_routes([*report["exact"], *report["covering"]])


def print_routes(routes: list[dict[str, Any]]) -> None:
    """Print routes, one a line."""
    console.print_table(
        ("prefix", "cluster", "class", "AS path", "MED", "feed", "RPKI"),
        [
            (
                route["prefix"],
                route["cluster"],
                route["class"],
                " ".join(str(asn) for asn in route["as_path"]),
                str(route["med"]),
                route["feed"],
                route["rpki"],
            )
            for route in routes
        ],
        title="routes" if routes else "no route",
    )


def asking(command: Command) -> Command:
    """Give a command the client, and what is asked for, as a `Question`."""

    @click.argument("ip", metavar="IP|PREFIX")
    @click.option("--title", default="a title", show_default=True, help="What is to be played.")
    @click.option("--service", help="The service (default: setting `default_service`).")
    @click.option("--session", default="", help="The viewer's session.")
    @click.option("-n", type=click.IntRange(1, 8), help="How many targets (default: as the service says).")
    @click.option("--family", type=click.Choice(["4", "6"]), help="Only appliances up on this IP version.")
    @functools.wraps(command)
    def run(
        settings: Settings,
        as_json: bool,
        ip: str,
        title: str,
        service: str | None,
        session: str,
        n: int | None,
        family: str | None,
        **given: Any,
    ) -> None:
        from steering.decision.what_if import Question, first_address

        name = service or settings.default_service
        question = Question(first_address(ip), title, name, session, n or 0, int(family or 0))
        command(settings, as_json, question=question, **given)

    return run  # type: ignore[return-value]


@click.command()
@click.option("--all", "show_all", is_flag=True, help="Show every candidate, not the first 24.")
@options
@asking
def explain(settings: Settings, as_json: bool, question: Question, show_all: bool) -> None:
    """Show why a client is sent where: routes, ranking, every candidate with its reason, and the answer.

    Of a prefix, its first address is asked for; the scope says for which others the answer is the same.
    """
    from steering.decision.snapshot import Snapshot

    report = question.asked_of(Snapshot.map(settings.state))
    if as_json:
        console.print_json(report)
    else:
        show_explained(report, show_all)


@click.command("what-if")
@click.option("--table", type=click.IntRange(1), help="With this kept table.")
@click.option("--off", multiple=True, metavar="ID", help="With this appliance, or all of this site, switched off.")
@click.option("--route", "routes", multiple=True, metavar="ROW", help="With prefix,cluster[,as_path,med,class,origin].")
@options
@asking
def what_if(
    settings: Settings,
    as_json: bool,
    question: Question,
    table: int | None,
    off: tuple[str, ...],
    routes: tuple[str, ...],
) -> None:
    """Show what a client would be answered with another table, with appliances off, or with a route more."""
    from steering.decision.what_if import what_if as ask

    report = ask(settings, question, table=table, off=off, routes=routes)
    if as_json:
        console.print_json(report)
        return
    show_explained(report["then"], show_all=False)
    was = ", ".join(target.get("appliance", "fallback") for target in report["now"]["targets"])
    click.echo(f"now it is {was}" if report["changed"] else "that is the answer now, too")


def show_explained(report: dict[str, Any], show_all: bool) -> None:
    """Print an answer and its reasons."""
    why = report["explain"]
    partner = why["partner"]
    console.print_facts(
        [
            ("client", why["address"]),
            ("prefix", why["prefix"] or "no route covers it"),
            ("origin", asns(why["origins"])),
            ("partner", f"{partner['name']} ({partner['id']}, {partner['country']})" if partner else None),
            ("region", why["region"]),
            ("scope", f"{why['scope']} (the same answer for all of it)" if why["scope"] else None),
            ("table", f"{report['table']} (fleet {why['versions']['fleet']}), {why['versions']['age_s']:,.0f} s old"),
            ("canary", f"{why['canary']} the change" if why["canary"] else None),
            ("policy", " > ".join(why["policy"])),
        ]
    )
    click.echo()
    print_routes(why["routes"])
    console.print_table(
        ("rank", "cluster", "class", "city", "country", "behind by"),
        [
            (
                ranking_entry["rank"],
                ranking_entry["cluster"],
                ranking_entry["class"],
                ranking_entry["city"],
                ranking_entry["country"],
                ranking_entry["behind"],
            )
            for ranking_entry in why["ranking"]
        ],
        title="ranking",
    )
    if why["refused"]:
        console.print_table(
            ("feed", "row", "value", "rule"),
            [(item["feed"], item["row"], item["value"], item["rule"]) for item in why["refused"]],
            title="refused",
        )
    most = None if show_all else 24
    candidates = why["candidates"]
    console.print_table(
        ("rank", "appliance", "site", "weight", "pick", "passed over"),
        [
            (
                item["rank"],
                item["appliance"],
                item["site"],
                item["weight"],
                item["pick"],
                why["reasons"].get(item["reason"]),
            )
            for item in candidates[:most]
        ],
        title="candidates",
    )
    if most and len(candidates) > most:
        click.echo(f"and {len(candidates) - most} more; --all shows them")
    console.print_table(
        ("", "target"),
        [
            (place, target["url"] + " (the service's fallback)" * bool(target.get("fallback")))
            for place, target in enumerate(report["targets"], 1)
        ],
        title=f"answer, good for {report['ttl']} s",
    )
