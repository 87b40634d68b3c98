"""`holdings.<version>`: which appliance holds which titles or files."""

from __future__ import annotations

import json
from pathlib import Path

from _fastpath.holdings_builder import HoldingsBuilder
from steering.state.sections import write_sections


def write_holdings(state: Path, version: int, builder: HoldingsBuilder, digests: bytes = b"") -> str:
    """Write `holdings.<version>` and return its name; `digests` are for control. Most of a second for a whole fleet."""
    meta = json.dumps({"version": version}).encode()
    sections = {"meta": meta, **builder.sections(), "digests": digests}
    write_sections(state / f"holdings.{version}", "holdings", sections)
    return f"holdings.{version}"
