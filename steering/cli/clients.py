"""Where a client is sent, and why: lookup, explain, what-if."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import click

from steering import console
from steering.cli.command import Answer, open_services, options
from steering.errors import RequestError
from steering.settings import Settings

MOST_CANDIDATES: Final = 24

if TYPE_CHECKING:
    from steering.decision.what_if import Question


@click.command()
@click.argument("queries", metavar="IP|PREFIX...", nargs=-1, required=True)
@options
def lookup(settings: Settings, queries: tuple[str, ...]) -> Answer:
    """Show what addresses resolve to, or which routes prefixes have.

    For an address: its matched prefix, origin, partner, region and nearest clusters. For a prefix: its routes, the
    routes that cover it, and how many prefixes lie inside. `-` reads addresses from standard input, one a line.
    """
    words = [line.strip() for line in sys.stdin if line.strip()] if queries == ("-",) else list(queries)
    prefixes = [word for word in words if "/" in word]
    addresses = [word for word in words if "/" not in word]
    reports = look_up_addresses(settings, addresses) if addresses else []
    routes: list[dict[str, Any]] = []
    if prefixes:
        with open_services(settings) as control:
            routes = [control.tables.routes(prefix) for prefix in prefixes]

    def show(_: list[dict[str, Any]]) -> None:
        if reports:
            columns = ("address", "prefix", "origin", "partner", "region", "nearest cluster", "city", "scope")
            console.print_table(columns, [lookup_row(report) for report in reports])
        for report in routes:
            show_routes(report)

    return [*reports, *routes], show


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
    path = ("AS path", lambda route: " ".join(str(asn) for asn in route["as_path"]))
    med = ("MED", lambda route: "excludes" if route["excludes"] else str(route["med"]))
    console.print_title("routes" if routes else "no route")
    console.table_of("prefix", "cluster", "class", path, med, "feed", ("RPKI", "rpki"))(routes)


def asking(command: Callable[..., Answer]) -> Callable[..., Answer]:
    """Give a command its arguments for a client and a title as one `Question`."""

    @click.argument("ip", metavar="IP|PREFIX")
    @click.option("--title", default="a title", show_default=True, help="The title to play.")
    @click.option("--service", help="The service (default: the setting `default_service`).")
    @click.option("--session", default="", help="The id of the viewer's session.")
    @click.option("-n", type=click.IntRange(1, 8), help="The number of targets (default: of the service).")
    @click.option("--family", type=click.Choice(["4", "6"]), help="Only appliances that answer on this IP version.")
    @click.option(
        "--failed", metavar="ID[,ID]", help="Pass over up to 8 appliances, by id or host: the player failed there."
    )
    @functools.wraps(command)
    def run(
        settings: Settings,
        *,
        ip: str,
        title: str,
        service: str | None,
        session: str,
        n: int | None,
        family: str | None,
        failed: str | None,
        **given: Any,
    ) -> Answer:
        from steering.decision.what_if import Question, failed_appliances, first_address

        name = service or settings.default_service
        question = Question(
            first_address(ip), title, name, session, n or 0, int(family or 0), failed_appliances(failed)
        )
        return command(settings, question=question, **given)

    return run


@click.command()
@click.option("--all", "show_all", is_flag=True, help="Show every candidate, not only the first 24.")
@options
@asking
def explain(settings: Settings, question: Question, show_all: bool) -> Answer:
    """Show why a client is sent to its appliances: routes, ranking, candidates with reasons, and the answer.

    For a prefix, its first address is used, one that stands for no IPv4 address; the scope says for which addresses the
    answer is the same.
    """
    from steering.decision.snapshot import Snapshot

    report = question.answered_by(Snapshot.map(settings.state))
    return report, functools.partial(show_explained, most=None if show_all else MOST_CANDIDATES)


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
    settings: Settings, question: Question, table: int | None, off: tuple[str, ...], routes: tuple[str, ...]
) -> Answer:
    """Show the answer that a client would get with another table, without some appliances, or with more routes."""
    from steering.control.routes.proposed import propose
    from steering.decision.what_if import what_if as ask

    report = ask(settings.state, question, table=table, off=off, proposed=propose(settings, routes))
    return report, show_what_if


def show_what_if(report: dict[str, Any]) -> None:
    """Print the answer with the changes, its reasons, and the answer of now."""
    show_explained(report["then"])
    now = ", ".join(target.get("appliance", "fallback") for target in report["now"]["targets"])
    click.echo(f"the answer now: {now}" if report["changed"] else "the answer now is the same")


def show_explained(report: dict[str, Any], most: int | None = MOST_CANDIDATES) -> None:
    """Print an answer and its reasons, with at most so many candidates."""
    why = report["explain"]
    show_client(report, why)
    click.echo()
    print_routes(why["routes"])
    order = "in the order of price and pressure: a cluster lacks room" if why["by_price"] else "in this order"
    console.print_title(f"ranking, {order}")
    costs = [(name, lambda row, name=name: f"{row[name]:.0%}" if row[name] else "") for name in ("price", "pressure")]
    console.table_of("rank", "cluster", "class", "city", "country", ("behind by", "behind"), *costs)(why["ranking"])
    if why["sites_not_used"]:
        console.print_title("nearest sites not used")
        console.table_of("site", "city", "country", ("km", "distance_km"), "reason")(why["sites_not_used"])
    if why["refused"]:
        console.print_title("refused")
        console.table_of("feed", "row", "value", "rule")(why["refused"])
    console.print_title("candidates")
    passed_over = ("passed over", lambda row: why["reasons"].get(row["reason"]))
    console.table_of("rank", "appliance", "site", "weight", "pick", passed_over)(why["candidates"][:most])
    if most and len(why["candidates"]) > most:
        click.echo(f"and {len(why['candidates']) - most} more; --all shows them")
    targets = [
        target["url"] + " (the service's fallback)" * bool(target.get("fallback")) for target in report["targets"]
    ]
    console.print_table(("", "target"), list(enumerate(targets, 1)), title=f"answer, good for {report['ttl']} s")


def show_client(report: dict[str, Any], why: dict[str, Any]) -> None:
    """Print what the client's address resolves to, and in which table."""
    partner, location, region = why["partner"], why.get("location"), why["region"]
    if region and location and location["source"] == "geofeed":
        region += f" (geofeed {location['name']}, {location['prefix']})"
    console.print_facts(
        [
            ("client", why["address"]),
            ("prefix", why["prefix"] or "no route covers it"),
            ("origin", asns(why["origins"])),
            ("partner", f"{partner['name']} ({partner['id']}, {partner['country']})" if partner else None),
            ("region", region),
            ("scope", f"{why['scope']} (the same answer for all of it)" if why["scope"] else None),
            ("table", f"{report['table']} (fleet {why['versions']['fleet']}), {why['versions']['age_s']:,.0f} s old"),
            ("canary", f"{why['canary']} the change" if why["canary"] else None),
            ("policy", " > ".join(why["policy"])),
        ]
    )
