"""`current`: the names of the files that are served together. Workers see one step of a publish: its rename."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from steering.errors import SnapshotError
from steering.state.sections import read_checked, write_checked


@dataclasses.dataclass(frozen=True, slots=True)
class Current:
    """The files that are served: names inside the state folder, and a generation that grows with each change."""

    generation: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
    table: Annotated[str, Meta(pattern=r"^table\.[0-9]{1,18}\Z")]
    routes: Annotated[str, Meta(pattern=r"^routes\.[0-9]{1,18}\Z")]
    fleet: Annotated[str, Meta(pattern=r"^fleet\.[0-9]{1,18}\Z")]
    status: Annotated[str, Meta(pattern=r"^status\.[0-9]{1,18}\Z")]
    published_at: Annotated[float, Meta(ge=0, lt=1 << 40)]  # the year 36812
    holdings: Annotated[str, Meta(pattern=r"^(holdings\.[0-9]{1,18})?\Z")] = ""  # empty: no appliance reports holdings
    playlists: Annotated[str, Meta(pattern=r"^(playlists\.[0-9]{1,18})?\Z")] = ""  # empty: no playlist is registered
    plan: Annotated[str, Meta(pattern=r"^(plan\.[0-9]{1,18})?\Z")] = ""  # empty: nothing says what to hold

    def names(self) -> list[str]:
        """Return the names of all these files."""
        names = (self.table, self.routes, self.fleet, self.status, self.holdings, self.playlists, self.plan)
        return [name for name in names if name]


def read_current(state: Path) -> Current:
    """Return `current`. Raises SnapshotError where it is absent, damaged, or names files outside the folder."""
    try:
        return read_checked(state / "current", Current)
    except OSError as error:
        raise SnapshotError(f"{state / 'current'}: {error.strerror}", hint="nothing is published yet") from error


def write_current(state: Path, current: Current) -> None:
    """Serve the named files from now on: the one step of a publish that workers see."""
    write_checked(state / "current", current)
