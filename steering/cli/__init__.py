"""The command `steering`. Tables for people, `--json` for machines.

Exit 0: done; 1: refused or failed; 2: wrong usage or settings.

A command that changes something calls the running control process over `control.sock`; if none runs, the command locks
the state folder and makes the change itself. Commands that only look (lookup, explain) read the state folder's files.
"""

from __future__ import annotations

import click

from steering.cli.access import audit, key, token
from steering.cli.appliances import alarms, drain, ejections, enable, health_source, top, weight, window
from steering.cli.clients import explain, lookup, what_if
from steering.cli.command import Commands
from steering.cli.program import bench, drill, serve, show_settings, show_version
from steering.cli.records import backup, fleet, playlist, restore
from steering.cli.reports import missing, quality, replay, report, sessions
from steering.cli.tables import reload, table

__all__ = ["main"]

# In the order of the help, frequent commands first.
COMMANDS = (
    serve,
    lookup,
    explain,
    what_if,
    drain,
    enable,
    weight,
    health_source,
    ejections,
    window,
    top,
    alarms,
    token,
    key,
    audit,
    table,
    reload,
    report,
    missing,
    quality,
    sessions,
    replay,
    playlist,
    fleet,
    backup,
    restore,
    bench,
    drill,
    show_settings,
    show_version,
)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Request steering for a content delivery network: which few appliances should serve this client, best first?

    Settings come from flags, STEERING_* in the environment, and steering.toml; `steering settings` lists them.
    """


for command in COMMANDS:
    main.add_command(command)
