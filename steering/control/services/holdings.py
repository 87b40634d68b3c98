"""Holdings: what appliances report that they hold, published as a file, and what they lack."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

from steering.control.fill.holdings_file import Changes, write_changes
from steering.control.fill.missing import counters_in, missing
from steering.control.records.rows import Rows
from steering.control.routes.build import Progress, quiet
from steering.control.services.candidate import step
from steering.control.services.concern import Concern
from steering.state.folder import versioned_files
from steering.state.holdings import HoldingsFile


@dataclasses.dataclass(frozen=True, slots=True)
class WriteHoldings:
    """The task that writes `holdings.<version>`."""

    state: Path
    version: int
    changes: Changes

    def __call__(self, progress: Progress) -> bytes:
        """Write the file, map it back, and return which titles it has a holder for, a bit for each."""
        with step("write the holdings", progress):
            return HoldingsFile(write_changes(self.state, self.version, self.changes)).holdings.held_titles()


class Holdings(Concern):
    """`control.holdings`. `intake` takes reports, from any thread."""

    @property
    def is_pressing(self) -> bool:
        """Whether so much has changed that a publish should not wait."""
        return self.intake.is_pressing

    def publish(self) -> dict[str, Any] | None:
        """Publish what appliances reported; None where nothing changed, or no table serves yet."""
        began = time.perf_counter()
        changes = self.intake.begin() if self.hand_over.current else None
        if changes is None:
            return None
        path, opened, held = None, None, b""
        try:
            with self.hand_over.undone_on_error() as made:
                files = versioned_files(self.state)
                version = max((number for _, kind, number in files if kind == "holdings"), default=0) + 1
                path = self.state / f"holdings.{version}"
                made.append(path.name)
                held = self.run("write the holdings", WriteHoldings(self.state, version, changes), quiet)
                opened = HoldingsFile(path).holdings
                self.hand_over.switch_holdings(path.name)
        except BaseException:
            opened = None
            raise
        finally:
            self.intake.end(path, opened, held)
        self.hand_over.remove_old()
        return {
            "holdings": path.name,
            "titles": opened.titles,
            "changed": len(changes.held),
            "serving": self.hand_over.serving(),
            "seconds": round(time.perf_counter() - began, 3),
        }

    def missing(self, partner: str = "", count: int = 1000) -> Rows:
        """Return the titles that clusters were asked for and do not hold, most asked first, of one partner or all."""
        return missing(counters_in(self.state), self.fleet(), self.intake.is_held, partner, count)
