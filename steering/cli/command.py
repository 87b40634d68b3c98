"""What every command has: its options, its errors for people or machines, and the services of control."""

from __future__ import annotations

import contextlib
import functools
import getpass
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from steering import console
from steering.errors import SettingsError, SteeringError
from steering.settings import Settings, read_settings

if TYPE_CHECKING:
    from steering.control.remote import RemoteControl
    from steering.control.services.control import Control

FAILED: Final = 1
WRONG: Final = 2
MOST_SHOWN: Final = 10  # rows of a list; --json has all of them

COUNT = click.option(
    "-n", "count", type=click.IntRange(1, 10_000), default=20, show_default=True, help="The most rows to show."
)
WHY = click.option("--why", default="", help="The reason, for the audit log.")
Show = Callable[[Any], None]
Answer = tuple[Any, Show] | None


class Commands(click.Group):
    """A group that lists its commands in the order in which they are written."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the commands, frequent ones first."""
        return list(self.commands)


def options(command: Callable[..., Answer]) -> Callable[..., None]:
    """Give a command the options --state and --json, the settings in force, and errors as text or JSON.

    The command returns its report and the function that prints the report for people, or None if it printed by itself.
    """

    @click.option("--state", type=click.Path(path_type=Path), help="The state folder (default: the setting `state`).")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
    @functools.wraps(command)
    def run(state: Path | None, as_json: bool, **given: Any) -> None:
        try:
            if answer := command(read_settings(state=state), **given):
                print_report(*answer)
        except SteeringError as error:
            fail(error, as_json)

    return run


def services(command: Callable[..., Answer]) -> Callable[..., None]:
    """Give a command the same, and in the place of the settings the services of control (`open_services`)."""

    @options
    @functools.wraps(command)
    def run(settings: Settings, **given: Any) -> Answer:
        with open_services(settings) as control:
            return command(control, **given)

    return run


def wants_json() -> bool:
    """Return whether the command that runs was given --json."""
    return bool(click.get_current_context().params.get("as_json"))


def print_report(report: Any, show: Show) -> None:
    """Print a report as JSON where it was asked for, otherwise for people."""
    if wants_json():
        console.print_json(report)
    else:
        show(report)


def fail(error: SteeringError, as_json: bool) -> NoReturn:
    """Print an error and exit with its status."""
    console.print_error(error, as_json)
    sys.exit(WRONG if isinstance(error, SettingsError) else FAILED)


def who() -> str:
    """Return the name of the user, for the audit log."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        return "unknown"


@contextlib.contextmanager
def open_services(settings: Settings) -> Iterator[Control | RemoteControl]:
    """Yield the services of the running control process, or of this process if none runs."""
    from steering.control.remote import open_control

    with open_control(settings) as control:
        yield control


def progress_shown() -> contextlib.AbstractContextManager[console.Progress]:
    """Return how to show progress: for machines not at all."""
    return contextlib.nullcontext(lambda _: None) if wants_json() else console.show_progress()
