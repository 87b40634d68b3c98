"""What is on record: the fleet, its playlists, and a copy of it all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from steering import console
from steering.cli.command import Commands, options, progress_for, who, writing
from steering.errors import SettingsError
from steering.settings import Settings


@click.group(cls=Commands)
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
    with writing(settings) as control:
        report = control.playlists.put(service, title, kind, file.read() if file else None, who())
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
    with writing(settings) as control:
        rows = control.playlists.rows(count, after)
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
    with writing(settings) as control:
        report = control.playlists.delete(service, title, kind, who())
    if as_json:
        console.print_json(report)
    else:
        click.echo(f"{kind} {service}/{title}: deleted")


@click.group(cls=Commands)
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
    from steering.control.records.documents import format_fleet
    from steering.control.services.synthetic_fleet import synthesize

    if and_import and output:
        raise click.UsageError("either --import or --output")
    found = synthesize(appliances, partners, seed)
    if and_import:
        with writing(settings) as control:
            show_fleet(control.fleet.replace(found, who()), as_json)
    else:
        write_document(format_fleet(found), output)


@fleet.command("import")
@click.argument("file", type=click.File("rb"))
@options
def import_fleet(settings: Settings, as_json: bool, file: Any) -> None:
    """Make a fleet document (`-` for standard input) the fleet on record, and the one served.

    A new cluster serves clients from the next publish on; routes are not touched.
    """
    from steering.control.records.documents import MAX_DOCUMENT, parse_fleet

    document = parse_fleet(file.read(MAX_DOCUMENT + 1))
    with writing(settings) as control:
        show_fleet(control.fleet.replace(document, who()), as_json)


@fleet.command("export")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the document here, not to the terminal.")
@options
def export_fleet(settings: Settings, as_json: bool, output: Path | None) -> None:  # noqa: ARG001 (it is JSON)
    """Print the fleet on record as a fleet document."""
    from steering.control.records.documents import format_fleet

    with writing(settings) as control:
        write_document(format_fleet(control.fleet.current()), output)


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


RECORDS_ONLY = click.option("--records-only", is_flag=True, help="The database alone, without the table that serves.")


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@RECORDS_ONLY
@options
def backup(settings: Settings, as_json: bool, file: Path, records_only: bool) -> None:
    """Write all that is needed to serve again into one file, while the service runs or not.

    That is the database (fleet, overrides, windows, tokens, the audit log) and the table that serves with it.
    """
    from steering.control.services.backup import back_up

    with progress_for(as_json) as progress:
        report = back_up(settings.state, file, records_only=records_only, progress=progress)
    if as_json:
        console.print_json(report)
        return
    console.print_table(("file", "bytes"), list(report["files"].items()))
    click.echo(click.style(f"{file} has it all, {report['bytes']:,} bytes", fg="green"))


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@RECORDS_ONLY
@options
def restore(settings: Settings, as_json: bool, file: Path, records_only: bool) -> None:
    """Put a backup in the place of what the state folder has; what was there is kept aside.

    The service must not be running. Everything is checked before anything is moved.
    """
    from steering.control.services.backup import restore as put_back

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
