"""What every command has: its options, errors as people or machines read them, and the control it goes to."""

from __future__ import annotations

import contextlib
import functools
import getpass
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click

from steering import console
from steering.errors import SettingsError, SteeringError
from steering.settings import Settings, read_settings

if TYPE_CHECKING:
    from steering.control.remote import RemoteControl
    from steering.control.services.control import Control

FAILED: Final = 1
WRONG: Final = 2
MOST_SHOWN: Final = 10  # rows of a list that --json has whole

Command = TypeVar("Command", bound=Callable[..., None])


class Commands(click.Group):
    """A group whose commands are listed in the order they are written, and say what went wrong."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the commands, everyday ones first."""
        return list(self.commands)


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
def writing(settings: Settings) -> Iterator[Control | RemoteControl]:
    """Give the one who may write: the running control process, or a control of this process."""
    from steering.control.remote import open_control

    with open_control(settings) as control:
        yield control


def progress_for(as_json: bool) -> contextlib.AbstractContextManager[console.Progress]:
    """Return how progress is shown."""
    return console.show_nothing() if as_json else console.show_progress()
