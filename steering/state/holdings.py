"""`holdings.<version>`: which appliance holds which titles or files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from _fastpath.holdings import Holdings
from _fastpath.holdings_builder import HoldingsBuilder
from steering.errors import SnapshotError
from steering.state.sections import StateFile, write_sections


def write_holdings(
    state: Path, version: int, builder: HoldingsBuilder, for_control: Mapping[str, bytes] | None = None
) -> str:
    """Write `holdings.<version>`, with sections that only control reads, and return its name.

    This takes most of a second for a whole fleet.
    """
    meta = json.dumps({"version": version}).encode()
    sections = {"meta": meta, **builder.sections(), **(for_control or {})}
    write_sections(state / f"holdings.{version}", "holdings", sections)
    return f"holdings.{version}"


class HoldingsFile(StateFile):
    """Mapped holdings. Raises SnapshotError."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "holdings")
        try:
            self.holdings = Holdings(self.sections)
            self.version: int = json.loads(bytes(self["meta"]))["version"]
        except ValueError as error:
            raise SnapshotError(f"{path.name}: {error}") from error
