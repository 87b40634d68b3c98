"""The command `steering`. Tables for people, `--json` for machines.

Exit 0: done; 1: refused or failed; 2: wrong usage or settings.

What changes something goes to the running control process over `control.sock`; with none running, the command takes
the state folder's lock and does it itself. What only looks (lookup, explain) maps the state folder and asks nobody.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import getpass
import logging
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TextIO, TypeVar

import click

from steering import console
from steering.errors import FeedError, PartnerError, SettingsError, SteeringError
from steering.settings import Settings, read_settings

if TYPE_CHECKING:
    from steering.control.fleet.quality import By
    from steering.control.network.feeds import FeedSource
    from steering.control.network.what_if import Question
    from steering.control.remote import RemoteWriter
    from steering.control.writer import Writer
    from steering.replay import Replay

FAILED: Final = 1
MOST_MOVED: Final = 10  # partners and clusters that a person is shown
MOST_CONFLICTS: Final = 20
WRONG: Final = 2

Command = TypeVar("Command", bound=Callable[..., None])


class Commands(click.Group):
    """A group whose commands are listed in the order they are written, and say what went wrong."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the commands, everyday ones first."""
        return list(self.commands)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Request steering for a content delivery network: which few appliances should serve this client, best first?

    Settings come from flags, STEERING_* in the environment, and steering.toml; `steering settings` lists them.
    """


def options(command: Command) -> Command:
    """Give a command --state and --json, the settings in force, and errors as people or machines read them."""

    @click.option("--state", type=click.Path(path_type=Path), help="The state folder (default: setting `state`).")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
    @functools.wraps(command)
    def run(state: Path | None, as_json: bool, **given: Any) -> None:
        try:
            command(read_settings(state=state), as_json, **given)
        except SteeringError as error:
            fail(error, as_json)

    return run  # type: ignore[return-value]


def fail(error: SteeringError, as_json: bool) -> NoReturn:
    """Print an error and leave with its status."""
    console.print_error(error, as_json)
    sys.exit(WRONG if isinstance(error, SettingsError) else FAILED)


def who() -> str:
    """Return who types, for the record."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        return "unknown"


@contextlib.contextmanager
def writing(settings: Settings) -> Iterator[Writer | RemoteWriter]:
    """Give the one who may write: the running control process, or a writer of this process."""
    from steering.control.remote import open_writer

    with open_writer(settings) as writer:
        yield writer


def progress_for(as_json: bool) -> contextlib.AbstractContextManager[console.Progress]:
    """Return how progress is shown."""
    return console.show_nothing() if as_json else console.show_progress()


# ---- serve


@main.command()
@click.option(
    "--listen", help="The playback doors, comma-separated (default: 127.0.0.1:8080); unix:/path is a Unix socket."
)
@click.option("--workers", type=int, help="Playback worker processes (default: 2).")
@click.option("--appliances", type=click.IntRange(1), help="Size of the synthetic fleet of an empty state folder.")
@click.option("--no-synth", is_flag=True, help="Refuse to serve where no fleet was imported.")
@click.option("--state", type=click.Path(path_type=Path), help="The state folder (default: setting `state`).")
@click.option("--verbose", is_flag=True, help="Log every swap of tables, not only what went wrong.")
def serve(
    listen: str | None,
    workers: int | None,
    appliances: int | None,
    no_synth: bool,
    state: Path | None,
    verbose: bool,
) -> None:
    """Serve: one control process, and the playback workers.

    An empty state folder gets a synthetic fleet over real networks, and the shipped table of the whole Internet.
    SIGTERM finishes what is in flight; SIGHUP reads the feeds again.
    """
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    from steering import supervisor

    try:
        settings = read_settings(state=state, listen=listen, workers=workers)
        say = functools.partial(print, flush=True)
        supervisor.serve(settings, who(), console.show_progress, appliances, not no_synth, say)
    except SteeringError as error:
        fail(error, as_json=False)


# ---- look


@main.command()
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
        with writing(settings) as writer:
            found = [writer.routes(prefix) for prefix in prefixes]
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
    from steering.snapshot import Snapshot

    snapshot = Snapshot.map(settings.state)
    reports = []
    for address in addresses:
        try:
            reports.append(snapshot.describe(address))
        except ValueError as error:
            raise PartnerError.of_parameter("ip", address, "an IPv4 or IPv6 address without a zone id") from error
    return reports


def lookup_row(report: dict[str, Any]) -> tuple[Any, ...]:
    """Return the line of one address."""
    nearest = report["ladder"][0] if report["ladder"] else {}
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
        from steering.control.network.what_if import Question, first_address

        name = service or settings.default_service
        question = Question(first_address(ip), title, name, session, n or 0, int(family or 0))
        command(settings, as_json, question=question, **given)

    return run  # type: ignore[return-value]


@main.command()
@click.option("--all", "show_all", is_flag=True, help="Show every candidate, not the first 24.")
@options
@asking
def explain(settings: Settings, as_json: bool, question: Question, show_all: bool) -> None:
    """Show why a client is sent where: routes, ladder, every candidate with its reason, and the answer.

    Of a prefix, its first address is asked for; the scope says for which others the answer is the same.
    """
    from steering.snapshot import Snapshot

    report = question.asked_of(Snapshot.map(settings.state))
    if as_json:
        console.print_json(report)
    else:
        show_explained(report, show_all)


@main.command("what-if")
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
    from steering.control.network.what_if import what_if as ask

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
            (rung["rank"], rung["cluster"], rung["class"], rung["city"], rung["country"], rung["behind"])
            for rung in why["ladder"]
        ],
        title="ladder",
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


# ---- wishes


@main.command()
@click.argument("appliances", metavar="APPLIANCE...", nargs=-1, required=True)
@options
def drain(settings: Settings, as_json: bool, appliances: tuple[str, ...]) -> None:
    """Let appliances take no new clients, from the next request on."""
    with writing(settings) as writer:
        show_wishes(writer.drain(appliances, who()), as_json)


@main.command()
@click.argument("appliances", metavar="APPLIANCE...", nargs=-1, required=True)
@options
def enable(settings: Settings, as_json: bool, appliances: tuple[str, ...]) -> None:
    """Let drained appliances serve again."""
    with writing(settings) as writer:
        show_wishes(writer.enable(appliances, who()), as_json)


@main.command()
@click.argument("appliance")
@click.argument("value", metavar="VALUE|auto")
@options
def weight(settings: Settings, as_json: bool, appliance: str, value: str) -> None:
    """Set an appliance's weight, 0 to 65535; auto goes back to its capacity's (one for each 100 Mbit/s)."""
    if value != "auto" and not (value.isascii() and value.isdigit()):
        raise PartnerError.of_parameter("weight", value, "a number from 0 to 65535, or auto")
    with writing(settings) as writer:
        show_wishes(writer.weight([appliance], None if value == "auto" else int(value), who()), as_json)


@main.command()
@click.argument("belief", type=click.Choice(["assumed", "reported", "auto"]))
@click.argument("appliances", metavar="APPLIANCE...", nargs=-1, required=True)
@options
def believe(settings: Settings, as_json: bool, belief: str, appliances: tuple[str, ...]) -> None:
    """Believe appliances at their capacity (assumed), by their reports alone (reported), or as the setting says (auto).

    One that is reported and was never heard of takes no clients.
    """
    with writing(settings) as writer:
        show_wishes(writer.believe(appliances, "" if belief == "auto" else belief, who()), as_json)


@main.command()
@click.option("--release", is_flag=True, help="They are down: let them take no clients.")
@click.option("--why", default="", help="Why, for the record.")
@options
def held(settings: Settings, as_json: bool, release: bool, why: str) -> None:
    """Show appliances that seem down and serve on, because more are than silence or a monitor may take out at once."""
    with writing(settings) as writer:
        rows = writer.held()
        released = writer.release(who(), why)["released"] if release else []
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


# ---- maintenance


@main.group(cls=Commands)
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
    with writing(settings) as writer:
        show_windows([writer.add_window(kind, subject, begins_at, ends_at, who(), why)], as_json)


@window.command("list")
@click.option("--ended", is_flag=True, help="Also those that are over or cancelled.")
@options
def list_windows(settings: Settings, as_json: bool, ended: bool) -> None:
    """List the windows that are on or to come."""
    with writing(settings) as writer:
        show_windows(writer.windows(ended), as_json)


@window.command("cancel")
@click.argument("ids", metavar="ID...", type=click.IntRange(1), nargs=-1, required=True)
@click.option("--why", default="", help="Why, for the record.")
@options
def cancel_window(settings: Settings, as_json: bool, ids: tuple[int, ...], why: str) -> None:
    """Cancel windows that are to come, or end early those that are on."""
    with writing(settings) as writer:
        show_windows([writer.cancel_window(number, who(), why) for number in ids], as_json)


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
        raise PartnerError.of_parameter(name, text, "a time as 2026-12-01T22:00 or 2026-12-01T22:00Z") from error


SPAN = re.compile(r"([0-9]{1,6})([hd])", re.ASCII)


def span(name: str, text: str) -> float:
    """Return the seconds of `6h` or `2d`."""
    found = SPAN.fullmatch(text)
    if not found:
        raise PartnerError.of_parameter(name, text, "hours or days, as 6h or 2d")
    return int(found[1]) * (3600.0 if found[2] == "h" else 86_400.0)


def show_wishes(report: dict[str, Any], as_json: bool) -> None:
    """Print what is wished now."""
    if as_json:
        console.print_json(report)
        return
    console.print_table(
        ("appliance", "enabled", "weight", "set by hand", "belief"),
        [
            (item["appliance"], item["enabled"], item["weight"], item["set"], item["belief"] or "auto")
            for item in report["appliances"]
        ],
    )


# ---- watch


@main.command()
@click.option("--once", is_flag=True, help="Print it once and end.")
@click.option("--every", type=click.FloatRange(0.5, 60), default=2.0, show_default=True, help="Seconds between looks.")
@options
def top(settings: Settings, as_json: bool, once: bool, every: float) -> None:
    """Show the fleet live: totals, alarms, the clusters that are worst off, the last changes. `q` ends it."""
    from steering import top as looking
    from steering.control.remote import running_control

    with running_control(settings) as control:
        if as_json:
            console.print_json(control.overview())
        elif once or not sys.stdout.isatty():
            console.output().print(looking.frame(control.overview(), console.output().width, 0))
        else:
            looking.watch(lambda: control.overview(looking.MOST_ROWS), every)


@main.command()
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


# ---- who may


@main.group(cls=Commands)
def token() -> None:
    """Make, list and revoke what opens the control door over TCP."""


@token.command()
@click.argument("role", metavar="ops|partner:ID|appliance:ID")
@click.option("--name", default="", help="Whose it is, for the record.")
@click.option("--days", type=float, help="For how many days (default: until it is revoked).")
@options
def make(settings: Settings, as_json: bool, role: str, name: str, days: float | None) -> None:
    """Make a token and print it. It is shown this once: only a hash of it is kept."""
    with writing(settings) as writer:
        report = writer.make_token(role, name, who(), days)
    if as_json:
        console.print_json(report)
    else:
        click.echo(report["token"])


@token.command("list")
@options
def list_tokens(settings: Settings, as_json: bool) -> None:
    """List every token ever made, and whether it is good."""
    with writing(settings) as writer:
        rows = writer.list_tokens()
    if as_json:
        console.print_json(rows)
        return
    console.print_table(
        ("id", "role", "name", "good", "made", "by", "expires", "revoked"),
        [
            (
                row["id"],
                row["role"],
                row["name"],
                row["good"],
                console.time_text(row["made_at"]),
                row["who"],
                console.time_text(row["expires_at"]) if row["expires_at"] else None,
                console.time_text(row["revoked_at"]) if row["revoked_at"] else None,
            )
            for row in rows
        ],
    )


@token.command()
@click.argument("ids", metavar="ID...", type=int, nargs=-1, required=True)
@options
def revoke(settings: Settings, as_json: bool, ids: tuple[int, ...]) -> None:
    """Let tokens open no door any more, from the next request on."""
    with writing(settings) as writer:
        reports = [writer.revoke_token(number, who()) for number in ids]
    if as_json:
        console.print_json(reports)
    else:
        console.print_table(("revoked", "role", "name"), [(row["id"], row["role"], row["name"]) for row in reports])


@main.group(cls=Commands)
def key() -> None:
    """Make, list and retire the keys that URLs are signed with."""


@key.command("make")
@click.argument("name", metavar="ID")
@click.option("--secret-file", type=click.Path(path_type=Path), help="Write the secret to this new file, mode 0600.")
@click.option(
    "--from", "source", type=click.File(errors="replace"), help="The file that has its secret, - for standard input."
)
@options
def make_key(settings: Settings, as_json: bool, name: str, secret_file: Path | None, source: TextIO | None) -> None:
    """Make a key and print its secret, for the appliances. It is shown this once.

    To change a key: make a new one, put it on the appliances beside the old one, name it first in the services, wait
    until the last tokens have expired, take the old one out of the services, and retire it.
    """
    secret = source.read().strip() if source else ""
    if source and not secret:
        raise PartnerError("the secret that was given is empty; nothing was made")
    with new_file(secret_file) as file, writing(settings) as writer:
        report = writer.make_key(name, who(), secret)
        if file:
            file.write(report.pop("secret", secret) + "\n")
    if as_json:
        console.print_json(report)
    elif "secret" in report:
        click.echo(report["secret"])
    else:
        click.echo(f"key {name} is made" + (f"; its secret is in {secret_file}" if secret_file else ""))


@contextlib.contextmanager
def new_file(path: Path | None) -> Iterator[TextIO | None]:
    """Give a new file that only its owner may read, None where there is no path; it goes where the block fails."""
    if path is None:
        yield None
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}", hint="name a file that is not there yet") from error
    try:
        with os.fdopen(descriptor, "w") as file:
            yield file
    except BaseException:
        path.unlink(missing_ok=True)
        raise


@key.command("list")
@options
def list_keys(settings: Settings, as_json: bool) -> None:
    """List the keys, and the services that each signs for or is named by."""
    with writing(settings) as writer:
        rows = writer.list_keys()
    if as_json:
        console.print_json(rows)
        return
    console.print_table(
        ("id", "made", "signs for", "named by"),
        [
            (row["id"], console.time_text(row["made_at"]), ", ".join(row["signs"]), ", ".join(row["named_by"]))
            for row in rows
        ],
        title="" if rows else "no key is made",
    )


@key.command("retire")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@options
def retire_key(settings: Settings, as_json: bool, ids: tuple[str, ...]) -> None:
    """Take away keys that no service names any more."""
    with writing(settings) as writer:
        reports = [writer.retire_key(name, who()) for name in ids]
    if as_json:
        console.print_json(reports)
    else:
        console.print_table(("retired", "made"), [(row["id"], console.time_text(row["made_at"])) for row in reports])


@main.command()
@click.option("-n", "count", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many.")
@click.option("--below", type=int, help="Only entries below this number, to read on.")
@options
def audit(settings: Settings, as_json: bool, count: int, below: int | None) -> None:
    """Show who changed what, newest first; --json has what each thing was and became."""
    with writing(settings) as writer:
        entries = writer.audit(count, below)
    if as_json:
        console.print_json(entries)
        return
    console.print_table(
        ("number", "when", "who", "what", "subject", "why"),
        [
            (
                entry["number"],
                console.time_text(entry["at"]),
                entry["who"],
                entry["what"],
                entry["subject"],
                entry["why"],
            )
            for entry in entries
        ],
    )


# ---- tables


@main.group(cls=Commands)
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
    with writing(settings) as writer, progress_for(as_json) as progress:
        report = writer.check(sources_of(sources), progress)
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
    with writing(settings) as writer, progress_for(as_json) as progress:
        report = writer.publish(sources_of(sources), who(), why, progress, force, canary / 100)
    show_table(report, as_json, "published")


@table.command("list")
@options
def list_tables(settings: Settings, as_json: bool) -> None:
    """List the published tables, newest first. --json has all of each `why`, and the feeds with their hashes."""
    with writing(settings) as writer:
        rows = writer.tables()
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
    with writing(settings) as writer:
        changes = writer.diff(before, after, examples)
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
    with writing(settings) as writer:
        show_served(writer.rollback(version, who(), why), as_json, ", and pinned; steering table unpin")


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
    with writing(settings) as writer:
        show_served(writer.promote(who(), why), as_json, "")


@table.command()
@WHY
@options
def withdraw(settings: Settings, as_json: bool, why: str) -> None:
    """Serve all clients with the table from before the canary, and pin it."""
    with writing(settings) as writer:
        show_served(writer.withdraw(who(), why), as_json, ", and pinned; steering table unpin")


@table.command()
@WHY
@options
def pin(settings: Settings, as_json: bool, why: str) -> None:
    """Keep the table that serves: no reload replaces it, until `unpin` or the next publish by hand."""
    with writing(settings) as writer:
        report = writer.pin(who(), why)
    if as_json:
        console.print_json(report)
    else:
        click.echo(f"table {report['pinned']} is pinned")


@table.command()
@options
def unpin(settings: Settings, as_json: bool) -> None:
    """Let reloads publish again."""
    with writing(settings) as writer:
        report = writer.unpin(who())
    if as_json:
        console.print_json(report)
    else:
        click.echo("no table is pinned")


@main.command()
@options
def reload(settings: Settings, as_json: bool) -> None:
    """Read the feeds of the last publish again, and publish them, unless a table is pinned."""
    with writing(settings) as writer, progress_for(as_json) as progress:
        report = writer.reload(who(), progress)
    show_table(report, as_json, "published")


@main.command()
@click.option("--partner", default="", help="Of this partner alone.")
@options
def report(settings: Settings, as_json: bool, partner: str) -> None:
    """Show what could be mended in the routes: stolen space, no second site, uneven clusters, one family, refusals."""
    with writing(settings) as writer:
        found = writer.route_report(partner)
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
                    for row in found[name][:MOST_MOVED]
                ],
                title=title,
            )
            if len(found[name]) > MOST_MOVED:
                click.echo(f"and {len(found[name]) - MOST_MOVED} more; --json has them")
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


@main.command()
@click.option("--partner", default="", help="Of this partner's clusters alone.")
@click.option("-n", "count", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many.")
@options
def missing(settings: Settings, as_json: bool, partner: str, count: int) -> None:
    """List what should be filled where: titles that clusters were asked for and do not hold, most asked first."""
    with writing(settings) as writer:
        rows = writer.missing(partner, count)
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


@main.command()
@click.option("--by", type=click.Choice(("partner", "cluster", "appliance")), default="partner", show_default=True)
@click.option("--partner", default="", help="Of this partner alone.")
@click.option("-n", "count", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many.")
@options
def quality(settings: Settings, as_json: bool, by: By, partner: str, count: int) -> None:
    """Show how playback goes by what players report, where it hurts most first."""
    with writing(settings) as writer:
        rows = writer.quality(by, partner, count)
    if as_json:
        console.print_json(rows)
        return
    if not rows:
        click.echo("no player has reported anything yet: POST /v1/cmcd")
        return
    console.print_table(
        (by, "reports", "kbit/s", "bitrate", "stalls/1000", "errors/1000", "starts", "start ms", "voices", "failing"),
        [(row.pop(by) or "(elsewhere)", *row.values()) for row in rows],
    )


@main.command()
@options
def sessions(settings: Settings, as_json: bool) -> None:
    """List the live BGP sessions, and how many routes each has announced."""
    with writing(settings) as writer:
        rows = writer.sessions()
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


def sources_of(names: tuple[str, ...]) -> list[FeedSource]:
    """Return the feeds that a command names; their paths made absolute, for a process that stands elsewhere."""
    from steering.control.network.feeds import KINDS, FeedSource, kind_of
    from steering.control.network.fetch import is_url, path_of

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
    doubts = [
        (source["feed"], kind.rstrip("s"), item["row"], item["value"], item["rule"])
        for source in report["other_sources"]
        for kind in ("refusals", "warnings")
        for item in source.get(kind, [])[:MOST_MOVED]
    ]
    if doubts:
        click.echo()
        console.print_table(("beside the feeds", "", "row", "value", "rule"), doubts)
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
    if refusals or doubts or report["conflicts"]:
        click.echo()
    console.print_table(
        ("feed", "accepted", "refused", "no cluster hears it"),
        [(feed["feed"], feed["accepted"], feed["refused"], feed["unheard"]) for feed in report["feeds"]],
    )
    click.echo()
    console.print_facts(
        [
            ("prefixes", f"{counts['prefixes_v4']:,} IPv4, {counts['prefixes_v6']:,} IPv6"),
            ("zones", f"{counts['zones']:,} with {counts['ladders']:,} ladders"),
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
                for row in changes["partners"][:MOST_MOVED]
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
                for row in changes["clusters"][:MOST_MOVED]
            ],
        )
    if max(len(changes["partners"]), len(changes["clusters"])) > MOST_MOVED:
        click.echo(f"these are the first {MOST_MOVED}, by share; --json has more")


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


@main.command()
@click.argument("logs", metavar="LOG...", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--table", "other", type=click.IntRange(1), help="What this table would have answered.")
@options
def replay(settings: Settings, as_json: bool, logs: tuple[Path, ...], other: int | None) -> None:
    """Answer the requests of a decision log (files, or its folder) again, and show what is different.

    Exit status 1 on any difference, but with --table, where differences are what is asked for.
    """
    from steering import replay as replaying
    from steering.playback.decisions import read_decisions

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


# ---- fleet


@main.group(cls=Commands)
def playlist() -> None:
    """Register the playlists that players are given with their appliances in them, and what streams a title has."""


KIND = click.argument("kind", type=click.Choice(["hls", "dash", "streams"]))


@playlist.command("put")
@click.argument("service")
@click.argument("title")
@KIND
@click.argument("file", type=click.File("rb"), required=False)
@options
def put_playlist(settings: Settings, as_json: bool, service: str, title: str, kind: str, file: Any) -> None:
    """Register a title's playlist from FILE, or without one from the service's origin, now and whenever it changes."""
    with writing(settings) as writer:
        report = writer.shelf.put(service, title, kind, file.read() if file else None, who())
    if as_json:
        console.print_json(report)
    else:
        click.echo(f"{kind} {service}/{title}: {report['bytes']} bytes, registered")
    if kind != "streams" and not settings.public_url:
        click.echo("players play it and are not steered: the setting public_url is empty", err=True)


@playlist.command("list")
@click.option("--count", type=click.IntRange(1, 10_000), default=1000, show_default=True, help="At most so many.")
@click.option("--after", default="", metavar="SERVICE/TITLE/KIND", help="Begin behind this one.")
@options
def list_playlists(settings: Settings, as_json: bool, count: int, after: str) -> None:
    """List the registered playlists, and what is wrong with those of an origin."""
    with writing(settings) as writer:
        rows = writer.shelf.rows(count, after)
    if as_json:
        console.print_json(rows)
        return
    console.print_table(
        ("service", "title", "kind", "bytes", "from", "changed", "by", "problem"),
        [
            (
                *(row["service"], row["title"], row["kind"], row["bytes"], row["url"] or "a person"),
                *(console.time_text(row["changed_at"]), row["who"], row["problem"] or None),
            )
            for row in rows
        ],
    )


@playlist.command("delete")
@click.argument("service")
@click.argument("title")
@KIND
@options
def delete_playlist(settings: Settings, as_json: bool, service: str, title: str, kind: str) -> None:
    """Forget a title's playlist."""
    with writing(settings) as writer:
        report = writer.shelf.delete(service, title, kind, who())
    if as_json:
        console.print_json(report)
    else:
        click.echo(f"{kind} {service}/{title}: deleted")


@main.group(cls=Commands)
def fleet() -> None:
    """Make, import and export the fleet."""


@fleet.command()
@click.option(
    "--appliances", type=click.IntRange(1, 1_000_000), default=19_000, show_default=True, help="Exactly so many."
)
@click.option(
    "--partners", type=click.IntRange(1, 100_000), default=1_500, show_default=True, help="At most so many ISPs."
)
@click.option("--seed", type=int, default=1, show_default=True, help="Another seed, another fleet.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the document here, not to the terminal.")
@click.option("--import", "and_import", is_flag=True, help="Import it instead, and serve it.")
@options
def synth(
    settings: Settings,
    as_json: bool,
    appliances: int,
    partners: int,
    seed: int,
    output: Path | None,
    and_import: bool,
) -> None:
    """Make a reproducible fleet over real networks, as a fleet document. It is assumed, not measured.

    Its partners are the networks that originate most address space in each country. For equal options, equal fleets.
    """
    from steering.control.fleet.documents import format_fleet
    from steering.control.fleet.synth import synthesize

    if and_import and output:
        raise click.UsageError("either --import or --output")
    found = synthesize(appliances, partners, seed)
    if and_import:
        with writing(settings) as writer:
            show_fleet(writer.import_fleet(found, who()), as_json)
    else:
        write_document(format_fleet(found), output)


@fleet.command("import")
@click.argument("file", type=click.File("rb"))
@options
def import_fleet(settings: Settings, as_json: bool, file: Any) -> None:
    """Make a fleet document (`-` for standard input) the fleet on record, and the one served.

    A new cluster serves clients from the next publish on; routes are not touched.
    """
    from steering.control.fleet.documents import MAX_DOCUMENT, parse_fleet

    document = parse_fleet(file.read(MAX_DOCUMENT + 1))
    with writing(settings) as writer:
        show_fleet(writer.import_fleet(document, who()), as_json)


@fleet.command("export")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the document here, not to the terminal.")
@options
def export_fleet(settings: Settings, as_json: bool, output: Path | None) -> None:  # noqa: ARG001 (it is JSON)
    """Print the fleet on record as a fleet document."""
    from steering.control.fleet.documents import format_fleet

    with writing(settings) as writer:
        write_document(format_fleet(writer.fleet()), output)


def write_document(text: str, output: Path | None) -> None:
    """Print a document, or write it to a file."""
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{output}: {error.strerror}") from error
    click.echo(f"wrote {output}", err=True)


def show_fleet(report: dict[str, Any], as_json: bool) -> None:
    """Print what an import changed."""
    if as_json:
        console.print_json(report)
        return
    kinds = ("partners", "sites", "clusters", "appliances", "services")
    rows = [(kind, *(report[kind][count] for count in ("count", "added", "removed", "changed"))) for kind in kinds]
    console.print_table(("", "now", "added", "removed", "changed"), rows)
    for warning in report["warnings"]:
        click.echo(click.style("warning: ", fg="yellow") + console.printable(warning), err=True)
    serving = report["serving"]
    where = f"table {serving['table']} is serving with it" if serving else "nothing is published yet"
    click.echo(click.style(f"fleet {report['fleet']} is on record; {where}", fg="green"))


# ---- what must not be lost

RECORDS_ONLY = click.option("--records-only", is_flag=True, help="The database alone, without the table that serves.")


@main.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@RECORDS_ONLY
@options
def backup(settings: Settings, as_json: bool, file: Path, records_only: bool) -> None:
    """Write all that is needed to serve again into one file, while the service runs or not.

    That is the database (fleet, wishes, windows, tokens, the audit log) and the table that serves with it.
    """
    from steering.control.backup import back_up

    with progress_for(as_json) as progress:
        report = back_up(settings.state, file, records_only=records_only, progress=progress)
    if as_json:
        console.print_json(report)
        return
    console.print_table(("file", "bytes"), list(report["files"].items()))
    click.echo(click.style(f"{file} has it all, {report['bytes']:,} bytes", fg="green"))


@main.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@RECORDS_ONLY
@options
def restore(settings: Settings, as_json: bool, file: Path, records_only: bool) -> None:
    """Put a backup in the place of what the state folder has; what was there is kept aside.

    The service must not be running. Everything is checked before anything is moved.
    """
    from steering.control.backup import restore as put_back

    with progress_for(as_json) as progress:
        report = put_back(settings.state, file, who(), records_only=records_only, progress=progress)
    if as_json:
        console.print_json(report)
        return
    console.print_facts(
        [
            ("backup of", console.time_text(report["made_at"])),
            ("fleet", f"{report['fleet']}, {report['appliances']:,} appliances"),
            ("table", report["table"] or "none; it is published again from its feeds when `steering serve` starts"),
            ("good tokens", f"{report['tokens']}; those that were revoked since then are good again"),
            ("kept aside", report["aside"]),
        ]
    )
    click.echo(click.style("restored; steering serve", fg="green"))


# ---- about itself


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", metavar="[PYTEST ARGUMENTS]", nargs=-1, type=click.UNPROCESSED)
def bench(arguments: tuple[str, ...]) -> None:
    """Measure against peers, and write bench.json. Needs the source tree and the tools of `make setup`."""
    folder = Path(__file__).parents[1] / "tests" / "bench"
    figures = [folder / f"{name}figures.py" for name in ("", "fleet_", "report_", "http_")]
    try:
        import pytest
    except ImportError:
        fail(SettingsError("the tools to measure with are not installed", hint="make setup"), as_json=False)
    if not folder.exists():
        fail(SettingsError(f"{folder}: not here", hint="run it from a clone of the repository"), as_json=False)
    sys.exit(pytest.main([*map(str, figures), "-p", "no:cacheprovider", "--timeout=0", *arguments]))


@main.command()
@click.option("--appliances", type=click.IntRange(100, 1_000_000), default=19_000, show_default=True, help="How many.")
@click.option("--minutes", type=click.FloatRange(0.1, 1440), default=10.0, show_default=True, help="How long in all.")
@click.option(
    "--requests-per-s", type=click.FloatRange(1, 100_000), default=1000.0, show_default=True, help="Of all clients."
)
@click.option("--only", multiple=True, metavar="FAULT", help="These faults alone; may be given several times.")
@click.option("--workers", type=click.IntRange(1, 256), default=2, show_default=True, help="Playback workers.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
def drill(
    appliances: int, minutes: float, requests_per_s: float, only: tuple[str, ...], workers: int, as_json: bool
) -> None:
    """Serve a simulated fleet in a temporary folder, let faults happen to it, and tell what became of the answers.

    A fleet that reports, clients that ask, and one fault after another, at the settings of health and load that are in
    force. Exit status 1 where something did not hold that must.
    """
    from steering.sim import drill as drilling
    from steering.sim import show
    from steering.sim.faults import FAULTS, book_of

    known = {fault.name: fault for fault in FAULTS}
    if unknown := [name for name in only if name not in known]:
        raise click.UsageError(f"{unknown[0]!r} is none of the faults: {', '.join(known)}")
    faults = [fault for name, fault in known.items() if not only or name in only]
    try:
        settings = read_settings()
        plan = drilling.plan_of(settings, minutes, requests_per_s, faults)
        telling = contextlib.nullcontext(show.show_nothing) if as_json else show.show_play(60 * minutes)
        with tempfile.TemporaryDirectory(prefix="steering-drill-") as folder:
            settings = drilling.settings_of_drill(settings, Path(folder) / "state")
            with progress_for(as_json) as progress:
                ready = drilling.prepare(settings, appliances, progress)
            with telling as tell:
                rows, figures = drilling.run(settings, ready, plan, faults, book_of(settings), tell, workers)
    except SteeringError as error:
        fail(error, as_json)
    wrong = any(row.wrong for row in rows) or figures.reports_failed > 0
    if as_json:
        rows_found = [dataclasses.asdict(row) for row in rows]
        console.print_json({"ok": not wrong, "faults": rows_found, "figures": dataclasses.asdict(figures)})
    else:
        show.show_rows(rows)
        show.show_figures(figures, rows)
    if wrong:
        sys.exit(FAILED)


@main.command("settings")
@options
def show_settings(settings: Settings, as_json: bool) -> None:
    """List every setting with its value in force."""
    values = settings.model_dump(mode="json")
    if as_json:
        console.print_json(values)
        return
    console.print_table(
        ("setting", "value in force", "environment", "meaning"),
        [
            (name, console.shown(values[name]), f"STEERING_{name.upper()}", field.description)
            for name, field in Settings.model_fields.items()
        ],
    )


@main.command("version")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
def show_version(as_json: bool) -> None:
    """Print the version of the program and of the state files it writes."""
    from steering.statefile import FORMATS

    if as_json:
        console.print_json({"steering": version("steering"), "formats": FORMATS})
        return
    click.echo(f"steering {version('steering')} (state formats: {', '.join(f'{k} {v}' for k, v in FORMATS.items())})")


if __name__ == "__main__":
    main()
