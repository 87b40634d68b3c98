"""The command `steering`. Tables for people, `--json` for machines.

Exit 0: done; 1: refused or failed; 2: wrong usage or settings.

A command that changes something calls the running control process over `control.sock`; if none runs, the command locks
the state folder and makes the change itself. Commands that only look (lookup, explain) read the state folder's files.
"""

from __future__ import annotations

import click

from steering.cli import access, appliances, catalogue, clients, fill, program, records, reports, scorecard, tables
from steering.cli.command import Commands

__all__ = ["main"]


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Request steering for a content delivery network: which few appliances should serve this client, best first?

    Settings come from flags, STEERING_* in the environment, and steering.toml; `steering settings` lists them.
    """


for command in (  # in the order of the help, frequent commands first
    *(program.serve, clients.lookup, clients.explain, clients.what_if),
    *(appliances.drain, appliances.enable, appliances.weight, appliances.health_source),
    *(appliances.ejections, appliances.window, appliances.top, appliances.alarms),
    *(access.token, access.key, access.audit, tables.table, tables.reload),
    *(catalogue.catalogue, fill.fill),
    *(reports.report, reports.missing, reports.quality, reports.sessions, reports.replay),
    *(records.playlist, records.fleet, records.backup, records.restore),
    *(program.bench, program.drill, scorecard.scorecard, program.show_settings, program.show_version),
):
    main.add_command(command)
