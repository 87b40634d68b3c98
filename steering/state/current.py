"""`current`: the names of the files that are served together. Workers see one step of a publish: its rename."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from steering.errors import SnapshotError
from steering.state.sections import write_atomically


@dataclasses.dataclass(frozen=True, slots=True)
class Current:
    """The files that are served: names inside the state folder, and a generation that grows with each change."""

    generation: int
    table: str
    routes: str
    fleet: str
    status: str
    published_at: float
    holdings: str = ""  # empty: no appliance reports holdings
    playlists: str = ""  # empty: no playlist is registered

    def names(self) -> list[str]:
        """Return the names of all these files."""
        names = (self.table, self.routes, self.fleet, self.status, self.holdings, self.playlists)
        return [name for name in names if name]


def read_current(state: Path) -> Current:
    """Return `current`. Raises SnapshotError where it is absent, torn, or names files outside the folder."""
    path = state / "current"
    try:
        fields = json.loads(path.read_bytes())
        current = Current(**fields)
    except OSError as error:
        raise SnapshotError(f"{path}: {error.strerror}", hint="nothing is published yet") from error
    except (ValueError, TypeError) as error:
        raise SnapshotError(f"{path}: torn or not ours: {error}") from error
    for kind in ("table", "routes", "fleet", "status", "holdings", "playlists"):
        name = getattr(current, kind)
        if kind in ("holdings", "playlists") and name == "":
            continue
        start, _, number = name.partition(".") if isinstance(name, str) else ("", "", "")
        if start != kind or not number.isdecimal():
            raise SnapshotError(f"{path}: {kind} is {name!r}; a file is named {kind}.<number>")
    if not isinstance(current.generation, int) or not isinstance(current.published_at, int | float):
        raise SnapshotError(f"{path}: generation and published_at are numbers")
    return current


def write_current(state: Path, current: Current) -> None:
    """Serve the named files from now on: the one step of a publish that workers see."""
    write_atomically(state / "current", [json.dumps(dataclasses.asdict(current)).encode() + b"\n"])
