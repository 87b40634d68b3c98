"""What must exist before a worker can serve: a fleet on record, and published files that can be mapped."""

from __future__ import annotations

import logging

from steering.control.records.database import RecordsError
from steering.control.remote import RemoteControl, open_control
from steering.control.routes.build import Progress, quiet
from steering.control.routes.feeds import FeedSource
from steering.control.services.synthetic_fleet import synthesize
from steering.decision.snapshot import Snapshot
from steering.errors import SettingsError, SnapshotError
from steering.settings import Settings

logger = logging.getLogger("steering.control")


def make_ready(
    settings: Settings, who: str, appliances: int | None = None, synth: bool = True, progress: Progress = quiet
) -> None:
    """Bring the state folder to where workers can map it; a folder that is served already is a SettingsError.

    An empty folder gets a synthetic fleet of so many appliances, unless `synth` is off, and the shipped table of the
    Internet. Files that do not map (another format, damage) are published again from their sources. Files that map are
    served also where the database is lost or damaged.
    """
    try:
        bring_to_service(settings, who, appliances, synth, progress)
    except RecordsError as error:
        if not is_published(settings):
            raise
        logger.error("%s (%s)", error.message, error.hint)


def bring_to_service(settings: Settings, who: str, appliances: int | None, synth: bool, progress: Progress) -> None:
    """Do it through control, which needs its database."""
    with open_control(settings) as control:
        if isinstance(control, RemoteControl):
            raise SettingsError(
                f"state folder {settings.state}: is being served by another process",
                hint="end that one, or name another folder with --state",
            )
        if control.fleet.current().appliances:
            if appliances is not None:
                progress("keep the fleet on record; --appliances counts for an empty state folder")
        elif synth:
            progress("make a fleet over real networks")
            fleet = synthesize() if appliances is None else synthesize(appliances)
            progress(f"import {len(fleet.appliances)} appliances of {len(fleet.partners)} partners")
            control.fleet.replace(fleet, who)
        else:
            raise SettingsError(
                f"state folder {settings.state}: has no fleet to serve",
                hint="steering fleet import FILE, then serve; or serve without --no-synth",
            )
        if not is_published(settings):
            if control.tables.list():
                control.tables.reload(who, progress)
            else:
                control.tables.publish([FeedSource("asn")], who, "first", progress)


def is_published(settings: Settings) -> bool:
    """Return whether the files that `current` names can be mapped, the routes too."""
    try:
        return Snapshot.map(settings.state).routes is not None
    except SnapshotError:
        return False
