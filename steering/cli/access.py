"""Access: tokens, keys, and the audit log."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import click

from steering import console
from steering.cli.command import COUNT, Answer, Commands, services, who
from steering.errors import RequestError, SettingsError


@click.group(cls=Commands)
def token() -> None:
    """Make, list and revoke the tokens that let callers use control over TCP."""


@token.command()
@click.argument("role", metavar="ops|partner:ID|appliance:ID")
@click.option("--name", default="", help="The holder's name, for the audit log.")
@click.option("--days", type=float, help="How many days it is good for (default: until it is revoked).")
@services
def make(control: Any, role: str, name: str, days: float | None) -> Answer:
    """Make a token and print it. It is shown only now: control keeps a hash of it."""
    return control.tokens.make(role, name, who(), days), lambda report: click.echo(report["token"])


@token.command("list")
@services
def list_tokens(control: Any) -> Answer:
    """List every token that was made, and whether it is good."""
    times = (("expires", console.time_of("expires_at")), ("revoked", console.time_of("revoked_at")))
    made = (("made", console.time_of("made_at")), ("by", "who"))
    return control.tokens.list(), console.table_of("id", "role", "name", "good", *made, *times)


@token.command()
@click.argument("ids", metavar="ID...", type=int, nargs=-1, required=True)
@services
def revoke(control: Any, ids: tuple[int, ...]) -> Answer:
    """Revoke tokens, from the next request on."""
    reports = [control.tokens.revoke(number, who()) for number in ids]
    return reports, console.table_of(("revoked", "id"), "role", "name")


@click.group(cls=Commands)
def key() -> None:
    """Make, list and retire the keys that sign URLs."""


@key.command("make")
@click.argument("name", metavar="ID")
@click.option(
    "--secret-file",
    type=click.Path(path_type=Path),
    help="Write the secret to this new file (mode 0600) instead of printing it.",
)
@click.option(
    "--from", "source", type=click.File(errors="replace"), help="Read the secret from this file, - for standard input."
)
@services
def make_key(control: Any, name: str, secret_file: Path | None, source: TextIO | None) -> Answer:
    """Make a key and print its secret, for the appliances. It is shown only now.

    To change a key: make a new one, put it on the appliances beside the old one, name it first in the services, wait
    until the last signed URLs have expired, remove the old one from the services, and retire it.
    """
    secret = source.read().strip() if source else ""
    if source and not secret:
        raise RequestError("the given secret is empty; no key was made")
    with new_file(secret_file) as file:
        report = control.keys.make(name, who(), secret)
        if file:
            file.write(report.pop("secret", secret) + "\n")
    made = f"key {name} was made" + (f"; its secret is in {secret_file}" if secret_file else "")
    return report, lambda report: click.echo(report.get("secret", made))


@contextlib.contextmanager
def new_file(path: Path | None) -> Iterator[TextIO | None]:
    """Yield a new file that only its owner may read, None without a path; it is removed if the block fails."""
    if path is None:
        yield None
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}", hint="name a file that does not exist yet") from error
    try:
        with os.fdopen(descriptor, "w") as file:
            yield file
    except BaseException:
        path.unlink(missing_ok=True)
        raise


@key.command("list")
@services
def list_keys(control: Any) -> Answer:
    """List the keys, the services for which each signs, and the services that name it."""
    columns = ("id", ("made", console.time_of("made_at")), ("signs for", "signs"), ("named by", "named_by"))
    return control.keys.list(), console.table_of(*columns, empty="no key was made")


@key.command("retire")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@services
def retire_key(control: Any, ids: tuple[str, ...]) -> Answer:
    """Delete keys that no service names."""
    reports = [control.keys.retire(name, who()) for name in ids]
    return reports, console.table_of(("retired", "id"), ("made", console.time_of("made_at")))


@click.command()
@COUNT
@click.option("--below", type=int, help="Only entries below this number, to continue a list.")
@services
def audit(control: Any, count: int, below: int | None) -> Answer:
    """Show who changed what, newest first; --json has the values before and after."""
    columns = ("number", ("when", console.time_of("at")), "who", "what", "subject", "why")
    return control.audit.list(count, below), console.table_of(*columns)
