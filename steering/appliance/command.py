"""The command `steering-appliance`: run the agent, print nginx's configuration, or check the appliance."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from steering.appliance.settings import ApplianceSettings, meanings, read_settings
from steering.errors import SettingsError

FAILED: Final = 1
UNUSABLE: Final = 2
STYLES: Final = {"ok": "green", "warning": "yellow", "failed": "bold red"}
WIDTH_IN_PIPE: Final = 160
CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]")


def plain(text: str) -> str:
    """Return a text from outside with its control and bidirectional characters escaped."""
    return CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


class OneLine(logging.Formatter):
    """Log lines that no text from outside can break."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
        return plain(super().formatMessage(record))


def settings_options(command: click.Command) -> click.Command:
    """Add an option for each setting, with its meaning."""
    for name, meaning in meanings().items():
        option = click.Option([f"--{name.replace('_', '-')}", name], help=meaning[0].upper() + meaning[1:] + ".")
        command.params.append(option)
    return command


def print_table(rows: list[Any]) -> None:
    """Print the rows of --check."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH_IN_PIPE, highlight=False)
    table = Table("part", "result", "what", "to do", box=None, pad_edge=False)
    for row in rows:
        result = Text(row.result, style=STYLES[row.result])
        table.add_row(row.part, result, Text(plain(row.text)), Text(plain(row.step)))
    console.print(table)


@click.command(context_settings={"max_content_width": 110})
@click.option("--check", "checked", is_flag=True, help="Say what is wrong with this appliance, and exit.")
@click.option("--nginx", "printed", is_flag=True, help="Print nginx's configuration for these settings, and exit.")
@click.option("--verbose", is_flag=True, help="Log every title, not only problems.")
def main(checked: bool, printed: bool, verbose: bool, **flags: Any) -> None:
    """The agent of an appliance: reports to control, and fills this disk by control's fill manifest.

    Each setting is a flag, a variable STEERING_APPLIANCE_<NAME>, or a line of /etc/steering/appliance.toml (or of the
    file that STEERING_APPLIANCE_CONFIG names). Exit status: 0 done, 1 --check found
    something that failed, 2 unusable settings.
    """
    try:
        settings = read_settings(**flags)
        if printed:
            from steering.appliance.nginx import configuration

            click.echo(configuration(settings), nl=False)
        elif checked:
            from steering.appliance.check import check

            rows = asyncio.run(check(settings))
            print_table(rows)
            sys.exit(FAILED if any(row.result == "failed" for row in rows) else 0)
        else:
            serve(settings, verbose)
    except SettingsError as error:
        click.echo(f"steering-appliance: {plain(error.message)}", err=True)
        if error.hint:
            click.echo(f"hint: {plain(error.hint)}", err=True)
        sys.exit(UNUSABLE)


def serve(settings: ApplianceSettings, verbose: bool) -> None:
    """Run the agent with its log on standard error."""
    from steering.appliance.agent import run

    handler = logging.StreamHandler()
    handler.setFormatter(OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, handlers=[handler])
    logging.getLogger("httpx").setLevel(logging.WARNING)
    asyncio.run(run(settings))


settings_options(main)
