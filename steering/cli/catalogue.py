"""The catalogue of a service: titles, and recipes that are given or made from folders."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any, Final

import click

from steering import console
from steering.cli.command import COUNT, Answer, Commands, open_services, options, services, wants_json, who
from steering.errors import FeedError
from steering.settings import Settings

PAGE: Final = 1000  # titles in one request


@click.group(cls=Commands)
def catalogue() -> None:
    """Name the titles that appliances may hold, and the files of each."""


SERVICE = click.argument("service")


def document_of(path: Path, hint: str) -> bytes:
    """Return a feed as it is sent: unpacked by its ending, and no larger than control takes."""
    from steering.control.feed_files import read_bytes
    from steering.control.records.documents import MAX_DOCUMENT

    document, _ = read_bytes(path)
    if len(document) > MAX_DOCUMENT:
        raise FeedError(f"{path}: {len(document)} bytes; control takes at most {MAX_DOCUMENT >> 20} MiB", hint)
    return document


@catalogue.command("put")
@SERVICE
@click.argument("file", type=click.Path(path_type=Path))
@options
def put_catalogue(settings: Settings, service: str, file: Path) -> Answer:
    """Put the titles of FILE (CSV or JSON Lines) into a service's catalogue; titles that FILE does not name stay.

    A wrong row is refused alone. A title without its recipe is in no plan.
    """
    body = document_of(file, "put a part of the titles at a time; others stay")
    with open_services(settings) as control:
        return control.catalogue.put(service, body, who()), show_put


def show_put(report: dict[str, Any]) -> None:
    """Print how many titles were put."""
    for rule, rows in report["refused_by"].items():
        console.print_warnings([f"{rows} rows refused: {rule}"])
    if missing := report["missing_recipes"]:
        names = "title names" if missing == 1 else "titles name"
        console.print_warnings([f"{missing} {names} a recipe that is not on record, and no plan has them"])
    titles = "1 title" if report["accepted"] == 1 else f"{console.shown(report['accepted'])} titles"
    console.print_done(f"{titles} of {console.bytes_text(report['bytes'])} put")


@catalogue.command("recipe")
@SERVICE
@click.argument("paths", metavar="PATH...", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--title", default="", metavar="ID", help="Also put this title into the catalogue, with its bytes.")
@click.option(
    "--kind", type=click.Choice(["film", "series", "other"]), help="With --title: how plays fall after a launch."
)
@options
def put_recipes(settings: Settings, service: str, paths: tuple[Path, ...], title: str, kind: str | None) -> Answer:
    """Record recipes: the files of titles, with their sizes and hashes.

    PATH is a recipe document, or the folder of one title: its files are then read and hashed. With --title the title
    gets the recipe; what the catalogue has of it already (kind, times, regions) stays.
    """
    if title and len(paths) > 1:
        raise click.UsageError("--title takes one PATH: a title has one recipe")
    if kind and not title:
        raise click.UsageError("--kind is of a title; give --title too")
    documents = [recipe_document(path) for path in paths]
    with open_services(settings) as control:
        reports = [put_recipe(control, service, path, body) for path, body in zip(paths, documents, strict=True)]
        if title:
            row = title_row(control, service, title, kind, reports[0])
            control.catalogue.put(service, f"{json.dumps(row)}\n".encode(), who())
            reports[0] |= {"title": title}
    columns = (("path", "path"), ("files", "files"), ("size", lambda row: console.bytes_text(row["bytes"])), "recipe")
    return reports, console.table_of(*columns, *(("title",) if title else ()))


def recipe_document(path: Path) -> bytes:
    """Return the recipe in a file, or that of a folder."""
    from steering.control.feed_files import read_bytes
    from steering.control.fill.recipe_folder import files_of, recipe_of

    if not path.is_dir():
        document, _ = read_bytes(path)
        return document
    files = files_of(path)
    if wants_json():
        return recipe_of(path, lambda _: None)
    task = f"hash {len(files)} files of {path}"
    with console.show_bytes(task, sum(size for _, size in files)) as advance:
        return recipe_of(path, advance)


def put_recipe(control: Any, service: str, path: Path, body: bytes) -> dict[str, Any]:
    """Record a recipe, and return what control says of it."""
    from steering.control.fill.recipes import name_of, read_recipe

    try:
        read_recipe(body)
    except FeedError as error:
        raise FeedError(f"{path}: {error.message}", error.hint) from None
    report: dict[str, Any] = control.catalogue.put_recipe(service, name_of(body), body, who())
    return {"path": str(path), **report}


def title_row(control: Any, service: str, title: str, kind: str | None, recipe: dict[str, Any]) -> dict[str, Any]:
    """Return a title's row of a catalogue: with a new recipe, and the rest as it is on record."""
    row = {"title": title, "bytes": recipe["bytes"], "recipe": recipe["recipe"], "kind": kind or "other"}
    if before := title_on_record(control, service, title):
        times = ("available_from", "available_until")
        row |= {name: time_in_utc(before[name]) for name in times if before[name] is not None}
        row |= {"kind": kind or before["kind"], "regions": before["regions"]}
    return row


def title_on_record(control: Any, service: str, title: str) -> dict[str, Any] | None:
    """Return a title of the catalogue, None where there is none: lists begin after a title."""
    after = title[:-1]
    while rows := control.catalogue.rows(service, PAGE, after):
        for row in rows:
            if row["title"] >= title:
                return dict(row) if row["title"] == title else None
        after = rows[-1]["title"]
    return None


def time_in_utc(seconds: float) -> str:
    """Return a time as catalogues have it."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat()


@catalogue.command("list")
@SERVICE
@COUNT
@click.option("--after", default="", metavar="TITLE", help="Begin after this title.")
@services
def list_catalogue(control: Any, service: str, count: int, after: str) -> Answer:
    """List the titles of a service's catalogue by id; --json has the whole names of recipes."""
    columns = (
        *("title", "kind", ("size", lambda row: console.bytes_text(row["bytes"]))),
        ("recipe", lambda row: console.shortened(row["recipe"], 20) or "none: it cannot be filled"),
        ("available from", console.time_of("available_from")),
        *(("until", console.time_of("available_until")), ("regions", lambda row: row["regions"] or "all")),
    )
    rows = control.catalogue.rows(service, count, after)
    return rows, console.table_of(*columns, empty=f"the catalogue of {service} has no title here")


@catalogue.command("remove")
@SERVICE
@click.argument("title")
@services
def remove_title(control: Any, service: str, title: str) -> Answer:
    """Take a title out of the catalogue; the next plan lets appliances remove it."""
    report = control.catalogue.remove(service, title, who())
    return report, lambda _: console.print_done(f"{service}/{title} is out of the catalogue; steering fill plan")
