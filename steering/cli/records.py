"""Records: the fleet, its playlists, backup and restore."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from steering import console
from steering.cli.command import Answer, Commands, open_services, options, progress_shown, services, who
from steering.errors import SettingsError
from steering.settings import Settings

if TYPE_CHECKING:
    from steering.model.fleet import Fleet


@click.group(cls=Commands)
def playlist() -> None:
    """Register playlists, into which playback writes the appliances of a player, and the streams of titles."""


KIND = click.argument("kind", type=click.Choice(["hls", "dash", "streams"]))


@playlist.command("put")
@click.argument("service")
@click.argument("title")
@KIND
@click.argument("file", type=click.File("rb"), required=False)
@options
def put_playlist(settings: Settings, service: str, title: str, kind: str, file: Any) -> Answer:
    """Register a title's playlist from FILE; without FILE, from the service's origin, now and whenever it changes."""
    with open_services(settings) as control:
        report = control.playlists.put(service, title, kind, file.read() if file else None, who())
    if kind != "streams" and not settings.public_url:
        click.echo("players can play it and are not steered: the setting public_url is empty", err=True)
    return report, lambda report: click.echo(f"{kind} {service}/{title}: {report['bytes']} bytes registered")


@playlist.command("list")
@click.option("--count", type=click.IntRange(1, 10_000), default=1000, show_default=True, help="The most rows to show.")
@click.option("--after", default="", metavar="SERVICE/TITLE/KIND", help="Begin after this one.")
@services
def list_playlists(control: Any, count: int, after: str) -> Answer:
    """List the registered playlists, and the problems of those from an origin."""
    origin = ("from", lambda row: row["url"] or "upload")
    changes = (("changed", console.time_of("changed_at")), ("by", "who"))
    show = console.table_of("service", "title", "kind", "bytes", origin, *changes, "problem")
    return control.playlists.rows(count, after), show


@playlist.command("delete")
@click.argument("service")
@click.argument("title")
@KIND
@services
def delete_playlist(control: Any, service: str, title: str, kind: str) -> Answer:
    """Delete a title's playlist."""
    report = control.playlists.delete(service, title, kind, who())
    return report, lambda _: click.echo(f"{kind} {service}/{title}: deleted")


@click.group(cls=Commands)
def fleet() -> None:
    """Make, import and export fleets."""


OUTPUT = click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Write the document to this file instead of printing it."
)


@fleet.command()
@click.option(
    "--appliances",
    type=click.IntRange(1, 1_000_000),
    default=19_000,
    show_default=True,
    help="The number of appliances.",
)
@click.option("--partners", type=click.IntRange(1, 100_000), default=1_500, show_default=True, help="The most ISPs.")
@click.option("--seed", type=int, default=1, show_default=True, help="Another seed makes another fleet.")
@OUTPUT
@click.option("--import", "and_import", is_flag=True, help="Import and serve it instead.")
@options
def synth(
    settings: Settings, appliances: int, partners: int, seed: int, output: Path | None, and_import: bool
) -> Answer:
    """Make a synthetic fleet over real networks, as a fleet document.

    Its partners are the networks that originate most address space in each country. Equal options make equal fleets.
    """
    from steering.control.services.synthetic_fleet import synthesize

    if and_import and output:
        raise click.UsageError("give either --import or --output")
    made = synthesize(appliances, partners, seed)
    if not and_import:
        write_document(made, output)
        return None
    with open_services(settings) as control:
        return control.fleet.replace(made, who()), show_fleet


@fleet.command("import")
@click.argument("file", type=click.File("rb"))
@options
def import_fleet(settings: Settings, file: Any) -> Answer:
    """Replace the fleet by a fleet document (`-` for standard input), and serve it.

    Routes do not change: a new cluster gets clients from the next publish on.
    """
    from steering.control.records.documents import MAX_DOCUMENT, parse_fleet

    document = parse_fleet(file.read(MAX_DOCUMENT + 1))
    with open_services(settings) as control:
        return control.fleet.replace(document, who()), show_fleet


@fleet.command("export")
@OUTPUT
@services
def export_fleet(control: Any, output: Path | None) -> Answer:
    """Print the fleet on record as a fleet document."""
    write_document(control.fleet.current(), output)
    return None


def write_document(made: Fleet, output: Path | None) -> None:
    """Print a fleet document, or write it to a file."""
    from steering.control.records.documents import format_fleet

    if output is None:
        click.echo(format_fleet(made), nl=False)
        return
    try:
        output.write_text(format_fleet(made), encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{output}: {error.strerror}") from error
    click.echo(f"wrote {output}", err=True)


def show_fleet(report: dict[str, Any]) -> None:
    """Print what an import changed."""
    kinds = ("partners", "sites", "clusters", "appliances", "services")
    rows = [(kind, *(report[kind][count] for count in ("count", "added", "removed", "changed"))) for kind in kinds]
    console.print_table(("", "now", "added", "removed", "changed"), rows)
    console.print_warnings(report["warnings"])
    serving = report["serving"]
    where = f"table {serving['table']} serves with it" if serving else "nothing is published yet"
    console.print_done(f"fleet {report['fleet']} is on record; {where}")


RECORDS_ONLY = click.option("--records-only", is_flag=True, help="Only the database, without the table that serves.")


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@RECORDS_ONLY
@options
def backup(settings: Settings, file: Path, records_only: bool) -> Answer:
    """Write everything that is needed to serve again into one file; the service may be running.

    The file contains the database (fleet, overrides, windows, tokens, audit log) and the table that serves.
    """
    from steering.control.services.backup import back_up

    def show(report: dict[str, Any]) -> None:
        console.print_table(("file", "bytes"), list(report["files"].items()))
        console.print_done(f"wrote {file}, {report['bytes']:,} bytes")

    with progress_shown() as progress:
        return back_up(settings.state, file, records_only=records_only, progress=progress), show


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@RECORDS_ONLY
@options
def restore(settings: Settings, file: Path, records_only: bool) -> Answer:
    """Replace the contents of the state folder by a backup; the old files are kept aside.

    The service must not be running. The whole backup is checked before a file is moved.
    """
    from steering.control.services.backup import restore as put_back

    with progress_shown() as progress:
        report = put_back(settings.state, file, who(), records_only=records_only, progress=progress)
    return report, show_restored


def show_restored(report: dict[str, Any]) -> None:
    """Print what was restored."""
    console.print_facts(
        [
            ("backup of", console.time_text(report["made_at"])),
            ("fleet", f"{report['fleet']}, {report['appliances']:,} appliances"),
            ("table", report["table"] or "none; it is published again from its feeds when `steering serve` starts"),
            ("good tokens", f"{report['tokens']}; tokens that were revoked since then are good again"),
            ("kept aside", report["aside"]),
        ]
    )
    console.print_done("restored; steering serve")
