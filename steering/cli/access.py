"""Who may do what, and did: tokens, keys, the audit."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import click

from steering import console
from steering.cli.command import Commands, options, who, writing
from steering.errors import RequestError, SettingsError
from steering.settings import Settings


@click.group(cls=Commands)
def token() -> None:
    """Make, list and revoke what opens the control door over TCP."""


@token.command()
@click.argument("role", metavar="ops|partner:ID|appliance:ID")
@click.option("--name", default="", help="Whose it is, for the record.")
@click.option("--days", type=float, help="For how many days (default: until it is revoked).")
@options
def make(settings: Settings, as_json: bool, role: str, name: str, days: float | None) -> None:
    """Make a token and print it. It is shown this once: only a hash of it is kept."""
    with writing(settings) as control:
        report = control.tokens.make(role, name, who(), days)
    if as_json:
        console.print_json(report)
    else:
        click.echo(report["token"])


@token.command("list")
@options
def list_tokens(settings: Settings, as_json: bool) -> None:
    """List every token ever made, and whether it is good."""
    with writing(settings) as control:
        rows = control.tokens.list()
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
    with writing(settings) as control:
        reports = [control.tokens.revoke(number, who()) for number in ids]
    if as_json:
        console.print_json(reports)
    else:
        console.print_table(("revoked", "role", "name"), [(row["id"], row["role"], row["name"]) for row in reports])


@click.group(cls=Commands)
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
        raise RequestError("the secret that was given is empty; nothing was made")
    with new_file(secret_file) as file, writing(settings) as control:
        report = control.keys.make(name, who(), secret)
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
    with writing(settings) as control:
        rows = control.keys.list()
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
    with writing(settings) as control:
        reports = [control.keys.retire(name, who()) for name in ids]
    if as_json:
        console.print_json(reports)
    else:
        console.print_table(("retired", "made"), [(row["id"], console.time_text(row["made_at"])) for row in reports])


@click.command()
@click.option("-n", "count", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many.")
@click.option("--below", type=int, help="Only entries below this number, to read on.")
@options
def audit(settings: Settings, as_json: bool, count: int, below: int | None) -> None:
    """Show who changed what, newest first; --json has what each thing was and became."""
    with writing(settings) as control:
        entries = control.audit.list(count, below)
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
