"""Where a client is sent, and why: lookup, explain, what-if."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any, Final

import click

from steering import console
from steering.cli.command import Command, open_services, options
from steering.errors import RequestError
from steering.settings import Settings

MOST_CANDIDATES: Final = 24

if TYPE_CHECKING:
    from steering.decision.what_if import Question


@click.command()
@click.argument("queries", metavar="IP|PREFIX...", nargs=-1, required=True)
@options
def lookup(settings: Settings, as_json: bool, queries: tuple[str, ...]) -> None:
    """Show what addresses resolve to, or which routes prefixes have.

    For an address: its matched prefix, origin, partner, region and nearest clusters. For a prefix: its routes, the
    routes that cover it, and how many prefixes lie inside. `-` reads addresses from standard input, one a line.
    """
    words = [line.strip() for line in sys.stdin if line.strip()] if queries == ("-",) else list(queries)
    prefixes = [word for word in words if "/" in word]
    addresses = [word for word in words if "/" not in word]
    reports = look_up_addresses(settings, addresses) if addresses else []
    if prefixes:
        with open_services(settings) as control:
            routes = [control.tables.routes(prefix) for prefix in prefixes]
    else:
        routes = []
    if as_json:
        console.print_json([*reports, *routes])
        return
    if reports:
        columns = ("address", "prefix", "origin", "partner", "region", "nearest cluster", "city", "scope")
        console.print_table(columns, [lookup_row(report) for report in reports])
    for report in routes:
        show_routes(report)


def look_up_addresses(settings: Settings, addresses: list[str]) -> list[dict[str, Any]]:
    """Return what each address resolves to in the published table."""
    from steering.decision.explain import describe
    from steering.decision.snapshot import Snapshot

    snapshot = Snapshot.map(settings.state)
    reports = []
    for address in addresses:
        try:
            reports.append(describe(snapshot, address))
        except ValueError as error:
            raise RequestError.of_parameter("ip", address, "an IPv4 or IPv6 address without a zone id") from error
    return reports


def lookup_row(report: dict[str, Any]) -> tuple[Any, ...]:
    """Return the row of one address."""
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
    """Print the routes of a prefix."""
    console.print_facts(
        [
            ("prefix", report["prefix"]),
            ("table", report["serving"]["table"]),
            ("inside", f"{report['inside_count']} announced prefixes"),
        ]
    )
    print_routes([*report["exact"], *report["covering"]])


def print_routes(routes: list[dict[str, Any]]) -> None:
    """Print routes, one a row."""
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
    """Give a command its arguments for a client and a title as one `Question`."""

    @click.argument("ip", metavar="IP|PREFIX")
    @click.option("--title", default="a title", show_default=True, help="The title to play.")
    @click.option("--service", help="The service (default: the setting `default_service`).")
    @click.option("--session", default="", help="The id of the viewer's session.")
    @click.option("-n", type=click.IntRange(1, 8), help="The number of targets (default: of the service).")
    @click.option("--family", type=click.Choice(["4", "6"]), help="Only appliances that answer on this IP version.")
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
@click.option("--all", "show_all", is_flag=True, help="Show every candidate, not only the first 24.")
@options
@asking
def explain(settings: Settings, as_json: bool, question: Question, show_all: bool) -> None:
    """Show why a client is sent to its appliances: routes, ranking, candidates with reasons, and the answer.

    For a prefix, its first address is used; the scope says for which addresses the answer is the same.
    """
    from steering.decision.snapshot import Snapshot

    report = question.answered_by(Snapshot.map(settings.state))
    if as_json:
        console.print_json(report)
    else:
        show_explained(report, show_all)


@click.command("what-if")
@click.option("--table", type=click.IntRange(1), help="Use this kept table.")
@click.option("--off", multiple=True, metavar="ID", help="Switch off this appliance, or this site; may be repeated.")
@click.option(
    "--route",
    "routes",
    multiple=True,
    metavar="ROW",
    help="Add the route prefix,cluster[,as_path,med,class,origin]; may be repeated.",
)
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
    """Show the answer that a client would get with another table, without some appliances, or with more routes."""
    from steering.control.routes.proposed import propose
    from steering.decision.what_if import what_if as ask

    report = ask(settings.state, question, table=table, off=off, proposed=propose(settings, routes))
    if as_json:
        console.print_json(report)
        return
    show_explained(report["then"], show_all=False)
    now = ", ".join(target.get("appliance", "fallback") for target in report["now"]["targets"])
    click.echo(f"the answer now: {now}" if report["changed"] else "the answer now is the same")


def show_explained(report: dict[str, Any], show_all: bool) -> None:
    """Print an answer and its reasons."""
    why = report["explain"]
    show_client(report, why)
    click.echo()
    print_routes(why["routes"])
    columns = ("rank", "cluster", "class", "city", "country", "behind")
    console.print_table(
        (*columns[:-1], "behind by"),
        [tuple(entry[column] for column in columns) for entry in why["ranking"]],
        title="ranking",
    )
    if why["refused"]:
        console.print_table(
            ("feed", "row", "value", "rule"),
            [(row["feed"], row["row"], row["value"], row["rule"]) for row in why["refused"]],
            title="refused",
        )
    show_candidates(why, None if show_all else MOST_CANDIDATES)
    console.print_table(
        ("", "target"),
        [
            (number, target["url"] + " (the service's fallback)" * bool(target.get("fallback")))
            for number, target in enumerate(report["targets"], 1)
        ],
        title=f"answer, good for {report['ttl']} s",
    )


def show_client(report: dict[str, Any], why: dict[str, Any]) -> None:
    """Print what the client's address resolves to, and in which table."""
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


def show_candidates(why: dict[str, Any], most: int | None) -> None:
    """Print the candidates, each picked or with the reason of its refusal."""
    candidates = why["candidates"]
    columns = ("rank", "appliance", "site", "weight", "pick")
    console.print_table(
        (*columns, "passed over"),
        [(*(item[name] for name in columns), why["reasons"].get(item["reason"])) for item in candidates[:most]],
        title="candidates",
    )
    if most and len(candidates) > most:
        click.echo(f"and {len(candidates) - most} more; --all shows them")
